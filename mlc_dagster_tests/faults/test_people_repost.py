"""C6: an invoice that we posted is gone from Fusion. Posting it again is a command of two people, and happens once."""

from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.audit import verify
from mlc_dagster.ledger.controls import reposts
from mlc_dagster.ledger.schema import audit_event, fusion_observation
from mlc_dagster.ledger.unsettled import NotUnsettled
from mlc_dagster.stampli import overriding
from mlc_dagster.stampli.overriding import OverrideRefused
from mlc_dagster.stampli.steps import observe_step
from mlc_dagster_tests.cli.conftest import BOTH as TWO
from mlc_dagster_tests.cli.conftest import run_mlc
from mlc_dagster_tests.faults.people import REVISED, Kept, booked
from mlc_dagster_tests.faults.scenes import finish
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.protocols.intake import outcomes
from mlc_dagster_tests.protocols.posting import (
    SUPPLIER,
    assert_adds_up,
    attempts,
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


def gone(flow: Rehearsal) -> int:
    """INV-1, confirmed, then deleted by a clerk; its key in our ledger."""
    drop(flow, one("INV-1"))
    flow.process()
    flow.fusion.delete_invoice(booked(flow, "INV-1"))
    observe_step(flow.inbound)
    assert states(flow) == {"INV-1": "MISSING_IN_FUSION"}
    return int(invoices(flow)["INV-1"]["id"])


def standing(flow: Rehearsal) -> list[int]:
    """Ids of ours that Fusion holds now."""
    return [each.invoice_id for each in ours(flow) if not each.deleted and not each.canceled]


def test_c6_gone_is_posted_once_more_by_two_people(kept: Kept) -> None:
    """Exactly one in Fusion at the end, after two proofs of absence, and both names in the sealed trail."""
    flow = kept.flow
    key = gone(flow)
    first = booked(flow, "INV-1")
    overriding.allow_repost(flow.inbound, key, BOTH)
    assert posts(flow) == 1, "the command sends nothing"
    assert states(flow) == {"INV-1": "UNKNOWN"}
    finish(flow)
    [second] = standing(flow)
    assert second != first
    assert posts(flow) == 2
    assert (states(flow), invoices(flow)["INV-1"]["fusion_invoice_id"]) == ({"INV-1": "CONFIRMED"}, second)
    made = attempts(flow)
    assert [(row["phase"], row["fusion_invoice_id"]) for row in made] == [("ABSENT", first), ("CREATED", second)]
    assert made[0]["absences"] == 2
    assert made[0]["body"] == made[1]["body"]
    with flow.ledger.reading() as reading:
        assert [repost.fault for repost in reposts(reading)] == [None]
        [event] = reading.rows(sa.select(audit_event).where(audit_event.c.kind == "invoice.repost_allowed"))
    assert {name: event["detail"][name] for name in BOTH.said} == BOTH.said
    assert event["detail"]["before"]["fusion_invoice_id"] == first
    assert event["detail"]["before"]["state"] == "MISSING_IN_FUSION"
    assert verify(flow.ledger).fault is None


def test_c6_gone_is_never_posted_again_by_itself(flow: Rehearsal) -> None:
    """Not by polls, not by a reconcile, not by the same file or a retry of one person."""
    key = gone(flow)
    for _ in range(3):
        later(flow)
    flow.run(invoices(flow)["INV-1"]["window_start"])
    drop(flow, [*one("INV-1"), *one("INV-2")], 2)
    flow.process()
    assert run_mlc("--config", flow.config, "invoices", "retry", str(key)).exit_code == 2
    later(flow)
    assert standing(flow) == [booked(flow, "INV-2")]
    assert posts(flow) == 2


def test_c6_posted_once_more_it_is_finished_like_any_other(flow: Rehearsal) -> None:
    """Validated, attached and observed anew: what was done to the first says nothing of the second."""
    flow.change_config(
        {"stampli": {"attachments": "document_file", "companies": {"C100": {"after_create": "validate"}}}}
    )
    flow.drop("88121.pdf", b"%PDF-1.7 one")
    drop(flow, one("INV-1", document_file="88121.pdf"))
    flow.process()
    observe_step(flow.inbound)
    flow.fusion.delete_invoice(booked(flow, "INV-1"))
    observe_step(flow.inbound)
    overriding.allow_repost(flow.inbound, int(invoices(flow)["INV-1"]["id"]), BOTH)
    with flow.ledger.reading() as reading:
        assert reading.rows(sa.select(fusion_observation)) == []
    finish(flow)
    [second] = [each for each in ours(flow) if not each.deleted]
    assert (second.validation_status, second.attachments) == ("Validated", 1)
    row = invoices(flow)["INV-1"]
    assert (row["after_create_done"], row["attachment_done"]) == ("validate", "88121.pdf")
    flow.fusion.create_accounting()
    assert observe_step(flow.inbound).accounted == 1


def test_c6_what_a_clerk_entered_instead_is_left_alone(flow: Rehearsal) -> None:
    """He deleted ours and typed it in again: no command posts a second one beside his."""
    key = gone(flow)
    there = clerk(flow, "INV-1", SupplierNumber=SUPPLIER)
    with pytest.raises(OverrideRefused, match=f"InvoiceId {there}"):
        overriding.allow_repost(flow.inbound, key, BOTH)
    assert states(flow) == {"INV-1": "MISSING_IN_FUSION"}
    assert (posts(flow), standing(flow)) == (1, [])


# Deleted and entered again by hand: said where people look, and nothing is posted beside it.


def entered_again(flow: Rehearsal, amount: str = "100.00") -> int:
    """INV-1 of ours is deleted and typed in again by a clerk; the InvoiceId of his."""
    drop(flow, many(2))
    flow.process()
    flow.fusion.delete_invoice(booked(flow, "INV-1"))
    lines = [
        {"LineNumber": 1, "LineAmount": Decimal(amount), "DistributionCombination": "101-4420-61200-000-000-000"},
    ]
    return clerk(flow, "INV-1", InvoiceAmount=Decimal(amount), invoiceLines=lines)


def reconciled(flow: Rehearsal) -> list[str]:
    return flow.run(invoices(flow)["INV-1"]["window_start"])[2].confirmation.missing


def observed(flow: Rehearsal) -> list[str]:
    return observe_step(flow.inbound).missing


def events(flow: Rehearsal, kind: str) -> list[Any]:
    with flow.ledger.reading() as reading:
        return [row["detail"] for row in reading.rows(sa.select(audit_event).where(audit_event.c.kind == kind))]


@pytest.mark.parametrize("look", [observed, reconciled])
def test_c6_deleted_and_entered_again_is_told_with_its_differences(kept: Kept, look: Any) -> None:
    """Ours stays missing; whose the other is and what differs is told in the list of what is missing and on record."""
    flow = kept.flow
    first, there = None, entered_again(flow, "110.50")
    first = int(invoices(flow)["INV-1"]["fusion_invoice_id"])
    [told] = look(flow)
    for said in (
        f"InvoiceId {first}",
        f"entered again as InvoiceId {there} by AP.CLERK",
        "sent 100.00, Fusion has 110.5",
    ):
        assert said in told
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["reason"], row["fusion_invoice_id"]) == ("MISSING_IN_FUSION", "ENTERED_AGAIN", first)
    assert row["differences"]["InvoiceAmount"] == ["100.00", "110.5"]
    assert states(flow)["INV-2"] == "CONFIRMED"
    [event] = events(flow, "invoice.entered_again")
    assert (event["invoice_id"], event["created_by"]) == (there, "AP.CLERK")
    for _ in range(2):
        flow.run(row["window_start"])
        observe_step(flow.inbound)
        later(flow)
    assert len(events(flow, "invoice.entered_again")) == 1, "said once"
    assert posts(flow) == 2
    assert verify(flow.ledger).fault is None


