"""The audit trail's seal: one hash chain over all events, written by one sealer apart from the writers.

Events are written unsealed in the transaction of the change they report. The sealer appends (seq, event, previous
hash, hash) under a lock it does not wait for. On PostgreSQL ids are given out before they are committed, so only events
older than the oldest running transaction are sealed; otherwise a late one would be missing from its place for ever.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa

from mlc_dagster.ledger.database import Ledger, Row, Transaction
from mlc_dagster.ledger.schema import audit_chain, audit_event
from mlc_dagster.ledger.types import UTC_FORMAT, canonical_json

GENESIS = "0" * 64
_LOCK = 0x6D6C6373  # "mlcs"
_CHUNK = 5_000


@dataclass(frozen=True)
class Verification:
    """What a walk along the chain found."""

    sealed: int
    unsealed: int
    fault: str | None
    """The first place where the trail does not hold, in words; None when it holds."""
    head: str = GENESIS
    """Hash of the last link that holds. Kept elsewhere, it shows later that the chain up to here was not rebuilt."""


def event_hash(previous: str, row: Row) -> str:
    """SHA-256 over the link before and the event in canonical JSON, hex."""
    content = {
        "id": row["id"],
        "at": row["at"].strftime(UTC_FORMAT),
        "actor": row["actor"],
        "kind": row["kind"],
        "subject": row["subject"],
        "detail": row["detail"],
    }
    return hashlib.sha256((previous + canonical_json(content)).encode()).hexdigest()


def _sealable(transaction: Transaction, last: Row | None) -> tuple[sa.ColumnElement[bool], ...]:
    if transaction.connection.dialect.name != "postgresql":
        # Ids commit in order here: one below the last sealed was put in later, and must not become part of the chain.
        return (audit_event.c.id > (last["event_id"] if last else 0),)
    # By absence from the chain, not by id: ids may commit out of order. And only rows whose inserting transaction is
    # older than every running one: nothing can still commit before them.
    oldest = "audit_event.xmin::text::bigint < (txid_snapshot_xmin(txid_current_snapshot()) & 4294967295)"
    return (sa.literal_column(oldest, sa.Boolean()), ~sa.exists().where(audit_chain.c.event_id == audit_event.c.id))


def seal(ledger: Ledger) -> int:
    """Append all sealable events to the chain; returns how many. Another sealer at work: 0, without waiting."""
    sealed = 0
    while True:
        with ledger.transaction() as transaction:
            if transaction.connection.dialect.name == "postgresql":
                got = transaction.connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))).scalar()
                if not got:
                    return sealed
            last = transaction.row(sa.select(audit_chain).order_by(audit_chain.c.seq.desc()).limit(1))
            seq, previous = (last["seq"], last["hash"]) if last else (0, GENESIS)
            statement = (
                sa.select(audit_event).where(*_sealable(transaction, last)).order_by(audit_event.c.id).limit(_CHUNK)
            )
            links: list[dict[str, Any]] = []
            for row in transaction.rows(statement):
                seq += 1
                link = event_hash(previous, cast("Row", dict(row)))
                links.append({"seq": seq, "event_id": row["id"], "previous_hash": previous, "hash": link})
                previous = link
            if links:
                transaction.execute(sa.insert(audit_chain), links)
            sealed += len(links)
            if len(links) < _CHUNK:
                return sealed


def verify(ledger: Ledger) -> Verification:
    """Walk the whole chain; reports the first event that was changed, removed, inserted or reordered."""
    with ledger.reading() as reading:
        total = int(reading.value(sa.select(sa.func.count()).select_from(audit_event)))
        statement = (
            sa.select(audit_chain.c.seq, audit_chain.c.event_id, audit_chain.c.previous_hash, audit_chain.c.hash)
            .add_columns(*audit_event.c)
            .select_from(audit_chain.outerjoin(audit_event, audit_event.c.id == audit_chain.c.event_id))
            .order_by(audit_chain.c.seq)
            .execution_options(yield_per=_CHUNK)
        )
        previous, expected = GENESIS, 0
        for row in reading.connection.execute(statement).mappings():
            expected += 1
            seq = row["seq"]
            fault: str | None = None
            if seq != expected:
                fault = f"link {expected} is missing: the chain goes on with {seq}"
            elif row["id"] is None:
                fault = f"event {row['event_id']} (link {seq}) was removed"
            elif row["previous_hash"] != previous:
                fault = f"link {seq} does not follow link {seq - 1}: links were changed or reordered"
            elif event_hash(previous, cast("Row", dict(row))) != row["hash"]:
                fault = f"event {row['event_id']} (link {seq}, {row['kind']} of {row['subject']}) was changed"
            if fault:
                return Verification(expected - 1, total - expected + 1, fault, previous)
            previous = row["hash"]
        return Verification(expected, total - expected, _inserted(reading), previous)


def _inserted(reading: Transaction) -> str | None:
    """An event that was put between sealed ones. Only SQLite can tell: on PostgreSQL an honest one may commit late."""
    if reading.connection.dialect.name == "postgresql":
        return None
    statement = sa.select(sa.func.min(audit_event.c.id)).where(
        audit_event.c.id < sa.select(sa.func.max(audit_chain.c.event_id)).scalar_subquery(),
        ~sa.exists().where(audit_chain.c.event_id == audit_event.c.id),
    )
    found = reading.value(statement)
    return None if found is None else f"event {found} was inserted among sealed ones"
