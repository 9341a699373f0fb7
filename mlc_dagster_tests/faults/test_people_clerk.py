"""A clerk deletes, cancels, renumbers or corrects in Fusion what we post, at every moment: nothing is doubled.

Proven elsewhere and not repeated: a clerk enters the invoice before, between look-up and POST, or after a time-out
(C2, C3, C5); deletes or cancels it after posting (C6); each in ``protocols/``. Here: the moments in between.
"""

from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.schema import audit_event
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.stampli import overriding
from mlc_dagster.stampli.overriding import OverrideRefused
from mlc_dagster.stampli.posting.sending import PostingStopped
from mlc_dagster.stampli.steps import observe_step
from mlc_dagster_tests.faults.people import OTHER_SUPPLIER, booked, clerk_changes, lost_answer, told
from mlc_dagster_tests.faults.scenes import finish
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.protocols.posting import (
    SUPPLIER,
    assert_adds_up,
    assert_books,
    beside,
    clerk,
    drop,
    invoices,
    later,
    many,
    numbers,
    one,
    ours,
    phases,
    posts,
    states,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal


def test_c6_an_invoice_deleted_before_it_was_looked_for_is_posted_once_more_and_stands_once(flow: Rehearsal) -> None:
    """Nobody knows that it was there: two absences prove that it is not, and one stands in the end."""
    lost_answer(flow, *one("INV-1"))
    flow.fusion.delete_invoice(booked(flow, "INV-1"))
    finish(flow)
    assert phases(flow) == ["ABSENT", "CREATED"]
    assert [each.deleted for each in flow.fusion.books.invoices(number="INV-1")] == [True, False]
    assert states(flow) == {"INV-1": "CONFIRMED"}


def test_c6_an_invoice_cancelled_before_it_was_looked_for_is_not_sent_again(flow: Rehearsal) -> None:
    """Cancelled, it keeps its number in Fusion: that is somebody's decision and no absence."""
    lost_answer(flow, *one("INV-1"))
    flow.fusion.cancel_invoice(booked(flow, "INV-1"))
    finish(flow)
    assert posts(flow) == 1
    assert states(flow)["INV-1"] in ("VOIDED_IN_FUSION", "ALREADY_IN_FUSION")
    assert invoices(flow)["INV-1"]["fusion_invoice_id"] == booked(flow, "INV-1")


def test_c6_cancelled_between_answer_and_read_back_is_seen_in_the_same_run(flow: Rehearsal) -> None:
    """Its creation is known: whatever became of it, it does not return to sending."""
    drop(flow, one("INV-1"))
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after")
    with beside(flow.process) as run:
        assert gate.wait_held(20)
        flow.fusion.cancel_invoice(booked(flow, "INV-1"))
        gate.release()
        run.result(30)
    finish(flow)
    assert posts(flow) == 1
    assert states(flow) == {"INV-1": "VOIDED_IN_FUSION"}


def test_c6_a_renumbered_invoice_is_followed_by_its_id(flow: Rehearsal) -> None:
    """A clerk corrects the number of what we posted: it is told as a difference, and is no missing invoice."""
    drop(flow, many(2))
    flow.process()
    invoice_id = booked(flow, "INV-1")
    flow.fusion.world.renumber_invoice(invoice_id, "INV-1A")
    observe_step(flow.inbound)
    drop(flow, one("INV-1"), 2)
    flow.clock.advance(1000)
    flow.process()
    assert posts(flow) == 2
    row = invoices(flow)["INV-1"]
    assert (row["fusion_invoice_id"], row["state"] in ("CONFIRMED", "CREATED")) == (invoice_id, True)
    assert_books(flow, "INV-1A", "INV-2")
    assert_adds_up(flow, created=2, duplicate=1)


def test_c6_a_renumbered_invoice_frees_its_number_for_nobody_here(flow: Rehearsal) -> None:
    """Another document of Stampli's under the old number may be the same purchase: the claim holds it for a person."""
    drop(flow, one("INV-1"))
    flow.process()
    flow.fusion.world.renumber_invoice(booked(flow, "INV-1"), "INV-1A")
    drop(flow, one("INV-1", invoice_id="another"), 2)
    flow.clock.advance(1000)
    flow.process()
    assert posts(flow) == 1
    assert_adds_up(flow, created=1, parked=1)


def test_c3_an_invoice_renumbered_before_it_was_looked_for_is_not_sent_again(flow: Rehearsal) -> None:
    """Stored, not answered, and renumbered within the wait: under its old number it is absent, and yet it is there."""
    lost_answer(flow, *one("INV-1"))
    flow.fusion.world.renumber_invoice(booked(flow, "INV-1"), "INV-1A")
    finish(flow)
    assert [each.number for each in ours(flow)] == ["INV-1A"]
    assert posts(flow) == 1
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["reason"]) == ("CREATED", "READ_BACK_DIFFERS")
    assert_adds_up(flow, created=1)


