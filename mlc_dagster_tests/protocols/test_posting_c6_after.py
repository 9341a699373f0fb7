"""Rules C6 to C9: created stays created, is read back, its steps are durable, Fusion's statuses are observed."""

from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.schema import fusion_observation
from mlc_dagster.stampli.posting.absence import DataAccessLost
from mlc_dagster.stampli.steps import observe_step
from mlc_dagster_tests.protocols.intake import stepwise
from mlc_dagster_tests.protocols.posting import (
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
    only,
    ours,
    posts,
    states,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.servers.runner import RunProcess

VALIDATE = "invoices/action/validateInvoice"
CALCULATE_TAX = "invoices/action/calculateTax"
ATTACHMENTS = "invoices/{id}/child/attachments"


def after_create(flow: Rehearsal, action: str) -> None:
    flow.change_config({"stampli": {"companies": {"C100": {"after_create": action}}}})


def reconcile(flow: Rehearsal) -> Any:
    return flow.run(next(iter(invoices(flow).values()))["window_start"])[2]


def observations(flow: Rehearsal) -> list[Row]:
    with flow.ledger.reading() as reading:
        return reading.rows(sa.select(fusion_observation).order_by(fusion_observation.c.invoice_pk))


def booked(flow: Rehearsal, number: str) -> int:
    return flow.fusion.books.invoices(number=number)[0].invoice_id


def test_c6_deleted_invoice_is_missing_and_never_posted_again(flow: Rehearsal) -> None:
    """A clerk deleted it on purpose; posting it again is for two people to decide."""
    drop(flow, many(2))
    flow.process()
    flow.fusion.delete_invoice(booked(flow, "INV-1"))
    report = reconcile(flow)
    assert report.confirmation.missing == [f"INV-1 (InvoiceId {booked(flow, 'INV-1')})"]
    assert states(flow) == {"INV-1": "MISSING_IN_FUSION", "INV-2": "CONFIRMED"}
    later(flow)
    reconcile(flow)
    drop(flow, many(3), sequence=2)
    flow.process()
    assert posts(flow) == 3, "the new one alone"
    assert_adds_up(flow, created=3, duplicate=2)


def test_c6_cancelled_invoice_is_voided_and_never_posted_again(flow: Rehearsal) -> None:
    """Cancelled in Fusion: its number stays taken there, and its state is final here."""
    drop(flow, many(2))
    flow.process()
    flow.fusion.cancel_invoice(booked(flow, "INV-2"))
    assert reconcile(flow).confirmation.voided == [f"INV-2 (InvoiceId {booked(flow, 'INV-2')})"]
    for _ in range(2):
        reconcile(flow)
    assert states(flow) == {"INV-1": "CONFIRMED", "INV-2": "VOIDED_IN_FUSION"}
    assert posts(flow) == 2
    assert_adds_up(flow, created=2)


@pytest.mark.parametrize("gone", ["delete_invoice", "cancel_invoice"])
def test_c6_gone_is_found_by_observation_too(flow: Rehearsal, gone: str) -> None:
    """Nobody reconciles a window of last week; the status job sees it."""
    drop(flow, many(2))
    flow.process()
    getattr(flow.fusion, gone)(booked(flow, "INV-1"))
    summary = observe_step(flow.inbound)
    assert len(summary.missing) + len(summary.voided) == 1
    assert states(flow)["INV-1"] == {"delete_invoice": "MISSING_IN_FUSION", "cancel_invoice": "VOIDED_IN_FUSION"}[gone]
    observe_step(flow.inbound)
    assert posts(flow) == 2


def test_c6_missing_before_it_was_read_back(flow: Rehearsal) -> None:
    """Deleted between creation and read-back: evidence of creation counts, it does not return to sending."""
    clerk(flow)
    drop(flow, one("INV-1"))
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after")
    with beside(flow.process) as run:
        assert gate.wait_held(20)
        flow.fusion.delete_invoice(booked(flow, "INV-1"))
        gate.release()
        run.result(30)
    assert states(flow) == {"INV-1": "MISSING_IN_FUSION"}
    later(flow)
    assert posts(flow) == 1


@pytest.mark.parametrize("look", [reconcile, lambda flow: observe_step(flow.inbound)], ids=["reconcile", "observe"])
def test_c6_hidden_is_not_missing(flow: Rehearsal, look: Any) -> None:
    """Fusion shows nothing of the business unit: that is lost access, and no invoice is called missing for it."""
    drop(flow, many(2))
    flow.process()
    hidden = flow.fusion.faults.add("zero_rows", path="invoices*")
    with pytest.raises(DataAccessLost):
        look(flow)
    assert set(states(flow).values()) == {"CONFIRMED"}
    flow.fusion.faults.remove(hidden)
    look(flow)
    assert set(states(flow).values()) == {"CONFIRMED"}


def test_c7_read_back_difference_stays_created_and_is_reported(flow: Rehearsal) -> None:
    """What Fusion holds is not what we sent: a person compares; nothing is sent, nothing is called confirmed."""
    after_create(flow, "validate")
    clerk(flow)
    drop(flow, one("INV-1", "60.00", "40.00"))
    gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after")
    with beside(flow.process) as run:
        assert gate.wait_held(20)
        table = flow.fusion.world.tables["invoices"]
        stored = table.rows[booked(flow, "INV-1")]
        with flow.fusion.world.lock:
            table.change(stored, {"InvoiceAmount": Decimal("100.01")})
            stored.children["invoiceLines"][0].values["LineAmount"] = Decimal("60.01")
        gate.release()
        [(_, _, report)] = run.result(30)
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["reason"]) == ("CREATED", "READ_BACK_DIFFERS")
    assert row["differences"] == {"InvoiceAmount": ["100.00", "100.01"], "line 1 LineAmount": ["60.00", "60.01"]}
    assert len(report.confirmation.differing) == 1
    assert flow.fusion.books.count("POST", VALIDATE) == 0
    assert later(flow) == []
    assert posts(flow) == 1
    with flow.fusion.world.lock:
        table.change(stored, {"InvoiceAmount": Decimal("100.00")})
        stored.children["invoiceLines"][0].values["LineAmount"] = Decimal("60.00")
    reconcile(flow)
    assert states(flow) == {"INV-1": "CONFIRMED"}
    assert_adds_up(flow, created=1)


