"""The lines of a journal: one as a record, all of a journal as columns.

Belongs here: how columns are made, joined, put in order, summed and taken apart. Does not: how lines are read
(``children``) and what a file shows of them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal, Inexact
from itertools import islice
from operator import attrgetter, le
from typing import Any, cast

import msgspec

from mlc_dagster.fusion.canonical import ENCODER, Record, plain
from mlc_dagster.fusion.wire import MOST_WHOLE
from mlc_dagster.money import total

_ABSENT = msgspec.Raw()

_ALIKE = bytes.maketrans(b"012345678.", b"9999999999")
_MANY = b"9" * (MOST_WHOLE + 1)
"""More digits than are looked through here; ``spelled`` judges such a number."""
_SEARCHED = 2400
"""Bytes."""


class JournalLine(Record, frozen=True, kw_only=True, gc=False):
    """Amounts are in the journal's currency (entered) and in the ledger's (accounted); one of Dr and Cr is absent."""

    line_number: int = msgspec.field(name="JeLineNumber")
    account_combination: str | None = None
    entered_dr: Decimal | None = None
    entered_cr: Decimal | None = None
    accounted_dr: Decimal | None = None
    accounted_cr: Decimal | None = None
    stat_amount: Decimal | None = None
    currency: str | None = msgspec.field(default=None, name="CurrencyCode")
    conversion_date: str | None = msgspec.field(default=None, name="CurrencyConversionDate")
    conversion_rate: Decimal | None = msgspec.field(default=None, name="CurrencyConversionRate")
    conversion_type: str | None = msgspec.field(default=None, name="UserCurrencyConversionType")
    description: str | None = None
    chart_of_accounts: str | None = msgspec.field(default=None, name="ChartOfAccountsName")
    reconciliation_reference: str | None = None
    reference_1: str | None = msgspec.field(default=None, name="Reference1")
    reference_2: str | None = msgspec.field(default=None, name="Reference2")
    reference_3: str | None = msgspec.field(default=None, name="Reference3")
    reference_4: str | None = msgspec.field(default=None, name="Reference4")
    reference_5: str | None = msgspec.field(default=None, name="Reference5")


class JournalLines(Record, frozen=True, kw_only=True, dict=True):
    """The lines of a journal, column by column, each as canonical JSON until somebody asks for its values.

    Lines come by the hundred thousand: so they take a fifth of the room, are hashed and kept without being touched
    again, and a file is made of those columns that it shows. Numbers are exact text in their one spelling; a value that
    all lines have stands there once, and a column without any value is absent. Iterated, these are ``JournalLine``,
    whose attributes are the columns.
    """

    line_number: tuple[int, ...] = msgspec.field(default=(), name="JeLineNumber")
    account_combination: msgspec.Raw = _ABSENT
    entered_dr: msgspec.Raw = _ABSENT
    entered_cr: msgspec.Raw = _ABSENT
    accounted_dr: msgspec.Raw = _ABSENT
    accounted_cr: msgspec.Raw = _ABSENT
    stat_amount: msgspec.Raw = _ABSENT
    currency: msgspec.Raw = msgspec.field(default=_ABSENT, name="CurrencyCode")
    conversion_date: msgspec.Raw = msgspec.field(default=_ABSENT, name="CurrencyConversionDate")
    conversion_rate: msgspec.Raw = msgspec.field(default=_ABSENT, name="CurrencyConversionRate")
    conversion_type: msgspec.Raw = msgspec.field(default=_ABSENT, name="UserCurrencyConversionType")
    description: msgspec.Raw = _ABSENT
    chart_of_accounts: msgspec.Raw = msgspec.field(default=_ABSENT, name="ChartOfAccountsName")
    reconciliation_reference: msgspec.Raw = _ABSENT
    reference_1: msgspec.Raw = msgspec.field(default=_ABSENT, name="Reference1")
    reference_2: msgspec.Raw = msgspec.field(default=_ABSENT, name="Reference2")
    reference_3: msgspec.Raw = msgspec.field(default=_ABSENT, name="Reference3")
    reference_4: msgspec.Raw = msgspec.field(default=_ABSENT, name="Reference4")
    reference_5: msgspec.Raw = msgspec.field(default=_ABSENT, name="Reference5")

    @classmethod
    def of(cls, lines: Iterable[JournalLine], spelled: Callable[[Decimal], Decimal] = plain) -> "JournalLines":
        """Lines as columns.

        Args:
            lines: what has a JournalLine's attributes and more will do.
            spelled: gives a number its one spelling, or refuses it.
        """
        rows = list(lines)
        if not rows:
            return NO_LINES
        # Written out: this is where the time goes, and a loop over names takes twice as long.
        found: dict[str, list[Any]] = {
            "account_combination": [row.account_combination for row in rows],
            "entered_dr": [row.entered_dr for row in rows],
            "entered_cr": [row.entered_cr for row in rows],
            "accounted_dr": [row.accounted_dr for row in rows],
            "accounted_cr": [row.accounted_cr for row in rows],
            "stat_amount": [row.stat_amount for row in rows],
            "currency": [row.currency for row in rows],
            "conversion_date": [row.conversion_date for row in rows],
            "conversion_rate": [row.conversion_rate for row in rows],
            "conversion_type": [row.conversion_type for row in rows],
            "description": [row.description for row in rows],
            "chart_of_accounts": [row.chart_of_accounts for row in rows],
            "reconciliation_reference": [row.reconciliation_reference for row in rows],
            "reference_1": [row.reference_1 for row in rows],
            "reference_2": [row.reference_2 for row in rows],
            "reference_3": [row.reference_3 for row in rows],
            "reference_4": [row.reference_4 for row in rows],
            "reference_5": [row.reference_5 for row in rows],
        }
        columns: dict[str, msgspec.Raw] = {}
        totals: dict[str, Decimal] = {}
        for name, values in found.items():
            # Whether anything is true first: to compare every number with None is slow.
            if not any(values) and values.count(None) == len(rows):
                continue
            column, encoded = values, ENCODER.encode(values)
            if name in _NUMBERS and not _is_plain(encoded):
                column = [None if value is None else spelled(value) for value in values]
                encoded = ENCODER.encode(column)
            if name in _TOTALLED:
                # Now, while the numbers are at hand: later they would have to be decoded for it.
                with suppress(Inexact):
                    totals[name] = sum_of(column)
            columns[name] = msgspec.Raw(ENCODER.encode(column[0]) if _is_constant(column) else encoded)
        made = cls(line_number=tuple([row.line_number for row in rows]), **columns)
        made._known(_TOTALS).update(totals)
        return made

    @classmethod
    def joined(cls, parts: Sequence["JournalLines"]) -> "JournalLines":
        """The lines of several, one after the other."""
        parts = [part for part in parts if part]
        if len(parts) < 2:
            return parts[0] if parts else NO_LINES
        columns: dict[str, msgspec.Raw] = {}
        for name in _COLUMNS:
            own: list[msgspec.Raw] = [getattr(part, name) for part in parts]
            if all(raw is _ABSENT for raw in own):
                continue
            if not _is_column(own[0]) and own.count(own[0]) == len(own):
                columns[name] = own[0]
                continue
            members = [_members(raw, len(part)) for raw, part in zip(own, parts, strict=True)]
            columns[name] = msgspec.Raw(b"[" + b",".join(members) + b"]")
        made = cls(line_number=tuple(number for part in parts for number in part.line_number), **columns)
        with suppress(Inexact):
            made._known(_TOTALS).update({name: sum_of(part.total(name) for part in parts) for name in _TOTALLED})
        return made

    def by_number(self) -> "JournalLines":
        """The lines in the order of their numbers: the order they came in must not show in what is made of them."""
        numbers = self.line_number
        if all(map(le, numbers, islice(numbers, 1, None))):
            return self
        return JournalLines.of(sorted(self, key=attrgetter("line_number")))

    def column(self, name: str) -> Sequence[Any]:
        """A value per line: int, Decimal or str by JournalLine's attribute, or None."""
        if name == "line_number":
            return self.line_number
        known = self._known(_VALUES)
        values = known.get(name)
        if values is None:
            raw: msgspec.Raw = getattr(self, name)
            column_of, value_of = _NUMBER_DECODERS if name in _NUMBERS else _TEXT_DECODERS
            if _is_column(raw):
                values = column_of.decode(raw)
            else:
                values = (None if raw is _ABSENT else value_of.decode(raw),) * len(self.line_number)
            known[name] = values
        return values

    def distinct(self, name: str) -> set[Any]:
        """The different values of a column, None among them where a line has none."""
        raw: msgspec.Raw = getattr(self, name)
        column = self.column(name)
        return set(column) if _is_column(raw) else set(column[:1])

    def total(self, name: str) -> Decimal:
        """Exact sum of a column of numbers; raises decimal.Inexact where 80 digits do not hold it."""
        known = self._known(_TOTALS)
        if name not in known:
            known[name] = sum_of(self.column(name))
        return known[name]

    def _known(self, kind: str) -> dict[str, Any]:
        """What was made of columns before, kept beside the fields: it is no part of the content."""
        own = cast("dict[str, dict[str, Any]]", self.__dict__)
        return own.setdefault(kind, {})

    def __len__(self) -> int:
        return len(self.line_number)

    def __iter__(self) -> Iterator[JournalLine]:
        names = ("line_number", *(name for name in _COLUMNS if getattr(self, name) is not _ABSENT))
        for values in zip(*map(self.column, names), strict=True):
            yield JournalLine(**dict(zip(names, values, strict=True)))