def test_c3_two_of_one_amount_renumbered_before_they_were_looked_for_are_for_a_person(flow: Rehearsal) -> None:
    """Which is which nobody can tell from here; nothing is sent, and both ids are named."""
    lost_answer(flow, *many(2), count=2)
    for number in numbers(2):
        flow.fusion.world.renumber_invoice(booked(flow, number), f"{number}A")
    finish(flow)
    assert posts(flow) == 2
    assert {row["reason"] for row in invoices(flow).values()} == {"SUBMIT_UNKNOWN"}
    told = str(invoices(flow)["INV-1"]["problems"])
    assert all(str(each.invoice_id) in told for each in ours(flow))


def test_c3_one_renumbered_beside_one_of_the_same_amount(flow: Rehearsal) -> None:
    """The other one's answer was lost too: it is found by its own number, and is not taken for the renumbered one."""
    lost_answer(flow, *many(2), count=2)
    renumbered, other = booked(flow, "INV-1"), booked(flow, "INV-2")
    flow.fusion.world.renumber_invoice(renumbered, "INV-1A")
    finish(flow)
    assert posts(flow) == 2
    assert {number: row["fusion_invoice_id"] for number, row in invoices(flow).items()} == {
        "INV-1": renumbered,
        "INV-2": other,
    }


def test_c3_a_clerks_other_invoice_renumbered_to_ours_is_not_posted_beside_it(flow: Rehearsal) -> None:
    """Between look-up and POST somebody corrects a typing error, and the number is taken."""
    wrong = clerk(flow, "INV-l", SupplierNumber=SUPPLIER)
    drop(flow, one("INV-1"))
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with beside(flow.process) as run:
        assert gate.wait_held(20)
        flow.fusion.world.renumber_invoice(wrong, "INV-1")
        gate.release()
        run.result(30)
    finish(flow)
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["fusion_invoice_id"]) == ("ALREADY_IN_FUSION", wrong)
    assert ours(flow) == []
    assert_adds_up(flow, already_in_fusion=1)


# A clerk who corrects more than the number, or something else, while the answer is lost.


@pytest.mark.parametrize(
    ("number", "fields"),
    [
        ("INV-1A", {"InvoiceAmount": "110.25"}),
        ("INV-1A", {"InvoiceDate": "2026-11-09"}),
        ("INV-1A", {"InvoiceAmount": "110.25", "InvoiceDate": "2026-11-09"}),
        ("INV-1A", {"Description": "corrected", "InvoiceAmount": "0.01"}),
    ],
    ids=["amount", "date", "amount and date", "amount to a cent"],
)
def test_c3_renumbered_and_corrected_before_it_was_looked_for_is_for_a_person(
    flow: Rehearsal, number: str, fields: dict[str, Any]
) -> None:
    """Neither its number nor its amount and date find it: our marks do. It is not sent again, nor taken for ours."""
    lost_answer(flow, *one("INV-1"))
    invoice_id = booked(flow, "INV-1")
    clerk_changes(flow, invoice_id, number, **fields)
    finish(flow)
    assert posts(flow) == 1
    assert len(ours(flow)) == 1
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["reason"], row["fusion_invoice_id"]) == ("PARKED", "SUBMIT_UNKNOWN", None)
    assert f"InvoiceId {invoice_id}" in told(flow)
    assert f"Fusion has {number}" in told(flow)
    for name, value in fields.items():
        if name != "Description":
            assert f"{name}: sent" in told(flow)
            assert f"Fusion has {value}" in told(flow)
    for _ in range(3):
        later(flow)
    assert posts(flow) == 1, "nobody decided, nothing is sent"


@pytest.mark.parametrize(
    ("fields", "differences"),
    [
        ({"InvoiceAmount": "110.25"}, {"InvoiceAmount": ["100.00", "110.25"]}),
        ({"InvoiceDate": "2026-11-09"}, {"InvoiceDate": ["2026-11-10", "2026-11-09"]}),
    ],
    ids=["amount", "date"],
)
def test_c3_corrected_under_its_number_before_it_was_looked_for_is_not_taken_for_ours(
    flow: Rehearsal, fields: dict[str, Any], differences: dict[str, list[str]]
) -> None:
    """Its content is not what was sent: it is told with its id and what differs, and is never acted on nor sent."""
    lost_answer(flow, *one("INV-1"))
    clerk_changes(flow, booked(flow, "INV-1"), **fields)
    finish(flow)
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["fusion_invoice_id"]) == ("ALREADY_IN_FUSION", booked(flow, "INV-1"))
    assert row["differences"] == differences
    assert posts(flow) == 1
    assert len(ours(flow)) == 1


