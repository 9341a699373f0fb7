"""One document laid out for columns: its rows at the layout's level, what is known about it, currencies, segments.

Belongs here: which record stands behind which row, and what an amount's currency and an account's segments are. Does
not: text.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import repeat
from operator import attrgetter
from typing import Any, cast

from mlc_dagster.exports.balance import STATISTICAL
from mlc_dagster.exports.layouts.fields import COMBINATIONS, LEVELS, ORDER_STATUSES, ROWS, Field
from mlc_dagster.exports.writing import DocumentHeld, Version
from mlc_dagster.fusion.journal_lines import NO_LINES, JournalLines
from mlc_dagster.fusion.records import Journal, OrderStatus
from mlc_dagster.money import difference, minor_units
from mlc_dagster.settings.fusion import ChartSettings


class _Absent:
    """Stands for the child that a parent does not have: every attribute is absent."""

    def __getattr__(self, name: str) -> None:
        return None


_ABSENT = _Absent()


class Splits:
    """How account combinations of one chart are split."""

    def __init__(self, name: str, chart: ChartSettings) -> None:
        self.name = name
        self.chart = chart
        self.position = {segment: index for index, segment in enumerate(chart.segments)}

    def split(self, combinations: Sequence[str | None]) -> list[str]:
        """All segments of all combinations that are there, one after the other. Raises DocumentHeld (SEGMENTS)."""
        delimiter, count = self.chart.delimiter, len(self.chart.segments)
        present = cast(
            "Sequence[str]",
            [each for each in combinations if each is not None] if None in combinations else combinations,
        )
        if not set(map(str.count, present, repeat(delimiter))) <= {count - 1}:
            combination = next(each for each in present if each.count(delimiter) != count - 1)
            raise DocumentHeld(
                "SEGMENTS",
                f"account combination {combination!r} has {combination.count(delimiter) + 1} segments and chart "
                f"{self.name} {count} ({delimiter.join(self.chart.segments)}); correct fusion.charts.{self.name} in "
                "mlc.yaml",
            )
        # One split for all: every combination has as many segments as the chart.
        return delimiter.join(present).split(delimiter) if present else []

    def column(self, parts: Sequence[str], index: int, combinations: Sequence[str | None]) -> Sequence[str | None]:
        """One segment of each combination, out of ``split``; absent where there is no combination."""
        column = parts[index :: len(self.chart.segments)]
        if len(column) == len(combinations):
            return column
        values = iter(column)
        return [None if combination is None else next(values) for combination in combinations]

    def index_of(self, attribute: str) -> int | None:
        """Position of a segment or of ``chart.…``; None where the chart has none."""
        if attribute.startswith("chart."):
            role = {"chart.balancing": self.chart.balancing_segment, "chart.cost_center": self.chart.cost_center}
            segment = role.get(attribute, self.chart.natural_account)
            return None if segment is None else self.position[segment]
        return self.position.get(attribute)


@dataclass(frozen=True)
class Charts:
    """The charts of accounts, by ledger and by name."""

    by_name: Mapping[str, Splits]
    by_ledger: Mapping[str, Splits]
    fixed: Splits | None
    """For documents that name no ledger: the layout's ``chart``, or the only one."""

    @classmethod
    def of(cls, charts: Mapping[str, ChartSettings], chosen: str | None) -> "Charts":
        splits = {name: Splits(name, chart) for name, chart in charts.items()}
        only = next(iter(splits)) if len(splits) == 1 else None
        name = chosen or only
        return cls(
            splits,
            {ledger: entry for entry in splits.values() for ledger in entry.chart.ledgers},
            splits[name] if name else None,
        )

    @property
    def segments(self) -> frozenset[str]:
        return frozenset(segment for entry in self.by_name.values() for segment in entry.chart.segments)

    def for_content(self, content: object) -> Splits:
        if isinstance(content, Journal):
            splits = self.by_ledger.get(content.ledger)
            if splits is None:
                raise DocumentHeld(
                    "CHART_UNKNOWN",
                    f"ledger {content.ledger!r} is in no chart; add it to the ledgers of one in fusion.charts",
                    field="journal.ledger",
                )
            return splits
        if self.fixed is None:
            raise DocumentHeld("CHART_UNKNOWN", "there are several charts; name one as chart: in the layout")
        return self.fixed