def sum_of(amounts: Iterable[Decimal | None]) -> Decimal:
    """The exact sum, absent ones left out; raises decimal.Inexact."""
    return total([amount for amount in amounts if amount is not None])


def _is_plain(column: bytes) -> bool:
    """Whether a column's numbers have their one spelling already, as nearly all have: none of 1.50, -0, 1E+2, NaN.

    A look at each number would cost as much as everything else that is done with it. A false no does no harm.
    """
    if b"E" in column or b"N" in column or b"I" in column:
        return False
    alike = column.translate(_ALIKE)
    # In pieces that overlap: through longer ones Python searches in another way, which is slow for a run of nines.
    if any(_MANY in alike[start : start + _SEARCHED] for start in range(0, len(alike), _SEARCHED - len(_MANY))):
        return False
    before_zeros = column.split(b'0"')[:-1]
    return not any(before.rfind(b".") > before.rfind(b'"') or before.endswith(b"-") for before in before_zeros)


def _is_constant(column: Sequence[Any]) -> bool:
    """Whether all lines say the same, which is not nothing."""
    first = column[0]
    # Most columns differ at their ends already.
    return first is not None and first == column[-1] and column.count(first) == len(column)


def _is_column(raw: msgspec.Raw) -> bool:
    """Whether it has a value per line; else it has one for all, or none."""
    return bytes(memoryview(raw)[:1]) == b"["


def _members(raw: msgspec.Raw, count: int) -> bytes | memoryview:
    """A value per line, between commas."""
    if _is_column(raw):
        return memoryview(raw)[1:-1]
    return b",".join([b"null" if raw is _ABSENT else bytes(raw)] * count)


_COLUMNS = JournalLines.__struct_fields__[1:]
_NUMBERS = frozenset({"entered_dr", "entered_cr", "accounted_dr", "accounted_cr", "stat_amount", "conversion_rate"})
_TOTALLED = ("entered_dr", "entered_cr")
"""Those that Fusion shows sums of, by which a journal's lines are proven to be all there."""
# Keys of ``__dict__``, and so attributes too: no method may have such a name.
_VALUES, _TOTALS = "_values", "_totals"
_TEXT_DECODERS = msgspec.json.Decoder(tuple[str | None, ...]), msgspec.json.Decoder(str)
_NUMBER_DECODERS = (
    msgspec.json.Decoder(tuple[Decimal | None, ...], strict=False),
    msgspec.json.Decoder(Decimal, strict=False),
)
"""Of a column, and of a value that all lines have."""

NO_LINES = JournalLines()
"""The one spelling of it, which canonical JSON leaves out."""
