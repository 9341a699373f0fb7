"""Directory listings of any bytes: typed errors, every entry seen once, nothing that leads out of the folder."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.sftp import readdir
from mlc_dagster.sftp.errors import UnsafeName
from mlc_dagster.sftp.listing import Attributes, is_safe_name, join, remote_file, sort_entries, wire_path
from mlc_dagster.sftp.readdir import DirectoryReader
from mlc_dagster.sftp.translation import REMOTE_FAULTS
from mlc_dagster.stampli.intake.feed import MOST_REFUSED, candidates, refused_entries
from mlc_dagster.stampli.parsing.profile_files import Marker
from mlc_dagster_tests.fuzzing.effort import fuzzed
from mlc_dagster_tests.stampli.builders import PROFILE, file_name
from mlc_dagster_tests.stampli.builders_shapes import SPLIT

FILE, LINK, FOLDER = 0o100644, 0o120777, 0o040755
GOOD = file_name(1)
_NAMES = st.one_of(
    st.sampled_from(
        [
            "",
            ".",
            "..",
            "/",
            "../x",
            "/etc/passwd",
            "a/../b",
            "a\0b",
            "a\nb",
            "\x1b[2J",
            "x" * 4096,
            "é" * 128,
            "\udcff.csv",
            GOOD,
            GOOD.upper(),
            f"../{GOOD}",
            f"{GOOD}\n",
            f"{GOOD}.tmp",
            "con",
            "~",
            "-rf",
            "$(reboot)",
            "a\u202eb.csv",
        ]
    ),
    st.text(max_size=12),
    st.binary(max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)
_ATTRIBUTES = st.builds(
    Attributes,
    size=st.none() | st.integers(0, 2**64 - 1),
    mode=st.none() | st.sampled_from([0, FILE, LINK, FOLDER, 0o010644, 0o140644]) | st.integers(0, 2**32 - 1),
    mtime=st.none() | st.integers(0, 2**32 - 1),
)


@fuzzed(300)
@given(entries=st.lists(st.tuples(_NAMES, _ATTRIBUTES), max_size=12))
def test_every_entry_is_a_file_in_the_folder_or_refused(entries: list[tuple[str, Attributes]]) -> None:
    """A name is all that the other side needs to point elsewhere; and none may vanish without a word."""
    listing = sort_entries("/out", entries)
    assert {entry.name for entry in (*listing.files, *listing.others)} == {name for name, _ in entries} - {".", ".."}
    for entry in listing.files:
        assert is_safe_name(entry.name)
        assert entry.path == f"/out/{entry.name}"
        assert not entry.link
    for entry in (*listing.files, *listing.others):
        assert entry.printable.isprintable() or "\xa0" in entry.name or _only_blanks(entry.printable)
        assert len(entry.printable) < 2000
        entry.printable.encode()
        assert entry.size is None or entry.size < 2**63
    for profile in (PROFILE, SPLIT, _MARKED):
        taken, unready, ignored = candidates(listing, profile)
        assert len(taken) + len(unready) + ignored == len(listing.files) + len(listing.others)
        assert all(profile.matches(entry.name) and entry.path == entry.printable for entry in taken)
        assert all(entry.path == entry.printable and note.isprintable() for entry, note in unready)
    assert all(text.startswith("FILE_NAME: ") and "\0" not in text for text in refused_entries(listing, PROFILE))


_MARKED = PROFILE.model_copy(update={"file": PROFILE.file.model_copy(update={"end": Marker(rule="marker")})})


def _only_blanks(text: str) -> bool:
    """Blanks of other widths, private and unassigned characters: nothing that a terminal acts upon."""
    return not any(character in text for character in "\0\x1b\n\r\x9b\u202e\u200b\ufeff")


@fuzzed(200)
@given(name=st.text(max_size=20) | _NAMES)
def test_no_name_is_sent_that_is_no_name(name: str) -> None:
    """What is opened, renamed or removed on the server lies in the folder that was listed."""
    path = join("/out", name)
    try:
        sent = wire_path(path)
    except UnsafeName:
        return
    assert sent.startswith(b"/out/")
    assert b"\0" not in sent
    assert not sent.endswith((b"/", b"/.", b"/.."))


class _Channel:
    """Answers the first request with a handle, then with the given bytes, whatever is asked."""

    def __init__(self, replies: bytes) -> None:
        self._out = bytearray(struct.pack(">IBI", 10, 102, 0x40000000) + b"\0\0\0\x01h" + replies)

    def sendall(self, data: bytes) -> None:
        assert data

    def recv(self, count: int) -> bytes:
        taken = bytes(self._out[:count])
        del self._out[:count]
        return taken


def _packet(kind: int, body: bytes) -> bytes:
    return struct.pack(">IBI", len(body) + 5, kind, 0x40000001) + body


_PACKETS = st.one_of(
    st.binary(max_size=60),
    st.builds(_packet, st.sampled_from([101, 102, 104, 105, 0, 255]), st.binary(max_size=60)),
    st.builds(
        lambda count, body: _packet(104, struct.pack(">I", count) + body),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=60),
    ),
)


@fuzzed(300)
@given(replies=st.lists(_PACKETS, max_size=6))
def test_packets_of_any_bytes_raise_what_is_translated(replies: list[bytes]) -> None:
    """Anything else would end the sensor's tick with a traceback instead of "the server does not speak SFTP"."""
    reader = DirectoryReader(_Channel(b"".join(replies)))  # pyright: ignore[reportArgumentType]
    seen = 0
    with pytest.raises(REMOTE_FAULTS):  # noqa: PT012 - it ends with the last byte at the latest
        for name, attributes in reader.entries(b"/out"):
            seen += 1
            assert isinstance(name, str)
            assert isinstance(attributes, Attributes)
        raise EOFError("a whole listing")
    assert seen <= 60 * len(replies)


