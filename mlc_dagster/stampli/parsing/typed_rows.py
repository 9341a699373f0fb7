"""A file of typed records to flat rows: what belongs to which invoice is told by the order of the records.

Belongs here: escapes, record types, and what the trailer says about the records before it. Does not: what the cells
mean (``columns``, ``assembly``). One invoice is in memory at a time.
"""

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, NamedTuple, Protocol

import msgspec

from mlc_dagster.stampli.parsing.control_totals import ControlTotal, refuse_other_count
from mlc_dagster.stampli.parsing.naming import Key, key_named
from mlc_dagster.stampli.parsing.parsed import FileRejected
from mlc_dagster.stampli.parsing.physical_lines import RAW_KEPT, Oversized, PhysicalLines, without_end
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster.stampli.parsing.profile_files import Trailer
from mlc_dagster.stampli.parsing.profile_rows import NOT_USED, Record, Typed
from mlc_dagster.stampli.parsing.rows import Block, Fault
from mlc_dagster.stampli.reasons import shown

_BLOCK_ROWS = 500
_BOM = b"\xef\xbb\xbf"


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


class _Line(NamedTuple):
    """One record of the file; ``fault``: it is none, and its cells are what can be read of it."""

    number: int
    raw: bytes
    kind: str
    cells: list[str]
    fault: str | None


class _Invoice(msgspec.Struct):
    """The records from one invoice's first to the next one's."""

    head: _Line
    cells: dict[str, str]
    broken: str | None = None
    """Why nothing can be built from it."""
    lines: list[tuple[_Line, dict[str, str]]] = []
    splits: dict[int, list[tuple[_Line, dict[str, str]]]] = {}
    """By the number of their line."""
    details: dict[str, int] = {}
    """Record types of role ``detail`` that it has, with their rows."""
    faults: list[_Line] = []


class _Origins:
    """Which record a cell of a flat row came from: some bytes per record, for the few cells that are asked for."""

    def __init__(self, rules: Typed) -> None:
        self._rules = rules
        self.file_row = 1
        self._heads = array("Q")
        self._details: dict[str, array[int]] = {kind: array("Q") for kind in rules.of_role("detail")}
        self._splits = array("Q")
        self._split_lines = array("Q")
        self._split_filled = array("Q")
        """For each split, a bit for each of its cells that is filled; the others are its line's."""

    def add(self, invoice: _Invoice) -> None:
        """Note the records of an invoice; invoices come in the order of the file."""
        self._heads.append(invoice.head.number)
        for kind, row in invoice.details.items():
            self._details[kind].append(row)
        for line, splits in invoice.splits.items():
            for split, cells in splits:
                names = self._rules.records[split.kind].cells[:64]
                self._splits.append(split.number)
                self._split_lines.append(line)
                self._split_filled.append(sum(1 << at for at, name in enumerate(names) if cells.get(name)))

    def row(self, line: int, column: str) -> int:
        """The row of the record that holds ``column`` of the flat row ``line``; ``line`` itself where none does."""
        if self._kinds(column, "line", "split"):
            return self._of_line(line, column)
        head = bisect_right(self._heads, line) - 1
        if head < 0:
            return line
        first = self._heads[head]
        last = self._heads[head + 1] if head + 1 < len(self._heads) else None
        for kind in self._kinds(column, "detail"):
            rows = self._details[kind]
            at = bisect_right(rows, first)
            if at < len(rows) and (last is None or rows[at] < last):
                return rows[at]
        if self._kinds(column, "invoice", "detail"):
            return first
        return self.file_row if self._kinds(column, "file") else line

    def _of_line(self, line: int, column: str) -> int:
        at = bisect_left(self._splits, line)
        if at == len(self._splits) or self._splits[at] != line:
            return line
        places = [
            self._rules.records[kind].cells.index(column)
            for kind in self._kinds(column, "split")
            if column in self._rules.records[kind].cells
        ]
        filled = any(self._split_filled[at] >> place & 1 for place in places)
        return line if filled else self._split_lines[at]

    def _kinds(self, column: str, *roles: str) -> list[str]:
        return [
            kind
            for kind, record in self._rules.records.items()
            if record.role in roles and (column in record.cells or column in record.constants)
        ]


