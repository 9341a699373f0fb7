"""The ledger of yesterday: what Fusion holds since is adopted or told, and nothing of it is posted again."""

from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.audit import verify
from mlc_dagster.ledger.releases import release_hold
from mlc_dagster.ledger.schema import audit_event
from mlc_dagster.stampli import overriding
from mlc_dagster.stampli.steps import observe_step
from mlc_dagster_tests.faults.people import OTHER_SUPPLIER, REVISED, Kept, booked, crosswalk, known_as, told
from mlc_dagster_tests.faults.scenes import finish
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.protocols.posting import (
    SUPPLIER,
    assert_adds_up,
    assert_books,
    attempts,
    drop,
    invoices,
    later,
    many,
    numbers,
    one,
    only,
    ours,
    posts,
    states,
    until,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.servers.runner import RunProcess
from mlc_dagster_tests.stampli.builders import file_name


def test_g6_a_ledger_of_yesterday_posts_nothing_again(kept: Kept) -> None:
    """Today's files are read again: Fusion shows their invoices, which are told with their ids and are left alone."""
    flow = kept.flow
    drop(flow, many(2))
    flow.process()
    restore = kept.back_up()
    flow.clock.advance(1000)
    drop(flow, many(2, "NEW"), 2)
    flow.process()
    before = known_as(flow)
    restore()
    flow.clock.advance(1000)
    flow.process()
    finish(flow)
    assert posts(flow) == 4
    assert known_as(flow) == before
    assert {states(flow)[number] for number in numbers(2, "NEW")} == {"ALREADY_IN_FUSION"}
    assert_books(flow, *numbers(2), *numbers(2, "NEW"))
    assert verify(flow.ledger).fault is None


def test_g6_intents_of_yesterday_are_adopted(kept: Kept) -> None:
    """Backed up while requests were under way: what the ledger meant to create is found, and is ours."""
    flow = kept.flow
    kept.know_by_config()
    drop(flow, many(3))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with RunProcess(flow, wanted) as run:
        assert gate.wait_held(30, requests=3)
        run.kill()
    restore = kept.back_up()
    gate.release()
    until(lambda: len(ours(flow)) == 3)
    finish(flow)
    restore()
    finish(flow)
    assert posts(flow) == 3
    assert set(states(flow).values()) == {"CONFIRMED"}
    assert_books(flow, *numbers(3))
    assert_adds_up(flow, created=3)


def test_g6_what_was_parked_yesterday_and_posted_since_is_not_posted_again(kept: Kept) -> None:
    """Its supplier came in the meantime: the restored ledger finds the cure again, and Fusion shows the invoice."""
    flow = kept.flow
    drop(flow, one("INV-1", vendor_id="39999"))
    flow.process()
    restore = kept.back_up()
    flow.fusion.create_supplier("39999", "Late Ltd")
    observe_step(flow.inbound)
    later(flow)
    assert_books(flow, "INV-1")
    restore()
    flow.clock.advance(2 * 3600)
    observe_step(flow.inbound)
    later(flow)
    finish(flow)
    assert posts(flow) == 1
    assert states(flow) == {"INV-1": "ALREADY_IN_FUSION"}
    assert_books(flow, "INV-1")


def test_g6_a_correction_that_yesterday_does_not_know_of_is_not_posted_beside_the_first(kept: Kept) -> None:
    """Revision 1 was posted after the copy was made; revision 2 came, and both files are read again at once."""
    flow = kept.flow
    restore = kept.back_up()
    drop(flow, one("INV-1"))
    flow.process()
    flow.clock.advance(1000)
    drop(flow, one("INV-1", "150.00", **REVISED), 2)
    flow.process()
    restore()
    flow.clock.advance(1000)
    flow.process()
    finish(flow)
    assert posts(flow) == 1
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["fusion_invoice_id"]) == ("ALREADY_IN_FUSION", booked(flow, "INV-1"))
    assert "InvoiceAmount" in row["differences"]
    assert_books(flow, "INV-1")


