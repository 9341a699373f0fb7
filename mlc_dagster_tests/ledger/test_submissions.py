"""One attempt to create an invoice, from the claim to its end: what each answer does to attempt, claim and invoice."""

import datetime as dt
import hashlib

import pytest

from mlc_dagster.ledger import control_rows, recovery, submissions
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.states import CREATED_STATES, InvoiceState
from mlc_dagster.ledger.submissions import Intent, Phase, TakenBy
from mlc_dagster_tests.ledger.attempts import WAIT, again, end
from mlc_dagster_tests.ledger.population import (
    LEASE,
    POD,
    WINDOW,
    HandClock,
    add_invoice,
    claim,
    claims,
    events,
    intend,
    invoice_row,
    sent_invoice,
    state_of,
    submission_row,
)


def test_the_intent_is_durable_before_anything_is_sent(ledger: Ledger) -> None:
    """Whatever dies from here on: the exact bytes, their hash and who may send them until when are on record."""
    key, intent = sent_invoice(ledger)
    row = submission_row(ledger, intent.submission_id)
    assert (row["phase"], row["attempt"], row["owner"], row["lease_until"]) == ("INTENT", 1, "one", WINDOW + LEASE)
    assert row["body"] == intent.body
    assert row["body_sha256"] == hashlib.sha256(intent.body).hexdigest()
    assert state_of(ledger, key) == InvoiceState.SENDING
    [event] = events(ledger, "submission.intent")
    assert event["detail"]["body_sha256"] == row["body_sha256"]


def test_a_number_is_claimed_by_one_invoice(ledger: Ledger) -> None:
    """Two invoices of ours under one supplier's number: the second is told whose it is, and stays as it was."""
    with ledger.transaction() as transaction:
        first, second = add_invoice(transaction), add_invoice(transaction)
        intend(transaction, first, number_key="A-1")
    with ledger.transaction() as transaction:
        assert claim(transaction, second, number_key="A-1") == TakenBy(first)
    assert state_of(ledger, second) == InvoiceState.VALIDATED


def test_another_supplier_may_use_the_same_number(ledger: Ledger) -> None:
    """Number 1001 is everybody's."""
    with ledger.transaction() as transaction:
        first, second = add_invoice(transaction), add_invoice(transaction)
        intend(transaction, first, number_key="1001", supplier_id=1)
        intend(transaction, second, number_key="1001", supplier_id=2)
    assert {row["invoice_pk"] for row in claims(ledger)} == {first, second}


def test_an_invoice_under_way_gets_no_second_intent(ledger: Ledger) -> None:
    """The slower of two workers does nothing."""
    key, _ = sent_invoice(ledger)
    with ledger.transaction() as transaction:
        assert claim(transaction, key) is None
    assert len(events(ledger, "submission.intent")) == 1


def test_an_invoice_that_changed_meanwhile_leaves_no_claim(ledger: Ledger) -> None:
    """A newer revision came between the mapping and the claim: the old number must not stay closed for ever."""
    with ledger.transaction() as transaction:
        changed, other = add_invoice(transaction, InvoiceState.RECEIVED), add_invoice(transaction)
        assert claim(transaction, changed, number_key="A-1") is None
    assert claims(ledger) == []
    with ledger.transaction() as transaction:
        assert isinstance(claim(transaction, other, number_key="A-1"), Intent)


def test_created_carries_fusions_number(ledger: Ledger) -> None:
    """The simplest good end."""
    key, intent = sent_invoice(ledger)
    end(ledger, "mark_created", intent)
    row = submission_row(ledger, intent.submission_id)
    assert (row["phase"], row["http_status"], row["ended_at"]) == ("CREATED", 201, WINDOW)
    assert (state_of(ledger, key), invoice_row(ledger, key)["fusion_invoice_id"]) == ("CREATED", 300_001)
    assert len(events(ledger, "submission.created")) == 1


@pytest.mark.parametrize("how", ["mark_refused", "mark_unknown", "release", "mark_foreign", "park_submission"])
def test_created_never_goes_back(ledger: Ledger, how: str) -> None:
    """Whatever a slower process believes of the same attempt: what Fusion holds is not sent again."""
    key, intent = sent_invoice(ledger)
    end(ledger, "mark_created", intent)
    end(ledger, how, intent)
    assert state_of(ledger, key) == InvoiceState.CREATED
    assert submission_row(ledger, intent.submission_id)["phase"] == Phase.CREATED
    assert [row["invoice_pk"] for row in claims(ledger)] == [key]


