"""One whole poll without the daemon, for ``mlc run inbound``: look, wait out the settle time once, run what must run.

It executes the same job over the same assets as the daemon does, in this process and on the given instance, so that
both see each other's runs. Two at once are safe: a window that another run holds is reported and left to it.
"""

# ruff: noqa: PLC0415 - the domain and its connectors are imported by the call, not with the command line.

import datetime as dt
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import dagster as dg

from mlc_dagster.assets.failures import FailureKind, kind_of, said
from mlc_dagster.assets.holding import PROCESS_TAG
from mlc_dagster.automation.dead_runs import fail_dead_runs
from mlc_dagster.automation.jobs import INBOUND_JOB, STATUS_JOB, build_flow, inbound_resources, wiring_of
from mlc_dagster.automation.outcome import InboundOutcome, RunFailure, WaitingFile
from mlc_dagster.automation.polling import Polling
from mlc_dagster.automation.results import failures_of, window_result
from mlc_dagster.automation.windows import ready, run_tags
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.windows import GenerationKind, window_start
from mlc_dagster.partitions import inbound_windows
from mlc_dagster.resources import InboundResource, Progress, Silent
from mlc_dagster.settings import Settings

if TYPE_CHECKING:
    from mlc_dagster.stampli.inbound import Inbound
    from mlc_dagster.stampli.intake.feed import Poll

MARGIN = 0.1
"""Seconds slept beyond the settle time, so that the second look is not a moment early."""
ROUNDS = 5
"""How often the ledger is asked again for what is due at once, such as a retry that the run before made possible."""
QUIET: Mapping[str, object] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run configuration that keeps Dagster's log lines in the instance and off the terminal."""


def run_inbound(
    settings: Settings,
    *,
    instance: dg.DagsterInstance,
    wait: bool = True,
    window: str | None = None,
    progress: Progress | None = None,
    environ: Mapping[str, str] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    quiet: bool = True,
) -> InboundOutcome:
    """Poll once and do everything that must be done now.

    Args:
        settings: mlc.yaml.
        instance: the Dagster instance that keeps runs and events.
        wait: wait once until files that were just seen have settled; False settles what an earlier call saw.
        window: partition key of a window to reconcile, instead of polling.
        progress: hears how it gets on.
        environ: what ``env:`` references read; this process's environment when not given.
        sleep: waits so many seconds; tests pass their own.
        quiet: keep Dagster's log lines off the terminal.

    Returns:
        What was done and found. Expected faults (a server down, a wrong secret) are in it, not raised.
    """
    return _OneShot(settings, instance, progress or Silent(), environ, sleep, quiet=quiet).run(wait=wait, window=window)


