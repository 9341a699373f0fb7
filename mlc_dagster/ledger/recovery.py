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

_FURTHER = "SUBMIT_UNKNOWN"
"""In ``released_reasons`` with the number of attempts that two people allowed: ``SUBMIT_UNKNOWN(4)``."""


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


def allow_attempt(transaction: Transaction, invoice_pk: int) -> int:
    """One more attempt with unknown outcome than there were; how many are allowed now.

    For ``unsettled.allow_repost`` alone, which two people stand for. A newer appearance takes the permission away.
    """
    allowed = unknown_attempts(transaction, invoice_pk) + 1
    before: list[str] = transaction.value(sa.select(invoice.c.released_reasons).where(invoice.c.id == invoice_pk)) or []
    after = sorted({*before, f"{_FURTHER}({allowed})"})
    transaction.execute(sa.update(invoice).where(invoice.c.id == invoice_pk).values(released_reasons=after))
    return allowed


def attempts_allowed(transaction: Transaction, invoice_pk: int, usual: int) -> int:
    """Attempts with unknown outcome that an invoice may have: ``usual``, or what two people allowed."""
    released = transaction.value(sa.select(invoice.c.released_reasons).where(invoice.c.id == invoice_pk))
    entries: list[str] = released or []
    numbers = [int(entry[len(_FURTHER) + 1 : -1]) for entry in entries if entry.startswith(f"{_FURTHER}(")]
    return max([usual, *numbers])


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


def belongs_to_another(
    transaction: Transaction,
    invoice_pk: int,
    *,
    fusion_invoice_id: int,
    number_key: str,
    supplier_number: str | None,
) -> bool:
    """Whether an invoice of Fusion's is, or by its number may be, another invoice of this ledger than that one."""
    same_name = sa.and_(invoice.c.number_key == number_key, invoice.c.supplier_number == supplier_number)
    found = transaction.value(
        sa.select(invoice.c.id)
        .where(invoice.c.id != invoice_pk, sa.or_(invoice.c.fusion_invoice_id == fusion_invoice_id, same_name))
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
