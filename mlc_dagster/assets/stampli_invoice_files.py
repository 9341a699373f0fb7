"""Asset ``stampli_invoice_files``: the window's files, whole and archived, and their invoices in the ledger."""

# ruff: noqa: PLC0415 - the domain and its connectors are imported by the run that uses them.

from collections import Counter
from typing import TYPE_CHECKING

import dagster as dg

from mlc_dagster.assets import columns
from mlc_dagster.assets.holding import WindowStep, held_window
from mlc_dagster.assets.metadata import money, reasons_text, summary, table
from mlc_dagster.resources import InboundResource

DIFFERING = "differing"
"""Metadata: what in the archived files, read again, is not as the ledger has it."""
_MOST_TOLD = 50

if TYPE_CHECKING:
    from mlc_dagster.ledger.outcomes import FileOutcome
    from mlc_dagster.stampli.steps import ReceiveReport

DESCRIPTION = """
Approved invoices as Stampli exported them, for one poll window.

A file is taken when two looks at least `settle_seconds` apart agree, its size is the same after the download, and it
ends where its profile says. Its bytes are archived by hash **before** the ledger calls it received. A file that is not
whole waits; a row that cannot be read is quarantined with its line number; neither holds up the others.

Materialising a window again reads the archived bytes again and says where the ledger differs from them.
"""


def build_stampli_invoice_files(windows: dg.TimeWindowPartitionsDefinition, group: str) -> dg.AssetsDefinition:
    """The asset on these windows."""

    @dg.asset(
        partitions_def=windows,
        group_name=group,
        description=DESCRIPTION,
        owners=["team:finance-systems"],
        kinds={"sftp", "csv"},
        tags={"domain": "accounts-payable", "source": "stampli"},
        metadata={"dagster/column_schema": columns.SOURCE_FILE},
        code_version="1",
    )
    def stampli_invoice_files(context: dg.AssetExecutionContext, inbound: InboundResource) -> dg.MaterializeResult:
        from mlc_dagster.stampli.steps import receive_step

        with held_window(context, inbound, followed_by=("validated_invoices", "posted_fusion_invoices")) as step:
            report = receive_step(step.inbound, step.held, inbound.wiring.progress.advance)
            result = _result(step, report)
        for text in _lost(report):
            context.log.warning("%s", text)
        context.log.info("%s: %d files, %d of them read now", step.title, len(report.files), len(report.readings))
        return result

    return stampli_invoice_files


def _result(step: WindowStep, report: "ReceiveReport") -> dg.MaterializeResult:
    from mlc_dagster.ledger.outcomes import file_outcomes
    from mlc_dagster.stampli.steps import amounts, file_states

    with step.inbound.ledger.reading() as reading:
        outcomes = file_outcomes(reading, report.files)
    minor: Counter[str] = Counter()
    for file in report.readings:
        minor.update(file.amounts_minor)
    states = file_states(report.files)
    lost = _lost(report)
    differences = [f"{again.path}: {text}" for again in report.rereadings for text in again.differences]
    numbers = {
        "files": len(report.files),
        "files_read": len(report.readings) - len(lost),
        "files_lost": len(lost),
        "files_waiting": sum(str(receipt.state) == "RELEASED" for receipt in report.receipts),
        "files_same_bytes": states["SAME_BYTES"],
        "files_rejected": states["REJECTED"],
        "invoices": sum(file.invoices for file in report.readings),
        "rows": sum(file.rows_total for file in report.readings),
        "quarantined": sum(file.rows_quarantined for file in report.readings),
        "bytes": sum(receipt.size for receipt in report.receipts),
    }
    lines = [f"{receipt.path}: {receipt.text}" for receipt in report.receipts if receipt.text != "received"][
        :_MOST_TOLD
    ]
    lines = [*lost[:_MOST_TOLD], *lines]
    lines += [text for file in report.readings for text in file.quarantined][:20]
    if step.held.reconciling:
        read_again = sum(again.invoices for again in report.rereadings)
        erased = [f"{again.path}: not read again, {again.erased}" for again in report.rereadings if again.erased]
        compared = sum(again.erased is None and again.unreadable is None for again in report.rereadings)
        lines.append(f"{compared} files with {read_again} invoices were read again from the archive")
        lines += erased[:_MOST_TOLD]
        lines += differences[:_MOST_TOLD] or ["nothing differs from the ledger"]
    return dg.MaterializeResult(
        metadata={
            "outcome": _outcome(step, report, differences),
            **numbers,
            **money("amount", amounts(minor)),
            "differences": len(differences),
            **({DIFFERING: differences[:_MOST_TOLD]} if differences else {}),
            "dagster/row_count": numbers["rows"],
            "generation": step.held.work.generation,
            "seconds": report.seconds,
            "table_of_files": table(columns.FILES, (_row(outcome) for outcome in outcomes)),
            "summary": summary(f"Files of {step.title}", lines or ["every file was received whole"]),
        }
    )


def _lost(report: "ReceiveReport") -> list[str]:
    """Files whose bytes the archive has lost since they were received, each with what a person does about it."""
    return [file.released for file in report.readings if file.released is not None]


def _outcome(step: WindowStep, report: "ReceiveReport", differences: list[str]) -> str:
    if len(report.readings) > len(_lost(report)):
        return "read"
    if differences:
        return "differs"
    return "unchanged" if step.held.reconciling or not report.receipts else "nothing to read"


def _row(file: "FileOutcome") -> tuple[object, ...]:
    why = "; ".join(text for text in (file.reason, reasons_text(file.why)) if text)
    outcome = ", ".join(f"{count} {bucket}" for bucket, count in sorted(file.buckets.items()))
    return (
        file.name, file.version, file.state, file.size, file.rows, file.quarantined, file.invoices, outcome, why,
    )  # fmt: skip
