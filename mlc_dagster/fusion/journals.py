"""General ledger journals (``journalBatches``, children ``journalHeaders`` and ``journalLines``).

A batch is what Fusion lists and dates, a journal is what is exported: each journal of a batch is a record of its own.
Headers and lines have opaque keys. A header's running totals prove that its lines are all there.
"""

import datetime as dt
from decimal import Decimal, Inexact
from typing import Any

import msgspec

from mlc_dagster.fusion.canonical import Record
from mlc_dagster.fusion.documents import Node, Source
from mlc_dagster.fusion.errors import ResponseInvalid
from mlc_dagster.fusion.journal_lines import JournalLine, JournalLines
from mlc_dagster.fusion.levels import Level, journal_lines, latest
from mlc_dagster.fusion.records import Journal, Read
from mlc_dagster.fusion.wire import instant, money

NAME = "journals"


class _Batch(Record, frozen=True, kw_only=True):
    """What a journal has from its batch."""

    batch_id: int = msgspec.field(name="JeBatchId")
    batch_name: str | None = None
    batch_description: str | None = None
    status: str | None = None
    balance_type: str | None = msgspec.field(default=None, name="ActualFlagMeaning")
    source: str | None = msgspec.field(default=None, name="UserJeSourceName")
    posted_date: dt.date | None = None
    journals: tuple[Journal, ...] = msgspec.field(default=(), name="journalHeaders")


def _totals_differ(header: Any, lines: JournalLines) -> str | None:
    dr, cr = money(header.running_total_dr), money(header.running_total_cr)
    try:
        if dr is not None and dr != lines.total("entered_dr"):
            return _difference(header, len(lines), "RunningTotalDr", dr)
        if cr is not None and cr != lines.total("entered_cr"):
            return _difference(header, len(lines), "RunningTotalCr", cr)
    except Inexact:
        msg = f"amounts of journal {header.name!r} of ledger {header.ledger!r} cannot be added without rounding"
        raise ResponseInvalid(msg) from None
    # Only both sides together prove that nothing is missing.
    return None if dr is None or cr is None else ""


def _difference(header: Any, count: int, attribute: str, said: Decimal) -> str:
    return (
        f"journal {header.name!r} of ledger {header.ledger!r}: its {count} lines do not add up to its "
        f"{attribute} {said}; they are not all there, or it is being edited"
    )


LINES = Level(
    "journalLines", JournalLine, ("line_number",), "JeLineNumber:asc", packed=journal_lines, agrees=_totals_differ
)
HEADERS = Level(
    "journalHeaders",
    Journal,
    ("name", "ledger"),
    "JournalName:asc,LedgerName:asc",
    children=(LINES,),
    without=frozenset(field.name for field in msgspec.structs.fields(_Batch)),
    extra=(("running_total_dr", "RunningTotalDr", Decimal), ("running_total_cr", "RunningTotalCr", Decimal)),
)
POSTED, UNPOSTED = "P", "U"


def _posted_or_not(row: Any) -> dict[str, Any]:
    """Fusion's other codes (selected, under way, failed) come and go without the journal changing."""
    return {} if row.status is None or row.status == POSTED else {"status": UNPOSTED}


BATCHES = Level("journalBatches", _Batch, ("batch_id",), "JeBatchId:asc", children=(HEADERS,), made=_posted_or_not)


def _reads(batch: Node) -> list[Read]:
    shared = BATCHES.values(batch.row)
    created = instant(batch.row.creation_date)
    found: list[Read] = []
    for header in batch.below[HEADERS.name]:
        attributes: dict[str, Any] = {**shared, **HEADERS.values(header.row), **header.children()}
        journal = Journal(**attributes)
        dates: set[str] = header.changed()
        if batch.row.last_update_date:
            dates.add(batch.row.last_update_date)
        found.append(
            Read(
                source=NAME,
                record_id=journal.record_id,
                fusion_id=journal.batch_id,
                content=journal,
                last_update_date=latest(dates),
                creation_date=instant(header.row.creation_date) or created,
            )
        )
    return found


JOURNALS = Source(NAME, BATCHES, "JeBatchId", _reads)
