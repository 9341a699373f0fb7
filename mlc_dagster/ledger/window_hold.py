"""A run's hold on a window of a feed: the lease, its heartbeat, and how the work ends.

One run per window at a time. The lease outlives the gap between two assets of one run; a run that was killed stalls
nobody: its lease is taken over at once on the same host, and after a minute from elsewhere.
"""

import datetime as dt
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mlc_dagster.ledger import window_ends, windows
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.windows import GenerationKind, WindowBusy
from mlc_dagster.vault import scrub

LEASE = dt.timedelta(seconds=60)
_HEARTBEAT = 15.0


@dataclass
class HeldGeneration:
    """A generation of work on a window, held by this run; ``summary`` is kept with it when the work is done."""

    start: dt.datetime
    generation: int
    owner: str
    fence: int
    kind: GenerationKind
    summary: dict[str, Any] = field(default_factory=dict[str, Any])


@contextmanager
def hold_generation(
    ledger: Ledger,
    feed: str,
    start: dt.datetime,
    generation: int | None,
    *,
    owner: str,
    run_id: str,
    last: bool,
    wait: Callable[[float], bool] | None = None,
) -> Generator[HeldGeneration]:
    """Hold the window for one step of a run.

    Args:
        ledger: where the lease is.
        feed: whose window.
        start: start of the window, UTC.
        generation: which generation; None for a run started by hand, which gets one of its own.
        owner: this process, as ``ledger.process.process_name`` names it, and the run.
        run_id: the run; its later steps find the generation of the first by it.
        last: release the window and close the generation at the end of the step.
        wait: replaces the heartbeat's waiting, for tests: sleeps, True to end.

    Raises:
        WindowBusy: another live run holds it.
        WindowLost: at the end of the last step: this process stood still for longer than its lease, and another run
            has taken the window since.
    """
    try:
        with ledger.transaction() as transaction:
            fence, number, kind = windows.take_window(
                transaction, feed, start, generation, owner=owner, run_id=run_id, lease=LEASE
            )
    except WindowBusy as busy:
        if generation is not None:
            # This attempt is over: without a note the next poll would ask for it under the same run key, in vain.
            with ledger.transaction() as transaction:
                window_ends.fail_generation(transaction, feed, start, generation, str(busy))
        raise
    ended = threading.Event()
    beat = threading.Thread(
        target=_heartbeat, args=(ledger, feed, start, owner, wait or ended.wait), name="window-lease", daemon=True
    )
    beat.start()
    held = HeldGeneration(start, number, owner, fence, kind)
    try:
        yield held
    except BaseException as error:
        # What it says is kept with the generation and shown to people.
        scrub(error)
        ended.set()
        beat.join()
        with ledger.transaction() as transaction:
            text = f"{type(error).__name__}: {error}"
            window_ends.fail_generation(transaction, feed, start, number, text, fence=fence)
            windows.release_window(transaction, feed, start, owner)
        raise
    ended.set()
    beat.join()
    if last:
        with ledger.transaction() as transaction:
            window_ends.finish_generation(transaction, feed, start, number, held.summary, fence=fence)
            windows.release_window(transaction, feed, start, owner)


def _heartbeat(ledger: Ledger, feed: str, start: dt.datetime, owner: str, wait: Callable[[float], bool]) -> None:
    while not wait(_HEARTBEAT):
        with ledger.transaction() as transaction:
            if not windows.renew_window(transaction, feed, start, owner, LEASE):
                # Taken over: this process was stopped for longer than the lease. What it sends has leases of its own,
                # checked before every request.
                return
