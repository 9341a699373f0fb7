"""Files as the ledger knows them: sightings, versions, first contact, assignment to a window.

A file's identity is feed, path, size and mtime, then its SHA-256. There is no high-water mark: a file is new when this
identity is not in the ledger, whatever its time says.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.schema import feed as feed_table
from mlc_dagster.ledger.schema import file_sighting, source_file
from mlc_dagster.ledger.schema_retention import erased_payload

_YOUNG = 2
"""Seconds: SFTP times are whole seconds, so a file may change once more within the second of its last sighting."""


class FileState(StrEnum):
    ASSIGNED = "ASSIGNED"
    """Settled and given to a window; its bytes are not here yet."""
    RECEIVED = "RECEIVED"
    """Its bytes are in the archive."""
    READ = "READ"
    """Its invoices are in the ledger."""
    SAME_BYTES = "SAME_BYTES"
    """The same bytes were received before, under this or another name; nothing to do."""
    BASELINE = "BASELINE"
    """There before go-live; a person said that it is not to be posted."""
    VANISHED = "VANISHED"
    """Gone from the server before it could be read."""
    REJECTED = "REJECTED"
    """Not a file of the declared profile; ``reason`` says why."""
    PART = "PART"
    """A file of a delivery; its bytes were taken with the manifest that names it."""
    RELEASED = "RELEASED"
    """Was not whole when it was read; it waits in the folder as if unseen."""


# A file that vanished may come back as it was (a mount that blinked, a rename undone): it must be new again then.
_ACCEPTED = tuple(str(state) for state in FileState if state not in (FileState.RELEASED, FileState.VANISHED))


@dataclass(frozen=True)
class Seen:
    """A file in a listing: size in bytes, mtime in whole seconds of the server's clock (either may be unknown)."""

    path: str
    size: int | None
    mtime: int | None


@dataclass(frozen=True)
class Feed:
    name: str
    opened: bool
    first_seen_at: dt.datetime


def contact(transaction: Transaction, name: str, *, empty: bool) -> Feed:
    """The feed, made at first contact: open at once when its folder is empty, else closed until a person opens it."""
    row = {"name": name, "first_seen_at": transaction.now}
    if empty:
        row |= {"opened_at": transaction.now, "opened_how": "empty at first contact"}
    if transaction.insert_ignoring(feed_table, row):
        transaction.audit("feed.first_contact", f"feed:{name}", empty=empty)
    transaction.execute(sa.update(feed_table).where(feed_table.c.name == name).values(last_listed_at=transaction.now))
    found = transaction.row(sa.select(feed_table).where(feed_table.c.name == name))
    assert found is not None  # noqa: S101 - inserted above
    return Feed(name, found["opened_at"] is not None, found["first_seen_at"])


def open_feed(transaction: Transaction, name: str, how: str) -> None:
    """A person decided what to do with the files found at first contact."""
    transaction.insert_ignoring(feed_table, {"name": name, "first_seen_at": transaction.now})
    opened = transaction.execute(
        sa.update(feed_table)
        .where(feed_table.c.name == name, feed_table.c.opened_at.is_(None))
        .values(opened_at=transaction.now, opened_how=how)
    )
    if opened.rowcount == 1:
        transaction.audit("feed.opened", f"feed:{name}", how=how)


def baseline(transaction: Transaction, feed: str, files: Iterable[Seen]) -> int:
    """Mark files as there before go-live: known, never posted; how many were new to the ledger."""
    known = known_files(transaction, feed)
    versions = _versions(transaction, feed)
    new = [seen for seen in files if (seen.path, seen.size, seen.mtime) not in known]
    rows = [
        {
            "feed": feed,
            "path": seen.path,
            "version": versions.get(seen.path, 0) + 1,
            "size": seen.size,
            "mtime": seen.mtime,
            "state": str(FileState.BASELINE),
            "reason": "there before go-live",
        }
        for seen in new
    ]
    if rows:
        transaction.execute(sa.insert(source_file), rows)
        for seen in new:
            transaction.audit("file.baseline", f"file:{feed}:{seen.path}", size=seen.size, mtime=seen.mtime)
    return len(rows)


