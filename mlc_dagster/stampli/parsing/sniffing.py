"""What an unknown file is: its encoding, line ends, delimiter, first row. For people who write a profile for it.

Belongs here: looking. Does not: deciding anything: no file is ever read by what was guessed about it.
"""

import codecs
import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mlc_dagster.stampli.parsing.unpacking import CompressionFault, kind_of, open_plain

_HEAD = 256 * 1024
"""Bytes in which delimiter and first row are looked for; encoding and line ends are told from the whole file."""
_MARKS = {codecs.BOM_UTF8: "UTF-8", codecs.BOM_UTF16_LE: "UTF-16 LE", codecs.BOM_UTF16_BE: "UTF-16 BE"}
_DELIMITERS = ",;|\t"
_MOST_BYTES = 512 * 1024 * 1024
_MOST_RATIO = 200


@dataclass
class Sniffed:
    """What was seen."""

    size: int
    """Bytes as it came."""
    packed: Literal["none", "gzip", "zip"]
    kind: Literal["empty", "delimited", "xml", "json", "binary"] = "empty"
    encoding: str = "ASCII"
    odd_byte: str | None = None
    """The first byte that is no UTF-8, with line and column in bytes."""
    bom: str | None = None
    nul_bytes: int = 0
    line_ends: dict[str, int] = field(default_factory=dict[str, int])
    final_line_end: bool = False
    delimiter: str | None = None
    columns: tuple[str, ...] = ()
    """Cells of the first row."""
    damaged: str | None = None
    """Why a packed file cannot be unpacked."""


class _Looker:
    """Takes the file's bytes block by block."""

    def __init__(self, seen: Sniffed) -> None:
        self._seen = seen
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._lf = self._cr = self._crlf = 0
        self._ascii = True
        self._last = b""
        self._line_start = 0
        self._at = 0

    def take(self, block: bytes) -> None:
        seen = self._seen
        joined = self._last[-1:] + block
        if seen.odd_byte is None:
            pending = len(self._decoder.getstate()[0])
            try:
                self._decoder.decode(block)
            except UnicodeDecodeError as error:
                self._odd(block, max(0, error.start - pending))
        self._ascii = self._ascii and block.isascii()
        seen.nul_bytes += block.count(b"\0")
        self._lf += block.count(b"\n")
        self._cr += block.count(b"\r")
        self._crlf += joined.count(b"\r\n")
        if (end := block.rfind(b"\n")) >= 0:
            self._line_start = self._at + end + 1
        self._at += len(block)
        self._last = block

    def _odd(self, block: bytes, at: int) -> None:
        before = block[:at]
        start = before.rfind(b"\n") + 1 + self._at if b"\n" in before else self._line_start
        line = self._lf + before.count(b"\n") + 1
        self._seen.odd_byte = f"0x{block[at]:02X} at line {line}, byte {self._at + at - start + 1}"

    def finish(self) -> None:
        seen = self._seen
        if seen.odd_byte is None and self._decoder.getstate()[0]:
            seen.odd_byte = "the last character is cut off"
        counts = {"LF": self._lf - self._crlf, "CRLF": self._crlf, "CR": self._cr - self._crlf}
        seen.line_ends = {name: count for name, count in counts.items() if count}
        seen.final_line_end = self._last[-1:] in (b"\n", b"\r")
        if seen.bom not in (None, "UTF-8"):
            seen.encoding = str(seen.bom)
        elif seen.odd_byte is not None:
            seen.encoding = "not UTF-8; perhaps cp1252 or another encoding of one byte per character"
        else:
            seen.encoding = "ASCII" if self._ascii and seen.bom is None else "UTF-8"


def sniff(path: Path) -> Sniffed:
    """What the file is.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        seen = Sniffed(path.stat().st_size, kind_of(stream.read(4)))
    looker = _Looker(seen)
    head = b""
    try:
        with open_plain(path, "auto", max_bytes=_MOST_BYTES, max_ratio=_MOST_RATIO) as stream:
            while block := stream.read(_HEAD):
                if not head:
                    head = block
                    seen.bom = next((name for mark, name in _MARKS.items() if block.startswith(mark)), None)
                looker.take(block)
    except CompressionFault as fault:
        seen.damaged = fault.text
    looker.finish()
    _look_at_head(head, seen)
    return seen


def _look_at_head(head: bytes, seen: Sniffed) -> None:
    wide = seen.bom not in (None, "UTF-8")
    text = head.decode("utf-16" if wide else "utf-8-sig" if seen.odd_byte is None else "cp1252", "replace")
    body = text.lstrip()
    if not body:
        return
    if seen.nul_bytes and not wide and seen.nul_bytes * 3 > len(head):
        seen.kind = "binary"
    elif body.startswith("<"):
        seen.kind = "xml"
    elif body[0] in "{[":
        seen.kind = "json"
    else:
        seen.kind = "delimited"
        first = next(line for line in body.splitlines() if line.strip())
        counts = {mark: first.count(mark) for mark in _DELIMITERS}
        best = max(counts, key=lambda mark: counts[mark])
        if counts[best]:
            seen.delimiter = best
            try:
                seen.columns = tuple(next(csv.reader([first], delimiter=best)))
            except csv.Error:
                seen.columns = tuple(first.split(best))
        else:
            seen.columns = (first,)
