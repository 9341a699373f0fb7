"""Files that are done with, until they have left the partner's server.

What belongs here: which ones still lie there, whose turn it is to put them away, since when that fails, and the notes
that one lies there no more, or another one in its place. What does not: archiving or deleting them
(``stampli.disposing``).
"""

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.files import FileState
from mlc_dagster.ledger.process import process_is_gone
from mlc_dagster.ledger.schema import ledger_setting, source_file, window_run

DONE_STATES = (FileState.READ, FileState.SAME_BYTES, FileState.REJECTED)
"""Nothing more is done with such a file; it may leave the server."""
_MOST_FAILING = 1_000
"""Files of which it is kept since when they fail; the oldest ones tell enough."""


class Failing(msgspec.Struct, frozen=True):
    """A file that could not be put away."""

    since: dt.datetime
    """Of the first attempt that failed, UTC."""
    text: str
    """What the last attempt said."""


class DisposalState(msgspec.Struct, frozen=True):
    """How putting away gets on, over all runs and polls of a feed."""

    owner: str | None = None
    """Who is at it, as ``ledger.process`` names it, and the attempt; None when nobody is."""
    until: dt.datetime | None = None
    failed_at: dt.datetime | None = None
    """When an attempt failed last, UTC; None when the last one that met old failures cured them."""
    failing: dict[int, Failing] = {}
    """By the file's key."""


def undisposed_files(transaction: Transaction, feed: str, *, limit: int, without: Collection[int] = ()) -> list[Row]:
    """Files that are done with and neither archived nor deleted on the server yet, oldest first.

    Those whose run has not ended are left out: while it may still fail, its files stay where people look for them.

    Args:
        without: keys of files to leave out.
    """
    unfinished = sa.exists().where(
        window_run.c.feed == source_file.c.feed,
        window_run.c.window_start == source_file.c.window_start,
        window_run.c.generation == source_file.c.generation,
        window_run.c.state == "OPEN",
    )
    chosen = (*_undisposed(feed), ~unfinished, source_file.c.id.not_in(list(without)))
    return transaction.rows(sa.select(source_file).where(*chosen).order_by(source_file.c.id).limit(limit))


def count_undisposed(transaction: Transaction, feed: str) -> int:
    """How many files are done with and still lie there, those of unfinished runs among them."""
    return int(transaction.value(sa.select(sa.func.count()).select_from(source_file).where(*_undisposed(feed))))


def _undisposed(feed: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        source_file.c.feed == feed, source_file.c.state.in_([str(state) for state in DONE_STATES]),
        source_file.c.sha256.is_not(None), source_file.c.disposed_at.is_(None),
    )  # fmt: skip


def still_there(transaction: Transaction, keys: Collection[int]) -> set[int]:
    """Which of these files are not put away."""
    found: set[int] = set()
    for start in range(0, len(keys), 500):
        some = list(keys)[start : start + 500]
        statement = sa.select(source_file.c.id).where(source_file.c.id.in_(some), source_file.c.disposed_at.is_(None))
        found |= {int(row["id"]) for row in transaction.rows(statement)}
    return found


def disposed(transaction: Transaction, row: Row, how: str) -> None:
    """The file was archived or deleted on the server; ``how`` says which. What another run noted before stays."""
    ended = transaction.execute(
        sa.update(source_file)
        .where(source_file.c.id == row["id"], source_file.c.disposed_at.is_(None))
        .values(disposed_at=transaction.now)
    )
    if ended.rowcount == 1:
        transaction.audit("file.disposed", f"file:{row['feed']}:{row['path']}", file=row["id"], how=how)


def later_versions(transaction: Transaction, row: Row) -> list[Row]:
    """Versions of the same path that came after this one, oldest first."""
    later = (source_file.c.feed == row["feed"], source_file.c.path == row["path"])
    statement = sa.select(source_file).where(*later, source_file.c.version > row["version"])
    return transaction.rows(statement.order_by(source_file.c.version))


def versions_tagged(transaction: Transaction, feed: str, sha256: str, version: int) -> list[Row]:
    """Files of this version whose hash begins so."""
    tagged = (source_file.c.feed == feed, source_file.c.version == version)
    statement = sa.select(source_file).where(*tagged, source_file.c.sha256.startswith(sha256, autoescape=True))
    return transaction.rows(statement.order_by(source_file.c.id))


def hash_again(transaction: Transaction, row: Row, sha256: str) -> None:
    """Other bytes than were read stand under the name, with the same size and time: to the next poll they are new."""
    transaction.execute(
        sa.update(source_file)
        .where(
            source_file.c.feed == row["feed"], source_file.c.path == row["path"],
            *(source_file.c[name].is_not_distinct_from(row[name]) for name in ("size", "mtime")),
        )
        .values(young=True)
    )  # fmt: skip
    transaction.audit(
        "file.other_bytes", f"file:{row['feed']}:{row['path']}", file=row["id"], read=row["sha256"], found=sha256
    )


def disposal_state(transaction: Transaction, feed: str, *, lock: bool = False) -> DisposalState:
    """How it gets on; ``lock`` keeps others from changing it within this transaction."""
    statement = sa.select(ledger_setting.c.value).where(ledger_setting.c.name == _name(feed))
    kept: str | None = transaction.value(statement.with_for_update() if lock else statement)
    return DisposalState() if kept is None else msgspec.json.decode(kept, type=DisposalState)


def take_turn(transaction: Transaction, feed: str, owner: str, lease: dt.timedelta) -> dt.datetime | None:
    """Until when this process alone puts files of the feed away; None while another one is at it.

    Two at once would meet under the same hidden names: the one would delete what the other has just found to be new.
    """
    transaction.insert_ignoring(ledger_setting, {"name": _name(feed), "value": "{}"})
    before = disposal_state(transaction, feed, lock=True)
    held = before.owner is not None and before.until is not None and before.until > transaction.now
    if held and before.owner is not None and not process_is_gone(before.owner):
        return None
    until = transaction.now + lease
    _keep(transaction, feed, msgspec.structs.replace(before, owner=owner, until=until))
    return until


def end_turn(
    transaction: Transaction, feed: str, owner: str, *, tried: Collection[int], failed: Mapping[int, str]
) -> None:
    """Note what came of an attempt, and let others go on.

    Args:
        tried: keys of the files that it was about.
        failed: why those of them are still there, by key.
    """
    before = disposal_state(transaction, feed, lock=True)
    failing = {key: kept for key, kept in before.failing.items() if key not in tried}
    for key, text in failed.items():
        known = before.failing.get(key)
        failing[key] = Failing(transaction.now if known is None else known.since, text)
    oldest = sorted(failing.items(), key=lambda each: (each[1].since, each[0]))[:_MOST_FAILING]
    changes: dict[str, Any] = {"failing": dict(oldest)}
    if failed:
        changes["failed_at"] = transaction.now
    elif any(key in before.failing for key in tried):
        changes["failed_at"] = None
    if before.owner == owner:
        changes |= {"owner": None, "until": None}
    _keep(transaction, feed, msgspec.structs.replace(before, **changes))


def _name(feed: str) -> str:
    return f"disposal/{feed}"


def _keep(transaction: Transaction, feed: str, state: DisposalState) -> None:
    value = msgspec.json.encode(state).decode()
    transaction.upsert(ledger_setting, [{"name": _name(feed), "value": value}])
