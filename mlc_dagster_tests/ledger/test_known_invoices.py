"""Which invoices of Fusion the ledger knows, which attempts are unsettled, and up to which id Fusion was asked."""

from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import created_ids, recovery, unsettled
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.releases import release_hold
from mlc_dagster.ledger.schema import submission
from mlc_dagster.ledger.states import InvoiceState, move
from mlc_dagster.ledger.submissions import Phase
from mlc_dagster.ledger.unsettled import NotUnsettled
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.ledger.attempts import again, end
from mlc_dagster_tests.ledger.population import (
    POD,
    HandClock,
    add_invoice,
    invoice_row,
    sent_invoice,
    state_of,
    submission_row,
)

GROUP = "MLC 2026-03-02-09:00 g1"
UNKNOWN = {"phase": Phase.UNKNOWN, "reason": "SUBMIT_UNKNOWN", "problem": {"reason": "SUBMIT_UNKNOWN"}}
REFUSED = {
    "phase": Phase.UNKNOWN, "reason": "FUSION_REJECTED(AP-1)", "problem": {"reason": "FUSION_REJECTED"},
    "http_status": 400,
}  # fmt: skip


def test_known_by_id_or_by_name(ledger: Ledger) -> None:
    """An id is certain; the supplier's number may be one that is on its way. A number alone is nobody's."""
    with ledger.transaction() as transaction:
        add_invoice(transaction, InvoiceState.CREATED, fusion_invoice_id=11)
        own = add_invoice(transaction, InvoiceState.SENDING, number_key="inv-2", supplier_number="30012")
    seen: dict[int, tuple[str, str | None]] = {
        11: ("anything", "30012"), 12: ("inv-2", "30012"), 13: ("inv-2", "30014"), 14: ("inv-3", "30012"),
    }  # fmt: skip
    with ledger.reading() as reading:
        assert recovery.known_invoices(reading, seen) == {11, 12}
        assert recovery.known_invoices(reading, seen, but=own) == {11}
        assert recovery.known_invoices(reading, {}) == set()


def test_more_than_one_question_holds(ledger: Ledger) -> None:
    """A group of a whole window is asked for in parts."""
    with ledger.transaction() as transaction:
        for number in (1, 500, 999):
            add_invoice(transaction, InvoiceState.CREATED, fusion_invoice_id=number)
    with ledger.reading() as reading:
        found = recovery.known_invoices(reading, {number: (f"n{number}", None) for number in range(1, 1000)})
    assert found == {1, 500, 999}


def test_unsettled_are_open_ones_and_those_given_up(ledger: Ledger) -> None:
    """What is proven absent, or created, is nobody's rival any more."""
    own, _ = sent_invoice(ledger)
    expected: list[int] = []
    for how, rest in (("mark_unknown", {}), ("mark_refused", {}), ("park_submission", UNKNOWN)):
        _, intent = sent_invoice(ledger)
        end(ledger, how, intent, **rest)
        expected.append(intent.submission_id)
    for how, rest in (("mark_created", {}), ("release", {}), ("park_submission", {})):
        _, intent = sent_invoice(ledger)
        end(ledger, how, intent, **rest)
    _, absent = sent_invoice(ledger)
    end(ledger, "mark_unknown", absent)
    following = again(ledger, absent, Phase.ABSENT)
    assert following is not None
    expected.append(following.submission_id)
    with ledger.reading() as reading:
        found = recovery.unsettled_in_group(reading, own, POD, GROUP)
        assert [row["id"] for row in found] == sorted(expected)
        assert recovery.unsettled_in_group(reading, own, POD, "MLC another") == []
        assert recovery.unsettled_in_group(reading, own, "https://other.example", GROUP) == []


def test_unsettled_groups_are_told(ledger: Ledger) -> None:
    """What is found in such a group may be what an attempt created."""
    _, intent = sent_invoice(ledger)
    with ledger.reading() as reading:
        assert created_ids.unsettled_groups(reading, POD) == {GROUP}
    end(ledger, "mark_created", intent)
    with ledger.reading() as reading:
        assert created_ids.unsettled_groups(reading, POD) == set()


@pytest.mark.parametrize("how", [UNKNOWN, REFUSED])
def test_what_was_given_up_unsettles_no_group(ledger: Ledger, how: dict[str, Any]) -> None:
    """It would for ever: what is found beside it is for people, as it is itself."""
    key, intent = sent_invoice(ledger)
    end(ledger, "mark_unknown", intent)
    with ledger.reading() as reading:
        assert created_ids.unsettled_groups(reading, POD) == {GROUP}
    end(ledger, "park_submission", intent, **how)
    with ledger.reading() as reading:
        assert created_ids.unsettled_groups(reading, POD) == set()
    with ledger.transaction() as transaction:
        unsettled.abandon(transaction, key, looked_up={}, approval=BOTH)
    with ledger.reading() as reading:
        assert created_ids.unsettled_groups(reading, POD) == set()


