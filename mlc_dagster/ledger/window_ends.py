"""How a generation of work on a window ends: done, failed and asked for again, or failed for good.

Belongs here: what the ledger keeps of it, and who may say so. Does not: the lease while it is worked on
(``window_hold``), and asking for it (``windows.runs_wanted``).
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.files import FileState
from mlc_dagster.ledger.schema import poll_window, source_file, window_run
from mlc_dagster.ledger.windows import GenerationKind, WindowLost, is_held, this_run, window_key

UNREAD = (str(FileState.ASSIGNED), str(FileState.RECEIVED))
"""States of a file that a run of its window has to receive or to read yet."""
_LONGEST_BACKOFF = dt.timedelta(minutes=15)


def finish_generation(
    transaction: Transaction, feed: str, start: dt.datetime, generation: int, summary: Mapping[str, Any], *, fence: int
) -> None:
    """The generation's work is done; rows that wait for a later time have a generation of their own then.

    One with files that nobody has received and read stays open, and is asked for again: its run was made of its last
    steps alone, which found nothing to do.

    Args:
        transaction: the change and its events are part of it.
        feed: whose window.
        start: start of the window, UTC.
        generation: what was worked on.
        summary: kept with it.
        fence: what ``take_window`` gave out.

    Raises:
        WindowLost: another run has taken the window since; the generation is that run's to end.
    """
    window, run = _locked(transaction, feed, start, generation)
    if window is None or run is None or window["fence"] != fence:
        raise WindowLost(window_key(start))
    unread = transaction.rows(
        sa.select(source_file.c.path)
        .where(
            source_file.c.feed == feed, source_file.c.window_start == start,
            source_file.c.generation == generation, source_file.c.state.in_(UNREAD),
        )
        .order_by(source_file.c.id)
    )  # fmt: skip
    if unread and run["state"] == "OPEN":
        more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
        _put_off(
            transaction, run, f"{unread[0]['path']}{more}: not received and read yet; the run had later steps alone"
        )
        return
    transaction.execute(
        sa.update(window_run)
        .where(*this_run(run))
        .values(state="DONE", finished_at=transaction.now, summary=dict(summary), failure=None)
    )
    transaction.audit("window.done", f"window:{window_key(start)}", generation=generation, **summary)


def fail_generation(
    transaction: Transaction, feed: str, start: dt.datetime, generation: int, failure: str, *, fence: int | None = None
) -> None:
    """This attempt ended without finishing; it is asked for again after a pause that doubles up to 15 minutes.

    A RECONCILE has FAILED instead: whoever asked for it is told, and nothing waits for it. An attempt of which another
    run has taken the window since is marked by nobody but that run: here it is only told in the trail.

    Args:
        transaction: the change and its event are part of it.
        feed: whose window.
        start: start of the window, UTC.
        generation: what was worked on.
        failure: why, for people; without secrets.
        fence: what ``take_window`` gave out; None for a run that does not hold the window.
    """
    window, run = _locked(transaction, feed, start, generation)
    if window is None or run is None or run["state"] != "OPEN":
        mine = False
    elif fence is not None:
        mine = window["fence"] == fence
    else:
        # Whoever holds the window may be at work on this very generation.
        mine = run["attempt_started_at"] is None or not is_held(window, transaction.now)
    if run is None or not mine:
        transaction.audit(
            "window.attempt_failed", f"window:{window_key(start)}", generation=generation, failure=failure[:2000]
        )
    elif run["kind"] == GenerationKind.RECONCILE:
        _end_failed(transaction, run, failure)
    else:
        _put_off(transaction, run, failure)


def end_dead_reconciles(transaction: Transaction, feed: str) -> None:
    """A RECONCILE whose run is gone has failed: nobody repeats by itself what a person asked for, nor waits for it."""
    rows = transaction.rows(
        sa.select(window_run, poll_window.c.lease_owner, poll_window.c.lease_until)
        .join(
            poll_window,
            sa.and_(poll_window.c.feed == window_run.c.feed, poll_window.c.window_start == window_run.c.window_start),
        )
        .where(
            window_run.c.feed == feed,
            window_run.c.state == "OPEN",
            window_run.c.kind == str(GenerationKind.RECONCILE),
        )
    )
    for row in rows:
        if not is_held(row, transaction.now):
            _end_failed(transaction, row, row["failure"] or "its run ended without a word")


def _locked(transaction: Transaction, feed: str, start: dt.datetime, generation: int) -> tuple[Row | None, Row | None]:
    """The window's row, which nobody can take meanwhile, and the generation's."""
    window = transaction.row(
        sa.select(poll_window).where(poll_window.c.feed == feed, poll_window.c.window_start == start).with_for_update()
    )
    run = transaction.row(
        sa.select(window_run).where(
            window_run.c.feed == feed, window_run.c.window_start == start, window_run.c.generation == generation
        )
    )
    return window, run


def _put_off(transaction: Transaction, run: Row, failure: str) -> None:
    pause = min(dt.timedelta(seconds=15 * 2 ** min(run["attempt"] - 1, 8)), _LONGEST_BACKOFF)
    transaction.execute(
        sa.update(window_run)
        .where(*this_run(run))
        .values(
            failure=failure[:2000],
            not_before=transaction.now + pause,
            # One that failed before it got the window has been started too: the next request needs a new run key.
            attempt_started_at=run["attempt_started_at"] or transaction.now,
        )
    )
    _tell_failed(transaction, run, failure)


def _end_failed(transaction: Transaction, run: Row, failure: str) -> None:
    ended = {"state": "FAILED", "failure": failure[:2000], "finished_at": transaction.now}
    transaction.execute(sa.update(window_run).where(*this_run(run)).values(**ended))
    _tell_failed(transaction, run, failure)


def _tell_failed(transaction: Transaction, run: Row, failure: str) -> None:
    subject = f"window:{window_key(run['window_start'])}"
    transaction.audit("window.failed", subject, generation=run["generation"], failure=failure[:2000])
