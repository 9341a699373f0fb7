"""The life of a file for a partner: from its commit to the proof that it arrived, and the one way to take each step.

A file's bytes, name and numbers are frozen before this begins (``versions.commit_files``). Every step checks the state
it starts from and writes its audit event in the same transaction; no step sends anything.
"""

import datetime as dt
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger import control_numbers
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import LedgerError, Row, Transaction
from mlc_dagster.ledger.feeds import feed_row, refuse_if_leased
from mlc_dagster.ledger.schema_outbound import exported_file, exported_record


class FileState(StrEnum):
    PENDING = "PENDING"
    """Frozen; waits for its turn."""
    UPLOADING = "UPLOADING"
    """Its bytes may be on the server under ``temp_name`` (direct mode: under its own name), whole or in part."""
    RENAMING = "RENAMING"
    """Its bytes are on the server and verified; it may have its own name already."""
    SENT = "SENT"
    INFERRED = "INFERRED"
    """Delivered, as far as can be concluded: verified under its temporary name, and afterwards under no name at all."""
    UNKNOWN = "UNKNOWN"
    """It may be with the partner, whole or in part; a person finds out."""
    ABANDONED = "ABANDONED"
    """Two people decided that it is not sent; its records go into a later file."""


class RecordState(StrEnum):
    HELD = "HELD"
    """Cannot be written as the layout demands; tried again at every build."""
    PENDING = "PENDING"
    """In a file that is not delivered yet."""
    SENT = "SENT"
    ABANDONED = "ABANDONED"
    """Its file was given up, or its feed begun anew for another partner; the record is sent again."""
    SUPERSEDED = "SUPERSEDED"
    """Held or given up, and a later reading made it pointless."""


S = FileState

WAITING_STATES = (S.PENDING, S.UPLOADING, S.RENAMING)
"""What the next run delivers by itself."""
DELIVERED_STATES = (S.SENT, S.INFERRED)
OPEN_STATES = (*WAITING_STATES, S.UNKNOWN)

STEPS: Mapping[FileState, frozenset[FileState]] = {
    S.PENDING: frozenset({S.PENDING, S.UPLOADING, S.UNKNOWN, S.ABANDONED}),
    # To UPLOADING again: the run that uploaded it died. To SENT at once: direct mode has no renaming.
    S.UPLOADING: frozenset({S.PENDING, S.UPLOADING, S.RENAMING, S.SENT, S.UNKNOWN, S.ABANDONED}),
    # Back only where the server refused the name and the bytes still lie under the temporary one: what got its name may
    # be with the partner already.
    S.RENAMING: frozenset({S.RENAMING, S.SENT, S.INFERRED, S.PENDING}),
    # To RENAMING: it arrived, and what belongs to it follows.
    S.UNKNOWN: frozenset({S.UNKNOWN, S.SENT, S.RENAMING, S.PENDING, S.ABANDONED}),
    S.SENT: frozenset({S.SENT}),
    S.INFERRED: frozenset({S.INFERRED}),
    S.ABANDONED: frozenset(),
}


class WrongFileState(Exception):
    """The file is not in a state from which this step may be taken; nothing was written."""

    def __init__(self, file: Row, step: str, allowed: Collection[FileState]) -> None:
        self.file_id = int(file["id"])
        self.feed = str(file["feed"])
        self.name = str(file["name"])
        self.state = FileState(file["state"])
        self.step = step
        self.allowed = tuple(allowed)
        wanted = " or ".join(self.allowed)
        super().__init__(
            f"file {self.name} (number {self.file_id}) of feed {self.feed} is {self.state}; {step} needs {wanted}. "
            f"`mlc exports show {self.file_id}` tells its story"
        )


class LaterVersionWaits(Exception):
    """A file cannot be given up before those that build on it; nothing was written."""

    def __init__(self, file: Row, record_id: str, later_file: int) -> None:
        self.file_id = int(file["id"])
        self.record_id = record_id
        self.later_file = later_file
        super().__init__(
            f"file {file['name']} (number {self.file_id}) of feed {file['feed']} has record {record_id}, and file "
            f"number {later_file} has a later version of it that is told as a change; abandon that file first"
        )


