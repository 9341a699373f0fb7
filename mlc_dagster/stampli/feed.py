"""One look at Stampli's folder: what is there, what has settled, which window it belongs to.

Used alike by the sensor and by ``mlc run inbound``. Nothing is downloaded here; a folder of ten thousand old files
costs one listing. All state is in the ledger: a crash at any point repeats nothing and loses nothing.
"""

import datetime as dt
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from mlc_dagster.ledger import files as ledger_files
from mlc_dagster.ledger.database import Ledger, Transaction
from mlc_dagster.ledger.files import Seen
from mlc_dagster.ledger.recovery import unknown_count
from mlc_dagster.ledger.submissions import MOST_UNKNOWN
from mlc_dagster.ledger.windows import (
    GenerationKind,
    RunWanted,
    close_windows,
    ensure_window,
    open_generation,
    pin_cron,
    plan_retries,
    runs_wanted,
)
from mlc_dagster.settings import PollSettings, StampliSettings
from mlc_dagster.sftp.listing import Listing, RemoteFile
from mlc_dagster.sftp.session import SftpSession
from mlc_dagster.stampli.profile import Profile

FEED = "stampli"

OpenSession = Callable[[], AbstractContextManager[SftpSession]]


class FirstContact(Exception):
    """The folder was not empty when it was first seen: a person says what its files are."""

    def __init__(self, directory: str, count: int) -> None:
        self.directory = directory
        self.count = count
        super().__init__(
            f"{directory}: first contact found {count} {'file' if count == 1 else 'files'} that nobody here has "
            "processed. If they were handled before, run `mlc files baseline`; to post them, `mlc files process --all` "
            "or `mlc files process NAME …` (all others count as handled). Nothing is read until then"
        )


class BeforeGoLive(Exception):
    """poll.start lies in the future."""

    def __init__(self, start: dt.datetime) -> None:
        self.start = start
        super().__init__(f"poll.start is {start:%Y-%m-%d %H:%M} UTC, in the future: nothing is polled until then")


@dataclass(frozen=True)
class Poll:
    """What one look found and decided."""

    at: dt.datetime
    """The database's time, UTC."""
    assigned: tuple[str, ...]
    """Paths given to this poll's window."""
    waiting: tuple[str, ...]
    """Paths that match but have not settled."""
    ignored: int
    """Entries that are no files, are in flight by their suffix or do not match the profile's pattern."""
    runs: tuple[RunWanted, ...]
    empty_windows: tuple[dt.datetime, ...] = field(default=())


def candidates(listing: Listing, profile: Profile) -> tuple[list[RemoteFile], int]:
    """Regular files whose name matches the profile and carries no in-flight suffix; and how many others there are."""
    taken: list[RemoteFile] = []
    for remote in listing.files:
        if remote.printable != remote.path or profile.in_flight(remote.name) or not profile.matches(remote.name):
            continue
        taken.append(remote)
    return taken, len(listing.files) - len(taken) + len(listing.others)


def look(open_session: OpenSession, settings: StampliSettings, profile: Profile) -> tuple[list[Seen], int]:
    """One fresh connection, one listing."""
    with open_session() as session:
        listing = session.list(settings.sftp.directory)
    taken, ignored = candidates(listing, profile)
    return [Seen(remote.path, remote.size, remote.mtime) for remote in taken], ignored


def poll_folder(
    ledger: Ledger, open_session: OpenSession, settings: StampliSettings, poll: PollSettings, profile: Profile
) -> Poll:
    """Look at the folder, note the sightings, give settled files to the window that is open now.

    Raises:
        BeforeGoLive: poll.start is in the future.
        FirstContact: a non-empty folder was seen for the first time and nobody decided on its files yet.
        SftpError: the server cannot be used; the ledger is unchanged.
    """
    start = ledger.now()
    if start < poll.start:
        raise BeforeGoLive(poll.start)
    seen, ignored = look(open_session, settings, profile)
    with ledger.transaction() as transaction:
        pin_cron(transaction, poll.cron)
        feed = ledger_files.contact(transaction, FEED, empty=not seen)
        if feed.opened:
            return _take(transaction, feed, seen, ignored, settings, poll)
    raise FirstContact(settings.sftp.directory, len(seen))


def _take(
    transaction: Transaction,
    feed: ledger_files.Feed,
    seen: Iterable[Seen],
    ignored: int,
    settings: StampliSettings,
    poll: PollSettings,
) -> Poll:
    settled = ledger_files.record_sightings(
        transaction,
        FEED,
        seen,
        settle_seconds=settings.settle_seconds,
        zero_byte_grace=settings.zero_byte_grace,
    )
    window = poll.window_start(transaction.now)
    if settled:
        ensure_window(transaction, FEED, window, poll.minutes)
        generation = open_generation(transaction, FEED, window, GenerationKind.FILES)
        ledger_files.assign(transaction, FEED, settled, window, generation)
    runs, empty = plan_runs(transaction, feed, poll)
    waiting = tuple(row["path"] for row in ledger_files.list_sightings(transaction, FEED))
    return Poll(transaction.now, tuple(file.path for file in settled), waiting, ignored, runs, empty)


def plan_runs(
    transaction: Transaction, feed: ledger_files.Feed, poll: PollSettings
) -> tuple[tuple[RunWanted, ...], tuple[dt.datetime, ...]]:
    """What must run, from the ledger alone; and the windows that ended without files."""
    plan_retries(transaction, FEED, begin_new=unknown_count(transaction) < MOST_UNKNOWN)
    first = max(poll.start, poll.window_start(feed.first_seen_at))
    empty = close_windows(
        transaction, FEED, first=first, before=poll.window_start(transaction.now), minutes=poll.minutes
    )
    return tuple(runs_wanted(transaction, FEED)), tuple(empty)


def decide_first_contact(
    ledger: Ledger,
    open_session: OpenSession,
    settings: StampliSettings,
    profile: Profile,
    process: frozenset[str] | None,
) -> tuple[int, int]:
    """A person's decision: every file there is baseline, except those to be processed.

    Args:
        process: names or paths to process; None processes all.

    Returns:
        (files marked as baseline, files left to be processed).

    Raises:
        LookupError: a name in ``process`` is not in the folder.
    """
    seen, _ = look(open_session, settings, profile)
    by_name = {file.path: file for file in seen} | {file.path.rpartition("/")[2]: file for file in seen}
    if process is None:
        keep = {file.path for file in seen}
    else:
        for name in sorted(process):
            if name not in by_name:
                msg = f"{name}: no such file in {settings.sftp.directory}; `mlc files list` shows what is there"
                raise LookupError(msg)
        keep = {by_name[name].path for name in process}
    with ledger.transaction() as transaction:
        marked = ledger_files.baseline(transaction, FEED, [file for file in seen if file.path not in keep])
        how = "all processed" if process is None else f"{marked} baseline, {len(keep)} processed"
        ledger_files.open_feed(transaction, FEED, how)
    return marked, len(keep)
