"""After the commit: what was processed is archived or deleted on the server, when mlc.yaml says so.

Belongs here: which files, whose turn it is, and what is told of those that stay. Does not: deciding that something
was processed (``reading``), the moves themselves (``putting_away``), versions met on the way (``newer_versions``). A
file is first renamed to a name of its own, then compared with the bytes that were processed; after a crash at any point
the next attempt goes on from the names that it finds.
"""

import datetime as dt
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from mlc_dagster.ledger import disposal
from mlc_dagster.ledger.archive import ArchiveDamaged
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.disposal import DONE_STATES, DisposalState
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.tellings import notice
from mlc_dagster.sftp.errors import SftpError
from mlc_dagster.sftp.session import SftpSession
from mlc_dagster.stampli.inbound import FEED, Inbound
from mlc_dagster.stampli.intake.hidden_names import split_path
from mlc_dagster.stampli.intake.manifest_claims import Claims, claims_in
from mlc_dagster.stampli.intake.names_back import give_names_back
from mlc_dagster.stampli.intake.newer_versions import NotTaken, give_back
from mlc_dagster.stampli.intake.putting_away import HiddenDelivery, ManifestUnclear, OtherBytes, PuttingAway
from mlc_dagster.stampli.parsing.profile_files import Manifest

_EARLIER = 200
"""Files of earlier windows that one run tries again: a long list, as of years of ``leave``, must not hold it up."""
PER_POLL = 20
"""Files that one poll tries again: a tick has seconds, and each file is read back whole."""
AGAIN_AFTER = dt.timedelta(minutes=15)
"""From a failed attempt to the next one by a poll; runs do not wait for it."""
TELL_AFTER = dt.timedelta(days=1)
"""After so long a file that cannot be put away is told to people: that long, a full disk may take to be noticed."""
_MARGIN = dt.timedelta(seconds=60)
_CAUSE = "processed files cannot be put away"


def dispose_files(inbound: Inbound, rows: Sequence[Row]) -> list[str]:
    """Archive or delete on the server what was processed. One process at a time does; another one's turn passes.

    A file of another size or time is a newer version and is not touched: its writer may not have finished. Another
    hash after the rename means that a newer version arrived in that moment: it gets its name back and is read at the
    next poll, or is taken in from where it lies when the name is taken.

    Args:
        inbound: the wiring.
        rows: rows of ``source_file``; those that are processed and not disposed of are taken.

    Returns:
        One line per file that could not be disposed of, which stays where it is and is tried again; and one per newer
        version that was met.

    Raises:
        SftpError: the server cannot be used.
    """
    return _in_turn(inbound, rows) or []


def _in_turn(inbound: Inbound, rows: Sequence[Row]) -> list[str] | None:
    """As ``dispose_files``; None where another process is at it."""
    todo = [row for row in rows if row["state"] in DONE_STATES and row["sha256"] and row["disposed_at"] is None]
    if inbound.stampli.after_read == "leave" or not todo:
        return []
    return _alone(inbound, {int(row["id"]) for row in todo}, lambda attempt, session: attempt.go(session, todo))


def _alone(
    inbound: Inbound, keys: Collection[int], work: Callable[["_Attempt", SftpSession], None]
) -> list[str] | None:
    """What ``work`` told of the files with these keys; None where another process is at it."""
    owner = f"{process_name(os.getpid())}|{uuid4().hex}"
    # A session ends by its own deadline, so nobody moves a file after the lease.
    lease = dt.timedelta(seconds=inbound.stampli.sftp.poll_deadline) + _MARGIN
    with inbound.ledger.transaction() as transaction:
        until = disposal.take_turn(transaction, FEED, owner, lease)
    if until is None:
        return None
    attempt = _Attempt(inbound, until)
    try:
        with inbound.open_session() as session:
            work(attempt, session)
    except (SftpError, OSError) as error:
        attempt.failed |= {key: str(error) for key in keys if key not in attempt.ended}
        raise
    finally:
        tried = {*attempt.ended, *attempt.failed}
        with inbound.ledger.transaction() as transaction:
            disposal.end_turn(transaction, FEED, owner, tried=tried, failed=attempt.failed)
    return attempt.told


