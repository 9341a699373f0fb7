"""From an assigned file to bytes in the archive: whole, durable, and only then RECEIVED.

A file that grew, shrank or does not end where its profile says goes back to waiting; one that is gone is noted as
such. Neither is an error of the run, and neither holds up the other files.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlc_dagster.ledger import files as ledger_files
from mlc_dagster.ledger.archive import Archive, file_sha256
from mlc_dagster.ledger.database import Ledger, Row, Transaction
from mlc_dagster.ledger.files import FileState, Seen
from mlc_dagster.ledger.received_journal import Noted, ReceivedJournal
from mlc_dagster.settings import StampliSettings
from mlc_dagster.sftp.download import Download, DownloadRequest
from mlc_dagster.sftp.errors import (
    FileChanged,
    FileTooLarge,
    FileVanished,
    PermissionRefused,
    ServerRefused,
    SftpError,
    UnsafeName,
)
from mlc_dagster.sftp.session import SftpSession
from mlc_dagster.stampli.inbound import FEED, OpenSession
from mlc_dagster.stampli.intake.gathering import Gathered, gather
from mlc_dagster.stampli.parsing.parsed import FileRejected
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster.stampli.parsing.profile_files import Manifest
from mlc_dagster.stampli.transit import sweep, transit_folder

_BATCH = 64
"""Files fetched per round: bounds the temporary disk space while keeping all channels of a connection busy."""


@dataclass(frozen=True)
class Receipt:
    """What became of one assigned file."""

    path: str
    state: FileState
    text: str
    size: int = 0
    """Bytes."""


def receive_files(
    ledger: Ledger,
    open_session: OpenSession,
    archive: Archive,
    settings: StampliSettings,
    profile: Profile,
    rows: Sequence[Row],
    *,
    journal: ReceivedJournal,
    scratch: Path,
    progress: Callable[[int], None],
) -> list[Receipt]:
    """Fetch the ASSIGNED files among ``rows`` and put them into the archive.

    Args:
        rows: rows of ``source_file``.
        journal: where each of them is noted.
        scratch: folder on the archive's disk for files in transit.
        progress: called with the number of files done, per round.

    Raises:
        SftpError: the connection or our disk failed; files already received stay received.
    """
    assigned = [row for row in rows if row["state"] == str(FileState.ASSIGNED)]
    if not assigned:
        return []
    receipts: list[Receipt] = []
    sweep(scratch, ledger.now())
    with open_session() as session, transit_folder(scratch) as folder:
        for start in range(0, len(assigned), _BATCH):
            batch = assigned[start : start + _BATCH]
            targets = [folder / f"{row['id']}" for row in batch]
            requests = [
                DownloadRequest(row["path"], target, row["size"], settings.max_file_bytes, row["mtime"])
                for row, target in zip(batch, targets, strict=True)
            ]
            broken: SftpError | None = None
            for row, target, answer in zip(batch, targets, session.download_many(requests), strict=True):
                try:
                    answered = whole(session, settings, profile, row["path"], target, answer)
                    receipts.append(_settle(ledger, archive, journal, profile, row, target, answered))
                except SftpError as error:
                    # The others of the batch are here, whole: they are kept before the fault is told.
                    broken = broken or error
                target.unlink(missing_ok=True)
            progress(len(batch))
            if broken is not None:
                raise broken
    return receipts


def whole(
    session: SftpSession,
    settings: StampliSettings,
    profile: Profile,
    path: str,
    target: Path,
    answer: Download | SftpError,
) -> Download | Gathered | SftpError | str:
    """The answer, for a manifest that of its whole delivery; or why what came is not whole.

    Args:
        path: where the file is meant to stand; the files of a delivery stand beside it.
        target: the bytes that came; those of the whole delivery afterwards.
    """
    if not isinstance(answer, Download):
        return answer
    fault = profile.end_fault(target)
    if fault is not None or not isinstance(profile.file.end, Manifest):
        return fault or answer
    try:
        return gather(session, profile, path, target, max_bytes=settings.max_file_bytes)
    except FileRejected:
        # Told when it is read, with its bytes archived.
        return answer
    except FileTooLarge as too_large:
        return too_large


def _settle(
    ledger: Ledger,
    archive: Archive,
    journal: ReceivedJournal,
    profile: Profile,
    row: Row,
    target: Path,
    answer: Download | Gathered | SftpError | str,
) -> Receipt:
    path: str = row["path"]
    match answer:
        case str():
            return _release(ledger, row, f"FILE_PARTIAL: {answer}")
        case Download() | Gathered():
            seen = Seen(path, answer.size, row["mtime"])
            sha256 = keep(archive, journal, seen, target, answer, ledger.now())
            with ledger.transaction() as transaction:
                state = note_received(transaction, profile, row, answer, sha256)
            text = "received" if state is FileState.RECEIVED else "same bytes as a file received before"
            return Receipt(path, state, text, answer.size)
        case FileVanished():
            with ledger.transaction() as transaction:
                ledger_files.set_file_state(
                    transaction, row, FileState.VANISHED, "FILE_VANISHED: gone before it was read"
                )
            return Receipt(path, FileState.VANISHED, "gone before it was read; taken when it appears again")
        case FileChanged():
            return _release(ledger, row, f"FILE_PARTIAL: {answer}")
        case PermissionRefused() | ServerRefused():
            # The server's word on this one file; the others must not wait for it.
            return _release(ledger, row, str(answer))
        case FileTooLarge() | UnsafeName():
            with ledger.transaction() as transaction:
                ledger_files.set_file_state(transaction, row, FileState.REJECTED, f"FILE_SCHEMA: {answer}")
            return Receipt(path, FileState.REJECTED, str(answer))
        case _:
            raise answer


def keep(
    archive: Archive,
    journal: ReceivedJournal,
    seen: Seen,
    target: Path,
    answer: Download | Gathered,
    now: dt.datetime,
) -> str:
    """Put what came into the archive, and note which file it was; its SHA-256 there."""
    whole_delivery = isinstance(answer, Gathered)
    sha256 = file_sha256(target) if whole_delivery else answer.sha256
    archive.put(target, sha256)
    # Before the ledger has it: of a restored one, only this knows what the bytes are.
    journal.note(Noted(sha256, seen, now, answer.parts if whole_delivery else ()))
    return sha256


def note_received(
    transaction: Transaction, profile: Profile, row: Row, answer: Download | Gathered, sha256: str
) -> FileState:
    """Its bytes are in the archive: RECEIVED, or SAME_BYTES; with the files that a manifest names."""
    # The size is that of the file in the folder, by which the next poll knows it again.
    state, _ = ledger_files.received(
        transaction, row, sha256=sha256, size=answer.size, profile=f"{profile.name}@{profile.digest}"
    )
    if isinstance(answer, Gathered):
        ledger_files.parts_received(transaction, row, answer.parts)
    return state


def _release(ledger: Ledger, row: Row, reason: str) -> Receipt:
    with ledger.transaction() as transaction:
        ledger_files.set_file_state(transaction, row, FileState.RELEASED, reason)
    return Receipt(row["path"], FileState.RELEASED, f"waits: {reason}")


def files_of(ledger: Ledger, window_start: dt.datetime, generation: int | None) -> list[Row]:
    """Files of the window (of one generation, when given), as the ledger has them now."""
    with ledger.reading() as reading:
        return ledger_files.window_files(reading, FEED, window_start, generation)
