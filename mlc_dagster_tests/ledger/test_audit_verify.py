"""Verification: whoever changes, removes, reorders or puts in a row of the trail is found, with the row's name."""

import random
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.audit import seal, verify
from mlc_dagster.ledger.audit_rows import event_text
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.types import UTC_FORMAT, canonical_json
from mlc_dagster_tests.ledger.checkpointed import tamper, write
from mlc_dagster_tests.ledger.population import events


@pytest.fixture
def sealed(ledger: Ledger) -> Ledger:
    """Eight sealed events."""
    write(ledger, *"abcdefgh")
    assert seal(ledger) == 8
    return ledger


def test_the_hashed_text_is_the_canonical_json_of_the_event(ledger: Ledger) -> None:
    """It is put together without decoding; other bytes than before would break every chain that exists."""
    with ledger.transaction() as transaction:
        transaction.audit(
            'odd "kind"', "file:ü\n\x00".replace("\x00", "\t"), text='a "quoted" \\ \u2028 €', n=[1, {"b": None}]
        )
    [event] = events(ledger)
    stored = {"at": event["at"].strftime(UTC_FORMAT)} | {
        name: event[name] for name in ("id", "actor", "kind", "subject", "detail")
    }
    row = (event["id"], stored["at"], event["actor"], event["kind"], event["subject"], canonical_json(event["detail"]))
    assert event_text(row) == canonical_json(stored)


def test_what_stands_before_the_detail_cannot_pass_for_a_part_of_it() -> None:
    """Columns are put together as text: moving the border between two must not give the same hash."""
    honest = (1, "2026-03-02T09:00:00.000000Z", "a", "k", "s", '{"a":"x","detail":{"b":1}}')
    moved = (1, '2026-03-02T09:00:00.000000Z","detail":{"a":"x', "a", "k", "s", '{"b":1}}')
    assert event_text(moved) != event_text(honest)
    assert "not written by the ledger" in event_text(moved)


@pytest.mark.parametrize("column", ["hash", "previous_hash"])
def test_a_changed_link_is_told_from_a_changed_event(sealed: Ledger, column: str) -> None:
    """An auditor who is sent to the wrong row loses a day."""
    tamper(sealed, f"update audit_chain set {column} = '{'f' * 64}' where seq = 4")
    found = verify(sealed)
    expected = {
        "hash": "link 4 was changed: its hash is not that of event 4, which holds",
        "previous_hash": "link 4 does not follow link 3: its previous hash was changed, its event and hash hold",
    }
    assert found.faults == (expected[column],)
    assert found.sealed == 3


def test_a_link_that_points_to_another_event_names_both(sealed: Ledger) -> None:
    """What it sealed is still there, under its own number."""
    tamper(sealed, "delete from audit_chain where seq = 8", "update audit_chain set event_id = 8 where seq = 5")
    assert "link 5 was changed: it points to event 8, but sealed event 5" in verify(sealed).faults


def test_every_changed_event_is_named(sealed: Ledger) -> None:
    """Not only the first: what the second change was about may be what matters."""
    tamper(sealed, "update audit_event set actor = 'nobody' where id in (2, 7)")
    found = verify(sealed)
    assert found.faults == (
        "event 2 (link 2, test.happened of b) was changed",
        "event 7 (link 7, test.happened of g) was changed",
    )
    assert found.sealed == 1


def test_removed_links_are_counted(sealed: Ledger) -> None:
    """A hole in the middle, and the events that lost their links."""
    tamper(sealed, "delete from audit_chain where seq in (3, 4)")
    found = verify(sealed)
    assert found.faults[0] == "links 3 to 4 are missing: the chain goes on with 5"
    assert found.unsealed == 2
    assert found.sealed == 2


def test_the_last_event_is_named_although_nothing_follows_it(sealed: Ledger) -> None:
    """Without a later link nobody can say whether the event or its link was changed; both are named."""
    tamper(sealed, "update audit_event set subject = 'x' where id = 8")
    assert verify(sealed).faults == ("event 8 (link 8, test.happened of x) was changed, or its link, the last one",)


