"""Bytes of a delimited file to rows: RFC 4180 with any line end, one broken row never costs another.

Belongs here: where a row begins and ends, and what its cells are. Does not: what the columns mean (``parse``).
Blocks without oddities take a fast path; the careful path decides everything else, and both agree on every input.

A quoted field may hold line ends, but only so many, and no line that is a row by itself: a stray quote would otherwise
swallow the rows up to the next quote. When that happens, or the cells do not add up at the closing quote, the row
is set aside and reading resumes at the next line that begins a plausible row.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

import msgspec

from mlc_dagster.stampli.parsing.physical_lines import RAW_KEPT, Oversized, PhysicalLines, without_end
from mlc_dagster.stampli.parsing.profile import TextRules
from mlc_dagster.stampli.parsing.row_runs import is_printable, runs_of

_BOM = b"\xef\xbb\xbf"
_SAMPLE = 8 * 1024
"""Bytes of a chunk that show whether most of its lines have quotes."""


class Fault(msgspec.Struct, frozen=True):
    """A row that is not one: its bytes without the last line end (the first 64 KiB of more), and why."""

    raw: bytes
    text: str
    names: tuple[tuple[str, ...], ...] | None = None
    """Keys of the invoices that it may belong to; None: to be looked for in its bytes."""


class Block(NamedTuple):
    """Adjacent rows, in the order of the file."""

    lines: Sequence[int]
    """Line number of each row's first line, from 1."""
    rows: Sequence[list[str]]
    faults: list[tuple[int, Fault]]
    """Rows set aside, by their line number."""
    printable: bool
    """True when no cell holds a control or invisible character, so that nobody has to look for one."""
    size: int | None = None
    """Bytes of text that it was read from; None: nobody counted, and nobody keeps it to look at it again."""


class _Record(NamedTuple):
    """One attempt to read a row: its cells, or why not; and the physical lines it took."""

    cells: list[str]
    lines: int
    fault: str | None


