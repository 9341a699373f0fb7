"""Known record versions: what the ledger has of each record for a feed, and what a build compares readings with.

Reading only; new versions are written by ``versions``.
"""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.exported import RecordState
from mlc_dagster.ledger.extracts import chunks
from mlc_dagster.ledger.schema_outbound import exported_file, exported_record

ON_ITS_WAY = (str(RecordState.PENDING), str(RecordState.SENT))


@dataclass(frozen=True, slots=True)
class Known:
    """One version of a record as the ledger has it; without its content."""

    id: int
    version: int
    change: str
    state: RecordState
    content_sha256: str
    standing: str | None
    extract_id: int
    read_at: dt.datetime
    reason: str | None
    text: str | None


_KNOWN = tuple(entry.name for entry in fields(Known))


@dataclass(frozen=True, slots=True)
class Latest:
    """What the ledger has of a record for a feed: its newest version, and what the partner has or is about to get."""

    newest: Known
    delivered: Known | None


def latest_versions(transaction: Transaction, feed: str, record_ids: Collection[str]) -> dict[str, Latest]:
    """What the ledger has of each of these records; those it has nothing of are absent."""
    columns = [exported_record.c[name] for name in ("record_id", *_KNOWN)]
    found: dict[str, Latest] = {}
    for chunk in chunks(record_ids):
        statement = (
            sa.select(*columns)
            .where(exported_record.c.feed == feed, exported_record.c.record_id.in_(chunk))
            .order_by(exported_record.c.version)
        )
        for row in transaction.rows(statement):
            record_id = str(row["record_id"])
            values: dict[str, Any] = {name: row[name] for name in _KNOWN}
            values["state"] = RecordState(row["state"])
            known = Known(**values)
            before = found.get(record_id)
            delivered = known if known.state in ON_ITS_WAY else before.delivered if before else None
            found[record_id] = Latest(known, delivered)
    return found


def leftovers(transaction: Transaction, feed: str) -> list[Row]:
    """Versions that are tried again without being read again: the newest of their record, and held or given up."""
    later = exported_record.alias("later")
    newer = sa.exists().where(
        later.c.feed == exported_record.c.feed,
        later.c.record_id == exported_record.c.record_id,
        later.c.version > exported_record.c.version,
    )
    return transaction.rows(
        sa.select(exported_record)
        .where(
            exported_record.c.feed == feed,
            exported_record.c.state.in_([str(RecordState.HELD), str(RecordState.ABANDONED)]),
            ~newer,
        )
        .order_by(exported_record.c.id)
    )


def contents(transaction: Transaction, row_ids: Collection[int]) -> dict[int, bytes]:
    """Stored contents by the versions' keys; those without are absent."""
    found: dict[int, bytes] = {}
    for chunk in chunks(row_ids):
        rows = transaction.rows(
            sa.select(exported_record.c.id, exported_record.c.content).where(
                exported_record.c.id.in_(chunk), exported_record.c.content.is_not(None)
            )
        )
        found.update({row["id"]: bytes(row["content"]) for row in rows})
    return found


def file_named(transaction: Transaction, feed: str, name: str) -> int | None:
    """The feed's file of this name, by key; given-up ones count."""
    found: int | None = transaction.value(
        sa.select(exported_file.c.id).where(exported_file.c.feed == feed, exported_file.c.name == name)
    )
    return found
