"""What only a server's row locks keep apart: on PostgreSQL two transactions may read the same row and then both act.

On SQLite a writer has the whole file from its beginning on, and nothing of this can happen.
"""

import datetime as dt
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.schema import invoice
from mlc_dagster.ledger.states import InvoiceState, move
from mlc_dagster.ledger.windows import WindowBusy, take_window
from mlc_dagster.stampli.posting.sought import is_unchanged
from mlc_dagster_tests.ledger.population import FEED, LEASE, WINDOW, add_invoice, add_window, invoice_row, state_of
from mlc_dagster_tests.protocols.posting import until

NOW = WINDOW + dt.timedelta(minutes=5)


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[Ledger]:
    opened = open_ledger(postgres_url, actor="test", clock=lambda: NOW)
    yield opened
    opened.close()


def waits(ledger: Ledger) -> bool:
    """Whether a transaction waits for another one's lock."""
    activity = sa.table("pg_stat_activity", sa.column("datname"), sa.column("wait_event_type"))
    statement = (
        sa.select(sa.func.count())
        .select_from(activity)
        .where(activity.c.datname == sa.func.current_database(), activity.c.wait_event_type == "Lock")
    )
    with ledger.reading() as reading:
        return bool(reading.value(statement))


def test_c1_a_second_run_that_comes_while_the_window_is_being_taken_finds_it_busy(ledger: Ledger) -> None:
    """Both read that nobody has it; the one that writes second must not believe what it read."""
    with ledger.transaction() as transaction:
        add_window(transaction)

    def take(run: str) -> None:
        with ledger.transaction() as transaction:
            owner = f"{process_name(os.getpid())}|{run}"
            take_window(transaction, FEED, WINDOW, 1, owner=owner, run_id=run, lease=LEASE)

    with ThreadPoolExecutor(1) as beside:
        with ledger.transaction() as transaction:
            owner = f"{process_name(os.getpid())}|first"
            take_window(transaction, FEED, WINDOW, 1, owner=owner, run_id="first", lease=LEASE)
            second = beside.submit(take, "second")
            until(lambda: waits(ledger))
        with pytest.raises(WindowBusy):
            second.result(20)


def test_c1_an_invoice_that_is_being_claimed_cannot_become_another_one_meanwhile(ledger: Ledger) -> None:
    """Looked at and found unchanged, then revised by another run, then claimed: the old content would be sent."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction)
    row = invoice_row(ledger, key)

    def revise() -> None:
        with ledger.transaction() as transaction:
            transaction.execute(sa.update(invoice).where(invoice.c.id == key).values(window_start=NOW))

    with ThreadPoolExecutor(1) as beside:
        with ledger.transaction() as transaction:
            assert is_unchanged(transaction, row)
            revision = beside.submit(revise)
            until(lambda: waits(ledger))
            assert move(
                transaction, key, InvoiceState.SENDING, expected=(InvoiceState.VALIDATED,), event="submission.intent"
            )
        revision.result(20)
    assert state_of(ledger, key) == InvoiceState.SENDING
    with ledger.transaction() as transaction:
        assert not is_unchanged(transaction, row)
