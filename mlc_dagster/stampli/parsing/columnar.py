"""Invoices of a whole block at once, column by column: the fast way to what ``assembly`` does cell by cell.

Belongs here: speed. Does not: explaining. An invoice that is not plainly right is left out, and ``assembly`` reads it
with care and says what is wrong. Where there is an invoice, it is the one that ``assembly`` would have built.
"""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation
from itertools import accumulate, chain, compress, count, pairwise, repeat
from operator import ge, itemgetter, sub
from typing import Any, NamedTuple

from mlc_dagster.money import minor_units
from mlc_dagster.stampli.model import Invoice, InvoiceLine, contents_json
from mlc_dagster.stampli.parsing.cells import INTEGER_DIGITS, SCALE, CellFault, Convert, amount_pattern, number_pattern
from mlc_dagster.stampli.parsing.columns import LINE_ARGUMENTS, NOT_IN_MODEL, Header, Slot
from mlc_dagster.stampli.parsing.parsed import ParsedInvoice
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster.stampli.parsing.row_runs import Column, Runs
from mlc_dagster.stampli.parsing.rows import Block

_INVOICE_ARGUMENTS = {field: at for at, field in enumerate(Invoice.__struct_fields__)}
_LINE_ARGUMENTS = {field: at for at, field in enumerate(LINE_ARGUMENTS)}
_READ = Context(prec=INTEGER_DIGITS + SCALE, traps=[Inexact, InvalidOperation]).create_decimal
"""As Decimal reads a number that fits the patterns, in less time."""
_FEW = 4
"""Numbers that each stand so often in a block on average are converted once each."""


class _Columns(NamedTuple):
    """The cells of all chosen invoices, or of all their lines, by column."""

    cells: Sequence[Column]
    offset: int
    """Position of the first column."""
    currencies: Sequence[str]
    """Of each invoice, or line; when all have the same, at least once."""
    longest: int
    """Characters that no cell has more of."""
    bad: set[int]
    """Invoices, or lines, that are not plainly right."""


