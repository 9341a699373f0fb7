"""A run's hold on a feed: the lease and its heartbeat.

One writer per feed: what is built, and in which order it is delivered, is decided by one run at a time. A run that was
killed stalls nobody: its lease is taken over at once on the same host, and after a minute from elsewhere.
"""

import datetime as dt
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from mlc_dagster.ledger import feeds
from mlc_dagster.ledger.database import Ledger

LEASE = dt.timedelta(seconds=60)
_HEARTBEAT = 15.0
_LEAST_LEFT = 10.0
"""Seconds of the lease that a step needs before it may begin."""


class HeldFeed:
    """A feed held by this run."""

    def __init__(
        self,
        ledger: Ledger,
        name: str,
        owner: str,
        fence: int,
        *,
        ends: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.owner = owner
        self.fence = fence
        self._ledger = ledger
        self._monotonic = monotonic
        self._lost = False
        self._ends = ends

    def still_ours(self) -> bool:
        """True when the lease has time left and nobody has taken the feed; asks the ledger."""
        # Our own clock first: a machine that slept must not trust what the ledger says of a lease it forgot to renew.
        if self._lost or self._ends - self._monotonic() < _LEAST_LEFT:
            return False
        with self._ledger.reading() as reading:
            return feeds.feed_held(reading, self.name, self.fence)

    def renew(self) -> bool:
        """Lengthen the lease; False when it is no longer ours."""
        asked = self._monotonic()
        with self._ledger.transaction() as transaction:
            held = feeds.renew_feed(transaction, self.name, self.fence, LEASE)
        if held:
            self._ends = asked + LEASE.total_seconds()
        else:
            self._lost = True
        return held


@contextmanager
def hold_feed(
    ledger: Ledger, name: str, source: str, *, owner: str, wait: Callable[[float], bool] | None = None
) -> Generator[HeldFeed]:
    """Hold the feed while its files are built and delivered; its row is made at first use.

    Args:
        ledger: where the lease is.
        name: the feed.
        source: what its files are made of.
        owner: this process, as ``ledger.process.process_name`` names it, and the run.
        wait: replaces the heartbeat's waiting, for tests: sleeps, True to end.

    Raises:
        FeedBusy: another live run holds it.
    """
    # The lease began when it was asked for, not when the answer came.
    ends = time.monotonic() + LEASE.total_seconds()
    with ledger.transaction() as transaction:
        feeds.ensure_feed(transaction, name, source)
        fence = feeds.take_feed(transaction, name, owner, LEASE)
    held = HeldFeed(ledger, name, owner, fence, ends=ends)
    ended = threading.Event()
    beat = threading.Thread(target=_heartbeat, args=(held, wait or ended.wait), name="feed-lease", daemon=True)
    beat.start()
    try:
        yield held
    finally:
        ended.set()
        beat.join()
        with ledger.transaction() as transaction:
            feeds.release_feed(transaction, name, fence)


def _heartbeat(held: HeldFeed, wait: Callable[[float], bool]) -> None:
    while not wait(_HEARTBEAT):
        try:
            if not held.renew():
                # Taken over: this process was stopped for longer than the lease. still_ours says so from now on.
                return
        except DBAPIError:
            # The ledger is away for the moment; if it stays away, the lease runs out and still_ours says so.
            continue
