"""All rows of one invoice to one ParsedInvoice.

Belongs here: converting cells by the reading plan, comparing the repeated columns of the invoice, and the content of
what cannot be built. Does not: finding the rows (``parse``) and judging the invoice (``checks``).
Every fault of every row is reported, not only the first; an invoice with a fault is not built.
"""

import hashlib
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple, cast

import msgspec

from mlc_dagster.money import minor_units
from mlc_dagster.stampli.model import Invoice, InvoiceLine, content_json
from mlc_dagster.stampli.parsing.cells import CellFault, Convert, decimal_converter, money_converter
from mlc_dagster.stampli.parsing.columns import LINE_ARGUMENTS, NOT_IN_MODEL, Header, Slot
from mlc_dagster.stampli.parsing.parsed import ParsedInvoice
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster.stampli.parsing.rows import Block
from mlc_dagster.stampli.reasons import Problem, problem, shown

_DIMENSIONS = LINE_ARGUMENTS.index("dimensions")
_CUSTOM = LINE_ARGUMENTS.index("custom")
_PLANS = 512
"""Plans kept; a file of garbage must not fill the memory with currencies."""

_RAW = msgspec.json.Encoder(order="sorted")


class Piece(msgspec.Struct):
    """Rows of one invoice, in the order of the file."""

    lines: list[int]
    """Line number of each row."""
    rows: list[list[str]]
    printable: bool
    """No cell holds a control or invisible character."""

    def extend(self, block: Block, start: int, end: int) -> None:
        """Add rows ``start`` to ``end`` of a block."""
        self.lines.extend(block.lines[start:end])
        self.rows.extend(block.rows[start:end])
        self.printable = self.printable and block.printable


_Steps = list[tuple[int, Any, int, Convert | None, bool]]
"""Position of the cell, where its value goes, characters allowed, conversion, required."""


class _Plan(NamedTuple):
    """Conversions for one currency: what depends on it is settled once."""

    header: _Steps
    header_custom: _Steps
    line: _Steps
    dimensions: _Steps
    custom: _Steps


