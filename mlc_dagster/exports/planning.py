"""What must run now: derived from the ledger alone, with Fusion's clock.

Each feed has its own work, so that a partner whose server is down keeps nobody else waiting. A piece of work stays open
until it is done; each attempt has its own run key, and takes all windows that are over by then as one range.
"""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass, field

import sqlalchemy as sa

from mlc_dagster.exports.calendar import CalendarError, is_due
from mlc_dagster.exports.cron import CronError
from mlc_dagster.exports.outbound import Outbound
from mlc_dagster.exports.runs import ExportRun, work_name
from mlc_dagster.ledger import exported, feeds, windows
from mlc_dagster.ledger.database import LedgerError, Transaction
from mlc_dagster.ledger.schema import window_run
from mlc_dagster.ledger.windows import GenerationKind
from mlc_dagster.settings import ExportSettings, Settings

MOST_WINDOWS = 192
"""Windows of one run: Dagster writes several events for each of them. What is left is the next run's."""


@dataclass(frozen=True)
class FeedFault:
    """A feed of mlc.yaml that cannot be planned; it keeps no other feed from running."""

    feed: str
    error: CalendarError | CronError | LedgerError


@dataclass(frozen=True)
class Plan:
    """What must run now, in the order of mlc.yaml, and what cannot."""

    runs: list[ExportRun] = field(default_factory=list[ExportRun])
    faults: list[FeedFault] = field(default_factory=list[FeedFault])


def plan_exports(
    outbound: Outbound, fusion_now: dt.datetime, *, only: Collection[str] | None = None, force: bool = False
) -> Plan:
    """Runs wanted now; opens work for feeds that are due. No layout is loaded for it.

    Args:
        outbound: the wiring; which of its feeds are connected does not matter.
        fusion_now: Fusion's own time, UTC.
        only: names of feeds; all of mlc.yaml when absent.
        force: whatever the schedules say, as ``mlc run outbound`` asks for.
    """
    settings = outbound.settings
    closed = settings.poll.window_start(fusion_now - dt.timedelta(seconds=settings.outbound.lag))
    plan = Plan()
    with outbound.ledger.transaction() as transaction:
        windows.pin_cron(transaction, settings.poll.cron)
        for feed in settings.exports:
            if only is not None and feed.name not in only:
                continue
            try:
                plan.runs.extend(_plan_feed(transaction, settings, feed, closed, fusion_now, force=force))
            except (CalendarError, CronError, LedgerError) as error:
                # All three are found before anything is written for this feed.
                plan.faults.append(FeedFault(feed.name, error))
    return plan


def _plan_feed(
    transaction: Transaction,
    settings: Settings,
    feed: ExportSettings,
    closed: dt.datetime,
    fusion_now: dt.datetime,
    *,
    force: bool,
) -> list[ExportRun]:
    step = dt.timedelta(minutes=settings.poll.minutes)
    start = settings.poll.window_start(feed.start or settings.poll.start)
    row = feeds.ensure_feed(transaction, feed.name, feed.source)
    until: dt.datetime = row["delivered_until"] or start
    first = min(until, max(start, closed - step))
    last = max(first, min(closed, first + MOST_WINDOWS * step) - step)
    name = work_name(feed.name)
    if not _open_work(transaction, name):
        if not (
            _due(settings, feed, until, closed, fusion_now, force=force)
            or exported.pending_files(transaction, feed.name)
        ):
            return []
        windows.ensure_window(transaction, name, first, settings.poll.minutes)
        # Two calls may plan at once: the second finds the first one's work.
        transaction.lock_name(f"plan/{name}")
        if not _open_work(transaction, name):
            windows.open_generation(transaction, name, first, GenerationKind.EXPORT)
    if force:
        # A person who asks now does not wait for the pause after a failed attempt.
        transaction.execute(
            sa.update(window_run).where(window_run.c.feed == name, window_run.c.state == "OPEN").values(not_before=None)
        )
    # An attempt that failed after its files were committed is repeated from where it began: what it covered is shown
    # as done then, and not the last window alone.
    most = MOST_WINDOWS * step
    return [
        ExportRun(
            feed.name,
            feed.source,
            run.window_start,
            run.generation,
            run.attempt,
            min(first, run.window_start) if last - run.window_start < most else first,
            last,
        )
        for run in windows.runs_wanted(transaction, name)
    ]


def _open_work(transaction: Transaction, name: str) -> bool:
    work = sa.select(window_run.c.generation).where(window_run.c.feed == name, window_run.c.state == "OPEN")
    return transaction.row(work) is not None


def _due(
    settings: Settings,
    feed: ExportSettings,
    until: dt.datetime,
    closed: dt.datetime,
    fusion_now: dt.datetime,
    *,
    force: bool,
) -> bool:
    if closed <= until:
        return False
    # A tick is for the windows up to the one it falls into, and comes when these are over: one file, not one at the
    # tick with what is over by then and another minutes later.
    almost_a_window = dt.timedelta(minutes=settings.poll.minutes) - dt.timedelta(microseconds=1)
    last, now = until + almost_a_window, min(fusion_now, closed + almost_a_window)
    return force or is_due(feed.schedule, last=last, now=now, root=settings.root)
