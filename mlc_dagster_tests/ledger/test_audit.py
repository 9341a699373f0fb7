"""The audit trail: append-only, written with the change it reports, sealed into one chain whoever writes beside it."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from mlc_dagster.ledger import audit, schema
from mlc_dagster.ledger.audit import GENESIS, Verification, seal, verify
from mlc_dagster.ledger.database import Ledger, LedgerError, Transaction
from mlc_dagster_tests.ledger.checkpointed import insert_event, write
from mlc_dagster_tests.ledger.population import WINDOW, HandClock, events, race


def chain(ledger: Ledger) -> list[tuple[int, int]]:
    with ledger.reading() as reading:
        rows = reading.rows(sa.select(schema.audit_chain).order_by(schema.audit_chain.c.seq))
    return [(row["seq"], row["event_id"]) for row in rows]


@pytest.fixture
def sealed(ledger: Ledger) -> Ledger:
    """A ledger with five sealed events."""
    write(ledger, *"abcde")
    assert seal(ledger) == 5
    return ledger


@pytest.mark.parametrize("table", ["audit_event", "audit_chain"])
@pytest.mark.parametrize("verb", ["update", "delete"])
def test_the_database_refuses_to_change_the_trail(sealed: Ledger, table: str, verb: str) -> None:
    """Not our own code's discipline: whatever program comes with the ledger's password."""
    statement = f"delete from {table}" if verb == "delete" else f"update {table} set {column_of(table)} = 'x'"
    with pytest.raises(DBAPIError, match="append-only"), sealed.engine.begin() as connection:
        connection.execute(sa.text(statement))
    assert verify(sealed).fault is None


def column_of(table: str) -> str:
    return "actor" if table == "audit_event" else "hash"


def test_truncate_is_refused_too(sealed: Ledger) -> None:
    """The quickest way to lose a trail on PostgreSQL."""
    if sealed.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no TRUNCATE")
    with pytest.raises(DBAPIError, match="append-only"), sealed.engine.begin() as connection:
        connection.execute(sa.text("truncate audit_event"))
    assert len(events(sealed)) == 5


def test_an_event_says_who_what_and_when(ledger: Ledger) -> None:
    """Time of the ledger, actor of the ledger, and the detail as it was given."""
    write(Ledger(ledger.engine, actor="alice@host", clock=lambda: WINDOW), "invoice:1")
    [event] = events(ledger)
    assert (event["at"], event["actor"], event["kind"], event["subject"]) == (
        WINDOW, "alice@host", "test.happened", "invoice:1",
    )  # fmt: skip
    assert event["detail"] == {"amount": "12.50", "name": "Müller & Söhne"}


def test_an_event_is_written_with_its_change_or_not_at_all(ledger: Ledger) -> None:
    """A trail of things that did not happen would be worthless."""

    class Undone(Exception): ...

    def fail() -> None:
        with ledger.transaction() as transaction:
            transaction.insert_ignoring(schema.ledger_setting, {"name": "n", "value": "v"})
            transaction.audit("test.happened", "n")
            raise Undone

    with pytest.raises(Undone):
        fail()
    assert events(ledger) == []


def test_an_event_that_cannot_be_written_stops_its_change(ledger: Ledger) -> None:
    """Nothing happens without its event, also when the fault is in the event."""

    def fail() -> None:
        with ledger.transaction() as transaction:
            transaction.insert_ignoring(schema.ledger_setting, {"name": "n", "value": "v"})
            transaction.audit("test.happened", "n", amount=1.5)

    with pytest.raises(TypeError, match="float"):
        fail()
    with ledger.reading() as reading:
        assert reading.rows(sa.select(schema.ledger_setting)) == []


def test_a_savepoint_that_is_undone_takes_its_events_along(ledger: Ledger) -> None:
    """And no others."""

    class Undone(Exception): ...

    def fail(transaction: Transaction) -> None:
        with transaction.savepoint():
            transaction.audit("test.happened", "inside")
            raise Undone

    with ledger.transaction() as transaction:
        transaction.audit("test.happened", "before")
        with pytest.raises(Undone):
            fail(transaction)
        transaction.audit("test.happened", "after")
    assert [event["subject"] for event in events(ledger)] == ["before", "after"]


def test_an_untouched_trail_holds(sealed: Ledger) -> None:
    """The answer that an auditor wants to see, with the head to keep elsewhere."""
    found = verify(sealed)
    assert (found.sealed, found.unsealed, found.fault) == (5, 0, None)
    assert len(found.head) == 64
    assert found.head != GENESIS


def test_an_empty_trail_holds(ledger: Ledger) -> None:
    """A new ledger is not a damaged one."""
    assert seal(ledger) == 0
    assert verify(ledger) == Verification(0, 0, (), GENESIS)


def test_sealing_goes_on_where_it_ended(sealed: Ledger) -> None:
    """One chain over all runs; sealing again seals nothing twice."""
    assert seal(sealed) == 0
    write(sealed, "f", "g")
    assert seal(sealed) == 2
    assert chain(sealed) == [(n, n) for n in range(1, 8)]
    assert verify(sealed).sealed == 7


def test_a_long_tail_is_sealed_in_portions(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first seal after a big import must not hold everything in memory or one lock."""
    monkeypatch.setattr(audit, "_CHUNK", 3)
    write(ledger, *"abcdefgh")
    assert seal(ledger) == 8
    assert verify(ledger).sealed == 8


