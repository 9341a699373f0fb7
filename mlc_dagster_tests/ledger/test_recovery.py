"""Attempts whose outcome is not known: expired leases, proofs of absence, further attempts, and what still waits."""

import datetime as dt

from mlc_dagster.ledger import recovery
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.submissions import Phase
from mlc_dagster_tests.ledger.attempts import WAIT, again, end
from mlc_dagster_tests.ledger.population import (
    LEASE,
    POD,
    WINDOW,
    HandClock,
    events,
    sent_invoice,
    state_of,
    submission_row,
)


def test_a_further_attempt_sends_the_frozen_bytes(ledger: Ledger) -> None:
    """What has an intent is never mapped again: the second request is the first, byte for byte."""
    key, first = sent_invoice(ledger)
    end(ledger, "mark_unknown", first)
    second = again(ledger, first, Phase.ABSENT)
    assert second is not None
    assert (second.attempt, second.body) == (2, first.body)
    assert submission_row(ledger, first.submission_id)["phase"] == Phase.ABSENT
    row = submission_row(ledger, second.submission_id)
    assert (row["owner"], row["fence"], row["invoice_group"]) == ("two", 2, "MLC 2026-03-02-09:00 g1")
    assert state_of(ledger, key) == InvoiceState.SENDING


def test_a_further_attempt_may_carry_a_renamed_supplier(ledger: Ledger) -> None:
    """The one case in which the bytes change; both versions stay on record."""
    _, first = sent_invoice(ledger)
    second = again(ledger, first, Phase.REJECTED, b'{"Supplier":"new name"}')
    assert second is not None
    assert submission_row(ledger, second.submission_id)["body"] == b'{"Supplier":"new name"}'
    assert submission_row(ledger, first.submission_id)["body"] == first.body


def test_three_unknown_attempts_can_be_counted(ledger: Ledger) -> None:
    """Over all runs; a refused one in between does not count."""
    key, intent = sent_invoice(ledger)
    counts: list[int] = []
    for end_of in ("mark_unknown", "mark_refused", "mark_unknown", "mark_unknown"):
        end(ledger, end_of, intent)
        with ledger.reading() as reading:
            counts.append(recovery.unknown_attempts(reading, key))
        ended_as = Phase.REFUSED if end_of == "mark_refused" else Phase.ABSENT
        following = again(ledger, intent, ended_as)
        assert following is not None
        intent = following
    assert counts == [1, 1, 2, 3]


def test_only_expired_leases_are_taken_for_lost(ledger: Ledger, clock: HandClock) -> None:
    """A sender that is alive is left alone, to the second."""
    early, first = sent_invoice(ledger)
    late, _ = sent_invoice(ledger, lease=LEASE + dt.timedelta(seconds=60))
    clock.advance(90)
    with ledger.transaction() as transaction:
        assert recovery.expire_intents(transaction, WINDOW, wait=WAIT) == 0
    clock.advance(1)
    with ledger.transaction() as transaction:
        assert recovery.expire_intents(transaction, WINDOW, wait=WAIT) == 1
    assert (state_of(ledger, early), state_of(ledger, late)) == ("UNKNOWN", "SENDING")
    assert submission_row(ledger, first.submission_id)["not_before"] == WINDOW + LEASE + WAIT


def test_the_wait_counts_from_the_end_of_the_lease(ledger: Ledger, clock: HandClock) -> None:
    """After a night's downtime nothing can still be under way: the look-up is due at once."""
    _, intent = sent_invoice(ledger)
    clock.advance(86_400)
    with ledger.transaction() as transaction:
        recovery.expire_intents(transaction, WINDOW, wait=WAIT)
    assert submission_row(ledger, intent.submission_id)["not_before"] == clock.now


def test_another_windows_intents_are_not_taken_for_lost(ledger: Ledger, clock: HandClock) -> None:
    """Each window's run minds its own, under its own lease."""
    sent_invoice(ledger)
    clock.advance(1000)
    with ledger.transaction() as transaction:
        assert recovery.expire_intents(transaction, WINDOW + dt.timedelta(minutes=15), wait=WAIT) == 0


def test_two_proofs_of_absence_are_counted_when_due(ledger: Ledger, clock: HandClock) -> None:
    """Half a wait apart: what is being stored right now shows in the second."""
    _, intent = sent_invoice(ledger)
    end(ledger, "mark_unknown", intent)
    clock.advance(360)
    assert end(ledger, "mark_absent_once", intent) == 1
    clock.advance(180)
    assert end(ledger, "mark_absent_once", intent) == 2
    assert [event["detail"]["absences"] for event in events(ledger, "submission.absent")] == [1, 2]


def test_two_looks_at_the_same_moment_are_one_proof(ledger: Ledger, clock: HandClock) -> None:
    """Two processes that look at once must not together make the two proofs that allow a re-send."""
    _, intent = sent_invoice(ledger)
    end(ledger, "mark_unknown", intent)
    clock.advance(360)
    assert [end(ledger, "mark_absent_once", intent) for _ in range(2)] == [1, 1]
    assert len(events(ledger, "submission.absent")) == 1


def test_an_attempt_declared_unknown_again_begins_its_proofs_anew(ledger: Ledger, clock: HandClock) -> None:
    """Its sender was alive after all and only now gave up: what was looked up before proves nothing."""
    _, intent = sent_invoice(ledger)
    end(ledger, "mark_unknown", intent)
    clock.advance(360)
    end(ledger, "mark_absent_once", intent)
    end(ledger, "mark_unknown", intent)
    row = submission_row(ledger, intent.submission_id)
    assert (row["absences"], row["not_before"]) == (0, clock.now + WAIT)


def test_unknown_outcomes_are_counted_while_they_are_open(ledger: Ledger) -> None:
    """Eight of them stop new intents: refused, parked and settled ones must not count."""
    intents = [sent_invoice(ledger)[1] for _ in range(5)]
    for intent in intents[:3]:
        end(ledger, "mark_unknown", intent)
    end(ledger, "mark_refused", intents[3])
    end(ledger, "mark_created", intents[0])
    end(ledger, "park_submission", intents[1], phase=Phase.UNKNOWN, reason="SUBMIT_UNKNOWN")
    with ledger.reading() as reading:
        assert recovery.unknown_count(reading, POD) == 1
        assert recovery.unknown_count(reading, "https://other.example") == 0


def test_waiting_lists_what_is_open(ledger: Ledger) -> None:
    """Exactly the attempts that somebody must still settle."""
    intents = [sent_invoice(ledger)[1] for _ in range(4)]
    end(ledger, "mark_unknown", intents[1])
    end(ledger, "mark_refused", intents[2])
    end(ledger, "mark_created", intents[3])
    with ledger.reading() as reading:
        found = [(row["id"], row["phase"]) for row in recovery.waiting(reading, WINDOW)]
    assert found == [
        (intents[0].submission_id, "INTENT"),
        (intents[1].submission_id, "UNKNOWN"),
        (intents[2].submission_id, "REFUSED"),
    ]
