"""Temporary files on a partner's server that a restored ledger had forgotten, until they are gone.

What belongs here: remembering which ones wait for the end of their file. What does not: that they are ours, and
removing them, which is ``exports.leftovers``'s.
"""

import json
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.feeds import feed_row
from mlc_dagster.ledger.schema import ledger_setting

Waiting = tuple[int, str]
"""Number of the file, remote path."""


def leftovers_of(transaction: Transaction, feed: str) -> list[Waiting]:
    """Those that wait."""
    name = _name(feed)
    found: str | None = transaction.value(sa.select(ledger_setting.c.value).where(ledger_setting.c.name == name))
    return [(int(sequence), str(path)) for sequence, path in json.loads(found or "[]")]


def note_leftovers(transaction: Transaction, feed: str, sequence: int, paths: Sequence[str]) -> None:
    """They wait for the end of this file."""
    feed_row(transaction, feed, lock=True)
    known = leftovers_of(transaction, feed)
    _keep(transaction, feed, dict.fromkeys([*known, *((sequence, path) for path in paths)]))
    transaction.audit("export.leftovers_wait", f"feed:{feed}", sequence=sequence, paths=list(paths))


def end_leftovers(transaction: Transaction, feed: str, gone: Sequence[Waiting], *, removed: Sequence[str]) -> None:
    """They wait no more. ``removed`` are those that lay there."""
    feed_row(transaction, feed, lock=True)
    _keep(transaction, feed, (each for each in leftovers_of(transaction, feed) if each not in gone))
    transaction.audit(
        "export.leftovers_removed", f"feed:{feed}", removed=list(removed), files=sorted({each[0] for each in gone})
    )


def _keep(transaction: Transaction, feed: str, waiting: Iterable[Waiting]) -> None:
    transaction.upsert(ledger_setting, [{"name": _name(feed), "value": json.dumps(list(waiting))}])


def _name(feed: str) -> str:
    return f"leftovers/{feed}"