def test_a_listing_of_endless_names_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million names of four thousand bytes each would be four gigabytes of memory."""
    monkeypatch.setattr(readdir, "_MOST_NAME_BYTES", 10_000)
    entry = struct.pack(">I", 4096) + b"x" * 4096 + struct.pack(">II", 0, 0)
    reader = DirectoryReader(_Channel(_packet(104, struct.pack(">I", 3) + entry * 3)))  # pyright: ignore[reportArgumentType]
    with pytest.raises(REMOTE_FAULTS, match="more than 10000 bytes of names"):
        list(reader.entries(b"/out"))


def test_names_that_differ_in_case_are_two_files() -> None:
    """On the server they are; whoever lands them on a disk that sees one file would lose the other."""
    listing = sort_entries("/out", [("a.csv", Attributes(1, FILE, 1)), ("A.csv", Attributes(2, FILE, 1))])
    assert [(entry.name, entry.size) for entry in listing.files] == [("A.csv", 2), ("a.csv", 1)]


def test_a_link_under_a_good_name_is_told_and_not_taken() -> None:
    """A link to /etc/passwd, or to another customer's folder, is read with the server's rights."""
    listing = sort_entries("/out", [(GOOD, Attributes(1, LINK, 1)), ("latest", Attributes(1, LINK, 1))])
    assert candidates(listing, PROFILE) == ([], [], 2)
    (text,) = refused_entries(listing, PROFILE)
    assert "is no ordinary file" in text
    assert GOOD in text


def test_a_name_that_only_looks_like_ours_is_told() -> None:
    """The sender believes it was delivered; somebody must hear that it never will be."""
    odd = GOOD.replace(".csv", "\u200b.csv")
    listing = sort_entries("/out", [(odd, Attributes(1, FILE, 1)), ("x" * 300, Attributes(1, FILE, 1))])
    texts = refused_entries(listing, PROFILE)
    assert len(texts) == 2
    assert "\\u200b" in texts[0]
    assert "300 bytes" in texts[1]


def test_a_thousand_refused_names_are_told_in_a_few_lines() -> None:
    """They go into a log and into the audit trail."""
    entry = remote_file("/out/x", Attributes(1, FILE, 1))
    listing = sort_entries("/out", [])
    listing.files.extend(replace(entry, path=f"/out/{number}\n", name=f"{number}\n") for number in range(1000))
    texts = refused_entries(listing, PROFILE)
    assert len(texts) == MOST_REFUSED + 1
    assert texts[-1] == "FILE_NAME: 980 more names are refused"
