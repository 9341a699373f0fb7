"""A file for a partner as plain values that can leave the ledger and come back: for the delivery journal.

What belongs here: reading a file whole, its records one page at a time. What does not: entering one again, which is
``adopting``'s.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa

from mlc_dagster.ledger.database import LedgerError, Row, Transaction
from mlc_dagster.ledger.feeds import feed_row
from mlc_dagster.ledger.schema_outbound import control_number, exported_file, exported_record, extract

FROZEN = (
    "sequence", "name", "directory", "sha256", "bytes", "documents", "rows", "totals", "counts", "layout",
    "layout_version", "layout_sha256", "partner", "controls", "companions", "window_start", "window_end", "created_at",
)  # fmt: skip
"""Columns of a file that do not change once it is built."""
RECORD_FIELDS = (
    "record_id", "version", "change", "content_sha256", "standing", "extract_id", "read_at", "last_update_date",
    "position", "set_control",
)  # fmt: skip
EXTRACT_FIELDS = ("kind", "window_start", "window_end", "read_from", "read_at", "sha256", "bytes", "records", "lines")

_PAGE = 1000


def file_of(reading: Transaction, file_id: int) -> Row:
    """The file; raises LedgerError when there is none."""
    row = reading.row(sa.select(exported_file).where(exported_file.c.id == file_id))
    if row is None:
        msg = f"there is no exported file number {file_id}"
        raise LedgerError(msg)
    return row


def description(reading: Transaction, file: Row) -> dict[str, Any]:
    """All of a file but its records: its columns, the serials of its control numbers, the extracts it was made of."""
    companions = cast("Sequence[Mapping[str, Any]]", file["companions"])
    columns = {name: _plain(file[name]) for name in FROZEN}
    # How far each has come is the ledger's business alone.
    columns["companions"] = [{key: each[key] for key in ("kind", "name", "sha256", "bytes")} for each in companions]
    numbers = reading.rows(
        sa.select(control_number.c.level, control_number.c.serial)
        .where(control_number.c.file_id == file["id"])
        .order_by(control_number.c.level, control_number.c.serial)
    )
    serials: dict[str, list[int]] = {}
    for row in numbers:
        serials.setdefault(str(row["level"]), []).append(int(row["serial"]))
    used = sa.select(exported_record.c.extract_id).where(exported_record.c.file_id == file["id"]).distinct()
    extracts = reading.rows(sa.select(extract).where(extract.c.id.in_(used)))
    return {
        "feed": file["feed"],
        "source": feed_row(reading, file["feed"])["source"],
        "file": columns,
        "serials": serials,
        "extracts": {str(row["id"]): {name: _plain(row[name]) for name in EXTRACT_FIELDS} for row in extracts},
    }


def iter_records(reading: Transaction, file_id: int) -> Iterator[list[Any]]:
    """The file's record versions, ``RECORD_FIELDS`` each; a page at a time, so that no file is too long."""
    columns = [exported_record.c.id, *(exported_record.c[name] for name in RECORD_FIELDS)]
    after = 0
    while True:
        page = reading.rows(
            sa.select(*columns)
            .where(exported_record.c.file_id == file_id, exported_record.c.id > after)
            .order_by(exported_record.c.id)
            .limit(_PAGE)
        )
        for row in page:
            yield [_plain(row[name]) for name in RECORD_FIELDS]
        if len(page) < _PAGE:
            return
        after = page[-1]["id"]


def behind_journal(reading: Transaction, feed: str, after: int) -> Iterator[Row]:
    """The feed's files after this sequence number that were begun or have ended, in order."""
    while True:
        page = reading.rows(
            sa.select(exported_file)
            .where(
                exported_file.c.feed == feed,
                exported_file.c.sequence > after,
                sa.or_(exported_file.c.attempts > 0, exported_file.c.ended_at.is_not(None)),
            )
            .order_by(exported_file.c.sequence)
            .limit(_PAGE)
        )
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1]["sequence"]


def file_at(reading: Transaction, feed: str, sequence: int) -> Row | None:
    """The feed's file of this number, or None."""
    return reading.row(
        sa.select(exported_file).where(exported_file.c.feed == feed, exported_file.c.sequence == sequence)
    )


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.datetime) else value
