"""Asset ``fusion_invoice_status``: what Fusion says of posted invoices, and whether parked ones are cured."""

# ruff: noqa: PLC0415 - the domain and its connectors are imported by the run that uses them.

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import dagster as dg

from mlc_dagster.assets import columns
from mlc_dagster.assets.failures import as_failure
from mlc_dagster.assets.metadata import reasons_text, summary, table
from mlc_dagster.resources import InboundResource

if TYPE_CHECKING:
    from mlc_dagster.stampli.observing import ObservationSummary

DESCRIPTION = """
Validation, approval, holds, accounting and payment of the invoices we posted, as Fusion shows them now.

These are observations with a time, not our life cycle. An invoice is followed until it is **accounted**. In the same
round the causes of parked invoices are probed, with one question per distinct missing supplier, account or period:
those that are cured are taken up by the next poll, in their own window.
"""


def build_fusion_invoice_status(group: str) -> dg.AssetsDefinition:
    """The asset; it has no partitions: a status belongs to now."""

    @dg.asset(
        deps=["posted_fusion_invoices"],
        group_name=group,
        description=DESCRIPTION,
        owners=["team:finance-systems"],
        kinds={"oracle"},
        tags={"domain": "accounts-payable", "source": "fusion"},
        metadata={"dagster/column_schema": columns.STATUS},
        code_version="1",
    )
    def fusion_invoice_status(context: dg.AssetExecutionContext, inbound: InboundResource) -> dg.MaterializeResult:
        from mlc_dagster.stampli.steps import observe_step

        began = time.monotonic()
        try:
            seen = observe_step(inbound.connect())
        except Exception as error:
            failure = as_failure(error)
            if failure is None:
                raise
            raise failure from error
        context.log.info("%d observed, %d changed, %d cured", seen.observed, seen.changed, seen.cured)
        return _result(seen, time.monotonic() - began)

    return fusion_invoice_status


def _result(seen: "ObservationSummary", seconds: float) -> dg.MaterializeResult:
    gone = [("missing in Fusion", name) for name in seen.missing]
    gone += [("cancelled in Fusion", name) for name in seen.voided]
    unchanged = not (seen.changed or seen.cured or gone)
    return dg.MaterializeResult(
        metadata={
            "outcome": "unchanged" if unchanged else "changed",
            "observed": seen.observed,
            "changed": seen.changed,
            "accounted": seen.accounted,
            "on_hold": seen.on_hold,
            "missing": len(seen.missing),
            "voided": len(seen.voided),
            "probed": seen.probed,
            "cured": seen.cured,
            "seconds": seconds,
            "table_of_differences": table(columns.DIFFERENCES, gone),
            "summary": summary("Posted invoices, as Fusion shows them now", _lines(seen)),
        }
    )


def _lines(seen: "ObservationSummary") -> Iterable[str]:
    yield f"{seen.observed} observed, {seen.changed} changed since the time before, {seen.accounted} now accounted"
    if seen.validation:
        yield f"validation: {reasons_text(seen.validation)}"
    if seen.accounting:
        yield f"accounting: {reasons_text(seen.accounting)}"
    if seen.on_hold:
        yield f"{seen.on_hold} on hold"
    yield f"{seen.probed} parked invoices probed, {seen.cured} of them cured: the next poll takes them up"
