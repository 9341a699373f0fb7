"""Account combinations split into the segments of their chart, for FA2 and REF segments."""

from collections.abc import Mapping
from dataclasses import dataclass

from mlc_dagster.exports.writing import DocumentHeld
from mlc_dagster.settings.fusion import ChartSettings


@dataclass(frozen=True)
class Accounts:
    """The charts of accounts, and which one a document is in."""

    charts: Mapping[str, ChartSettings]
    chosen: str | None
    """Chart of documents that name no ledger; the only one when absent."""

    def of_ledger(self, ledger: str) -> ChartSettings:
        for chart in self.charts.values():
            if ledger in chart.ledgers:
                return chart
        raise DocumentHeld(
            "CHART_UNKNOWN",
            f"ledger {ledger!r} is in no chart; add it to the ledgers of one in fusion.charts",
            field="journal.ledger",
        )

    def usual(self) -> ChartSettings:
        if self.chosen is not None and self.chosen in self.charts:
            return self.charts[self.chosen]
        if self.chosen is None and len(self.charts) == 1:
            return next(iter(self.charts.values()))
        raise DocumentHeld(
            "CHART_UNKNOWN",
            f"chart {self.chosen!r} is not one of {sorted(self.charts)}; name one of them as chart: in the layout",
        )


def split(chart: ChartSettings, combination: str, field: str) -> list[tuple[str, str]]:
    """Segment names and values, in the chart's order. Raises DocumentHeld."""
    values = combination.split(chart.delimiter)
    if len(values) != len(chart.segments):
        raise DocumentHeld(
            "ACCOUNT_SEGMENTS",
            f"{field}: {combination!r} has {len(values)} segments, the chart has {len(chart.segments)}"
            f" ({chart.delimiter.join(chart.segments)}); correct fusion.charts in mlc.yaml",
            field=field,
        )
    return list(zip(chart.segments, values, strict=True))