def test_g6_a_correction_that_was_told_is_told_again(kept: Kept) -> None:
    """Posted before the copy was made; the correction came after it, and comes again: never a second invoice."""
    flow = kept.flow
    drop(flow, one("INV-1", invoice_id="x"))
    flow.process()
    restore = kept.back_up()
    flow.clock.advance(1000)
    drop(flow, one("INV-1B", "150.00", invoice_id="x", **REVISED), 2)
    flow.process()
    assert_adds_up(flow, created=1, parked=1)
    restore()
    drop(flow, one("INV-1C", "160.00", invoice_id="x", **(REVISED | {"invoice_revision": "3"})), 3)
    flow.clock.advance(1000)
    flow.process()
    finish(flow)
    assert posts(flow) == 1
    assert_books(flow, "INV-1")
    assert_adds_up(flow, created=1, parked=2)


def restored_to_before(kept: Kept, *rows: dict[str, str]) -> Rehearsal:
    """OLD-1 is posted, the copy made, these posted as well, and the copy put back."""
    flow = kept.flow
    drop(flow, one("OLD-1", vendor_id="30013"))
    flow.process()
    restore = kept.back_up()
    flow.clock.advance(1000)
    drop(flow, list(rows), 2)
    flow.process()
    restore()
    flow.clock.advance(1000)
    return flow


def release(flow: Rehearsal, number: str) -> None:
    row = invoices(flow)[number]
    with flow.ledger.transaction() as transaction:
        release_hold(transaction, row["id"], row["reason"], BOTH)


@pytest.mark.parametrize("number", ["INV-1", "INV-1B"], ids=["its number", "another number"])
def test_g6_a_correction_of_what_yesterday_does_not_know_is_not_posted_beside_it(kept: Kept, number: str) -> None:
    """Revision 1 was posted since; revision 2, perhaps under another number, is all that the restored ledger reads."""
    flow = restored_to_before(kept, *one("INV-1", invoice_id="x"))
    drop(flow, one(number, "150.00", invoice_id="x", **REVISED), 3)
    flow.process()
    finish(flow)
    assert posts(flow) == 2
    assert_books(flow, "OLD-1", "INV-1")
    row = invoices(flow)[number]
    assert (row["state"], row["reason"]) in (("ALREADY_IN_FUSION", None), ("PARKED", "POSTED_BEFORE_RESTORE"))
    assert str(booked(flow, "INV-1")) in f"{row['problems']} {row['fusion_invoice_id']}"


def test_g6_an_invoice_that_a_changed_crosswalk_gives_to_another_is_not_posted_again(kept: Kept) -> None:
    """Posted for one supplier; the crosswalk was changed, then the ledger restored: the file is read as another's."""
    flow = restored_to_before(kept, *one("INV-1"))
    crosswalk(flow, SUPPLIER, OTHER_SUPPLIER)
    flow.process()
    finish(flow)
    assert posts(flow) == 2
    assert len(ours(flow)) == 2
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["reason"]) == ("PARKED", "POSTED_BEFORE_RESTORE")
    assert str(booked(flow, "INV-1")) in str(row["problems"])


def test_g6_two_people_release_what_is_another_invoice_after_all(kept: Kept) -> None:
    """The supplier's next invoice looks like a correction of the forgotten one: compared, and posted once."""
    flow = restored_to_before(kept, *one("INV-1"))
    (flow.outbound / file_name(2)).unlink()
    drop(flow, one("INV-2"), 3)
    flow.process()
    finish(flow)
    assert invoices(flow)["INV-2"]["reason"] == "POSTED_BEFORE_RESTORE"
    release(flow, "INV-2")
    finish(flow)
    assert_books(flow, "OLD-1", "INV-1", "INV-2")
    assert states(flow)["INV-2"] == "CONFIRMED"


def test_g6_what_is_known_again_holds_nobody(kept: Kept) -> None:
    """All files are read again: each is found by its name, and new ones of the same suppliers go on by themselves."""
    flow = restored_to_before(kept, *many(3))
    drop(flow, [*one("NEXT-1"), *one("NEXT-2", vendor_id=OTHER_SUPPLIER)], 3)
    flow.process()
    finish(flow)
    assert_books(flow, "OLD-1", *numbers(3), "NEXT-1", "NEXT-2")
    assert {states(flow)[number] for number in numbers(3)} == {"ALREADY_IN_FUSION"}
    assert posts(flow) == 6


def test_g6_other_suppliers_go_on_after_a_restore(kept: Kept) -> None:
    """A forgotten invoice holds what may be it, and no more."""
    flow = restored_to_before(kept, *one("INV-1"))
    (flow.outbound / file_name(2)).unlink()
    drop(flow, one("ELSE-1", "55.00", vendor_id=OTHER_SUPPLIER), 3)
    flow.process()
    finish(flow)
    assert_books(flow, "OLD-1", "INV-1", "ELSE-1")


