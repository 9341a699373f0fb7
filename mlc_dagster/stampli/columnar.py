"""Lines of a whole block at once, column by column: the fast way to what ``assembly`` does cell by cell.

Belongs here: speed. Does not: explaining. A row whose line is not plainly right gets None, and ``assembly`` reads it
again with care and says what is wrong. Where there is a line, it is the line that ``assembly`` would have built.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from itertools import repeat
from typing import Any, cast

from mlc_dagster.money import minor_units
from mlc_dagster.stampli.cells import INTEGER_DIGITS, CellFault, Convert
from mlc_dagster.stampli.columns import LINE_ARGUMENTS, Header, Slot
from mlc_dagster.stampli.model import InvoiceLine
from mlc_dagster.stampli.profile import Profile
from mlc_dagster.stampli.rows import Block

_DIMENSIONS = LINE_ARGUMENTS.index("dimensions")
_CUSTOM = LINE_ARGUMENTS.index("custom")


class ColumnReader:
    """Reads the lines of one file's blocks."""

    def __init__(self, header: Header, profile: Profile, money: Callable[[str], Convert]) -> None:
        self._money = money
        self._mark = profile.values.decimal_mark
        # Null tokens, bank data and nameless columns are looked at cell by cell.
        self._plain = not (frozenset(profile.values.nulls) - {""} or header.forbidden or header.unnamed)
        self._currency = next(slot.position for slot in header.header if slot.field == "currency")
        self._slots = [(LINE_ARGUMENTS.index(slot.field), slot) for slot in header.line if slot.target == "field"]
        self._named = [
            (at, [slot for slot in header.line if slot.target == target])
            for at, target in ((_DIMENSIONS, "dimensions"), (_CUSTOM, "custom"))
        ]

    def lines(self, block: Block) -> list[InvoiceLine | None]:
        """A line per row of the block; None: read this row with care."""
        rows = len(block.rows)
        if not (self._plain and block.printable and rows):
            return [None] * rows
        columns = cast("list[Sequence[str]]", list(zip(*block.rows, strict=True)))
        bad: set[int] = set()
        arguments: list[Iterable[Any]] = [repeat(None)] * len(LINE_ARGUMENTS)
        for at, slot in self._slots:
            arguments[at] = self._values(slot, columns[slot.position], columns[self._currency], bad)
        for at, slots in self._named:
            arguments[at] = self._by_name(slots, columns, rows, bad)
        lines: list[InvoiceLine | None] = list(map(InvoiceLine, *arguments))
        for row in bad:
            lines[row] = None
        return lines

    def _values(self, slot: Slot, cells: Sequence[str], currencies: Sequence[str], bad: set[int]) -> Iterable[Any]:
        filled = all(cells)
        if not filled:
            if slot.required:
                bad.update(row for row, cell in enumerate(cells) if not cell)
            elif not any(cells):
                return repeat(None)
        _mark_long(cells, slot.limit, bad)
        if slot.money:
            return self._amounts(cells, currencies, bad)
        convert = slot.trusting
        if convert is None:
            return cells if filled else [cell or None for cell in cells]
        try:
            return list(map(convert, cells)) if filled else [convert(cell) if cell else None for cell in cells]
        except CellFault:
            return [_value(convert, cell, row, bad) for row, cell in enumerate(cells)]

    def _amounts(self, cells: Sequence[str], currencies: Sequence[str], bad: set[int]) -> Iterable[Any]:
        if len(set(currencies)) == 1 and self._mark == ".":
            units = minor_units(currencies[0])
            # One look at the whole column: each cell with exactly the decimals of the currency.
            if units and _column_pattern(units).fullmatch("\n".join(cells)) is not None:
                return [amount or abs(amount) for amount in map(Decimal, cells)]
        converters = {currency: self._money(currency) for currency in set(currencies)}
        return [
            _value(converters[currency], cell, row, bad)
            for row, (cell, currency) in enumerate(zip(cells, currencies, strict=True))
        ]

    def _by_name(
        self, slots: Sequence[Slot], columns: Sequence[Sequence[str]], rows: int, bad: set[int]
    ) -> Iterable[dict[str, str]]:
        used = [slot for slot in slots if any(columns[slot.position])]
        for slot in used:
            _mark_long(columns[slot.position], slot.limit, bad)
        if not used:
            return [{} for _ in range(rows)]
        if len(used) == 1:
            name = used[0].field
            return [{name: cell} if cell else {} for cell in columns[used[0].position]]
        names = [slot.field for slot in used]
        return [
            {name: cell for name, cell in zip(names, cells, strict=True) if cell}
            for cells in zip(*(columns[slot.position] for slot in used), strict=True)
        ]


_PATTERNS: dict[int, re.Pattern[str]] = {}


def _column_pattern(units: int) -> re.Pattern[str]:
    if units not in _PATTERNS:
        amount = rf"-?[0-9]{{1,{INTEGER_DIGITS}}}+\.[0-9]{{{units}}}"
        _PATTERNS[units] = re.compile(rf"(?:{amount}\n)*+{amount}")
    return _PATTERNS[units]


def _mark_long(cells: Sequence[str], limit: int, bad: set[int]) -> None:
    if max(map(len, cells)) > limit:
        bad.update(row for row, cell in enumerate(cells) if len(cell) > limit)


def _value(convert: Convert, cell: str, row: int, bad: set[int]) -> object:
    if not cell:
        return None
    try:
        return convert(cell)
    except CellFault:
        bad.add(row)
        return None
