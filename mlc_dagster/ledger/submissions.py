"""Attempts to create an invoice in Fusion: claim and intent before the request, the outcome after it.

The claim on (pod, supplier, number) makes sure that one invoice at most may be posted under a supplier's number; the
intent, with the exact bytes to be sent, is durable before the first of them leaves. What happened to an intent whose
sender died is unknown, and is looked up in Fusion before anything is sent again.
"""

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.attempt_statements import ATTEMPT, CREATED, INTENT, THIS_NUMBER
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.schema import fusion_claim, invoice, submission
from mlc_dagster.ledger.sent import keep_sent
from mlc_dagster.ledger.states import CREATED_STATES, IN_FLIGHT_STATES, InvoiceState, move, park


class Phase(StrEnum):
    INTENT = "INTENT"
    """Committed; its sender holds the lease."""
    REFUSED = "REFUSED"
    """Fusion answered 429 or 503 in full: nothing was stored. Sent again after ``not_before`` and one look-up."""
    UNKNOWN = "UNKNOWN"
    """Sent, outcome not known. Looked up from ``not_before`` on."""
    ABSENT = "ABSENT"
    """Was unknown; two look-ups proved that nothing was created. A further attempt may follow."""
    CREATED = "CREATED"
    FOREIGN = "FOREIGN"
    """The supplier's number turned out to be in Fusion, and not by us."""
    REJECTED = "REJECTED"
    """Fusion refused the content."""
    RELEASED = "RELEASED"
    """Certainly not sent, or refused for everybody (access): the invoice went back to VALIDATED."""


MOST_UNKNOWN = 8
"""With so many unknown outcomes something is wrong with Fusion or the way to it: no new invoice is begun."""
WAITING_PHASES = (str(Phase.REFUSED), str(Phase.UNKNOWN))
OPEN_PHASES = (str(Phase.INTENT), *WAITING_PHASES)
"""Of attempts whose outcome is still to be found out, or that are to be sent again."""
_CLAIM_GIVEN_UP = (Phase.RELEASED, Phase.FOREIGN, Phase.REJECTED)
_NOT_CREATED = tuple(state for state in InvoiceState if state not in CREATED_STATES)


@dataclass(frozen=True)
class Intent:
    """A committed permission to send: the submission's key and the bytes to send until ``lease_until``."""

    submission_id: int
    invoice_pk: int
    attempt: int
    body: bytes
    lease_until: dt.datetime


@dataclass(frozen=True)
class TakenBy:
    """The supplier's number is claimed by another invoice of ours."""

    invoice_pk: int


def claim(
    transaction: Transaction,
    invoice_pk: int,
    *,
    pod: str,
    supplier_id: int,
    number_key: str,
    body: bytes,
    invoice_group: str,
    mapped_with: Mapping[str, Any],
    window_start: dt.datetime,
    generation: int,
    owner: str,
    fence: int,
    lease: dt.timedelta,
    occurrence_id: int | None = None,
) -> Intent | TakenBy | None:
    """Claim the supplier's number and write the intent, in this transaction.

    Returns:
        The intent; ``TakenBy`` when another invoice holds the number; None when the invoice is no longer VALIDATED.
    """
    row = {"pod": pod, "supplier_id": supplier_id, "number_key": number_key, "invoice_pk": invoice_pk}
    # Its holder may give the number back between our insert and our look: then it is free after all.
    while not (claimed := transaction.insert_ignoring(fusion_claim, row)):
        holder = transaction.value(sa.select(fusion_claim.c.invoice_pk).where(THIS_NUMBER), row)
        if holder == invoice_pk:
            break
        if holder is not None:
            return TakenBy(int(holder))
    digest = hashlib.sha256(body).hexdigest()
    moved = move(
        transaction,
        invoice_pk,
        InvoiceState.SENDING,
        expected=(InvoiceState.VALIDATED,),
        event="submission.intent",
        detail={"body_sha256": digest, "group": invoice_group, "fence": fence, "pod": pod},
    )
    if not moved:
        if claimed:
            # Nobody will post under this claim; kept, it would close the number to everybody for ever.
            transaction.execute(sa.delete(fusion_claim).where(THIS_NUMBER), row)
        return None
    return _write_intent(
        transaction, invoice_pk, body, owner=owner, fence=fence, lease=lease,
        pod=pod, invoice_group=invoice_group, mapped_with=mapped_with, window_start=window_start, generation=generation,
        occurrence_id=occurrence_id,
    )  # fmt: skip


def _write_intent(
    transaction: Transaction,
    invoice_pk: int,
    body: bytes,
    *,
    owner: str,
    fence: int,
    lease: dt.timedelta,
    **values: Any,
) -> Intent:
    until = transaction.now + lease
    written = INTENT.row(
        transaction,
        {
            "invoice_pk": invoice_pk,
            "of": invoice_pk,
            "phase": str(Phase.INTENT),
            "body": body,
            "body_sha256": hashlib.sha256(body).hexdigest(),
            "owner": owner,
            "fence": fence,
            "lease_until": until,
            "created_at": transaction.now,
            **values,
        },
    )
    assert written is not None  # noqa: S101 - RETURNING names the row that was inserted
    return Intent(written["id"], invoice_pk, written["attempt"], body, until)


