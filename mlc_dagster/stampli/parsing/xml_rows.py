"""An XML document to flat rows: an element per invoice, an element per line, cells by the paths of the profile.

Belongs here: rows and their numbers. Does not: parsing (``xml_stream``), paths (``xml_walk``) and what cells mean
(``columns``, ``assembly``). One invoice is in memory at a time. A row's number is that of its line element in the
document; ``place`` tells its path.
"""

import weakref
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from tempfile import SpooledTemporaryFile
from typing import BinaryIO

import msgspec

from mlc_dagster.stampli.parsing.naming import Key, key_named
from mlc_dagster.stampli.parsing.parsed import FileRejected
from mlc_dagster.stampli.parsing.physical_lines import RAW_KEPT
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster.stampli.parsing.profile_rows import Xml
from mlc_dagster.stampli.parsing.rows import Block, Fault
from mlc_dagster.stampli.parsing.xml_stream import read_events
from mlc_dagster.stampli.parsing.xml_walk import Cells, Plan, Walk

_BLOCK_ROWS = 500
_SPOOLED = 16 * 1024 * 1024
"""Bytes of invoices that are kept in memory."""


class _Invoice(msgspec.Struct, array_like=True):
    """One invoice as it waits: its own cells, and those of its lines."""

    first: int
    """Number of its first row."""
    cells: Cells
    lines: list[tuple[int, Cells]]
    faults: list[tuple[int, bytes, str, tuple[Key, ...]]]
    printable: bool


class _Invoices:
    """All invoices of a document, in its order, read as often as asked."""

    def __init__(self) -> None:
        file: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(max_size=_SPOOLED)  # noqa: SIM115 (closed below)
        self._file = file
        # Nobody says when the last row was read.
        weakref.finalize(self, file.close)
        self._ends = array("Q")
        self._encoder = msgspec.msgpack.Encoder()

    def add(self, invoice: _Invoice) -> None:
        self._file.write(self._encoder.encode(invoice))
        self._ends.append(self._file.tell())

    def __iter__(self) -> Iterator[_Invoice]:
        decoder = msgspec.msgpack.Decoder(_Invoice)
        start = 0
        for end in self._ends:
            self._file.seek(start)
            yield decoder.decode(self._file.read(end - start))
            start = end


class XmlRows:
    """The rows of one document; see ``row_sources.RowSource``. It is parsed once; its invoices wait on disk."""

    delivery = None

    def __init__(
        self, opened: Callable[[], AbstractContextManager[BinaryIO]], file_name: str, profile: Profile, rules: Xml
    ) -> None:
        self._opened = opened
        self._file_name = file_name
        self._profile = profile
        self._rules = rules
        self._walk = Walk(Plan(rules), profile, rules, self._refused)
        self._invoices: _Invoices | None = None
        self._firsts = array("Q")
        """Number of the first row of each invoice."""

    def header(self) -> list[str] | Fault | None:
        """Declared columns, and one for each element that nobody declared: none is left out silently."""
        if self._invoices is None:
            self._invoices = self._read()
        return list(self._walk.names)

    def row_of(self, line: int, column: str) -> int:
        del column  # Rows are line elements; ``place`` tells the path of a cell.
        return line

    def place(self, line: int, column: str | None) -> str:
        invoice = bisect_right(self._firsts, line)
        if not invoice:
            return f"line element {line}"
        rules = self._rules
        path = f"/{rules.document}/{rules.invoice}[{invoice}]"
        inner = f"{path}/{rules.line}[{line - self._firsts[invoice - 1] + 1}]"
        if column is None:
            return inner
        if column in rules.cells.document:
            return f"/{rules.document}/{rules.cells.document[column]}"
        if column in rules.cells.invoice:
            return f"{path}/{rules.cells.invoice[column]}"
        return f"{inner}/{rules.cells.line.get(column, column)}"

    def blocks(
        self, width: int, plausible: Callable[[Sequence[str]], bool], *, leading: int | None = None
    ) -> Iterator[Block]:
        del width, plausible, leading  # Elements say themselves where they begin and end.
        assert self._invoices is not None, "header comes first"  # noqa: S101
        blank = _filled([""] * len(self._walk.names), self._walk.document)
        shared_visible = "".join(blank).isprintable()
        numbers: list[int] = []
        rows: list[list[str]] = []
        faults: list[tuple[int, Fault]] = []
        printable = shared_visible
        for invoice in self._invoices:
            head = _filled(blank, invoice.cells)
            for number, cells in invoice.lines:
                numbers.append(number)
                rows.append(_filled(head, cells))
            faults += [(number, Fault(raw, text, names)) for number, raw, text, names in invoice.faults]
            printable = printable and invoice.printable
            if len(rows) + len(faults) >= _BLOCK_ROWS:
                yield Block(numbers, rows, faults, printable=printable)
                numbers, rows, faults = [], [], []
                printable = shared_visible
        yield Block(numbers, rows, faults, printable=printable)

    def _read(self) -> _Invoices:
        """Take the walk through the document, from its start to its end."""
        invoices, walk = _Invoices(), self._walk
        number = 1
        with self._opened() as stream:
            batches = read_events(
                stream,
                encoding=self._profile.text.encoding,
                max_depth=self._rules.max_depth,
                max_text=self._profile.text.max_row_bytes,
                max_names=self._profile.text.max_columns,
                refused=self._refused,
            )
            for batch in batches:
                for event in batch:
                    if walk.take(event):
                        self._firsts.append(number)
                        invoice = self._found(number)
                        invoices.add(invoice)
                        number += max(1, len(walk.lines))
                        walk.next_invoice()
        return invoices

    def _found(self, number: int) -> _Invoice:
        """The invoice that the walk has come to the end of; ``number`` is that of its first row."""
        walk = self._walk
        own, lines = walk.invoice, walk.lines
        place = f"({self._rules.invoice}[{len(self._firsts)}])"
        found = _Invoice(number, own.cells, [], [], printable=True)
        if not lines:
            wrong = own.faults or [f"has no {self._rules.line}"]
            found.faults.append(self._fault(number, own.cells, {}, f"{place} {'; '.join(wrong)}"))
            return found
        for at, line in enumerate(lines, start=number):
            if wrong := own.faults + line.faults:
                found.faults.append(self._fault(at, own.cells, line.cells, f"{place} {'; '.join(wrong)}"))
            else:
                found.lines.append((at, line.cells))
        texts = [*own.cells.values(), *(text for _, cells in found.lines for text in cells.values())]
        found.printable = "".join(texts).isprintable()
        return found

    def _fault(self, number: int, head: Cells, line: Cells, text: str) -> tuple[int, bytes, str, tuple[Key, ...]]:
        names = self._walk.names
        shared = {names[at]: cell for at, cell in {**self._walk.document, **head}.items()}
        cells = {**shared, **{names[at]: cell for at, cell in line.items()}}
        kept = [f"{name}={cell}" for name, cell in cells.items() if not self._profile.forbidden.matches(name)]
        raw = "\n".join(kept).encode("utf-8", "replace")[:RAW_KEPT]
        return number, raw, text, key_named(self._profile, shared)

    def _refused(self, text: str) -> FileRejected:
        return FileRejected("FILE_SCHEMA", f"{self._file_name}: {text}")


def _filled(cells: list[str], more: Cells) -> list[str]:
    row = cells.copy()
    for at, cell in more.items():
        row[at] = cell
    return row
