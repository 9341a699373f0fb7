"""Rule C3: ours is what we hold an intent for and what carries our user, source, group and content; nothing else."""

import re
from decimal import Decimal
from typing import Any

import pytest

from mlc_dagster_tests.protocols.posting import (
    DATES,
    SUPPLIER,
    UNIT,
    assert_adds_up,
    attempts,
    beside,
    clerk,
    drop,
    invoices,
    later,
    many,
    one,
    ours,
    phases,
    posts,
    states,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal


def test_c3_clerks_invoice_is_already_in_fusion_with_its_differences(flow: Rehearsal) -> None:
    """Somebody typed it in: skipped and reported, and nothing of it is touched."""
    there = clerk(flow, "INV-1")
    drop(flow, one("INV-1"))
    flow.process()
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["fusion_invoice_id"]) == ("ALREADY_IN_FUSION", there)
    assert row["differences"]["InvoiceAmount"] == ["100.00", "12"]
    assert posts(flow) == 0
    later(flow)
    assert posts(flow) == 0
    assert_adds_up(flow, already_in_fusion=1)


def test_c3_clerks_invoice_found_after_a_time_out_is_not_adopted(flow: Rehearsal) -> None:
    """Our request was lost, and meanwhile the clerk entered it: that one is not ours to validate or to attach to."""
    clerk(flow)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    drop(flow, one("INV-1"))
    with beside(flow.process) as run:
        assert gate.wait_held(20)
        there = clerk(flow, "INV-1")
        gate.drop()
        run.result(30)
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["fusion_invoice_id"]) == ("ALREADY_IN_FUSION", there)
    assert row["differences"]["CreatedBy"] == [flow.fusion.client_id, "AP.CLERK"]
    assert row["differences"]["InvoiceAmount"] == ["100.00", "12"]
    assert (phases(flow), ours(flow)) == (["FOREIGN"], [])
    assert_adds_up(flow, already_in_fusion=1)


def test_c3_same_user_and_content_without_an_intent_is_not_ours(flow: Rehearsal) -> None:
    """Another integration under the same user may have posted it; we hold no intent."""
    document: dict[str, Any] = {
        "InvoiceNumber": "INV-1",
        "InvoiceCurrency": "USD",
        "InvoiceAmount": Decimal("100.00"),
        "InvoiceDate": DATES["invoice_date"],
        "AccountingDate": DATES["invoice_date"],
        "BusinessUnit": UNIT,
        "SupplierNumber": SUPPLIER,
        "SupplierSite": "HQ",
        "InvoiceSource": "Stampli",
        "invoiceLines": [
            {
                "LineNumber": 1,
                "LineAmount": Decimal("100.00"),
                "DistributionCombination": "101-4410-61200-000-000-000",
            }
        ],
    }
    flow.fusion.enter_invoice(document, user=flow.fusion.client_id)
    drop(flow, one("INV-1"))
    flow.process()
    assert states(flow) == {"INV-1": "ALREADY_IN_FUSION"}
    assert attempts(flow) == []
    assert posts(flow) == 0


CHANGES: dict[str, Any] = {
    "CreatedBy": "SOMEBODY.ELSE",
    "InvoiceSource": "EDI",
    "InvoiceGroup": "another group",
    "InvoiceAmount": Decimal("99.99"),
    "InvoiceDate": "2026-11-09",
}


def test_c3_adoption_wants_our_user_source_group_and_content(flow: Rehearsal) -> None:
    """Committed and not answered; what the look-up finds differs in one mark each: not adopted, the mark is named."""
    clerk(flow)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after")
    drop(flow, [row for attribute in CHANGES for row in one(attribute)])
    with beside(flow.process) as run:
        assert gate.wait_held(20, requests=len(CHANGES))
        table = flow.fusion.world.tables["invoices"]
        stored = {booked.number: booked.invoice_id for booked in ours(flow)}
        with flow.fusion.world.lock:
            for attribute, value in CHANGES.items():
                table.change(table.rows[stored[attribute]], {attribute: value})
        gate.drop()
        run.result(30)
    for attribute in CHANGES:
        row = invoices(flow)[attribute]
        assert (row["state"], list(row["differences"])) == ("ALREADY_IN_FUSION", [attribute])
    assert posts(flow) == len(CHANGES)


