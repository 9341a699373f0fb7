"""Asset ``posted_fusion_invoices``: the window's validated invoices in Fusion, each once, read back to the cent."""

# ruff: noqa: PLC0415 - the domain and its connectors are imported by the run that uses them.

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlc_dagster.assets import columns
from mlc_dagster.assets.holding import WindowStep, held_window
from mlc_dagster.assets.metadata import money, reasons_text, summary, table
from mlc_dagster.resources import InboundResource

IN_THE_FOLDER = "in_the_folder"
"""Metadata: processed files that stay in the folder, and newer versions met while files were put away."""
_MOST_TOLD = 20

if TYPE_CHECKING:
    from mlc_dagster.stampli.steps import PostReport

DESCRIPTION = """
Invoices created in Oracle Fusion Payables, **each exactly once**, and read back.

Before an invoice is sent it is proven that Fusion does not have it. The intent, with the exact bytes, is committed
before the request; its outcome after it. An outcome that is not known waits and is looked up twice before anything is
sent again. What was created is read back and compared to the cent; then comes what the company wants done
(`after_create`) and the attachment.

Materialising a window again posts nothing that is there: it looks everything up, finishes what is unfinished, and
reports `unchanged` when nothing differs. That is the reconciliation.
"""


def build_posted_fusion_invoices(windows: dg.TimeWindowPartitionsDefinition, group: str) -> dg.AssetsDefinition:
    """The asset on these windows."""

    @dg.asset(
        partitions_def=windows,
        deps=["validated_invoices"],
        group_name=group,
        description=DESCRIPTION,
        owners=["team:finance-systems"],
        kinds={"oracle"},
        tags={"domain": "accounts-payable", "source": "stampli"},
        metadata={"dagster/column_schema": columns.POSTED_INVOICE},
        code_version="1",
    )
    def posted_fusion_invoices(context: dg.AssetExecutionContext, inbound: InboundResource) -> dg.MaterializeResult:
        from mlc_dagster.stampli.steps import post_step

        with held_window(context, inbound) as step:
            report = post_step(step.inbound, step.held, inbound.wiring.progress.advance)
            step.held.summary.update(_numbers(report))
            result = _result(step, report)
        posting = report.posting
        for problem in report.disposal_problems[:_MOST_TOLD]:
            context.log.warning("%s", problem)
        context.log.info("%s: %d created, %d confirmed", step.title, posting.created, report.confirmation.confirmed)
        return result

    return posted_fusion_invoices


def _numbers(report: "PostReport") -> dict[str, int]:
    """What this run did, in invoices; whole numbers, as the ledger keeps them with the generation."""
    posting, confirmation = report.posting, report.confirmation
    return {
        "posted": posting.created,
        "adopted": posting.adopted,
        "already_in_fusion": posting.already_in_fusion,
        "parked": posting.parked.total(),
        "refused": posting.refused,
        "unknown": posting.unknown,
        "resent": posting.resent,
        "left_waiting": posting.left_waiting,
        "confirmed": confirmation.confirmed,
        "differing": len(confirmation.differing),
        "missing": len(confirmation.missing),
        "voided": len(confirmation.voided),
        "after_create": confirmation.after_create,
        "attached": confirmation.attached,
        "requests": report.requests.requests,
    }


def _outcome(numbers: dict[str, int]) -> str:
    if numbers["posted"] or numbers["adopted"]:
        return "posted"
    if numbers["differing"] or numbers["missing"] or numbers["voided"]:
        return "differs"
    if numbers["left_waiting"]:
        return "waiting"
    changed = (
        "already_in_fusion", "parked", "refused", "unknown", "resent", "confirmed", "after_create", "attached",
    )  # fmt: skip
    return "settled" if any(numbers[name] for name in changed) else "unchanged"


def _result(step: WindowStep, report: "PostReport") -> dg.MaterializeResult:
    from mlc_dagster.stampli.steps import amounts

    numbers = _numbers(report)
    created = report.equation.buckets["created"]
    plots: dict[str, Any] = {f"window_{name}": tally.count for name, tally in report.equation.buckets.items()}
    if numbers["posted"]:
        plots["requests_per_invoice"] = report.requests.requests / numbers["posted"]
    return dg.MaterializeResult(
        metadata={
            "outcome": _outcome(numbers),
            **numbers,
            **plots,
            "duplicates": report.equation.count("duplicate"),
            **money("amount", amounts(created.minor)),
            "slowest_request": report.requests.slowest,
            "generation": step.held.work.generation,
            "seconds": report.seconds,
            **({IN_THE_FOLDER: report.disposal_problems[:_MOST_TOLD]} if report.disposal_problems else {}),
            "table_of_differences": table(columns.DIFFERENCES, _differences(report)),
            "summary": summary(f"Posting of {step.title}", _lines(numbers, report)),
        }
    )


def _lines(numbers: dict[str, int], report: "PostReport") -> Iterable[str]:
    yield f"outcome: {_outcome(numbers)}"
    yield f"{numbers['posted']} created, {numbers['confirmed']} read back and equal to the cent"
    if report.confirmation.unchanged:
        yield f"{report.confirmation.unchanged} created before, looked up again and equal"
    if numbers["adopted"]:
        yield f"{numbers['adopted']} were created by an earlier attempt whose outcome was not known"
    if numbers["already_in_fusion"]:
        yield f"{numbers['already_in_fusion']} were in Fusion already, and not by us: left alone"
    if report.posting.parked:
        yield f"parked: {reasons_text(report.posting.parked)}"
    if numbers["left_waiting"]:
        yield f"{numbers['left_waiting']} wait for their turn or for their outcome; the next poll goes on with them"
    for problem in report.disposal_problems[:_MOST_TOLD]:
        yield f"in the folder: {problem}"


def _differences(report: "PostReport") -> Iterator[tuple[str, str]]:
    found = report.confirmation
    for what, texts in (
        ("differs", found.differing),
        ("missing in Fusion", found.missing),
        ("cancelled in Fusion", found.voided),
        ("not done", found.problems),
    ):
        for text in texts:
            yield what, text
