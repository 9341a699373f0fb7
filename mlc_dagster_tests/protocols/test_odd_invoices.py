"""Odd invoices that only the whole flow can judge: look-alike numbers, two sites, over-billed orders, big documents."""

import pytest

from mlc_dagster.sandbox.seed import TWO_PAY_SITES_SUPPLIER
from mlc_dagster_tests.protocols.intake import bill, deliver, files, problems, prove_books, verdict
from mlc_dagster_tests.servers.rehearsal import Rehearsal


def test_the_same_number_at_two_sites_of_one_supplier_is_posted_once(flow: Rehearsal) -> None:
    """Fusion counts numbers per supplier, whatever the site: the second is held, however different its site."""
    cells = {"vendor_id": TWO_PAY_SITES_SUPPLIER, "number": "S-7"}
    deliver(flow, 1, bill("1", "10.00", vendor_site="WEST", **cells), bill("2", "10.00", vendor_site="HQ", **cells))
    assert verdict(flow, "1") == "CONFIRMED"
    assert verdict(flow, "2") == "PARKED DUP_EXACT"
    assert "Stampli 1" in str(problems(flow, "2")[0]["value"])
    prove_books(flow, "S-7")


def test_three_ways_to_write_one_number_are_posted_once_until_a_person_says_otherwise(flow: Rehearsal) -> None:
    """INV-00417, INV417 and inv 417: one invoice that was typed three times, or three invoices; nobody here knows."""
    deliver(flow, 1, bill("1", "10.00", number="INV-00417"))
    deliver(flow, 2, bill("2", "10.00", number="INV417"), bill("3", "10.00", number="inv 417"))
    assert verdict(flow, "1") == "CONFIRMED"
    assert [verdict(flow, key) for key in "23"] == ["PARKED DUP_NORMALISED"] * 2
    prove_books(flow, "INV-00417")


def test_an_order_that_is_billed_twice_over_is_never_posted_as_expense(flow: Rehearsal) -> None:
    """Two invoices for the whole of one order line, account given: posted without the match, both would be paid."""
    order = {"po_number": "PO-1", "po_line": "1", "quantity": "10", "unit_price": "10.00", "gl_account": "61200"}
    deliver(flow, 1, bill("1", "100.00", lines=[order]), bill("2", "100.00", lines=[order]), bill("3", "5.00"))
    assert [verdict(flow, key) for key in "12"] == ["PARKED PO_NOT_SUPPORTED"] * 2
    assert problems(flow, "2")[0]["field"] == "po_number of line 1"
    prove_books(flow, "N-3")


@pytest.mark.parametrize("size", [100, 101], ids=["as large as allowed", "a byte more"])
def test_a_document_larger_than_allowed_is_told_and_not_attached(flow: Rehearsal, size: int) -> None:
    """A scan of a gigabyte must fill neither our memory nor Fusion; the invoice is in the books without it."""
    flow.change_config({"stampli": {"attachments": "document_file", "max_attachment_bytes": 100}})
    flow.drop("88121.pdf", b"%PDF-1.7".ljust(size))
    [(_, _, report)] = deliver(flow, 1, bill("1", "10.00", document_file="88121.pdf"))
    (booked,) = flow.fusion.books.invoices()
    assert verdict(flow, "1") == "CONFIRMED"
    assert booked.attachments == (1 if size == 100 else 0)
    if size > 100:
        (told,) = report.confirmation.problems
        assert "88121.pdf" in told
        assert "100" in told
        flow.change_config({"stampli": {"max_attachment_bytes": 200}})
        (_, _, again) = flow.run(files(flow)[0]["window_start"])
        assert again.confirmation.attached == 1
    prove_books(flow, "N-1")