def test_c3_a_renumbered_one_is_nobodys_while_it_may_be_anothers(flow: Rehearsal) -> None:
    """Two of one amount without an answer, one of them stored: whose it is nobody can tell, so neither is sent."""
    flow.fusion.faults.add("reset", method="POST", path="invoices", count=1, skip=1)
    lost_answer(flow, *many(2))
    [stored] = ours(flow)
    flow.fusion.world.renumber_invoice(stored.invoice_id, "INV-X")
    finish(flow)
    assert posts(flow) == 2
    assert {row["reason"] for row in invoices(flow).values()} == {"SUBMIT_UNKNOWN"}
    for number in numbers(2):
        assert str(stored.invoice_id) in told(flow, number)


def test_c3_one_that_never_arrived_is_sent_beside_one_that_was_renumbered(flow: Rehearsal) -> None:
    """Of another amount, the renumbered one cannot be it: it is adopted by its own, and the lost one goes again."""
    flow.fusion.faults.add("reset", method="POST", path="invoices", count=1, skip=1)
    lost_answer(flow, *one("INV-1"), *one("INV-2", "77.00"))
    [stored] = ours(flow)
    flow.fusion.world.renumber_invoice(stored.invoice_id, "INV-X")
    finish(flow)
    lost = "INV-2" if stored.number == "INV-1" else "INV-1"
    assert_books(flow, "INV-X", lost)
    assert_adds_up(flow, created=2)


def test_c3_where_fusion_takes_no_question_by_group_amount_and_date_still_find_it(flow: Rehearsal) -> None:
    """A question that one Fusion refuses must neither stop its windows nor send what is there."""
    lost_answer(flow, *one("INV-1"))
    flow.fusion.world.renumber_invoice(booked(flow, "INV-1"), "INV-1A")
    # The look-up by number and its empty page go first.
    flow.fusion.faults.add("status", method="GET", path="invoices", status=400, skip=2, count=1)
    finish(flow)
    asked = flow.fusion.books.requests(method="GET", route="invoices")
    assert ["InvoiceGroup%3D" in entry.query for entry in asked if entry.status == 400] == [True]
    assert posts(flow) == 1
    assert states(flow) == {"INV-1": "CREATED"}


# Refused, and stored all the same.


@pytest.mark.parametrize("status", [503, 429])
def test_c4_refused_stored_and_renumbered_before_it_was_looked_for(flow: Rehearsal, status: int) -> None:
    """A proxy says 503 of what was stored; by the next poll a clerk had time to correct the number."""
    flow.change_config({"fusion": {"wait_in_run": 0}})
    flow.fusion.faults.add("commit_then_status", path="invoices", status=status, count=1)
    drop(flow, one("INV-1"))
    flow.process()
    flow.fusion.world.renumber_invoice(booked(flow, "INV-1"), "INV-1A")
    finish(flow)
    assert posts(flow) == 1
    assert [each.number for each in ours(flow)] == ["INV-1A"]
    assert states(flow) == {"INV-1": "CREATED"}


def test_c4_refused_stored_and_corrected_before_it_was_looked_for(flow: Rehearsal) -> None:
    """The same with the amount: for a person."""
    flow.change_config({"fusion": {"wait_in_run": 0}})
    flow.fusion.faults.add("commit_then_status", path="invoices", status=503, count=1)
    drop(flow, one("INV-1"))
    flow.process()
    clerk_changes(flow, booked(flow, "INV-1"), "INV-1A", InvoiceAmount="110.00")
    finish(flow)
    assert posts(flow) == 1
    assert invoices(flow)["INV-1"]["reason"] == "SUBMIT_UNKNOWN"


def test_c4_a_refusal_looked_up_at_once_costs_one_question(flow: Rehearsal) -> None:
    """Within seconds nobody renumbers anything: a burst of 503 must not double the look-ups."""
    flow.fusion.faults.add("status", method="POST", path="invoices", status=503, count=5)
    drop(flow, many(5))
    flow.process()
    assert_books(flow, *numbers(5))
    asked = [entry.query for entry in flow.fusion.books.requests(method="GET", route="invoices")]
    assert not any("InvoiceGroup%3D" in query for query in asked)