def dispose_processed(inbound: Inbound, rows: Sequence[Row]) -> list[str]:
    """As ``dispose_files``, and what earlier runs could not put away, the oldest first.

    A file that one of them has renamed and not put away is under a name that nobody but us knows.

    Args:
        inbound: the wiring.
        rows: this run's rows of ``source_file``.

    Returns:
        As ``dispose_files``; where more wait, how many.
    """
    if inbound.stampli.after_read == "leave":
        return []
    with inbound.ledger.reading() as reading:
        earlier = disposal.undisposed_files(reading, FEED, limit=_EARLIER)
    todo = {int(row["id"]): row for row in (*earlier, *rows)}
    told = _in_turn(inbound, list(todo.values()))
    if told is None:
        return []
    with inbound.ledger.reading() as reading:
        left = disposal.count_undisposed(reading, FEED)
    if left > len(told):
        told.insert(0, f"{left} processed files are not put away; every run tries the oldest {_EARLIER} again")
    return told


@dataclass(frozen=True)
class Retried:
    """What a poll found of files that are processed and still lie there."""

    told: tuple[str, ...] = ()
    """As ``dispose_files`` tells it; empty where nothing was due."""
    stuck: tuple[str, ...] = ()
    """Files that could not be put away for a day, one sentence each, oldest first."""
    newly_stuck: bool = False
    """No poll found such files within a day."""


def retry_disposal(
    inbound: Inbound, *, began: dt.datetime | None = None, connect: Callable[[], Inbound] | None = None
) -> Retried:
    """Put away what earlier runs could not, if it is due; nothing is asked of the server when nothing is.

    Args:
        inbound: the wiring.
        began: what was last tried before then (UTC) is due at once, as a person expects of a command; without it a
            failure is due again after a quarter of an hour.
        connect: the wiring for the server, made when something is due; ``inbound`` when not given.
    """
    leave = inbound.stampli.after_read == "leave"
    with inbound.ledger.reading() as reading:
        state = disposal.disposal_state(reading, FEED)
        due = _is_due(reading, state, began)
        rows = [] if leave else _due_files(reading, state, due=due)
    # Where files are left, what broke off before that has to be undone, and nothing else.
    broke_off = leave and due and bool(state.failing or state.owner)
    told: list[str] = []
    if rows or broke_off:
        try:
            wired = inbound if connect is None else connect()
            told = (_undo(wired, set(state.failing)) if leave else dispose_files(wired, rows)) or []
        except (SftpError, OSError) as error:
            # Our own disk, too: the poll that tidies up must still ask for its runs.
            told = [f"{_CAUSE}: {error}"]
        with inbound.ledger.reading() as reading:
            state = disposal.disposal_state(reading, FEED)
    late = inbound.ledger.now() - TELL_AFTER
    old = {key: each for key, each in state.failing.items() if each.since <= late}
    with inbound.ledger.reading() as reading:
        # A process that was killed after it put one away could not say so here.
        left = disposal.still_there(reading, old)
    stuck = tuple(
        f"since {each.since:%Y-%m-%d %H:%M} UTC: {each.text}"
        for key, each in sorted(old.items(), key=lambda item: item[1].since)
        if key in left
    )
    return Retried(tuple(told), stuck, newly_stuck=bool(stuck) and _is_new(inbound))


def _undo(inbound: Inbound, keys: Collection[int]) -> list[str] | None:
    """Files that were hidden before ``leave`` was written into mlc.yaml: nobody else knows them by these names."""

    def work(attempt: _Attempt, session: SftpSession) -> None:
        attempt.told, attempt.failed = give_names_back(inbound, session)
        attempt.ended = {0, *keys} - set(attempt.failed)

    # Of a process that was killed nobody knows at which files it was; that it is to be undone is kept until it is done.
    return _alone(inbound, keys or {0}, work)


def _is_due(reading: Transaction, state: DisposalState, began: dt.datetime | None) -> bool:
    if state.failed_at is None:
        return True
    if began is not None:
        return state.failed_at < began
    return reading.now - state.failed_at >= AGAIN_AFTER


def _due_files(reading: Transaction, state: DisposalState, *, due: bool) -> list[Row]:
    if not due and len(state.failing) >= _EARLIER:
        # Where so many fail, so will the next ones.
        return []
    return disposal.undisposed_files(reading, FEED, limit=PER_POLL, without=() if due else state.failing)


def _is_new(inbound: Inbound) -> bool:
    """Put on record that such files were found, unless they were within a day; who is told is another matter."""
    with inbound.ledger.transaction() as transaction:
        return notice(transaction, f"feed:{FEED}", _CAUSE)


