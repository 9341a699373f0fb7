"""A sealed trail with signed checkpoints in a second place, for the tests of the audit trail."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.audit import seal
from mlc_dagster.ledger.audit_sealing import make_checkpoints
from mlc_dagster.ledger.checkpoints import CheckpointFile, Checkpointing, KeyRing, SigningKey
from mlc_dagster.ledger.database import Ledger
from mlc_dagster_tests.ledger.population import WINDOW, drop_guards

EVERY = 3
APPROVAL = Approval(by="Ada Lovelace", approved_by="Grace Hopper", reason="the key was made today")


def checkpointing(
    folder: Path, *, every: int = EVERY, key: SigningKey | None = None, signed: bool = True
) -> Checkpointing:
    """A second place in ``folder``, with a key of its own unless ``signed`` is False."""
    if signed and key is None:
        key = SigningKey.generate()
    ring = KeyRing([] if key is None else [key.public_key])
    return Checkpointing(CheckpointFile(folder / "second-place"), every, key, ring)


def write(ledger: Ledger, *subjects: str) -> None:
    with ledger.transaction() as transaction:
        for subject in subjects:
            transaction.audit("test.happened", subject, amount="12.50", name="Müller & Söhne")


def seal_with(ledger: Ledger, place: Checkpointing, *subjects: str) -> int:
    """Write events, seal them, make the checkpoints that are due; how many checkpoints."""
    write(ledger, *subjects)
    seal(ledger)
    return make_checkpoints(ledger, place)


def tamper(ledger: Ledger, *statements: str, **values: Any) -> None:
    """Change the trail as somebody does who owns the database."""
    drop_guards(ledger)
    with ledger.engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement), values)


def give_numbers_back(ledger: Ledger) -> None:
    """After the newest events were deleted: as if their ids had never been given."""
    if ledger.engine.dialect.name == "sqlite":
        with ledger.engine.begin() as connection:
            connection.execute(
                sa.text("update sqlite_sequence set seq = (select max(id) from audit_event) where name = 'audit_event'")
            )


def copy_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it can be inserted again."""
    return {name: value.astimezone(dt.UTC) if isinstance(value, dt.datetime) else value for name, value in row.items()}


def insert_event(connection: sa.Connection, event_id: int) -> None:
    connection.execute(
        sa.insert(schema.audit_event).values(
            id=event_id, at=WINDOW - dt.timedelta(days=1), actor="nobody", kind="made.up", subject="x", detail={}
        )
    )