def test_c7_confirmed_invoice_changed_later_is_seen_at_reconcile(flow: Rehearsal) -> None:
    """A clerk corrected a line: CONFIRMED says equal to the cent, so it is CREATED with a difference again."""
    drop(flow, one("INV-1"))
    flow.process()
    with flow.fusion.world.lock:
        stored = flow.fusion.world.tables["invoices"].rows[booked(flow, "INV-1")]
        stored.children["invoiceLines"][0].values["DistributionCombination"] = "101-4420-61200-000-000-000"
    reconcile(flow)
    row = invoices(flow)["INV-1"]
    assert row["state"] == "CREATED"
    assert row["differences"] == {
        "line 1 DistributionCombination": ["101-4410-61200-000-000-000", "101-4420-61200-000-000-000"]
    }
    assert posts(flow) == 1


def test_c7_generated_tax_lines_are_no_difference(flow: Rehearsal) -> None:
    """Fusion added a tax line as it was asked to: ours are compared by number, its own are listed apart."""
    flow.fusion.policies.tax_rate = Decimal("0.0825")
    after_create(flow, "calculate_tax")
    drop(flow, one("INV-1", "60.00", "40.00"))
    [(_, _, report)] = flow.process()
    assert report.confirmation.after_create == 1
    reconcile(flow)
    assert invoices(flow)["INV-1"]["differences"] is None
    assert states(flow) == {"INV-1": "CONFIRMED"}
    assert len(flow.fusion.world.tables["invoices"].rows[booked(flow, "INV-1")].children["invoiceLines"]) == 3


@pytest.mark.parametrize(("action", "route"), [("validate", VALIDATE), ("calculate_tax", CALCULATE_TAX)])
def test_c7_after_create_runs_once(flow: Rehearsal, action: str, route: str) -> None:
    """The step is durable by itself: later runs and reconciles do not repeat it."""
    after_create(flow, action)
    drop(flow, many(3))
    flow.process()
    assert flow.fusion.books.count("POST", route, 200) == 3
    later(flow)
    reconcile(flow)
    assert flow.fusion.books.count("POST", route) == 3
    assert {row["after_create_done"] for row in invoices(flow).values()} == {action}
    assert {each.validation_status for each in ours(flow)} == {"Validated" if action == "validate" else "Not validated"}
    assert_adds_up(flow, created=3)


def test_c7_default_leaves_the_invoice_alone(flow: Rehearsal) -> None:
    """Validating is the company's decision."""
    drop(flow, one("INV-1"))
    flow.process()
    assert {entry.route for entry in flow.fusion.books.requests(method="POST")} == {"oauth2/v1/token", "invoices"}


