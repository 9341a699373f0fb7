"""What Fusion says of invoices that it holds, as it was last seen.

Statuses are observations with a time, not states of ours; an invoice is followed until it is accounted.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.schema import (
    fusion_observation,
    invoice,
)
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.types import UtcDateTime


def to_observe(transaction: Transaction, *, after: int = 0, limit: int = 500) -> list[Row]:
    """Invoices that Fusion holds and has not accounted yet, over all windows, by key."""
    return transaction.rows(
        sa.select(invoice, fusion_observation.c.accounting_status)
        .outerjoin(fusion_observation, fusion_observation.c.invoice_pk == invoice.c.id)
        .where(
            invoice.c.state.in_([str(InvoiceState.CREATED), str(InvoiceState.CONFIRMED)]),
            fusion_observation.c.accounted_at.is_(None),
            invoice.c.id > after,
        )
        .order_by(invoice.c.id)
        .limit(limit)
    )


def keep_observation(transaction: Transaction, invoice_pk: int, seen: Mapping[str, Any], *, accounted: bool) -> bool:
    """Store what Fusion shows of an invoice; True, with an audit event, when it differs from the time before."""
    before = transaction.row(sa.select(fusion_observation).where(fusion_observation.c.invoice_pk == invoice_pk))
    changed = before is None or any(before[name] != value for name, value in seen.items())
    accounted_at = (before["accounted_at"] if before else None) or (transaction.now if accounted else None)
    transaction.upsert(
        fusion_observation,
        [{"invoice_pk": invoice_pk, "observed_at": transaction.now, "accounted_at": accounted_at, **seen}],
    )
    if changed:
        transaction.audit("invoice.observed", f"invoice:{invoice_pk}", **seen)
    return changed


def keep_entered_again(
    transaction: Transaction,
    invoice_pk: int,
    *,
    reason: str,
    problems: Sequence[Mapping[str, Any]],
    differences: Mapping[str, Any],
    detail: Mapping[str, Any],
) -> bool:
    """What people entered in place of an invoice that is MISSING_IN_FUSION; False when that is known, or it is not.

    Args:
        transaction: the change and its event are part of it.
        invoice_pk: key of the invoice.
        reason: code of the finding.
        problems: what people are told of it.
        differences: from what was sent, field to [sent, found].
        detail: what the event says besides.
    """
    values = {"reason": reason, "problems": [dict(each) for each in problems], "differences": dict(differences)}
    row = transaction.row(sa.select(invoice).where(invoice.c.id == invoice_pk).with_for_update())
    if row is None or row["state"] != InvoiceState.MISSING_IN_FUSION:
        return False
    if all(row[name] == value for name, value in values.items()):
        return False
    transaction.execute(sa.update(invoice).where(invoice.c.id == invoice_pk).values(values))
    transaction.audit("invoice.entered_again", f"invoice:{invoice_pk}", differences=dict(differences), **detail)
    return True


def something_to_observe(transaction: Transaction) -> bool:
    """True while any invoice is not accounted, or parked."""
    parked = transaction.value(sa.select(invoice.c.id).where(invoice.c.state == str(InvoiceState.PARKED)).limit(1))
    return parked is not None or bool(to_observe(transaction, limit=1))


def observation_due(transaction: Transaction, age: dt.timedelta) -> bool:
    """True when an invoice not accounted yet was last observed, or else last changed, longer than ``age`` ago."""
    seen = sa.func.coalesce(fusion_observation.c.observed_at, invoice.c.changed_at)
    found = transaction.value(
        sa.select(invoice.c.id)
        .outerjoin(fusion_observation, fusion_observation.c.invoice_pk == invoice.c.id)
        .where(
            invoice.c.state.in_([str(InvoiceState.CREATED), str(InvoiceState.CONFIRMED)]),
            fusion_observation.c.accounted_at.is_(None),
            seen < sa.literal(transaction.now - age, UtcDateTime),
        )
        .limit(1)
    )
    return found is not None
