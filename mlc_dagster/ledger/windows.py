"""Poll windows, the generations of work on them, and the lease that lets one run at a time work on a window.

A generation is frozen when it is made: its files (or its reason to retry) are in the ledger before a run is asked for.
What must run is derived from these rows alone, so a crash between the decision and the request loses nothing.
"""

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.ledger.database import LedgerError, Row, Transaction
from mlc_dagster.ledger.prepared import Prepared
from mlc_dagster.ledger.process import process_is_gone
from mlc_dagster.ledger.schema import ledger_setting, poll_window, window_run

KEY_FORMAT = "%Y-%m-%d-%H:%M"
"""A window's name: the start of the window in UTC."""

_LOST_REQUEST = dt.timedelta(minutes=15)
_FENCE = Prepared(
    sa.select(poll_window.c.fence).where(
        poll_window.c.feed == sa.bindparam("of"), poll_window.c.window_start == sa.bindparam("start")
    )
)


class GenerationKind(StrEnum):
    FILES = "FILES"
    RETRY = "RETRY"
    RECONCILE = "RECONCILE"
    EXPORT = "EXPORT"


@dataclass(frozen=True)
class RunWanted:
    """A run that should exist: the partition, its generation and which attempt at it."""

    window_start: dt.datetime
    generation: int
    attempt: int
    kind: GenerationKind

    @property
    def partition_key(self) -> str:
        return window_key(self.window_start)

    @property
    def run_key(self) -> str:
        return f"{self.partition_key}/g{self.generation}/a{self.attempt}"


class WindowBusy(Expected):
    """Another run holds the window."""

    kind = FailureKind.BUSY

    def __init__(self, window_start: dt.datetime, owner: str, until: dt.datetime) -> None:
        self.window_start = window_start
        self.owner = owner
        self.until = until
        host, _, pid = owner.split("|")[:3]
        super().__init__(
            f"window {window_key(window_start)} UTC is being worked on by process {pid} on {host} "
            f"(lease until {until:%H:%M:%S} UTC); it is taken up again at the next poll"
        )


class WindowLost(Expected):
    """Another run took the window over while this one stood still: it may begin nothing any more."""

    kind = FailureKind.BUSY

    def __init__(self, window: str) -> None:
        self.window = window
        super().__init__(
            f"window {window} UTC was taken over by another run while this one stood still; that run goes on with it"
        )


def window_key(start: dt.datetime) -> str:
    """The window's name (partition key)."""
    return start.astimezone(dt.UTC).strftime(KEY_FORMAT)


def window_start(key: str) -> dt.datetime:
    """Inverse of ``window_key``; raises ValueError."""
    return dt.datetime.strptime(key, KEY_FORMAT).replace(tzinfo=dt.UTC)


def pin_cron(transaction: Transaction, cron: str) -> None:
    """Remember the windows' length at first use; refuse another one later, which would cut through old windows."""
    transaction.insert_ignoring(ledger_setting, {"name": "poll.cron", "value": cron})
    pinned = transaction.value(sa.select(ledger_setting.c.value).where(ledger_setting.c.name == "poll.cron"))
    if pinned != cron:
        msg = (
            f"poll.cron is {cron!r} in mlc.yaml, but this ledger's windows were made with {pinned!r}; "
            f"write {pinned!r}, or start a new ledger"
        )
        raise LedgerError(msg)


def pin_pod(transaction: Transaction, base_url: str) -> None:
    """Remember which Fusion environment the ledger speaks of; refuse another one later.

    Its open attempts would be looked for, and sent again, in an environment that never saw them.
    """
    transaction.insert_ignoring(ledger_setting, {"name": "fusion.base_url", "value": base_url})
    pinned = transaction.value(sa.select(ledger_setting.c.value).where(ledger_setting.c.name == "fusion.base_url"))
    if pinned != base_url:
        msg = (
            f"fusion.base_url is {base_url!r} in mlc.yaml, but this ledger holds the invoices of {pinned!r}; "
            "write that address, or start a new ledger (data_dir, ledger.url) for another environment"
        )
        raise LedgerError(msg)