def known_files(transaction: Transaction, feed: str) -> set[tuple[str, int | None, int | None]]:
    """(path, size, mtime) of all files that were accepted; those to be hashed again are left out, and those put away.

    Whatever stands where one was put away came after it, however alike it looks. One whose bytes were erased stays
    known: it may have been left where it was, and is nobody's to be stored again.
    """
    # By its name in the table: the kinds of content are declared above this module.
    erased = sa.exists().where(
        erased_payload.c.kind == "source_files", erased_payload.c.item == sa.cast(source_file.c.id, sa.Text)
    )
    statement = sa.select(source_file.c.path, source_file.c.size, source_file.c.mtime).where(
        source_file.c.feed == feed,
        source_file.c.state.in_(_ACCEPTED),
        ~source_file.c.young,
        sa.or_(source_file.c.disposed_at.is_(None), erased),
    )
    return {(path, size, mtime) for path, size, mtime in transaction.connection.execute(statement)}


def _versions(transaction: Transaction, feed: str) -> dict[str, int]:
    statement = (
        sa.select(source_file.c.path, sa.func.max(source_file.c.version))
        .where(source_file.c.feed == feed)
        .group_by(source_file.c.path)
    )
    return {path: version for path, version in transaction.connection.execute(statement)}  # noqa: C416 - rows, not pairs


def record_sightings(
    transaction: Transaction,
    feed: str,
    listed: Iterable[Seen],
    *,
    settle_seconds: float,
    zero_byte_grace: float,
    unready: Mapping[str, str] | None = None,
) -> list[Seen]:
    """Note what was seen and return the files that have settled.

    A file settles when two sightings at least ``settle_seconds`` apart agree in size and mtime; an empty one only
    after ``zero_byte_grace``. Files already accepted are skipped without a write; those that went away are forgotten.

    Args:
        unready: by path, what a file waits for beside itself; such a one does not settle.
    """
    unready = unready or {}
    known = known_files(transaction, feed)
    statement = sa.select(file_sighting).where(file_sighting.c.feed == feed)
    before = {row["path"]: row for row in transaction.rows(statement)}
    fresh: list[dict[str, Any]] = []
    settled: list[Seen] = []
    present: set[str] = set()
    for seen in listed:
        if (seen.path, seen.size, seen.mtime) in known:
            continue
        present.add(seen.path)
        old = before.get(seen.path)
        same = old is not None and (old["size"], old["mtime"]) == (seen.size, seen.mtime)
        since = old["same_since"] if same and old is not None else transaction.now
        fresh.append(
            {
                "feed": feed,
                "path": seen.path,
                "size": seen.size,
                "mtime": seen.mtime,
                "same_since": since,
                "seen_at": transaction.now,
                "note": unready.get(seen.path),
            }
        )
        if seen.path in unready:
            continue
        wait = max(settle_seconds, zero_byte_grace) if seen.size == 0 else settle_seconds
        if same and (transaction.now - since).total_seconds() >= wait:
            settled.append(seen)
    transaction.upsert(file_sighting, fresh)
    gone = [path for path in before if path not in present]
    for start in range(0, len(gone), 500):
        transaction.execute(
            sa.delete(file_sighting).where(
                file_sighting.c.feed == feed, file_sighting.c.path.in_(gone[start : start + 500])
            )
        )
    return settled