def test_c3_adoption_wants_equal_lines(flow: Rehearsal) -> None:
    """The header may agree where the accounts do not."""
    clerk(flow)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after")
    drop(flow, one("INV-1", "60.00", "40.00"))
    with beside(flow.process) as run:
        assert gate.wait_held(20)
        with flow.fusion.world.lock:
            stored = flow.fusion.world.tables["invoices"].rows[ours(flow)[0].invoice_id]
            stored.children["invoiceLines"][1].values["DistributionCombination"] = "101-4420-61200-000-000-000"
        gate.drop()
        run.result(30)
    row = invoices(flow)["INV-1"]
    assert row["state"] == "ALREADY_IN_FUSION"
    assert list(row["differences"]) == ["line 2 DistributionCombination"]


def test_c3_ours_is_found_beside_a_clerks_of_the_same_number(flow: Rehearsal) -> None:
    """Where Fusion lets a number repeat per site, the look-up shows both; ours is adopted, not the first."""
    flow.fusion.policies.duplicate_scope = ("supplier", "number", "business_unit", "site")
    clerk(flow)
    flow.fusion.faults.add("commit_then_reset", path="invoices", count=1)
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="before")
    drop(flow, one("INV-1", vendor_id="30009", vendor_site="HQ"))
    with beside(flow.process) as run:
        assert gate.wait_held(20)
        clerk(flow, "INV-1", SupplierNumber="30009", SupplierSite="WEST")
        gate.release()
        run.result(30)
    assert states(flow) == {"INV-1": "CONFIRMED"}
    assert [booked.supplier_site for booked in ours(flow)] == ["HQ"]
    assert_adds_up(flow, created=1)


def test_c3_every_post_names_source_window_and_generation(flow: Rehearsal) -> None:
    """By these an auditor finds a run's invoices in Fusion, and we ours."""
    drop(flow, many(2))
    wanted = flow.poll_settled().runs[0]
    flow.run(wanted)
    assert {stored.invoice_source for stored in ours(flow)} == {"Stampli"}
    [group] = {str(stored.invoice_group) for stored in ours(flow)}
    assert re.fullmatch(rf"MLC {wanted.partition_key} g{wanted.generation} [0-9a-f]{{8}}", group)
    assert len(group) <= 50
    assert {row["invoice_group"] for row in attempts(flow)} == {group}


def test_c3_what_is_sent_again_keeps_the_group_of_the_run_that_sent_it_first(flow: Rehearsal) -> None:
    """Another run makes a group of its own; a frozen body never changes, and its group is how it is found."""
    clerk(flow)
    flow.change_config({"fusion": {"wait_in_run": 0}})
    flow.fusion.faults.add("status", method="POST", path="invoices", status=503, count=1)
    drop(flow, one("INV-1"))
    flow.process()
    later(flow)
    first, second = attempts(flow)
    assert (second["phase"], second["body"], second["invoice_group"]) == (
        "CREATED", first["body"], first["invoice_group"],
    )  # fmt: skip
    assert [stored.invoice_group for stored in ours(flow)] == [first["invoice_group"]]


def test_c3_stored_in_spite_of_a_403_is_adopted_by_the_next_run(flow: Rehearsal) -> None:
    """A gateway may answer 403 to a request that was stored: we hold its intent, so it is ours and not a clerk's."""
    clerk(flow)
    flow.fusion.faults.add("commit_then_status", path="invoices", status=403, count=1)
    drop(flow, one("INV-1"))
    with pytest.raises(Exception, match="403"):
        flow.process()
    assert states(flow) == {"INV-1": "VALIDATED"}
    later(flow)
    assert states(flow) == {"INV-1": "CONFIRMED"}
    assert posts(flow) == 1
    assert_adds_up(flow, created=1)


def test_c3_what_cannot_be_read_whole_is_neither_ours_nor_somebody_elses(flow: Rehearsal) -> None:
    """A look-up shows no lines: without them an invoice with a changed account would pass for what was sent."""
    flow.change_config({"fusion": {"wait_in_run": 0}})
    clerk(flow)
    flow.fusion.faults.add("commit_then_reset", method="POST", path="invoices", count=1)
    drop(flow, one("INV-1"))
    flow.process()
    assert phases(flow) == ["UNKNOWN"]
    before = flow.fusion.books.count("GET", "invoices")
    flow.fusion.faults.add("zero_rows", method="GET", path="invoices", skip=2, count=1)
    later(flow)
    asked = flow.fusion.books.requests(method="GET", route="invoices")[before:]
    assert ["expand=invoiceLines" in entry.query for entry in asked] == [False, False, True]
    assert phases(flow) == ["UNKNOWN"]
    assert states(flow) == {"INV-1": "UNKNOWN"}
    later(flow)
    assert phases(flow) == ["CREATED"]
    assert len(ours(flow)) == 1
    assert_adds_up(flow, created=1)