def test_c6_entered_again_after_we_missed_it_is_told_by_the_next_reconcile(flow: Rehearsal) -> None:
    """He took his time: what is missing is looked for whenever its window is read again."""
    key = gone(flow)
    assert invoices(flow)["INV-1"]["reason"] is None
    there = clerk(flow, "INV-1", SupplierNumber=SUPPLIER)
    [told] = reconciled(flow)
    assert f"entered again as InvoiceId {there} by AP.CLERK" in told
    assert (states(flow), invoices(flow)["INV-1"]["reason"]) == ({"INV-1": "MISSING_IN_FUSION"}, "ENTERED_AGAIN")
    assert key == int(invoices(flow)["INV-1"]["id"])


def test_c6_what_stands_under_its_number_cancelled_is_not_entered_again(flow: Rehearsal) -> None:
    """He typed it in and cancelled it: nobody will pay that one."""
    there = entered_again(flow)
    flow.fusion.cancel_invoice(there)
    [told] = observed(flow)
    assert "entered again" not in told
    assert invoices(flow)["INV-1"]["reason"] is None


def test_c6_another_suppliers_invoice_of_that_number_is_not_entered_again(flow: Rehearsal) -> None:
    """A number is a supplier's own."""
    gone_id = None
    drop(flow, one("INV-1"))
    flow.process()
    gone_id = booked(flow, "INV-1")
    flow.fusion.delete_invoice(gone_id)
    clerk(flow, "INV-1", SupplierNumber="30014")
    assert observed(flow) == [f"INV-1 (InvoiceId {gone_id})"]