class TypedRows:
    """The rows of one file; see ``row_sources.RowSource``."""

    delivery = None

    def __init__(
        self, opened: Callable[[], AbstractContextManager[BinaryIO]], file_name: str, profile: Profile, rules: Typed
    ) -> None:
        self._opened = opened
        self._file_name = file_name
        self._profile = profile
        self._rules = rules
        self._text = profile.text
        used: dict[str, None] = {}
        for record in rules.written():
            used.update(dict.fromkeys([*record.cells, *record.constants]))
        used.pop(NOT_USED, None)
        self._names = list(used)
        self._origins = _Origins(rules)
        self._amount = next(name for name, column in profile.columns.items() if column.field == "line_amount")

    def header(self) -> list[str] | Fault | None:
        first = next(self._lines(hashlib.sha256()), None)
        if first is None:
            raise self._refused("is empty; send the file again")
        wanted = self._rules.of_role("file") or self._rules.of_role("invoice")
        if first.kind not in wanted or first.fault is not None:
            why = first.fault or f"is of type {shown(first.kind)!r}"
            raise self._refused(f"row {first.number} {why}; a record {' or '.join(wanted)} is expected first")
        return list(self._names)

    def row_of(self, line: int, column: str) -> int:
        """Rows are numbered by their line record; a value of the invoice stands in another one."""
        return self._origins.row(line, column)

    def place(self, line: int, column: str | None) -> str:
        return f"row {line}" if column is None else f"row {self.row_of(line, column)}, column {column}"

    def blocks(
        self, width: int, plausible: Callable[[Sequence[str]], bool], *, leading: int | None = None
    ) -> Iterator[Block]:
        del width, plausible, leading  # A record is one physical line, so nothing has to be looked for.
        numbers: list[int] = []
        rows: list[list[str]] = []
        faults: list[tuple[int, Fault]] = []
        self._origins = _Origins(self._rules)
        for invoice in self._invoices():
            self._origins.add(invoice)
            self._flatten(invoice, numbers, rows, faults)
            if len(rows) + len(faults) >= _BLOCK_ROWS:
                yield _block(numbers, rows, faults)
                numbers, rows, faults = [], [], []
        yield _block(numbers, rows, faults)

    def _lines(self, digest: _Digest) -> Iterator[_Line]:
        """All records, also those that are none; ``digest`` has taken all bytes before the one that came last."""
        with self._opened() as stream:
            source = PhysicalLines(stream, self._text.max_row_bytes)
            source.skip(_BOM if self._text.encoding == "utf-8" else b"")
            number = 0
            while chunk := source.take():
                if isinstance(chunk, Oversized):
                    number += 1
                    fault = f"is longer than {self._text.max_row_bytes} bytes"
                    yield _Line(number, chunk.raw, "", [], fault)
                    continue
                for line in chunk.splitlines(keepends=True):
                    number += 1
                    if without_end(line):
                        yield self._line(number, line)
                    digest.update(line)

    def _line(self, number: int, raw: bytes) -> _Line:
        bare = without_end(raw)
        text = bare.decode(self._text.encoding, "replace")
        cells, fault = self._cells(text)
        if "\0" in text:
            fault = "holds a NUL byte"
        try:
            bare.decode(self._text.encoding)
        except UnicodeDecodeError as error:
            fault = f"holds byte 0x{bare[error.start]:02X}, which is not {self._text.encoding} text"
        kind, cells = cells[0], cells[1:]
        record = self._rules.records.get(kind)
        if fault is None and record is None:
            fault = f"has the unknown record type {shown(kind)!r}"
        elif fault is None and record is not None and len(cells) != len(record.cells):
            fault = f"has {len(cells)} cells after its type, a record {kind} has {len(record.cells)}"
        return _Line(number, raw, kind, cells, fault)

    def _cells(self, text: str) -> tuple[list[str], str | None]:
        delimiter, escape = self._text.delimiter, self._rules.escape
        if escape not in text:
            return text.split(delimiter), None
        cells: list[str] = []
        cell: list[str] = []
        fault: str | None = None
        characters = iter(text)
        for character in characters:
            if character == escape:
                following = next(characters, "")
                if following not in (delimiter, escape):
                    fault = f"has {escape} before {shown(following)!r}; write {escape}{escape} for one that is text"
                cell.append(following)
            elif character == delimiter:
                cells.append("".join(cell))
                cell.clear()
            else:
                cell.append(character)
        cells.append("".join(cell))
        return cells, fault

    def _invoices(self) -> Iterator[_Invoice]:
        """Invoice by invoice; at the end of the file what its trailer says is compared with what was there."""
        shared: dict[str, str] = {}
        current: _Invoice | None = None
        controls = _Controls(self._profile)
        trailer: _Line | None = None
        rows = 0
        digest, before = hashlib.sha256(), ""
        for line in self._lines(digest):
            if trailer is not None:
                raise self._refused(f"row {line.number} stands after the trailer in row {trailer.number}")
            record = self._rules.records.get(line.kind)
            role = None if record is None else record.role
            if role == "trailer":
                if line.fault is not None:
                    raise self._refused(f"row {line.number} (the trailer) {line.fault}")
                trailer, before = line, digest.hexdigest()
                continue
            controls.add(line, record)
            rows += 1
            if role == "file" and record is not None:
                if line.fault is not None or rows > 1:
                    raise self._refused(f"row {line.number} {line.fault or 'is a second record of the file'}")
                shared = _named(line, record)
                self._origins.file_row = line.number
            elif role == "invoice" and record is not None:
                if current is not None:
                    yield current
                current = _Invoice(line, {**shared, **_named(line, record)}, line.fault, [], {}, {}, [])
            elif current is None:
                current = _Invoice(line, dict(shared), "stands before the first invoice", [], {}, {}, [])
            else:
                self._add(current, line, record)
        if current is not None:
            yield current
        if self._rules.of_role("trailer"):
            if trailer is None:
                raise self._refused("has no trailer; part of it is missing")
            controls.compare(trailer, self._rules.records[trailer.kind], before, self._file_name)

    def _add(self, invoice: _Invoice, line: _Line, record: Record | None) -> None:
        # One bound for all that is kept of an invoice, whatever its records are.
        kept = len(invoice.lines) + len(invoice.faults) + sum(map(len, invoice.splits.values()))
        most = self._rules.max_per_invoice
        if kept >= most:
            raise self._refused(f"the invoice of row {invoice.head.number} has more than {most} rows (max_per_invoice)")
        if line.fault is not None or record is None:
            invoice.faults.append(line)
            return
        cells = _named(line, record)
        if record.role == "line":
            invoice.lines.append((line, cells))
        elif record.role == "split":
            if not invoice.lines:
                invoice.faults.append(line._replace(fault="splits a line, and none stands before it"))
                return
            invoice.splits.setdefault(invoice.lines[-1][0].number, []).append((line, cells))
        elif line.kind in invoice.details:
            invoice.faults.append(line._replace(fault=f"is a second {line.kind} of one invoice; one can be kept"))
        else:
            invoice.details[line.kind] = line.number
            invoice.cells.update(cells)

    def _flatten(
        self, invoice: _Invoice, numbers: list[int], rows: list[list[str]], faults: list[tuple[int, Fault]]
    ) -> None:
        key = key_named(self._profile, invoice.cells)
        aside = invoice.faults
        head = invoice.head
        if invoice.broken is not None:
            lost = f"belongs to the invoice of row {head.number}, which cannot be read"
            aside = [*aside, head._replace(fault=invoice.broken)]
            records = [*invoice.lines, *(each for group in invoice.splits.values() for each in group)]
            aside += [line._replace(fault=lost) for line, _ in records]
        elif not invoice.lines:
            aside = [*aside, head._replace(fault="begins an invoice without lines")]
        else:
            for line, cells in invoice.lines:
                splits = invoice.splits.get(line.number)
                if splits and (fault := self._split_fault(cells, splits)) is not None:
                    aside = [*aside, line._replace(fault=fault)]
                for number, own in [(each.number, {**cells, **more}) for each, more in splits or [(line, {})]]:
                    numbers.append(number)
                    rows.append([own.get(name) or invoice.cells.get(name, "") for name in self._names])
        faults += [(line.number, _fault(line, key)) for line in sorted(aside, key=lambda each: each.number)]

    def _split_fault(self, line: dict[str, str], splits: list[tuple[_Line, dict[str, str]]]) -> str | None:
        """Why the parts of a line are not the line; amounts that are no numbers are told of elsewhere."""
        total, parts = ControlTotal(self._profile.values), ControlTotal(self._profile.values)
        total.add(line.get(self._amount, ""))
        for _, cells in splits:
            parts.add(cells.get(self._amount, ""))
        if total.proven and parts.proven and total.value != parts.value:
            return f"is of {total.value:f}, its splits add up to {parts.value:f}"
        return None

    def _refused(self, text: str) -> FileRejected:
        return FileRejected("FILE_SCHEMA", f"{self._file_name}: {text}")


