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


@contextmanager
def export_step(
    context: dg.AssetExecutionContext,
    resource: OutboundResource,
    *,
    feed: str | None,
    only: tuple[str, ...] | None = None,
) -> Generator[ExportStep]:
    """One asset's work for the run's windows.

    Args:
        context: of a partitioned run.
        resource: the wiring.
        feed: the feed that this asset delivers, with which the run's piece of work ends; None where it goes on.
        only: feeds whose layouts are needed.

    Raises:
        Failure: everything that is expected to go wrong, in one sentence; the cause is chained.
    """
    from mlc_dagster.exports.runs import work_name
    from mlc_dagster.ledger.window_hold import hold_generation

    run = context.run
    owner = f"{process_name(os.getpid())}|{run.run_id}"
    try:
        outbound = resource.connect(only=only)
        windows = windows_of(context, outbound.settings.poll.minutes)
        assert windows is not None  # noqa: S101 - the assets are partitioned
        generation, counted = run.tags.get(GENERATION_TAG), run.tags.get(WINDOW_TAG)
        planned = generation is not None and counted is not None and FEED_TAG in run.tags
        step = ExportStep(outbound, windows, owner, run.run_id, planned)
        if not planned:
            yield step
            return
        with hold_generation(
            outbound.ledger,
            work_name(run.tags[FEED_TAG]),
            window_start(counted or ""),
            int(generation or 0),
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