def test_c5_refused_after_long_stored_and_renumbered_meanwhile(flow: Rehearsal) -> None:
    """A proxy kept the request for minutes and answered 400 for its own copy: the first was stored and renumbered."""
    flow.change_config({"fusion": {"request_timeout": 60}})
    flow.fusion.faults.add("commit_then_status", path="invoices", status=400, count=1)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after")
    drop(flow, one("INV-1"))
    with beside(flow.process) as run:
        assert gate.wait_held(20)
        flow.fusion.world.renumber_invoice(booked(flow, "INV-1"), "INV-1A")
        flow.clock.advance(45)
        gate.release()
        run.result(30)
    finish(flow)
    assert posts(flow) == 1
    assert states(flow) == {"INV-1": "CREATED"}


# What a person decides of it.


def test_c6_two_people_say_that_the_corrected_one_is_it(flow: Rehearsal) -> None:
    """Our marks are on it and nobody else's is it: adopted by their word, and every difference is told."""
    lost_answer(flow, *one("INV-1"))
    invoice_id = booked(flow, "INV-1")
    clerk_changes(flow, invoice_id, "INV-1A", InvoiceAmount="110.25")
    finish(flow)
    key = int(invoices(flow)["INV-1"]["id"])
    with pytest.raises(OverrideRefused, match=f"InvoiceId {invoice_id}"):
        overriding.allow_repost(flow.inbound, key, BOTH)
    marked = overriding.mark_posted(flow.inbound, key, invoice_id, BOTH)
    assert (marked.state, marked.foreign) == (InvoiceState.CREATED, {})
    finish(flow)
    flow.run(invoices(flow)["INV-1"]["window_start"])
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["reason"], row["fusion_invoice_id"]) == ("CREATED", "READ_BACK_DIFFERS", invoice_id)
    assert row["differences"] == {"InvoiceNumber": ["INV-1", "INV-1A"], "InvoiceAmount": ["100.00", "110.25"]}
    with flow.ledger.reading() as reading:
        [event] = reading.rows(sa.select(audit_event).where(audit_event.c.kind == "invoice.marked_posted"))
    assert event["detail"]["changed_in_fusion"] == row["differences"]
    assert {name: event["detail"][name] for name in BOTH.said} == BOTH.said
    assert posts(flow) == 1


def test_c6_what_is_another_invoice_of_ours_is_nobodys_word(flow: Rehearsal) -> None:
    """Our marks are on every invoice of the group: one that the ledger knows stands for that one alone."""
    lost_answer(flow, *one("INV-1"), *one("INV-2"))
    [lost] = [number for number, state in states(flow).items() if state == "UNKNOWN"]
    [other] = [number for number in numbers(2) if number != lost]
    key = int(invoices(flow)[lost]["id"])
    with pytest.raises(OverrideRefused, match="is not what was sent"):
        overriding.mark_posted(flow.inbound, key, booked(flow, other), BOTH)
    assert states(flow)[lost] == "UNKNOWN"


def test_c6_what_is_renumbered_is_not_given_up(flow: Rehearsal) -> None:
    """Equal but for its number, and given up by two people who did not look: it is posted, whatever they believe."""
    lost_answer(flow, *many(2), count=2)
    for number in numbers(2):
        flow.fusion.world.renumber_invoice(booked(flow, number), f"{number}A")
    finish(flow)
    key = int(invoices(flow)["INV-2"]["id"])
    overriding.mark_posted(flow.inbound, int(invoices(flow)["INV-1"]["id"]), booked(flow, "INV-1A"), BOTH)
    with pytest.raises(OverrideRefused, match=str(booked(flow, "INV-2A"))):
        overriding.abandon(flow.inbound, key, BOTH)
    assert states(flow)["INV-2"] == "PARKED"


def test_c5_hidden_by_a_403_and_renumbered_before_access_is_back(flow: Rehearsal) -> None:
    """Refused for everybody, stored all the same, and corrected since: two people compare before it goes again."""
    drop(flow, one("INV-0", vendor_id=OTHER_SUPPLIER))
    flow.process()
    flow.clock.advance(1000)
    flow.fusion.faults.add("commit_then_status", path="invoices", status=403, count=1)
    drop(flow, one("INV-1"), 2)
    with pytest.raises(PostingStopped):
        flow.process()
    clerk_changes(flow, booked(flow, "INV-1"), "INV-1A", InvoiceAmount="110.25")
    finish(flow)
    assert posts(flow) == 2
    row = invoices(flow)["INV-1"]
    # Its group tells whose it may be, which says more than that the ledger does not know it.
    assert (row["state"], row["reason"]) == ("PARKED", "SUBMIT_UNKNOWN")
    assert f"InvoiceId {booked(flow, 'INV-1A')}" in told(flow)