def assign(
    transaction: Transaction, feed: str, files: Sequence[Seen], window_start: dt.datetime, generation: int
) -> list[int]:
    """Give settled files to a window's generation; their keys. Part of the transaction that opens the generation."""
    versions = _versions(transaction, feed)
    keys: list[int] = []
    for seen in files:
        sighting = transaction.row(
            sa.select(file_sighting.c.seen_at).where(file_sighting.c.feed == feed, file_sighting.c.path == seen.path)
        )
        # Against our clock: with a server ahead of it the file counts as young and is hashed once more, no harm done.
        seen_at = sighting["seen_at"].timestamp() if sighting else transaction.now.timestamp()
        young = seen.mtime is not None and seen_at - seen.mtime < _YOUNG
        released = transaction.row(
            sa.select(source_file.c.id, source_file.c.version).where(
                source_file.c.feed == feed,
                source_file.c.path == seen.path,
                source_file.c.state == str(FileState.RELEASED),
            )
        )
        values: dict[str, Any] = {
            "size": seen.size,
            "mtime": seen.mtime,
            "state": str(FileState.ASSIGNED),
            "reason": None,
            "window_start": window_start,
            "generation": generation,
            "young": young,
            "assigned_at": transaction.now,
        }
        if released is not None:
            key = int(released["id"])
            if released["version"] < versions[seen.path]:
                # A newer version was taken while this one waited; what is there now is newer still.
                values["version"] = versions[seen.path] + 1
            transaction.execute(sa.update(source_file).where(source_file.c.id == key).values(**values))
        else:
            version = versions.get(seen.path, 0) + 1
            key = transaction.insert(source_file, feed=feed, path=seen.path, version=version, **values)
        keys.append(key)
        transaction.audit(
            "file.assigned", f"file:{feed}:{seen.path}", file=key, size=seen.size, mtime=seen.mtime,
            window=window_start.isoformat(), generation=generation,
        )  # fmt: skip
        transaction.execute(
            sa.delete(file_sighting).where(file_sighting.c.feed == feed, file_sighting.c.path == seen.path)
        )
    return keys


def window_files(
    transaction: Transaction, feed: str, window_start: dt.datetime, generation: int | None = None
) -> list[Row]:
    """Files of a window, or of one generation of it, by path and version."""
    statement = sa.select(source_file).where(source_file.c.feed == feed, source_file.c.window_start == window_start)
    if generation is not None:
        statement = statement.where(source_file.c.generation == generation)
    return transaction.rows(statement.order_by(source_file.c.path, source_file.c.version))


def received(
    transaction: Transaction, row: Row, *, sha256: str, size: int, profile: str
) -> tuple[FileState, int | None]:
    """The file's bytes are in the archive: RECEIVED, or SAME_BYTES with the key of the file that had them first.

    A path that goes back to bytes it had before, with others in between, is RECEIVED: its latest version counts.
    A young file that was only hashed again, and is unchanged, leaves no second version behind. Bytes that were rejected
    are new to another profile: whoever corrected it sends the file again to have it read.
    """
    these_bytes = (
        source_file.c.feed == row["feed"], source_file.c.sha256 == sha256, source_file.c.id != row["id"],
    )  # fmt: skip
    accepted = source_file.c.state.in_([str(FileState.RECEIVED), str(FileState.READ)])
    refused = sa.and_(source_file.c.state == str(FileState.REJECTED), source_file.c.profile == profile)
    first = transaction.row(
        sa.select(source_file.c.id, source_file.c.path)
        .where(*these_bytes, sa.or_(accepted, refused))
        .order_by(source_file.c.id)
        .limit(1)
    )
    hashed_before = transaction.value(
        sa.select(source_file.c.id)
        .where(
            *these_bytes,
            source_file.c.path == row["path"],
            source_file.c.size == size,
            source_file.c.mtime == row["mtime"],
            sa.or_(accepted, refused, source_file.c.state == str(FileState.SAME_BYTES)),
        )
        .order_by(source_file.c.id)
        .limit(1)
    )
    if _reverted(transaction, row, sha256, sa.or_(accepted, refused)):
        first = hashed_before = None
    state = FileState.SAME_BYTES if first else FileState.RECEIVED
    reason = f"same bytes as {first['path']}" if first else None
    # An earlier, young version with this identity has now been hashed again; for good only if this time it was not
    # young: within the same second it may change once more.
    transaction.execute(
        sa.update(source_file)
        .where(
            source_file.c.feed == row["feed"], source_file.c.path == row["path"], source_file.c.id != row["id"],
            source_file.c.young,
        )
        .values(young=bool(row["young"]))
    )  # fmt: skip
    if hashed_before is not None:
        transaction.execute(sa.delete(source_file).where(source_file.c.id == row["id"]))
        # The same file is there (again): known from now on, and to be put away (again).
        transaction.execute(sa.update(source_file).where(source_file.c.id == hashed_before).values(disposed_at=None))
        transaction.audit("file.hashed_again", f"file:{row['feed']}:{row['path']}", file=hashed_before, sha256=sha256)
        return FileState.SAME_BYTES, int(hashed_before)
    transaction.execute(
        sa.update(source_file)
        .where(source_file.c.id == row["id"])
        .values(
            state=str(state), reason=reason, sha256=sha256, size=size, received_at=transaction.now,
            same_bytes_as=first["id"] if first else None, profile=profile,
        )
    )  # fmt: skip
    transaction.audit(
        "file.received" if state is FileState.RECEIVED else "file.same_bytes", f"file:{row['feed']}:{row['path']}",
        file=row["id"], version=row["version"], sha256=sha256, bytes=size,
        **({"first": first["path"]} if first else {}),
    )  # fmt: skip
    return state, int(first["id"]) if first else None


