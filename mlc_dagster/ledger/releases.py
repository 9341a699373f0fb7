"""Holds that two people may overrule, the overruling, and a parked invoice that is to be judged again.

Which checks hold an invoice is decided in ``stampli``; whoever judges it again passes over the reasons released here.
An outcome that nobody knows is no hold: see ``unsettled``.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from mlc_dagster.ledger import created_ids
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.recovery import last_attempt, reopen
from mlc_dagster.ledger.schema import invoice, invoice_occurrence
from mlc_dagster.ledger.states import InvoiceState

AFTER_ABANDON = "REVISION_AFTER_ABANDON"
POSTED_BEFORE_RESTORE = "POSTED_BEFORE_RESTORE"
DUP_UNREADABLE = "DUP_UNREADABLE"
RELEASABLE = frozenset(
    {
        "DUP_NORMALISED",
        "DUP_OTHER_BU",
        DUP_UNREADABLE,
        "BEFORE_GO_LIVE",
        "FUSION_REJECTED",
        POSTED_BEFORE_RESTORE,
        AFTER_ABANDON,
    }
)
"""Holds that a person may overrule. An exact duplicate is none: Fusion's number has one owner."""


class NotReleasable(Exception):
    """The invoice is not parked for this reason, or nobody may overrule it; nothing was changed."""

    def __init__(self, invoice_pk: int, reason: str, state: str | None, found: str | None) -> None:
        self.invoice_pk = invoice_pk
        self.reason = reason
        said = f"it is {state or 'unknown'}{f' for {found}' if found else ''}"
        super().__init__(
            f"invoice {invoice_pk} cannot be released from {reason}: {said}; released are invoices parked for "
            f"{', '.join(sorted(RELEASABLE))}"
        )


class NotParked(Exception):
    """Only a parked invoice is judged again; nothing was changed."""

    def __init__(self, invoice_pk: int, state: str | None) -> None:
        self.invoice_pk = invoice_pk
        self.state = state
        super().__init__(f"invoice {invoice_pk} is {state or 'unknown'}, not PARKED")


def release_hold(transaction: Transaction, invoice_pk: int, reason: str, approval: Approval) -> None:
    """Two people overrule the hold for which the invoice is parked; the next poll takes it up in its home window.

    Raises:
        NotReleasable: it is not parked for ``reason``, or nobody may overrule that.
    """
    row = _locked(transaction, invoice_pk)
    state, found = (row["state"], row["reason"]) if row else (None, None)
    if (
        row is None
        or state != str(InvoiceState.PARKED)
        or found != reason
        or reason.partition("(")[0] not in RELEASABLE
    ):
        raise NotReleasable(invoice_pk, reason, state, found)
    before: list[str] = row["released_reasons"] or []
    after = sorted({*before, reason})
    transaction.execute(
        sa.update(invoice).where(invoice.c.id == invoice_pk).values(released_reasons=after, cured_at=transaction.now)
    )
    compared = created_ids.note_told(transaction, invoice_pk) if reason == POSTED_BEFORE_RESTORE else None
    approval.record(
        transaction,
        "invoice.released",
        f"invoice:{invoice_pk}",
        before={"state": state, "reason": found, "released_reasons": before},
        after={"state": state, "reason": found, "released_reasons": after, "judged_again": True},
        hold=reason,
        problems=row["problems"],
        **({} if compared is None else {"told_invoice_id": compared}),
    )


def release_all(transaction: Transaction, reason: str, approval: Approval) -> int:
    """``release_hold`` for every invoice that is parked for exactly this hold and not released already; how many.

    Raises:
        NotReleasable: nobody may overrule it.
    """
    held = sa.select(invoice.c.id).where(
        invoice.c.state == str(InvoiceState.PARKED), invoice.c.reason == reason, invoice.c.cured_at.is_(None)
    )
    rows = transaction.rows(held.order_by(invoice.c.id).with_for_update())
    for row in rows:
        release_hold(transaction, row["id"], reason, approval)
    return len(rows)


def held_after_abandon(transaction: Transaction, rows: Sequence[Row]) -> set[int]:
    """Keys of invoices that two people gave up before and whose newer appearance nobody has released.

    Told by the appearance that was given up, so that no further one, and no other cause of parking, ends the hold.
    """
    waiting = [row["id"] for row in rows if AFTER_ABANDON not in (row["released_reasons"] or [])]
    given_up = sa.select(invoice_occurrence.c.invoice_pk).where(
        invoice_occurrence.c.invoice_pk.in_(waiting), invoice_occurrence.c.reason == "ABANDONED"
    )
    return {row["invoice_pk"] for row in transaction.rows(given_up)}


def judge_again(transaction: Transaction, invoice_pk: int, *, by: str, reason: str) -> Row:
    """Somebody believes that the cause of parking is gone: the next poll judges the invoice by the same checks.

    One that is parked because its outcome is unknown is looked for in Fusion again instead: judged again, it would be
    mapped and sent as if nothing had been sent before. Where a newer appearance has taken the place of what was sent,
    it is judged: what was sent must not be sent again, and posting looks for it before it sends the newer one.

    Returns:
        The invoice as it was.

    Raises:
        NotParked: it is not.
    """
    row = _locked(transaction, invoice_pk)
    if row is None or row["state"] != InvoiceState.PARKED:
        raise NotParked(invoice_pk, row["state"] if row else None)
    before = {"state": row["state"], "reason": row["reason"], "judged_again": row["cured_at"] is not None}
    last = last_attempt(transaction, invoice_pk) if row["reason"] == "SUBMIT_UNKNOWN" else None
    if last is not None and last["occurrence_id"] in (None, row["occurrence_id"]):
        reopen(transaction, invoice_pk, by=by)
        after = {"state": str(InvoiceState.UNKNOWN), "reason": None, "judged_again": False}
    else:
        transaction.execute(sa.update(invoice).where(invoice.c.id == invoice_pk).values(cured_at=transaction.now))
        after = before | {"judged_again": True}
    transaction.audit_action(
        "invoice.retried", f"invoice:{invoice_pk}", by=by, reason=reason, before=before, after=after
    )
    return row


def judge_all_again(transaction: Transaction, parked_for: str, *, by: str, reason: str) -> int:
    """``judge_again`` for every invoice that is parked for exactly this reason and not judged again already; how many.

    For what many were parked for at once, as by a role that was taken away.
    """
    keys = sa.select(invoice.c.id).where(
        invoice.c.state == str(InvoiceState.PARKED), invoice.c.reason == parked_for, invoice.c.cured_at.is_(None)
    )
    rows = transaction.rows(keys.order_by(invoice.c.id).with_for_update())
    for row in rows:
        judge_again(transaction, row["id"], by=by, reason=reason)
    return len(rows)


def _locked(transaction: Transaction, invoice_pk: int) -> Row | None:
    return transaction.row(sa.select(invoice).where(invoice.c.id == invoice_pk).with_for_update())
