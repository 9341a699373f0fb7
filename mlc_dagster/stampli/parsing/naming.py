"""Which invoice a row names, also when the row is broken.

Belongs here: keys of rows. Does not: reading them (``rows``) and what happens to rows without one (``parse``).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter

from mlc_dagster.stampli.parsing.columns import Header
from mlc_dagster.stampli.parsing.profile import Profile, TextRules
from mlc_dagster.stampli.parsing.rows import Fault

Key = tuple[str, ...]
"""Cells that name an invoice, company first."""

_KEY_LENGTH = 100
_LINES_LOOKED_AT = 50
_BYTES_LOOKED_AT = 4096
"""Of each line of a broken row; the key stands near its beginning or its end."""


class KeyReader:
    """Reads keys by the header's positions."""

    def __init__(self, header: Header, profile: Profile) -> None:
        self._positions = header.key
        # itemgetter of two or more positions makes a tuple; a key always has a company and something else.
        self.key_of: Callable[[Sequence[str]], Key] = itemgetter(*header.key)
        self._width = header.width
        self._columns = [
            next(slot.column for slot in header.header if slot.position == position) for position in header.key
        ]
        self._nulls = frozenset(profile.values.nulls) | {""}
        self._text = profile.text

    def usable(self, key: Key) -> bool:
        """Whether the cells can name an invoice: filled, visible, not endless."""
        nulls = self._nulls
        for cell in key:  # noqa: SIM110 - a generator would cost more than what it looks at, twice for each invoice
            if cell in nulls or len(cell) > _KEY_LENGTH or not cell.isprintable():
                return False
        return True

    def usable_in_all(self, cells: Sequence[Sequence[str]], *, printable: bool) -> bool:
        """Whether one look at whole columns shows that every key in them is usable; False when in doubt.

        Args:
            cells: of the key's columns, not empty.
            printable: none of them holds an invisible character.
        """
        nulls = self._nulls
        return printable and all(nulls.isdisjoint(column) and max(map(len, column)) <= _KEY_LENGTH for column in cells)

    def within(self, width: int) -> bool:
        """Whether the key stands in the first ``width`` columns."""
        return max(self._positions) < width

    def columns(self, columns: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
        """The key's own among all columns."""
        return [columns[position] for position in self._positions]

    def source_ids(self, cells: Sequence[Sequence[str]]) -> Sequence[str]:
        """``source_id`` of the keys in these columns of its own."""
        return cells[1] if len(cells) == 2 else list(map(self.source_id, zip(*cells, strict=True)))

    def plausible(self, cells: Sequence[str]) -> bool:
        """Whether cells of the right number could be a row."""
        return self.usable(self.key_of(cells))

    def fault(self, cells: Sequence[str]) -> tuple[str, str | None]:
        """Why a row's key is not usable, and its company where that can be read."""
        faults = [
            column
            for column, position in zip(self._columns, self._positions, strict=True)
            if not self.usable((cells[position],))
        ]
        company = cells[self._positions[0]]
        text = f"has no usable {' and no usable '.join(faults)} (empty, too long or with control characters)"
        return text, company if self.usable((company,)) else None

    def source_id(self, key: Key) -> str:
        """The key without its company; several cells are written as a JSON list, which no value can imitate."""
        return key[1] if len(key) == 2 else json.dumps(key[1:], ensure_ascii=False)

    def candidates(self, fault: Fault) -> Sequence[Key]:
        """Invoices that a broken row may name, most likely first."""
        if fault.names is not None:
            return [key for key in fault.names if self.usable(key)]
        return [key for key in cells_named(fault.raw, self._positions, self._width, self._text) if self.usable(key)]


def cells_named(raw: bytes, positions: Sequence[int], width: int, rules: TextRules) -> list[Key]:
    """What may stand in these cells of a broken row that should have ``width`` cells, most likely first.

    Cells are counted from the left and, where a delimiter too many or too few moved them, from the right;
    each physical line counts, for a stray quote may have taken other rows with it.
    """
    found: dict[Key, None] = {}
    text = raw.decode(rules.encoding, "replace").replace("\r\n", "\n").replace("\r", "\n")
    for line in text.split("\n")[:_LINES_LOOKED_AT]:
        for part, from_right in ((line[:_BYTES_LOOKED_AT], 0), (line[-_BYTES_LOOKED_AT:], width)):
            cells = [cell.strip(rules.quote) for cell in part.split(rules.delimiter)]
            if all(-len(cells) <= position - from_right < len(cells) for position in positions):
                key = tuple(cells[position - from_right] for position in positions)
                if not any("\ufffd" in cell for cell in key):
                    found[key] = None
    return list(found)


def key_named(profile: Profile, cells: Mapping[str, str]) -> tuple[Key, ...]:
    """The key that these cells, by column name, and the profile's constants make; nothing when one is missing."""
    key: list[str] = []
    for field in profile.rows.key:
        name, column = next((name, column) for name, column in profile.columns.items() if column.field == field)
        found = [cells.get(each) or profile.constants.get(each) for each in (name, *column.aliases)]
        key.append(next((cell for cell in found if cell), ""))
    return (tuple(key),) if all(key) else ()
