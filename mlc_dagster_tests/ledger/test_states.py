"""The life of an invoice: which step leads where, and that a step is taken once, with its event."""

import itertools

import pytest

from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.states import (
    BY_TWO_PEOPLE,
    CREATED_STATES,
    OPEN_STATES,
    STEPS,
    IllegalStep,
    InvoiceState,
    move,
)
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.ledger.population import WINDOW, HandClock, add_invoice, events, invoice_row, race

PAIRS = list(itertools.product(InvoiceState, InvoiceState))
ALLOWED = [(a, b) for a, b in PAIRS if b in STEPS[a]]
REFUSED = [(a, b) for a, b in PAIRS if b not in STEPS[a]]


@pytest.mark.parametrize(("current", "target"), ALLOWED)
def test_an_allowed_step_is_taken_with_its_event(
    shared_ledger: Ledger, current: InvoiceState, target: InvoiceState
) -> None:
    """State and trail may never disagree: the one function that changes a state also writes what happened."""
    with shared_ledger.transaction() as transaction:
        key = add_invoice(transaction, current)
        assert move(transaction, key, target, expected=(current,), reason="WHY", event="test.moved")
    assert invoice_row(shared_ledger, key)["state"] == target
    [event] = events(shared_ledger, "test.moved", f"invoice:{key}")
    assert event["detail"] == {"state": target, "reason": "WHY"}


@pytest.mark.parametrize(("current", "target"), REFUSED)
def test_a_step_that_is_not_allowed_is_refused(
    shared_ledger: Ledger, current: InvoiceState, target: InvoiceState
) -> None:
    """A fault in a caller must stop there, before it makes a created invoice one that is sent again."""
    with shared_ledger.transaction() as transaction:
        key = add_invoice(transaction, current)
        with pytest.raises(IllegalStep) as refusal:
            move(transaction, key, target, expected=(current,), event="test.moved")
    assert (refusal.value.invoice_pk, refusal.value.current, refusal.value.target) == (key, current, target)
    assert invoice_row(shared_ledger, key)["state"] == current
    assert events(shared_ledger, "test.moved", f"invoice:{key}") == []


def test_created_never_leads_back_to_a_sending_state() -> None:
    """Whatever else changes in the table of steps: what Fusion holds must not be posted once more."""
    reachable = set(CREATED_STATES)
    while more := {target for state in reachable for target in STEPS[state]} - reachable:
        reachable |= more
    assert reachable == CREATED_STATES
    assert not reachable & OPEN_STATES


def test_only_what_is_gone_leads_back_and_only_by_two_people(ledger: Ledger) -> None:
    """Posting again is a command of two people; no run has their word."""
    assert {state: set(targets) for state, targets in BY_TWO_PEOPLE.items()} == {
        InvoiceState.MISSING_IN_FUSION: {InvoiceState.UNKNOWN}
    }
    gone = InvoiceState.MISSING_IN_FUSION
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, gone)
        with pytest.raises(IllegalStep):
            move(transaction, key, InvoiceState.UNKNOWN, expected=(gone,), event="e")
        with pytest.raises(IllegalStep):
            move(transaction, key, InvoiceState.VALIDATED, expected=(gone,), event="e", approval=BOTH)
        assert move(transaction, key, InvoiceState.UNKNOWN, expected=(gone,), event="e", approval=BOTH)
    assert invoice_row(ledger, key)["state"] == InvoiceState.UNKNOWN


@pytest.mark.parametrize("state", [state for state in InvoiceState if state not in CREATED_STATES])
def test_evidence_of_creation_is_accepted_before_it(state: InvoiceState) -> None:
    """An answer may come after the invoice was parked, released or believed to be somebody else's."""
    assert InvoiceState.CREATED in STEPS[state]


def test_one_wrong_expectation_refuses_the_step(ledger: Ledger) -> None:
    """All pairs are checked, not only the one that happens to match: the fault shows in the first test."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.VALIDATED)
        with pytest.raises(IllegalStep):
            move(
                transaction, key, InvoiceState.SENDING,
                expected=(InvoiceState.VALIDATED, InvoiceState.CONFIRMED), event="test.moved",
            )  # fmt: skip
    assert invoice_row(ledger, key)["state"] == InvoiceState.VALIDATED


def test_the_slower_of_two_writes_nothing(ledger: Ledger, clock: HandClock) -> None:
    """Two processes may judge the same invoice; the one that comes second must not leave an event of a change."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.SENDING)
    before = invoice_row(ledger, key)
    clock.advance(1)
    with ledger.transaction() as transaction:
        moved = move(
            transaction, key, InvoiceState.PARKED,
            expected=(InvoiceState.VALIDATED,), reason="WHY", event="test.moved", number="changed",
        )  # fmt: skip
    assert moved is False
    assert invoice_row(ledger, key) == before
    assert events(ledger, "test.moved") == []


def test_of_many_at_once_one_takes_the_step(ledger: Ledger) -> None:
    """The database decides who was first, not a check before the update."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.VALIDATED)

    def take() -> bool:
        with ledger.transaction() as transaction:
            return move(transaction, key, InvoiceState.SENDING, expected=(InvoiceState.VALIDATED,), event="test.moved")

    assert sorted(race([take] * 6)) == [False] * 5 + [True]
    assert len(events(ledger, "test.moved")) == 1


def test_an_invoice_that_leaves_parking_forgets_why(ledger: Ledger) -> None:
    """People work from the list of exceptions: a cured invoice must not carry its old problem along."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction)
        move(
            transaction, key, InvoiceState.PARKED,
            expected=(InvoiceState.VALIDATED,), reason="WHY", event="e", problems=[{"reason": "WHY"}],
        )  # fmt: skip
    parked = invoice_row(ledger, key)
    assert (parked["reason"], parked["problems"], parked["parked_at"]) == ("WHY", [{"reason": "WHY"}], WINDOW)
    with ledger.transaction() as transaction:
        move(transaction, key, InvoiceState.VALIDATED, expected=(InvoiceState.PARKED,), event="e")
    cured = invoice_row(ledger, key)
    assert (cured["reason"], cured["problems"], cured["parked_at"]) == (None, None, None)


def test_an_invoice_parked_again_does_not_count_as_cured(ledger: Ledger) -> None:
    """Otherwise every poll would open a new generation for it, for ever."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.PARKED, reason="WHY", cured_at=WINDOW)
        move(transaction, key, InvoiceState.PARKED, expected=(InvoiceState.PARKED,), reason="OTHER", event="e")
    row = invoice_row(ledger, key)
    assert (row["reason"], row["cured_at"]) == ("OTHER", None)


def test_a_change_that_is_rolled_back_leaves_no_event(ledger: Ledger) -> None:
    """An event of something that did not happen would be as wrong as a change without its event."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction)

    class Undone(Exception): ...

    def fail() -> None:
        with ledger.transaction() as transaction:
            move(transaction, key, InvoiceState.SENDING, expected=(InvoiceState.VALIDATED,), event="test.moved")
            raise Undone

    with pytest.raises(Undone):
        fail()
    assert invoice_row(ledger, key)["state"] == InvoiceState.VALIDATED
    assert events(ledger, "test.moved") == []