class ColumnReader:
    """Reads the invoices of one file's blocks."""

    def __init__(self, header: Header, profile: Profile, money: Callable[[str], Convert]) -> None:
        self._money = money
        self._values = profile.values
        self._nulls = frozenset(profile.values.nulls) - {""}
        self._number = _column_pattern(number_pattern(profile.values))
        self._amounts_of: dict[int, re.Pattern[str]] = {}
        self._cells_of_invoice = itemgetter(*(slot.position for slot in header.header))
        self._last = max(slot.position for slot in header.header)
        self._first = min(slot.position for slot in header.line)
        places = {slot.field: slot.position for slot in header.header if slot.target == "field"}
        self._currency = places["currency"]
        self._told = header.key[0], places["number"], places["vendor_id"], places["currency"], places["amount"]
        # Bank data, and cells that no column name explains: ``assembly`` says what is wrong with them.
        self._to_be_empty = [*(position for position, _ in header.forbidden), *header.unnamed]
        self._invoice = [slot for slot in header.header if slot.target == "field" and slot.field not in NOT_IN_MODEL]
        self._line = [slot for slot in header.line if slot.target == "field"]
        self._invoice_custom = [slot for slot in header.header if slot.target == "custom"]
        self._dimensions = [slot for slot in header.line if slot.target == "dimensions"]
        self._line_custom = [slot for slot in header.line if slot.target == "custom"]

    def runs(self, block: Block) -> Runs:
        """The rows of the block as runs that agree in all columns of the invoice."""
        rows = block.rows
        if isinstance(rows, Runs) and self._last < rows.offset <= self._first:
            return rows
        return Runs.by_cells(rows, self._cells_of_invoice)

    def invoices(
        self, block: Block, runs: Runs, chosen: Sequence[int], source_ids: Sequence[str]
    ) -> dict[int, ParsedInvoice]:
        """The invoices that are plainly right, by the index of their run.

        Args:
            block: where they stand.
            runs: of the block.
            chosen: runs, each of them all the rows of an invoice and without invisible characters.
            source_ids: of the invoices chosen.
        """
        if not chosen:
            return {}
        ends = runs.ends()
        starts, ends = [runs.starts[run] for run in chosen], [ends[run] for run in chosen]
        sizes = list(map(sub, ends, starts))
        cells = self._picked(runs.heads, chosen)
        heads = _Columns(cells, 0, cells[self._currency], runs.longest[0], set())
        one = len(set(heads.currencies)) == 1
        of_lines = heads.currencies if one else list(chain.from_iterable(map(repeat, heads.currencies, sizes)))
        rows = range(starts[0], ends[-1])
        if len(rows) > sum(sizes):
            rows = list(chain.from_iterable(map(range, starts, ends)))
        lines = _Columns(self._picked(runs.tails, rows), runs.offset, of_lines, runs.longest[1], set())
        for position in self._to_be_empty:
            part = heads if position < runs.offset else lines
            part.bad.update(at for at, cell in enumerate(part.cells[position - part.offset]) if cell)
        arguments = self._invoice_arguments(heads, source_ids)
        arguments[_INVOICE_ARGUMENTS["lines"]] = self._lines(lines, [0, *accumulate(sizes)], heads.bad)
        good = [at not in heads.bad for at in range(len(chosen))] if heads.bad else None

        def kept(values: Iterable[Any]) -> Iterable[Any]:
            return values if good is None else compress(values, good)

        invoices = list(map(Invoice, *map(kept, _positional(arguments))))
        contents = contents_json(invoices)
        company, number, vendor, currency, amount = (kept(heads.cells[position]) for position in self._told)
        parsed = map(
            ParsedInvoice,
            company,
            kept(source_ids),
            kept(map(tuple(block.lines).__getitem__, map(slice, starts, ends))),
            number,
            vendor,
            currency,
            amount,
            kept(arguments[_INVOICE_ARGUMENTS["revision"]] or repeat(1)),
            kept(arguments[_INVOICE_ARGUMENTS["approved_at"]] or repeat(None)),
            invoices,
            contents,
            [hashlib.sha256(content).hexdigest() for content in contents],
            repeat(()),
        )
        return dict(zip(kept(chosen), parsed, strict=True))

    def _picked(self, columns: Sequence[Column], places: Sequence[int]) -> Sequence[Column]:
        """The columns with these cells only; what stands for nothing is empty."""
        start, end = places[0], places[-1] + 1
        if len(places) == end - start:
            columns = [column[start:end] for column in columns]
        else:
            columns = [[column[at] for at in places] for column in columns]
        nulls = self._nulls
        if nulls:
            columns = [["" if cell in nulls else cell for cell in column] for column in columns]
        return columns

    def _invoice_arguments(self, heads: _Columns, source_ids: Sequence[str]) -> list[Iterable[Any] | None]:
        arguments: list[Iterable[Any] | None] = [None] * len(_INVOICE_ARGUMENTS)
        for slot in self._invoice:
            arguments[_INVOICE_ARGUMENTS[slot.field]] = self._column(slot, heads)
        arguments[_INVOICE_ARGUMENTS["source_id"]] = source_ids
        at = _INVOICE_ARGUMENTS["revision"]
        # As the model has it: an invoice without a revision is the first.
        arguments[at] = [1 if each is None else each for each in arguments[at] or repeat(None, len(source_ids))]
        arguments[_INVOICE_ARGUMENTS["custom"]] = self._by_name(self._invoice_custom, heads)
        return arguments

    def _lines(self, lines: _Columns, begins: Sequence[int], bad: set[int]) -> list[tuple[InvoiceLine, ...]]:
        """Lines by invoice; adds to ``bad`` the invoices whose lines are not plainly right."""
        rows = begins[-1]
        arguments: list[Iterable[Any] | None] = [None] * len(LINE_ARGUMENTS)
        for slot in self._line:
            arguments[_LINE_ARGUMENTS[slot.field]] = self._column(slot, lines)
        dimensions = self._by_name(self._dimensions, lines)
        arguments[_LINE_ARGUMENTS["dimensions"]] = [{} for _ in range(rows)] if dimensions is None else dimensions
        arguments[_LINE_ARGUMENTS["custom"]] = self._by_name(self._line_custom, lines)
        read = tuple(map(InvoiceLine, *_positional(arguments)))
        numbers = [line.number for line in read]
        if lines.bad:
            bad.update(bisect_right(begins, row) - 1 for row in lines.bad)
            numbers = [0 if row in lines.bad else number for row, number in enumerate(numbers)]
        # Where a number is not above the one before it, an invoice must begin.
        falls = compress(count(1), map(ge, numbers, numbers[1:]))
        bad.update(bisect_right(begins, row) - 1 for row in set(falls).difference(begins))
        return [read[begin:end] for begin, end in pairwise(begins)]

    def _column(self, slot: Slot, part: _Columns) -> Sequence[Any] | None:
        """Values of the column; None: all its cells are empty."""
        cells, bad = part.cells[slot.position - part.offset], part.bad
        filled = all(cells)
        if not filled:
            if slot.required:
                bad.update(at for at, cell in enumerate(cells) if not cell)
            if not any(cells):
                return None
        if slot.limit < part.longest:
            _mark_long(cells, slot.limit, bad)
        if slot.money:
            return self._amounts(cells, part)
        convert = slot.trusting
        if convert is None:
            return cells if filled else [cell or None for cell in cells]
        if slot.number and len(set(cells)) * _FEW > len(cells):
            return self._numbers(convert, cells, bad)
        try:
            return list(map(convert, cells)) if filled else [convert(cell) if cell else None for cell in cells]
        except CellFault:
            return _one_by_one(repeat(convert), cells, bad)

    def _amounts(self, cells: Column, part: _Columns) -> Sequence[Decimal | None]:
        currencies = part.currencies if len(set(part.currencies)) > 1 else [part.currencies[0]] * len(cells)
        units = minor_units(currencies[0]) if currencies is not part.currencies else None
        if units is not None:
            pattern = self._amounts_of.get(units)
            if pattern is None:
                pattern = self._amounts_of[units] = _column_pattern(amount_pattern(self._values, units))
            # One look at all cells, each with exactly the decimals of the currency.
            joined = "\n".join(cells)
            if pattern.fullmatch(joined) is not None:
                return _decimals(self._with_points(cells, joined), joined)
        converters = {currency: self._money(currency) for currency in set(currencies)}
        return _one_by_one((converters[currency] for currency in currencies), cells, part.bad)

    def _numbers(self, convert: Convert, cells: Column, bad: set[int]) -> Sequence[Decimal | None]:
        joined = "\n".join(cells)
        if self._number.fullmatch(joined) is None:
            return _one_by_one(repeat(convert), cells, bad)
        # Trailing zeros are dropped: 5.50 and 5.5 are the same content.
        short = [
            number.rstrip("0").rstrip(".") if number[-1:] == "0" and "." in number else number
            for number in self._with_points(cells, joined)
        ]
        return _decimals(short, joined)

    def _with_points(self, cells: Column, joined: str) -> Sequence[str]:
        """The cells with a point as decimal mark; ``joined``: the same, one a line."""
        return cells if self._values.decimal_mark == "." else joined.replace(",", ".").split("\n")

    def _by_name(self, slots: Sequence[Slot], part: _Columns) -> Sequence[dict[str, str]] | None:
        """Filled cells by the names of their columns; None: there are none."""
        used = [(slot, part.cells[slot.position - part.offset]) for slot in slots]
        used = [(slot, cells) for slot, cells in used if any(cells)]
        for slot, cells in used:
            if slot.limit < part.longest:
                _mark_long(cells, slot.limit, part.bad)
        if not used:
            return None
        if len(used) == 1:
            ((slot, cells),) = used
            # One for all lines that say the same: nobody changes what a line holds.
            named = {cell: {slot.field: cell} if cell else {} for cell in set(cells)}
            return [named[cell] for cell in cells]
        names = [slot.field for slot, _ in used]
        return [
            {name: cell for name, cell in zip(names, cells, strict=True) if cell}
            for cells in zip(*(cells for _, cells in used), strict=True)
        ]


