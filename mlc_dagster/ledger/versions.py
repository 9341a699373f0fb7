"""New record versions: the one transaction that puts them into files.

``commit_files`` freezes sequence, names, control numbers, record versions and hashes together. Until it has committed
nothing was said; afterwards the files are what they are, and ``exported`` tells what becomes of them.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
import sqlalchemy as sa

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.ledger import control_numbers
from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.exported import FileState, RecordState
from mlc_dagster.ledger.extracts import chunks
from mlc_dagster.ledger.feeds import FeedLost, feed_row
from mlc_dagster.ledger.known_versions import Known
from mlc_dagster.ledger.schema_outbound import export_feed, exported_file, exported_record

_AT_ONCE = 1000


class SequenceMoved(Expected):
    """The feed's file numbers are not those that the files were made with; nothing was written."""

    kind = FailureKind.BUSY

    def __init__(self, feed: str, expected: int, found: int) -> None:
        self.feed = feed
        self.expected = expected
        self.found = found
        super().__init__(f"feed {feed}: file number {expected} expected, {found} is next")


class NewVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A record version that goes into a file; ``row_id`` where it was held or given up under the same number before."""

    record_id: str
    version: int
    change: str
    content_sha256: str
    content: bytes | None
    """Canonical JSON, where the source keeps it."""
    standing: str | None
    extract_id: int
    read_at: dt.datetime
    last_update_date: dt.datetime | None
    position: int
    """From 1, in the file."""
    set_control: str | None
    bytes: int
    """Of the document in the file."""
    sha256: str
    """Of the document in the file."""
    row_id: int | None = None


@dataclass(frozen=True)
class HeldVersion:
    """A record version that cannot be written as the layout demands; ``row_id`` where it is held already."""

    record_id: str
    version: int
    change: str
    reason: str
    text: str
    content_sha256: str
    content: bytes
    standing: str | None
    reading: Mapping[str, Any]
    """What is known of the reading beside its content: as JSON."""
    extract_id: int
    read_at: dt.datetime
    last_update_date: dt.datetime | None
    row_id: int | None = None


@dataclass(frozen=True)
class NewFile:
    """A file whose bytes are in the archive, under the number and the control numbers that it was made with."""

    sequence: int
    name: str
    directory: str
    sha256: str
    bytes: int
    documents: int
    rows: int
    totals: Mapping[str, Decimal]
    counts: Mapping[str, int]
    layout: str
    layout_version: str
    layout_sha256: str
    window_start: dt.datetime
    window_end: dt.datetime
    versions: Iterable[NewVersion]
    """May be iterated again when the commit has to be repeated."""
    partner: str | None = None
    controls: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])
    companions: Sequence[Mapping[str, Any]] = ()
    """Files beside it: ``kind``, ``name``, ``sha256``, ``bytes``."""


@dataclass(frozen=True)
class Flag:
    """Something about a record that an auditor asks for."""

    event: str
    record_id: str
    detail: Mapping[str, Any]


def commit_files(
    transaction: Transaction,
    feed: str,
    files: Sequence[NewFile],
    held: Sequence[HeldVersion],
    extract_id: int | None,
    delivered_until: dt.datetime | None,
    *,
    fence: int,
    superseded: Collection[int] = (),
    flags: Sequence[Flag] = (),
) -> list[int]:
    """Freeze what one extract gave: files PENDING, versions, numbers, held ones, and the feed's new position.

    Args:
        transaction: everything is part of it, the audit events too.
        feed: the feed, held by the caller.
        files: in order; their numbers must be the next ones.
        held: what could not be written.
        extract_id: the feed's new position; None leaves it.
        delivered_until: end of the last window that is in the feed's files now; None leaves it.
        fence: what the caller holds the feed with.
        superseded: keys of held or given-up versions that a later reading made pointless.
        flags: further audit events.

    Returns:
        The files' keys, in order.

    Raises:
        FeedLost: another run took the feed.
        SequenceMoved: the files' numbers are not the next ones.
        NumbersMoved: their control numbers are not the next ones.
    """
    row = feed_row(transaction, feed, lock=True)
    if row["fence"] != fence:
        raise FeedLost(feed)
    keys: list[int] = []
    sequence = int(row["sequence"])
    for new in files:
        sequence += 1
        if new.sequence != sequence:
            raise SequenceMoved(feed, new.sequence, sequence)
        keys.append(_commit_file(transaction, feed, new))
    _hold(transaction, feed, held)
    for chunk in chunks(superseded):
        transaction.execute(
            sa.update(exported_record)
            .where(exported_record.c.id.in_(chunk))
            .values(state=str(RecordState.SUPERSEDED), ended_at=transaction.now)
        )
    for flag in flags:
        transaction.audit(flag.event, f"record:{feed}/{flag.record_id}", **flag.detail)
    values: dict[str, Any] = {"sequence": sequence}
    if extract_id is not None:
        values["extract_id"] = max(int(row["extract_id"]), extract_id)
    if delivered_until is not None and (row["delivered_until"] is None or row["delivered_until"] < delivered_until):
        values["delivered_until"] = delivered_until
    transaction.execute(sa.update(export_feed).where(export_feed.c.name == feed).values(**values))
    return keys


def _commit_file(transaction: Transaction, feed: str, new: NewFile) -> int:
    key = transaction.insert(
        exported_file,
        feed=feed,
        sequence=new.sequence,
        name=new.name,
        directory=new.directory,
        state=str(FileState.PENDING),
        sha256=new.sha256,
        bytes=new.bytes,
        documents=new.documents,
        rows=new.rows,
        totals={name: format(amount, "f") for name, amount in new.totals.items()},
        counts=dict(new.counts),
        layout=new.layout,
        layout_version=new.layout_version,
        layout_sha256=new.layout_sha256,
        partner=new.partner,
        controls={level: list(numbers) for level, numbers in new.controls.items()},
        companions=[dict(companion) for companion in new.companions],
        window_start=new.window_start,
        window_end=new.window_end,
        created_at=transaction.now,
    )
    for level in sorted(new.controls):
        control_numbers.take(transaction, new.partner or "", level, new.controls[level], key)
    transaction.audit(
        "export.built", f"export:{key}", feed=feed, sequence=new.sequence, name=new.name, sha256=new.sha256,
        bytes=new.bytes, documents=new.documents, layout=f"{new.layout} {new.layout_version}",
        layout_sha256=new.layout_sha256, controls={level: list(numbers) for level, numbers in new.controls.items()},
        partner=new.partner,
    )  # fmt: skip
    for chunk in chunks(new.versions, _AT_ONCE):
        _commit_versions(transaction, feed, key, chunk)
        # A backlog's events must not wait in memory for the commit.
        transaction.flush_audit()
    return key


def _commit_versions(transaction: Transaction, feed: str, file_id: int, versions: Sequence[NewVersion]) -> None:
    fresh: list[dict[str, Any]] = []
    again: list[dict[str, Any]] = []
    for new in versions:
        values: dict[str, Any] = {
            "change": new.change,
            "content_sha256": new.content_sha256,
            "content": new.content,
            "standing": new.standing,
            "extract_id": new.extract_id,
            "read_at": new.read_at,
            "last_update_date": new.last_update_date,
            "file_id": file_id,
            "position": new.position,
            "set_control": new.set_control,
        }
        if new.row_id is None:
            fresh.append(
                {
                    **values,
                    "feed": feed,
                    "record_id": new.record_id,
                    "version": new.version,
                    "state": str(RecordState.PENDING),
                    "created_at": transaction.now,
                }
            )
        else:
            again.append({"new_" + name: value for name, value in values.items()} | {"row_id": new.row_id})
        transaction.audit(
            "export.record", f"record:{feed}/{new.record_id}", version=new.version, change=new.change, file=file_id,
            position=new.position, content_sha256=new.content_sha256, bytes=new.bytes, sha256=new.sha256,
        )  # fmt: skip
    if fresh:
        transaction.execute(sa.insert(exported_record), fresh)
    if again:
        names = [name for name in again[0] if name != "row_id"]
        bound: dict[str, Any] = {name.removeprefix("new_"): sa.bindparam(name) for name in names}
        transaction.execute(
            sa.update(exported_record)
            .where(exported_record.c.id == sa.bindparam("row_id"))
            .values(state=str(RecordState.PENDING), reason=None, text=None, reading=sa.null(), **bound),
            again,
        )


def _hold(transaction: Transaction, feed: str, held: Sequence[HeldVersion]) -> None:
    fresh: list[dict[str, Any]] = []
    for version in held:
        values: dict[str, Any] = {
            "change": version.change,
            "state": str(RecordState.HELD),
            "reason": version.reason,
            "text": version.text,
            "content_sha256": version.content_sha256,
            "content": version.content,
            "standing": version.standing,
            "reading": dict(version.reading),
            "extract_id": version.extract_id,
            "read_at": version.read_at,
            "last_update_date": version.last_update_date,
        }
        if version.row_id is None:
            fresh.append(
                {
                    **values,
                    "feed": feed,
                    "record_id": version.record_id,
                    "version": version.version,
                    "created_at": transaction.now,
                }
            )
        else:
            transaction.execute(
                sa.update(exported_record).where(exported_record.c.id == version.row_id).values(**values)
            )
        transaction.audit(
            "export.held", f"record:{feed}/{version.record_id}", version=version.version, change=version.change,
            reason=version.reason, text=version.text, content_sha256=version.content_sha256,
        )  # fmt: skip
    if fresh:
        transaction.execute(sa.insert(exported_record), fresh)


def take_as_delivered(
    transaction: Transaction, feed: str, rows: Sequence[tuple[Known, NewVersion]], *, by: str, reason: str
) -> None:
    """Enter versions as SENT that nobody sends: what the partner has, written in another projection.

    Each goes with the delivered version that it stands for; position and document are nobody's.
    """
    for chunk in chunks(rows, _AT_ONCE):
        transaction.execute(
            sa.insert(exported_record),
            [
                {
                    "feed": feed,
                    "record_id": new.record_id,
                    "version": new.version,
                    "change": new.change,
                    "state": str(RecordState.SENT),
                    "content_sha256": new.content_sha256,
                    "content": new.content,
                    "standing": new.standing,
                    "extract_id": new.extract_id,
                    "read_at": new.read_at,
                    "last_update_date": new.last_update_date,
                    "created_at": transaction.now,
                    "ended_at": transaction.now,
                }
                for _, new in chunk
            ],
        )
        for delivered, new in chunk:
            transaction.audit(
                "export.rebased", f"record:{feed}/{new.record_id}", version=new.version, of_version=delivered.version,
                was=delivered.content_sha256, content_sha256=new.content_sha256, by=by, reason=reason,
            )  # fmt: skip
        transaction.flush_audit()
