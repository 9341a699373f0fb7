"""What is known of an invoice in Fusion: one rule, for every state and for attempts that were given up."""

from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import invoices, schema
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.standing import Standing
from mlc_dagster.ledger.states import InvoiceState as S
from mlc_dagster_tests.ledger.population import add_invoice, sent_invoice

PLAIN = {
    S.RECEIVED: Standing.NOT_SENT,
    S.VALIDATED: Standing.NOT_SENT,
    S.SENDING: Standing.UNKNOWN,
    S.UNKNOWN: Standing.UNKNOWN,
    S.CREATED: Standing.IN_FUSION,
    S.CONFIRMED: Standing.IN_FUSION,
    S.PARKED: Standing.NOT_SENT,
    S.REJECTED: Standing.NOT_SENT,
    S.ALREADY_IN_FUSION: Standing.IN_FUSION,
    S.MISSING_IN_FUSION: Standing.IN_FUSION,
    S.VOIDED_IN_FUSION: Standing.IN_FUSION,
}


def standing(ledger: Ledger, key: int) -> Standing:
    with ledger.transaction() as transaction:
        row = transaction.row(sa.select(schema.invoice).where(schema.invoice.c.id == key))
        assert row is not None
        source = (row["company_id"], row["source_key"])
        return Standing(invoices.by_source(transaction, [source])[source]["standing"])


@pytest.mark.parametrize("state", list(S))
def test_every_state_has_a_standing(shared_ledger: Ledger, state: S) -> None:
    """A state that nobody placed would let a revision replace what Fusion holds."""
    with shared_ledger.transaction() as transaction:
        key = add_invoice(transaction, state)
    assert standing(shared_ledger, key) is PLAIN[state]


@pytest.mark.parametrize(
    ("state", "columns", "expected"),
    [
        (S.PARKED, {"reason": "SUBMIT_UNKNOWN"}, Standing.UNKNOWN),
        (S.REJECTED, {"reason": "ABANDONED"}, Standing.ABANDONED),
        (S.PARKED, {"fusion_invoice_id": 5}, Standing.IN_FUSION),
        (S.PARKED, {"fusion_invoice_id": 6, "reason": "SUBMIT_UNKNOWN"}, Standing.IN_FUSION),
    ],
)
def test_the_reason_and_fusions_id_count(
    shared_ledger: Ledger, state: S, columns: dict[str, Any], expected: Standing
) -> None:
    """A state alone could be changed; Fusion's id stays, and it outweighs what is believed otherwise."""
    with shared_ledger.transaction() as transaction:
        key = add_invoice(transaction, state, **columns)
    assert standing(shared_ledger, key) is expected


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (S.RECEIVED, None, Standing.UNKNOWN),
        (S.PARKED, "VENDOR_UNKNOWN", Standing.UNKNOWN),
        (S.REJECTED, "ABANDONED", Standing.ABANDONED),
        (S.CONFIRMED, None, Standing.IN_FUSION),
    ],
)
def test_an_attempt_given_up_as_unknown_counts_until_people_or_fusion_settle_it(
    shared_ledger: Ledger, state: S, reason: str | None, expected: Standing
) -> None:
    """Whatever the invoice is parked for by now, something of it may be in Fusion."""
    key, intent = sent_invoice(shared_ledger)
    with shared_ledger.transaction() as transaction:
        attempt = schema.submission.c.id == intent.submission_id
        given_up = {"phase": "UNKNOWN", "ended_at": transaction.now}
        transaction.execute(sa.update(schema.submission).where(attempt).values(**given_up))
        changed = sa.update(schema.invoice).where(schema.invoice.c.id == key)
        transaction.execute(changed.values(state=str(state), reason=reason))
    assert standing(shared_ledger, key) is expected
