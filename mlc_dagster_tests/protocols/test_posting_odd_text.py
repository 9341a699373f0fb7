"""Invoices in Fusion whose text no database keeps: neither in the way of the others, nor taken for absent."""

import asyncio
import datetime as dt
from pathlib import Path

import pytest

from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.stampli.posting.absence import AbsenceProver, Presence, Sought
from mlc_dagster_tests.faults.people import clerk_changes
from mlc_dagster_tests.fusion.raw_server import Connection, RawServer, Received, collection
from mlc_dagster_tests.protocols.posting import (
    SUPPLIER,
    UNIT,
    assert_adds_up,
    assert_books,
    clerk,
    drop,
    later,
    many,
    numbers,
    posts,
    states,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal


@pytest.mark.parametrize("odd", ["half \ud800 of a character", "a NUL \0"])
def test_a_clerks_invoice_with_odd_text_is_found_and_the_others_are_posted(flow: Rehearsal, odd: str) -> None:
    """One row among those found was enough to make the answer unreadable, and with it every look-up of its group."""
    clerk(flow, "INV-2", Description=odd)
    clerk(flow)
    drop(flow, many(4))
    flow.process()
    later(flow)
    assert_books(flow, "INV-1", "INV-3", "INV-4")
    assert posts(flow) == 3
    assert states(flow)["INV-2"] == "ALREADY_IN_FUSION"
    assert_adds_up(flow, created=3, already_in_fusion=1)


def test_ours_with_odd_text_is_recognised_after_a_lost_answer(flow: Rehearsal) -> None:
    """A person wrote into it in Fusion before we looked it up: it is there, and is not sent again."""
    clerk(flow)
    flow.change_config({"fusion": {"wait_in_run": 0}})
    drop(flow, many(2))
    flow.fusion.faults.add("commit_then_reset", path="invoices", count=2)
    flow.process()
    assert set(states(flow).values()) == {"UNKNOWN"}
    for booked in flow.fusion.books.invoices(number="INV-1"):
        clerk_changes(flow, booked.invoice_id, Description="half \ud800")
    flow.change_config({"fusion": {"wait_in_run": 30}})
    later(flow)
    assert_books(flow, *numbers(2))
    assert posts(flow) == 2
    assert states(flow) == {"INV-1": "CONFIRMED", "INV-2": "CONFIRMED"}
    assert_adds_up(flow, created=2)


@pytest.mark.parametrize(
    ("row", "presence"),
    [
        ({"InvoiceNumber": "INV-1\ud800"}, Presence.PRESENT),
        ({"InvoiceNumber": "inv\udfff1"}, Presence.PRESENT),
        ({"SupplierNumber": "30\ud80012"}, Presence.PRESENT),
        ({"BusinessUnit": "US1\ud800Business Unit"}, Presence.PRESENT),
        ({"BusinessUnit": "\ud800 France"}, Presence.OTHER_BUSINESS_UNIT),
        ({"InvoiceNumber": "INV-2\ud800"}, Presence.ABSENT),
        ({"SupplierNumber": "4\ud800"}, Presence.ABSENT),
        # One character that cannot be read is not all of them: such a number would stop every invoice.
        ({"InvoiceNumber": "\ud800"}, Presence.ABSENT),
        ({"InvoiceNumber": "\ud800\ud800\ud800\ud800\ud800"}, Presence.PRESENT),
    ],
)
def test_a_row_that_cannot_be_told_from_the_one_sought_is_no_absence(
    tmp_path: Path, row: dict[str, str], presence: Presence
) -> None:
    """Fusion answers with it for the number that was asked for: whatever it says in truth, absence is not proven."""
    named = {"InvoiceNumber": "INV-1", "SupplierNumber": SUPPLIER, "BusinessUnit": UNIT}
    there = [{"InvoiceId": 1, **named, "InvoiceNumber": "CTRL-1"}, {"InvoiceId": 2, **named, **row}]

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(200, collection(there, received))

    async def look_up() -> Presence:
        async with RawServer(script) as server, server.client() as client:
            prover = AbsenceProver(ledger, client, "pod")
            found = await prover.look_up([Sought(7, UNIT, SUPPLIER, "INV-1", dt.date(2026, 11, 10))])
            return found[7].presence

    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    try:
        assert asyncio.run(look_up()) is presence
    finally:
        ledger.close()
