"""Assets ``fusion_journals``, ``fusion_invoices``, ``fusion_purchase_orders``, ``fusion_suppliers``.

Each is one source of Fusion, read window by window into immutable extracts that all feeds of the source share. They
differ in what they read and in nothing else, so one builder makes them.
"""

# ruff: noqa: PLC0415 - the domain and its connectors are imported by the run that uses them.

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlc_dagster.assets import columns
from mlc_dagster.assets.exporting import ExportStep, export_step
from mlc_dagster.assets.metadata import summary, table
from mlc_dagster.resources import OutboundResource

if TYPE_CHECKING:
    from mlc_dagster.exports.reading import ReadReport

DESCRIPTION = """
{what}, as they changed in Oracle Fusion in the window, whole: with everything below them.

A window is read once it is over by Fusion's own clock. A read begins some minutes before its window, because rows
become visible late; once a day it looks two days back, and compares ids with Fusion's over a week. What was read is
kept as an immutable extract. Materialising a window again reads nothing that was read: the feeds replay its extract.
"""


@dataclass(frozen=True)
class Source:
    """How a source of mlc.yaml shows itself in the graph."""

    name: str
    asset: str
    what: str
    domain: str


SOURCES = (
    Source("journals", "fusion_journals", "General-ledger journals (batches, headers, lines)", "general-ledger"),
    Source(
        "invoices",
        "fusion_invoices",
        "Payables invoices (header, lines, distributions, installments)",
        "accounts-payable",
    ),
    Source(
        "purchase_orders",
        "fusion_purchase_orders",
        "Purchase orders (header, lines, schedules, distributions)",
        "procurement",
    ),
    Source("suppliers", "fusion_suppliers", "Suppliers with their sites", "procurement"),
)
BY_NAME = {source.name: source for source in SOURCES}


class ReadConfig(dg.Config):
    """Options of a run that was started by hand."""

    look_back: bool = False
    """Look back over ``outbound.look_back`` now."""
    sweep: bool = False
    """Compare ids with Fusion's now."""


def build_source(source: Source, windows: dg.TimeWindowPartitionsDefinition, group: str) -> dg.AssetsDefinition:
    """The asset of one source on these windows."""

    @dg.asset(
        name=source.asset,
        partitions_def=windows,
        # One run, one read, however many windows were missed.
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=group,
        description=DESCRIPTION.format(what=source.what),
        owners=["team:finance-systems"],
        kinds={"oracle", "json"},
        tags={"domain": source.domain, "source": "oracle-fusion"},
        metadata={"dagster/column_schema": columns.EXTRACT},
        code_version="1",
    )
    def _asset(
        context: dg.AssetExecutionContext, config: ReadConfig, outbound: OutboundResource
    ) -> dg.MaterializeResult:
        from mlc_dagster.exports.reading import read_source

        with export_step(context, outbound, feed=None, only=()) as step:
            report = read_source(
                step.outbound,
                source.name,
                until=step.windows.end,
                owner=step.owner,
                run_id=step.run_id,
                look_back=config.look_back,
                sweep=config.sweep,
                progress=lambda count: outbound.wiring.progress.advance("records", count),
            )
        context.log.info("%s %s: %d records read", source.asset, step.windows.title, report.records)
        for fusion_id, text in sorted(report.unreadable.items()):
            context.log.warning("%s %d cannot be read: %s", source.name, fusion_id, text)
        for failure in report.alerts_failed:
            context.log.warning("%s", failure)
        return _result(source, step, report)

    return _asset


def _outcome(report: "ReadReport") -> str:
    if not report.extracts:
        return "already read"
    return "read" if report.records else "EMPTY"


def _result(source: Source, step: ExportStep, report: "ReadReport") -> dg.MaterializeResult:
    rows = [
        (str(made.kind), f"{made.window_start:%Y-%m-%d %H:%M}", f"{made.window_end:%Y-%m-%d %H:%M}", made.records,
         made.lines, made.sha256)
        for made in report.extracts
    ]  # fmt: skip
    metadata: dict[str, Any] = {
        "outcome": _outcome(report),
        "records": report.records,
        "lines": report.lines,
        "found_by_sweep": report.missed,
        "cannot_be_read": len(report.unreadable),
        "requests": report.requests,
        "seconds": report.seconds,
        "table_of_extracts": table(columns.EXTRACTS, rows),
        "summary": summary(f"{source.what}, {step.windows.title}", _lines(report)),
    }
    return dg.MaterializeResult(metadata=metadata)


def _lines(report: "ReadReport") -> Iterator[str]:
    yield f"outcome: {_outcome(report)}"
    if report.fusion_now is not None:
        yield f"Fusion's clock: {report.fusion_now:%Y-%m-%d %H:%M:%S} UTC"
    for made in report.extracts:
        yield f"{made.kind}: {made.records} records, {made.lines} lines, SHA-256 {made.sha256}"
    for fusion_id, text in sorted(report.unreadable.items()):
        yield f"{report.source} {fusion_id} cannot be read, and is read again with the next window: {text}"
    if report.missed:
        yield f"{report.missed} records that earlier reads had not shown were found by comparing ids"
