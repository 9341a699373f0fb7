"""What must run now: derived from the ledger alone, with Fusion's clock.

Each feed has its own work, so that a partner whose server is down keeps nobody else waiting. A piece of work stays open
until it is done; each attempt has its own run key, and takes all windows that are over by then as one range.
"""

import datetime as dt

import sqlalchemy as sa

from mlc_dagster.exports.calendar import is_due
from mlc_dagster.exports.outbound import Outbound
from mlc_dagster.exports.runs import ExportRun, work_name
from mlc_dagster.ledger import exported, feeds, windows
from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.schema import window_run
from mlc_dagster.ledger.windows import GenerationKind
from mlc_dagster.settings import ExportSettings

MOST_WINDOWS = 192
"""Windows of one run: Dagster writes several events for each of them. What is left is the next run's."""


def plan_exports(outbound: Outbound, fusion_now: dt.datetime, *, force: bool = False) -> list[ExportRun]:
    """Runs wanted now, in the order of mlc.yaml; opens work for feeds that are due.

    Args:
        outbound: the wiring; its feeds are planned.
        fusion_now: Fusion's own time, UTC.
        force: whatever the schedules say, as ``mlc run outbound`` asks for.
    """
    settings = outbound.settings
    step = dt.timedelta(minutes=settings.poll.minutes)
    closed = settings.poll.window_start(fusion_now - dt.timedelta(seconds=settings.outbound.lag))
    runs: list[ExportRun] = []
    with outbound.ledger.transaction() as transaction:
        windows.pin_cron(transaction, settings.poll.cron)
        for feed in outbound.feeds.values():
            start = settings.poll.window_start(feed.settings.start or settings.poll.start)
            row = feeds.ensure_feed(transaction, feed.name, feed.source)
            until: dt.datetime = row["delivered_until"] or start
            first = min(until, max(start, closed - step))
            last = max(first, min(closed, first + MOST_WINDOWS * step) - step)
            name = work_name(feed.name)
            if not _open_work(transaction, name):
                if not (
                    _due(feed.settings, until, closed, fusion_now, outbound, force=force)
                    or exported.pending_files(transaction, feed.name)
                ):
                    continue
                windows.ensure_window(transaction, name, first, settings.poll.minutes)
                windows.open_generation(transaction, name, first, GenerationKind.EXPORT)
            if force:
                # A person who asks now does not wait for the pause after a failed attempt.
                transaction.execute(
                    sa.update(window_run)
                    .where(window_run.c.feed == name, window_run.c.state == "OPEN")
                    .values(not_before=None)
                )
            runs += [
                ExportRun(feed.name, feed.source, run.window_start, run.generation, run.attempt, first, last)
                for run in windows.runs_wanted(transaction, name)
            ]
    return runs


def _open_work(transaction: Transaction, name: str) -> bool:
    work = sa.select(window_run.c.generation).where(window_run.c.feed == name, window_run.c.state == "OPEN")
    return transaction.row(work) is not None


def _due(
    feed: ExportSettings,
    until: dt.datetime,
    closed: dt.datetime,
    fusion_now: dt.datetime,
    outbound: Outbound,
    *,
    force: bool,
) -> bool:
    if closed <= until:
        return False
    return force or is_due(feed.schedule, last=until, now=fusion_now, root=outbound.settings.root)