class _OneShot:
    """One call's state."""

    def __init__(
        self,
        settings: Settings,
        instance: dg.DagsterInstance,
        progress: Progress,
        environ: Mapping[str, str] | None,
        sleep: Callable[[float], None],
        *,
        quiet: bool,
    ) -> None:
        self._settings = settings
        self._instance = instance
        self._progress = progress
        self._environ = environ
        self._sleep = sleep
        self._config = dict(QUIET) if quiet else {}
        self._windows = inbound_windows(settings.poll)
        self._outcome = InboundOutcome()
        self._done: set[tuple[dt.datetime, int]] = set()

    def run(self, *, wait: bool, window: str | None) -> InboundOutcome:
        outcome = self._outcome
        try:
            outcome.dead_runs = fail_dead_runs(self._instance)
            wiring = wiring_of(self._settings, environ=self._environ, progress=self._progress)
            self._wiring = wiring
            self._flow = build_flow(wiring)
            self._job = self._flow.resolve_job_def(INBOUND_JOB)
            # The resource's own life cycle: the ledger is sealed and closed at the end, whatever happens.
            with dg.build_resources(
                {"inbound": inbound_resources(wiring)["inbound"]}, instance=self._instance
            ) as resources:
                resource: InboundResource = resources.inbound
                inbound = resource.connect()
                outcome.began = inbound.ledger.now()
                if window is not None:
                    self._reconcile(window)
                else:
                    self._poll(inbound, wait=wait)
                self._count(inbound)
        except Exception as error:
            kind = kind_of(error)
            if kind is FailureKind.UNEXPECTED:
                raise
            outcome.failures.append(RunFailure(kind, said(error), "poll"))
        return outcome

    def _reconcile(self, key: str) -> None:
        try:
            start = window_start(key)
        except ValueError:
            text = f"--window {key}: is not the start of a window; write it as 2026-01-31-00:15 (UTC)"
            self._outcome.failures.append(RunFailure(FailureKind.CONFIGURATION, text, "poll"))
            return
        if not self._windows.has_partition_key(key):
            text = f"--window {key}: no window begins then; they begin every {self._settings.poll.minutes} minutes"
            self._outcome.failures.append(RunFailure(FailureKind.CONFIGURATION, text, "poll", key))
            return
        self._execute(start, None, GenerationKind.RECONCILE)

    def _poll(self, inbound: "Inbound", *, wait: bool) -> None:
        from mlc_dagster.ledger.files import list_sightings
        from mlc_dagster.stampli.inbound import FEED
        from mlc_dagster.stampli.intake.feed import BeforeGoLive, FirstContact, due_runs

        self._probe_cures(inbound)
        try:
            found = self._look(inbound)
            if found.waiting and wait and (seconds := self._to_settle(inbound)) is not None:
                self._progress.waiting(seconds, len(found.waiting))
                self._sleep(seconds)
                found = self._look(inbound)
        except BeforeGoLive as reason:
            self._outcome.notes.append(str(reason))
            return
        except FirstContact as reason:
            self._outcome.first_contact = str(reason)
            return
        for _ in range(ROUNDS):
            with inbound.ledger.transaction() as transaction:
                wanted = due_runs(transaction)
            fresh = [run for run in wanted if (run.window_start, run.generation) not in self._done]
            there, not_there = ready(self._windows, fresh)
            self._outcome.notes += [
                f"window {run.partition_key} UTC is no partition (yet); it is left to a later poll" for run in not_there
            ]
            self._done |= {(run.window_start, run.generation) for run in fresh}
            if not there:
                break
            for run in there:
                self._execute(run.window_start, run.generation, run.kind)
        self._put_away(inbound)
        self._observe(inbound)
        with inbound.ledger.reading() as reading:
            self._outcome.waiting = [WaitingFile(row["path"], row["note"]) for row in list_sightings(reading, FEED)]

    def _probe_cures(self, inbound: "Inbound") -> None:
        """What was parked and is cured goes through in this call. Fusion being down must not keep files from coming."""
        from mlc_dagster.ledger.invoice_views import list_invoices
        from mlc_dagster.ledger.states import InvoiceState
        from mlc_dagster.stampli.steps import observe_step

        with inbound.ledger.reading() as reading:
            if not list_invoices(reading, states=[InvoiceState.PARKED], limit=1):
                return
        try:
            self._outcome.cured = observe_step(inbound, statuses=False).cured
        except Exception as error:
            if kind_of(error) is FailureKind.UNEXPECTED:
                raise
            self._outcome.failures.append(RunFailure(kind_of(error), said(error), "poll"))

    def _observe(self, inbound: "Inbound") -> None:
        """Statuses of posted invoices, as often as the daemon would ask: a call from cron follows them as well."""
        from mlc_dagster.ledger.observations import observation_due

        with inbound.ledger.reading() as reading:
            if not observation_due(reading, dt.timedelta(seconds=self._settings.retry.check_every)):
                return
        result = self._flow.resolve_job_def(STATUS_JOB).execute_in_process(
            instance=self._instance,
            tags={PROCESS_TAG: process_name(os.getpid())},
            run_config=self._config,
            raise_on_error=False,
        )
        self._outcome.failures += failures_of(result, None)

    def _look(self, inbound: "Inbound") -> "Poll":
        looked = self._polling(inbound).look()
        found = looked.poll
        self._outcome.empty_windows += len(found.empty_windows)
        self._note(*found.refused, *looked.unsent)
        self._outcome.overdue += [each.text for each in found.newly_overdue]
        for event in looked.marks:
            self._instance.report_runless_asset_event(event)
        return found

    def _put_away(self, inbound: "Inbound") -> None:
        """Processed files that earlier runs could not archive or delete; runs of this call have tried already."""
        away = self._polling(inbound).put_away(began=self._outcome.began)
        self._note(*away.retried.told, *away.unsent)
        self._outcome.overdue += away.newly_stuck

    def _polling(self, inbound: "Inbound") -> Polling:
        return Polling(inbound, self._wiring.secrets.resolve, self._windows)

    def _note(self, *texts: str) -> None:
        self._outcome.notes += [text for text in texts if text not in self._outcome.notes]

    def _to_settle(self, inbound: "Inbound") -> float | None:
        """Seconds until the last file that can settle soon has settled; None when there is none."""
        from mlc_dagster.ledger.files import list_sightings
        from mlc_dagster.stampli.inbound import FEED

        with inbound.ledger.reading() as reading:
            # An empty file waits for its longer grace, which one call does not sit out.
            # Nor does one call wait for another file to come.
            since = [
                row["same_since"] for row in list_sightings(reading, FEED) if row["size"] != 0 and row["note"] is None
            ]
            now = reading.now
        if not since:
            return None
        left = inbound.stampli.settle_seconds - (now - max(since)).total_seconds()
        return max(left, 0.0) + MARGIN

    def _execute(self, start: dt.datetime, generation: int | None, kind: GenerationKind) -> None:
        from mlc_dagster.ledger.windows import window_key

        key = window_key(start)
        self._progress.window(key, generation, str(kind))
        result = self._job.execute_in_process(
            partition_key=key,
            instance=self._instance,
            tags={**run_tags(key, generation, kind), PROCESS_TAG: process_name(os.getpid())},
            run_config=self._config,
            raise_on_error=False,
        )
        failures = list(failures_of(result, key))
        ended = window_result(result, key, generation, kind, failures)
        self._outcome.windows.append(ended)
        self._note(*ended.in_the_folder)
        if kind is GenerationKind.RECONCILE:
            self._note(*ended.differences)
        for failure in failures:
            if failure.kind is FailureKind.BUSY:
                self._outcome.notes.append(failure.text)
            else:
                self._outcome.failures.append(failure)

    def _count(self, inbound: "Inbound") -> None:
        """What changed since the call began, from the ledger."""
        from mlc_dagster.ledger.files import window_files
        from mlc_dagster.ledger.outcomes import file_outcomes, posted_since, trouble_since
        from mlc_dagster.stampli.inbound import FEED
        from mlc_dagster.stampli.steps import amounts

        outcome, began = self._outcome, self._outcome.began
        assert began is not None  # noqa: S101 - set before any run
        with inbound.ledger.reading() as reading:
            seen: set[int] = set()
            for result in outcome.windows:
                generation = result.generation if result.kind == GenerationKind.FILES else None
                rows = window_files(reading, FEED, window_start(result.window), generation)
                outcome.files += file_outcomes(reading, [row for row in rows if row["id"] not in seen], since=began)
                seen |= {row["id"] for row in rows}
            starts = {window_start(result.window) for result in outcome.windows}
            outcome.posted, minor = posted_since(reading, began, starts)
            outcome.totals = amounts(minor)
            outcome.trouble = trouble_since(reading, began)
