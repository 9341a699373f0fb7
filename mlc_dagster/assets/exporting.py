"""What the outbound assets have in common: the range of windows, the feed's piece of work, errors as Failures.

A run that was planned carries its feed, the window that the work is counted under, and its generation as tags. A run
without them was started by hand: it replays what was read of its windows, and sends what was never sent.
"""

# ruff: noqa: PLC0415 - the domain and its connectors are imported by the run that uses them.

import datetime as dt
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlc_dagster.assets.failures import as_failure
from mlc_dagster.assets.holding import GENERATION_TAG, WINDOW_TAG
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.windows import window_key, window_start
from mlc_dagster.resources import OutboundResource
from mlc_dagster.vault import scrub

if TYPE_CHECKING:
    from mlc_dagster.exports.outbound import Outbound

EXPORTS = "sftp_exports"
FEED_TAG = "mlc/feed"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
"""Dagster's own names for a run over a range of partitions."""


@dataclass(frozen=True)
class WindowRange:
    """Windows from the first to the last, both included; ``end`` is the end of the last, UTC."""

    first: dt.datetime
    last: dt.datetime
    minutes: int

    @property
    def end(self) -> dt.datetime:
        return self.last + dt.timedelta(minutes=self.minutes)

    @property
    def title(self) -> str:
        """For headlines: ``2026-01-01-00:15 UTC`` or ``2026-01-01-00:15 to 2026-01-01-02:30 UTC``."""
        first, last = window_key(self.first), window_key(self.last)
        return f"{first} UTC" if first == last else f"{first} to {last} UTC"


@dataclass
class ExportStep:
    """What an outbound asset works with."""

    outbound: "Outbound"
    windows: WindowRange
    owner: str
    run_id: str
    planned: bool
    summary: dict[str, Any] = field(default_factory=dict[str, Any])
    """Kept with the feed's piece of work when it is done."""


def windows_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, minutes: int) -> WindowRange | None:
    """The run's windows; None for a run without partitions."""
    tags = context.run.tags
    if RANGE_START_TAG in tags:
        return WindowRange(window_start(tags[RANGE_START_TAG]), window_start(tags[RANGE_END_TAG]), minutes)
    if context.has_partition_key:
        start = window_start(context.partition_key)
        return WindowRange(start, start, minutes)
    return None


@dataclass(frozen=True)
class _Work:
    """The piece of work that a planned run is of."""

    name: str
    window: dt.datetime
    generation: int


def _work_of(run: dg.DagsterRun) -> _Work | None:
    """None for a run that was started by hand."""
    from mlc_dagster.exports.runs import work_name

    tags = run.tags
    if not {FEED_TAG, WINDOW_TAG, GENERATION_TAG} <= tags.keys():
        return None
    return _Work(work_name(tags[FEED_TAG]), window_start(tags[WINDOW_TAG]), int(tags[GENERATION_TAG]))


def _give_back(resource: OutboundResource, work: _Work, owner: str, error: Exception) -> None:
    """A step that cannot begin ends the run: what an earlier step of it holds must not wait for the lease's end."""
    from mlc_dagster.ledger.window_ends import fail_generation
    from mlc_dagster.ledger.windows import release_window

    scrub(error)
    try:
        ledger = resource.connect(only=()).ledger
    except Exception as second:
        if as_failure(second) is None:
            raise
        return  # Without the ledger nothing can be noted; the lease ends by itself.
    with ledger.transaction() as transaction:
        text = f"{type(error).__name__}: {error}"
        # First, so that the window is held by nobody unless another run holds it: what that one does is not judged.
        release_window(transaction, work.name, work.window, owner)
        fail_generation(transaction, work.name, work.window, work.generation, text)


@contextmanager
def export_step(
    context: dg.AssetExecutionContext,
    resource: OutboundResource,
    *,
    feed: str | None,
    only: tuple[str, ...] | None = None,
    looks_only: bool = False,
) -> Generator[ExportStep]:
    """One asset's work for the run's windows.

    Args:
        context: of a partitioned run.
        resource: the wiring.
        feed: the feed that this asset delivers, with which the run's piece of work ends; None where it goes on.
        only: feeds whose layouts are needed.
        looks_only: the asset tells what the others did; the piece of work is over, and is not taken up again.

    Raises:
        Failure: everything that is expected to go wrong, in one sentence; the cause is chained.
    """
    from mlc_dagster.ledger.window_hold import hold_generation

    run = context.run
    owner = f"{process_name(os.getpid())}|{run.run_id}"
    work = _work_of(run)
    try:
        try:
            outbound = resource.connect(only=only)
        except Exception as error:
            if work is not None:
                _give_back(resource, work, owner, error)
            raise
        windows = windows_of(context, outbound.settings.poll.minutes)
        assert windows is not None  # noqa: S101 - the assets are partitioned
        step = ExportStep(outbound, windows, owner, run.run_id, work is not None)
        if work is None or looks_only:
            yield step
            return
        with hold_generation(
            outbound.ledger,
            work.name,
            work.window,
            work.generation,
            owner=owner,
            run_id=run.run_id,
            last=feed is not None,
        ) as held:
            step.summary = held.summary
            yield step
    except Exception as error:
        failure = as_failure(error)
        if failure is None:
            raise
        raise failure from error
