"""Rows of which many begin alike: what they share is read, compared and kept once, and all cells by column.

Belongs here: adjacent rows as runs (an invoice's columns stand on each of its lines), and whole lines of a file to runs
by comparing their bytes. Does not: lines of which only careful reading can tell what they hold (``rows``), what columns
mean (``columns``).
"""

import csv
import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from io import BytesIO
from itertools import accumulate, repeat
from typing import overload

from mlc_dagster.stampli.parsing.profile import TextRules

_VISIBLE_ASCII = bytes(range(0x20, 0x7F)) + b"\r\n"

Column = Sequence[str]
"""Cells of one column."""


class Runs(Sequence[list[str]]):
    """Rows, each begun like the others of its run. As a sequence: the rows with all their cells."""

    def __init__(
        self,
        rows: int,
        starts: Sequence[int],
        heads: Sequence[Column],
        offset: int,
        tails: Callable[[], Sequence[Column]],
        *,
        printable: bool = False,
        longest: tuple[int, int] = (sys.maxsize, sys.maxsize),
    ) -> None:
        self._rows = rows
        self.printable = printable
        """True when no cell holds a control or invisible character."""
        self.longest = longest
        """Characters that no cell of heads, and of tails, has more of."""
        self.starts = starts
        """Index of each run's first row."""
        self.heads = heads
        """Columns from the first on, a cell per run: those before ``offset``; all, of its first row, if that is 0."""
        self.offset = offset
        self._read_tails = tails

    @classmethod
    def by_cells(cls, rows: Sequence[list[str]], cells_of: Callable[[Sequence[str]], object]) -> "Runs":
        """Runs of rows, all of one width, that agree in some cells."""
        starts: list[int] = []
        last: object = None
        for at, cells in enumerate(map(cells_of, rows)):
            if cells != last:
                starts.append(at)
                last = cells
        heads = list(zip(*(rows[at] for at in starts), strict=True))
        return cls(len(rows), starts, heads, 0, lambda: list(zip(*rows, strict=True)))

    @cached_property
    def tails(self) -> Sequence[Column]:
        """Columns from ``offset`` on, a cell per row. Made when they are asked for: as text they take little."""
        return self._read_tails()

    def __len__(self) -> int:
        return self._rows

    @overload
    def __getitem__(self, at: int) -> list[str]: ...
    @overload
    def __getitem__(self, at: slice) -> list[list[str]]: ...
    def __getitem__(self, at: int | slice) -> list[str] | list[list[str]]:
        if isinstance(at, slice):
            return [self[index] for index in range(*at.indices(self._rows))]
        row = range(self._rows)[at]
        run = bisect_right(self.starts, row) - 1
        return [*(column[run] for column in self.heads[: self.offset]), *(column[row] for column in self.tails)]

    def ends(self) -> Sequence[int]:
        """Index behind each run's last row."""
        return [*self.starts[1:], self._rows] if self.starts else []


def runs_of(chunk: bytes, rules: TextRules, *, width: int, leading: int) -> Runs | None:
    """Rows of lines that are a row of ``width`` cells each; None when one is not, or only careful reading can tell.

    Bytes are compared, and decoded where nothing before was the same. That is sound in the encodings of profiles, in
    which a byte of ASCII is never part of another character.

    Args:
        chunk: whole lines.
        rules: encoding, delimiter and quote.
        width: cells that a row must have.
        leading: so many cells from the left, at least one and not all, make a run where their bytes are the same.
    """
    if b"\0" in chunk:
        return None
    if b"\r" in chunk:
        chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not chunk.endswith(b"\n"):
        chunk += b"\n"
    try:
        return _Splitter(rules, leading, width - leading).split(chunk)
    except (csv.Error, UnicodeDecodeError, _NotOneRow):
        return None


def is_printable(text: bytes, encoding: str) -> bool:
    """Whether no character of it, other than line ends, is a control or invisible one."""
    # Only what is not plain ASCII is decoded and looked at; a control character is among it.
    left = text.translate(None, _VISIBLE_ASCII)
    return not left or left.decode(encoding).isprintable()


class _NotOneRow(Exception):
    """A line that is not one row of the width asked for."""