def _reverted(transaction: Transaction, row: Row, sha256: str, counted: sa.ColumnElement[bool]) -> bool:
    """True when an earlier version of this path had these bytes, but the latest one that was accepted has others."""
    versions = sa.select(source_file.c.sha256).where(
        source_file.c.feed == row["feed"],
        source_file.c.path == row["path"],
        source_file.c.id != row["id"],
        sa.or_(counted, source_file.c.state == str(FileState.SAME_BYTES)),
    )
    latest = transaction.value(versions.order_by(source_file.c.version.desc()).limit(1))
    had = transaction.value(versions.where(source_file.c.sha256 == sha256).limit(1))
    return had is not None and latest != sha256


def parts_received(transaction: Transaction, manifest: Row, parts: Sequence[Seen]) -> None:
    """The files that a manifest names came with it: they are known from now on, and wait for nothing."""
    feed: str = manifest["feed"]
    named = (source_file.c.feed == feed, source_file.c.path.in_([part.path for part in parts]))
    before = transaction.rows(sa.select(source_file).where(*named).order_by(source_file.c.version))
    known = {(row["path"], row["size"], row["mtime"]) for row in before if row["state"] in _ACCEPTED}
    versions = {row["path"]: row["version"] for row in before}
    rows = [
        {
            "feed": feed,
            "path": part.path,
            "version": versions.get(part.path, 0) + 1,
            "size": part.size,
            "mtime": part.mtime,
            "state": str(FileState.PART),
            "reason": f"part of {manifest['path']}",
            "received_at": transaction.now,
        }
        for part in parts
        if (part.path, part.size, part.mtime) not in known
    ]
    if rows:
        transaction.execute(sa.insert(source_file), rows)
    for row in rows:
        transaction.audit("file.part", f"file:{feed}:{row['path']}", manifest=manifest["path"], size=row["size"])


def released_files(transaction: Transaction, feed: str) -> list[Row]:
    """Files that were tried and not whole, with the reason; those that are gone from the folder are among them."""
    chosen = (source_file.c.feed == feed, source_file.c.state == str(FileState.RELEASED))
    return transaction.rows(sa.select(source_file).where(*chosen).order_by(source_file.c.path))


def set_file_state(transaction: Transaction, row: Row, state: FileState, reason: str) -> None:
    """VANISHED, REJECTED or RELEASED, with the reason shown to people."""
    values: dict[str, Any] = {"state": str(state), "reason": reason}
    if state is FileState.RELEASED:
        values |= {"window_start": None, "generation": None, "young": False}
    elif row["sha256"] is None:
        # Never hashed (too large, say), so there is nothing to hash again.
        values["young"] = False
    transaction.execute(sa.update(source_file).where(source_file.c.id == row["id"]).values(**values))
    transaction.audit(f"file.{state.lower()}", f"file:{row['feed']}:{row['path']}", file=row["id"], reason=reason)


def list_files(transaction: Transaction, *, states: Collection[FileState] = (), limit: int = 500) -> list[Row]:
    """Newest first, for people."""
    statement = sa.select(source_file).order_by(source_file.c.id.desc()).limit(limit)
    if states:
        statement = statement.where(source_file.c.state.in_([str(state) for state in states]))
    return transaction.rows(statement)


def list_sightings(transaction: Transaction, feed: str) -> list[Row]:
    """Files that are seen but not taken yet, with the note why."""
    return transaction.rows(sa.select(file_sighting).where(file_sighting.c.feed == feed).order_by(file_sighting.c.path))
