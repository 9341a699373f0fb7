"""What Fusion shows of an attempt, and not as it was sent: renamed, in another run's group, or not to be read."""

import json
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from mlc_dagster.ledger.releases import release_hold
from mlc_dagster.sandbox.fusion.invoice_rules import create_invoice
from mlc_dagster.stampli.posting.adoption import MOST_UNREAD
from mlc_dagster.stampli.posting.sending import PostingStopped
from mlc_dagster_tests.faults.people import OTHER_SUPPLIER, booked, clerk_changes, lost_answer, told
from mlc_dagster_tests.faults.scenes import finish
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.protocols.posting import (
    assert_adds_up,
    assert_books,
    attempts,
    beside,
    clerk,
    drop,
    invoices,
    later,
    one,
    ours,
    posts,
    states,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal


def stopped(run: Callable[[], object]) -> None:
    """A run that Fusion may refuse as a whole."""
    with suppress(PostingStopped):
        run()


def stored_late(flow: Rehearsal, body: bytes) -> None:
    """What was refused before comes in after all, as by a proxy that sends it again."""
    document: dict[str, Any] = json.loads(body, parse_float=Decimal, parse_int=Decimal)
    for line in document["invoiceLines"]:
        line["LineNumber"] = int(line["LineNumber"])
    with flow.fusion.world.lock:
        create_invoice(flow.fusion.world, document, flow.fusion.client_id)


# Refused for everybody, and stored all the same.


def stored_though_refused(flow: Rehearsal, status: int) -> int:
    """OLD-1 was posted before; INV-1 is stored, and its run is told that nothing is taken. Its InvoiceId."""
    drop(flow, one("OLD-1", "7.00", vendor_id=OTHER_SUPPLIER))
    flow.process()
    times = 2 if status == 401 else 1
    flow.fusion.faults.add("commit_then_status", method="POST", path="invoices", status=status, count=times)
    drop(flow, one("INV-1"), 2)
    stopped(flow.process)
    return booked(flow, "INV-1")


@pytest.mark.parametrize("status", [401, 403, 404, 415])
def test_c3_what_was_stored_though_refused_is_adopted_under_its_new_number(flow: Rehearsal, status: int) -> None:
    """A clerk renamed it before the next run: its own number is absent, and nothing may be sent for it."""
    invoice_id = stored_though_refused(flow, status)
    clerk_changes(flow, invoice_id, "INV-1/A")
    sent = posts(flow)
    later(flow)
    finish(flow)
    assert posts(flow) == sent
    assert_books(flow, "OLD-1", "INV-1/A")
    assert invoices(flow)["INV-1"]["fusion_invoice_id"] == invoice_id
    assert_adds_up(flow, created=2)


def test_c3_what_was_stored_though_refused_and_changed_since_is_for_people(flow: Rehearsal) -> None:
    """Nobody here can say whose it is: they are told what was found, and nothing is sent."""
    invoice_id = stored_though_refused(flow, 403)
    clerk_changes(flow, invoice_id, "INV-1/A", InvoiceDate="2026-11-11")
    sent = posts(flow)
    later(flow)
    finish(flow)
    assert posts(flow) == sent
    assert (states(flow)["INV-1"], invoices(flow)["INV-1"]["reason"]) == ("PARKED", "SUBMIT_UNKNOWN")
    assert f"InvoiceId {invoice_id}" in told(flow)
    assert_books(flow, "OLD-1", "INV-1/A")


def test_c3_what_was_refused_and_never_stored_is_sent(flow: Rehearsal) -> None:
    """The look for other names keeps nothing back that is not there."""
    flow.fusion.faults.add("status", method="POST", path="invoices", status=403, count=1)
    drop(flow, one("INV-1"))
    stopped(flow.process)
    later(flow)
    finish(flow)
    assert_books(flow, "INV-1")
    assert states(flow) == {"INV-1": "CONFIRMED"}


# In the group of an earlier run.


def test_c3_what_an_earlier_run_sent_is_ours_when_it_comes_in_late(flow: Rehearsal) -> None:
    """Refused for everybody in one run, stored while the next one sends it again: Fusion calls that a duplicate."""
    flow.fusion.faults.add("status", method="POST", path="invoices", status=403, count=1)
    drop(flow, one("INV-1"))
    stopped(flow.process)
    [first] = attempts(flow)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    with beside(lambda: later(flow)) as run:
        assert gate.wait_held(20)
        stored_late(flow, first["body"])
        gate.release()
        run.result(60)
    finish(flow)
    assert_books(flow, "INV-1")
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["fusion_invoice_id"]) == ("CONFIRMED", booked(flow, "INV-1"))
    assert_adds_up(flow, created=1)


