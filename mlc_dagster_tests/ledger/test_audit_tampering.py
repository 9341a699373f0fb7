"""What somebody who owns the database does to the audit trail: each change, removal and insertion is named."""

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.audit import GENESIS, seal, verify
from mlc_dagster.ledger.database import Ledger
from mlc_dagster_tests.ledger.checkpointed import insert_event, tamper, write


@pytest.fixture
def sealed(ledger: Ledger) -> Ledger:
    """A ledger with five sealed events."""
    write(ledger, *"abcde")
    assert seal(ledger) == 5
    return ledger


@pytest.mark.parametrize(
    "change",
    [
        "actor = 'somebody else'",
        "kind = 'test.other'",
        "subject = 'invoice:9'",
        """detail = '{"amount":"99.50","name":"Müller & Söhne"}'""",
        "at = '2026-03-02T08:00:00.000000Z'",
    ],
)
def test_a_changed_event_is_found(sealed: Ledger, change: str) -> None:
    """Every column that an event consists of is under the seal."""
    tamper(sealed, f"update audit_event set {change} where id = 3")
    found = verify(sealed)
    assert found.sealed == 2
    assert found.fault is not None
    assert "event 3" in found.fault
    assert "was changed" in found.fault


@pytest.mark.parametrize("event_id", [1, 3, 5])
def test_a_removed_event_is_found(sealed: Ledger, event_id: int) -> None:
    """First, middle and last."""
    tamper(sealed, f"delete from audit_event where id = {event_id}")
    assert verify(sealed).fault == f"event {event_id} (link {event_id}) was removed"


def test_an_event_removed_with_its_link_is_found(sealed: Ledger) -> None:
    """The links count up without a gap."""
    tamper(sealed, "delete from audit_event where id = 3")
    with sealed.engine.begin() as connection:
        connection.execute(sa.text("delete from audit_chain where event_id = 3"))
    assert verify(sealed).fault == "link 3 is missing: the chain goes on with 4"


def test_links_closed_up_after_a_removal_are_found(sealed: Ledger) -> None:
    """Renumbering does not help: each link carries the hash of the one before."""
    tamper(sealed, "delete from audit_event where id = 3")
    with sealed.engine.begin() as connection:
        connection.execute(sa.text("delete from audit_chain where event_id = 3"))
        for seq in (4, 5):
            connection.execute(sa.text(f"update audit_chain set seq = {seq - 1} where seq = {seq}"))
    found = verify(sealed)
    assert found.fault is not None
    assert "link 3 does not follow link 2" in found.fault


def test_reordered_events_are_found(sealed: Ledger) -> None:
    """What happened first is part of what happened."""
    tamper(sealed, "update audit_chain set event_id = 100 where seq = 2")
    with sealed.engine.begin() as connection:
        connection.execute(sa.text("update audit_chain set event_id = 2 where seq = 3"))
        connection.execute(sa.text("update audit_chain set event_id = 3 where seq = 2"))
    found = verify(sealed)
    assert found.sealed == 1
    assert found.faults == (
        "link 2 was changed: it points to event 3, but sealed event 2",
        "link 3 was changed: it points to event 2, but sealed event 3",
    )


def test_reordered_links_are_found(sealed: Ledger) -> None:
    """The same with the links themselves."""
    tamper(sealed, "update audit_chain set seq = 100 where seq = 2")
    with sealed.engine.begin() as connection:
        connection.execute(sa.text("update audit_chain set seq = 2 where seq = 3"))
        connection.execute(sa.text("update audit_chain set seq = 3 where seq = 100"))
    found = verify(sealed)
    assert found.fault == "link 2 does not follow link 1: it belongs after link 3: links were reordered"


def test_an_event_inserted_with_a_link_is_found(sealed: Ledger) -> None:
    """A link made up in the middle breaks the one that followed there."""
    tamper(sealed, "update audit_chain set seq = seq + 100 where seq >= 3")
    with sealed.engine.begin() as connection:
        insert_event(connection, 50)
        connection.execute(
            sa.text(f"insert into audit_chain (seq, event_id, previous_hash, hash) values (3, 50, '{GENESIS}', 'x')")
        )
        connection.execute(sa.text("update audit_chain set seq = seq - 99 where seq > 100"))
    found = verify(sealed)
    assert found.sealed == 2
    # On SQLite the numbers between the last event and the made-up one are missed as well.
    assert found.faults[:1] == (
        "link 3 does not follow link 2: it was put in with event 50; what followed link 2 is link 4",
    )


def test_an_event_slipped_in_below_the_seal_is_not_sealed(ledger: Ledger) -> None:
    """On SQLite ids commit in order: one that appears below sealed ones was made up, and stays visible as that."""
    if ledger.engine.dialect.name != "sqlite":
        pytest.skip("on PostgreSQL an honest event may commit late")
    write(ledger, *"abc")
    seal(ledger)
    with ledger.engine.begin() as connection:
        insert_event(connection, 0)
    assert seal(ledger) == 0
    assert verify(ledger).fault == ("event 0 was inserted: events are numbered from 1 (made.up of x)")


def test_a_chain_cut_short_shows_as_unsealed(sealed: Ledger) -> None:
    """Whoever kept the count or the head from before sees that links are missing."""
    before = verify(sealed)
    tamper(sealed, "delete from audit_chain where seq > 3")
    found = verify(sealed)
    assert (found.sealed, found.unsealed) == (3, 2)
    assert found.head != before.head


def test_a_chain_rebuilt_from_changed_events_has_another_head(sealed: Ledger) -> None:
    """Nothing inside the ledger can show that; the head kept elsewhere does."""
    before = verify(sealed).head
    tamper(sealed, "delete from audit_chain")
    with sealed.engine.begin() as connection:
        connection.execute(sa.text("update audit_event set actor = 'somebody else' where id = 1"))
    seal(sealed)
    found = verify(sealed)
    assert found.fault is None
    assert found.head != before
