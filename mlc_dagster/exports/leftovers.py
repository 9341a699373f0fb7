"""Temporary files of ours that lie on a partner's server and that no run will clear away, as after a restore.

Ours is what the delivery journal names by its whole path, which had a random part and was noted before anything was
written there; nothing else is ever touched. It is removed when its file has ended: until then it may be all that tells
how far the file came.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from mlc_dagster.exports.connecting import Connection
from mlc_dagster.exports.delivery_journal import DeliveryJournal
from mlc_dagster.exports.outbound import Outbound
from mlc_dagster.exports.placing import Journal, Step
from mlc_dagster.exports.temporary_names import is_temporary_of
from mlc_dagster.ledger import sent_files
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.exported import FileState
from mlc_dagster.ledger.leftovers import end_leftovers, leftovers_of
from mlc_dagster.sftp import LocalFileError, NoSuchPath, PermissionRefused, SftpError, SftpSession

OpenSession = Callable[[], AbstractContextManager[SftpSession]]


@dataclass(frozen=True)
class Leftover:
    """A temporary file of ours, and what became of it."""

    feed: str
    name: str
    """Of its file."""
    path: str
    removed: bool
    text: str
    """Why, for people."""


def settle_leftovers(
    outbound: Outbound, open_session: OpenSession, feed: str, file: Row, paths: Sequence[str]
) -> list[Leftover]:
    """Remove those of a file that has ended; those of another wait for its end.

    Args:
        outbound: the wiring; the caller holds the feed.
        open_session: to the partner's server. One that cannot be asked is asked by the next delivery.
        feed: whose file it is.
        file: as the ledger has it.
        paths: what the delivery journal names, what was seen there, and what the ledger has as waiting.
    """
    name, sequence = str(file["name"]), int(file["sequence"])
    if file["state"] == FileState.UNKNOWN:
        text = "stays until it is known whether the file arrived; the delivery after that removes it"
        return [Leftover(feed, name, path, removed=False, text=text) for path in paths]
    found: list[Leftover] = []
    try:
        with open_session() as session:
            found += [_removed(session, feed, name, path) for path in paths]
    except SftpError as error:
        text = f"the next delivery removes it ({error})"
        found += [Leftover(feed, name, path, removed=False, text=text) for path in paths[len(found) :]]
    else:
        with outbound.ledger.transaction() as transaction:
            gone = [each.path for each in found if each.removed]
            end_leftovers(transaction, feed, [(sequence, path) for path in paths], removed=gone)
    return found


def _removed(session: SftpSession, feed: str, name: str, path: str) -> Leftover:
    try:
        session.remove(path)
    except NoSuchPath:
        return Leftover(feed, name, path, removed=True, text="is gone")
    except PermissionRefused:
        return Leftover(feed, name, path, removed=False, text="the account may not remove it: ask the partner to")
    return Leftover(feed, name, path, removed=True, text="removed")


def clear_leftovers(outbound: Outbound, feed: str, connection: Connection) -> None:
    """Remove what waited for a file that has its end by now. A server that cannot be asked is asked next time."""
    with outbound.ledger.reading() as reading:
        waiting = leftovers_of(reading, feed)
        files = {sequence: sent_files.file_at(reading, feed, sequence) for sequence, _ in waiting}
    journal = DeliveryJournal(outbound, feed)
    due = [
        (sequence, path)
        for sequence, path in waiting
        if (file := files[sequence]) is not None and file["state"] != FileState.UNKNOWN
    ]
    removed: list[str] = []
    done: list[tuple[int, str]] = []
    try:
        for sequence, path in due:
            # What the ledger remembers is not enough to delete by.
            if path in journal.temporaries(sequence):
                with suppress(NoSuchPath, PermissionRefused):
                    connection.session().remove(path)
                    removed.append(path)
            done.append((sequence, path))
    except SftpError:
        connection.drop()
    if done:
        with outbound.ledger.transaction() as transaction:
            end_leftovers(transaction, feed, done, removed=removed)


def forgotten(journal: DeliveryJournal, sequence: int, name: str) -> list[str]:
    """Temporary files of one file or companion that the journal names, for a ledger that knows of none."""
    return [path for path in journal.temporaries(sequence) if is_temporary_of(name, path)]


class Noted:
    """``placing.Journal`` with each temporary name in the delivery journal before anything is written under it."""

    def __init__(self, steps: Journal, note: Callable[[str], None]) -> None:
        self._steps = steps
        self._note = note

    @property
    def step(self) -> Step:
        return self._steps.step

    @property
    def temporary(self) -> str | None:
        return self._steps.temporary

    def uploading(self, temporary: str | None) -> None:
        self._steps.uploading(temporary)
        if temporary is None:
            return
        try:
            self._note(temporary)
        except OSError as error:
            raise LocalFileError(Path(error.filename or temporary), error.strerror or str(error)) from error

    def renaming(self) -> None:
        self._steps.renaming()

    def rename_refused(self, text: str) -> None:
        self._steps.rename_refused(text)