@pytest.mark.parametrize("ended_as", [Phase.ABSENT, Phase.REFUSED, Phase.REJECTED])
def test_a_created_invoice_gets_no_further_attempt(ledger: Ledger, ended_as: Phase) -> None:
    """Also when the one that asks read the attempt before it ended."""
    key, intent = sent_invoice(ledger)
    end(ledger, "mark_unknown", intent)
    before = submission_row(ledger, intent.submission_id)
    end(ledger, "mark_created", intent)
    with ledger.transaction() as transaction:
        found = submissions.claim_again(transaction, before, owner="two", fence=2, lease=LEASE, ended_as=ended_as)
    assert found is None
    assert state_of(ledger, key) == InvoiceState.CREATED


def test_a_late_answer_wins_over_unknown(ledger: Ledger, clock: HandClock) -> None:
    """The answer came after the time-out was recorded: evidence counts whenever it comes."""
    key, intent = sent_invoice(ledger)
    end(ledger, "mark_unknown", intent)
    clock.advance(1000)
    end(ledger, "mark_created", intent)
    assert state_of(ledger, key) == InvoiceState.CREATED


@pytest.mark.parametrize("phase", [Phase.UNKNOWN, Phase.ABSENT, Phase.REJECTED])
def test_a_late_answer_wins_over_parked(ledger: Ledger, phase: Phase) -> None:
    """A person must not be asked about an invoice that is in Fusion."""
    key, intent = sent_invoice(ledger)
    end(ledger, "park_submission", intent, phase=phase)
    assert state_of(ledger, key) == InvoiceState.PARKED
    end(ledger, "mark_created", intent)
    row = invoice_row(ledger, key)
    assert (row["state"], row["reason"], row["problems"]) == ("CREATED", None, None)


@pytest.mark.parametrize("how", ["release", "mark_foreign"])
def test_a_late_answer_wins_over_what_was_certain(ledger: Ledger, how: str) -> None:
    """Released or given to somebody else by mistake: the invoice is created, and its number is claimed again."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, supplier_id=7, number_key="A-1")
        intent = intend(transaction, key, supplier_id=7, number_key="A-1")
    end(ledger, how, intent)
    assert claims(ledger) == []
    end(ledger, "mark_created", intent)
    assert state_of(ledger, key) == InvoiceState.CREATED
    assert [(row["invoice_pk"], row["number_key"]) for row in claims(ledger)] == [(key, "A-1")]


def test_a_late_answer_wins_over_a_further_attempt(ledger: Ledger) -> None:
    """The first request was stored after all: the second attempt's fate no longer decides about the invoice."""
    key, first = sent_invoice(ledger)
    end(ledger, "mark_unknown", first)
    second = again(ledger, first, Phase.ABSENT)
    assert second is not None
    end(ledger, "mark_created", first)
    end(ledger, "mark_unknown", second)
    assert state_of(ledger, key) == InvoiceState.CREATED


def test_two_invoices_in_fusion_are_told(ledger: Ledger) -> None:
    """The one thing that must never happen: if it does, the trail names both, and the first stays the invoice's own."""
    key, first = sent_invoice(ledger)
    end(ledger, "mark_unknown", first)
    second = again(ledger, first, Phase.ABSENT)
    assert second is not None
    end(ledger, "mark_created", second, fusion_invoice_id=2)
    end(ledger, "mark_created", first, fusion_invoice_id=1)
    [event] = events(ledger, "invoice.created_twice")
    assert (event["detail"]["invoice_id"], event["detail"]["second"]) == (2, 1)
    assert invoice_row(ledger, key)["fusion_invoice_id"] == 2


def test_the_same_evidence_twice_is_told_once(ledger: Ledger) -> None:
    """Answer and look-up may both show it."""
    _, intent = sent_invoice(ledger)
    end(ledger, "mark_created", intent)
    end(ledger, "mark_created", intent, http_status=None, evidence="look-up")
    assert len(events(ledger, "submission.created")) == 1
    assert events(ledger, "invoice.created_twice") == []


def test_refused_waits_and_stays_claimed(ledger: Ledger) -> None:
    """Nothing was stored, and nobody else may take the number meanwhile."""
    key, intent = sent_invoice(ledger)
    end(ledger, "mark_refused", intent)
    row = submission_row(ledger, intent.submission_id)
    assert (row["phase"], row["not_before"], row["ended_at"]) == ("REFUSED", WINDOW + dt.timedelta(seconds=5), None)
    assert state_of(ledger, key) == InvoiceState.SENDING
    assert [found["invoice_pk"] for found in claims(ledger)] == [key]


