"""What Fusion says of posted invoices on later days, and whether the cause of a parked invoice is gone.

Both are asked in bulk. Fusion's statuses (validation, approval, payment, accounting) are observations with a time, not
our life cycle; an invoice is followed until it is accounted.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.holds import read_holds
from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.fusion.invoices import observe
from mlc_dagster.fusion.q import is_plain
from mlc_dagster.ledger import invoices as ledger_invoices
from mlc_dagster.ledger import observations
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.states import InvoiceState, move
from mlc_dagster.stampli.inbound import Inbound
from mlc_dagster.stampli.posting.absence import require_visible
from mlc_dagster.stampli.posting.confirmation import sent_bodies
from mlc_dagster.stampli.posting.entered_again import EnteredAgain, find_entered_again, note_entered_again
from mlc_dagster.stampli.posting.unseen import look_again
from mlc_dagster.stampli.reasons import reasons
from mlc_dagster.stampli.validation.references import ReferenceReader
from mlc_dagster.stampli.validation.window_validation import judge

_CHUNK = 400


@dataclass
class ObservationSummary:
    """What one round of observation found, in invoices."""

    observed: int = 0
    changed: int = 0
    accounted: int = 0
    on_hold: int = 0
    missing: list[str] = field(default_factory=list[str])
    voided: list[str] = field(default_factory=list[str])
    validation: Counter[str] = field(default_factory=Counter[str])
    accounting: Counter[str] = field(default_factory=Counter[str])
    probed: int = 0
    cured: int = 0


async def observe_invoices(inbound: Inbound, client: FusionClient) -> ObservationSummary:
    """Read the statuses of all invoices that are in Fusion and not accounted yet.

    Raises:
        DataAccessLost: Fusion shows none of the invoices that it showed before.
        FusionError: Fusion cannot be read.
    """
    summary = ObservationSummary()
    after = 0
    while True:
        rows = await asyncio.to_thread(_next_chunk, inbound, after)
        if not rows:
            return summary
        after = rows[-1]["id"]
        records = await observe(client, {row["fusion_invoice_id"] for row in rows})
        await require_visible(inbound.ledger, client, inbound.pod, rows, records)
        holds = await _holds(client, records.values())
        again = await _entered_again(inbound, client, [row for row in rows if row["fusion_invoice_id"] not in records])
        await asyncio.to_thread(_record, inbound, rows, records, holds, again, summary)


def _next_chunk(inbound: Inbound, after: int) -> list[Row]:
    with inbound.ledger.reading() as reading:
        return observations.to_observe(reading, after=after, limit=_CHUNK)


async def _entered_again(inbound: Inbound, client: FusionClient, gone: Sequence[Row]) -> dict[int, EnteredAgain]:
    if not gone:
        return {}
    with inbound.ledger.reading() as reading:
        bodies = sent_bodies(reading, [row["id"] for row in gone])
    return await find_entered_again(inbound, client, gone, bodies)


async def _holds(
    client: FusionClient, records: Iterable[InvoiceRecord]
) -> dict[tuple[str, str | None, str | None], list[str]]:
    numbers = {
        record.number
        for record in records
        # A hold keeps an invoice from being validated; one that is validated has none that matters.
        if is_plain(record.number) and (record.validation_status or "").casefold() not in ("validated", "not validated")
    }
    found: dict[tuple[str, str | None, str | None], list[str]] = {}
    for hold in await read_holds(client, numbers) if numbers else []:
        if not hold.released:
            found.setdefault((hold.invoice_number, hold.business_unit, hold.supplier), []).append(hold.name)
    return found


def _record(
    inbound: Inbound,
    rows: Sequence[Row],
    records: dict[int, InvoiceRecord],
    holds: dict[tuple[str, str | None, str | None], list[str]],
    again: dict[int, EnteredAgain],
    summary: ObservationSummary,
) -> None:
    accounted_word = inbound.settings.fusion.accounted_status.casefold()
    with inbound.ledger.transaction() as transaction:
        for row in rows:
            record = records.get(row["fusion_invoice_id"])
            name = f"{row['number']} (InvoiceId {row['fusion_invoice_id']})"
            state = InvoiceState(row["state"])
            if record is None:
                move(transaction, row["id"], InvoiceState.MISSING_IN_FUSION, expected=(state,), event="invoice.missing")
                entered = again.get(row["id"])
                summary.missing.append(name if entered is None else f"{name}: {entered.text}")
                if entered is not None:
                    note_entered_again(transaction, row["id"], entered)
                continue
            summary.observed += 1
            accounted = (record.accounting_status or "").casefold() == accounted_word
            held = sorted(holds.get((record.number, record.business_unit, record.supplier), []))
            seen = {
                "fusion_invoice_id": record.invoice_id,
                "validation_status": record.validation_status,
                "approval_status": record.approval_status,
                "paid_status": record.paid_status,
                "accounting_status": record.accounting_status,
                "canceled": record.canceled,
                "amount_paid": None if record.amount_paid is None else format(record.amount_paid, "f"),
                "holds": held,
            }
            summary.changed += observations.keep_observation(transaction, row["id"], seen, accounted=accounted)
            summary.accounted += accounted
            summary.on_hold += bool(held)
            summary.validation[record.validation_status or "unknown"] += 1
            summary.accounting[record.accounting_status or "unknown"] += 1
            if record.canceled:
                summary.voided.append(name)
                move(transaction, row["id"], InvoiceState.VOIDED_IN_FUSION, expected=(state,), event="invoice.voided")


async def probe_cures(inbound: Inbound, client: FusionClient, summary: ObservationSummary | None = None) -> int:
    """Judge parked invoices on fresh data and mark those whose cause is gone; how many.

    Reference data is asked for by the distinct keys of a whole chunk, so a thousand invoices of one unknown supplier
    cost one question. The poll then takes each cured invoice up in its home window. What was refused while nothing of
    its business unit was visible counts as cured once something is.
    """
    reader = ReferenceReader(inbound.ledger, client, inbound.settings.fusion)
    curable = [code for code, entry in reasons().items() if entry.cures_itself and not entry.warning]
    after, cured = 0, await look_again(inbound, client)
    if summary is not None:
        summary.cured = cured
    while True:
        with inbound.ledger.reading() as reading:
            rows = ledger_invoices.parked_invoices(reading, curable, after=after, limit=_CHUNK)
        if not rows:
            return cured
        after = rows[-1]["id"]
        verdicts = await judge(inbound, reader, rows)
        with inbound.ledger.transaction() as transaction:
            for verdict in verdicts:
                if verdict.mapping is not None and not verdict.problems:
                    ledger_invoices.mark_cured(transaction, verdict.row["id"], {"reason": verdict.row["reason"]})
                    cured += 1
        if summary is not None:
            summary.probed += len(rows)
            summary.cured = cured
