"""Documents of Fusion that could not be read: which, since when, and why.

What belongs here: remembering them until they can be read, or are gone. What does not: reading them (``exports``).
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.extracts import chunks
from mlc_dagster.ledger.schema_outbound import unreadable_document

_LONGEST = 2000


class Ending(StrEnum):
    READ = "READ"
    """It could be read again, and went its normal way."""
    GONE = "GONE"
    """Fusion has no such document any more."""


def note_unreadable(transaction: Transaction, source: str, found: Mapping[int, str]) -> None:
    """Documents that could not be read just now, by Fusion's id, each with what is wrong with it."""
    known = _rows(transaction, source, found)
    for fusion_id, text in sorted(found.items()):
        before = known.get(fusion_id)
        again = before is not None and before["ended_at"] is None
        values: dict[str, Any] = {"last_seen": transaction.now, "text": text[:_LONGEST]}
        if before is None:
            transaction.execute(
                sa.insert(unreadable_document).values(
                    source=source, fusion_id=fusion_id, first_seen=transaction.now, attempts=1, **values
                )
            )
        else:
            fresh = {"first_seen": transaction.now, "attempts": 1, "ended_at": None, "ending": None}
            _update(
                transaction, source, [fusion_id], values | ({"attempts": before["attempts"] + 1} if again else fresh)
            )
        if before is None or not again or before["text"] != values["text"]:
            transaction.audit("document.unreadable", _subject(source, fusion_id), text=values["text"])


def settle(transaction: Transaction, source: str, fusion_ids: Collection[int], ending: Ending) -> None:
    """Of these documents those that could not be read before are done with."""
    open_ones = [key for key, row in _rows(transaction, source, fusion_ids).items() if row["ended_at"] is None]
    _update(transaction, source, open_ones, {"ended_at": transaction.now, "ending": str(ending)})
    for fusion_id in sorted(open_ones):
        transaction.audit("document.settled", _subject(source, fusion_id), ending=str(ending))


def unreadable_documents(transaction: Transaction, source: str | None = None) -> list[Row]:
    """Those that still cannot be read, of one source or of all, the oldest first."""
    table = unreadable_document.c
    statement = sa.select(unreadable_document).where(table.ended_at.is_(None))
    if source is not None:
        statement = statement.where(table.source == source)
    return transaction.rows(statement.order_by(table.first_seen, table.source, table.fusion_id))


def _subject(source: str, fusion_id: int) -> str:
    return f"document:{source}/{fusion_id}"


def _rows(transaction: Transaction, source: str, fusion_ids: Collection[int]) -> dict[int, Row]:
    found: dict[int, Row] = {}
    for chunk in chunks(fusion_ids):
        rows = transaction.rows(
            sa.select(unreadable_document).where(
                unreadable_document.c.source == source, unreadable_document.c.fusion_id.in_(chunk)
            )
        )
        found.update({int(row["fusion_id"]): row for row in rows})
    return found


def _update(transaction: Transaction, source: str, fusion_ids: Collection[int], values: Mapping[str, Any]) -> None:
    for chunk in chunks(fusion_ids):
        transaction.execute(
            sa.update(unreadable_document)
            .where(unreadable_document.c.source == source, unreadable_document.c.fusion_id.in_(chunk))
            .values(**values)
        )
