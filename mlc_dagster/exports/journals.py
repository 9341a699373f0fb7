"""Where the steps of a delivery are recorded: a file's in its state, a companion's beside it.

Every step is a transaction of its own, committed before what it announces, and none is recorded by a run that has lost
the feed.
"""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from mlc_dagster.exports.delivery_journal import DeliveryJournal
from mlc_dagster.exports.faults import LeaseLost
from mlc_dagster.exports.placing import Placed, Step
from mlc_dagster.ledger import arrivals, exported, sent_files
from mlc_dagster.ledger.arrivals import CompanionStep
from mlc_dagster.ledger.database import Ledger, Row, Transaction
from mlc_dagster.ledger.exported import FileState
from mlc_dagster.sftp import LocalFileError

_log = logging.getLogger(__name__)
_TRIES = 2
"""To note an end on our disk."""


class FileJournal:
    """The file itself; ``placing.Journal``."""

    def __init__(self, ledger: Ledger, file: Row, still_ours: Callable[[], bool], on_disk: DeliveryJournal) -> None:
        self._ledger = ledger
        self._on_disk = on_disk
        self.file_id = int(file["id"])
        self.name = str(file["name"])
        self._still_ours = still_ours
        self._state = FileState(file["state"])
        self._temporary: str | None = file["temp_name"]

    @property
    def step(self) -> Step:
        return Step(self._state)

    @property
    def temporary(self) -> str | None:
        return self._temporary

    def uploading(self, temporary: str | None) -> None:
        with self._change() as transaction:
            exported.begin_upload(transaction, self.file_id, temporary)
        self._state, self._temporary = FileState.UPLOADING, temporary
        self._note_step()

    def renaming(self) -> None:
        with self._change() as transaction:
            exported.begin_rename(transaction, self.file_id)
        self._state = FileState.RENAMING
        self._note_step()

    def rename_refused(self, text: str) -> None:
        with self._change() as transaction:
            exported.rename_refused(transaction, self.file_id, text)
        self._state = FileState.PENDING

    def arrived(self, placed: Placed, server_key: str | None, *, whole: bool) -> None:
        """It has its name. ``whole``: nothing else belongs to it, so it is sent; otherwise its companions follow."""
        size = None if placed.found is None else placed.found.size
        mtime = None if placed.found is None else placed.found.mtime
        with self._change() as transaction:
            if self._state is FileState.PENDING:
                exported.begin_upload(transaction, self.file_id, None)
            if whole:
                exported.mark_sent(
                    transaction, self.file_id, server_size=size, server_mtime=mtime, verified_by=placed.verified_by,
                    server_key=server_key,
                )  # fmt: skip
            else:
                # Whatever the mode: from here on it is never uploaded again.
                exported.begin_rename(transaction, self.file_id)
                arrivals.note_arrival(
                    transaction, self.file_id, server_size=size, server_mtime=mtime, verified_by=placed.verified_by,
                    server_key=server_key,
                )  # fmt: skip
        if self._state is FileState.PENDING:
            self._temporary = None
        self._ended(FileState.SENT if whole else FileState.RENAMING)

    def complete(self, file: Row) -> None:
        """Its companions are there too; what was noted at its arrival stands."""
        if file["verified_by"] == arrivals.INFERRED:
            with self._change() as transaction:
                exported.mark_inferred(transaction, self.file_id, file["reason"])
            self._ended(FileState.INFERRED)
            return
        with self._change() as transaction:
            exported.mark_sent(
                transaction,
                self.file_id,
                server_size=file["server_size"],
                server_mtime=file["server_mtime"],
                verified_by=file["verified_by"],
                server_key=file["server_key"],
            )
        self._ended(FileState.SENT)

    def inferred(self, text: str, server_key: str | None, *, whole: bool) -> None:
        """Taken by the partner, as it seems. ``whole`` as above: its companions follow all the same."""
        with self._change() as transaction:
            if whole:
                exported.mark_inferred(transaction, self.file_id, text)
            else:
                arrivals.note_arrival(
                    transaction, self.file_id, server_size=None, server_mtime=None, verified_by=arrivals.INFERRED,
                    server_key=server_key, reason=text,
                )  # fmt: skip
        self._ended(FileState.INFERRED if whole else FileState.RENAMING)

    def unknown(self, text: str) -> None:
        with self._change() as transaction:
            exported.mark_unknown(transaction, self.file_id, text)
        self._ended(FileState.UNKNOWN)

    def failed(self, text: str, *, open_end: bool) -> None:
        """An attempt came to nothing. ``open_end``: what lies on the server is not known, so the step stands."""
        with self._change() as transaction:
            if open_end:
                arrivals.note_open_end(transaction, self.file_id, text)
                return
            exported.note_failure(transaction, self.file_id, text)
        if self._state is FileState.UPLOADING:
            self._state = FileState.PENDING

    def _note_step(self) -> None:
        """On disk as well, before it is acted on: nothing leaves that a restored ledger could not be told of."""
        try:
            file = self._entered()
            self._on_disk.step(file)
        except OSError as error:
            raise LocalFileError(Path(error.filename or self._on_disk.folder), error.strerror or str(error)) from error

    def _ended(self, state: FileState) -> None:
        self._state = state
        if state is FileState.RENAMING:
            # Its companions follow, and whoever waits for them takes it then.
            self._note_step()
            return
        for left in reversed(range(_TRIES)):
            try:
                self._on_disk.end(self._entered())
            except OSError as error:
                # The ledger has it, and the attempt is on disk. The next run enters it first, and sends nothing before.
                if not left:
                    _log.warning("%s is %s, and the delivery journal cannot be written: %s", self.name, state, error)
            else:
                return

    def _entered(self) -> Row:
        """The file as the ledger has it now, entered on disk."""
        with self._ledger.reading() as reading:
            file = sent_files.file_of(reading, self.file_id)
        if not self._on_disk.has(file["sequence"]):
            self._on_disk.begin(self.file_id)
        return file

    @contextmanager
    def _change(self) -> Generator[Transaction]:
        if not self._still_ours():
            raise LeaseLost(self.name)
        with self._ledger.transaction() as transaction:
            file = exported.file_row(transaction, self.file_id)
            # A run that slept through the end of its lease finds the traces of its successor.
            if file is None or (file["state"], file["temp_name"]) != (str(self._state), self._temporary):
                raise LeaseLost(self.name)
            yield transaction


