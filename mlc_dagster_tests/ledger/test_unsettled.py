"""Two people decide about an unknown outcome: only in the states in which it is unknown, and on record."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import recovery, unsettled
from mlc_dagster.ledger.database import Ledger, Row
from mlc_dagster.ledger.schema import submission
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.submissions import Intent, Phase
from mlc_dagster.ledger.unsettled import HeldByAnother, NotUnsettled
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.ledger.attempts import again, end
from mlc_dagster_tests.ledger.population import (
    HandClock,
    add_invoice,
    claims,
    events,
    invoice_row,
    sent_invoice,
    state_of,
    submission_row,
)

SEEN = {"1": "ABSENT"}
PROBLEM = {"phase": Phase.UNKNOWN, "reason": "SUBMIT_UNKNOWN", "problem": {"reason": "SUBMIT_UNKNOWN"}}


def given_up(ledger: Ledger) -> tuple[int, Intent]:
    """An invoice whose outcome nobody found out."""
    key, intent = sent_invoice(ledger)
    end(ledger, "mark_unknown", intent)
    end(ledger, "park_submission", intent, **PROBLEM)
    return key, intent


def mark(ledger: Ledger, key: int, attempt: Row, fusion_id: int = 4711, **foreign: list[str | None]) -> InvoiceState:
    with ledger.transaction() as transaction:
        return unsettled.mark_posted(
            transaction,
            key,
            attempt,
            fusion_invoice_id=fusion_id,
            foreign=foreign,
            compared={"InvoiceAmount": "100.00"},
            approval=BOTH,
        )


def allow(ledger: Ledger, key: int) -> int:
    with ledger.transaction() as transaction:
        return unsettled.allow_repost(transaction, key, looked_up=SEEN, approval=BOTH)


def give_up(ledger: Ledger, key: int) -> None:
    with ledger.transaction() as transaction:
        unsettled.abandon(transaction, key, looked_up=SEEN, approval=BOTH)


def test_marked_as_posted_is_created(ledger: Ledger) -> None:
    """It is ours: the next poll reads it back like any other; the claim on its number stays."""
    key, intent = given_up(ledger)
    assert mark(ledger, key, submission_row(ledger, intent.submission_id)) is InvoiceState.CREATED
    assert (state_of(ledger, key), invoice_row(ledger, key)["fusion_invoice_id"]) == ("CREATED", 4711)
    row = submission_row(ledger, intent.submission_id)
    assert (row["phase"], row["fusion_invoice_id"]) == (Phase.CREATED, 4711)
    assert [claim["invoice_pk"] for claim in claims(ledger)] == [key]
    [event] = events(ledger, "invoice.marked_posted", f"invoice:{key}")
    assert event["detail"] == {
        **BOTH.said,
        "before": {"state": "PARKED", "reason": "SUBMIT_UNKNOWN", "fusion_invoice_id": None},
        "after": {"state": "CREATED", "reason": None, "fusion_invoice_id": 4711},
        "attempt": 1,
        "compared": {"InvoiceAmount": "100.00"},
        "differs_from_ours": {},
    }


def test_entered_by_somebody_else_is_never_acted_on(ledger: Ledger) -> None:
    """A clerk typed it in: the invoice is settled, and nothing of ours validates, taxes or attaches to it."""
    key, intent = given_up(ledger)
    row = submission_row(ledger, intent.submission_id)
    assert mark(ledger, key, row, CreatedBy=["svc", "clerk"]) is InvoiceState.ALREADY_IN_FUSION
    assert (state_of(ledger, key), invoice_row(ledger, key)["fusion_invoice_id"]) == ("ALREADY_IN_FUSION", 4711)
    assert submission_row(ledger, intent.submission_id)["phase"] == Phase.FOREIGN
    assert claims(ledger) == []
    [event] = events(ledger, "invoice.marked_posted", f"invoice:{key}")
    assert event["detail"]["differs_from_ours"] == {"CreatedBy": ["svc", "clerk"]}


def test_an_outcome_that_is_unknown_now_may_be_marked_as_well(ledger: Ledger) -> None:
    """Nobody has to wait for three attempts to be over when the invoice is there to be seen."""
    key, intent = sent_invoice(ledger)
    end(ledger, "mark_unknown", intent)
    mark(ledger, key, submission_row(ledger, intent.submission_id), CreatedBy=["svc", "clerk"])
    assert state_of(ledger, key) == "ALREADY_IN_FUSION"
    assert submission_row(ledger, intent.submission_id)["ended_at"] is not None


def test_one_invoice_of_fusion_never_stands_for_two_of_ours(ledger: Ledger) -> None:
    """The second would never be paid, and nobody would look for it."""
    other, intent = sent_invoice(ledger)
    end(ledger, "mark_created", intent, fusion_invoice_id=4711)
    key, unknown = given_up(ledger)
    with pytest.raises(HeldByAnother, match=f"ID {other}"):
        mark(ledger, key, submission_row(ledger, unknown.submission_id))
    assert state_of(ledger, key) == "PARKED"
    assert events(ledger, "invoice.marked_posted") == []


def test_two_that_are_marked_at_once_are_decided_one_by_one(ledger: Ledger) -> None:
    """Neither sees what the other has not committed: both would take the same invoice of Fusion."""
    (one, first), (other, second) = given_up(ledger), given_up(ledger)
    attempts = [submission_row(ledger, intent.submission_id) for intent in (first, second)]
    with ThreadPoolExecutor(1) as beside:
        with ledger.transaction() as transaction:
            unsettled.mark_posted(
                transaction, one, attempts[0], fusion_invoice_id=4711, foreign={}, compared={}, approval=BOTH
            )
            waiting = beside.submit(mark, ledger, other, attempts[1])
            with pytest.raises(TimeoutError):
                waiting.result(timeout=1)
        with pytest.raises(HeldByAnother, match=f"ID {one}"):
            waiting.result(timeout=60)
    assert (state_of(ledger, one), state_of(ledger, other)) == ("CREATED", "PARKED")


def test_an_attempt_of_another_invoice_proves_nothing(ledger: Ledger) -> None:
    """What was compared must be what was sent of this invoice."""
    key, _ = given_up(ledger)
    _, other = given_up(ledger)
    with pytest.raises(NotUnsettled):
        mark(ledger, key, submission_row(ledger, other.submission_id))
    assert state_of(ledger, key) == "PARKED"


def test_one_more_attempt_is_allowed_and_no_more(ledger: Ledger, clock: HandClock) -> None:
    """Three attempts are the rule; two people allow a fourth, which again needs two proofs of absence first."""
    key, intent = sent_invoice(ledger)
    for _ in range(2):
        end(ledger, "mark_unknown", intent)
        following = again(ledger, intent, Phase.ABSENT)
        assert following is not None
        intent = following
    end(ledger, "mark_unknown", intent)
    clock.advance(360)
    end(ledger, "mark_absent_once", intent)
    end(ledger, "park_submission", intent, **(PROBLEM | {"phase": Phase.ABSENT}))
    with ledger.reading() as reading:
        assert recovery.unknown_attempts(reading, key) >= recovery.attempts_allowed(reading, key, 3)
    assert allow(ledger, key) == 4
    with ledger.reading() as reading:
        assert (recovery.unknown_attempts(reading, key), recovery.attempts_allowed(reading, key, 3)) == (3, 4)
    row = submission_row(ledger, intent.submission_id)
    assert (state_of(ledger, key), row["phase"], row["absences"], row["ended_at"]) == ("UNKNOWN", "UNKNOWN", 0, None)
    [event] = events(ledger, "invoice.repost_allowed", f"invoice:{key}")
    assert event["detail"] == {
        **BOTH.said,
        "before": {"state": "PARKED", "reason": "SUBMIT_UNKNOWN", "fusion_invoice_id": None, "attempts": 3},
        "after": {"state": "UNKNOWN", "reason": None, "attempts_with_unknown_outcome_allowed": 4},
        "looked_up": SEEN,
    }


def test_a_permission_below_the_usual_number_takes_nothing_away(ledger: Ledger) -> None:
    """Given up after one attempt, because nothing was visible: the usual three stay."""
    key, _ = given_up(ledger)
    assert allow(ledger, key) == 2
    with ledger.reading() as reading:
        assert recovery.attempts_allowed(reading, key, 3) == 3


def test_given_up_is_rejected_and_keeps_its_claim(ledger: Ledger) -> None:
    """It may turn up in Fusion yet: nothing else may be posted under its number, and late evidence still counts."""
    key, intent = given_up(ledger)
    give_up(ledger, key)
    row = invoice_row(ledger, key)
    assert (row["state"], row["reason"]) == ("REJECTED", "ABANDONED")
    assert [claim["invoice_pk"] for claim in claims(ledger)] == [key]
    [event] = events(ledger, "invoice.abandoned", f"invoice:{key}")
    assert {name: event["detail"][name] for name in BOTH.said} == BOTH.said
    assert event["detail"]["before"] == {"state": "PARKED", "reason": "SUBMIT_UNKNOWN", "fusion_invoice_id": None}
    assert event["detail"]["after"] == {"state": "REJECTED", "reason": "ABANDONED", "fusion_invoice_id": None}
    assert event["detail"]["looked_up"] == SEEN
    end(ledger, "mark_created", intent)
    assert state_of(ledger, key) == "CREATED"


def test_an_invoice_that_was_never_sent_can_be_given_up(ledger: Ledger) -> None:
    """Nobody wants to see it in the list of exceptions for ever."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.PARKED, reason="VENDOR_UNKNOWN")
    give_up(ledger, key)
    assert state_of(ledger, key) == "REJECTED"