def _column_pattern(number: str) -> re.Pattern[str]:
    """Cells of a column, one a line, each empty or like ``number``; no cell holds a line end, they are printable."""
    return re.compile(rf"(?:(?:{number})?\n)*+(?:{number})?")


def _positional(arguments: list[Iterable[Any] | None]) -> list[Iterable[Any]]:
    """What a constructor needs: the model's own defaults behind the last argument given, None for others."""
    given = max(at for at, each in enumerate(arguments) if each is not None)
    return [repeat(None) if each is None else each for each in arguments[: given + 1]]


def _decimals(numbers: Sequence[str], joined: str) -> Sequence[Decimal | None]:
    """Values of numbers, None of empty ones; a zero loses its sign. ``joined``: their cells, one a line."""
    values = list(map(_READ, numbers)) if all(numbers) else [_READ(each) if each else None for each in numbers]
    # No number without these two characters is a zero with a sign.
    return [value if value or value is None else abs(value) for value in values] if "-0" in joined else values


def _mark_long(cells: Column, limit: int, bad: set[int]) -> None:
    if max(map(len, cells)) > limit:
        bad.update(at for at, cell in enumerate(cells) if len(cell) > limit)


def _one_by_one(converters: Iterable[Convert], cells: Column, bad: set[int]) -> list[Any]:
    values: list[Any] = []
    for at, (convert, cell) in enumerate(zip(converters, cells, strict=False)):
        try:
            values.append(convert(cell) if cell else None)
        except CellFault:
            bad.add(at)
            values.append(None)
    return values
