"""Attempts that did not end at once: whose sender is gone, whose outcome is unknown, who wait for their time.

Reading and postponing them, and telling which intents lost their sender. How an attempt begins and ends is in
``submissions``.
"""

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.schema import invoice, submission
from mlc_dagster.ledger.states import InvoiceState, move
from mlc_dagster.ledger.submissions import WAITING_PHASES, Phase, mark_unknown


def expire_intents(transaction: Transaction, window_start: dt.datetime, *, wait: dt.timedelta) -> int:
    """Intents whose lease ran out: their sender is gone or stopped, the outcome is unknown. How many there were.

    Counted from the end of the lease, since no sender begins a request that could outlast it.
    """
    rows = transaction.rows(
        sa.select(submission.c.id, submission.c.lease_until)
        .join(invoice, invoice.c.id == submission.c.invoice_pk)
        .where(
            # The invoice's window, which a newer appearance may have moved, is the one whose runs settle it.
            invoice.c.window_start == window_start,
            submission.c.phase == str(Phase.INTENT),
            submission.c.lease_until < transaction.now,
        )
    )
    for row in rows:
        rest = max(row["lease_until"] + wait - transaction.now, dt.timedelta(0))
        mark_unknown(transaction, row["id"], wait=rest, http_status=None, why="the sending process ended in between")
    return len(rows)


def unknown_count(transaction: Transaction, pod: str | None = None) -> int:
    """How many outcomes are unknown now, over all windows (of one Fusion environment, or of all)."""
    here = sa.true() if pod is None else submission.c.pod == pod
    return int(
        transaction.value(
            sa.select(sa.func.count())
            .select_from(submission)
            .where(here, submission.c.phase == str(Phase.UNKNOWN), submission.c.ended_at.is_(None))
        )
    )


def unknown_attempts(transaction: Transaction, invoice_pk: int) -> int:
    """Attempts of an invoice, over all runs, whose outcome was unknown."""
    return int(
        transaction.value(
            sa.select(sa.func.count())
            .select_from(submission)
            .where(
                submission.c.invoice_pk == invoice_pk,
                submission.c.phase.in_([str(Phase.UNKNOWN), str(Phase.ABSENT)]),
            )
        )
    )


def waiting(transaction: Transaction, window_start: dt.datetime, submission_id: int | None = None) -> list[Row]:
    """Attempts of a window's invoices that wait (refused, unknown, or leased to a sender), with the invoice's keys."""
    only = sa.true() if submission_id is None else submission.c.id == submission_id
    return transaction.rows(
        sa.select(
            submission,
            invoice.c.business_unit,
            invoice.c.supplier_id,
            invoice.c.supplier_number,
            invoice.c.fusion_number,
            invoice.c.number_key,
            invoice.c.mapping,
        )
        .join(invoice, invoice.c.id == submission.c.invoice_pk)
        .where(
            only,
            invoice.c.window_start == window_start,
            submission.c.phase.in_([str(Phase.INTENT), *WAITING_PHASES]),
            submission.c.ended_at.is_(None),
        )
        .order_by(submission.c.id)
    )


def postpone(transaction: Transaction, submission_id: int, wait: dt.timedelta) -> None:
    """Look at a waiting attempt again after ``wait``."""
    transaction.execute(
        sa.update(submission).where(submission.c.id == submission_id).values(not_before=transaction.now + wait)
    )


def get_submission(transaction: Transaction, submission_id: int) -> Row:
    """An attempt by its key."""
    row = transaction.row(sa.select(submission).where(submission.c.id == submission_id))
    assert row is not None  # noqa: S101 - rows are never deleted
    return row


def last_attempt(transaction: Transaction, invoice_pk: int) -> Row | None:
    """The latest attempt at an invoice, however it ended."""
    return transaction.row(
        sa.select(submission)
        .where(submission.c.invoice_pk == invoice_pk)
        .order_by(submission.c.attempt.desc())
        .limit(1)
    )


def attempts_of(transaction: Transaction, invoice_keys: Sequence[int]) -> list[Row]:
    """All attempts of these invoices, oldest first."""
    return transaction.rows(
        sa.select(submission).where(submission.c.invoice_pk.in_(list(invoice_keys))).order_by(submission.c.id)
    )


def unresolved(transaction: Transaction, invoice_pk: int) -> bool:
    """True while an attempt of the invoice was given up without knowing whether Fusion created it."""
    found = transaction.value(
        sa.select(submission.c.id)
        .where(
            submission.c.invoice_pk == invoice_pk,
            submission.c.phase == str(Phase.UNKNOWN),
            submission.c.ended_at.is_not(None),
        )
        .limit(1)
    )
    return found is not None


def reopen(transaction: Transaction, invoice_pk: int, *, by: str) -> bool:
    """A person wants an invoice parked as SUBMIT_UNKNOWN looked for again: its last attempt is unknown once more.

    The frozen bytes stay; both proofs of absence must be given anew. False when it is not parked for that.
    """
    last = last_attempt(transaction, invoice_pk)
    if last is None:
        return False
    moved = move(
        transaction,
        invoice_pk,
        InvoiceState.UNKNOWN,
        expected=(InvoiceState.PARKED,),
        event="submission.reopened",
        detail={"by": by, "submission": last["id"]},
    )
    if moved:
        transaction.execute(
            sa.update(submission)
            .where(submission.c.id == last["id"])
            .values(phase=str(Phase.UNKNOWN), ended_at=None, absences=0, not_before=transaction.now)
        )
    return moved
