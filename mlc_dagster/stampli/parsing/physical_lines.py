"""Bytes of a stream to whole physical lines, in chunks of bounded size.

Belongs here: line ends (LF, CRLF, CR) and lines that are too long to be read. Does not: quotes and cells (``rows``).
"""

from typing import BinaryIO

import msgspec

CHUNK = 128 * 1024
"""Bytes read at once; cells of more rows would not stay in the processor's cache."""
RAW_KEPT = 64 * 1024
"""Bytes of a broken row that are kept for people to look at; the file itself is in the archive."""


class Oversized(msgspec.Struct, frozen=True):
    """The first bytes of a physical line that is longer than any row may be."""

    raw: bytes


class PhysicalLines:
    """Whole physical lines of a stream, in chunks."""

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._buffer = b""
        self._ended = False
        self._pending: list[bytes | Oversized] = []

    def skip(self, prefix: bytes) -> None:
        """Leave out ``prefix`` when the stream begins with it."""
        self._fill()
        self._buffer = self._buffer.removeprefix(prefix)

    def put_back(self, chunk: bytes | Oversized) -> None:
        if chunk:
            self._pending.append(chunk)

    def take(self) -> bytes | Oversized:
        """The next physical lines, with their line ends; empty at the end of the stream."""
        if self._pending:
            pending = self._pending.pop()
            return self._isolate_oversized(pending) if isinstance(pending, bytes) else pending
        while True:
            end = self._buffer.rfind(b"\n") + 1
            if not end:
                # A carriage return at the very end may be half of CRLF: it waits for the next byte.
                end = self._buffer.rfind(b"\r", 0, -1) + 1
            if self._ended and not end:
                end = len(self._buffer)
            if end or self._ended:
                chunk, self._buffer = self._buffer[:end], self._buffer[end:]
                return self._isolate_oversized(chunk)
            if len(self._buffer) > self._limit + 2:
                return self._skip_oversized()
            self._fill()

    def _fill(self) -> None:
        more = self._stream.read(CHUNK)
        self._ended = not more
        self._buffer += more

    def _isolate_oversized(self, chunk: bytes) -> bytes | Oversized:
        at = 0
        for line in chunk.splitlines(keepends=True) if len(chunk) > self._limit else ():
            if len(line) > self._limit:
                self.put_back(chunk[at + len(line) :])
                oversized = Oversized(line[:RAW_KEPT])
                if not at:
                    return oversized
                self.put_back(oversized)
                return chunk[:at]
            at += len(line)
        return chunk

    def _skip_oversized(self) -> Oversized:
        oversized = Oversized(self._buffer[:RAW_KEPT])
        while not self._ended:
            ends = [at for at in (self._buffer.find(b"\n"), self._buffer.find(b"\r", 0, -1)) if at >= 0]
            if ends:
                end = min(ends)
                self._buffer = self._buffer[end + (2 if self._buffer[end : end + 2] == b"\r\n" else 1) :]
                return oversized
            # The last byte stays: it may be the first half of CRLF.
            self._buffer = self._buffer[-1:]
            self._fill()
        self._buffer = b""
        return oversized


def without_end(line: bytes) -> bytes:
    """A physical line without its line end."""
    if line.endswith(b"\r\n"):
        return line[:-2]
    return line[:-1] if line.endswith((b"\n", b"\r")) else line