class CompanionJournal:
    """One companion; ``placing.Journal``."""

    def __init__(self, ledger: Ledger, file: Row, name: str, still_ours: Callable[[], bool]) -> None:
        self._ledger = ledger
        self._file_id = int(file["id"])
        self.name = name
        self._still_ours = still_ours
        companion = next(entry for entry in file["companions"] if entry["name"] == name)
        self._step = CompanionStep(companion.get("step", CompanionStep.PENDING))
        self._temporary: str | None = companion.get("temp_name")

    @property
    def step(self) -> Step:
        return Step(self._step)

    @property
    def temporary(self) -> str | None:
        return self._temporary

    def uploading(self, temporary: str | None) -> None:
        self.note(CompanionStep.UPLOADING, temporary)

    def renaming(self) -> None:
        self.note(CompanionStep.RENAMING, self._temporary)

    def rename_refused(self, text: str) -> None:
        del text  # Of a companion its step is kept, not its story.
        self.note(CompanionStep.PENDING, self._temporary)

    def note(self, step: CompanionStep, temporary: str | None = None) -> None:
        if not self._still_ours():
            raise LeaseLost(self.name)
        with self._ledger.transaction() as transaction:
            arrivals.note_companion(transaction, self._file_id, self.name, step, temp_name=temporary)
        self._step, self._temporary = step, temporary

    def failed(self, *, open_end: bool) -> None:
        """A clear "no": it waits for its turn again, with its temporary name, which is cleared away first."""
        if self._step is CompanionStep.UPLOADING and not open_end:
            self.note(CompanionStep.PENDING, self._temporary)


class Unrecorded:
    """Steps of what a person sends once more: the file's state does not change, the command reports the outcome."""

    def __init__(self) -> None:
        self.step = Step.PENDING
        self.temporary: str | None = None

    def uploading(self, temporary: str | None) -> None:
        self.step, self.temporary = Step.UPLOADING, temporary

    def renaming(self) -> None:
        self.step = Step.RENAMING

    def rename_refused(self, text: str) -> None:
        del text  # The command reports the outcome.
        self.step = Step.PENDING
