"""Asset ``validated_invoices``: the window's invoices judged: VALIDATED with a mapping, or PARKED with a reason."""

# ruff: noqa: PLC0415 - the domain and its connectors are imported by the run that uses them.

from collections.abc import Iterable
from typing import TYPE_CHECKING

import dagster as dg

from mlc_dagster.assets import columns
from mlc_dagster.assets.holding import WindowStep, held_window
from mlc_dagster.assets.metadata import reasons_text, summary, table
from mlc_dagster.resources import InboundResource

if TYPE_CHECKING:
    from mlc_dagster.ledger.database import Row
    from mlc_dagster.stampli.steps import ValidateReport

DESCRIPTION = """
Every invoice of the window, checked and mapped to Fusion.

Checks that need no other system come first (required fields, header equal on every line, lines sum to the header,
currency, memo signs). Then supplier, site, account combination, cost centre and both periods are found in Fusion, read
in bulk and cached. One that fails is **parked** with its reason, the offending value and what to do; the others go on.

A parked invoice whose cause is gone (the supplier was created, the period opened) goes through by itself.
"""


def build_validated_invoices(windows: dg.TimeWindowPartitionsDefinition, group: str) -> dg.AssetsDefinition:
    """The asset on these windows."""

    @dg.asset(
        partitions_def=windows,
        deps=["stampli_invoice_files"],
        group_name=group,
        description=DESCRIPTION,
        owners=["team:finance-systems"],
        kinds={"oracle", "python"},
        tags={"domain": "accounts-payable", "source": "stampli"},
        metadata={"dagster/column_schema": columns.VALIDATED_INVOICE},
        code_version="1",
    )
    def validated_invoices(context: dg.AssetExecutionContext, inbound: InboundResource) -> dg.MaterializeResult:
        from mlc_dagster.stampli.steps import validate_step

        with held_window(context, inbound, followed_by=("posted_fusion_invoices",)) as step:
            report = validate_step(step.inbound, step.held, inbound.wiring.progress.advance)
            result = _result(step, report)
        found = report.summary
        context.log.info("%s: %d validated, %d parked", step.title, found.validated, found.parked.total())
        return result

    return validated_invoices


def _result(step: WindowStep, report: "ValidateReport") -> dg.MaterializeResult:
    from mlc_dagster.ledger.outcomes import parked_in_window

    with step.inbound.ledger.reading() as reading:
        parked = parked_in_window(reading, step.held.work.start)
    found = report.summary
    unchanged = not (found.validated or found.parked or found.voided or report.decided_waiting)
    lines = [
        f"{found.validated} validated, {found.parked.total()} parked now, {found.still_parked} still parked",
    ]
    if found.parked:
        lines.append(f"parked: {reasons_text(found.parked)}")
    if found.warnings:
        lines.append(f"warnings: {reasons_text(found.warnings)}")
    if found.voided:
        lines.append(f"{found.voided} voided in Stampli before they were sent")
    return dg.MaterializeResult(
        metadata={
            "outcome": "unchanged" if unchanged else "validated",
            "validated": found.validated,
            "parked": found.parked.total(),
            "still_parked": found.still_parked,
            "voided": found.voided,
            "warnings": found.warnings.total(),
            "requests": report.requests.requests,
            "generation": step.held.work.generation,
            "seconds": report.seconds,
            "table_of_parked": table(columns.PARKED, _parked_rows(parked)),
            "summary": summary(f"Invoices of {step.title}", lines),
        }
    )


def _parked_rows(rows: Iterable["Row"]) -> Iterable[tuple[object, ...]]:
    """One line per parked invoice, with its first problem; further ones are in ``mlc invoices show``."""
    for row in rows:
        problems: list[dict[str, object]] = row["problems"] or []
        first = problems[0] if problems else {}
        lines: list[int] = row["file_rows"]
        where = f"{row['file_path'].rpartition('/')[2]}, row {lines[0]}" if lines else row["file_path"]
        amount = f"{row['amount_text'] or '?'} {row['currency'] or ''}".strip()
        yield (
            row["number"], row["vendor_id"], amount, where, row["reason"],
            first.get("field"), first.get("value"), first.get("remedy"),
        )  # fmt: skip
