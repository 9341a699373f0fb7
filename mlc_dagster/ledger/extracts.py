"""Extracts: what was read of a source, when, and where its bytes are; and the latest known reading of each record.

The bytes themselves are in the archive, by hash. What became of an extract in a feed's files is in ``versions``.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Iterator
from itertools import islice, takewhile
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.schema_outbound import extract, source_record

T = TypeVar("T")
CHUNK = 500
"""Values of one ``IN`` list, rows of one insert."""


class Reading(NamedTuple):
    """The latest known reading of a record."""

    content_sha256: str
    extract_id: int


def chunks(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """The values in lists of at most ``size``."""
    remaining = iter(values)
    while chunk := list(islice(remaining, size)):
        yield chunk


def record_extract(
    transaction: Transaction,
    *,
    source: str,
    kind: str,
    window_start: dt.datetime,
    window_end: dt.datetime,
    read_from: dt.datetime,
    read_at: dt.datetime,
    sha256: str,
    bytes_: int,
    records: int,
    lines: int,
    requests: int,
    run_id: str | None,
) -> int:
    """Enter an extract whose bytes are in the archive; its id.

    Args:
        transaction: the entry is part of it.
        source: journals, invoices, purchase_orders or suppliers.
        kind: WINDOWS, LOOK_BACK or SWEEP.
        window_start: start of the first window that it closes (WINDOWS), or of the range that was asked for.
        window_end: end of the last one.
        read_from: from when on Fusion was asked, with the overlap.
        read_at: Fusion's own time when the read began.
        sha256: of the extract's file.
        bytes_: of the extract's file.
        records: whole records in it.
        lines: their lines.
        requests: what it cost.
        run_id: the run that read it.
    """
    key = transaction.insert(
        extract,
        source=source,
        kind=kind,
        window_start=window_start,
        window_end=window_end,
        read_from=read_from,
        read_at=read_at,
        sha256=sha256,
        bytes=bytes_,
        records=records,
        lines=lines,
        requests=requests,
        run_id=run_id,
        created_at=transaction.now,
    )
    transaction.audit(
        "extract.read", f"extract:{key}", source=source, work=kind, window_start=window_start.isoformat(),
        window_end=window_end.isoformat(), read_from=read_from.isoformat(), read_at=read_at.isoformat(), sha256=sha256,
        records=records, lines=lines, requests=requests,
    )  # fmt: skip
    return key


def read_until(transaction: Transaction, source: str) -> dt.datetime | None:
    """End of the last window of the source that was read; None before the first read."""
    last = last_of_kind(transaction, source, "WINDOWS", by=extract.c.window_end)
    return None if last is None else last["window_end"]


def read_since(transaction: Transaction, source: str) -> dt.datetime | None:
    """Beginning of the first window of the source that was read; None before the first read.

    Between it and ``read_until`` there is no window that was not.
    """
    statement = sa.select(sa.func.min(extract.c.window_start)).where(
        extract.c.source == source, extract.c.kind == "WINDOWS"
    )
    return transaction.value(statement)


def last_of_kind(transaction: Transaction, source: str, kind: str, *, by: "sa.Column[Any] | None" = None) -> Row | None:
    """The latest extract of a kind, by id unless told otherwise."""
    order = extract.c.id if by is None else by
    return transaction.row(
        sa.select(extract).where(extract.c.source == source, extract.c.kind == kind).order_by(order.desc()).limit(1)
    )


def first_extract(transaction: Transaction, source: str) -> Row | None:
    """The source's first read of all."""
    return transaction.row(sa.select(extract).where(extract.c.source == source).order_by(extract.c.id).limit(1))


def extracts_after(transaction: Transaction, source: str, extract_id: int, *, until: dt.datetime | None) -> list[Row]:
    """Extracts that a feed at this position takes next, in the order of reading.

    With ``until``, it stops before the first that reaches beyond: a feed's position is one number, so none may be
    skipped.
    """
    rows = transaction.rows(
        sa.select(extract).where(extract.c.source == source, extract.c.id > extract_id).order_by(extract.c.id)
    )
    return rows if until is None else list(takewhile(lambda row: row["window_end"] <= until, rows))


