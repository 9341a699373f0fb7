"""One look at Stampli's folder: what is there, what has settled, which window it belongs to.

Used alike by the sensor and by ``mlc run inbound``. Nothing is downloaded here; a folder of ten thousand old files
costs one listing. All state is in the ledger: a crash at any point repeats nothing and loses nothing.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from mlc_dagster.ledger import files as ledger_files
from mlc_dagster.ledger.approval import Decision
from mlc_dagster.ledger.database import Ledger, Transaction
from mlc_dagster.ledger.files import Seen
from mlc_dagster.ledger.lost_files import lost_files
from mlc_dagster.ledger.recovery import unknown_count
from mlc_dagster.ledger.retries import plan_retries
from mlc_dagster.ledger.submissions import MOST_UNKNOWN
from mlc_dagster.ledger.tellings import notice
from mlc_dagster.ledger.windows import (
    GenerationKind,
    RunWanted,
    close_windows,
    ensure_window,
    open_generation,
    pin_cron,
    runs_wanted,
)
from mlc_dagster.settings import PollSettings, StampliSettings
from mlc_dagster.sftp.listing import Listing, RemoteFile, is_safe_name
from mlc_dagster.stampli.inbound import FEED, OpenSession
from mlc_dagster.stampli.intake.hidden_names import is_hidden
from mlc_dagster.stampli.parsing.profile import Profile

MOST_REFUSED = 20
"""Refused entries that one look tells of."""


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


class Overdue(NamedTuple):
    """A file that waits too long."""

    path: str
    text: str
    """What for, since when, what to do."""


class Found(NamedTuple):
    """The entries of a folder, sorted by what the profile makes of them."""

    taken: list[RemoteFile]
    """Whole as far as a listing tells."""
    unready: list[tuple[RemoteFile, str]]
    """Files of ours that wait for another one beside them, and for which."""
    ignored: int


@dataclass(frozen=True)
class Look:
    """One listing of the folder."""

    taken: list[Seen]
    unready: list[tuple[Seen, str]]
    """Files of ours that wait for another one beside them, and for which."""
    ignored: int
    refused: tuple[str, ...]

    @property
    def ours(self) -> list[Seen]:
        """All files that are or will be invoices."""
        return [*self.taken, *(seen for seen, _ in self.unready)]


@dataclass(frozen=True)
class Poll:
    """What one look found and decided."""

    at: dt.datetime
    """The database's time, UTC."""
    assigned: tuple[str, ...]
    """Paths given to this poll's window."""
    waiting: tuple[str, ...]
    """Paths that match and are not taken yet."""
    ignored: int
    """Entries that are no files, are in flight by their suffix or do not match the profile's pattern."""
    runs: tuple[RunWanted, ...]
    empty_windows: tuple[dt.datetime, ...] = field(default=())
    refused: tuple[str, ...] = ()
    """Entries that are never read although they might be meant for us, one sentence each."""
    newly_refused: tuple[str, ...] = ()
    """Those that no poll found within a day."""
    unready: tuple[str, ...] = ()
    """Of those that wait: what for, one sentence each; the others have not settled."""
    overdue: tuple[Overdue, ...] = ()
    """Files that wait for longer than a sender takes to write."""
    newly_overdue: tuple[Overdue, ...] = ()
    """Those that no poll found within a day."""


def candidates(listing: Listing, profile: Profile) -> Found:
    """Regular files whose name the profile takes and that carry no in-flight suffix; and how many others there are.

    A file whose done marker is not there, and one of a delivery, wait: the one is taken when its marker comes, the
    other with the manifest that names it.
    """
    taken: list[RemoteFile] = []
    unready: list[tuple[RemoteFile, str]] = []
    marker_of = profile.marker_of
    names = set[str]() if marker_of is None else {remote.name for remote in listing.files}
    for remote in listing.files:
        if remote.printable != remote.path or profile.in_flight(remote.name) or is_hidden(remote.name):
            continue
        if not profile.matches(remote.name):
            if profile.part_of(remote.name) is not None:
                unready.append((remote, "waits for a manifest that names it"))
        elif marker_of is not None and marker_of(remote.name) not in names:
            unready.append((remote, f"waits for its marker {marker_of(remote.name)}"))
        else:
            taken.append(remote)
    others = len(listing.files) - len(taken) - len(unready) + len(listing.others)
    return Found(taken, unready, others)


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


def look(open_session: OpenSession, settings: StampliSettings, profile: Profile) -> Look:
    """One fresh connection, one listing."""
    with open_session() as session:
        listing = session.list(settings.sftp.directory)
    found = candidates(listing, profile)
    return Look(
        taken=[_seen(remote) for remote in found.taken],
        unready=[(_seen(remote), note) for remote, note in found.unready],
        ignored=found.ignored,
        refused=refused_entries(listing, profile),
    )


