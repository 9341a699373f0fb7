"""Check ``control_totals_match``: the rows and sums of each file are those that were entered into the ledger."""

# ruff: noqa: PLC0415 - the domain is imported by the run that uses it.

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import dagster as dg

from mlc_dagster.assets.metadata import table
from mlc_dagster.checks.scope import verdict, window_of
from mlc_dagster.resources import InboundResource

if TYPE_CHECKING:
    from mlc_dagster.ledger.controls import FileControl

DESCRIPTION = """
Per file: rows = rows in invoices + rows quarantined, and what the reader counted and added up (invoices, rows, amount
per currency) = what the ledger's rows add up to.
"""
COLUMNS = (
    dg.TableColumn("file", description="File and version."),
    dg.TableColumn("rows", "int", description="Rows under the header."),
    dg.TableColumn("in_invoices", "int", description="Rows that belong to an invoice."),
    dg.TableColumn("quarantined", "int", description="Rows that could not be read."),
    dg.TableColumn("invoices", "int", description="Invoices in the file."),
    dg.TableColumn("fault", description="Where the two sides differ."),
)


@dg.asset_check(asset="stampli_invoice_files", description=DESCRIPTION)
def control_totals_match(context: dg.AssetCheckExecutionContext, inbound: InboundResource) -> dg.AssetCheckResult:
    """Both sides of every file that was read."""
    from mlc_dagster.ledger.controls import file_controls
    from mlc_dagster.stampli.inbound import FEED

    with inbound.ledger.open().reading() as reading:
        controls = file_controls(reading, FEED, window_of(context))
    # Those at fault first: the table is bounded.
    ordered = sorted(controls, key=lambda control: not control.faults)
    return dg.AssetCheckResult(
        passed=not any(control.faults for control in controls),
        description=verdict([f"{control.path}: {fault}" for control in ordered for fault in control.faults]),
        metadata={
            "files": len(controls),
            "files_at_fault": sum(bool(control.faults) for control in controls),
            "rows": sum(control.rows for control in controls),
            "rows_in_invoices": sum(control.rows_in_invoices for control in controls),
            "rows_quarantined": sum(control.rows_quarantined for control in controls),
            "invoices": sum(control.invoices for control in controls),
            "table_of_files": table(COLUMNS, _rows(ordered)),
        },
    )  # fmt: skip


def _rows(controls: "Iterable[FileControl]") -> "Iterator[tuple[str | int, ...]]":
    """Each file, and under a manifest the files of its delivery, whose rows are among its own."""
    for control in controls:
        counts = (control.rows, control.rows_in_invoices, control.rows_quarantined, control.invoices)
        yield (f"{control.path} v{control.version}", *counts, "; ".join(control.faults))
        for part in control.parts:
            counts = (part.rows, part.rows_in_invoices, part.rows_quarantined, 0)
            yield (f"{part.path} v{part.version}", *counts, "")
