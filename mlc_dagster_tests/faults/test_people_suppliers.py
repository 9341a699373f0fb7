"""Suppliers are renamed, merged and deactivated while their invoices are posted: nothing is doubled, nothing is lost.

Proven elsewhere: a supplier renamed or inactive at the POST (H5, B3), in ``protocols/``.
"""

from typing import Any

import pytest

from mlc_dagster.ledger.releases import release_hold
from mlc_dagster.stampli.steps import observe_step
from mlc_dagster_tests.faults.people import OTHER_SUPPLIER, booked, clerk_changes, lost_answer, told
from mlc_dagster_tests.faults.scenes import finish
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.protocols.posting import (
    SUPPLIER,
    assert_adds_up,
    assert_books,
    beside,
    drop,
    invoices,
    later,
    one,
    ours,
    phases,
    posts,
    states,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal


def test_b3_a_supplier_merged_after_posting_makes_no_new_invoice(flow: Rehearsal) -> None:
    """Its invoices are another supplier's now: ours is followed by its id, and what Stampli sends again is known."""
    drop(flow, one("INV-1"))
    flow.process()
    invoice_id = booked(flow, "INV-1")
    flow.fusion.world.merge_suppliers(SUPPLIER, OTHER_SUPPLIER)
    flow.clock.advance(2 * 3600)
    drop(flow, [*one("INV-1"), *one("INV-2", vendor_id=OTHER_SUPPLIER)], 2)
    flow.process()
    assert posts(flow) == 2
    assert invoices(flow)["INV-1"]["fusion_invoice_id"] == invoice_id
    assert_books(flow, "INV-1", "INV-2")
    assert_adds_up(flow, created=2, duplicate=1)


def test_b3_a_number_that_came_with_a_merged_supplier_is_taken(flow: Rehearsal) -> None:
    """Another document of Stampli's, now of the supplier that is left: what the merge brought is in Fusion already."""
    drop(flow, one("INV-1"))
    flow.process()
    flow.fusion.world.merge_suppliers(SUPPLIER, OTHER_SUPPLIER)
    flow.clock.advance(2 * 3600)
    drop(flow, one("INV-1", invoice_id="another", vendor_id=OTHER_SUPPLIER), 2)
    flow.process()
    finish(flow)
    assert posts(flow, 201) == 1
    assert len(ours(flow)) == 1
    assert flow.fusion.books.duplicates() == []


def test_b3_an_invoice_of_a_supplier_merged_before_posting_waits_for_a_person(flow: Rehearsal) -> None:
    """Stampli still names the old one, who is inactive: nothing is posted under a supplier that nobody chose."""
    flow.fusion.world.merge_suppliers(SUPPLIER, OTHER_SUPPLIER)
    drop(flow, one("INV-1"))
    flow.process()
    finish(flow)
    assert posts(flow, 201) == 0
    assert_adds_up(flow, parked=1)


def test_b3_a_supplier_merged_before_his_invoice_was_looked_for(flow: Rehearsal) -> None:
    """Stored, not answered, and handed over within the wait: it is in Fusion under another supplier, once."""
    lost_answer(flow, *one("INV-1"))
    flow.fusion.world.merge_suppliers(SUPPLIER, OTHER_SUPPLIER)
    finish(flow)
    assert posts(flow) == 1
    assert states(flow)["INV-1"] == "CREATED"
    assert len(ours(flow)) == 1


def test_b3_moved_to_another_supplier_while_his_own_is_active_it_is_for_a_person(flow: Rehearsal) -> None:
    """Nobody merged him: it may as well be another invoice of ours, and is named with its id."""
    lost_answer(flow, *one("INV-1"))
    invoice_id = booked(flow, "INV-1")
    flow.fusion.world.merge_suppliers(SUPPLIER, OTHER_SUPPLIER)
    flow.fusion.change_supplier(SUPPLIER, active=True)
    finish(flow)
    assert posts(flow) == 1
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["reason"], row["fusion_invoice_id"]) == ("PARKED", "SUBMIT_UNKNOWN", None)
    assert f"InvoiceId {invoice_id}" in told(flow)


def test_d3_an_invoice_of_an_inactive_supplier_goes_through_once_he_is_active(flow: Rehearsal) -> None:
    """Deactivated and brought back by people: the invoice waits in between and is posted once, by itself."""
    flow.fusion.change_supplier(SUPPLIER, active=False)
    drop(flow, one("INV-1"))
    flow.process()
    assert (posts(flow), states(flow)) == (0, {"INV-1": "PARKED"})
    flow.fusion.change_supplier(SUPPLIER, active=True)
    flow.clock.advance(2 * 3600)
    observe_step(flow.inbound)
    later(flow)
    assert_books(flow, "INV-1")
    assert_adds_up(flow, created=1)


# Between the answer, or its loss, and the first look.


@pytest.mark.parametrize("change", [{"name": "Acme Renamed"}, {"active": False}], ids=["renamed", "deactivated"])
def test_b3_a_supplier_changed_before_his_invoice_was_looked_for(flow: Rehearsal, change: dict[str, Any]) -> None:
    """Stored, not answered: found by his number, and what his name or status is now is no difference."""
    lost_answer(flow, *one("INV-1"))
    flow.fusion.change_supplier(SUPPLIER, **change)
    finish(flow)
    assert (posts(flow), states(flow)) == (1, {"INV-1": "CONFIRMED"})
    assert_books(flow, "INV-1")
    assert_adds_up(flow, created=1)