def test_unknown_waits_and_stays_claimed(ledger: Ledger) -> None:
    """It may be in Fusion: the number is as good as used."""
    key, intent = sent_invoice(ledger)
    end(ledger, "mark_unknown", intent)
    row = submission_row(ledger, intent.submission_id)
    assert (row["phase"], row["not_before"], row["absences"]) == ("UNKNOWN", WINDOW + WAIT, 0)
    assert state_of(ledger, key) == InvoiceState.UNKNOWN
    assert [found["invoice_pk"] for found in claims(ledger)] == [key]


def test_release_gives_the_number_back(ledger: Ledger) -> None:
    """Access was refused to everybody: the invoice waits as VALIDATED and another may use the number."""
    with ledger.transaction() as transaction:
        key, other = add_invoice(transaction), add_invoice(transaction)
        intent = intend(transaction, key, number_key="A-1")
    end(ledger, "release", intent)
    assert state_of(ledger, key) == InvoiceState.VALIDATED
    assert submission_row(ledger, intent.submission_id)["phase"] == Phase.RELEASED
    with ledger.transaction() as transaction:
        assert isinstance(claim(transaction, other, number_key="A-1"), Intent)


def test_a_released_invoice_may_be_sent_later(ledger: Ledger) -> None:
    """As a further attempt: the first stays on record."""
    key, intent = sent_invoice(ledger)
    end(ledger, "release", intent)
    with ledger.transaction() as transaction:
        assert intend(transaction, key).attempt == 2


def test_a_release_after_the_lease_leaves_the_look_up_to_happen(ledger: Ledger, clock: HandClock) -> None:
    """A stopped sender wakes late and has sent nothing; others count it as unknown by now and must find out."""
    key, intent = sent_invoice(ledger)
    clock.advance(91)
    with ledger.transaction() as transaction:
        recovery.expire_intents(transaction, WINDOW, wait=WAIT)
    end(ledger, "release", intent)
    row = submission_row(ledger, intent.submission_id)
    assert (row["phase"], row["ended_at"], state_of(ledger, key)) == ("UNKNOWN", None, "UNKNOWN")
    assert [found["invoice_pk"] for found in claims(ledger)] == [key]


def test_a_foreign_invoice_is_reported_and_the_number_given_back(ledger: Ledger) -> None:
    """It is in Fusion by somebody else: we hold no claim on it and never act on it."""
    key, intent = sent_invoice(ledger)
    end(ledger, "mark_foreign", intent)
    row = invoice_row(ledger, key)
    assert (row["state"], row["fusion_invoice_id"], row["differences"]) == (
        "ALREADY_IN_FUSION", 99, {"amount": ["1.00", "2.00"]},
    )  # fmt: skip
    assert claims(ledger) == []


def test_a_content_refusal_parks_and_gives_the_number_back(ledger: Ledger) -> None:
    """Nothing is in Fusion; the corrected invoice may come under the same number."""
    key, intent = sent_invoice(ledger)
    end(ledger, "park_submission", intent)
    row = invoice_row(ledger, key)
    assert (row["state"], row["reason"], row["problems"]) == (
        "PARKED", "FUSION_REJECTED", [{"reason": "FUSION_REJECTED"}],
    )  # fmt: skip
    assert claims(ledger) == []


@pytest.mark.parametrize("phase", [Phase.UNKNOWN, Phase.ABSENT])
def test_an_uncertain_end_keeps_the_number(ledger: Ledger, phase: Phase) -> None:
    """While it may be in Fusion nobody else posts under it."""
    key, intent = sent_invoice(ledger)
    end(ledger, "park_submission", intent, phase=phase, reason="SUBMIT_UNKNOWN")
    assert [row["invoice_pk"] for row in claims(ledger)] == [key]


def test_the_control_row_is_the_latest_one_kept(ledger: Ledger) -> None:
    """One per business unit; an older one may have been purged in Fusion."""
    for number in (1, 2):
        with ledger.transaction() as transaction:
            control_rows.keep_control(transaction, POD, "BU", fusion_invoice_id=number, number=f"C-{number}")
    with ledger.reading() as reading:
        assert control_rows.control_for(reading, POD, "BU") == (2, "C-2")
        assert control_rows.control_for(reading, POD, "other") is None


def test_a_chain_of_ends_never_leaves_an_invoice_in_two_minds(ledger: Ledger) -> None:
    """An invoice in flight always has exactly one attempt that is open; one that is created has none that matters."""
    key, intent = sent_invoice(ledger)
    for how in ("mark_refused", "mark_unknown", "mark_refused", "park_submission", "release", "mark_created"):
        end(ledger, how, intent)
        with ledger.reading() as reading:
            still_open = recovery.waiting(reading, WINDOW)
        assert (len(still_open) == 1) == (state_of(ledger, key) in ("SENDING", "UNKNOWN"))
    assert state_of(ledger, key) in CREATED_STATES
