"""Attempts that did not end at once: whose sender is gone, whose outcome is unknown, who wait for their time.

Reading and postponing them, and telling which intents lost their sender. How an attempt begins and ends is in
``submissions``.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.prepared import Prepared
from mlc_dagster.ledger.schema import audit_event, fusion_observation, invoice, submission
from mlc_dagster.ledger.states import InvoiceState, move
from mlc_dagster.ledger.submissions import OPEN_PHASES, Phase, mark_unknown

_LARGEST_IN = 400
_HTTP_CREATED = 201
_WAITS = (
    sa.select(
        submission,
        invoice.c.business_unit,
        invoice.c.supplier_id,
        invoice.c.supplier_number,
        invoice.c.fusion_number,
        invoice.c.number_key,
        invoice.c.mapping,
        invoice.c.released_reasons,
    )
    .join(invoice, invoice.c.id == submission.c.invoice_pk)
    .where(
        invoice.c.window_start == sa.bindparam("window"),
        submission.c.phase.in_([sa.literal(phase) for phase in OPEN_PHASES]),
        submission.c.ended_at.is_(None),
    )
    .order_by(submission.c.id)
)
_WAITING = Prepared(_WAITS)
"""Made once: asked for twice a second while a window is posted."""
_WAITING_ONE = Prepared(_WAITS.where(submission.c.id == sa.bindparam("only")))
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
    given = {"window": window_start}
    return (
        _WAITING.rows(transaction, given)
        if submission_id is None
        else _WAITING_ONE.rows(transaction, given | {"only": submission_id})
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


def note_unread(transaction: Transaction, submission_id: int, invoice_ids: Sequence[int]) -> int:
    """Fusion lists what may be an attempt's and does not show it whole; how many times by now, over all runs."""
    subject = f"invoice:{get_submission(transaction, submission_id)['invoice_pk']}"
    noted = sa.select(sa.func.count()).select_from(audit_event)
    before = transaction.value(noted.where(audit_event.c.subject == subject, audit_event.c.kind == "submission.unread"))
    transaction.audit("submission.unread", subject, submission=submission_id, invoice_ids=list(invoice_ids))
    return int(before) + 1


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


def only_released_before(transaction: Transaction, submission_id: int) -> bool:
    """True when every attempt at the invoice before this one, if there was any, was given up without being stored."""
    this = submission.alias("this")
    found = transaction.value(
        sa.select(submission.c.id)
        .join(this, sa.and_(this.c.invoice_pk == submission.c.invoice_pk, this.c.attempt > submission.c.attempt))
        .where(this.c.id == submission_id, submission.c.phase != str(Phase.RELEASED))
        .limit(1)
    )
    return found is None


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


def known_invoices(
    transaction: Transaction, records: Mapping[int, tuple[str, str | None]], *, but: int | None = None
) -> set[int]:
    """InvoiceIds of Fusion's that are, or by their name may be, an invoice of this ledger.

    Args:
        transaction: read from.
        records: what Fusion shows: (number's key, supplier's number) by InvoiceId.
        but: key of an invoice that does not count.
    """
    others = sa.true() if but is None else invoice.c.id != but
    found: set[int] = set()
    ids = list(records)
    for start in range(0, len(ids), _LARGEST_IN):
        part = ids[start : start + _LARGEST_IN]
        by_id = sa.select(invoice.c.fusion_invoice_id).where(others, invoice.c.fusion_invoice_id.in_(part))
        found.update(row["fusion_invoice_id"] for row in transaction.rows(by_id))
        left = {key: records[key] for key in part if key not in found}
        if not left:
            continue
        by_name = sa.select(invoice.c.number_key, invoice.c.supplier_number).where(
            others, invoice.c.number_key.in_(sorted({number for number, _ in left.values()}))
        )
        names = {(row["number_key"], row["supplier_number"]) for row in transaction.rows(by_name)}
        found.update(key for key, name in left.items() if name in names)
    return found


def unsettled_in_group(transaction: Transaction, invoice_pk: int, pod: str, invoice_group: str) -> list[Row]:
    """Attempts at other invoices in a group of which it is not known what they created: open, or given up."""
    return transaction.rows(
        sa.select(submission)
        .where(
            submission.c.invoice_pk != invoice_pk,
            submission.c.pod == pod,
            submission.c.invoice_group == invoice_group,
            submission.c.phase.in_(OPEN_PHASES),
            # Ended as REFUSED: looked for and absent, and sent again since.
            sa.or_(submission.c.ended_at.is_(None), submission.c.phase == str(Phase.UNKNOWN)),
        )
        .order_by(submission.c.id)
    )


def reopen(transaction: Transaction, invoice_pk: int, *, by: str) -> bool:
    """A person wants an invoice parked as SUBMIT_UNKNOWN looked for again: its last attempt is unknown once more.

    The frozen bytes stay; both proofs of absence must be given anew. False when it is not parked for that.
    """
    last = last_attempt(transaction, invoice_pk)
    return last is not None and _reopen(transaction, invoice_pk, last["id"], InvoiceState.PARKED, by=by)