def test_a_blank_in_a_detail_is_a_change(sealed: Ledger) -> None:
    """The stored text is what is under the hash, not what it means."""
    tamper(sealed, "update audit_event set detail = detail || ' ' where id = 3")
    assert verify(sealed).fault == "event 3 (link 3, test.happened of c) was changed"


@pytest.mark.parametrize("value", ["x'ff00'", "12", "1.5", "cast(x'ff' as text)"])
def test_what_is_no_text_does_not_stop_the_verification(sealed: Ledger, value: str) -> None:
    """SQLite keeps anything in any column; a verifier that crashes on it reports nothing."""
    if sealed.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL's columns have types")
    tamper(sealed, f"update audit_event set detail = {value} where id = 3")
    fault = verify(sealed).fault
    assert fault is not None
    assert "link 3" in fault


def test_a_damaged_row_does_not_stop_the_sealer(ledger: Ledger) -> None:
    """What a stranger put into the table is sealed as it is, so that the events after it are sealed too."""
    if ledger.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL's columns have types")
    with ledger.engine.begin() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute("insert into audit_event (at, actor, kind, subject, detail) values (1, x'00', 'k', 's', 2.5)")
    write(ledger, "after")
    assert seal(ledger) == 2
    assert verify(ledger).faults == ()


def test_a_late_event_on_postgresql_is_a_note(sealed: Ledger) -> None:
    """A slow transaction's event is honest; until it is sealed the report names it."""
    if sealed.engine.dialect.name == "sqlite":
        pytest.skip("SQLite's ids commit in order")
    tamper(sealed, "delete from audit_chain where seq = 8", "delete from audit_chain where seq = 7")
    tamper_again = "insert into audit_chain values (7, 8, (select hash from audit_chain where seq = 6), 'x')"
    with sealed.engine.begin() as connection:
        connection.execute(sa.text(tamper_again))
    found = verify(sealed)
    assert found.unsealed == 1
    assert "event 7" in found.notes[0]


def test_any_change_of_any_row_is_found(ledger: Ledger) -> None:
    """Changes by chance over all rows and columns, each undone before the next."""
    rng = random.Random(20261121)
    write(ledger, *(f"s{n}" for n in range(30)))
    seal(ledger)
    tamper(ledger)
    tables = {schema.audit_event: ("id", ("actor", "kind", "subject", "detail")),
              schema.audit_chain: ("seq", ("previous_hash", "hash"))}  # fmt: skip
    for _ in range(40):
        table = rng.choice(list(tables))
        key, columns = tables[table]
        column, number = rng.choice(columns), rng.randint(1, 30)
        with ledger.engine.begin() as connection:
            where = f"where {key} = {number}"
            before = connection.execute(sa.text(f"select {column} from {table.name} {where}")).scalar_one()
            place = rng.randrange(len(before))
            after = before[:place] + ("0" if before[place] != "0" else "1") + before[place + 1 :]
            change = sa.text(f"update {table.name} set {column} = :value {where}")
            connection.execute(change, {"value": after})
        found = verify(ledger)
        assert found.faults, (table.name, column, number)
        assert any(str(number) in fault for fault in found.faults)
        assert found.sealed == number - 1
        with ledger.engine.begin() as connection:
            connection.execute(change, {"value": before})
    assert verify(ledger).faults == ()


def test_verification_needs_no_memory_for_the_trail(ledger: Ledger, tmp_path: Path) -> None:
    """A trail of years is read row by row: twice as many events take no more memory."""
    import tracemalloc

    def peak() -> int:
        tracemalloc.start()
        assert verify(ledger).faults == ()
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    write(ledger, *(f"s{n}" for n in range(6_000)))
    seal(ledger)
    verify(ledger)
    small = peak()
    for start in (6_000, 12_000, 18_000):
        write(ledger, *(f"s{n}" for n in range(start, start + 6_000)))
    seal(ledger)
    assert peak() < small * 1.3 + 200_000
