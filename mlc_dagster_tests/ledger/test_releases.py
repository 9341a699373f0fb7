"""A person overrules a hold: only one that may be overruled, only the one that is there, with the reason on record."""

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.releases import RELEASABLE, NotParked, NotReleasable, judge_again, release_hold
from mlc_dagster.ledger.schema import invoice, submission
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.submissions import Phase
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.ledger.attempts import end
from mlc_dagster_tests.ledger.population import (
    WINDOW,
    add_invoice,
    events,
    invoice_row,
    sent_invoice,
    state_of,
    submission_row,
)


def release(ledger: Ledger, key: int, reason: str) -> None:
    with Ledger(ledger.engine, actor="alice", clock=lambda: WINDOW).transaction() as transaction:
        release_hold(transaction, key, reason, BOTH)


@pytest.mark.parametrize("reason", sorted(RELEASABLE))
def test_a_released_hold_is_passed_over_from_now_on(ledger: Ledger, reason: str) -> None:
    """The invoice is taken up at the next poll; who overruled what, and why, is in the trail."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.PARKED, reason=reason)
    release(ledger, key, reason)
    row = invoice_row(ledger, key)
    assert (row["state"], row["released_reasons"], row["cured_at"]) == ("PARKED", [reason], WINDOW)
    [event] = events(ledger, "invoice.released", f"invoice:{key}")
    assert event["actor"] == "alice"
    assert event["detail"] == {
        **BOTH.said,
        "hold": reason,
        "before": {"state": "PARKED", "reason": reason, "released_reasons": []},
        "after": {"state": "PARKED", "reason": reason, "released_reasons": [reason], "judged_again": True},
        "problems": None,
    }


def test_a_second_hold_is_released_beside_the_first(ledger: Ledger) -> None:
    """One decision does not undo the other."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.PARKED, reason="DUP_OTHER_BU", released_reasons=["DUP_NORMALISED"])
    release(ledger, key, "DUP_OTHER_BU")
    assert invoice_row(ledger, key)["released_reasons"] == ["DUP_NORMALISED", "DUP_OTHER_BU"]


@pytest.mark.parametrize(
    ("state", "found", "asked"),
    [
        (InvoiceState.PARKED, "DUP_EXACT", "DUP_EXACT"),
        (InvoiceState.PARKED, "SUBMIT_UNKNOWN", "SUBMIT_UNKNOWN"),
        (InvoiceState.PARKED, "DUP_NORMALISED", "DUP_OTHER_BU"),
        (InvoiceState.CONFIRMED, None, "DUP_NORMALISED"),
    ],
)
def test_what_may_not_be_overruled_is_refused(
    ledger: Ledger, state: InvoiceState, found: str | None, asked: str
) -> None:
    """An exact duplicate and an unknown outcome least of all: that is how an invoice is paid twice."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, state, reason=found)
    before = invoice_row(ledger, key)
    with pytest.raises(NotReleasable, match=asked):
        release(ledger, key, asked)
    assert invoice_row(ledger, key) == before
    assert events(ledger, "invoice.released") == []


def test_an_invoice_that_does_not_exist_is_named(ledger: Ledger) -> None:
    """A mistyped number must not look like success."""
    with pytest.raises(NotReleasable, match="invoice 4711"):
        release(ledger, 4711, "DUP_NORMALISED")


def test_judged_again_by_the_same_checks_on_record(ledger: Ledger) -> None:
    """Somebody believes the cause gone: who, why, and what was before."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.PARKED, reason="VENDOR_UNKNOWN")
    with ledger.transaction() as transaction:
        judge_again(transaction, key, by="ann@host", reason="supplier was created")
    row = invoice_row(ledger, key)
    assert (row["state"], row["cured_at"]) == ("PARKED", WINDOW)
    [event] = events(ledger, "invoice.retried", f"invoice:{key}")
    assert event["detail"] == {
        "by": "ann@host",
        "reason": "supplier was created",
        "before": {"state": "PARKED", "reason": "VENDOR_UNKNOWN", "judged_again": False},
        "after": {"state": "PARKED", "reason": "VENDOR_UNKNOWN", "judged_again": True},
    }


def test_an_unknown_outcome_is_looked_for_again_and_not_judged(ledger: Ledger) -> None:
    """Judged again it would be mapped and sent as if nothing had been sent before."""
    key, intent = sent_invoice(ledger)
    end(ledger, "mark_unknown", intent)
    problem = {"reason": "SUBMIT_UNKNOWN"}
    end(ledger, "park_submission", intent, phase=Phase.UNKNOWN, reason="SUBMIT_UNKNOWN", problem=problem)
    with ledger.transaction() as transaction:
        judge_again(transaction, key, by="ann@host", reason="access is back")
    assert (state_of(ledger, key), submission_row(ledger, intent.submission_id)["absences"]) == ("UNKNOWN", 0)
    [event] = events(ledger, "invoice.retried", f"invoice:{key}")
    assert event["detail"]["after"] == {"state": "UNKNOWN", "reason": None, "judged_again": False}


def test_what_a_newer_appearance_replaced_is_not_sent_again(ledger: Ledger) -> None:
    """Revision 1 was refused for everybody, revision 2 took its place, and nobody could see whether 1 was stored."""
    key, intent = sent_invoice(ledger)
    end(ledger, "release", intent)
    earlier = invoice_row(ledger, key)["occurrence_id"] - 1
    with ledger.transaction() as transaction:
        transaction.execute(sa.update(submission).values(occurrence_id=earlier))
        transaction.execute(sa.update(invoice).values(state="PARKED", reason="SUBMIT_UNKNOWN"))
        judge_again(transaction, key, by="ann@host", reason="access is back")
    row = invoice_row(ledger, key)
    assert (row["state"], row["cured_at"]) == ("PARKED", WINDOW)
    assert submission_row(ledger, intent.submission_id)["phase"] == Phase.RELEASED


def test_only_a_parked_invoice_is_judged_again(ledger: Ledger) -> None:
    """Created stays created: no command of one person leads back to sending."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.CONFIRMED)
    with ledger.transaction() as transaction, pytest.raises(NotParked, match="CONFIRMED"):
        judge_again(transaction, key, by="ann@host", reason="access is back")
    assert events(ledger, "invoice.retried") == []