def pending_files(transaction: Transaction, feed: str) -> list[Row]:
    """The feed's files that the next run delivers, first in first out: PENDING, UPLOADING and RENAMING."""
    return transaction.rows(
        sa.select(exported_file)
        .where(exported_file.c.feed == feed, exported_file.c.state.in_([str(state) for state in WAITING_STATES]))
        .order_by(exported_file.c.sequence)
    )


def begin_upload(transaction: Transaction, file_id: int, temp_name: str | None) -> None:
    """The next byte sent is this file's. ``temp_name`` None: under its own name (direct mode)."""
    file = _file(transaction, file_id)
    _step(
        transaction, file, S.UPLOADING, "an upload", (S.PENDING, S.UPLOADING), "export.uploading",
        {"temp_name": temp_name, "attempt": file["attempts"] + 1}, temp_name=temp_name, attempts=file["attempts"] + 1,
    )  # fmt: skip


def begin_rename(transaction: Transaction, file_id: int) -> None:
    """Its bytes are on the server and verified; from here on it is never uploaded again."""
    file = _file(transaction, file_id)
    _step(transaction, file, S.RENAMING, "renaming", (S.UPLOADING, S.RENAMING), "export.renaming", {})


def rename_refused(transaction: Transaction, file_id: int, text: str) -> None:
    """The server does not rename, and the file was seen under its temporary name alone: it waits to go another way."""
    file = _file(transaction, file_id)
    if file["verified_by"] is not None:  # It has arrived; only its companions are left.
        raise WrongFileState(file, "a refused rename", (S.RENAMING,))
    _step(
        transaction, file, S.PENDING, "a refused rename", (S.RENAMING,), "export.rename_refused",
        {"text": text, "temp_name": file["temp_name"]}, last_error=text[:2000],
    )  # fmt: skip


def mark_sent(
    transaction: Transaction,
    file_id: int,
    *,
    server_size: int | None,
    server_mtime: int | None,
    verified_by: str,
    server_key: str | None,
) -> None:
    """It has its name on the server, and its records count as sent.

    Args:
        transaction: the change and its event are part of it.
        file_id: the file.
        server_size: bytes, as the server's own stat says; None where it may not be asked.
        server_mtime: seconds since 1970 by the server's clock.
        verified_by: ``sha256``, ``size`` or ``none``.
        server_key: fingerprint of the host key that the session was opened with.
    """
    file = _file(transaction, file_id)
    said = {"size": server_size, "mtime": server_mtime, "verified_by": verified_by, "server_key": server_key}
    _step(
        transaction, file, S.SENT, "delivery", (S.UPLOADING, S.RENAMING), "export.sent", said,
        server_size=server_size, server_mtime=server_mtime, verified_by=verified_by, server_key=server_key,
        last_error=None, ended_at=transaction.now,
    )  # fmt: skip
    _end_records(transaction, file_id, RecordState.SENT)


def mark_inferred(transaction: Transaction, file_id: int, text: str) -> None:
    """Verified under its temporary name and then found under no name: somebody has taken it. Its records are sent."""
    file = _file(transaction, file_id)
    _step(
        transaction, file, S.INFERRED, "the conclusion that it was picked up", (S.RENAMING,), "export.inferred",
        {"text": text}, reason=text, last_error=None, ended_at=transaction.now,
    )  # fmt: skip
    _end_records(transaction, file_id, RecordState.SENT)


def mark_unknown(transaction: Transaction, file_id: int, text: str) -> None:
    """Direct mode: part of it, or all, may be with the partner. It is left alone until a person has asked."""
    file = _file(transaction, file_id)
    _step(
        transaction, file, S.UNKNOWN, "an unknown outcome", (S.PENDING, S.UPLOADING), "export.unknown", {"text": text},
        reason=text, last_error=text,
    )  # fmt: skip