@dataclass
class _Attempt:
    """One attempt at some files, over one connection."""

    inbound: Inbound
    until: dt.datetime
    told: list[str] = field(default_factory=list[str])
    failed: dict[int, str] = field(default_factory=dict[int, str])
    """Why files are still there, by key."""
    ended: set[int] = field(default_factory=set[int])

    def go(self, session: SftpSession, rows: Sequence[Row]) -> None:
        putting_away = PuttingAway(self.inbound, session)
        if self.inbound.stampli.after_read == "archive":
            # Told before any file is renamed: one that cannot be put away stays under its own name.
            rows = self._with_archive(putting_away, list(rows))
        if not isinstance(self.inbound.profile.file.end, Manifest):
            for row in self._in_time(rows):
                self._one(session, putting_away, row)
        elif rows:
            self._deliveries(session, putting_away, rows)

    def _in_time(self, rows: Iterable[Row]) -> Iterable[Row]:
        for row in rows:
            if self.inbound.ledger.now() >= self.until:
                # This process was stopped for longer than its lease: another one may be at the same files.
                return
            yield row

    def _with_archive(self, putting_away: PuttingAway, rows: list[Row]) -> list[Row]:
        missing = putting_away.missing_archives(rows)
        texts = {
            folder: f"{folder!r} (archive_directory) is not on the server; create it, or set after_read to leave or "
            "delete. Files processed stay where they are"
            for folder in sorted(missing)
        }
        self.told += texts.values()
        for row in rows:
            if (folder := putting_away.archive_of(row)) in missing:
                self.failed[row["id"]] = f"{row['path']}: {texts[folder]}"
        return [row for row in rows if putting_away.archive_of(row) not in missing]

    def _one(self, session: SftpSession, putting_away: PuttingAway, row: Row) -> None:
        try:
            how = putting_away.single(row)
            if isinstance(how, OtherBytes):
                self._newer(session, row, how)
            else:
                self._end(row, how)
        except (SftpError, ArchiveDamaged, NotTaken) as error:
            self._fail(row, error)

    def _deliveries(self, session: SftpSession, putting_away: PuttingAway, rows: Sequence[Row]) -> None:
        """All are hidden before any is put away, so that one more look finds manifests that came meanwhile."""
        folders = {split_path(row["path"])[0] for row in rows}
        ours = frozenset((row["path"], row["size"], row["mtime"]) for row in rows)
        try:
            before = claims_in(self.inbound, session, folders, ours=ours)
        except SftpError as error:
            self._fail_all(rows, error)
            return
        hidden: list[tuple[Row, HiddenDelivery]] = []
        for row in self._in_time(rows):
            try:
                found = putting_away.hide_delivery(row, before.get(split_path(row["path"])[0], Claims()))
                if isinstance(found, HiddenDelivery):
                    hidden.append((row, found))
                elif isinstance(found, OtherBytes):
                    self._newer(session, row, found)
                else:
                    self._end(row, found)
            except (SftpError, ArchiveDamaged, NotTaken, ManifestUnclear) as error:
                self._fail(row, error)
        # A manifest is written after its files: what it names lay there when it came, unless it was hidden before.
        folders = {split_path(row["path"])[0] for row, found in hidden if found.parts}
        try:
            after = claims_in(self.inbound, session, folders)
        except SftpError as error:
            self._fail_all([row for row, _ in hidden], error)
            return
        for row, found in hidden:
            try:
                claims = after.get(split_path(row["path"])[0], Claims())
                self._end(row, putting_away.finish_delivery(row, found, claims))
            except (SftpError, ManifestUnclear) as error:
                self._fail(row, error)

    def _newer(self, session: SftpSession, row: Row, found: OtherBytes) -> None:
        line = give_back(self.inbound, session, row, found.sha256)
        self.told += [] if line is None else [line]
        self.ended.add(row["id"])

    def _end(self, row: Row, how: str) -> None:
        with self.inbound.ledger.transaction() as transaction:
            disposal.disposed(transaction, row, how)
        self.ended.add(row["id"])

    def _fail_all(self, rows: Iterable[Row], error: SftpError) -> None:
        self.told.append(str(error))
        self.failed |= {int(row["id"]): str(error) for row in rows}

    def _fail(self, row: Row, error: Exception) -> None:
        text = f"{row['path']}: {error}" if isinstance(error, ArchiveDamaged) else str(error)
        self.told.append(text)
        self.failed[row["id"]] = text
