"""A person overrules a hold: only one that may be overruled, only the one that is there, with the reason on record."""

import pytest

from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.releases import RELEASABLE, NotReleasable, release_hold
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster_tests.ledger.population import WINDOW, add_invoice, events, invoice_row


def release(ledger: Ledger, key: int, reason: str) -> None:
    with ledger.acting_as("alice").transaction() as transaction:
        release_hold(transaction, key, reason, why="two invoices, checked with the supplier")


@pytest.mark.parametrize("reason", sorted(RELEASABLE))
def test_a_released_hold_is_passed_over_from_now_on(ledger: Ledger, reason: str) -> None:
    """The invoice is taken up at the next poll; who overruled what, and why, is in the trail."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.PARKED, reason=reason)
    release(ledger, key, reason)
    row = invoice_row(ledger, key)
    assert (row["state"], row["released_reasons"], row["cured_at"]) == ("PARKED", [reason], WINDOW)
    [event] = events(ledger, "invoice.released", f"invoice:{key}")
    assert (event["actor"], event["detail"]["reason"]) == ("alice", reason)
    assert event["detail"]["why"] == "two invoices, checked with the supplier"


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
