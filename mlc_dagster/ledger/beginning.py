"""A feed that begins anew for another partner: what was delivered to the first one counts as delivered no more.

The files and their history stay as they are, and numbers go on. Which partner that is, is ``places``'.
"""

from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.approval import Decision
from mlc_dagster.ledger.database import LedgerError, Transaction
from mlc_dagster.ledger.exported import RecordState
from mlc_dagster.ledger.feeds import feed_row
from mlc_dagster.ledger.retention_items import Kind
from mlc_dagster.ledger.schema_outbound import exported_record, extract, source_record
from mlc_dagster.ledger.schema_retention import erased_payload


def begin_anew(
    transaction: Transaction,
    feed: str,
    source: str,
    decision: Decision,
    *,
    before: dict[str, Any],
    after: dict[str, Any],
) -> int:
    """Make every delivered record of the feed one that is sent again, as new; the number of records.

    Args:
        transaction: the change and its event are part of it.
        feed: the feed, held by the caller, with no file that waits.
        source: what its records are of.
        decision: who decides it, and why.
        before: where its files went so far, for the event.
        after: where they go now.

    Raises:
        LedgerError: what it sent was read in extracts that were erased.
    """
    # Beside an erasure that is under way: one of both sees the other.
    feed_row(transaction, feed, lock=True)
    _refuse_erased(transaction, feed)
    sent = exported_record.alias("sent")
    was_sent = sa.exists().where(
        sent.c.feed == exported_record.c.feed,
        sent.c.record_id == exported_record.c.record_id,
        sent.c.state == str(RecordState.SENT),
    )
    _take_latest_reading(transaction, feed, source, was_sent)
    count = transaction.value(
        sa.select(sa.func.count(sa.distinct(exported_record.c.record_id))).where(
            exported_record.c.feed == feed, exported_record.c.state == str(RecordState.SENT)
        )
    )
    transaction.execute(
        sa.update(exported_record)
        .where(exported_record.c.feed == feed, exported_record.c.state == str(RecordState.SENT))
        .values(state=str(RecordState.ABANDONED))
    )
    decision.record(
        transaction, "export.restarted", f"feed:{feed}", before=before, after=after, records=int(count or 0)
    )
    return int(count or 0)


def _refuse_erased(transaction: Transaction, feed: str) -> None:
    """What is sent again is read from its extract: without it the feed would stand still for ever."""
    count = transaction.value(
        sa.select(sa.func.count(sa.distinct(exported_record.c.record_id)))
        .join(
            erased_payload,
            sa.and_(
                erased_payload.c.kind == str(Kind.EXTRACT),
                erased_payload.c.item == sa.cast(exported_record.c.extract_id, sa.Text),
            ),
        )
        .where(exported_record.c.feed == feed, exported_record.c.state == str(RecordState.SENT))
    )
    if count:
        raise LedgerError(
            f"feed {feed}: {count} of its records cannot be sent again, because the extracts that they were read in "
            "were erased (retention.extracts in mlc.yaml); give the other partner a feed of its own with a start: "
            "after them. Nothing was changed"
        )


def _take_latest_reading(transaction: Transaction, feed: str, source: str, was_sent: "sa.ColumnElement[bool]") -> None:
    """What is sent is a record's latest reading, where that of its newest version is not the one to send.

    It was held once and made pointless later; or it was entered after a restore, and what it was read in is lost.
    """
    later = exported_record.alias("later")
    newer = sa.exists().where(
        later.c.feed == exported_record.c.feed,
        later.c.record_id == exported_record.c.record_id,
        later.c.version > exported_record.c.version,
    )
    rows = transaction.rows(
        sa.select(exported_record.c.id, source_record.c.content_sha256, source_record.c.extract_id, extract.c.read_at)
        .join(
            source_record,
            sa.and_(source_record.c.source == source, source_record.c.record_id == exported_record.c.record_id),
        )
        .join(extract, extract.c.id == source_record.c.extract_id)
        .where(
            exported_record.c.feed == feed,
            sa.or_(exported_record.c.state == str(RecordState.SUPERSEDED), exported_record.c.extract_id == 0),
            ~newer,
            was_sent,
        )
    )
    for row in rows:
        transaction.execute(
            sa.update(exported_record)
            .where(exported_record.c.id == row["id"])
            .values(
                state=str(RecordState.ABANDONED), content_sha256=row["content_sha256"], extract_id=row["extract_id"],
                read_at=row["read_at"], content=None, reading=sa.null(), reason=None, text=None,
            )
        )  # fmt: skip