@pytest.mark.parametrize("change", [{"name": "Acme Renamed"}, {"active": False}], ids=["renamed", "deactivated"])
def test_b3_a_supplier_changed_between_answer_and_read_back(flow: Rehearsal, change: dict[str, Any]) -> None:
    """Created under the old name and read back under the new one: equal, and validated as what it is called now."""
    flow.change_config({"stampli": {"companies": {"C100": {"after_create": "validate"}}}})
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after")
    drop(flow, one("INV-1"))
    with beside(flow.process) as run:
        assert gate.wait_held(20)
        flow.fusion.change_supplier(SUPPLIER, **change)
        gate.release()
        run.result(30)
    finish(flow)
    assert (posts(flow), states(flow)) == (1, {"INV-1": "CONFIRMED"})
    [booked_one] = ours(flow)
    assert booked_one.validation_status == "Validated"
    assert_adds_up(flow, created=1)


def test_b3_a_supplier_merged_between_answer_and_read_back_is_told_as_a_difference(flow: Rehearsal) -> None:
    """Its id was answered, so it is ours under whatever supplier; nothing more is done to it before a person looks."""
    flow.change_config({"stampli": {"companies": {"C100": {"after_create": "validate"}}}})
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after")
    drop(flow, one("INV-1"))
    with beside(flow.process) as run:
        assert gate.wait_held(20)
        flow.fusion.world.merge_suppliers(SUPPLIER, OTHER_SUPPLIER)
        gate.release()
        run.result(30)
    finish(flow)
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["reason"]) == ("CREATED", "READ_BACK_DIFFERS")
    assert row["differences"] == {"SupplierNumber": [SUPPLIER, OTHER_SUPPLIER]}
    assert (posts(flow), row["after_create_done"]) == (1, None)
    assert len(ours(flow)) == 1
    assert_adds_up(flow, created=1)


def test_b3_merged_and_corrected_before_it_was_looked_for_is_for_a_person(flow: Rehearsal) -> None:
    """Neither its supplier nor its amount find it any more; our marks do."""
    lost_answer(flow, *one("INV-1"))
    invoice_id = booked(flow, "INV-1")
    flow.fusion.world.merge_suppliers(SUPPLIER, OTHER_SUPPLIER)
    clerk_changes(flow, invoice_id, InvoiceAmount="99.95")
    finish(flow)
    assert posts(flow) == 1
    assert invoices(flow)["INV-1"]["reason"] == "SUBMIT_UNKNOWN"
    assert f"InvoiceId {invoice_id}" in told(flow)
    assert f"SupplierNumber: sent {SUPPLIER}, Fusion has {OTHER_SUPPLIER}" in told(flow)


# After posting.


def test_b3_a_supplier_deactivated_after_posting_changes_nothing_that_is_posted(flow: Rehearsal) -> None:
    """It stays confirmed and is followed until accounted; what is new of him waits, and goes when he is back."""
    drop(flow, one("INV-1"))
    flow.process()
    flow.fusion.change_supplier(SUPPLIER, active=False)
    flow.clock.advance(2 * 3600)
    drop(flow, [*one("INV-1"), *one("INV-2")], 2)
    flow.process()
    flow.run(invoices(flow)["INV-1"]["window_start"])
    flow.fusion.validate_invoice(booked(flow, "INV-1"))
    flow.fusion.create_accounting()
    assert observe_step(flow.inbound).accounted == 1
    assert states(flow) == {"INV-1": "CONFIRMED", "INV-2": "PARKED"}
    assert posts(flow) == 1
    flow.fusion.change_supplier(SUPPLIER, active=True)
    flow.clock.advance(2 * 3600)
    observe_step(flow.inbound)
    later(flow)
    assert_books(flow, "INV-1", "INV-2")
    assert_adds_up(flow, created=2, duplicate=1)


def test_b3_deactivated_while_a_request_was_lost_it_is_refused_with_proof_and_sent_once_he_is_back(
    flow: Rehearsal,
) -> None:
    """Never stored: proven absent, sent again, refused by Fusion. Two people release it when he is active again."""
    flow.change_config({"fusion": {"wait_in_run": 0}})
    flow.fusion.faults.add("reset", method="POST", path="invoices", count=1)
    drop(flow, one("INV-1"))
    flow.process()
    flow.fusion.change_supplier(SUPPLIER, active=False)
    finish(flow)
    assert phases(flow) == ["ABSENT", "REJECTED"]
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["reason"]) == ("PARKED", "FUSION_REJECTED(AP-810203)")
    flow.fusion.change_supplier(SUPPLIER, active=True)
    flow.clock.advance(2 * 3600)
    with flow.ledger.transaction() as transaction:
        release_hold(transaction, row["id"], row["reason"], BOTH)
    finish(flow)
    assert_books(flow, "INV-1")
    assert posts(flow, 201) == 1
    assert_adds_up(flow, created=1)