def test_c3_what_the_first_of_two_refused_runs_sent_is_ours(flow: Rehearsal) -> None:
    """Refused for everybody twice, and then the first of them is there: not only the latest may have created it."""
    flow.fusion.faults.add("status", method="POST", path="invoices", status=403, count=2)
    drop(flow, one("INV-1"))
    stopped(flow.process)
    stopped(lambda: later(flow))
    first, second = attempts(flow)
    assert first["invoice_group"] != second["invoice_group"]
    stored_late(flow, first["body"])
    later(flow)
    finish(flow)
    assert_books(flow, "INV-1")
    assert states(flow) == {"INV-1": "CONFIRMED"}
    assert posts(flow) == 2


# What cannot be read.


def test_c3_a_number_of_which_nothing_can_be_read_stops_no_other(flow: Rehearsal) -> None:
    """One such invoice of a clerk's made every one of the supplier's with an odd number ALREADY_IN_FUSION, for good."""
    clerk(flow, "\ud800")
    drop(flow, [*one("INV#1"), *one("INV#2")])
    flow.process()
    finish(flow)
    assert_books(flow, "INV#1", "INV#2")
    assert set(states(flow).values()) == {"CONFIRMED"}


def test_c3_what_may_be_the_number_is_held_until_two_people_release_it(flow: Rehearsal) -> None:
    """Not every character of the clerk's number can be read: they compare the two, and the invoice goes on."""
    found = clerk(flow, "INV#1\ud800")
    drop(flow, one("INV#12"))
    flow.process()
    row = invoices(flow)["INV#12"]
    assert (row["state"], row["reason"]) == ("PARKED", "DUP_UNREADABLE")
    assert f"InvoiceId {found}" in told(flow, "INV#12")
    assert posts(flow) == 0
    with flow.ledger.transaction() as transaction:
        release_hold(transaction, row["id"], row["reason"], BOTH)
    # Also when it has to be looked for again.
    flow.fusion.faults.add("status", method="POST", path="invoices", status=503, count=1)
    later(flow)
    finish(flow)
    assert_books(flow, "INV#12")
    assert states(flow) == {"INV#12": "CONFIRMED"}


def test_c3_what_may_be_an_attempts_is_for_people(flow: Rehearsal) -> None:
    """Its answer was lost, and what is there may be it: not somebody else's for certain, and nothing is sent."""
    lost_answer(flow, *one("INV#12"))
    clerk_changes(flow, booked(flow, "INV#12"), "INV#1\ud800")
    later(flow)
    finish(flow)
    row = invoices(flow)["INV#12"]
    assert (row["state"], row["reason"]) == ("PARKED", "SUBMIT_UNKNOWN")
    assert f"InvoiceId {ours(flow)[0].invoice_id}" in told(flow, "INV#12")
    assert len(ours(flow)) == posts(flow) == 1


def test_c4_what_is_listed_and_never_shown_whole_is_told(flow: Rehearsal) -> None:
    """It was postponed for ever: eight of them end the posting of everything, and nobody hears of it."""
    lost_answer(flow, *one("INV-1"))
    invoice_id = booked(flow, "INV-1")
    flow.change_config({"fusion": {"wait_in_run": 0}})
    # Each run lists it, to the empty page, then reads it whole.
    flow.fusion.faults.add("zero_rows", method="GET", path="invoices", skip=2, every=3)
    for _ in range(MOST_UNREAD - 1):
        later(flow)
        assert states(flow) == {"INV-1": "UNKNOWN"}
    later(flow)
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["reason"]) == ("PARKED", "SUBMIT_UNKNOWN")
    assert f"InvoiceId {invoice_id}" in told(flow)
    assert_books(flow, "INV-1")
