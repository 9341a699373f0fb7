"""The one writer of a process: commits shared by those who wait, failures not shared."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.pool import QueuePool

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.audit import seal, verify
from mlc_dagster.ledger.database import Ledger, Transaction
from mlc_dagster.ledger.errors import NotCommitted
from mlc_dagster.ledger.types import CanonicalText
from mlc_dagster.ledger.writer import LedgerWriter
from mlc_dagster_tests.ledger.population import events


def setting(name: str, value: str = "x") -> Callable[[Transaction], str]:
    def change(transaction: Transaction) -> str:
        transaction.execute(sa.insert(schema.ledger_setting).values(name=name, value=value))
        transaction.audit("test.set", name)
        return name

    return change


def names(ledger: Ledger) -> set[str]:
    with ledger.reading() as reading:
        return {row["name"] for row in reading.rows(sa.select(schema.ledger_setting.c.name))}


class Gate:
    """A change that keeps the writer busy until the test opens it, so that others gather behind it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, transaction: Transaction) -> None:
        self.entered.set()
        assert self.opened.wait(30)


async def gathered(writer: LedgerWriter, *changes: Callable[[Transaction], object]) -> list[object]:
    """Results (or exceptions) of changes that are sure to share one commit."""
    gate = Gate()
    first = asyncio.create_task(writer.submit(gate))
    await asyncio.to_thread(gate.entered.wait, 30)
    tasks = [asyncio.create_task(writer.submit(change)) for change in changes]
    await asyncio.sleep(0)
    gate.opened.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_a_result_comes_after_the_commit(ledger: Ledger) -> None:
    """Who is told "done" may send a request on the strength of it: another connection must see the row."""

    async def scenario() -> tuple[str, set[str]]:
        async with LedgerWriter(ledger) as writer:
            result = await writer.submit(setting("a"))
            return result, await asyncio.to_thread(names, ledger)

    assert asyncio.run(scenario()) == ("a", {"a"})


def test_changes_that_wait_together_share_a_commit(ledger: Ledger) -> None:
    """A durable commit costs far more than the rows in it."""

    async def scenario() -> tuple[list[object], int]:
        async with LedgerWriter(ledger) as writer:
            results = await gathered(writer, *(setting(f"n{n}") for n in range(50)))
            return results, writer.commits

    results, commits = asyncio.run(scenario())
    assert results == [f"n{n}" for n in range(50)]
    assert commits == 2
    assert len(names(ledger)) == 50


def test_one_failing_change_takes_no_other_along(ledger: Ledger) -> None:
    """Its rows and its events vanish alone; its caller alone hears of it."""

    class Wrong(Exception): ...

    def fails(transaction: Transaction) -> None:
        setting("bad")(transaction)
        raise Wrong

    async def scenario() -> list[object]:
        async with LedgerWriter(ledger) as writer:
            return await gathered(writer, setting("a"), fails, setting("b"))

    results = asyncio.run(scenario())
    assert (results[0], type(results[1]), results[2]) == ("a", Wrong, "b")
    assert names(ledger) == {"a", "b"}
    assert [event["subject"] for event in events(ledger, "test.set")] == ["a", "b"]


def test_a_change_that_the_database_refuses_takes_no_other_along(ledger: Ledger) -> None:
    """On PostgreSQL an error ends the whole transaction unless it is contained."""

    async def scenario() -> list[object]:
        async with LedgerWriter(ledger) as writer:
            return await gathered(writer, setting("a"), setting("a"), setting("b"))

    results = asyncio.run(scenario())
    assert (results[0], type(results[1]), results[2]) == ("a", IntegrityError, "b")
    assert names(ledger) == {"a", "b"}


def test_an_event_that_cannot_be_written_takes_no_other_along(ledger: Ledger) -> None:
    """A float in an event's detail is its own change's fault, not the whole group's."""

    def wrong(transaction: Transaction) -> None:
        setting("bad")(transaction)
        transaction.audit("test.wrong", "bad", amount=1.5)

    async def scenario() -> list[object]:
        async with LedgerWriter(ledger) as writer:
            return await gathered(writer, setting("a"), wrong, setting("b"))

    results = asyncio.run(scenario())
    assert (results[0], type(results[1]), results[2]) == ("a", TypeError, "b")
    assert names(ledger) == {"a", "b"}