def ensure_window(transaction: Transaction, feed: str, start: dt.datetime, minutes: int) -> None:
    """Make the window's row unless it is there."""
    end = start + dt.timedelta(minutes=minutes)
    transaction.insert_ignoring(poll_window, {"feed": feed, "window_start": start, "window_end": end})


def open_generation(transaction: Transaction, feed: str, start: dt.datetime, kind: GenerationKind) -> int:
    """A new generation of work on a window (which must exist); its number, from 1."""
    # One at a time per window: two that count from the same last generation would collide.
    transaction.row(
        sa.select(poll_window.c.fence)
        .where(poll_window.c.feed == feed, poll_window.c.window_start == start)
        .with_for_update()
    )
    last = transaction.value(
        sa.select(sa.func.max(window_run.c.generation)).where(
            window_run.c.feed == feed, window_run.c.window_start == start
        )
    )
    generation = (last or 0) + 1
    transaction.execute(
        sa.insert(window_run).values(
            feed=feed,
            window_start=start,
            generation=generation,
            kind=str(kind),
            state="OPEN",
            created_at=transaction.now,
        )
    )
    transaction.audit("window.opened", f"window:{window_key(start)}", generation=generation, work=str(kind))
    return generation


def runs_wanted(transaction: Transaction, feed: str) -> list[RunWanted]:
    """Every open generation that no run is working on, oldest window first, with the attempt to ask for.

    An attempt counts up only when the one before is known to have ended without finishing: asking twice for the same
    attempt gives the same run key, which Dagster takes once. A RECONCILE is not asked for: a person did, and
    nobody repeats it.
    """
    now = transaction.now
    rows = transaction.rows(
        sa.select(window_run, poll_window.c.lease_owner, poll_window.c.lease_until)
        .join(
            poll_window,
            sa.and_(poll_window.c.feed == window_run.c.feed, poll_window.c.window_start == window_run.c.window_start),
        )
        .where(
            window_run.c.feed == feed,
            window_run.c.state == "OPEN",
            window_run.c.kind != str(GenerationKind.RECONCILE),
        )
        .order_by(window_run.c.window_start, window_run.c.generation)
    )
    wanted: list[RunWanted] = []
    for row in rows:
        if is_held(row, now) or (row["not_before"] is not None and row["not_before"] > now):
            continue
        attempt = row["attempt"]
        started_and_died = row["attempt_started_at"] is not None
        never_started = row["requested_at"] is not None and now - row["requested_at"] > _LOST_REQUEST
        values: dict[str, Any] = {}
        if started_and_died or never_started:
            attempt += 1
            values = {"attempt": attempt, "attempt_started_at": None, "requested_at": now}
        elif row["requested_at"] is None:
            values = {"requested_at": now}
        if values:
            transaction.execute(sa.update(window_run).where(*this_run(row)).values(**values))
        wanted.append(RunWanted(row["window_start"], row["generation"], attempt, GenerationKind(row["kind"])))
    return wanted


def is_held(window: Row, now: dt.datetime) -> bool:
    """Whether a run is working on the window (a row with the lease's columns), as far as anybody can tell."""
    until: dt.datetime | None = window["lease_until"]
    return until is not None and until > now and not process_is_gone(window["lease_owner"])


