"""From the schema without checkpoints to the one with them, with a customer's data in it, on both databases."""

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.exc import DBAPIError

from mlc_dagster.ledger import migrate, schema
from mlc_dagster.ledger.audit import seal, verify
from mlc_dagster.ledger.database import Ledger, create_engine, open_ledger
from mlc_dagster.ledger.migrate import current, head
from mlc_dagster_tests.ledger.checkpointed import write
from mlc_dagster_tests.ledger.population import events


def old_ledger(url: str) -> None:
    """A ledger of the version before, with sealed and unsealed events."""
    engine = create_engine(url)
    with engine.begin() as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    ledger = Ledger(engine, actor="old")
    write(ledger, *"abc")
    seal(ledger)
    write(ledger, "d")
    ledger.close()


def test_a_sealed_trail_survives_the_upgrade(ledger_url: str) -> None:
    """The hashes of events that were sealed before must not depend on the version that looks."""
    old_ledger(ledger_url)
    ledger = open_ledger(ledger_url, actor="new")
    with ledger.engine.connect() as connection:
        assert current(connection) == head()
    found = verify(ledger)
    assert (found.faults, found.sealed, found.unsealed) == ((), 3, 1)
    write(ledger, "e")
    assert seal(ledger) == 2
    assert [event["actor"] for event in events(ledger)] == ["old"] * 4 + ["new"]
    assert verify(ledger).faults == ()
    ledger.close()


def test_the_new_table_is_append_only(ledger_url: str) -> None:
    """Also on a ledger that was upgraded, not only on a new one."""
    old_ledger(ledger_url)
    ledger = open_ledger(ledger_url)
    with ledger.transaction() as transaction:
        transaction.execute(sa.insert(schema.audit_checkpoint).values(seq=1, event_id=1, hash="x", at=transaction.now))
    for statement in ("update audit_checkpoint set hash = 'y'", "delete from audit_checkpoint"):
        with pytest.raises(DBAPIError, match="append-only"), ledger.engine.begin() as connection:
            connection.execute(sa.text(statement))
    ledger.close()