@pytest.mark.parametrize("text", ["half \ud800", "NUL \0", "a name \udcfc that is no UTF-8"])
def test_an_event_about_text_that_no_database_keeps_is_written(ledger: Ledger, text: str) -> None:
    """The events of a commit are written at once, at its end: one odd name in them would undo every change."""

    def odd(transaction: Transaction) -> str:
        setting("odd")(transaction)
        transaction.audit("test.odd", text, name=text, names=[text])
        return "odd"

    async def scenario() -> list[object]:
        async with LedgerWriter(ledger) as writer:
            return await gathered(writer, setting("a"), odd, setting("b"))

    assert asyncio.run(scenario()) == ["a", "odd", "b"]
    (event,) = events(ledger, "test.odd")
    assert event["detail"] == {"name": text, "names": [text]}
    assert event["subject"] == text.replace("\ud800", "\\ud800").replace("\0", "\\x00").replace("\udcfc", "\\udcfc")
    seal(ledger)
    assert verify(ledger).fault is None


def test_an_event_that_the_database_refuses_takes_no_other_along(ledger: Ledger) -> None:
    """Whatever else is wrong with an event is found where its change can be told apart."""

    def wrong(transaction: Transaction) -> None:
        setting("bad")(transaction)
        transaction.audit_text("test.wrong", "bad", CanonicalText('{"text":"\ud800"}'))

    async def scenario() -> list[object]:
        async with LedgerWriter(ledger) as writer:
            return await gathered(writer, setting("a"), wrong, setting("b"))

    results = asyncio.run(scenario())
    assert (results[0], type(results[1]), results[2]) == ("a", UnicodeEncodeError, "b")
    assert names(ledger) == {"a", "b"}
    assert [event["subject"] for event in events(ledger, "test.set")] == ["a", "b"]


def swallows(transaction: Transaction) -> str:
    """A change that keeps an error of the database to itself; PostgreSQL has given up the transaction by then."""
    setting("swallows")(transaction)
    with suppress(DBAPIError):
        transaction.connection.exec_driver_sql("select nothing from nowhere")
    return "swallows"


def test_a_change_whose_transaction_was_given_up_is_not_called_durable(ledger: Ledger) -> None:
    """PostgreSQL answers COMMIT of such a transaction with ROLLBACK, which its driver takes for success."""
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite does not give a transaction up for a statement that it cannot read")

    async def scenario() -> list[object]:
        async with LedgerWriter(ledger) as writer:
            return [*await gathered(writer, setting("a"), swallows), *await gathered(writer, swallows, setting("b"))]

    first, second, third, fourth = asyncio.run(scenario())
    assert (first, type(second), type(third), fourth) == ("a", NotCommitted, NotCommitted, "b")
    assert names(ledger) == {"a", "b"}


def test_a_transaction_that_was_given_up_is_an_error_at_its_end(ledger: Ledger) -> None:
    """Whoever asks without the writer must hear of it too."""
    if ledger.engine.dialect.name == "sqlite":
        with ledger.transaction() as transaction:
            swallows(transaction)
        assert names(ledger) == {"swallows"}
        return
    with pytest.raises(NotCommitted), ledger.transaction() as transaction:
        swallows(transaction)
    assert names(ledger) == set()


def test_a_transaction_that_the_database_has_ended_is_an_error_at_its_end(ledger: Ledger) -> None:
    """SQLite ends one by itself when a disk is full; what comes after it would be written bit by bit."""
    own_clock = Ledger(ledger.engine, actor="test")

    def ends(transaction: Transaction) -> str:
        setting("ends")(transaction)
        transaction.connection.exec_driver_sql("rollback")
        return "ends"

    async def scenario() -> list[object]:
        async with LedgerWriter(own_clock) as writer:
            return await gathered(writer, setting("a"), ends)

    with pytest.raises(NotCommitted), own_clock.transaction() as transaction:
        ends(transaction)
    assert not [result for result in asyncio.run(scenario()) if not isinstance(result, Exception)]
    assert names(ledger) == set()


def test_a_transaction_without_a_statement_ends_well(ledger: Ledger) -> None:
    """PostgreSQL's driver has begun nothing then, which is not the same as given up."""
    with ledger.transaction() as transaction:
        assert transaction.actor == "test"
    assert names(ledger) == set()


def test_when_the_commit_fails_everybody_hears_of_it(ledger: Ledger) -> None:
    """Nobody may believe that his change is durable."""

    def breaks(transaction: Transaction) -> None:
        raise OperationalError("insert", {}, Exception("database or disk is full"))

    async def scenario() -> list[object]:
        async with LedgerWriter(ledger) as writer:
            return await gathered(writer, setting("a"), breaks, setting("b"))

    assert [type(result) for result in asyncio.run(scenario())] == [OperationalError] * 3
    assert names(ledger) == set()


