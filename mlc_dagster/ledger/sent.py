"""Which appearance of an invoice is in Fusion, when a newer one took its place before anybody knew.

An answer can come late: the request was stored, the answer was lost, and a revision superseded what was sent. What is
in Fusion is what was sent, so that appearance counts again and the newer one is for a person.
"""

import sqlalchemy as sa

from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.prepared import Prepared
from mlc_dagster.ledger.schema import invoice, invoice_occurrence
from mlc_dagster.ledger.states import OccurrenceOutcome

_CURRENT = Prepared(sa.select(invoice.c.occurrence_id).where(invoice.c.id == sa.bindparam("key")))


def keep_sent(transaction: Transaction, invoice_pk: int, occurrence_id: int | None) -> None:
    """Make the appearance that was sent the current one again; the one in its place is PARKED(REVISION_AFTER_POST)."""
    current = _CURRENT.value(transaction, {"key": invoice_pk})
    if occurrence_id is None or current == occurrence_id:
        return
    sent = transaction.row(sa.select(invoice_occurrence).where(invoice_occurrence.c.id == occurrence_id))
    assert sent is not None  # noqa: S101 - rows are never deleted
    for key, outcome, reason in (
        (current, OccurrenceOutcome.PARKED, "REVISION_AFTER_POST"),
        (occurrence_id, OccurrenceOutcome.CURRENT, None),
    ):
        transaction.execute(
            sa.update(invoice_occurrence)
            .where(invoice_occurrence.c.id == key)
            .values(outcome=str(outcome), reason=reason)
        )
    transaction.execute(
        sa.update(invoice)
        .where(invoice.c.id == invoice_pk)
        .values(
            occurrence_id=occurrence_id, number=sent["number"], vendor_id=sent["vendor_id"], currency=sent["currency"],
            amount_minor=sent["amount_minor"], amount_text=sent["amount_text"], window_start=sent["window_start"],
        )
    )  # fmt: skip
    transaction.audit("invoice.sent_was_older", f"invoice:{invoice_pk}", occurrence=occurrence_id, newer=current)