def claim_again(
    transaction: Transaction,
    before: Row,
    *,
    owner: str,
    fence: int,
    lease: dt.timedelta,
    ended_as: Phase,
    body: bytes | None = None,
) -> Intent | None:
    """A further attempt after proven absence, with the frozen bytes (or ``body``, when Fusion renamed the supplier).

    ``before`` is the attempt that is over: it is ended as ABSENT, REFUSED or REJECTED in the same transaction. None
    when another process was quicker.
    """
    ended = transaction.execute(
        sa.update(submission)
        .where(submission.c.id == before["id"], submission.c.phase == before["phase"], submission.c.ended_at.is_(None))
        .values(phase=str(ended_as), ended_at=transaction.now)
    )
    if ended.rowcount != 1:
        return None
    moved = move(
        transaction,
        before["invoice_pk"],
        InvoiceState.SENDING,
        expected=IN_FLIGHT_STATES,
        event="submission.intent_again",
        detail={"after": before["phase"], "absences": before["absences"], "before": before["id"]},
    )
    if not moved:
        return None
    return _write_intent(
        transaction, before["invoice_pk"], body or before["body"], owner=owner, fence=fence, lease=lease,
        pod=before["pod"], invoice_group=before["invoice_group"], mapped_with=before["mapped_with"],
        window_start=before["window_start"], generation=before["generation"], occurrence_id=before["occurrence_id"],
    )  # fmt: skip


def _end(transaction: Transaction, submission_id: int, phase: Phase, **values: Any) -> int | None:
    """Set the phase of an attempt that is not over; the key of its invoice, None when it was over already."""
    statement = (
        sa.update(submission)
        .where(
            submission.c.id == submission_id,
            submission.c.phase.in_(OPEN_PHASES),
            submission.c.ended_at.is_(None),
        )
        .values(phase=str(phase), **values)
    )
    if transaction.execute(statement).rowcount != 1:
        return None
    return int(transaction.value(sa.select(submission.c.invoice_pk).where(submission.c.id == submission_id)))


def mark_created(
    transaction: Transaction,
    submission_id: int,
    *,
    fusion_invoice_id: int,
    http_status: int | None,
    evidence: str,
) -> None:
    """Fusion holds the invoice under ``fusion_invoice_id``. Evidence counts whenever it comes, even after the lease."""
    row = ATTEMPT.row(transaction, {"key": submission_id})
    assert row is not None  # noqa: S101 - rows are never deleted
    ended = {
        "key": submission_id, "ended_as": str(Phase.CREATED), "invoice": fusion_invoice_id, "answered": http_status,
        "now": transaction.now,
    }  # fmt: skip
    CREATED.run(transaction, ended)
    evident = {"invoice_id": fusion_invoice_id, "status": http_status, "evidence": evidence, "attempt": row["attempt"]}
    # A late answer may find the invoice parked, released or in a further attempt: what was created stays created.
    moved = move(
        transaction,
        row["invoice_pk"],
        InvoiceState.CREATED,
        expected=_NOT_CREATED,
        event="submission.created",
        detail=evident,
        fusion_invoice_id=fusion_invoice_id,
        differences=None,
    )
    if moved:
        if row["phase"] in _CLAIM_GIVEN_UP:
            _claim_back(transaction, row)
        keep_sent(transaction, row["invoice_pk"], row["occurrence_id"])
        return
    known = transaction.value(sa.select(invoice.c.fusion_invoice_id).where(invoice.c.id == row["invoice_pk"]))
    if known != fusion_invoice_id:
        # Two attempts were both stored. Nothing here can undo that; the trail must name both.
        transaction.audit(
            "invoice.created_twice", f"invoice:{row['invoice_pk']}", invoice_id=known, second=fusion_invoice_id,
            status=http_status, evidence=evidence, attempt=row["attempt"],
        )  # fmt: skip


def _claim_back(transaction: Transaction, attempt: Row) -> None:
    """The number turned out to be taken in Fusion by this invoice, after its claim was given up."""
    keys = transaction.row(
        sa.select(invoice.c.supplier_id, invoice.c.number_key).where(invoice.c.id == attempt["invoice_pk"])
    )
    if keys is not None and keys["supplier_id"] is not None and keys["number_key"] is not None:
        row = {"pod": attempt["pod"], **keys, "invoice_pk": attempt["invoice_pk"]}
        transaction.insert_ignoring(fusion_claim, row)