# While the window's own attempts are under way.


def forgotten_beside_an_attempt(kept: Kept, *, of_the_same_run: bool) -> Rehearsal:
    """HANG-1 is sent and not answered; INV-1 is in Fusion, forgotten, of the same window and generation; INV-1B comes.

    ``of_the_same_run``: the ledger was copied while HANG-1 was under way, and INV-1 was posted by that run later on.
    """
    flow = kept.flow
    drop(flow, one("OLD-1", vendor_id="30013"))
    flow.process()
    restore = kept.back_up()
    drop(flow, one("INV-1", invoice_id="x"), 2)
    flow.process()
    restore()
    (flow.outbound / file_name(2)).unlink()
    flow.change_config({"fusion": {"wait_in_run": 0, "ambiguous_wait": 60}})
    flow.fusion.faults.add("reset", method="POST", path="invoices", count=1)
    drop(flow, one("HANG-1", "5.00", vendor_id=OTHER_SUPPLIER), 4)
    flow.process()
    if of_the_same_run:
        [hanging] = attempts(flow, "HANG-1")
        with flow.fusion.world.lock:
            table = flow.fusion.world.tables["invoices"]
            table.change(table.rows[booked(flow, "INV-1")], {"InvoiceGroup": hanging["invoice_group"]})
    drop(flow, one("INV-1B", "150.00", invoice_id="x", **REVISED), 3)
    flow.process()
    return flow


def test_g6_a_forgotten_invoice_is_for_people_while_its_window_and_generation_has_an_open_attempt(kept: Kept) -> None:
    """Windows and generations come again after a restore, groups do not: each is told from the other's at once.

    Nor does the attempt have to wait for people: what was found is not its run's.
    """
    flow = forgotten_beside_an_attempt(kept, of_the_same_run=False)
    found = {number: (row["state"], row["reason"]) for number, row in invoices(flow).items() if number != "OLD-1"}
    assert found == {"HANG-1": ("UNKNOWN", None), "INV-1B": ("PARKED", "POSTED_BEFORE_RESTORE")}
    assert f"InvoiceId {booked(flow, 'INV-1')}" in told(flow, "INV-1B")
    [forgotten] = [str(each.invoice_group) for each in ours(flow) if each.number == "INV-1"]
    [open_attempt] = attempts(flow, "HANG-1")
    assert forgotten.rpartition(" ")[0] == open_attempt["invoice_group"].rpartition(" ")[0]
    assert forgotten != open_attempt["invoice_group"]
    flow.change_config({"fusion": {"wait_in_run": 5, "ambiguous_wait": 1}})
    finish(flow)
    assert_books(flow, "OLD-1", "INV-1", "HANG-1")
    assert states(flow)["HANG-1"] == "CONFIRMED"


def test_g6_an_open_attempt_of_the_same_run_lets_nothing_through(kept: Kept) -> None:
    """What was found may be the attempt's: until that is known, what may be the same purchase waits; then it is held.

    The attempt is for people too: nobody here can say that what was found is not it, changed by a clerk.
    """
    flow = forgotten_beside_an_attempt(kept, of_the_same_run=True)
    assert states(flow) | {"OLD-1": ""} == {"OLD-1": "", "HANG-1": "UNKNOWN", "INV-1B": "VALIDATED"}
    flow.change_config({"fusion": {"wait_in_run": 5, "ambiguous_wait": 1}})
    finish(flow)
    assert_books(flow, "OLD-1", "INV-1")
    found = {number: (row["state"], row["reason"]) for number, row in invoices(flow).items() if number != "OLD-1"}
    assert found == {"HANG-1": ("PARKED", "SUBMIT_UNKNOWN"), "INV-1B": ("PARKED", "POSTED_BEFORE_RESTORE")}
    assert f"InvoiceId {booked(flow, 'INV-1')}" in told(flow, "INV-1B")