def test_c6_entered_again_is_shown_to_people_and_refused_to_repost(flow: Rehearsal) -> None:
    """`show` and `exceptions` name it with what differs; two people who ask for a repost are told who entered it."""
    there = entered_again(flow, "110.50")
    observe_step(flow.inbound)
    key = str(invoices(flow)["INV-1"]["id"])
    for command in (("invoices", "show", key), ("exceptions", "--json")):
        result = run_mlc("--config", flow.config, *command)
        assert result.exit_code == 0
        for said in (f"InvoiceId {there} by AP.CLERK", "InvoiceAmount: sent 100.00, Fusion has 110.5", "ENTERED_AGAIN"):
            assert said in " ".join(result.stdout.split())
    result = run_mlc("--config", flow.config, "invoices", "repost", key, *TWO)
    assert result.exit_code == 2
    assert f"InvoiceId {there} (created by AP.CLERK)" in result.stderr
    assert (posts(flow), states(flow)["INV-1"]) == (2, "MISSING_IN_FUSION")


def test_c6_posted_once_more_after_the_clerks_was_deleted_too(flow: Rehearsal) -> None:
    """What was said of his is gone with it."""
    there = entered_again(flow)
    observe_step(flow.inbound)
    flow.fusion.delete_invoice(there)
    overriding.allow_repost(flow.inbound, int(invoices(flow)["INV-1"]["id"]), BOTH)
    finish(flow)
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["reason"], row["differences"], row["problems"]) == ("CONFIRMED", None, None, None)


def test_c6_what_a_clerk_enters_after_the_approval_is_left_alone(flow: Rehearsal) -> None:
    """Two people approved at ten, he typed it in at eleven: the run's own proofs are what counts."""
    key = gone(flow)
    overriding.allow_repost(flow.inbound, key, BOTH)
    there = clerk(flow, "INV-1", SupplierNumber=SUPPLIER)
    finish(flow)
    row = invoices(flow)["INV-1"]
    assert (row["state"], row["fusion_invoice_id"]) == ("ALREADY_IN_FUSION", there)
    assert posts(flow) == 1


def test_c6_what_is_visible_again_is_not_posted_beside_itself(flow: Rehearsal) -> None:
    """Hidden from us alone for a while, and taken for gone: the command looks by its InvoiceId first."""
    drop(flow, one("INV-1"))
    flow.process()
    invoice_id = booked(flow, "INV-1")
    table = flow.fusion.world.tables["invoices"]
    hidden = table.rows[invoice_id]
    with flow.fusion.world.lock:
        table.remove(hidden)
    observe_step(flow.inbound)
    assert states(flow) == {"INV-1": "MISSING_IN_FUSION"}
    with flow.fusion.world.lock:
        table.add(hidden)
    flow.fusion.world.renumber_invoice(invoice_id, "INV-1A")
    with pytest.raises(OverrideRefused, match=f"InvoiceId {invoice_id} again"):
        overriding.allow_repost(flow.inbound, int(invoices(flow)["INV-1"]["id"]), BOTH)
    flow.run(invoices(flow)["INV-1"]["window_start"])
    assert states(flow) == {"INV-1": "CREATED"}
    assert (posts(flow), len(standing(flow))) == (1, 1)