class Document:
    """One version, ready to be asked for columns."""

    def __init__(
        self, version: Version, *, row: str, charts: Charts, childless: str, about: tuple[int, str, str, str]
    ) -> None:
        """``about``: position, feed, layout name and version. Raises DocumentHeld (NO_ROWS)."""
        self.version = version
        self.content: Any = version.read.content
        self.status: Any = version.read.status or _ABSENT
        self.position, self.feed, self.layout_name, self.layout_version = about
        self._charts = charts
        self._row = row
        self._split: list[str] | None = None
        self.skipped = 0
        self.first_row = 0
        """Of a chunk: where it begins in the document, from 0."""
        self._end: int | None = None
        self.levels: dict[str, Sequence[Any]] = self._rows(childless)
        self.rows = len(self.levels[row]) if row in self.levels else 1
        self.currency: str | None = getattr(self.content, "currency", None)
        """Of its amounts; None where the source has none."""
        lines = self.content.lines if isinstance(self.content, Journal) else NO_LINES
        self._mixed = not lines.distinct("currency") <= {None, self.currency}

    def _rows(self, childless: str) -> dict[str, Sequence[Any]]:
        source = self.version.read.source
        levels: dict[str, Sequence[Any]] = {}
        parents: Sequence[Any] = (self.content,)
        for level in ROWS[source][self._row]:
            attribute = LEVELS[source][level].attribute
            if len(parents) == 1 and getattr(parents[0], attribute):  # The common case without copying anything.
                children: Sequence[Any] = getattr(parents[0], attribute)
                levels = {above: tuple(objects) * len(children) for above, objects in levels.items()}
            else:
                indexes: list[int] = []
                found: list[Any] = []
                for index, parent in enumerate(parents):
                    own = getattr(parent, attribute) or self._without_children(level, childless)
                    found += own
                    indexes += [index] * len(own)
                levels = {above: [objects[index] for index in indexes] for above, objects in levels.items()}
                children = found
            levels[level] = parents = children
        return levels

    def _without_children(self, level: str, childless: str) -> Sequence[Any]:
        if childless == "hold":
            raise DocumentHeld(
                "NO_ROWS",
                f"has a part without any {level}; complete it in Fusion, or write childless: row",
                field=level,
            )
        if childless == "skip":
            self.skipped += 1
            return ()
        return (_ABSENT,)

    def column(self, level: str, attribute: str) -> Sequence[Any]:
        """An attribute of the record behind each row, at that level."""
        objects = self.levels[level]
        if isinstance(objects, JournalLines):
            column = objects.column(attribute)
            return column if self._end is None else column[self.first_row : self._end]
        return list(map(attrgetter(attribute), objects))

    def statuses(self, level: str) -> Sequence[str | None]:
        """Fusion's status code of each row's line or schedule, as it was when the order was read."""
        if not isinstance(self.status, OrderStatus):
            return [None] * self._count
        codes, key = ORDER_STATUSES[level]
        known: dict[int, str] = getattr(self.status, codes)
        return list(map(known.get, self.column(level, key)))

    def currencies(self, field: Field) -> str | list[str | None] | None:
        """Currency of an amount field: one for all rows, or one per row."""
        own = self.currency
        if field.money == "document":
            return own
        lines: Sequence[str | None] = self.column("line", "currency") if self._mixed else ()
        if field.money == "line":
            return [line or own for line in lines] if self._mixed else own
        if own == STATISTICAL:
            return STATISTICAL
        ledger: str | None = cast("Journal", self.content).ledger_currency
        return [STATISTICAL if line == STATISTICAL else ledger for line in lines] if self._mixed else ledger

    def segments(self, attribute: str) -> Sequence[str | None]:
        """One segment of each row's account combination. Raises DocumentHeld."""
        chart = self._charts.for_content(self.content)
        if attribute == "chart.name":
            return [chart.name] * self._count
        index = chart.index_of(attribute)
        if index is None:
            return [None] * self._count
        combinations = self.column(self._row, COMBINATIONS[self.version.read.source, self._row])
        if self._split is None:
            self._split = chart.split(combinations)
        return chart.column(self._split, index, combinations)

    @property
    def _count(self) -> int:
        """Rows of this chunk."""
        return min(self._end or self.rows, self.rows) - self.first_row

    def chunk(self, start: int, end: int) -> "Document":
        """Some of its rows, as a document of their own; what belongs to the whole stays as it is."""
        part = copy.copy(self)
        part.first_row, part._end = start, end  # noqa: SLF001 - one of our own
        part._split = None  # noqa: SLF001 - of rows that are no longer its
        # Columns are cut when they are asked for: they are taken apart once for all chunks.
        part.levels = {
            level: objects if isinstance(objects, JournalLines) else objects[start:end]
            for level, objects in self.levels.items()
        }
        return part


@cache
def places_of(currency: str | None) -> int | None:
    """Minor units of an amount's currency; None (as it is) for statistical amounts.

    Raises:
        DocumentHeld: CURRENCY_UNKNOWN.
    """
    if currency == STATISTICAL:
        return None
    places = minor_units(currency) if currency else None
    if places is None:
        raise DocumentHeld(
            "CURRENCY_UNKNOWN",
            f"currency {currency!r} is not one of ISO 4217, so its decimals are not known; "
            "write the column's decimals as a number or as_is",
        )
    return places


def derived(document: Document, attribute: str) -> Sequence[str | Decimal | None]:
    """Side, amount on that side, or debit minus credit of each journal line; absent where it has no amount."""
    entered = zip(document.column("line", "entered_dr"), document.column("line", "entered_cr"), strict=True)
    accounted = zip(document.column("line", "accounted_dr"), document.column("line", "accounted_cr"), strict=True)
    if attribute == "line.side":
        pairs = [own if own != (None, None) else other for own, other in zip(entered, accounted, strict=True)]
        return [_sided(debit, credit)[0] for debit, credit in pairs]
    pairs = accounted if attribute.startswith("line.accounted") else entered
    if attribute.endswith("_net"):
        return [_net(debit, credit) for debit, credit in pairs]
    return [_sided(debit, credit)[1] for debit, credit in pairs]


def _net(debit: Decimal | None, credit: Decimal | None) -> Decimal | None:
    if debit is None and credit is None:
        return None
    return difference(debit or Decimal(0), credit or Decimal(0))


def _sided(debit: Decimal | None, credit: Decimal | None) -> tuple[str | None, Decimal | None]:
    net = _net(debit, credit)
    if net is None:
        return None, None
    if debit and credit:
        return ("D", net) if net >= 0 else ("C", -net)
    return ("C", credit) if debit is None or (credit and not debit) else ("D", debit)