class Assembler:
    """Builds the invoices of one file."""

    def __init__(self, header: Header, profile: Profile) -> None:
        self._header = header
        self._profile = profile
        self._nulls = frozenset(profile.values.nulls) - {""}
        self._slots = {slot.position: slot for slot in (*header.header, *header.line)}
        self._header_positions = [slot.position for slot in header.header]
        self._header_cells = itemgetter(*self._header_positions)
        self._plans: dict[tuple[str, bool], _Plan] = {}
        positions = {slot.field: slot.position for slot in header.header if slot.target == "field"}
        self._number, self._vendor = positions["number"], positions["vendor_id"]
        self._currency, self._amount = positions["currency"], positions["amount"]
        # Rare columns, looked at only when a file has them.
        self._odd = bool(header.forbidden or header.unnamed)

    def assemble(self, source_id: str, piece: Piece, faults: Sequence[tuple[int, str]]) -> ParsedInvoice:
        """The invoice of these rows.

        Args:
            source_id: its key without the company.
            piece: all its rows, at least one.
            faults: rows set aside that name this invoice: line number and what is wrong.
        """
        if self._nulls:
            nulls = self._nulls
            rows = [["" if cell in nulls else cell for cell in row] for row in piece.rows]
            piece = Piece(piece.lines, rows, printable=piece.printable)
        first = piece.rows[0]
        currency = first[self._currency]
        plan = self._plans.get((currency, piece.printable)) or self._new_plan(currency, printable=piece.printable)
        problems = [problem("ROW_MALFORMED", row=line, value=text) for line, text in faults]
        if len(piece.rows) > 1:
            self._compare_headers(piece, problems)
        if self._odd:
            self._refuse_odd_columns(piece, problems)
        values: dict[str, Any] = {}
        self._convert(plan.header, first, values, piece.lines[0], problems)
        if plan.header_custom:
            values["custom"] = self._named(plan.header_custom, first, piece.lines[0], problems)
        lines = self._lines(plan, piece, problems)
        if problems:
            invoice, content = None, self._raw_content(piece.rows)
        else:
            invoice = Invoice(source_id=source_id, lines=lines, **values)
            content = content_json(invoice)
        return ParsedInvoice(
            company_id=first[self._header.key[0]],
            source_id=source_id,
            rows=tuple(piece.lines),
            number=first[self._number],
            vendor_id=first[self._vendor],
            currency=currency or None,
            amount_text=first[self._amount] or None,
            revision=values.get("revision", 1),
            approved_at=values.get("approved_at"),
            invoice=invoice,
            content=content,
            digest=hashlib.sha256(content).hexdigest(),
            problems=tuple(problems),
        )

    def money(self, currency: str) -> Convert:
        """The conversion of amounts in this currency."""
        units = minor_units(currency)
        if units is None:
            # An unknown currency is refused by the checks; until then any number of decimals is read.
            return decimal_converter(self._profile.values)
        return money_converter(self._profile.values, units, currency)

    def _new_plan(self, currency: str, *, printable: bool) -> _Plan:
        money = self.money(currency)

        def step(slot: Slot, goes: int | str) -> tuple[int, Any, int, Convert | None, bool]:
            convert = money if slot.money else slot.trusting if printable else slot.careful
            return slot.position, goes, slot.limit, convert, slot.required

        plan = _Plan([], [], [], [], [])
        for slot in self._header.header:
            if slot.target == "custom":
                plan.header_custom.append(step(slot, slot.field))
            elif slot.field not in NOT_IN_MODEL:
                plan.header.append(step(slot, slot.field))
        for slot in self._header.line:
            if slot.target == "field":
                plan.line.append(step(slot, LINE_ARGUMENTS.index(slot.field)))
            else:
                (plan.dimensions if slot.target == "dimensions" else plan.custom).append(step(slot, slot.field))
        if len(self._plans) >= _PLANS:
            self._plans.clear()
        self._plans[currency, printable] = plan
        return plan

    def _convert(self, steps: _Steps, cells: list[str], values: Any, line: int, problems: list[Problem]) -> None:
        """Put the value of each filled cell where its step says; ``values`` is a dict by name or a list by index."""
        for position, goes, limit, convert, required in steps:
            cell = cells[position]
            if cell:
                if len(cell) > limit:
                    remedy = f"it has {len(cell)} characters, {limit} are allowed"
                    problems.append(self._cell_problem(position, cell, line, "LENGTH", remedy))
                elif convert is None:
                    values[goes] = cell
                else:
                    try:
                        values[goes] = convert(cell)
                    except CellFault as fault:
                        problems.append(self._cell_problem(position, cell, line, fault.reason, fault.remedy))
            elif required:
                problems.append(problem("FIELD_MISSING", field=self._slots[position].column, row=line))

    def _named(self, steps: _Steps, cells: list[str], line: int, problems: list[Problem]) -> dict[str, str]:
        found: dict[str, str] = {}
        self._convert(steps, cells, found, line, problems)
        return found

    def _lines(self, plan: _Plan, piece: Piece, problems: list[Problem]) -> tuple[InvoiceLine, ...]:
        lines: list[InvoiceLine] = []
        blank: list[Any] = [None] * len(LINE_ARGUMENTS)
        convert, steps, dimensions, custom = self._convert, plan.line, plan.dimensions, plan.custom
        last, ascending = 0, True
        for line, cells in zip(piece.lines, piece.rows, strict=True):
            arguments = blank.copy()
            arguments[_DIMENSIONS], arguments[_CUSTOM] = {}, {}
            convert(steps, cells, arguments, line, problems)
            if dimensions:
                convert(dimensions, cells, arguments[_DIMENSIONS], line, problems)
            if custom:
                convert(custom, cells, arguments[_CUSTOM], line, problems)
            if not problems:
                number = cast("int", arguments[0])
                ascending, last = ascending and number > last, number
                lines.append(InvoiceLine(*arguments))
        if not ascending:
            # Content does not depend on the order of the rows, not even where a line number is used twice.
            lines.sort(key=lambda line: (line.number, _RAW.encode(line)))
        return tuple(lines)

    def _cell_problem(self, position: int, cell: str, line: int, reason: str, remedy: str) -> Problem:
        return problem(reason, field=self._slots[position].column, value=cell, remedy=remedy, row=line)

    def _compare_headers(self, piece: Piece, problems: list[Problem]) -> None:
        of = self._header_cells
        heads = list(map(of, piece.rows))
        first = heads[0]
        if heads.count(first) == len(heads):
            return
        told: set[int] = set()
        for line, cells in zip(piece.lines, piece.rows, strict=True):
            if of(cells) == first:
                continue
            for position in self._header_positions:
                one, other = piece.rows[0][position], cells[position]
                if one != other and position not in told:
                    told.add(position)
                    value = f"{shown(one)!r} in row {piece.lines[0]}, {shown(other)!r} in row {line}"
                    column = self._slots[position].column
                    problems.append(problem("HEADER_CONFLICT", field=column, value=value, row=line))

    def _refuse_odd_columns(self, piece: Piece, problems: list[Problem]) -> None:
        rows = list(zip(piece.lines, piece.rows, strict=True))
        for position, column in self._header.forbidden:
            line = next((line for line, cells in rows if cells[position]), None)
            if line is not None:
                # The value itself goes nowhere, not even into the message.
                problems.append(problem("BANK_DATA_PRESENT", field=column, row=line))
        for position in self._header.unnamed:
            for line, cells in rows:
                if cells[position]:
                    place = f"column {position + 1}"
                    remedy = "the header names no column here; the cells of the row may have moved"
                    problems.append(
                        problem("FIELD_INVALID", field=place, value=cells[position], remedy=remedy, row=line)
                    )

    def _raw_content(self, rows: list[list[str]]) -> bytes:
        """Canonical JSON of the used cells, independent of the order of rows and columns; no bank data."""
        used = [(position, f"{slot.target}.{slot.field}") for position, slot in self._slots.items()]
        encoded = sorted(_RAW.encode({name: cells[at] for at, name in used if cells[at]}) for cells in rows)
        return b'{"rows":[' + b",".join(encoded) + b"]}"