def test_c6_where_nothing_is_visible_two_people_prove_nothing(flow: Rehearsal) -> None:
    """Zero rows without a control row: neither gone nor absent."""
    key = gone(flow)
    flow.fusion.faults.add("zero_rows", method="GET", path="invoices")
    with pytest.raises(OverrideRefused, match="cannot be proven"):
        overriding.allow_repost(flow.inbound, key, BOTH)
    assert states(flow) == {"INV-1": "MISSING_IN_FUSION"}


def test_c6_a_cancelled_invoice_keeps_its_number(flow: Rehearsal) -> None:
    """Fusion would refuse a second one under it: said before anything is tried."""
    drop(flow, one("INV-1"))
    flow.process()
    flow.fusion.cancel_invoice(booked(flow, "INV-1"))
    observe_step(flow.inbound)
    with pytest.raises(NotUnsettled, match="keeps the number of a cancelled invoice"):
        overriding.allow_repost(flow.inbound, int(invoices(flow)["INV-1"]["id"]), BOTH)
    assert (states(flow), posts(flow)) == ({"INV-1": "VOIDED_IN_FUSION"}, 1)


def test_c6_lost_again_on_its_way_it_is_found_and_not_sent_a_third_time(flow: Rehearsal) -> None:
    """The second request was stored and its answer lost."""
    key = gone(flow)
    overriding.allow_repost(flow.inbound, key, BOTH)
    flow.fusion.faults.add("commit_then_reset", path="invoices", count=1)
    finish(flow)
    assert (posts(flow), len(standing(flow))) == (2, 1)
    assert states(flow) == {"INV-1": "CONFIRMED"}


def test_c6_one_approval_is_one_invoice(flow: Rehearsal) -> None:
    """Deleted a second time, it takes two people a second time."""
    key = gone(flow)
    overriding.allow_repost(flow.inbound, key, BOTH)
    finish(flow)
    [second] = standing(flow)
    flow.fusion.delete_invoice(second)
    observe_step(flow.inbound)
    for _ in range(2):
        later(flow)
    assert (states(flow), posts(flow)) == ({"INV-1": "MISSING_IN_FUSION"}, 2)
    overriding.allow_repost(flow.inbound, key, BOTH)
    finish(flow)
    assert phases(flow) == ["ABSENT", "ABSENT", "CREATED"]
    assert (posts(flow), len(standing(flow))) == (3, 1)


def test_c6_a_correction_meanwhile_waits_and_is_for_a_person(flow: Rehearsal) -> None:
    """Between approval and request a revision comes: what was approved is what is posted."""
    key = gone(flow)
    overriding.allow_repost(flow.inbound, key, BOTH)
    drop(flow, one("INV-1", "150.00", **REVISED), 2)
    flow.process()
    finish(flow)
    [second] = [each for each in ours(flow) if not each.deleted]
    assert str(second.amount) == "100.00"
    assert outcomes(flow, "id-INV-1") == ["CURRENT", "PARKED REVISION_AFTER_POST"]
    with flow.ledger.reading() as reading:
        assert [repost.fault for repost in reposts(reading)] == [None]
    assert posts(flow) == 2


def test_c6_the_command_names_both_and_sends_nothing(flow: Rehearsal) -> None:
    """What a person types, and what `mlc invoices show` says of it afterwards."""
    key = gone(flow)
    result = run_mlc("--config", flow.config, "invoices", "repost", str(key), *TWO)
    assert (result.exit_code, "may be sent once more" in result.stdout) == (0, True)
    assert posts(flow) == 1
    finish(flow)
    assert len(standing(flow)) == 1
    shown = run_mlc("--config", flow.config, "invoices", "show", str(key)).stdout
    for said in ("Ada", "Grace", "invoice.repost_allowed", str(ours(flow)[0].invoice_id)):
        assert said in shown


def test_c6_one_person_is_not_enough(flow: Rehearsal) -> None:
    """The same name twice is one person."""
    key = gone(flow)
    alone = ("--by", "Ada", "--approved-by", "ada", "--reason", "it is gone")
    assert run_mlc("--config", flow.config, "invoices", "repost", str(key), *alone).exit_code == 2
    assert states(flow) == {"INV-1": "MISSING_IN_FUSION"}
    later(flow)
    assert posts(flow) == 1
    assert_adds_up(flow, created=1)
