"""Revisions that arrive between the look-up, the request and its answer: what is in Fusion is what the ledger says."""

import asyncio
import os
from typing import Any

import pytest

from mlc_dagster.ledger import recovery
from mlc_dagster.ledger.database import LedgerError
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.windows import pin_pod
from mlc_dagster.stampli.posting import window_posting as posting
from mlc_dagster.stampli.posting.sending import PostingStopped
from mlc_dagster.stampli.steps import receive_step, validate_step
from mlc_dagster.stampli.window import hold_window
from mlc_dagster_tests.protocols.intake import bill, deliver, drop, invoice_row, outcomes, prove_books, verdict
from mlc_dagster_tests.protocols.posting import assert_books
from mlc_dagster_tests.servers.rehearsal import Rehearsal


def revised(amount: str, **cells: Any) -> Any:
    return bill("2", amount, invoice_revision="2", **cells)


def test_b4_a_revision_between_look_up_and_intent_is_not_overtaken(
    flow: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look-up covers hundreds of invoices; another window may replace one of them before its turn comes."""
    deliver(flow, 1, bill("1", "10.00"))
    drop(flow, 2, bill("2", "100.00"))
    [first] = flow.poll_settled().runs
    prepare = posting.WindowPosting._prepare
    begun: list[bool] = []

    def replace_it() -> None:
        flow.clock.advance(1000)
        drop(flow, 3, revised("999.00"))
        for wanted in flow.poll_settled().runs:
            if wanted.window_start != first.window_start:
                owner = f"{process_name(os.getpid())}|other"
                with hold_window(
                    flow.ledger, wanted.window_start, wanted.generation, owner=owner, run_id="other", last=True
                ) as held:
                    receive_step(flow.inbound, held)
                    validate_step(flow.inbound, held)

    async def prepare_and_wait(self: posting.WindowPosting) -> None:
        await prepare(self)
        if not begun:
            begun.append(True)
            await asyncio.to_thread(replace_it)

    monkeypatch.setattr(posting.WindowPosting, "_prepare", prepare_and_wait)
    flow.run(first)
    flow.clock.advance(1000)
    for wanted in flow.poll().runs:
        flow.run(wanted)
    assert str(flow.fusion.books.totals()["USD"]) == "1009.00"
    assert invoice_row(flow, "2")["amount_minor"] == 99900
    prove_books(flow, "N-1", "N-2")


def test_c6_what_was_stored_in_spite_of_a_refusal_stays_what_the_ledger_says(flow: Rehearsal) -> None:
    """A 403 hid that revision 1 was stored; revision 2 came before access did. Fusion's amount is the ledger's."""
    deliver(flow, 1, bill("1", "10.00"))
    flow.fusion.faults.add("commit_then_status", path="invoices", status=403, count=1)
    drop(flow, 2, bill("2", "100.00"))
    [wanted] = flow.poll_settled().runs
    with pytest.raises(PostingStopped):
        flow.run(wanted)
    drop(flow, 3, revised("999.00"))
    flow.clock.advance(1000)
    for wanted in flow.poll_settled().runs:
        flow.run(wanted)
    flow.clock.advance(1000)
    for wanted in flow.poll().runs:
        flow.run(wanted)
    assert outcomes(flow, "2") == ["CURRENT", "PARKED REVISION_AFTER_POST"]
    assert invoice_row(flow, "2")["amount_minor"] == 10000
    assert str(flow.fusion.books.totals()["USD"]) == "110.00"
    prove_books(flow, "N-1", "N-2")


def test_c5_a_refusal_where_nothing_is_visible_frees_no_corrected_number(flow: Rehearsal) -> None:
    """A proxy answered 400 for a request that was stored, and the user cannot see it: the correction must wait."""
    flow.fusion.faults.add("zero_rows", method="GET", path="invoices")
    flow.fusion.faults.add("commit_then_status", path="invoices", status=400, count=1)
    deliver(flow, 1, bill("2", "100.00"))
    assert verdict(flow, "2").startswith("PARKED FUSION_REJECTED")
    deliver(flow, 2, revised("100.00", number="N-2A"))
    assert outcomes(flow, "2") == ["CURRENT", "WAITING"]
    assert_books(flow, "N-2")


def test_c4_a_person_has_an_unknown_outcome_looked_for_again_and_nothing_is_sent(flow: Rehearsal) -> None:
    """Given up because nothing was visible: once access is back, looking again adopts it; it is never sent twice."""
    blind = flow.fusion.faults.add("zero_rows", method="GET", path="invoices")
    flow.fusion.faults.add("commit_then_reset", path="invoices", count=1)
    deliver(flow, 1, bill("2", "100.00"))
    flow.clock.advance(600)
    for wanted in flow.poll().runs:
        flow.run(wanted)
    assert verdict(flow, "2") == "PARKED SUBMIT_UNKNOWN"
    flow.fusion.faults.remove(blind)
    with flow.ledger.transaction() as transaction:
        assert recovery.reopen(transaction, invoice_row(flow, "2")["id"], by="anna")
    flow.clock.advance(1)
    for wanted in flow.poll().runs:
        flow.run(wanted)
    prove_books(flow, "N-2")


def test_c1_a_ledger_speaks_of_one_environment(flow: Rehearsal) -> None:
    """Its open attempts would be looked for, found absent and sent again, in an environment that never saw them."""
    deliver(flow, 1, bill("1", "10.00"))
    with flow.ledger.transaction() as transaction, pytest.raises(LedgerError, match="another environment"):
        pin_pod(transaction, "https://other.example.com")
    prove_books(flow, "N-1")
