"""What the ledger tells of refusals: those of a business unit since its last creation, and taking them up together."""

import datetime as dt

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import observations, recovery
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.releases import judge_all_again
from mlc_dagster.ledger.schema import invoice
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.submissions import Intent, Phase
from mlc_dagster_tests.ledger.attempts import again, end
from mlc_dagster_tests.ledger.population import POD, HandClock, add_invoice, events, invoice_row, sent_invoice

HERE = "US1"


def sent(ledger: Ledger, unit: str = HERE) -> Intent:
    key, intent = sent_invoice(ledger)
    with ledger.transaction() as transaction:
        transaction.execute(sa.update(invoice).where(invoice.c.id == key).values(business_unit=unit))
    return intent


def refused(ledger: Ledger, *, at_most: int = 50, pod: str = POD, unit: str = HERE) -> list[str]:
    with ledger.reading() as reading:
        return [row["answer"] for row in recovery.refused_since_creation(reading, pod, unit, at_most=at_most)]


def test_refusals_are_those_since_the_last_creation_in_the_order_of_their_ends(
    ledger: Ledger, clock: HandClock
) -> None:
    """What Fusion created afterwards shows that it does not refuse everything."""
    first, second, third, fourth = (sent(ledger) for _ in range(4))
    for intent, how, given in (
        (first, "park_submission", {"answer": "before"}),
        (second, "mark_created", {}),
        (fourth, "park_submission", {"answer": "one"}),
        (third, "park_submission", {"answer": "two", "phase": Phase.UNKNOWN}),
    ):
        clock.now += dt.timedelta(seconds=1)
        end(ledger, how, intent, **given)
    assert refused(ledger) == ["one", "two"]
    assert refused(ledger, at_most=1) == ["one"], "the latest attempts"


def test_refusals_are_a_business_units_own(ledger: Ledger) -> None:
    """A fault in one must not stop another, nor one environment another."""
    end(ledger, "park_submission", sent(ledger), answer="here")
    end(ledger, "park_submission", sent(ledger, "UK1"), answer="there")
    end(ledger, "mark_created", sent(ledger, "UK1"))
    assert (refused(ledger), refused(ledger, unit="UK1")) == (["here"], [])
    assert refused(ledger, pod="https://other.example.com") == []


def test_what_was_found_later_is_no_creation_of_now(ledger: Ledger) -> None:
    """Adopted by a look-up: it may have been created before the first refusal."""
    end(ledger, "park_submission", sent(ledger), answer="no")
    end(ledger, "mark_created", sent(ledger), http_status=None)
    assert refused(ledger) == ["no"]


def test_a_time_out_and_a_released_attempt_are_no_refusals(ledger: Ledger) -> None:
    """Neither says anything about the content."""
    end(ledger, "mark_unknown", sent(ledger))
    end(ledger, "release", sent(ledger), http_status=400)
    end(ledger, "mark_refused", sent(ledger))
    assert refused(ledger) == []


@pytest.mark.parametrize("status", [400, 409])
def test_what_was_looked_for_in_vain_is_no_refusal(ledger: Ledger, status: int) -> None:
    """Nobody knows what became of it: the answer on record is ours, and says the same of each of them."""
    intent = sent(ledger)
    end(ledger, "mark_unknown", intent, http_status=status)
    end(ledger, "park_submission", intent, phase=Phase.UNKNOWN, http_status=status, reason="SUBMIT_UNKNOWN")
    assert refused(ledger) == []


def test_an_attempt_goes_back_when_none_before_it_can_be_stored(ledger: Ledger) -> None:
    """One that was refused for now, or looked for in vain, may be overtaken by what takes its place."""
    found: list[bool] = []
    for ended_as in (Phase.RELEASED, Phase.REFUSED, Phase.ABSENT):
        first = sent(ledger)
        end(ledger, "mark_refused", first)
        second = again(ledger, first, ended_as)
        assert second is not None
        with ledger.reading() as reading:
            found += [recovery.only_released_before(reading, intent.submission_id) for intent in (first, second)]
    assert found == [True, True, True, False, True, False]


def test_all_that_are_parked_for_the_same_are_judged_again(ledger: Ledger) -> None:
    """Each on record, once; what is parked for something else stays."""
    with ledger.transaction() as transaction:
        same = [add_invoice(transaction, InvoiceState.PARKED, reason="FUSION_REJECTED(A-100)") for _ in range(3)]
        other = add_invoice(transaction, InvoiceState.PARKED, reason="FUSION_REJECTED(A-101)")
    for count in (3, 0):
        with ledger.transaction() as transaction:
            found = judge_all_again(transaction, "FUSION_REJECTED(A-100)", by="ann@host", reason="the role is back")
        assert found == count
    assert all(invoice_row(ledger, key)["cured_at"] is not None for key in same)
    assert invoice_row(ledger, other)["cured_at"] is None
    assert len(events(ledger, "invoice.retried")) == 3


@pytest.mark.parametrize("state", [InvoiceState.MISSING_IN_FUSION, InvoiceState.CONFIRMED])
def test_entered_again_is_kept_of_what_is_missing_alone(ledger: Ledger, state: InvoiceState) -> None:
    """Once; and what came into sight meanwhile was not replaced by anything."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, state)
    kept: list[bool] = []
    for _ in range(2):
        with ledger.transaction() as transaction:
            kept.append(
                observations.keep_entered_again(
                    transaction, key, reason="ENTERED_AGAIN", problems=[{"reason": "ENTERED_AGAIN"}],
                    differences={"InvoiceAmount": ["1", "2"]}, detail={"invoice_id": 7},
                )
            )  # fmt: skip
    missing = state is InvoiceState.MISSING_IN_FUSION
    assert kept == [missing, False]
    row = invoice_row(ledger, key)
    assert (row["state"], row["reason"]) == (state, "ENTERED_AGAIN" if missing else None)
    found = [(event["detail"]["invoice_id"], event["detail"]["differences"]) for event in events(ledger)
             if event["kind"] == "invoice.entered_again"]  # fmt: skip
    assert found == ([(7, {"InvoiceAmount": ["1", "2"]})] if missing else [])