def test_g6_what_the_lost_days_posted_for_another_supplier_is_not_taken_for_an_attempts(kept: Kept) -> None:
    """The same window, generation, amount and accounts, by a run that is forgotten: no trace of the attempt's own run.

    A ledger of before the first invoice asks for all of ours; people compare what has the same amount and date. That
    it let another supplier's through was wrong: one restored to then posted a purchase twice under another number.
    """
    flow = kept.flow
    flow.poll()
    restore = kept.back_up()
    drop(flow, one("INV-1"))
    flow.process()
    restore()
    (flow.outbound / file_name(1)).unlink()
    drop(flow, one("HANG-1", vendor_id=OTHER_SUPPLIER), 2)
    flow.process()
    assert invoices(flow)["HANG-1"]["reason"] == "POSTED_BEFORE_RESTORE"
    release(flow, "HANG-1")
    flow.fusion.faults.add("reset", method="POST", path="invoices", count=1)
    later(flow)
    finish(flow)
    row = invoices(flow)["HANG-1"]
    assert (row["state"], row["fusion_invoice_id"]) == ("CONFIRMED", booked(flow, "HANG-1"))
    assert row["fusion_invoice_id"] != booked(flow, "INV-1")
    assert_books(flow, "INV-1", "HANG-1")


# What was told holds nobody any more.


def abandon(flow: Rehearsal, number: str) -> None:
    overriding.abandon(flow.inbound, int(invoices(flow)[number]["id"]), BOTH)


@pytest.mark.parametrize("decide", [release, abandon])
def test_g6_what_two_people_decided_on_holds_nobody_any_more(kept: Kept, decide: Any) -> None:
    """They have seen the forgotten one: what comes of its supplier later goes on, and the trail names it."""
    flow = restored_to_before(kept, *one("INV-1"))
    (flow.outbound / file_name(2)).unlink()
    drop(flow, one("INV-2"), 3)
    flow.process()
    assert invoices(flow)["INV-2"]["reason"] == "POSTED_BEFORE_RESTORE"
    decide(flow, "INV-2")
    flow.clock.advance(1000)
    drop(flow, one("INV-3"), 4)
    flow.process()
    finish(flow)
    assert_books(flow, "OLD-1", "INV-1", "INV-3", *(["INV-2"] if decide is release else []))
    kind = "invoice.released" if decide is release else "invoice.abandoned"
    with flow.ledger.reading() as reading:
        [event] = reading.rows(sa.select(audit_event).where(audit_event.c.kind == kind))
    assert event["detail"]["told_invoice_id"] == booked(flow, "INV-1")


def test_g6_what_was_cancelled_since_holds_nobody(kept: Kept) -> None:
    """It is no purchase any more, so nothing can be the same."""
    flow = restored_to_before(kept, *one("INV-1"))
    (flow.outbound / file_name(2)).unlink()
    flow.fusion.cancel_invoice(booked(flow, "INV-1"))
    drop(flow, one("INV-2"), 3)
    flow.process()
    finish(flow)
    assert states(flow)["INV-2"] == "CONFIRMED"
    assert_books(flow, "OLD-1", "INV-1", "INV-2")


@pytest.mark.parametrize(("date", "state"), [("2026-11-10", "PARKED"), ("2026-11-11", "CONFIRMED")])
def test_g6_an_amount_tells_something_with_its_date_alone(kept: Kept, date: str, state: str) -> None:
    """Fees and rents are equal month by month: another supplier's is not held for its amount."""
    flow = restored_to_before(kept, *one("INV-1"))
    (flow.outbound / file_name(2)).unlink()
    drop(flow, one("ELSE-1", vendor_id=OTHER_SUPPLIER, invoice_date=date), 3)
    flow.process()
    finish(flow)
    assert states(flow)["ELSE-1"] == state


def test_g6_a_fusion_that_takes_no_question_by_group_is_told(kept: Kept) -> None:
    """Nobody is held in such a run: each leaves it on record, once."""
    flow = restored_to_before(kept, *one("INV-1"))
    (flow.outbound / file_name(2)).unlink()
    flow.fusion.faults.add("status", method="GET", path="invoices", status=400, count=1)
    drop(flow, [*one("INV-2"), *one("INV-3")], 3)
    flow.process()
    asked = flow.fusion.books.requests(method="GET", route="invoices")
    assert ["InvoiceGroup" in entry.query for entry in asked if entry.status == 400] == [True]
    with flow.ledger.reading() as reading:
        events = reading.rows(sa.select(audit_event).where(audit_event.c.kind == "created_ids.not_asked"))
    assert [event["detail"]["held"] for event in events] == ["nothing"]
    assert_books(flow, "OLD-1", "INV-1", "INV-2", "INV-3")
