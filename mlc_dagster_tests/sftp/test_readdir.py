"""The listing's packets, from a scripted server: answers that no real one can be made to give."""

import errno
import struct

import pytest
from paramiko.sftp import SFTPError

from mlc_dagster.sftp.listing import Attributes
from mlc_dagster.sftp.readdir import DirectoryReader

HANDLE, NAME, STATUS = 102, 104, 101
OPENDIR, READDIR, CLOSE = 11, 12, 4
OK, END, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE = 0, 1, 2, 3, 4


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def status(code: int, words: bytes = b"") -> tuple[int, bytes]:
    return STATUS, struct.pack(">I", code) + text(words) + text(b"")


def names(*entries: tuple[bytes, bytes]) -> tuple[int, bytes]:
    return NAME, struct.pack(">I", len(entries)) + b"".join(
        text(name) + text(b"ls line") + attributes for name, attributes in entries
    )


SIZE_AND_MODE = struct.pack(">IQI", 1 | 4, 7, 0o100644)
EVERYTHING = struct.pack(">IQIIIII", 1 | 2 | 4 | 8, 2**40, 10, 20, 0o100600, 1, 2)
EXTENDED = struct.pack(">II", 0x80000000, 1) + text(b"kind") + text(b"value")
NOTHING = struct.pack(">I", 0)


class ScriptedChannel:
    """Answers each READDIR with the next of ``replies``, then with ``afterwards``; bytes come in small bits."""

    def __init__(self, replies: list[tuple[int, bytes]], afterwards: tuple[int, bytes], *, at_once: int = 7) -> None:
        self._replies = replies
        self._afterwards = afterwards
        self._at_once = at_once
        self._outgoing = bytearray()
        self._unread = b""
        self.most_waiting = 0
        self.asked: list[int] = []

    def sendall(self, data: bytes) -> None:
        self._unread += data
        while len(self._unread) >= 4:
            (length,) = struct.unpack(">I", self._unread[:4])
            packet, self._unread = self._unread[4 : 4 + length], self._unread[4 + length :]
            kind, number = struct.unpack(">BI", packet[:5])
            self.asked.append(kind)
            if kind == OPENDIR:
                self._answer(number, (HANDLE, text(b"h")))
            elif kind == CLOSE:
                self._answer(number, status(OK))
            else:
                self._answer(number, self._replies.pop(0) if self._replies else self._afterwards)

    def _answer(self, number: int, reply: tuple[int, bytes]) -> None:
        kind, body = reply
        self._outgoing += struct.pack(">IBI", len(body) + 5, kind, number) + body

    def recv(self, count: int) -> bytes:
        taken = bytes(self._outgoing[: min(count, self._at_once)])
        del self._outgoing[: len(taken)]
        return taken


def read(channel: ScriptedChannel, most_in_flight: int = 64) -> list[tuple[str, Attributes]]:
    reader = DirectoryReader(channel, most_in_flight=most_in_flight)  # pyright: ignore[reportArgumentType]
    return list(reader.entries(b"/out"))


def test_an_empty_answer_ends_a_listing() -> None:
    """Synology and others close with zero names instead of EOF; asking on would never end."""
    channel = ScriptedChannel([names((b"a", SIZE_AND_MODE))], names())
    assert [name for name, _ in read(channel)] == ["a"]


def test_every_request_is_answered_before_the_channel_goes_on() -> None:
    """An answer left over would be taken for the next request's."""
    channel = ScriptedChannel([names((b"a", SIZE_AND_MODE))] * 300, status(END))
    assert len(read(channel)) == 300
    assert channel.recv(1) == b""
    assert channel.asked[-1] == CLOSE


def test_names_after_the_end_still_count() -> None:
    """With many requests in flight a server may answer a later one with names after an EOF."""
    channel = ScriptedChannel([names((b"a", NOTHING)), status(END), names((b"b", NOTHING))], status(END))
    assert [name for name, _ in read(channel)] == ["a", "b"]


def test_one_request_at_a_time_asks_no_further() -> None:
    """prefetch: off is for servers that bear no more than one."""
    channel = ScriptedChannel([names((b"a", NOTHING))], status(END))
    read(channel, most_in_flight=1)
    assert channel.asked == [OPENDIR, READDIR, READDIR, CLOSE]


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (SIZE_AND_MODE, Attributes(7, 0o100644, None)),
        (EVERYTHING, Attributes(2**40, 0o100600, 2)),
        (EXTENDED, Attributes(None, None, None)),
        (NOTHING, Attributes(None, None, None)),
    ],
)
def test_attributes_are_read_field_by_field(packed: bytes, expected: Attributes) -> None:
    """A field misread shifts all entries behind it; the second name proves that the first ended where it should."""
    channel = ScriptedChannel([names((b"a", packed), (b"b", NOTHING))], status(END))
    assert read(channel) == [("a", expected), ("b", Attributes(None, None, None))]


@pytest.mark.parametrize(("code", "number"), [(NO_SUCH_FILE, errno.ENOENT), (PERMISSION_DENIED, errno.EACCES)])
def test_a_refusal_midway_is_an_error(code: int, number: int) -> None:
    """Half a listing must never pass for a whole one."""
    channel = ScriptedChannel([names((b"a", NOTHING))], status(code, b"no"))
    with pytest.raises(OSError, match="no") as caught:
        read(channel)
    assert caught.value.errno == number


def test_a_failure_keeps_the_servers_words() -> None:
    """Latin-1 words in a status must not raise a decoding error of their own."""
    channel = ScriptedChannel([], status(FAILURE, b"Ger\xe4t belegt"))
    with pytest.raises(OSError, match="belegt"):
        read(channel)


@pytest.mark.parametrize(
    "reply",
    [
        (HANDLE, text(b"h")),
        status(OK),
        (NAME, struct.pack(">I", 1) + struct.pack(">I", 1000) + b"short"),
    ],
)
def test_nonsense_is_no_listing(reply: tuple[int, bytes]) -> None:
    """An answer of the wrong kind or length ends the listing with an error."""
    with pytest.raises(SFTPError):
        read(ScriptedChannel([], reply))