def test_c7_killed_within_after_create_is_repeated_safely(flow: Rehearsal) -> None:
    """Kill -9 after Fusion validated and before we noted it: the step is asked for again, the invoice is not."""
    after_create(flow, "validate")
    drop(flow, one("INV-1"))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path=VALIDATE, stage="after")
    with RunProcess(flow, wanted) as run:
        assert gate.wait_held(30)
        run.kill()
    gate.drop()
    later(flow)
    assert flow.fusion.books.count("POST", VALIDATE, 200) == 1
    assert flow.fusion.books.count("POST", VALIDATE) == 2
    assert invoices(flow)["INV-1"]["after_create_done"] == "validate"
    assert posts(flow) == 1
    assert_adds_up(flow, created=1)


@pytest.mark.parametrize("kind", ["status", "reset", "commit_then_reset"])
def test_c7_busy_after_create_is_asked_again(flow: Rehearsal, kind: str) -> None:
    """The action may be repeated, so one busy or lost answer does not leave the invoice unvalidated."""
    after_create(flow, "validate")
    flow.fusion.faults.add(kind, method="POST", path=VALIDATE, count=1)
    drop(flow, many(3))
    [(_, _, report)] = flow.process()
    assert (report.confirmation.after_create, report.confirmation.problems) == (3, [])
    assert {each.validation_status for each in ours(flow)} == {"Validated"}


def test_c7_refused_after_create_is_reported_and_not_repeated(flow: Rehearsal) -> None:
    """Fusion says no to the action: the invoice stays created, the refusal is said once."""
    after_create(flow, "validate")
    flow.fusion.faults.add("status", method="POST", path=VALIDATE, status=400, body="not today")
    drop(flow, one("INV-1"))
    [(_, _, report)] = flow.process()
    assert len(report.confirmation.problems) == 1
    assert "not today" in report.confirmation.problems[0]
    later(flow)
    reconcile(flow)
    assert flow.fusion.books.count("POST", VALIDATE) == 1
    assert_adds_up(flow, created=1)


def test_c7_attachment_is_listed_before_it_is_posted(flow: Rehearsal) -> None:
    """Attaching is not idempotent: look first, attach once, also on later runs."""
    flow.change_config({"stampli": {"attachments": "document_file"}})
    flow.drop("88121.pdf", b"%PDF-1.7 one")
    drop(flow, one("INV-1", document_file="88121.pdf") + one("INV-2"))
    [(_, _, report)] = flow.process()
    assert report.confirmation.attached == 1
    order = [entry.method for entry in flow.fusion.books.requests(route=ATTACHMENTS)]
    assert (order[0], order.count("POST")) == ("GET", 1)
    later(flow)
    reconcile(flow)
    assert [each.attachments for each in ours(flow)] == [1, 0]
    assert_adds_up(flow, created=2)


def test_c7_killed_within_attaching_does_not_attach_twice(flow: Rehearsal) -> None:
    """Kill -9 after Fusion took the file and before we noted it."""
    flow.change_config({"stampli": {"attachments": "document_file"}})
    flow.drop("88121.pdf", b"%PDF-1.7 one")
    drop(flow, one("INV-1", document_file="88121.pdf"))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices/*/child/attachments", stage="after")
    with RunProcess(flow, wanted) as run:
        assert gate.wait_held(30)
        run.kill()
    gate.drop()
    later(flow)
    assert [each.attachments for each in ours(flow)] == [1]
    assert invoices(flow)["INV-1"]["attachment_done"] == "88121.pdf"
    assert flow.fusion.books.count("POST", ATTACHMENTS) == 1


def test_c7_missing_document_is_reported_and_attached_at_reconcile(flow: Rehearsal) -> None:
    """The invoice is in the books with or without its picture."""
    flow.change_config({"stampli": {"attachments": "document_file"}})
    drop(flow, one("INV-1", document_file="88121.pdf"))
    [(_, _, report)] = flow.process()
    assert len(report.confirmation.problems) == 1
    assert states(flow) == {"INV-1": "CONFIRMED"}
    flow.drop("88121.pdf", b"%PDF-1.7 one")
    reconcile(flow)
    assert [each.attachments for each in ours(flow)] == [1]


def test_c7_refused_attachment_is_reported_and_does_not_fail_the_run(flow: Rehearsal) -> None:
    """One file that Fusion does not take must not fail its window at every poll."""
    flow.change_config({"stampli": {"attachments": "document_file"}})
    flow.drop("88121.pdf", b"%PDF-1.7 one")
    flow.fusion.faults.add("status", method="POST", path="invoices/*/child/attachments", status=400, body="too odd")
    drop(flow, one("INV-1", document_file="88121.pdf"))
    [(_, _, report)] = flow.process()
    assert "too odd" in report.confirmation.problems[0]
    assert later(flow) == []
    reconcile(flow)
    assert flow.fusion.books.count("POST", ATTACHMENTS) == 1


