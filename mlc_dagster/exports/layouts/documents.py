"""One document laid out for columns: its rows at the layout's level, what is known about it, currencies, segments.

Belongs here: which record stands behind which row, and what an amount's currency and an account's segments are. Does
not: text.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from operator import attrgetter
from typing import Any, cast

from mlc_dagster.exports.balance import STATISTICAL
from mlc_dagster.exports.layouts.fields import COMBINATIONS, LEVELS, ORDER_STATUSES, ROWS, Field
from mlc_dagster.exports.writing import DocumentHeld, Version
from mlc_dagster.fusion.records import Journal, JournalLine, OrderStatus
from mlc_dagster.money import difference, minor_units
from mlc_dagster.settings.fusion import ChartSettings

_currency_of = attrgetter("currency")


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

    def segments(self, combinations: Sequence[str | None]) -> list[Sequence[str | None]]:
        """One column per segment; absent where there is no combination. Raises DocumentHeld (SEGMENTS)."""
        delimiter, count = self.chart.delimiter, len(self.chart.segments)
        present = [combination for combination in combinations if combination is not None]
        for combination in present:
            if combination.count(delimiter) != count - 1:
                parts = combination.count(delimiter) + 1
                raise DocumentHeld(
                    "SEGMENTS",
                    f"account combination {combination!r} has {parts} segments and chart {self.name} "
                    f"{count} ({delimiter.join(self.chart.segments)}); correct fusion.charts.{self.name} in mlc.yaml",
                )
        if not present:
            return [combinations] * count
        # One split for all: every combination has as many segments as the chart.
        parts = delimiter.join(present).split(delimiter)
        columns: list[Sequence[str | None]] = [parts[position::count] for position in range(count)]
        if len(present) == len(combinations):
            return columns
        return [_with_gaps(column, combinations) for column in columns]

    def index_of(self, attribute: str) -> int | None:
        """Position of a segment or of ``chart.…``; None where the chart has none."""
        if attribute.startswith("chart."):
            role = {"chart.balancing": self.chart.balancing_segment, "chart.cost_center": self.chart.cost_center}
            segment = role.get(attribute, self.chart.natural_account)
            return None if segment is None else self.position[segment]
        return self.position.get(attribute)


def _with_gaps(column: Sequence[str | None], combinations: Sequence[str | None]) -> Sequence[str | None]:
    """The column of the combinations that are there, spread over all rows."""
    values = iter(column)
    return [None if combination is None else next(values) for combination in combinations]


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
        self._split: list[Sequence[str | None]] | None = None
        self.skipped = 0
        self.first_row = 0
        """Of a chunk: where it begins in the document, from 0."""
        self.levels: dict[str, Sequence[Any]] = self._rows(childless)
        self.rows = len(self.levels[row]) if row in self.levels else 1
        self.currency: str | None = getattr(self.content, "currency", None)
        """Of its amounts; None where the source has none."""
        lines = self.content.lines if isinstance(self.content, Journal) else ()
        self._mixed = not set(map(_currency_of, lines)) <= {None, self.currency}

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

    def objects(self, level: str) -> Sequence[Any]:
        """The record behind each row, at that level."""
        return self.levels[level]

    def statuses(self, level: str) -> Sequence[str | None]:
        """Fusion's status code of each row's line or schedule, as it was when the order was read."""
        objects = self.levels[level]
        if not isinstance(self.status, OrderStatus):
            return [None] * len(objects)
        codes, key = ORDER_STATUSES[level]
        known: dict[int, str] = getattr(self.status, codes)
        return [known.get(getattr(each, key)) for each in objects]

    def currencies(self, field: Field) -> str | list[str | None] | None:
        """Currency of an amount field: one for all rows, or one per row."""
        own = self.currency
        if field.money == "document":
            return own
        lines = cast("Sequence[JournalLine]", self.levels.get("line", ()))
        if field.money == "line":
            return [line.currency or own for line in lines] if self._mixed else own
        if own == STATISTICAL:
            return STATISTICAL
        ledger: str | None = cast("Journal", self.content).ledger_currency
        return [STATISTICAL if line.currency == STATISTICAL else ledger for line in lines] if self._mixed else ledger

    def segments(self, attribute: str) -> Sequence[str | None]:
        """One segment of each row's account combination. Raises DocumentHeld."""
        chart = self._charts.for_content(self.content)
        if attribute == "chart.name":
            return [chart.name] * len(self.levels[self._row])
        index = chart.index_of(attribute)
        if index is None:
            return [None] * len(self.levels[self._row])
        if self._split is None:
            path = COMBINATIONS[self.version.read.source, self._row]
            combinations = list(map(attrgetter(path), self.levels[self._row]))
            self._split = chart.segments(combinations)
        return self._split[index]

    def chunk(self, start: int, end: int) -> "Document":
        """Some of its rows, as a document of their own; what belongs to the whole stays as it is."""
        part = copy.copy(self)
        part.levels = {level: objects[start:end] for level, objects in self.levels.items()}
        part.forget_segments()
        part.first_row = start
        return part

    def forget_segments(self) -> None:
        """Of rows that are no longer its own."""
        self._split = None


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


def derived(line: JournalLine | _Absent, attribute: str) -> str | Decimal | None:
    """Side, amount on that side, or debit minus credit of a journal line; absent where it has no amount."""
    kind = "accounted" if attribute.startswith("line.accounted") else "entered"
    debit: Decimal | None = getattr(line, f"{kind}_dr")
    credit: Decimal | None = getattr(line, f"{kind}_cr")
    if attribute == "line.side" and debit is None and credit is None:
        debit, credit = line.accounted_dr, line.accounted_cr
    if debit is None and credit is None:
        return None
    net = difference(debit or Decimal(0), credit or Decimal(0))
    if attribute.endswith("_net"):
        return net
    if debit and credit:
        side, amount = ("D", net) if net >= 0 else ("C", -net)
    else:
        side, amount = ("C", credit) if debit is None or (credit and not debit) else ("D", debit)
    return side if attribute == "line.side" else amount