def settle_unknown(
    transaction: Transaction, file_id: int, *, arrived: bool, by: str, approved_by: str, reason: str
) -> None:
    """Two people say whether a file of unknown outcome arrived: it is SENT, or waits for its turn again.

    One that arrived and has a manifest or a trigger is SENT when these are there: the next run places them.
    """
    file = _file(transaction, file_id)
    said = {"arrived": arrived, **Approval(by=by, approved_by=approved_by, reason=reason).said}
    if arrived and file["companions"]:
        _step(
            transaction, file, S.RENAMING, "a person's word that it arrived", (S.UNKNOWN,), "export.settled", said,
            reason=reason, verified_by="person", last_error=None,
        )  # fmt: skip
        return
    if arrived:
        _step(
            transaction, file, S.SENT, "a person's word that it arrived", (S.UNKNOWN,), "export.settled", said,
            reason=reason, verified_by="person", ended_at=transaction.now,
        )  # fmt: skip
        _end_records(transaction, file_id, RecordState.SENT)
        return
    _step(
        transaction, file, S.PENDING, "a person's word that it did not arrive", (S.UNKNOWN,), "export.settled", said,
        reason=None, temp_name=None,
    )  # fmt: skip


def note_failure(transaction: Transaction, file_id: int, text: str) -> None:
    """This attempt came to nothing: it waits for its turn again. One that was being renamed stays so."""
    file = _file(transaction, file_id)
    target = S.RENAMING if file["state"] == S.RENAMING else S.PENDING
    _step(
        transaction, file, target, "a further attempt", WAITING_STATES, "export.failed", {"text": text},
        last_error=text[:2000],
    )  # fmt: skip


def abandon(
    transaction: Transaction, file_id: int, *, by: str, approved_by: str, reason: str, owner: str | None = None
) -> None:
    """Give a file up: its records go into a later file, its control numbers are void.

    Args:
        transaction: the change and its events are part of it.
        file_id: the file; PENDING, UPLOADING or UNKNOWN.
        by: who asks for it.
        approved_by: who agrees: another person.
        reason: why, for the auditor.
        owner: the run that holds the feed on behalf of the command, if it does.

    Raises:
        NotApproved: no reason, or one person alone.
        WrongFileState: it is delivered, being renamed, or given up already.
        FeedBusy: a live run may be sending it now.
        LaterVersionWaits: a file that waits has later versions of its records.
    """
    approval = Approval(by=by, approved_by=approved_by, reason=reason)
    file = _file(transaction, file_id)
    allowed = (S.PENDING, S.UPLOADING, S.UNKNOWN)
    # One that has arrived and only waits for its manifest or trigger is with the partner.
    if file["state"] not in allowed or file["verified_by"] is not None:
        raise WrongFileState(file, "abandoning it", allowed)
    refuse_if_leased(transaction, feed_row(transaction, file["feed"], lock=True), owner=owner)
    _refuse_before_later_versions(transaction, file)
    _step(
        transaction, file, S.ABANDONED, "abandoning it", allowed, "export.abandoned", approval.said,
        reason=reason, ended_at=transaction.now,
    )  # fmt: skip
    _end_records(transaction, file_id, RecordState.ABANDONED)
    control_numbers.void(transaction, file_id, reason)


def _refuse_before_later_versions(transaction: Transaction, file: Row) -> None:
    earlier, later = exported_record.alias("earlier"), exported_record.alias("later")
    found = transaction.row(
        sa.select(later.c.record_id, later.c.file_id)
        .select_from(
            earlier.join(
                later,
                sa.and_(
                    later.c.feed == earlier.c.feed,
                    later.c.record_id == earlier.c.record_id,
                    later.c.version > earlier.c.version,
                    later.c.file_id != earlier.c.file_id,
                ),
            )
        )
        .where(earlier.c.file_id == file["id"], later.c.state == str(RecordState.PENDING))
        .order_by(later.c.file_id.desc())
        .limit(1)
    )
    if found is not None:
        raise LaterVersionWaits(file, found["record_id"], found["file_id"])


def _file(transaction: Transaction, file_id: int) -> Row:
    row = transaction.row(sa.select(exported_file).where(exported_file.c.id == file_id).with_for_update())
    if row is None:
        msg = f"there is no exported file number {file_id}; `mlc exports list` shows those there are"
        raise LedgerError(msg)
    return row


