"""One whole outbound poll without the daemon, for ``mlc run outbound``: read what is over, write, deliver.

It executes the same job over the same assets as the daemon does, in this process and on the given instance. Two at once
are safe: a feed that another run holds is reported and left to it.
"""

# ruff: noqa: PLC0415 - the domain and its connectors are imported by the call, not with the command line.

import datetime as dt
import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from mlc_dagster.assets import EXPORTS, feed_key
from mlc_dagster.assets.exporting import RANGE_END_TAG, RANGE_START_TAG
from mlc_dagster.assets.failures import FailureKind, kind_of, said
from mlc_dagster.assets.fusion_sources import BY_NAME
from mlc_dagster.assets.holding import PROCESS_TAG
from mlc_dagster.automation.dead_runs import fail_dead_runs
from mlc_dagster.automation.export_outcome import FeedResult, OutboundOutcome
from mlc_dagster.automation.export_sensor import export_selection, export_tags, failure_of
from mlc_dagster.automation.jobs import OUTBOUND_JOB, build_flow, outbound_resources, wiring_of
from mlc_dagster.automation.one_shot import QUIET
from mlc_dagster.automation.outcome import RunFailure
from mlc_dagster.automation.results import failures_of
from mlc_dagster.automation.run_alerts import tell_failures
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.windows import window_key, window_start
from mlc_dagster.partitions import outbound_windows
from mlc_dagster.resources import OutboundResource, Progress, Silent
from mlc_dagster.settings import ExportSettings, Settings

if TYPE_CHECKING:
    from mlc_dagster.exports.outbound import Outbound

ROUNDS = 400
"""Ranges of windows that one call works through per feed: a long outage is caught up range by range."""


def run_outbound(
    settings: Settings,
    *,
    instance: dg.DagsterInstance,
    feeds: Collection[str] | None = None,
    windows: tuple[str, str] | None = None,
    due_only: bool = False,
    look_back: bool = False,
    sweep: bool = False,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
    quiet: bool = True,
) -> OutboundOutcome:
    """Read and deliver everything that is over, and send the alerts that are due.

    Args:
        settings: mlc.yaml.
        instance: the Dagster instance that keeps runs and events.
        feeds: names of the feeds; all when absent.
        windows: first and last partition key of a range to go through again, instead of what is new.
        due_only: keep to the feeds' schedules; otherwise all windows that are over are taken now.
        look_back: look back over ``outbound.look_back`` now.
        sweep: compare ids with Fusion's now.
        progress: hears how it gets on.
        environ: what ``env:`` references read; this process's environment when not given.
        quiet: keep Dagster's log lines off the terminal.

    Returns:
        What was done and found. Expected faults (a server down, a wrong secret) are in it, not raised.
    """
    call = _OneShot(settings, instance, progress or Silent(), environ, quiet=quiet, look_back=look_back, sweep=sweep)
    return call.run(feeds=feeds, windows=windows, due_only=due_only)


