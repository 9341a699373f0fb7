"""Two files, invoices and lines, joined to flat rows in memory that does not grow with them.

Belongs here: which line belongs to which row of the invoices, and what belongs to none. Does not: where the files are
(``deliveries``), where their rows begin (``rows``). Rows of the invoices wait on disk; their keys stay in memory.

Row numbers are those of the file of lines. A row of the invoices that is set aside is counted after them, so that no
number is used twice; its text says where it stands.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from tempfile import SpooledTemporaryFile
from typing import NamedTuple

import msgspec

from mlc_dagster.ledger.parts import PartRead
from mlc_dagster.stampli.parsing.control_totals import ControlTotal, refuse_other_count
from mlc_dagster.stampli.parsing.deliveries import Delivery, Member
from mlc_dagster.stampli.parsing.naming import Key, cells_named, key_named
from mlc_dagster.stampli.parsing.parsed import FileRejected, ParsedInvoice, QuarantinedRow
from mlc_dagster.stampli.parsing.part_rows import Joined, PartTally
from mlc_dagster.stampli.parsing.profile import Profile, column_name
from mlc_dagster.stampli.parsing.profile_rows import LINE_FIELDS, Part, Split
from mlc_dagster.stampli.parsing.rows import Block, Fault, RowSplitter
from mlc_dagster.stampli.reasons import shown

_SPOOLED = 16 * 1024 * 1024
"""Bytes of invoice rows that are kept in memory."""
_HEAVY = 1024 * 1024
"""Characters of different invoice rows after which a block ends: short lines may belong to very long invoice rows."""
_KEY_LENGTH = 100


class _Columns(NamedTuple):
    """One file: its columns and where those are that join the two."""

    member: Member
    part: Part
    names: list[str]
    join: list[int]

    def joined(self, cells: Sequence[str]) -> Key:
        return tuple(cells[at] for at in self.join)

    def usable(self, cells: Sequence[str]) -> bool:
        return all(cell and len(cell) <= _KEY_LENGTH and cell.isprintable() for cell in self.joined(cells))


class _Invoice(msgspec.Struct, array_like=True):
    """A row of the invoices, as it waits."""

    line: int
    cells: list[str]
    printable: bool


class _Invoices:
    """Rows of the invoices by what joins them."""

    def __init__(self) -> None:
        self._file: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(max_size=_SPOOLED)  # noqa: SIM115 (closed by ``close``)
        self._places: dict[Key, tuple[int, int]] = {}
        self._end = 0
        self.unused: dict[Key, None] = {}
        """Rows without a line that could be read."""
        self.named: set[Key] = set()
        """Those that a line names which could not be read."""

    def close(self) -> None:
        self._file.close()

    def add(self, key: Key, invoice: _Invoice) -> bool:
        """False, and nothing is kept, when there is a row with this key."""
        if key in self._places:
            return False
        packed = msgspec.msgpack.encode(invoice)
        self._file.seek(self._end)
        self._file.write(packed)
        self._places[key] = (self._end, len(packed))
        self._end += len(packed)
        self.unused[key] = None
        return True

    def get(self, key: Key) -> _Invoice | None:
        place = self._places.get(key)
        if place is None:
            return None
        self._file.seek(place[0])
        return msgspec.msgpack.decode(self._file.read(place[1]), type=_Invoice)


class SplitRows:
    """The rows of one delivery; see ``row_sources.RowSource``."""

    def __init__(self, delivery: Delivery, profile: Profile, rules: Split, *, careful: bool = False) -> None:
        self._delivery = delivery
        self._profile = profile
        self._rules = rules
        self._careful = careful
        self._sources: tuple[_Columns, _Columns] | None = None
        self._joined = Joined()
        self._tally: PartTally | None = None

    def header(self) -> list[str] | Fault | None:
        invoices = self._columns(self._rules.invoices)
        lines = self._columns(self._rules.lines)
        self._sources = invoices, lines
        self._tally = PartTally(invoices.member, lines.member)
        own = [name for at, name in enumerate(lines.names) if at not in lines.join]
        return [*invoices.names, *own, *self._delivery.contents.columns]

    def _columns(self, part: Part) -> _Columns:
        member = self._delivery.member(part)
        with self._delivery.open(member) as stream:
            header = RowSplitter(stream, self._profile.text, careful=self._careful).header()
        if header is None:
            raise FileRejected("FILE_SCHEMA", f"{member.name}: is empty; a header row is expected, send the file again")
        if isinstance(header, Fault):
            raise FileRejected("FILE_SCHEMA", f"{member.name}: the header row {header.text}")
        names = [column_name(cell) for cell in header]
        wanted = [*self._rules.join, *([part.total] if part.total else [])]
        if missing := [name for name in wanted if names.count(name) != 1]:
            raise FileRejected(
                "FILE_SCHEMA", f"{member.name}: needs one column {', '.join(map(repr, missing))}; correct the export"
            )
        return _Columns(member, part, names, [names.index(name) for name in self._rules.join])

    def row_of(self, line: int, column: str) -> int:
        del column  # Numbers are those of the file of lines; ``place`` tells the row in the other file.
        return line

    def place(self, line: int, column: str | None) -> str:
        if self._sources is None:
            return f"row {line}"
        invoices, lines = self._sources
        if column in self._delivery.contents.columns:
            return f"the manifest, column {column}"
        declared = self._profile.columns.get(column or "")
        if column in invoices.names and not (declared and declared.field in LINE_FIELDS):
            found = self._joined.invoice_row(line)
            row = "" if found is None else f" row {found}"
            return f"{invoices.member.name}{row}, column {column} (its line: {lines.member.name} row {line})"
        return f"{lines.member.name} row {line}" + (f", column {column}" if column else "")

    def blocks(
        self, width: int, plausible: Callable[[Sequence[str]], bool], *, leading: int | None = None
    ) -> Iterator[Block]:
        del width, plausible, leading  # Each of the two files has its own width, and its own idea of a row.
        assert self._sources is not None, "header comes first"  # noqa: S101
        invoices, lines = self._sources
        self._joined = Joined()
        waiting = _Invoices()
        try:
            aside = self._read_invoices(invoices, waiting)
            last = 0
            for block in self._join(invoices, lines, waiting):
                last = max(last, *block.lines, *(line for line, _ in block.faults), 0)
                yield block
            self._joined.last_line = last
            without = [
                (found.line, self._without_lines(invoices, found, named=key in waiting.named))
                for key in waiting.unused
                if (found := waiting.get(key)) is not None
            ]
            for line, fault in sorted([*aside, *without], key=lambda each: each[0]):
                yield Block([], [], [(last + line, fault)], printable=False)
        finally:
            waiting.close()

    def _blocks_of(self, columns: _Columns) -> Iterator[Block]:
        """Rows of one file; at the end its counts are compared with the manifest's."""
        total = ControlTotal(self._profile.values)
        at = None if columns.part.total is None else columns.names.index(columns.part.total)
        counted = 0
        with self._delivery.open(columns.member) as stream:
            splitter = RowSplitter(stream, self._profile.text, careful=self._careful)
            splitter.header()
            for block in splitter.blocks(len(columns.names), columns.usable):
                counted += len(block.rows) + len(block.faults)
                total.proven = total.proven and not block.faults
                if at is not None:
                    for row in block.rows:
                        total.add(row[at])
                yield block
        member = columns.member
        self._joined.counted[member.name] = counted
        if member.records is not None:
            refuse_other_count(member.records, counted, f"{member.name}: the manifest's number of rows")
        if member.total is not None and at is not None:
            total.refuse_other(member.total, f"{member.name}: the manifest's sum of {columns.part.total}")

    def _read_invoices(self, invoices: _Columns, waiting: _Invoices) -> list[tuple[int, Fault]]:
        """Put the rows of the invoices where they are found again; returns those that are set aside."""
        aside: list[tuple[int, Fault]] = []
        for block in self._blocks_of(invoices):
            aside += [(line, self._set_aside(invoices, line, fault)) for line, fault in block.faults]
            for line, cells in zip(block.lines, block.rows, strict=True):
                if not invoices.usable(cells):
                    text = f"has no usable {' or '.join(self._rules.join)}"
                    aside.append((line, self._own_fault(invoices, line, cells, text, ())))
                    continue
                printable = block.printable or "".join(cells).isprintable()
                if not waiting.add(invoices.joined(cells), _Invoice(line, cells, printable)):
                    text = f"is a second row for {' '.join(map(shown, invoices.joined(cells)))}"
                    aside.append((line, self._own_fault(invoices, line, cells, text, self._key(invoices, cells))))
            if len(aside) > self._rules.max_broken:
                raise FileRejected(
                    "FILE_SCHEMA", f"{invoices.member.name}: more than {self._rules.max_broken} rows cannot be read"
                )
        return aside

    def _join(self, invoices: _Columns, lines: _Columns, waiting: _Invoices) -> Iterator[Block]:
        own = [at for at in range(len(lines.names)) if at not in lines.join]
        stated = list(self._delivery.contents.columns.values())
        stated_visible = "".join(stated).isprintable()
        last: Key = ()
        invoice: _Invoice | None = None
        for block in self._blocks_of(lines):
            numbers: list[int] = []
            rows: list[list[str]] = []
            faults = [(line, self._named_by_line(fault, invoices, lines, waiting)) for line, fault in block.faults]
            printable, weight = block.printable and stated_visible, 0
            for line, cells in zip(block.lines, block.rows, strict=True):
                key = lines.joined(cells)
                if key != last:
                    if weight > _HEAVY:
                        yield Block(numbers, rows, faults, printable=printable)
                        numbers, rows, faults = [], [], []
                        printable, weight = block.printable and stated_visible, 0
                    last, invoice = key, waiting.get(key) if lines.usable(cells) else None
                    waiting.unused.pop(key, None)
                    if invoice is not None:
                        self._joined.firsts.append(line)
                        self._joined.invoice_rows.append(invoice.line)
                    weight += sum(map(len, invoice.cells)) if invoice is not None else 0
                if invoice is None:
                    text = f"belongs to {' '.join(map(shown, key)) or 'nothing'}, which {invoices.member.name} lacks"
                    faults.append((line, Fault(self._raw(cells), text, ())))
                    continue
                printable = printable and invoice.printable
                numbers.append(line)
                rows.append([*invoice.cells, *(cells[at] for at in own), *stated])
            yield Block(numbers, rows, faults, printable=printable)

    def _named_by_line(self, fault: Fault, invoices: _Columns, lines: _Columns, waiting: _Invoices) -> Fault:
        keys = cells_named(fault.raw, lines.join, len(lines.names), self._profile.text)
        found = [invoice for key in keys if (invoice := waiting.get(key)) is not None]
        waiting.named.update(keys)
        names = chain.from_iterable(self._key(invoices, invoice.cells) for invoice in found)
        return Fault(fault.raw, fault.text, tuple(dict.fromkeys(names)))

    def _key(self, invoices: _Columns, cells: Sequence[str]) -> tuple[Key, ...]:
        named = {**dict(zip(invoices.names, cells, strict=True)), **self._delivery.contents.columns}
        return key_named(self._profile, named)

    def _set_aside(self, invoices: _Columns, line: int, fault: Fault) -> Fault:
        """A row that is none; whether it names an invoice is told from its bytes, by this file's own columns."""
        columns = [(name, column.field, column.aliases) for name, column in self._profile.columns.items()]
        here = [
            each
            for field in self._profile.rows.key
            for name, filled, aliases in columns
            for each in (name, *aliases)
            if filled == field and each in invoices.names
        ]
        found: dict[Key, None] = {}
        places = [invoices.names.index(name) for name in here]
        for cells in cells_named(fault.raw, places, len(invoices.names), self._profile.text):
            named = {**dict(zip(here, cells, strict=True)), **self._delivery.contents.columns}
            found.update(dict.fromkeys(key_named(self._profile, named)))
        return Fault(fault.raw, f"({invoices.member.name} row {line}) {fault.text}", tuple(found))

    def _own_fault(
        self, invoices: _Columns, line: int, cells: Sequence[str], text: str, names: tuple[Key, ...]
    ) -> Fault:
        return Fault(self._raw(cells), f"({invoices.member.name} row {line}) {text}", names)

    def _without_lines(self, invoices: _Columns, found: _Invoice, *, named: bool) -> Fault:
        said = "has only lines that cannot be read" if named else "has no line"
        text = f"{said} in {self._sources[1].member.name}" if self._sources else said
        return self._own_fault(invoices, found.line, found.cells, text, self._key(invoices, found.cells))

    @property
    def delivery(self) -> "SplitRows":
        """Itself: it reads several files, and counts them apart."""
        return self

    def note(self, found: ParsedInvoice | QuarantinedRow) -> None:
        """Count a result of the reading for both files; each is to be given once, as it comes."""
        if self._tally is not None:
            self._tally.add(found, self._joined)

    def parts(self) -> tuple[PartRead, ...]:
        """What was counted in each of the two files, once everything was read and noted."""
        return () if self._tally is None else self._tally.counts(self._joined)

    def _raw(self, cells: Sequence[str]) -> bytes:
        return self._profile.text.delimiter.join(cells).encode(self._profile.text.encoding, "replace")