def _step(
    transaction: Transaction,
    file: Row,
    target: FileState,
    step: str,
    allowed: Collection[FileState],
    event: str,
    said: Mapping[str, Any],
    /,
    **columns: Any,
) -> None:
    """The only place that changes a file's state; raises WrongFileState."""
    current = FileState(file["state"])
    if current not in allowed or target not in STEPS[current]:
        raise WrongFileState(file, step, allowed)
    transaction.execute(
        sa.update(exported_file).where(exported_file.c.id == file["id"]).values(state=str(target), **columns)
    )
    detail = {name: file[name] for name in ("feed", "name", "sha256")} | {"state": str(target), **said}
    if "by" in said:
        before, after = {"state": str(current)}, {"state": str(target)}
        transaction.audit_action(event, f"export:{file['id']}", before=before, after=after, **detail)
        return
    transaction.audit(event, f"export:{file['id']}", **detail)


def _end_records(transaction: Transaction, file_id: int, state: RecordState) -> None:
    transaction.execute(
        sa.update(exported_record)
        .where(exported_record.c.file_id == file_id, exported_record.c.state == str(RecordState.PENDING))
        .values(state=str(state), ended_at=transaction.now)
    )


def file_row(transaction: Transaction, file_id: int) -> Row | None:
    """The file, or None."""
    return transaction.row(sa.select(exported_file).where(exported_file.c.id == file_id))


def list_files(
    transaction: Transaction, feed: str | None = None, states: Collection[FileState] | None = None, limit: int = 100
) -> list[Row]:
    """Files, newest first; at most ``limit``."""
    statement = sa.select(exported_file).order_by(exported_file.c.id.desc()).limit(limit)
    if feed is not None:
        statement = statement.where(exported_file.c.feed == feed)
    if states is not None:
        statement = statement.where(exported_file.c.state.in_([str(state) for state in states]))
    return transaction.rows(statement)


def file_records(transaction: Transaction, file_id: int) -> list[Row]:
    """The record versions in a file, in its order; without their content."""
    columns = [column for column in exported_record.c if column.name != "content"]
    return transaction.rows(
        sa.select(*columns).where(exported_record.c.file_id == file_id).order_by(exported_record.c.position)
    )


def held_records(transaction: Transaction, feed: str | None = None) -> list[Row]:
    """What cannot be written at present, oldest first; without its content."""
    columns = [column for column in exported_record.c if column.name != "content"]
    statement = (
        sa.select(*columns)
        .where(exported_record.c.state == str(RecordState.HELD))
        .order_by(exported_record.c.created_at, exported_record.c.id)
    )
    return transaction.rows(statement if feed is None else statement.where(exported_record.c.feed == feed))


def sequence_gaps(transaction: Transaction, feed: str) -> list[str]:
    """What is wrong with the numbering of the feed's files, one sentence each; abandoned files keep their number."""
    last = int(feed_row(transaction, feed)["sequence"])
    known = {
        int(row["sequence"])
        for row in transaction.rows(sa.select(exported_file.c.sequence).where(exported_file.c.feed == feed))
    }
    missing = [number for number in range(1, last + 1) if number not in known]
    beyond = sorted(number for number in known if number > last)
    return [f"feed {feed}: there is no file number {number}, and the last is {last}" for number in missing] + [
        f"feed {feed}: file number {number} is beyond the last, {last}" for number in beyond
    ]


def files_of_windows(transaction: Transaction, feed: str, start: dt.datetime, end: dt.datetime) -> list[Row]:
    """The feed's files that hold something of the windows in ``[start, end)``, oldest first."""
    column = exported_file.c
    overlaps = sa.and_(column.window_start < end, column.window_end > start)
    # Files of held or given-up records need no reading: they have the moment up to which everything was read.
    of_a_moment = sa.and_(column.window_start == column.window_end, column.window_end.between(start, end))
    return transaction.rows(
        sa.select(exported_file).where(column.feed == feed, sa.or_(overlaps, of_a_moment)).order_by(column.sequence)
    )


def sent_since(transaction: Transaction, feed: str, since: dt.datetime) -> list[Row]:
    """Files delivered since then, oldest first."""
    return transaction.rows(
        sa.select(exported_file)
        .where(
            exported_file.c.feed == feed,
            exported_file.c.state.in_([str(state) for state in DELIVERED_STATES]),
            exported_file.c.ended_at >= since,
        )
        .order_by(exported_file.c.sequence)
    )
