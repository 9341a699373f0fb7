"""Rule C2: "not in Fusion" counts only when the same answer shows an invoice that is known to be there."""

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.schema import control_row
from mlc_dagster.stampli.posting.absence import DataAccessLost
from mlc_dagster_tests.protocols.posting import (
    SUPPLIER,
    UNIT,
    assert_adds_up,
    assert_books,
    attempts,
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


def control(flow: Rehearsal) -> int:
    with flow.ledger.reading() as reading:
        return int(reading.value(sa.select(control_row.c.fusion_invoice_id)))


def test_c2_zero_rows_is_no_proof_and_nothing_is_posted(flow: Rehearsal) -> None:
    """Lost data access answers 200 with nothing in it; taken for absence it would post everything again."""
    drop(flow, one("INV-1"))
    flow.process()
    drop(flow, many(3, "NEW"), sequence=2)
    fault = flow.fusion.faults.add("zero_rows", path="invoices*")
    with pytest.raises(DataAccessLost):
        flow.process()
    assert posts(flow) == 1
    assert [states(flow)[number] for number in numbers(3, "NEW")] == ["VALIDATED"] * 3
    flow.fusion.faults.remove(fault)
    later(flow)
    assert_books(flow, "INV-1", *numbers(3, "NEW"))
    assert_adds_up(flow, created=4)


def test_c2_zero_rows_while_an_outcome_is_unknown_stops_the_run(flow: Rehearsal) -> None:
    """The invoice is in Fusion, its answer was lost, and then the look-up shows nothing at all: no second POST."""
    clerk(flow)
    drop(flow, one("INV-1"))
    flow.process()
    drop(flow, one("INV-2"), sequence=2)
    flow.change_config({"fusion": {"wait_in_run": 0}})
    flow.fusion.faults.add("commit_then_reset", path="invoices", count=1)
    flow.process()
    assert states(flow)["INV-2"] == "UNKNOWN"
    flow.change_config({"fusion": {"wait_in_run": 30}})
    hidden = flow.fusion.faults.add("zero_rows", path="invoices*")
    with pytest.raises(DataAccessLost):
        later(flow)
    assert states(flow)["INV-2"] == "UNKNOWN"
    assert attempts(flow, "INV-2")[0]["absences"] == 0
    flow.fusion.faults.remove(hidden)
    later(flow)
    assert_books(flow, "INV-1", "INV-2")
    assert posts(flow) == 2
    assert_adds_up(flow, created=2)


def test_c2_first_invoice_of_an_empty_business_unit_goes_alone_and_is_read_back(flow: Rehearsal) -> None:
    """Nothing visible proves nothing: one invoice shows whether we see what we create, before four hundred follow."""
    drop(flow, many(5))
    flow.process()
    order = [entry.method for entry in flow.fusion.books.requests(route="invoices")]
    first, second = [place for place, method in enumerate(order) if method == "POST"][:2]
    assert order[first + 1 : second], "something was read between the first POST and the others"
    assert set(order[first + 1 : second]) == {"GET"}
    assert_books(flow, *numbers(5))
    assert control(flow) == ours(flow)[0].invoice_id
    assert_adds_up(flow, created=5)


def test_c2_others_wait_while_the_first_of_a_business_unit_has_no_answer(flow: Rehearsal) -> None:
    """The first was refused as Fusion was busy: the others follow it in the same run, not before it."""
    flow.fusion.faults.add("status", method="POST", path="invoices", status=503, count=1)
    drop(flow, many(4))
    flow.process()
    assert_books(flow, *numbers(4))
    assert phases(flow)[:2] == ["REFUSED", "CREATED"]
    assert len({row["invoice_pk"] for row in attempts(flow)[:2]}) == 1
    assert_adds_up(flow, created=4)


def test_c2_business_unit_that_does_not_show_what_we_created_gets_no_more(flow: Rehearsal) -> None:
    """A role that may create and not read: one invoice is created, and never a second one, at whatever poll."""
    flow.fusion.faults.add("zero_rows", method="GET", path="invoices*")
    drop(flow, many(4))
    with pytest.raises(DataAccessLost):
        flow.process()
    for _ in range(2):
        with pytest.raises(DataAccessLost):
            later(flow)
    assert posts(flow) == 1
    flow.fusion.faults.clear()
    later(flow)
    assert_books(flow, *numbers(4))
    assert posts(flow) == 4
    assert_adds_up(flow, created=4)


def test_c2_deleted_control_row_is_replaced_by_another(flow: Rehearsal) -> None:
    """A clerk may delete the very invoice that absence is proven with; that is no lost access."""
    before = clerk(flow)
    other = clerk(flow, "CLERK-2")
    drop(flow, one("INV-1"))
    flow.process()
    assert control(flow) == before
    flow.fusion.delete_invoice(before)
    drop(flow, one("INV-2"), sequence=2)
    flow.process()
    assert control(flow) == other
    assert_books(flow, "INV-1", "INV-2")
    assert_adds_up(flow, created=2)


def test_c2_deleted_last_control_row_stops_posting(flow: Rehearsal) -> None:
    """With the only known invoice gone, an emptied business unit and a hidden one look alike."""
    only_one = clerk(flow)
    drop(flow, one("INV-1"))
    flow.process()
    for booked in [only_one, *(booked.invoice_id for booked in ours(flow))]:
        flow.fusion.delete_invoice(booked)
    drop(flow, one("INV-2"), sequence=2)
    with pytest.raises(DataAccessLost):
        flow.process()
    assert posts(flow) == 1


def test_c2_number_that_cannot_be_asked_for_is_matched_here(flow: Rehearsal) -> None:
    """Fusion documents no escape in q: such a number is found by supplier and date, or it would be posted twice."""
    odd = ["O'Brien-7", "A#1", "50%/Ä", 'Q"1\\2']
    clerk(flow)
    flow.fusion.faults.add("commit_then_reset", path="invoices", count=len(odd))
    drop(flow, [row for number in odd for row in one(number)])
    flow.process()
    assert states(flow) == dict.fromkeys(odd, "CONFIRMED")
    assert_books(flow, *odd)
    assert posts(flow) == len(odd)
    drop(flow, [row for number in odd for row in one(number, invoice_id=f"again {number}")], sequence=2)
    flow.process()
    assert posts(flow) == len(odd)
    assert_adds_up(flow, created=len(odd), parked=len(odd))


def test_c2_number_that_cannot_be_asked_for_found_as_a_clerks(flow: Rehearsal) -> None:
    """The clerk's own O'Brien-7 is seen before anything is sent."""
    clerk(flow)
    there = clerk(flow, "o'brien-7")
    drop(flow, one("O'Brien-7"))
    flow.process()
    assert posts(flow) == 0
    assert invoices(flow)["O'Brien-7"]["fusion_invoice_id"] == there
    assert_adds_up(flow, already_in_fusion=1)


def test_c2_first_invoice_with_such_a_number_does_not_close_the_business_unit(flow: Rehearsal) -> None:
    """It cannot serve as control row; the next one goes alone in its turn."""
    drop(flow, one("O'Brien-7"))
    flow.process()
    drop(flow, many(3), sequence=2)
    flow.process()
    assert_books(flow, "O'Brien-7", *numbers(3))
    assert_adds_up(flow, created=4)


@pytest.mark.parametrize("quirk", ["has_more_always_false", "has_more_always_true", "no_items_when_empty"])
def test_c2_answers_are_paged_to_the_empty_page(flow: Rehearsal, quirk: str) -> None:
    """A page that says "no more" when there is more would hide the invoice that was sought."""
    flow.change_config({"fusion": {"page_size": 2}})
    flow.fusion.faults.add_quirk(quirk)
    clerk(flow)
    for number in numbers(5):
        clerk(flow, number, SupplierNumber="30001")
    there = clerk(flow, "INV-5")
    drop(flow, many(6))
    flow.process()
    assert_books(flow, *numbers(4), "INV-6")
    assert invoices(flow)["INV-5"]["fusion_invoice_id"] == there
    assert_adds_up(flow, created=5, already_in_fusion=1)


def test_c2_same_number_of_another_supplier_is_another_invoice(flow: Rehearsal) -> None:
    """Also when that one is the control row itself."""
    clerk(flow, "INV-1", SupplierNumber="30001")
    drop(flow, one("INV-1"))
    flow.process()
    assert [(booked.number, booked.supplier_number) for booked in ours(flow)] == [("INV-1", SUPPLIER)]
    assert_adds_up(flow, created=1)


def test_c2_same_number_in_another_business_unit_is_held(flow: Rehearsal) -> None:
    """Fusion would take it; whether it is the same invoice is for a person."""
    clerk(flow)
    clerk(flow, "INV-1", BusinessUnit="UK1 Business Unit")
    drop(flow, one("INV-1"))
    flow.process()
    assert invoices(flow)["INV-1"]["reason"] == "DUP_OTHER_BU"
    assert posts(flow) == 0
    assert invoices(flow)["INV-1"]["business_unit"] == UNIT
    assert_adds_up(flow, parked=1)