def reopen_gone(transaction: Transaction, invoice_pk: int, submission_id: int, approval: Approval) -> bool:
    """Two people want an invoice posted again that Fusion no longer shows: what created it is looked for once more.

    For ``unsettled.allow_repost`` alone. What was done to the invoice that is gone, and seen of it, says nothing of the
    one that will be created; the attempt keeps the InvoiceId that it had.
    """
    undone: dict[str, Any] = dict.fromkeys(("fusion_invoice_id", "differences", "after_create_done", "attachment_done"))
    gone = InvoiceState.MISSING_IN_FUSION
    reopened = _reopen(transaction, invoice_pk, submission_id, gone, by=approval.by, approval=approval, **undone)
    if reopened:
        transaction.execute(sa.delete(fusion_observation).where(fusion_observation.c.invoice_pk == invoice_pk))
    return reopened


def refused_unseen(transaction: Transaction, pod: str) -> list[Row]:
    """Parked invoices that Fusion refused while nothing of their business unit was visible: key and business unit."""
    later = submission.alias("later")
    return transaction.rows(
        sa.select(invoice.c.id, invoice.c.business_unit)
        .join(submission, submission.c.invoice_pk == invoice.c.id)
        .where(
            invoice.c.state == str(InvoiceState.PARKED),
            invoice.c.reason.like("FUSION_REJECTED%"),
            invoice.c.cured_at.is_(None),
            submission.c.pod == pod,
            submission.c.phase == str(Phase.UNKNOWN),
            submission.c.ended_at.is_not(None),
            # What a newer appearance has replaced is not sent again.
            submission.c.occurrence_id.is_not_distinct_from(invoice.c.occurrence_id),
            ~sa.exists().where(later.c.invoice_pk == invoice.c.id, later.c.attempt > submission.c.attempt),
        )
        .order_by(invoice.c.id)
    )


def refused_since_creation(transaction: Transaction, pod: str, business_unit: str, *, at_most: int) -> list[Row]:
    """Attempts of a business unit whose content Fusion refused since it last created one.

    ``body``, ``answer``, ``ended_at``, and the invoice's ``reason`` now. In the order in which they ended; the latest
    ``at_most``.
    """
    of_unit = sa.and_(submission.c.pod == pod, invoice.c.business_unit == business_unit)
    # Where nothing of the business unit is visible: refused, and not proven to be absent. What waited for its time was
    # looked for in vain, and its answer is ours.
    unseen = sa.and_(submission.c.phase == str(Phase.UNKNOWN), submission.c.not_before.is_(None))
    rows = transaction.rows(
        sa.select(submission.c.id, submission.c.body, submission.c.answer, submission.c.ended_at, invoice.c.reason)
        .join(invoice, invoice.c.id == submission.c.invoice_pk)
        .where(
            of_unit,
            submission.c.phase.in_([str(Phase.REJECTED), str(Phase.UNKNOWN)]),
            sa.or_(submission.c.phase == str(Phase.REJECTED), unseen),
            submission.c.ended_at.is_not(None),
            submission.c.answer.is_not(None),
            submission.c.http_status.between(400, 499),
        )
        .order_by(submission.c.id.desc())
        .limit(at_most)
    )
    if not rows:
        return []
    created = transaction.value(
        sa.select(submission.c.ended_at)
        .join(invoice, invoice.c.id == submission.c.invoice_pk)
        .where(
            of_unit,
            # Not by the index on phases: nearly all are CREATED, and a unit's latest is found from the end at once.
            sa.func.coalesce(submission.c.phase, "") == str(Phase.CREATED),
            # By an answer: what was found later says nothing of when it was created.
            submission.c.http_status == _HTTP_CREATED,
            submission.c.id > rows[-1]["id"],
        )
        .order_by(submission.c.id.desc())
        .limit(1)
    )
    left = [row for row in rows if created is None or row["ended_at"] > created]
    return sorted(left, key=lambda row: (row["ended_at"], row["id"]))


def reopen_refused(transaction: Transaction, invoice_pk: int, *, by: str) -> bool:
    """One of ``refused_unseen`` can be looked for now: when it is absent nothing was stored, and it is sent again.

    False when it is no longer parked.
    """
    last = last_attempt(transaction, invoice_pk)
    return last is not None and _reopen(
        transaction, invoice_pk, last["id"], InvoiceState.PARKED, by=by, phase=Phase.REFUSED
    )


def _reopen(
    transaction: Transaction,
    invoice_pk: int,
    submission_id: int,
    expected: InvoiceState,
    *,
    by: str,
    phase: Phase = Phase.UNKNOWN,
    approval: Approval | None = None,
    **columns: Any,
) -> bool:
    moved = move(
        transaction,
        invoice_pk,
        InvoiceState.UNKNOWN,
        expected=(expected,),
        event="submission.reopened",
        detail={"by": by, "submission": submission_id},
        approval=approval,
        **columns,
    )
    if moved:
        transaction.execute(
            sa.update(submission)
            .where(submission.c.id == submission_id)
            .values(phase=str(phase), ended_at=None, absences=0, not_before=transaction.now)
        )
    return moved