class RowSplitter:
    """One pass over a stream of bytes: ``header`` first, then ``blocks``.

    ``careful`` switches the fast path off; the result is the same.
    """

    def __init__(self, stream: BinaryIO, rules: TextRules, *, careful: bool = False) -> None:
        self._rules = rules
        self._careful_only = careful
        self._source = PhysicalLines(stream, rules.max_row_bytes)
        if rules.encoding == "utf-8":
            self._source.skip(_BOM)
        self._line = 1
        self._lines: list[bytes] = []
        self._width = 0
        self._leading: int | None = None
        self._repeated = 0
        self._plausible: Callable[[Sequence[str]], bool] = bool

    def header(self) -> list[str] | Fault | None:
        """Cells of the first row that is not blank; None when the stream holds no such row."""
        while chunk := self._source.take():
            if isinstance(chunk, Oversized):
                return Fault(chunk.raw, self._oversized_text())
            end = chunk.find(b"\n") + 1
            if end:
                self._source.put_back(chunk[end:])
            self._lines = (chunk[:end] or chunk).splitlines(keepends=True)
            for at, line in enumerate(self._lines):
                if not without_end(line):
                    self._line += 1
                    continue
                record = self._record(at)
                taken = self._lines[at : at + record.lines]
                self._source.put_back(b"".join(self._lines[at + record.lines :]))
                self._line += record.lines
                fault = record.fault or self._text_fault(record.cells)
                return record.cells if fault is None else _fault(taken, fault)
        return None

    def blocks(
        self,
        width: int,
        plausible: Callable[[Sequence[str]], bool],
        *,
        leading: int | None = None,
        repeated: int = 0,
    ) -> Iterator[Block]:
        """Rows after the header.

        Args:
            width: cells that a row must have.
            plausible: whether cells (exactly ``width``) could be a row: asked to find the next row after a broken one.
            leading: only so many cells from the left are of interest; the others may be left out.
            repeated: so many cells from the left often stand in one row as in the row before.
        """
        self._width, self._plausible = width, plausible
        self._repeated = repeated
        self._leading = leading if leading is not None and leading < width else None
        while chunk := self._source.take():
            if isinstance(chunk, Oversized):
                fault = Fault(chunk.raw, self._oversized_text())
                yield Block([], [], [(self._line, fault)], printable=False, size=len(chunk.raw))
                self._line += 1
                continue
            block = None if self._careful_only else self._fast(chunk)
            if block is None and not self._careful_only:
                # The oddity costs a few lines of careful reading, not the whole chunk.
                lines = chunk.splitlines(keepends=True)
                few = max(16, len(lines) // 16)
                if few < len(lines):
                    self._source.put_back(b"".join(lines[few:]))
                    chunk = b"".join(lines[:few])
                    block = self._fast(chunk)
            yield block or self._careful(chunk)

    def _fast(self, chunk: bytes) -> Block | None:
        """Rows of a chunk in which each line is a whole row; None when only careful reading can tell."""
        rules = self._rules
        runs = None
        # Where most lines have quotes, reading each of them whole takes less than finding what they share.
        sample = chunk[:_SAMPLE]
        if self._repeated and sample.count(rules.quote.encode("ascii")) <= sample.count(b"\n"):
            runs = runs_of(chunk, rules, width=self._width, leading=self._repeated)
        if runs is not None:
            first, self._line = self._line, self._line + len(runs)
            return Block(range(first, self._line), runs, [], runs.printable, len(chunk))
        try:
            text = chunk.decode(rules.encoding)
        except UnicodeDecodeError:
            return None
        if "\0" in text:
            return None
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        rows = self._cells_of_lines(lines, quoted=rules.quote in text)
        if rows is None:
            return None
        first = self._line
        self._line += len(lines)
        numbers: Sequence[int] = range(first, self._line)
        faults: list[tuple[int, Fault]] = []
        if "" in lines or set(map(len, rows)) != {self._width}:
            numbers, rows = self._sort_out(first, lines, rows, faults)
        visible = self._leading is None and is_printable(chunk, rules.encoding)
        return Block(numbers, rows, faults, visible, len(chunk))

    def _sort_out(
        self, first: int, lines: list[str], rows: list[list[str]], faults: list[tuple[int, Fault]]
    ) -> tuple[list[int], list[list[str]]]:
        """The rows of the right width, with their numbers; blank lines left out, the others added to ``faults``."""
        numbers: list[int] = []
        good: list[list[str]] = []
        for number, line, cells in zip(range(first, self._line), lines, rows, strict=True):
            if len(cells) == self._width and line:
                numbers.append(number)
                good.append(cells)
            elif line:
                raw = line.encode(self._rules.encoding)
                faults.append((number, Fault(raw[:RAW_KEPT], self._width_text(len(cells)))))
        return numbers, good

    def _cells_of_lines(self, lines: list[str], *, quoted: bool) -> list[list[str]] | None:
        quote = self._rules.quote
        if not quoted:
            return self._unquoted(lines)
        with_quote = [line for line in lines if quote in line]
        try:
            rows = list(csv.reader(with_quote, delimiter=self._rules.delimiter, quotechar=quote, strict=True))
        except csv.Error:
            return None
        if len(rows) != len(with_quote):
            # A field goes on over the line end.
            return None
        if len(rows) == len(lines):
            return rows
        ready, others = iter(rows), iter(self._unquoted([line for line in lines if quote not in line]))
        return [next(ready if quote in line else others) for line in lines]

    def _unquoted(self, lines: list[str]) -> list[list[str]]:
        delimiter = self._rules.delimiter
        if self._leading is None:
            return [line.split(delimiter) for line in lines]
        # The cells that nobody asks for are counted, not made.
        rest = [""] * (self._width - self._leading)
        delimiters = self._width - 1
        return [
            line.split(delimiter, self._leading)[:-1] + rest
            if line.count(delimiter) == delimiters
            else line.split(delimiter)
            for line in lines
        ]

    def _careful(self, chunk: bytes) -> Block:
        """Rows that begin in the chunk; one that goes on beyond it takes what it needs from the next."""
        self._lines = chunk.splitlines(keepends=True)
        own = len(self._lines)
        numbers: list[int] = []
        rows: list[list[str]] = []
        faults: list[tuple[int, Fault]] = []
        at = 0
        while at < own:
            if not without_end(self._lines[at]):
                at += 1
                continue
            record = self._record(at)
            fault = self._structural_fault(at, record)
            size = record.lines if fault is None else self._lines_until_plausible(at, record)
            fault = fault or self._text_fault(record.cells)
            taken = self._lines[at : at + size]
            if fault is None:
                numbers.append(self._line + at)
                rows.append(record.cells)
            else:
                faults.append((self._line + at, _fault(taken, fault)))
            at += size
        size = sum(map(len, self._lines[:at]))
        self._source.put_back(b"".join(self._lines[at:]))
        self._line += at
        return Block(numbers, rows, faults, printable=False, size=size)

    def _structural_fault(self, at: int, record: _Record) -> str | None:
        if record.fault is not None:
            return record.fault
        if len(record.cells) != self._width:
            return self._width_text(len(record.cells))
        if record.lines > 1:
            if not self._plausible(record.cells):
                return f"spans {record.lines} lines and is not a row"
            if any(self._is_row(inner) for inner in range(at + 1, at + record.lines)):
                return "a quote is opened and swallows rows"
        return None

    def _is_row(self, at: int) -> bool:
        """Whether the physical line by itself is a plausible row."""
        record = self._record(at, alone=True)
        return record.fault is None and len(record.cells) == self._width and self._plausible(record.cells)

    def _lines_until_plausible(self, at: int, record: _Record) -> int:
        """Lines of a broken row: where a quote is involved, up to the next plausible row or ``max_field_lines``."""
        if record.lines == 1 and record.fault != _UNCLOSED:
            return 1
        for size in range(1, self._rules.max_field_lines):
            if not self._have(at + size):
                return size
            following = self._record(at + size)
            if self._structural_fault(at + size, following) is None and self._plausible(following.cells):
                return size
        return self._rules.max_field_lines

    def _have(self, at: int) -> bool:
        """Whether there is a physical line ``at``; more are taken from the source when needed."""
        while at >= len(self._lines):
            more = self._source.take()
            if isinstance(more, Oversized):
                self._source.put_back(more)
                return False
            if not more:
                return False
            self._lines += more.splitlines(keepends=True)
        return True

    def _record(self, at: int, *, alone: bool = False) -> _Record:
        """The row that begins at physical line ``at``; ``alone``: within this line."""
        delimiter, quote = self._rules.delimiter, self._rules.quote
        text, used = self._decode(without_end(self._lines[at])), 1
        if quote not in text:
            return _Record(text.split(delimiter), 1, None)
        cells: list[str] = []
        start = 0
        while True:
            if not text.startswith(quote, start):
                end = text.find(delimiter, start)
                if end < 0:
                    cells.append(text[start:])
                    return _Record(cells, used, None)
                cells.append(text[start:end])
                start = end + 1
                continue
            opened, look = used, start + 1
            while True:
                end = text.find(quote, look)
                if end < 0:
                    too_long = len(text) - start > self._rules.max_field_bytes
                    if alone or used - opened >= self._rules.max_field_lines - 1 or (used > opened and too_long):
                        return _Record(cells, used, _UNCLOSED)
                    if not self._have(at + used):
                        return _Record(cells, used, _UNCLOSED)
                    look = len(text)
                    # Line ends inside a field are read as one kind: the content is the same under CRLF and LF.
                    text += "\n" + self._decode(without_end(self._lines[at + used]))
                    used += 1
                elif text.startswith(quote, end + 1):
                    look = end + 2
                else:
                    break
            if used > opened and end - start > self._rules.max_field_bytes:
                return _Record(cells, used, _UNCLOSED)
            cells.append(text[start + 1 : end].replace(quote + quote, quote))
            if end + 1 == len(text):
                return _Record(cells, used, None)
            if text[end + 1] != delimiter:
                return _Record(cells, used, "a closing quote is not followed by the delimiter or the line end")
            start = end + 2

    def _decode(self, line: bytes) -> str:
        # Bytes that are no text become lone surrogates: the row keeps its structure and is refused by _text_fault.
        return line.decode(self._rules.encoding, "surrogateescape")

    def _text_fault(self, cells: list[str]) -> str | None:
        for cell in cells:
            if "\0" in cell:
                return "holds a NUL byte"
            if not cell.isascii() and any("\udc80" <= character <= "\udcff" for character in cell):
                byte = next(ord(character) - 0xDC00 for character in cell if "\udc80" <= character <= "\udcff")
                return f"holds byte 0x{byte:02X}, which is not {self._rules.encoding} text"
        return None

    def _width_text(self, cells: int) -> str:
        return f"has {cells} cells, the header has {self._width}"

    def _oversized_text(self) -> str:
        return f"is longer than {self._rules.max_row_bytes} bytes"


_UNCLOSED = "a quote is opened and not closed within the limit"


def _fault(lines: list[bytes], text: str) -> Fault:
    joined = b"".join(lines)
    return Fault(without_end(joined)[:RAW_KEPT], text)
