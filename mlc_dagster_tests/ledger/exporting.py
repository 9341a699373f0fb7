"""A feed and its files for the ledger's tests: committed through the ledger's own function, delivered by nobody."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from mlc_dagster.ledger import feeds, versions
from mlc_dagster.ledger.database import Ledger, Row, Transaction
from mlc_dagster.ledger.exported import file_row
from mlc_dagster.ledger.versions import HeldVersion, NewFile, NewVersion
from mlc_dagster_tests.ledger.population import WINDOW

FEED = "partner"
LEASE = dt.timedelta(seconds=60)
SHA = "a" * 64


def new_version(record_id: str, version: int = 1, **changes: Any) -> NewVersion:
    fields: dict[str, Any] = {
        "record_id": record_id,
        "version": version,
        "change": "NEW",
        "content_sha256": SHA,
        "content": None,
        "standing": None,
        "extract_id": 1,
        "read_at": WINDOW,
        "last_update_date": WINDOW,
        "position": 1,
        "set_control": None,
        "bytes": 10,
        "sha256": SHA,
    }
    return NewVersion(**(fields | changes))


def held_version(record_id: str, version: int = 1, **changes: Any) -> HeldVersion:
    fields: dict[str, Any] = {
        "record_id": record_id,
        "version": version,
        "change": "NEW",
        "reason": "OVERFLOW",
        "text": "too long",
        "content_sha256": SHA,
        "content": b"{}",
        "standing": None,
        "reading": {},
        "extract_id": 1,
        "read_at": WINDOW,
        "last_update_date": None,
    }
    return HeldVersion(**(fields | changes))


def new_file(sequence: int, records: Sequence[NewVersion] = (), **changes: Any) -> NewFile:
    fields: dict[str, Any] = {
        "sequence": sequence,
        "name": f"file-{sequence}.txt",
        "directory": "/in",
        "sha256": SHA,
        "bytes": 10,
        "documents": len(records),
        "rows": len(records),
        "totals": {"amount USD": Decimal("12.30")},
        "counts": {},
        "layout": "plain",
        "layout_version": "1",
        "layout_sha256": SHA,
        "window_start": WINDOW,
        "window_end": WINDOW + dt.timedelta(minutes=15),
        "versions": records,
    }
    return NewFile(**(fields | changes))


def open_feed(ledger: Ledger, owner: str = "otherhost|boot/ns|4242|99", name: str = FEED) -> int:
    """The feed, leased; the fence."""
    with ledger.transaction() as transaction:
        feeds.ensure_feed(transaction, name, "invoices")
        return feeds.take_feed(transaction, name, owner, LEASE)


def commit(ledger: Ledger, fence: int, *files: NewFile, **more: Any) -> list[int]:
    with ledger.transaction() as transaction:
        return commit_in(transaction, fence, *files, **more)


def commit_in(transaction: Transaction, fence: int, *files: NewFile, **more: Any) -> list[int]:
    held = more.pop("held", ())
    extract_id = more.pop("extract_id", None)
    until = more.pop("delivered_until", None)
    return versions.commit_files(transaction, FEED, files, held, extract_id, until, fence=fence, **more)


def file_of(ledger: Ledger, file_id: int) -> Row:
    with ledger.reading() as reading:
        row = file_row(reading, file_id)
    assert row is not None
    return row