def extracts_covering(transaction: Transaction, source: str, start: dt.datetime, end: dt.datetime) -> list[Row]:
    """Extracts that closed a window in ``[start, end)``, in the order of reading."""
    return transaction.rows(
        sa.select(extract)
        .where(
            extract.c.source == source,
            extract.c.kind == "WINDOWS",
            extract.c.window_start < end,
            extract.c.window_end > start,
        )
        .order_by(extract.c.id)
    )


def extracts_of_windows(
    transaction: Transaction, source: str, start: dt.datetime, end: dt.datetime, *, up_to: int
) -> list[Row]:
    """Extracts of every kind that reach into ``[start, end)``, in the order of reading, as far as this one."""
    return transaction.rows(
        sa.select(extract)
        .where(
            extract.c.source == source,
            extract.c.window_start < end,
            extract.c.window_end > start,
            extract.c.id <= up_to,
        )
        .order_by(extract.c.id)
    )


def extract_row(transaction: Transaction, extract_id: int) -> Row | None:
    """The extract, or None."""
    return transaction.row(sa.select(extract).where(extract.c.id == extract_id))


def newest_extracts(transaction: Transaction, source: str) -> list[Row]:
    """Every extract of the source that still holds the latest reading of some record, newest first."""
    holding = sa.select(source_record.c.extract_id).where(source_record.c.source == source).distinct()
    return transaction.rows(sa.select(extract).where(extract.c.id.in_(holding)).order_by(extract.c.id.desc()))


def remember_records(
    transaction: Transaction, source: str, extract_id: int, rows: Iterable[tuple[str, int, str, dt.datetime | None]]
) -> None:
    """Keep what this extract says of each record as its latest reading: (record id, Fusion's id, hash, date)."""
    for chunk in chunks(rows, 2000):
        transaction.upsert(
            source_record,
            [
                {
                    "source": source,
                    "record_id": record_id,
                    "fusion_id": fusion_id,
                    "content_sha256": sha256,
                    "last_update_date": last_update_date,
                    "extract_id": extract_id,
                }
                for record_id, fusion_id, sha256, last_update_date in chunk
            ],
        )


def known_since(transaction: Transaction, source: str, fusion_ids: Collection[int]) -> dict[int, dt.datetime | None]:
    """Latest date under which each of these top-level rows was read; those never read are absent."""
    known: dict[int, dt.datetime | None] = {}
    for chunk in chunks(fusion_ids):
        rows = transaction.rows(
            sa.select(source_record.c.fusion_id, sa.func.max(source_record.c.last_update_date).label("latest"))
            .where(source_record.c.source == source, source_record.c.fusion_id.in_(chunk))
            .group_by(source_record.c.fusion_id)
        )
        known.update({int(row["fusion_id"]): row["latest"] for row in rows})
    return known


def latest_readings(transaction: Transaction, source: str, record_ids: Collection[str]) -> dict[str, Reading]:
    """The latest known reading of each of these records; those never read are absent."""
    found: dict[str, Reading] = {}
    columns = (source_record.c.record_id, source_record.c.content_sha256, source_record.c.extract_id)
    for chunk in chunks(record_ids):
        rows = transaction.rows(
            sa.select(*columns).where(source_record.c.source == source, source_record.c.record_id.in_(chunk))
        )
        found.update({row["record_id"]: Reading(row["content_sha256"], row["extract_id"]) for row in rows})
    return found


def known_digests(transaction: Transaction, source: str, record_ids: Collection[str]) -> dict[str, str]:
    """Hash of the latest known content of each of these records."""
    readings = latest_readings(transaction, source, record_ids)
    return {record_id: reading.content_sha256 for record_id, reading in readings.items()}