@pytest.mark.parametrize("status", [403, 404, 429, 500])
def test_c7_failing_attachment_does_not_hold_its_window_open(flow: Rehearsal, status: int) -> None:
    """A missing privilege or a bad day of the attachment service: the run ends, the other steps are done."""
    flow.change_config({"stampli": {"attachments": "document_file"}})
    flow.drop("88121.pdf", b"%PDF-1.7 one")
    fault = flow.fusion.faults.add("status", method="POST", path="invoices/*/child/attachments", status=status)
    drop(flow, one("INV-1", document_file="88121.pdf") + one("INV-2", document_file="88121.pdf"))
    [(_, _, report)] = flow.process()
    assert [text.split(":")[0] for text in report.confirmation.problems] == ["INV-1", "INV-2"]
    assert states(flow) == {"INV-1": "CONFIRMED", "INV-2": "CONFIRMED"}
    assert later(flow) == []
    flow.fusion.faults.remove(fault)
    assert reconcile(flow).confirmation.attached == 2
    assert [each.attachments for each in ours(flow)] == [1, 1]


def test_c7_documents_that_cannot_be_fetched_do_not_hold_their_window_open(flow: Rehearsal) -> None:
    """The partner's server is down when the invoices are already in the books."""
    flow.change_config({"stampli": {"attachments": "document_file"}})
    flow.drop("88121.pdf", b"%PDF-1.7 one")
    clerk(flow)
    drop(flow, one("INV-1", document_file="88121.pdf"))
    password = flow.folder / "sftp_password"
    right = password.read_text()
    wanted = only(flow.poll_settled().runs)
    stepwise(flow, wanted, after_validate=lambda: password.write_text("changed"))
    assert states(flow) == {"INV-1": "CONFIRMED"}
    password.write_text(right)
    assert later(flow) == []
    assert reconcile(flow).confirmation.attached == 1


def test_c7_after_create_without_the_privilege_does_not_hold_its_window_open(flow: Rehearsal) -> None:
    """403 on the action alone: the invoices are created; the step waits for whoever grants the privilege."""
    after_create(flow, "validate")
    fault = flow.fusion.faults.add("status", method="POST", path=VALIDATE, status=403)
    drop(flow, many(2))
    [(_, _, report)] = flow.process()
    assert len(report.confirmation.problems) == 2
    assert later(flow) == []
    flow.fusion.faults.remove(fault)
    assert reconcile(flow).confirmation.after_create == 2


def test_c8_fusion_statuses_are_observed_until_accounted_and_are_no_states(flow: Rehearsal) -> None:
    """Validation, holds, accounting are what Fusion says on a day, with that day; our state stays CONFIRMED."""
    drop(flow, many(2))
    flow.process()
    observe_step(flow.inbound)
    assert {row["validation_status"] for row in observations(flow)} == {"Not validated"}
    flow.fusion.validate_invoice(booked(flow, "INV-1"))
    flow.clock.advance(900)
    summary = observe_step(flow.inbound)
    assert (summary.observed, summary.changed) == (2, 1)
    assert [row["validation_status"] for row in observations(flow)] == ["Validated", "Not validated"]
    flow.fusion.create_accounting()
    assert observe_step(flow.inbound).accounted == 1
    assert [row["accounted_at"] is not None for row in observations(flow)] == [True, False]
    assert observe_step(flow.inbound).observed == 1, "what is accounted is followed no more"
    assert set(states(flow).values()) == {"CONFIRMED"}
    assert_books(flow, *numbers(2))


def test_c8_holds_are_observed(flow: Rehearsal) -> None:
    """Validated with a hold: the hold's name is what the accountant asks for."""
    drop(flow, one("INV-1"))
    flow.process()
    with flow.fusion.world.lock:
        table = flow.fusion.world.tables["invoices"]
        table.change(table.rows[booked(flow, "INV-1")], {"InvoiceAmount": Decimal("100.50")})
    flow.fusion.validate_invoice(booked(flow, "INV-1"))
    assert observe_step(flow.inbound).on_hold == 1
    assert observations(flow)[0]["holds"] == ["Line Variance"]
    assert states(flow) == {"INV-1": "CONFIRMED"}


def test_c9_accounted_is_proven_per_invoice(flow: Rehearsal) -> None:
    """Accounting is a fact of the invoice; which journal line carries it, Fusion does not say."""
    after_create(flow, "validate")
    drop(flow, many(3))
    flow.process()
    flow.fusion.create_accounting()
    summary = observe_step(flow.inbound)
    assert (summary.accounted, dict(summary.accounting)) == (3, {"Accounted": 3})
    assert all(row["accounted_at"] is not None for row in observations(flow))
