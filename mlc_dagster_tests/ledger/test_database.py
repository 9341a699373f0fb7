"""Transactions and clocks of the ledger: durable, isolated, and by the database's time."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.database import Ledger, default_actor, open_ledger
from mlc_dagster_tests.ledger.population import POD, race

ROW = {"name": "n", "value": "v"}


def setting(ledger: Ledger, name: str = "n") -> str | None:
    with ledger.reading() as reading:
        table = schema.ledger_setting
        value: str | None = reading.value(sa.select(table.c.value).where(table.c.name == name))
        return value


def test_sqlite_is_set_up_for_durability(ledger: Ledger) -> None:
    """An intent that a power cut takes back would be sent twice."""
    if ledger.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL is durable as it comes")
    with ledger.engine.connect() as connection:
        found = [connection.exec_driver_sql(f"pragma {name}").scalar() for name in ("journal_mode", "synchronous")]
        assert connection.exec_driver_sql("pragma foreign_keys").scalar() == 1
    assert found == ["wal", 2]


def test_insert_ignoring_says_whether_it_inserted(ledger: Ledger) -> None:
    """Claims rest on this answer: "inserted" for a row that was there would let two invoices have one number."""
    with ledger.transaction() as transaction:
        assert transaction.insert_ignoring(schema.ledger_setting, ROW) is True
        assert transaction.insert_ignoring(schema.ledger_setting, ROW | {"value": "other"}) is False
    assert setting(ledger) == "v"


def test_insert_ignoring_says_so_to_one_of_many(ledger: Ledger) -> None:
    """Also between connections."""

    def insert() -> bool:
        with ledger.transaction() as transaction:
            return transaction.insert_ignoring(schema.ledger_setting, ROW)

    assert sorted(race([insert] * 6)) == [False] * 5 + [True]


def test_upsert_updates_what_is_there_and_keeps_what_it_is_told_to(ledger: Ledger) -> None:
    """A cache entry is renewed; its other columns are not blanked."""
    row = {"pod": POD, "kind": "supplier", "key": "1", "payload": "old", "read_at": ledger.now()}
    with ledger.transaction() as transaction:
        transaction.upsert(schema.reference_cache, [row])
        transaction.upsert(schema.reference_cache, [row | {"payload": "new"}, row | {"key": "2"}])
        transaction.upsert(schema.reference_cache, [row | {"key": "2", "payload": "kept out"}], keep=["payload"])
        transaction.upsert(schema.reference_cache, [])
    with ledger.reading() as reading:
        table = schema.reference_cache
        found = [row["payload"] for row in reading.rows(sa.select(table.c.payload).order_by(table.c.key))]
    assert found == ["new", "old"]


def test_a_transaction_that_fails_leaves_nothing(ledger: Ledger) -> None:
    """All of it or none."""

    class Undone(Exception): ...

    def fail() -> None:
        with ledger.transaction() as transaction:
            transaction.insert_ignoring(schema.ledger_setting, ROW)
            raise Undone

    with pytest.raises(Undone):
        fail()
    assert setting(ledger) is None


def test_a_view_for_reading_does_not_move(ledger: Ledger) -> None:
    """A report whose parts are read one after the other shows one moment."""
    with ledger.reading() as reading:
        before = reading.value(sa.select(sa.func.count()).select_from(schema.ledger_setting))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(write_one, ledger).result(timeout=30)
        after = reading.value(sa.select(sa.func.count()).select_from(schema.ledger_setting))
    assert (before, after) == (0, 0)
    assert setting(ledger) == "v"


def write_one(ledger: Ledger) -> None:
    with ledger.transaction() as transaction:
        transaction.insert_ignoring(schema.ledger_setting, ROW)


def test_a_reader_does_not_hold_up_a_writer(ledger: Ledger) -> None:
    """A long report must not stop the posting."""
    with ledger.reading() as reading:
        reading.rows(sa.select(schema.ledger_setting))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(write_one, ledger).result(timeout=30)
    assert setting(ledger) == "v"


def test_writing_goes_on_after_reading_on_the_same_connection(ledger: Ledger) -> None:
    """Connections are pooled: what one view switched off must be on again for the next transaction."""
    for n in range(3):
        setting(ledger)
        with ledger.transaction() as transaction:
            transaction.insert_ignoring(schema.ledger_setting, {"name": f"n{n}", "value": "v"})
    assert setting(ledger, "n2") == "v"


def test_without_a_clock_the_time_is_utc_and_now(prepared_url: str) -> None:
    """On PostgreSQL it is the database's: hosts may disagree, leases may not."""
    ledger = open_ledger(prepared_url)
    before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5)
    assert before < ledger.now() < before + dt.timedelta(seconds=60)
    assert ledger.now().tzinfo is dt.UTC
    ledger.close()


def test_a_transaction_that_waited_for_its_turn_carries_the_time_of_its_turn(prepared_url: str) -> None:
    """SQLite's writers wait for each other before they begin: a lease counted from before that would be too short."""
    ledger = open_ledger(prepared_url)
    if ledger.engine.dialect.name != "sqlite":
        ledger.close()
        pytest.skip("on PostgreSQL only rows are waited for")
    with ThreadPoolExecutor(1) as pool:
        with ledger.transaction():
            waiting = pool.submit(began_at, ledger)
            released = dt.datetime.now(dt.UTC)
        assert waiting.result(timeout=30) >= released
    ledger.close()


def began_at(ledger: Ledger) -> dt.datetime:
    with ledger.transaction() as transaction:
        return transaction.now


def test_the_actor_of_a_program_names_process_and_host() -> None:
    """Nobody asked for it by name, so at least it can be found."""
    assert "@" in default_actor()
    assert " pid " in default_actor()