def test_the_unsealed_tail_is_reported(sealed: Ledger) -> None:
    """What is not sealed yet is not proven yet, and the report says how much that is."""
    write(sealed, "f", "g")
    found = verify(sealed)
    assert (found.sealed, found.unsealed, found.fault) == (5, 2, None)


def test_sealers_at_once_make_one_chain(ledger: Ledger) -> None:
    """Every run seals at its end; two that end together must not fork the trail."""
    write(ledger, *(str(n) for n in range(200)))
    assert sum(race([lambda: seal(ledger)] * 5)) == 200
    assert [seq for seq, _ in chain(ledger)] == list(range(1, 201))
    assert verify(ledger).fault is None


def test_sealers_and_writers_at_once_lose_nothing(ledger: Ledger) -> None:
    """Sealing goes on while others write; in the end everything is in the chain once."""

    def write_many() -> int:
        for n in range(20):
            write(ledger, str(n))
        return 0

    def seal_many() -> int:
        return sum(seal(ledger) for _ in range(20))

    sealed = sum(race([write_many, write_many, write_many, seal_many, seal_many])) + seal(ledger)
    found = verify(ledger)
    assert (sealed, found.sealed, found.unsealed, found.fault) == (60, 60, 0, None)


def test_a_sealer_at_work_is_not_waited_for(ledger: Ledger) -> None:
    """A run's end must not hang on another's: it leaves the sealing to the one that is at it."""
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite's writers wait for each other in any case")
    write(ledger, "a")
    with ledger.engine.begin() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(audit._LOCK)))
        assert seal(ledger) == 0
    assert seal(ledger) == 1


def test_an_event_that_commits_late_is_not_lost(ledger: Ledger) -> None:
    """PostgreSQL gives ids out before the commit: a seal in between must leave room for the one that is under way."""
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite's ids commit in order")
    with ledger.transaction() as early:
        early.audit("test.happened", "early")
        early.flush_audit()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(write, ledger, "late").result(timeout=30)
            assert pool.submit(seal, ledger).result(timeout=30) == 0
        with ledger.reading() as reading:
            assert reading.value(sa.select(sa.func.count()).select_from(schema.audit_event)) == 1
    assert seal(ledger) == 2
    assert [event_id for _, event_id in chain(ledger)] == [1, 2]
    found = verify(ledger)
    assert (found.sealed, found.unsealed, found.fault) == (2, 0, None)


def test_an_event_with_a_lower_id_that_commits_after_the_seal_joins_the_chain(ledger: Ledger) -> None:
    """Its id was drawn long before its row was written; by id alone the sealer would have passed it for ever."""
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite's ids commit in order")
    with ledger.engine.begin() as connection:
        drawn = connection.execute(sa.text("select nextval(pg_get_serial_sequence('audit_event', 'id'))")).scalar_one()
    write(ledger, "late")
    assert seal(ledger) == 1
    with ledger.engine.begin() as connection:
        insert_event(connection, drawn)
    assert seal(ledger) == 1
    found = verify(ledger)
    assert (found.sealed, found.unsealed, found.fault) == (2, 0, None)


def test_time_zones_of_a_session_do_not_matter(ledger: Ledger, clock: HandClock) -> None:
    """A trail sealed on one machine is verified on another, whatever time zone its session speaks."""
    clock.now = dt.datetime(2026, 3, 2, 23, 30, 0, 123456, tzinfo=dt.timezone(dt.timedelta(hours=-7)))
    write(ledger, "a")
    seal(ledger)
    if ledger.engine.dialect.name == "postgresql":
        with ledger.engine.begin() as connection:
            name = connection.execute(sa.text("select current_database()")).scalar_one()
            connection.execute(sa.text(f"alter database {name} set timezone = 'Asia/Kolkata'"))
        ledger.engine.dispose()
    assert verify(ledger).fault is None
    assert events(ledger)[0]["at"] == dt.datetime(2026, 3, 3, 6, 30, 0, 123456, tzinfo=dt.UTC)


def test_reading_refuses_to_write(ledger: Ledger) -> None:
    """An event recorded where nothing is committed would be lost in silence."""
    with pytest.raises(DBAPIError, match=r"read.?only"), ledger.reading() as reading:
        reading.insert_ignoring(schema.ledger_setting, {"name": "n", "value": "v"})
    with pytest.raises(LedgerError, match="reading"), ledger.reading() as reading:
        reading.audit("test.happened", "n")
    write(ledger, "still works")
    assert len(events(ledger)) == 1


def act(ledger: Ledger, **changes: Any) -> None:
    fields: dict[str, Any] = {"by": " Ada ", "reason": "checked", "before": {"state": "A"}, "after": {"state": "B"}}
    with ledger.transaction() as transaction:
        transaction.audit_action("test.done", "invoice:1", **(fields | changes))


def test_an_action_says_who_why_before_and_after(ledger: Ledger) -> None:
    """The four things an auditor asks about what a person had done."""
    act(ledger, approved_by="Grace", number="7")
    [event] = events(ledger)
    assert event["detail"] == {
        "by": "Ada", "approved_by": "Grace", "reason": "checked", "before": {"state": "A"}, "after": {"state": "B"},
        "number": "7",
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{"by": " "}, {"reason": ""}, {"approved_by": "ADA"}, {"approved_by": ""}, {"approved_by": " ada "}]
)
def test_an_action_without_a_name_a_reason_or_a_second_person_is_refused(
    ledger: Ledger, changes: dict[str, Any]
) -> None:
    """An event that says nothing is no control; nothing is written then."""
    with pytest.raises(LedgerError, match=r"goes on record only|two different people"):
        act(ledger, **changes)
    assert events(ledger) == []