class _OneShot:
    """One call's state."""

    def __init__(
        self,
        settings: Settings,
        instance: dg.DagsterInstance,
        progress: Progress,
        environ: Mapping[str, str] | None,
        *,
        quiet: bool,
        look_back: bool,
        sweep: bool,
    ) -> None:
        self._settings = settings
        self._instance = instance
        self._progress = progress
        self._environ = environ
        self._config = dict(QUIET) if quiet else {}
        self._again = {"look_back": look_back, "sweep": sweep}
        self._windows = outbound_windows(settings.poll)
        self._outcome = OutboundOutcome()

    def run(self, *, feeds: Collection[str] | None, windows: tuple[str, str] | None, due_only: bool) -> OutboundOutcome:
        outcome = self._outcome
        try:
            outcome.dead_runs = fail_dead_runs(self._instance)
            wiring = wiring_of(self._settings, environ=self._environ, progress=self._progress)
            self._job = build_flow(wiring).resolve_job_def(OUTBOUND_JOB) if self._settings.exports else None
            with dg.build_resources(
                {"outbound": outbound_resources(wiring)["outbound"]}, instance=self._instance
            ) as resources:
                self._work(resources.outbound, feeds=feeds, windows=windows, due_only=due_only)
        except Exception as error:
            failure = _expected(error, "poll")
            if failure is None:
                raise
            self._outcome.failures.append(failure)
        return outcome

    def _work(
        self,
        resource: OutboundResource,
        *,
        feeds: Collection[str] | None,
        windows: tuple[str, str] | None,
        due_only: bool,
    ) -> None:
        from mlc_dagster.exports.wiring import refuse_unknown_feeds

        # No feed is connected here: what cannot be used of one keeps no other from running.
        outbound = resource.connect(only=())
        self._outcome.began = outbound.ledger.now()
        try:
            refuse_unknown_feeds(outbound.settings, feeds)
            wanted = [entry for entry in outbound.settings.exports if feeds is None or entry.name in feeds]
            if windows is not None:
                self._again_over(resource, wanted, windows)
            else:
                self._poll(resource, outbound, [entry.name for entry in wanted], due_only=due_only)
            self._count(outbound, [entry.name for entry in wanted])
        except Exception as error:
            failure = _expected(error, "poll")
            if failure is None:
                raise
            self._outcome.failures.append(failure)
        self._tell(outbound)

    def _poll(self, resource: OutboundResource, outbound: "Outbound", names: list[str], *, due_only: bool) -> None:
        from mlc_dagster.exports.planning import plan_exports
        from mlc_dagster.exports.reading import closed_until, fusion_now

        now = fusion_now(outbound)
        self._outcome.fusion_now, self._outcome.closed_until = now, closed_until(outbound, now)
        left = set(names)
        for _ in range(ROUNDS):
            plan = plan_exports(outbound, now, only=left, force=not due_only)
            for fault in plan.faults:
                self._outcome.failures.append(failure_of(fault))
                left.discard(fault.feed)
            if not plan.runs:
                return
            for run in plan.runs:
                if not self._windows.has_partition_key(window_key(run.last)):
                    note = f"{run.feed}: window {window_key(run.last)} UTC is no partition yet; a later poll takes it"
                    self._outcome.notes.append(note)
                    left.discard(run.feed)
                elif not self._execute(resource, run.feed, export_selection(run), export_tags(run)):
                    left.discard(run.feed)

    def _again_over(
        self, resource: OutboundResource, feeds: Sequence[ExportSettings], windows: tuple[str, str]
    ) -> None:
        for key in windows:
            fault = self._fault_of(key)
            if fault is not None:
                self._outcome.failures.append(RunFailure(FailureKind.CONFIGURATION, fault, "poll"))
                return
        for feed in feeds:
            selection = [dg.AssetKey(BY_NAME[feed.source].asset), feed_key(feed.name), dg.AssetKey(EXPORTS)]
            self._execute(resource, feed.name, selection, {RANGE_START_TAG: windows[0], RANGE_END_TAG: windows[1]})

    def _fault_of(self, key: str) -> str | None:
        try:
            window_start(key)
        except ValueError:
            return f"{key}: is not the start of a window; write it as 2026-01-31-00:15 (UTC)"
        if not self._windows.has_partition_key(key):
            minutes = self._settings.poll.minutes
            return f"{key}: no window begins then that is over; they begin every {minutes} minutes from poll.start on"
        return None

    def _execute(
        self, resource: OutboundResource, feed: str, selection: list[dg.AssetKey], tags: Mapping[str, str]
    ) -> bool:
        """One feed's run over one range; False when the feed's later ranges have to wait."""
        assert self._job is not None  # noqa: S101 - connecting refuses settings without feeds
        try:
            resource.connect(only=(feed,))
        except Exception as error:
            failure = _expected(error, f"{EXPORTS}/{feed}")
            if failure is None:
                raise
            # Nothing is read for a feed that could not be written.
            self._outcome.failures.append(failure)
            return False
        first, last = tags[RANGE_START_TAG], tags[RANGE_END_TAG]
        self._progress.window(first if first == last else f"{first} to {last}", None, feed)
        source = next(key for key in selection if key not in (feed_key(feed), dg.AssetKey(EXPORTS)))
        config = {"ops": {source.to_python_identifier(): {"config": self._again}}}
        result = self._job.execute_in_process(
            instance=self._instance,
            asset_selection=selection,
            tags={**tags, PROCESS_TAG: process_name(os.getpid())},
            run_config={**self._config, **config},
            raise_on_error=False,
        )
        failures = list(failures_of(result, first))
        self._outcome.feeds.append(FeedResult.of(result, feed, (first, last)))
        for failure in failures:
            if failure.kind is FailureKind.BUSY:
                self._outcome.notes.append(f"{feed}: {failure.text}")
            else:
                self._outcome.failures.append(failure)
        # A file that waits keeps its feed's later ranges waiting; the next call goes on.
        return result.success

    def _count(self, outbound: "Outbound", names: Collection[str]) -> None:
        """What changed since the call began, from the ledger."""
        from mlc_dagster.ledger import exported, feeds

        began = self._outcome.began
        assert isinstance(began, dt.datetime)  # noqa: S101 - set before any run
        with outbound.ledger.reading() as reading:
            for name in names:
                self._outcome.sent += [dict(row) for row in exported.sent_since(reading, name, began)]
                pending = [dict(row) for row in exported.pending_files(reading, name)]
                try:
                    if pending:
                        feeds.refuse_if_leased(reading, feeds.feed_row(reading, name), owner=None)
                except feeds.FeedBusy as busy:
                    # On their way in another run's hands, not waiting for a server.
                    self._outcome.notes.append(str(busy))
                else:
                    self._outcome.pending += pending
                held = exported.held_records(reading, name)
                self._outcome.held += [dict(row) for row in held]
                # Nobody's hands but a person's: it waits whoever holds the feed.
                unknown = exported.list_files(reading, name, [exported.FileState.UNKNOWN], limit=1000)
                self._outcome.pending += [dict(row) for row in reversed(unknown)]
                self._outcome.newly_held += sum(row["created_at"] >= began for row in held)

    def _tell(self, outbound: "Outbound") -> None:
        """The daemon's runs are told by a sensor; those of this process by the call itself."""
        faults = tell_failures(outbound.ledger, outbound.alerts, self._outcome.failures, job=OUTBOUND_JOB)
        self._outcome.notes += [f"an alert could not be sent: {fault}" for fault in faults]


def _expected(error: Exception, step: str) -> RunFailure | None:
    """An expected error as part of the outcome; None for a fault of the product."""
    kind = kind_of(error)
    return None if kind is FailureKind.UNEXPECTED else RunFailure(kind, said(error), step, error=type(error).__name__)