def test_a_deadlock_is_tried_again(ledger: Ledger) -> None:
    """Two processes that lock the same rows in another order: the one that PostgreSQL ends loses nothing."""

    class Deadlock(Exception):
        sqlstate = "40P01"

    tries: list[int] = []

    def deadlocks_once(transaction: Transaction) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise OperationalError("update", {}, Deadlock())
        return setting("b")(transaction)

    async def scenario() -> list[object]:
        async with LedgerWriter(ledger) as writer:
            return await gathered(writer, setting("a"), deadlocks_once)

    assert asyncio.run(scenario()) == ["a", "b"]
    assert names(ledger) == {"a", "b"}
    assert len(events(ledger, "test.set")) == 2


def test_a_real_deadlock_between_two_writers_is_survived(ledger: Ledger) -> None:
    """PostgreSQL itself chooses the victim; both writers' changes are there in the end."""
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    with ledger.transaction() as transaction:
        for name in ("a", "b"):
            setting(name, "0")(transaction)
    meet = threading.Barrier(2)

    def crossing(first: str, second: str, sign: str) -> Callable[[Transaction], None]:
        tries: list[int] = []

        def change(transaction: Transaction) -> None:
            tries.append(1)
            table = schema.ledger_setting
            for name in (first, second):
                transaction.execute(sa.update(table).where(table.c.name == name).values(value=table.c.value + sign))
                if name == first and len(tries) == 1:
                    meet.wait(30)

        return change

    async def scenario() -> None:
        async with LedgerWriter(ledger) as one, LedgerWriter(ledger) as two:
            await asyncio.gather(one.submit(crossing("a", "b", "1")), two.submit(crossing("b", "a", "2")))

    asyncio.run(scenario())
    with ledger.reading() as reading:
        values = [row["value"] for row in reading.rows(sa.select(schema.ledger_setting.c.value))]
    assert [sorted(value) for value in values] == [["0", "1", "2"]] * 2


def test_a_connection_lost_between_two_commits_is_replaced(ledger: Ledger) -> None:
    """The writer keeps its connection; a database that was restarted meanwhile must cost no change."""
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no connections that others can end")

    def backend(transaction: Transaction) -> int:
        return transaction.value(sa.select(sa.func.pg_backend_pid()))

    async def scenario() -> tuple[int, int, str]:
        # With the database's own clock, which is what finds the connection dead before anything is written.
        async with LedgerWriter(Ledger(ledger.engine, actor="test")) as writer:
            first = await writer.submit(backend)
            with ledger.transaction() as transaction:
                transaction.value(sa.select(sa.func.pg_terminate_backend(first, 10_000)))
            return first, await writer.submit(backend), await writer.submit(setting("a"))

    first, second, written = asyncio.run(scenario())
    assert first != second
    assert written == "a"
    assert names(ledger) == {"a"}


def test_the_connection_is_given_back_at_the_end(ledger: Ledger) -> None:
    """One that stays open would keep SQLite's journal from being folded away, and a place in PostgreSQL's list."""

    async def scenario() -> None:
        async with LedgerWriter(ledger) as writer:
            await writer.submit(setting("a"))
            await writer.submit(setting("b"))

    asyncio.run(scenario())
    pool = ledger.engine.pool
    assert isinstance(pool, QueuePool)
    assert pool.checkedout() == 0


def test_everything_submitted_is_written_before_the_writer_ends(ledger: Ledger) -> None:
    """A run that ends does not drop what it was told to keep."""

    async def scenario() -> list[str]:
        async with LedgerWriter(ledger) as writer:
            tasks = [asyncio.create_task(writer.submit(setting(f"n{n}"))) for n in range(700)]
            await asyncio.sleep(0)
        return await asyncio.gather(*tasks)

    assert len(asyncio.run(scenario())) == 700
    assert len(names(ledger)) == 700


def test_a_closed_writer_refuses(ledger: Ledger) -> None:
    """A change that nobody will ever write must not be waited for."""

    async def scenario() -> None:
        async with LedgerWriter(ledger) as writer:
            await writer.submit(setting("a"))
        with pytest.raises(RuntimeError, match="closed"):
            await writer.submit(setting("b"))

    asyncio.run(scenario())
    assert names(ledger) == {"a"}


def test_a_waiter_that_is_cancelled_does_not_disturb_the_others(ledger: Ledger) -> None:
    """Its change is written all the same: a request may depend on it already."""

    async def scenario() -> None:
        async with LedgerWriter(ledger) as writer:
            gate = Gate()
            first = asyncio.create_task(writer.submit(gate))
            await asyncio.to_thread(gate.entered.wait, 30)
            cancelled = asyncio.create_task(writer.submit(setting("a")))
            other = asyncio.create_task(writer.submit(setting("b")))
            await asyncio.sleep(0)
            cancelled.cancel()
            gate.opened.set()
            await first
            assert await other == "b"
            assert cancelled.cancelled()

    asyncio.run(scenario())
    assert names(ledger) == {"a", "b"}
