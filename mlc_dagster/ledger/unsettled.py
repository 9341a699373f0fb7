"""What two people decide about an invoice whose outcome nobody found out: it is posted, sent once more, or given up.

What belongs here: which states allow it, the step, and its audit event. What does not: asking Fusion, which comes
first and is told here as what was found (``stampli.overriding``). Nothing here sends anything.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger import created_ids, recovery, submissions
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.releases import POSTED_BEFORE_RESTORE
from mlc_dagster.ledger.schema import fusion_claim, invoice, submission
from mlc_dagster.ledger.states import InvoiceState, move
from mlc_dagster.ledger.submissions import Phase

_BECAUSE_UNKNOWN = "SUBMIT_UNKNOWN"


class NotUnsettled(Exception):
    """The invoice is not in a state in which this may be decided; nothing was changed."""

    def __init__(self, invoice_pk: int, step: str, found: str, needed: str) -> None:
        self.invoice_pk = invoice_pk
        self.step = step
        self.found = found
        super().__init__(f"invoice {invoice_pk} is {found}; {step} needs {needed}. Nothing was changed")


class HeldByAnother(Exception):
    """The InvoiceId is that of another invoice of the ledger; nothing was changed."""

    def __init__(self, fusion_invoice_id: int, invoice_pk: int, number: str) -> None:
        self.fusion_invoice_id = fusion_invoice_id
        self.invoice_pk = invoice_pk
        super().__init__(
            f"InvoiceId {fusion_invoice_id} is what our invoice {number} (ID {invoice_pk}) became; one invoice of "
            "Fusion never stands for two of ours. Nothing was changed"
        )


def attempts_to_compare(transaction: Transaction, invoice_pk: int) -> list[Row]:
    """What was sent of an invoice whose outcome is unknown, latest first.

    Raises:
        NotUnsettled: its outcome is known, a request may be under way, or nothing was ever sent.
    """
    row = _row(transaction, invoice_pk)
    attempts = recovery.attempts_of(transaction, [invoice_pk])
    unknown = row is not None and (
        row["state"] == InvoiceState.UNKNOWN
        or (
            row["state"] == InvoiceState.PARKED
            and (row["reason"] == _BECAUSE_UNKNOWN or recovery.unresolved(transaction, invoice_pk))
        )
    )
    if not unknown or not attempts:
        needed = f"UNKNOWN or PARKED ({_BECAUSE_UNKNOWN})"
        raise NotUnsettled(invoice_pk, "marking it as posted", _found(row), needed)
    return attempts[::-1]


def mark_posted(
    transaction: Transaction,
    invoice_pk: int,
    attempt: Row,
    *,
    fusion_invoice_id: int,
    foreign: Mapping[str, Sequence[str | None]],
    compared: Mapping[str, str | None],
    changed: Mapping[str, Sequence[str | None]] | None = None,
    approval: Approval,
) -> InvoiceState:
    """Fusion's invoice is what was meant: CREATED when we created it, ALREADY_IN_FUSION when somebody else entered it.

    Args:
        transaction: the change and its events are part of it.
        invoice_pk: key of the invoice.
        attempt: what Fusion's invoice was compared with.
        fusion_invoice_id: InvoiceId in Fusion.
        foreign: what shows that it is not our request's doing, field to [ours, found]; empty when it is. What others
            entered is never acted on.
        compared: the values that were equal, by field.
        changed: what people in Fusion have changed since it was created, field to [sent, found].
        approval: of two people.

    Raises:
        NotUnsettled: the outcome became known meanwhile.
        HeldByAnother: the InvoiceId belongs to another invoice of ours.
    """
    row = _row(transaction, invoice_pk, lock=True)
    # Two of ours may be marked with one InvoiceId at once: the second must see what the first wrote.
    transaction.lock_name(f"fusion/{fusion_invoice_id}")
    if attempt["id"] not in {each["id"] for each in attempts_to_compare(transaction, invoice_pk)}:
        raise NotUnsettled(invoice_pk, "marking it as posted", _found(row), "an attempt of its own")
    other = transaction.row(
        sa.select(invoice.c.id, invoice.c.number)
        .where(invoice.c.fusion_invoice_id == fusion_invoice_id, invoice.c.id != invoice_pk)
        .limit(1)
    )
    if other is not None:
        raise HeldByAnother(fusion_invoice_id, other["id"], other["number"])
    assert row is not None  # noqa: S101 - its attempts were found
    if foreign:
        target = InvoiceState.ALREADY_IN_FUSION
        _mark_foreign(transaction, invoice_pk, attempt, fusion_invoice_id, foreign)
    else:
        target = InvoiceState.CREATED
        found = "bears our user, source and group, and was changed since" if changed else "equal to what was sent"
        submissions.mark_created(
            transaction,
            attempt["id"],
            fusion_invoice_id=fusion_invoice_id,
            http_status=None,
            evidence=f"marked as posted by two people; read by its InvoiceId and {found}",
        )
    approval.record(
        transaction,
        "invoice.marked_posted",
        f"invoice:{invoice_pk}",
        before=_standing(row),
        after={"state": str(target), "reason": None, "fusion_invoice_id": fusion_invoice_id},
        attempt=attempt["attempt"],
        compared=dict(compared),
        differs_from_ours={name: list(pair) for name, pair in foreign.items()},
        **({"changed_in_fusion": {name: list(pair) for name, pair in changed.items()}} if changed else {}),
    )
    return target


def _mark_foreign(
    transaction: Transaction,
    invoice_pk: int,
    attempt: Row,
    fusion_invoice_id: int,
    foreign: Mapping[str, Sequence[str | None]],
) -> None:
    transaction.execute(
        sa.update(submission)
        .where(submission.c.id == attempt["id"])
        .values(
            phase=str(Phase.FOREIGN),
            ended_at=attempt["ended_at"] or transaction.now,
            fusion_invoice_id=fusion_invoice_id,
        )
    )
    transaction.execute(sa.delete(fusion_claim).where(fusion_claim.c.invoice_pk == invoice_pk))
    move(
        transaction,
        invoice_pk,
        InvoiceState.ALREADY_IN_FUSION,
        expected=(InvoiceState.UNKNOWN, InvoiceState.PARKED),
        event="invoice.already_in_fusion",
        detail={"invoice_id": fusion_invoice_id},
        fusion_invoice_id=fusion_invoice_id,
        differences={name: list(pair) for name, pair in foreign.items()},
    )


def attempts_to_repeat(transaction: Transaction, invoice_pk: int) -> list[Row]:
    """What was sent of an invoice that was given up as unknown, or that is gone from Fusion: none of it may be there.

    First the attempt that would be repeated: what created the invoice that is gone, else the latest; then the others,
    latest first.

    Raises:
        NotUnsettled: it is neither, nothing was sent, its bytes are erased, or a newer appearance stands in its place.
    """
    row = _row(transaction, invoice_pk)
    attempts = recovery.attempts_of(transaction, [invoice_pk])[::-1]
    gone = row is not None and row["state"] == InvoiceState.MISSING_IN_FUSION
    given_up = row is not None and (row["state"], row["reason"]) == (InvoiceState.PARKED, _BECAUSE_UNKNOWN)
    if row is None or not (gone or given_up) or not attempts:
        needed = f"PARKED ({_BECAUSE_UNKNOWN}) or {InvoiceState.MISSING_IN_FUSION}"
        if row is not None and row["state"] == InvoiceState.VOIDED_IN_FUSION:
            needed = (
                "that it is gone: Fusion keeps the number of a cancelled invoice and takes no second one under it. "
                "Have it sent under a number of its own"
            )
        raise NotUnsettled(invoice_pk, "posting it once more", _found(row), needed)
    if gone:
        attempts.sort(key=lambda each: each["fusion_invoice_id"] != row["fusion_invoice_id"])
    if attempts[0]["occurrence_id"] not in (None, row["occurrence_id"]):
        needed = "that what was sent is what it stands for; a newer appearance has taken its place"
        raise NotUnsettled(invoice_pk, "posting it once more", _found(row), needed)
    if not attempts[0]["body"]:
        needed = "the bytes that were sent, which the retention rules have erased; enter it in Fusion"
        raise NotUnsettled(invoice_pk, "posting it once more", _found(row), needed)
    return [each for each in attempts if each["body"]]


def allow_repost(transaction: Transaction, invoice_pk: int, *, looked_up: Mapping[str, str], approval: Approval) -> int:
    """One further attempt is allowed, however many there were; the number that it may have.

    Nothing is sent here: the outcome is unknown again, so that the next run of its window proves twice that Fusion does
    not have the invoice before it sends the frozen bytes. What is gone from Fusion leaves the states after creation by
    this step alone.

    Args:
        transaction: the change and its events are part of it.
        invoice_pk: key of the invoice.
        looked_up: what Fusion showed of each attempt just now; told in the audit event.
        approval: of two people.

    Raises:
        NotUnsettled: see ``attempts_to_repeat``.
    """
    row = _row(transaction, invoice_pk, lock=True)
    repeated = attempts_to_repeat(transaction, invoice_pk)[0]
    assert row is not None  # noqa: S101 - its attempts were found
    if row["state"] == InvoiceState.MISSING_IN_FUSION:
        recovery.reopen_gone(transaction, invoice_pk, repeated["id"], approval)
    else:
        recovery.reopen(transaction, invoice_pk, by=approval.by)
    allowed = recovery.allow_attempt(transaction, invoice_pk)
    approval.record(
        transaction,
        "invoice.repost_allowed",
        f"invoice:{invoice_pk}",
        before=_standing(row) | {"attempts": repeated["attempt"]},
        after={"state": str(InvoiceState.UNKNOWN), "reason": None, "attempts_with_unknown_outcome_allowed": allowed},
        looked_up=dict(looked_up),
    )
    return allowed


def attempts_to_abandon(transaction: Transaction, invoice_pk: int) -> list[Row]:
    """What was sent of a parked invoice, latest first; nothing where it was parked before anything was sent.

    Raises:
        NotUnsettled: it is not parked.
    """
    row = _row(transaction, invoice_pk)
    if row is None or row["state"] != InvoiceState.PARKED:
        raise NotUnsettled(invoice_pk, "giving it up", _found(row), "PARKED")
    return recovery.attempts_of(transaction, [invoice_pk])[::-1]


def abandon(transaction: Transaction, invoice_pk: int, *, looked_up: Mapping[str, str], approval: Approval) -> None:
    """A parked invoice is never posted. Its claim on the number stays, since its outcome may be unknown still.

    Args:
        transaction: the change and its events are part of it.
        invoice_pk: key of the invoice.
        looked_up: what Fusion showed of each attempt just now; told in the audit event.
        approval: of two people.

    Raises:
        NotUnsettled: it is not parked.
    """
    row = _row(transaction, invoice_pk, lock=True)
    attempts_to_abandon(transaction, invoice_pk)
    assert row is not None  # noqa: S101 - it is parked
    move(
        transaction,
        invoice_pk,
        InvoiceState.REJECTED,
        expected=(InvoiceState.PARKED,),
        reason="ABANDONED",
        event="invoice.rejected",
    )
    compared = created_ids.note_told(transaction, invoice_pk) if row["reason"] == POSTED_BEFORE_RESTORE else None
    approval.record(
        transaction,
        "invoice.abandoned",
        f"invoice:{invoice_pk}",
        before=_standing(row),
        after={"state": str(InvoiceState.REJECTED), "reason": "ABANDONED", "fusion_invoice_id": None},
        looked_up=dict(looked_up),
        problems=row["problems"],
        **({} if compared is None else {"told_invoice_id": compared}),
    )


def _row(transaction: Transaction, invoice_pk: int, *, lock: bool = False) -> Row | None:
    statement = sa.select(invoice).where(invoice.c.id == invoice_pk)
    return transaction.row(statement.with_for_update() if lock else statement)


def _standing(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in ("state", "reason", "fusion_invoice_id")}


def _found(row: Row | None) -> str:
    if row is None:
        return "not in the ledger"
    return f"{row['state']} ({row['reason']})" if row["reason"] else str(row["state"])
