"""What a run says that it did is counted after the commit: a change is run again when its neighbour in it fails."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.fusion.invoices import observe
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.schema import invoice
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.writer import LedgerWriter
from mlc_dagster.stampli.inbound import RequestCount, WindowWork
from mlc_dagster.stampli.posting.absence import Finding, Presence
from mlc_dagster.stampli.posting.claiming import Claiming
from mlc_dagster.stampli.posting.sending import PostingSummary
from mlc_dagster.stampli.steps import with_client
from mlc_dagster_tests.ledger.population import WINDOW, add_invoice, state_of
from mlc_dagster_tests.protocols.posting import clerk, drop, invoices, one
from mlc_dagster_tests.servers.rehearsal import Rehearsal

Step = Callable[[Claiming, Row, Finding], Awaitable[None]]


def _fails(transaction: Transaction) -> None:
    raise ValueError("the neighbour")


async def _beside_a_failure(flow: Rehearsal, step: Callable[[Claiming], Awaitable[None]]) -> PostingSummary:
    """The step's change and one that fails are sure to share a commit."""
    entered, opened = threading.Event(), threading.Event()

    def busy(transaction: Transaction) -> None:
        entered.set()
        assert opened.wait(30)

    summary = PostingSummary()
    async with LedgerWriter(flow.ledger) as writer:
        claiming = Claiming(flow.inbound, writer, WindowWork(WINDOW, 1, "one", 1), summary)
        first = asyncio.create_task(writer.submit(busy))
        await asyncio.to_thread(entered.wait, 30)
        tasks = [asyncio.ensure_future(step(claiming)), asyncio.create_task(writer.submit(_fails))]
        await asyncio.sleep(0)
        opened.set()
        await first
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(ended[1], ValueError)
    assert ended[0] is None
    return summary


@pytest.mark.parametrize(
    ("step", "state"),
    [
        (lambda claiming, row, _: claiming.park_unproven(row), "PARKED"),
        (lambda claiming, row, finding: claiming.hold(row, finding), "PARKED"),
        (lambda claiming, row, finding: claiming.already_there(row, finding), "ALREADY_IN_FUSION"),
    ],
    ids=["unproven", "held", "there"],
)
def test_an_invoice_is_counted_once_however_often_its_change_is_run(flow: Rehearsal, step: Step, state: str) -> None:
    """The summary decides whether a run makes progress, and is what people read."""
    drop(flow, one("INV-1"))
    flow.process()
    there = clerk(flow, "INV-X")
    record = with_client(flow.inbound, RequestCount(), lambda client: observe(client, [there]))[there]
    mapping: Any = invoices(flow)["INV-1"]["mapping"]
    with flow.ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.VALIDATED, mapping=mapping, fusion_number="INV-X")
        row = transaction.row(sa.select(invoice).where(invoice.c.id == key))
    assert row is not None
    finding = Finding(Presence.PRESENT, (record,))
    summary = asyncio.run(_beside_a_failure(flow, lambda claiming: step(claiming, row, finding)))
    assert state_of(flow.ledger, key) == state
    assert summary.ended == 1