class _Splitter:
    """Splits the lines of one chunk."""

    def __init__(self, rules: TextRules, leading: int, rest: int) -> None:
        self._rules = rules
        self._leading = leading
        self._rest = rest
        self._delimiter = rules.delimiter.encode("ascii")
        self._quote = rules.quote.encode("ascii")
        cell = rb"[^%b]*+%b" % (re.escape(self._delimiter), re.escape(self._delimiter))
        self._leading_cells = re.compile(rb"(?:%b){%d}+" % (cell, leading)).match

    def split(self, chunk: bytes) -> Runs:
        """Rows of whole lines, each with its line end."""
        # Unlike ``split`` it looks for line ends many bytes at a time.
        lines = BytesIO(chunk).readlines()
        own = self._with_quotes(chunk, lines) if self._quote in chunk else {}
        starts: list[int] = []
        heads: list[bytes] = []
        tails: list[bytes] = []
        # No line begins with NUL.
        head, size = b"\0", 0
        for row, line in enumerate(lines):
            if not line.startswith(head):
                size = self._head_size(line, own.get(row))
                head = line[:size]
                starts.append(row)
                heads.append(head)
            tails.append(line[size:])
        longest = max(map(len, heads), default=0), max(map(len, tails), default=0)
        visible = is_printable(b"".join((*heads, *tails)), self._rules.encoding)
        columns = self._heads(heads, {run: own[row][: self._leading] for run, row in enumerate(starts) if row in own})
        others = {row: cells[self._leading :] for row, cells in own.items() if self._quote in tails[row]}
        made = self._tails(tails, others)
        return Runs(len(lines), starts, columns, self._leading, made, printable=visible, longest=longest)

    def _with_quotes(self, chunk: bytes, lines: list[bytes]) -> dict[int, list[str]]:
        """Cells of the rows with quotes in them; raises csv.Error when a field of the last one does not end there."""
        rules, width = self._rules, self._leading + self._rest
        rows = _rows_with(self._quote, chunk, lines)
        texts = [lines[row][:-1].decode(rules.encoding) for row in rows]
        cells = list(csv.reader(texts, delimiter=rules.delimiter, quotechar=rules.quote, strict=True))
        if len(cells) != len(rows) or any(len(each) != width for each in cells):
            # A field that does not end in its line takes the next one, and there are fewer rows.
            raise _NotOneRow
        return dict(zip(rows, cells, strict=True))

    def _head_size(self, line: bytes, own: list[str] | None) -> int:
        """Bytes that the leading cells take with the delimiter behind them; ``own``: all cells, if one is quoted."""
        if own is not None:
            # Delimiters within quotes stand in the line as they stand in its cells: it can be counted from the right.
            delimiters = self._rest + "".join(own[self._leading :]).count(self._rules.delimiter)
            return len(line.rsplit(self._delimiter, delimiters)[0]) + 1
        found = self._leading_cells(line)
        if found is None:
            raise _NotOneRow
        return found.end()

    def _heads(self, heads: list[bytes], others: Mapping[int, list[str]]) -> Sequence[Column]:
        """The columns of the heads; ``others``: cells of those with quotes."""
        for run in others:
            heads[run] = self._delimiter * self._leading
        text = b"".join(heads)[:-1].decode(self._rules.encoding)
        return _by_column(text.split(self._rules.delimiter), self._leading, others)

    def _tails(self, tails: list[bytes], others: Mapping[int, list[str]]) -> Callable[[], Sequence[Column]]:
        """The columns of the tails; ``others``: cells of those with quotes."""
        delimiter, width = self._delimiter, self._rest
        for row in others:
            tails[row] = delimiter * (width - 1) + b"\n"
        if set(map(bytes.count, tails, repeat(delimiter))) != {width - 1}:
            raise _NotOneRow
        text = b"".join(tails).replace(b"\n", delimiter)[:-1].decode(self._rules.encoding)
        return lambda: _by_column(text.split(self._rules.delimiter), width, others)


def _rows_with(mark: bytes, chunk: bytes, lines: list[bytes]) -> list[int]:
    """Which lines of the chunk hold it: where few do, one look through all takes less than one through each."""
    ends = list(accumulate(map(len, lines)))
    rows: list[int] = []
    at = chunk.find(mark)
    while at >= 0:
        rows.append(bisect_right(ends, at))
        at = chunk.find(mark, ends[rows[-1]])
    return rows


def _by_column(cells: list[str], width: int, others: Mapping[int, Sequence[str]]) -> Sequence[Column]:
    """Columns of rows that stand one behind the other; ``others`` are put in the place of a row."""
    columns = [cells[at::width] for at in range(width)]
    for row, own in others.items():
        for column, cell in zip(columns, own, strict=True):
            column[row] = cell
    return columns