class _Controls:
    """What the trailer speaks of."""

    def __init__(self, profile: Profile) -> None:
        end = profile.file.end
        self._end = end if isinstance(end, Trailer) else None
        self._counts: Counter[str] = Counter()
        self._totals = {cell: ControlTotal(profile.values) for cell in (self._end.totals if self._end else {})}

    def add(self, line: _Line, record: Record | None) -> None:
        """Count a record in, also one that is set aside: the sender counted it."""
        self._counts[line.kind] += 1
        for cell, column in (self._end.totals if self._end else {}).items():
            if record is None or line.fault is not None:
                self._totals[cell].proven = False
            elif column in record.cells:
                self._totals[cell].add(line.cells[record.cells.index(column)])

    def compare(self, trailer: _Line, record: Record, digest: str, file_name: str) -> None:
        """Raises FileRejected when the trailer says anything else."""
        if self._end is None:
            return
        stated = dict(zip(record.cells, trailer.cells, strict=True))
        where = f"{file_name}: row {trailer.number}, the trailer's"
        for cell, kinds in self._end.counts.items():
            counted = sum(self._counts[kind] for kind in kinds)
            refuse_other_count(stated[cell], counted, f"{where} {cell} ({'+'.join(kinds)})")
        for cell, total in self._totals.items():
            total.refuse_other(stated[cell], f"{where} {cell}")
        if self._end.sha256 is not None and stated[self._end.sha256].lower() != digest:
            raise FileRejected(
                "FILE_SCHEMA",
                f"{where} {self._end.sha256} is {shown(stated[self._end.sha256])}, the bytes before "
                f"it have {digest}; the file was changed on the way: have it sent again",
            )


def _named(line: _Line, record: Record) -> dict[str, str]:
    """Cells by column; those of a broken record as far as they are there."""
    cells = {name: cell for name, cell in zip(record.cells, line.cells, strict=False) if name != NOT_USED and cell}
    return {**record.constants, **cells}


def _fault(line: _Line, key: tuple[Key, ...]) -> Fault:
    return Fault(without_end(line.raw)[:RAW_KEPT], line.fault or "", key)


def _block(numbers: list[int], rows: list[list[str]], faults: list[tuple[int, Fault]]) -> Block:
    printable = "".join(cell for row in rows for cell in row).isprintable()
    return Block(numbers, rows, faults, printable=printable)
