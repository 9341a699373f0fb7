"""One look at Stampli's folder: what is there, what has settled, which window it belongs to.

Used alike by the sensor and by ``mlc run inbound``. Nothing is downloaded here; a folder of ten thousand old files
costs one listing. All state is in the ledger: a crash at any point repeats nothing and loses nothing.
"""

import datetime as dt
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from mlc_dagster.ledger import files as ledger_files
from mlc_dagster.ledger.approval import Decision
from mlc_dagster.ledger.database import Ledger, Transaction
from mlc_dagster.ledger.files import Seen
from mlc_dagster.ledger.recovery import unknown_count
from mlc_dagster.ledger.submissions import MOST_UNKNOWN
from mlc_dagster.ledger.tellings import is_news, note_told
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
from mlc_dagster.sftp.listing import Listing, RemoteFile, is_safe_name
from mlc_dagster.sftp.session import SftpSession
from mlc_dagster.stampli.profile import Profile

FEED = "stampli"
MOST_REFUSED = 20
"""Refused entries that one look tells of."""

OpenSession = Callable[[], AbstractContextManager[SftpSession]]


class FirstContact(Exception):
    """The folder was not empty when it was first seen: a person says what its files are."""

    def __init__(self, directory: str, count: int) -> None:
        self.directory = directory
        self.count = count
        super().__init__(
            f"{directory}: first contact found {count} {'file' if count == 1 else 'files'} that nobody here has "
            "processed. If they were handled before, run `mlc files baseline`; to post them, `mlc files process --all` "
            "or `mlc files process NAME …` (all others count as handled); each takes --by NAME --reason TEXT. Nothing "
            "is read until then"
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
    refused: tuple[str, ...] = ()
    """Entries that are never read although they might be meant for us, one sentence each."""
    newly_refused: tuple[str, ...] = ()
    """Those that nobody was told of within a day."""


def candidates(listing: Listing, profile: Profile) -> tuple[list[RemoteFile], int]:
    """Regular files whose name matches the profile and carries no in-flight suffix; and how many others there are.

    Where the profile asks for a done marker, a file whose marker is not there is one of the others.
    """
    taken: list[RemoteFile] = []
    marker_of = profile.marker_of
    names = set[str]() if marker_of is None else {remote.name for remote in listing.files}
    for remote in listing.files:
        if remote.printable != remote.path or profile.in_flight(remote.name) or not profile.matches(remote.name):
            continue
        if marker_of is not None and marker_of(remote.name) not in names:
            continue
        taken.append(remote)
    return taken, len(listing.files) - len(taken) + len(listing.others)


def refused_entries(listing: Listing, profile: Profile) -> tuple[str, ...]:
    """One sentence for each entry that is not read for what it is, not for being somebody else's."""
    refused: list[str] = []
    for entry in listing.others:
        if not is_safe_name(entry.name):
            refused.append(f"FILE_NAME: {entry.printable!r} would lead out of the folder and is not read")
        elif profile.matches(entry.name):
            refused.append(
                f"FILE_NAME: {entry.printable!r} is no ordinary file (a link, a folder or a device); it is not followed"
            )
    refused += [
        f"FILE_NAME: {entry.printable!r} is not read: its name is too long, is not UTF-8 or has invisible characters"
        for entry in listing.files
        if entry.printable != entry.path
    ]
    more = len(refused) - MOST_REFUSED
    return (*refused[:MOST_REFUSED], *([f"FILE_NAME: {more} more names are refused"] if more > 0 else []))


def look(
    open_session: OpenSession, settings: StampliSettings, profile: Profile
) -> tuple[list[Seen], int, tuple[str, ...]]:
    """One fresh connection, one listing: what may be taken, how many others there are, and which are refused."""
    with open_session() as session:
        listing = session.list(settings.sftp.directory)
    taken, ignored = candidates(listing, profile)
    seen = [Seen(remote.path, remote.size, remote.mtime) for remote in taken]
    return seen, ignored, refused_entries(listing, profile)


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
    seen, ignored, refused = look(open_session, settings, profile)
    with ledger.transaction() as transaction:
        pin_cron(transaction, poll.cron)
        feed = ledger_files.contact(transaction, FEED, empty=not seen)
        if feed.opened:
            found = _take(transaction, feed, seen, ignored, settings, poll)
            return replace(found, refused=refused, newly_refused=_note_refused(transaction, refused))
    raise FirstContact(settings.sftp.directory, len(seen))


def _note_refused(transaction: Transaction, refused: Iterable[str]) -> tuple[str, ...]:
    """Put what is news on record; returns it."""
    news = tuple(text for text in refused if is_news(transaction, f"feed:{FEED}", text))
    for text in news:
        note_told(transaction, f"feed:{FEED}", text, "an entry of the folder is refused")
    return news


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
    decision: Decision | None = None,
) -> tuple[int, int]:
    """A person's decision: every file there is baseline, except those to be processed.

    Args:
        process: names or paths to process; None processes all.
        decision: who decided and why; None for a program that opens a folder of its own making.

    Returns:
        (files marked as baseline, files left to be processed).

    Raises:
        LookupError: a name in ``process`` is not in the folder.
    """
    seen, _, _ = look(open_session, settings, profile)
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
        if decision is not None:
            # The files marked have an event each.
            decision.record(
                transaction, "feed.first_contact_decided", f"feed:{FEED}", before={"opened_how": None},
                after={"opened_how": how}, baseline=marked, to_process=len(keep),
                named=None if process is None else sorted(process),
            )  # fmt: skip
    return marked, len(keep)