def this_run(row: Row) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions that name a row of ``window_run``."""
    return (
        window_run.c.feed == row["feed"],
        window_run.c.window_start == row["window_start"],
        window_run.c.generation == row["generation"],
    )


def take_window(
    transaction: Transaction,
    feed: str,
    start: dt.datetime,
    generation: int | None,
    *,
    owner: str,
    run_id: str,
    lease: dt.timedelta,
) -> tuple[int, int, GenerationKind]:
    """Lease the window to this run and say what it works on; (fence, generation, kind).

    ``generation`` None is a run started by hand: a RECONCILE generation is opened for it, once for all its steps.

    Raises:
        WindowBusy: a live run holds the lease.
        LedgerError: there is no such generation.
    """
    row = transaction.row(
        sa.select(poll_window).where(poll_window.c.feed == feed, poll_window.c.window_start == start).with_for_update()
    )
    if row is None:
        msg = f"window {window_key(start)} UTC is not in the ledger; no poll has reached it yet"
        raise LedgerError(msg)
    until: dt.datetime | None = row["lease_until"]
    leased = until is not None and until > transaction.now and row["lease_owner"] != owner
    if until is not None and leased and not process_is_gone(row["lease_owner"]):
        raise WindowBusy(start, row["lease_owner"], until)
    if generation is None:
        generation = transaction.value(
            sa.select(window_run.c.generation).where(
                window_run.c.feed == feed, window_run.c.window_start == start, window_run.c.run_id == run_id
            )
        )
    if generation is None:
        generation = open_generation(transaction, feed, start, GenerationKind.RECONCILE)
    run = transaction.row(
        sa.select(window_run).where(
            window_run.c.feed == feed, window_run.c.window_start == start, window_run.c.generation == generation
        )
    )
    if run is None:
        msg = f"window {window_key(start)} UTC has no generation {generation}; leave the tag mlc/generation away"
        raise LedgerError(msg)
    fence = row["fence"] + 1
    transaction.execute(
        sa.update(poll_window)
        .where(poll_window.c.feed == feed, poll_window.c.window_start == start)
        .values(lease_owner=owner, lease_until=transaction.now + lease, fence=fence)
    )
    # A failed one is worked on again, when a step of its run that was believed dead comes after all.
    state = "OPEN" if run["state"] == "FAILED" else run["state"]
    transaction.execute(
        sa.update(window_run)
        .where(*this_run(run))
        .values(run_id=run_id, attempt_started_at=transaction.now, failure=None, state=state)
    )
    return fence, generation, GenerationKind(run["kind"])


def renew_window(transaction: Transaction, feed: str, start: dt.datetime, owner: str, lease: dt.timedelta) -> bool:
    """Lengthen the lease; False when it is no longer ours."""
    statement = (
        sa.update(poll_window)
        .where(poll_window.c.feed == feed, poll_window.c.window_start == start, poll_window.c.lease_owner == owner)
        .values(lease_until=transaction.now + lease)
    )
    return transaction.execute(statement).rowcount == 1


def window_held(transaction: Transaction, feed: str, start: dt.datetime, fence: int) -> bool:
    """True while nobody has taken the window since ``take_window`` gave out this fence."""
    return _FENCE.value(transaction, {"of": feed, "start": start}) == fence


def release_window(transaction: Transaction, feed: str, start: dt.datetime, owner: str) -> None:
    """Give the lease back, when it is still ours."""
    transaction.execute(
        sa.update(poll_window)
        .where(poll_window.c.feed == feed, poll_window.c.window_start == start, poll_window.c.lease_owner == owner)
        .values(lease_owner=None, lease_until=None)
    )


def close_windows(
    transaction: Transaction, feed: str, *, first: dt.datetime, before: dt.datetime, minutes: int, most: int = 500
) -> list[dt.datetime]:
    """Give every window that is over its outcome; returns those found EMPTY now, oldest first (at most ``most``).

    Each is returned once: a window without files is marked without a run.
    """
    step = dt.timedelta(minutes=minutes)
    last = transaction.value(
        sa.select(sa.func.max(poll_window.c.window_start)).where(
            poll_window.c.feed == feed, poll_window.c.outcome.is_not(None)
        )
    )
    start = last + step if last is not None else first
    empty: list[dt.datetime] = []
    while start + step <= before and len(empty) < most:
        ensure_window(transaction, feed, start, minutes)
        has_work = transaction.value(
            sa.select(sa.func.count())
            .select_from(window_run)
            .where(window_run.c.feed == feed, window_run.c.window_start == start)
        )
        marked = transaction.execute(
            sa.update(poll_window)
            # Another poll may have been quicker: it reports the window, and we do not.
            .where(poll_window.c.feed == feed, poll_window.c.window_start == start, poll_window.c.outcome.is_(None))
            .values(outcome="FILES" if has_work else "EMPTY", marked_at=transaction.now)
        )
        if not has_work and marked.rowcount == 1:
            empty.append(start)
        start += step
    return empty