def _seen(remote: RemoteFile) -> Seen:
    return Seen(remote.path, remote.size, remote.mtime)


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
    looked = look(open_session, settings, profile)
    with ledger.transaction() as transaction:
        pin_cron(transaction, poll.cron)
        feed = ledger_files.contact(transaction, FEED, empty=not looked.ours)
        if feed.opened:
            # What is tried once more from here on is no less late.
            not_whole = _not_whole(transaction, looked, settings)
            found = _take(transaction, feed, looked, settings, poll)
            lost = _lost(transaction, looked)
            overdue = tuple(sorted([*not_whole, *_without_another(transaction, settings), *lost]))
            texts = {each.text: each for each in overdue}
            return replace(
                found,
                refused=looked.refused,
                newly_refused=_news(transaction, looked.refused),
                overdue=overdue,
                newly_overdue=tuple(texts[text] for text in _news(transaction, texts)),
            )
    raise FirstContact(settings.sftp.directory, len(looked.ours))


def _news(transaction: Transaction, texts: Iterable[str]) -> tuple[str, ...]:
    """Those that no poll has found within a day; whether anybody is told of them is another matter."""
    return tuple(text for text in texts if notice(transaction, f"feed:{FEED}", text))


def _without_another(transaction: Transaction, settings: StampliSettings) -> list[Overdue]:
    """Files that wait for another one for longer than a sender takes to write it."""
    limit = dt.timedelta(seconds=settings.tell_waiting_after)
    return [
        Overdue(row["path"], f"{row['path']} {row['note']} since {row['same_since']:%Y-%m-%d %H:%M} UTC; {_ASK}")
        for row in ledger_files.list_sightings(transaction, FEED)
        if row["note"] is not None and transaction.now - row["same_since"] >= limit
    ]


def _not_whole(transaction: Transaction, looked: Look, settings: StampliSettings) -> list[Overdue]:
    """Files that were tried, are not whole and have not changed for longer than a sender takes to write."""
    there = {(seen.path, seen.size, seen.mtime) for seen in looked.taken}
    found: list[Overdue] = []
    for row in ledger_files.released_files(transaction, FEED):
        # When it was first tried is not kept; its own time tells how long nobody has been writing to it.
        written = row["mtime"]
        if written is None or (row["path"], row["size"], written) not in there:
            continue
        since = dt.datetime.fromtimestamp(written, dt.UTC)
        if transaction.now - since >= dt.timedelta(seconds=settings.tell_waiting_after):
            text = (
                f"{row['path']} is not whole and unchanged since {since:%Y-%m-%d %H:%M} UTC ({row['reason']}); {_ASK}"
            )
            found.append(Overdue(row["path"], text))
    return found


def _lost(transaction: Transaction, looked: Look) -> list[Overdue]:
    """Files whose only copy was ours: what lies in the folder is fetched again, of others nobody else would speak."""
    there = {seen.path for seen in looked.ours}
    return [
        Overdue(
            row["path"],
            f"{row['path']} was received, its bytes are lost and it is no longer on the server: none of its invoices "
            "is posted. Ask the sender to send it again",
        )
        for row in lost_files(transaction, FEED)
        if row["path"] not in there
    ]


_ASK = "ask the sender for what is missing, or take the file away"


def _take(
    transaction: Transaction, feed: ledger_files.Feed, looked: Look, settings: StampliSettings, poll: PollSettings
) -> Poll:
    settled = ledger_files.record_sightings(
        transaction,
        FEED,
        looked.ours,
        settle_seconds=settings.settle_seconds,
        zero_byte_grace=settings.zero_byte_grace,
        unready={seen.path: note for seen, note in looked.unready},
    )
    window = poll.window_start(transaction.now)
    if settled:
        ensure_window(transaction, FEED, window, poll.minutes)
        generation = open_generation(transaction, FEED, window, GenerationKind.FILES)
        ledger_files.assign(transaction, FEED, settled, window, generation)
    runs, empty = plan_runs(transaction, feed, poll)
    waiting = ledger_files.list_sightings(transaction, FEED)
    return Poll(
        transaction.now,
        assigned=tuple(file.path for file in settled),
        waiting=tuple(row["path"] for row in waiting),
        ignored=looked.ignored,
        runs=runs,
        empty_windows=empty,
        unready=tuple(f"{row['path']} {row['note']}" for row in waiting if row["note"] is not None),
    )


def plan_runs(
    transaction: Transaction, feed: ledger_files.Feed, poll: PollSettings
) -> tuple[tuple[RunWanted, ...], tuple[dt.datetime, ...]]:
    """What must run, from the ledger alone; and the windows that ended without files."""
    runs = due_runs(transaction)
    first = max(poll.start, poll.window_start(feed.first_seen_at))
    empty = close_windows(
        transaction, FEED, first=first, before=poll.window_start(transaction.now), minutes=poll.minutes
    )
    return runs, tuple(empty)


def due_runs(transaction: Transaction) -> tuple[RunWanted, ...]:
    """What must run now, oldest window first; nothing new is begun while too many outcomes are unknown."""
    plan_retries(transaction, FEED, begin_new=unknown_count(transaction) < MOST_UNKNOWN)
    return tuple(runs_wanted(transaction, FEED))


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
    looked = look(open_session, settings, profile)
    seen = looked.ours
    by_name = {file.path: file for file in seen} | {file.path.rpartition("/")[2]: file for file in seen}
    if process is None:
        keep = {file.path for file in seen}
    else:
        for name in sorted(process):
            if name not in by_name:
                msg = f"{name}: no such file in {settings.sftp.directory}; `mlc files list` shows what is there"
                raise LookupError(msg)
        # Files of a delivery come with their manifest, whatever is said of them by themselves.
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
