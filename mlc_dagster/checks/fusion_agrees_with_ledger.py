"""Check ``fusion_agrees_with_ledger``: what we say is in Fusion is what Fusion shows, in count and per currency."""

# ruff: noqa: PLC0415 - the domain and its connectors are imported by the run that uses them.

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from mlc_dagster.assets.columns import DIFFERENCES
from mlc_dagster.assets.failures import KIND, FailureKind, kind_of, said
from mlc_dagster.assets.metadata import money, table
from mlc_dagster.checks.scope import verdict, window_of
from mlc_dagster.resources import InboundResource
from mlc_dagster.vault import scrub

if TYPE_CHECKING:
    from mlc_dagster.fusion.invoice_rows import InvoiceRecord
    from mlc_dagster.ledger.database import Row
    from mlc_dagster.stampli.inbound import Inbound

DESCRIPTION = """
The invoices we created are read from Fusion again, in bulk by InvoiceId, and their header amounts are compared with
what the files said, one by one and as a total per currency.
"""


@dg.asset_check(asset="posted_fusion_invoices", description=DESCRIPTION)
def fusion_agrees_with_ledger(context: dg.AssetCheckExecutionContext, inbound: InboundResource) -> dg.AssetCheckResult:
    """The ledger's created invoices against Fusion's own rows."""
    from mlc_dagster.ledger.controls import created_invoices

    with inbound.ledger.open().reading() as reading:
        rows = created_invoices(reading, window_of(context))
    if not rows:
        return dg.AssetCheckResult(passed=True, description="nothing was created", metadata={"in_ledger": 0})
    try:
        records = _read(inbound.connect(), [row["fusion_invoice_id"] for row in rows])
    except Exception as error:
        scrub(error)
        kind = kind_of(error)
        if kind is FailureKind.UNEXPECTED:
            raise
        # Not seen is neither agreement nor disagreement, and no reason to call the posting wrong.
        return dg.AssetCheckResult(
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"could not be compared: {said(error)}",
            metadata={"in_ledger": len(rows), KIND: str(kind)},
        )
    return _compare(rows, records)


def _read(inbound: "Inbound", invoice_ids: Sequence[int]) -> "dict[int, InvoiceRecord]":
    from mlc_dagster.fusion.invoices import observe
    from mlc_dagster.stampli.inbound import RequestCount

    async def read() -> "dict[int, InvoiceRecord]":
        async with inbound.open_client(RequestCount().count) as client:
            return await observe(client, invoice_ids)

    return asyncio.run(read())


def _compare(rows: "Sequence[Row]", records: "dict[int, InvoiceRecord]") -> dg.AssetCheckResult:
    from mlc_dagster.ledger.states import InvoiceState
    from mlc_dagster.money import minor_units, to_minor
    from mlc_dagster.stampli.steps import amounts

    faults: list[tuple[str, str]] = []
    ours: Counter[str] = Counter()
    theirs: Counter[str] = Counter()
    shown = 0
    for row in rows:
        record = records.get(row["fusion_invoice_id"])
        name = f"{row['number']} (InvoiceId {row['fusion_invoice_id']})"
        standing = row["state"] not in (InvoiceState.MISSING_IN_FUSION, InvoiceState.VOIDED_IN_FUSION)
        if standing:
            ours[row["currency"]] += row["amount_minor"]
        if record is None:
            if row["state"] != InvoiceState.MISSING_IN_FUSION:
                faults.append(("missing in Fusion", name))
            continue
        if record.canceled:
            if row["state"] != InvoiceState.VOIDED_IN_FUSION:
                faults.append(("cancelled in Fusion", name))
            continue
        shown += 1
        currency = record.currency or ""
        minor = None if record.amount is None else to_minor(record.amount, minor_units(currency) or 0)
        theirs[currency] += minor or 0
        if (currency, minor) != (row["currency"], row["amount_minor"]):
            exact = amounts({row["currency"]: row["amount_minor"]})[row["currency"]]
            faults.append(("differs", f"{name}: ledger {exact} {row['currency']}, Fusion {record.amount} {currency}"))
        elif not standing:
            faults.append(("differs", f"{name}: the ledger says {row['state']}, Fusion shows it standing"))
    totals = {currency: (ours[currency], theirs[currency]) for currency in sorted({*ours, *theirs})}
    return dg.AssetCheckResult(
        passed=not faults and all(left == right for left, right in totals.values()),
        description=verdict([f"{text} {what}" if what != "differs" else text for what, text in faults]),
        metadata={
            "in_ledger": len(rows),
            "in_fusion": shown,
            "differences": len(faults),
            **money("ledger_amount", amounts(ours)),
            **money("fusion_amount", amounts(theirs)),
            "table_of_differences": table(DIFFERENCES, faults),
        },
    )