def mark_refused(
    transaction: Transaction, submission_id: int, *, wait: dt.timedelta, http_status: int | None, why: str
) -> None:
    """Nothing was stored; may be sent again after ``wait`` and one proof of absence."""
    invoice_pk = _end(
        transaction, submission_id, Phase.REFUSED,
        not_before=transaction.now + wait, http_status=http_status, answer=why[:2000],
    )  # fmt: skip
    if invoice_pk is not None:
        transaction.audit("submission.refused", f"invoice:{invoice_pk}", status=http_status, why=why[:500])


def mark_unknown(
    transaction: Transaction, submission_id: int, *, wait: dt.timedelta, http_status: int | None, why: str
) -> None:
    """Sent, and the outcome is not known: look-ups begin after ``wait``."""
    invoice_pk = _end(
        transaction, submission_id, Phase.UNKNOWN,
        not_before=transaction.now + wait, http_status=http_status, answer=why[:2000], absences=0,
    )  # fmt: skip
    if invoice_pk is not None:
        move(
            transaction,
            invoice_pk,
            InvoiceState.UNKNOWN,
            expected=IN_FLIGHT_STATES,
            event="submission.unknown",
            detail={"status": http_status, "why": why[:500]},
        )


def mark_absent_once(transaction: Transaction, submission_id: int, *, next_look: dt.timedelta) -> int:
    """A look-up proved absence; how many have by now. The next one is due after ``next_look``.

    Two look-ups at the same moment are one proof: it counts only when it was due, and for an attempt not over.
    """
    counted = transaction.execute(
        sa.update(submission)
        .where(
            submission.c.id == submission_id,
            submission.c.phase.in_(WAITING_PHASES),
            submission.c.ended_at.is_(None),
            submission.c.not_before <= transaction.now,
        )
        .values(absences=submission.c.absences + 1, not_before=transaction.now + next_look)
    )
    row = transaction.row(
        sa.select(submission.c.invoice_pk, submission.c.absences).where(submission.c.id == submission_id)
    )
    assert row is not None  # noqa: S101 - rows are never deleted
    if counted.rowcount == 1:
        transaction.audit("submission.absent", f"invoice:{row['invoice_pk']}", absences=row["absences"])
    return int(row["absences"])


def release(transaction: Transaction, submission_id: int, *, why: str, http_status: int | None = None) -> bool:
    """Certainly nothing was created by this intent: the claim is given up and the invoice is VALIDATED again.

    False, and nothing happens, when another process took the intent for lost meanwhile: it finds out by itself.
    """
    ended = transaction.execute(
        sa.update(submission)
        .where(submission.c.id == submission_id, submission.c.phase == str(Phase.INTENT))
        .values(phase=str(Phase.RELEASED), ended_at=transaction.now, answer=why[:2000], http_status=http_status)
    )
    if ended.rowcount != 1:
        return False
    invoice_pk = int(transaction.value(sa.select(submission.c.invoice_pk).where(submission.c.id == submission_id)))
    transaction.execute(sa.delete(fusion_claim).where(fusion_claim.c.invoice_pk == invoice_pk))
    return move(
        transaction,
        invoice_pk,
        InvoiceState.VALIDATED,
        expected=(InvoiceState.SENDING,),
        event="submission.released",
        detail={"why": why[:500], "status": http_status},
    )


def mark_foreign(
    transaction: Transaction, submission_id: int, *, fusion_invoice_id: int, differences: Mapping[str, Any]
) -> None:
    """The number is in Fusion and not by us: never acted on."""
    invoice_pk = _end(
        transaction, submission_id, Phase.FOREIGN, ended_at=transaction.now, fusion_invoice_id=fusion_invoice_id
    )
    if invoice_pk is None:
        return
    transaction.execute(sa.delete(fusion_claim).where(fusion_claim.c.invoice_pk == invoice_pk))
    move(
        transaction,
        invoice_pk,
        InvoiceState.ALREADY_IN_FUSION,
        expected=IN_FLIGHT_STATES,
        event="invoice.already_in_fusion",
        detail={"invoice_id": fusion_invoice_id, "differences": dict(differences)},
        fusion_invoice_id=fusion_invoice_id,
        differences=dict(differences),
    )


def park_submission(
    transaction: Transaction,
    submission_id: int,
    *,
    phase: Phase,
    reason: str,
    problem: Mapping[str, Any],
    http_status: int | None,
    answer: str,
) -> None:
    """No further attempt by itself: the invoice is PARKED. The claim is kept while the outcome is not certain."""
    invoice_pk = _end(
        transaction, submission_id, phase, ended_at=transaction.now, http_status=http_status, answer=answer[:2000]
    )
    if invoice_pk is None:
        return
    if phase is Phase.REJECTED:
        transaction.execute(sa.delete(fusion_claim).where(fusion_claim.c.invoice_pk == invoice_pk))
    park(
        transaction,
        invoice_pk,
        [dict(problem)],
        expected=IN_FLIGHT_STATES,
        reason=reason,
        detail={"status": http_status},
    )