DECISIONS: dict[str, Callable[[Ledger, int, Row], object]] = {
    "mark_posted": mark,
    "allow_repost": lambda ledger, key, _: allow(ledger, key),
    "abandon": lambda ledger, key, _: give_up(ledger, key),
}


@pytest.mark.parametrize("decision", sorted(DECISIONS))
@pytest.mark.parametrize("how", ["under way", "created", "released"])
def test_what_is_known_or_under_way_is_not_decided(ledger: Ledger, decision: str, how: str) -> None:
    """Created stays created, and a request that may be on its way is let to its end."""
    key, intent = sent_invoice(ledger)
    if how == "created":
        end(ledger, "mark_created", intent)
    elif how == "released":
        end(ledger, "release", intent)
    attempt = submission_row(ledger, intent.submission_id)
    before = invoice_row(ledger, key)
    with pytest.raises(NotUnsettled, match="Nothing was changed"):
        DECISIONS[decision](ledger, key, attempt)
    assert invoice_row(ledger, key) == before


def test_a_newer_appearance_is_not_posted_as_the_older_one(ledger: Ledger) -> None:
    """The bytes that would be sent again are not what the invoice stands for any more."""
    key, intent = given_up(ledger)
    earlier = invoice_row(ledger, key)["occurrence_id"] - 1
    with ledger.transaction() as transaction:
        transaction.execute(
            sa.update(submission).where(submission.c.id == intent.submission_id).values(occurrence_id=earlier)
        )
    with pytest.raises(NotUnsettled, match="newer appearance"):
        allow(ledger, key)
    assert state_of(ledger, key) == "PARKED"