@pytest.mark.parametrize(("reason", "expected"), [("POSTED_BEFORE_RESTORE", {4711}), ("DUP_OTHER_BU", set[int]())])
@pytest.mark.parametrize("released", [True, False])
def test_who_decides_on_what_was_held_was_told(ledger: Ledger, reason: str, expected: set[int], released: bool) -> None:
    """Only of the hold that names it: parked for something else since, nobody has seen the other."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.PARKED, reason=reason)
        created_ids.note_held(transaction, key, POD, 4711)
    with ledger.transaction() as transaction:
        if released:
            release_hold(transaction, key, reason, BOTH)
        else:
            unsettled.abandon(transaction, key, looked_up={}, approval=BOTH)
    with ledger.reading() as reading:
        assert created_ids.told(reading, POD) == expected
        assert created_ids.told(reading, "https://other.example") == set()


def test_the_mark_begins_at_what_was_created(ledger: Ledger) -> None:
    """A ledger of an earlier version has none yet; one that has created nothing has none at all."""
    with ledger.reading() as reading:
        assert created_ids.asked_up_to(reading, POD) is None
    for number in (300_007, 300_003):
        _, intent = sent_invoice(ledger)
        end(ledger, "mark_created", intent, fusion_invoice_id=number)
    with ledger.transaction() as transaction:
        assert created_ids.asked_up_to(transaction, POD) == 300_007
        created_ids.note_asked(transaction, POD, 300_005)
        assert created_ids.asked_up_to(transaction, POD) == 300_005
        assert created_ids.asked_up_to(transaction, "https://other.example") is None


def test_refused_unseen_are_looked_for_as_refusals(ledger: Ledger) -> None:
    """One proof of absence is what a complete refusal needs; the frozen bytes stay."""
    key, intent = sent_invoice(ledger)
    end(ledger, "park_submission", intent, **REFUSED)
    proven, other = sent_invoice(ledger)
    end(ledger, "park_submission", other, reason="FUSION_REJECTED(AP-1)")
    with ledger.reading() as reading:
        assert recovery.refused_unseen(reading, POD) == [], "its attempt names no appearance"
    with ledger.transaction() as transaction:
        transaction.execute(
            sa.update(submission).values(occurrence_id=invoice_row(ledger, key)["occurrence_id"])
            .where(submission.c.id == intent.submission_id)
        )  # fmt: skip
        assert [row["id"] for row in recovery.refused_unseen(transaction, POD)] == [key]
        assert recovery.reopen_refused(transaction, key, by="access is back")
        assert recovery.refused_unseen(transaction, POD) == []
    row = submission_row(ledger, intent.submission_id)
    assert (row["phase"], row["ended_at"], row["absences"]) == ("REFUSED", None, 0)
    assert (state_of(ledger, key), state_of(ledger, proven)) == ("UNKNOWN", "PARKED")


def test_what_a_newer_appearance_replaced_is_not_looked_for(ledger: Ledger) -> None:
    """It would be sent again in place of what stands for the invoice now."""
    key, intent = sent_invoice(ledger)
    end(ledger, "park_submission", intent, **REFUSED)
    with ledger.transaction() as transaction:
        transaction.execute(
            sa.update(submission).values(occurrence_id=invoice_row(ledger, key)["occurrence_id"] + 1)
            .where(submission.c.id == intent.submission_id)
        )  # fmt: skip
        assert recovery.refused_unseen(transaction, POD) == []


def test_gone_is_looked_for_by_what_created_it(ledger: Ledger, clock: HandClock) -> None:
    """The attempt keeps the id that it had; what was done to the invoice is undone, and one more attempt is allowed."""
    key, intent = sent_invoice(ledger)
    end(ledger, "mark_created", intent, fusion_invoice_id=4711)
    with ledger.transaction() as transaction:
        move(
            transaction, key, InvoiceState.MISSING_IN_FUSION, expected=(InvoiceState.CREATED,), event="invoice.missing",
            after_create_done="validate",
        )  # fmt: skip
        clock.advance(60)
    with ledger.transaction() as transaction:
        assert unsettled.allow_repost(transaction, key, looked_up={"1": "ABSENT"}, approval=BOTH) == 2
    row, attempt = invoice_row(ledger, key), submission_row(ledger, intent.submission_id)
    assert (row["state"], row["fusion_invoice_id"], row["after_create_done"]) == ("UNKNOWN", None, None)
    assert (attempt["phase"], attempt["fusion_invoice_id"], attempt["ended_at"]) == ("UNKNOWN", 4711, None)


@pytest.mark.parametrize("state", [InvoiceState.CONFIRMED, InvoiceState.VOIDED_IN_FUSION, InvoiceState.CREATED])
def test_what_stands_or_was_cancelled_is_not_posted_again(ledger: Ledger, state: InvoiceState) -> None:
    """Only what is gone may be, and only what was sent."""
    key, intent = sent_invoice(ledger)
    end(ledger, "mark_created", intent)
    with ledger.transaction() as transaction:
        move(transaction, key, state, expected=(InvoiceState.CREATED,), event="test.moved")
    with ledger.transaction() as transaction, pytest.raises(NotUnsettled, match=str(state)):
        unsettled.allow_repost(transaction, key, looked_up={}, approval=BOTH)
    assert state_of(ledger, key) == state


def test_erased_bytes_are_not_posted_again(ledger: Ledger) -> None:
    """The retention rules have erased what was sent: nobody can send it once more."""
    key, intent = sent_invoice(ledger)
    end(ledger, "mark_created", intent)
    with ledger.transaction() as transaction:
        move(transaction, key, InvoiceState.MISSING_IN_FUSION, expected=(InvoiceState.CREATED,), event="test.moved")
        transaction.execute(sa.update(submission).values(body=b"").where(submission.c.id == intent.submission_id))
    with ledger.transaction() as transaction, pytest.raises(NotUnsettled, match="erased"):
        unsettled.allow_repost(transaction, key, looked_up={}, approval=BOTH)
    assert state_of(ledger, key) == "MISSING_IN_FUSION"
