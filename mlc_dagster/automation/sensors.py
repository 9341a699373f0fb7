"""The inbound sensors: one polls Stampli's folder and asks for runs, one follows what was posted or parked.

A tick looks, writes to the ledger, and asks for what the ledger says must run. It never fails for one file. A server
that is down for a moment is a skipped tick; one that shows another host key or refuses our login is a failed one.
"""

# ruff: noqa: PLC0415 - paramiko is imported by the tick that polls, not by the definitions.

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg

from mlc_dagster.automation.dead_runs import fail_dead_runs
from mlc_dagster.automation.export_sensor import build_export_sensor
from mlc_dagster.automation.failure_sensor import build_failure_sensor
from mlc_dagster.automation.jobs import INBOUND_JOB, STATUS_JOB
from mlc_dagster.automation.polling import Polling
from mlc_dagster.automation.tick_errors import masking_errors
from mlc_dagster.automation.windows import ready, run_request
from mlc_dagster.partitions import inbound_windows
from mlc_dagster.resources import InboundResource, SandboxDown, Wiring
from mlc_dagster.settings import Settings

if TYPE_CHECKING:
    from mlc_dagster.stampli.inbound import Inbound
    from mlc_dagster.stampli.intake.feed import Poll

TICK_BUDGET = 40.0
"""Seconds from the tick's entry. Dagster ends a tick at 60 and loses what it had asked for."""
LEAST_FOR_SFTP = 5.0
_POLL_INTERVAL = 30
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def build_sensors(wiring: Wiring) -> list[dg.SensorDefinition]:
    """All sensors of the configured flows; stopped at first where the configuration is the sandbox's."""
    settings = wiring.settings
    running = dg.DefaultSensorStatus.STOPPED if settings.sandbox else dg.DefaultSensorStatus.RUNNING
    sensors: list[dg.SensorDefinition] = []
    if settings.stampli is not None:
        sensors += [_poll_sensor(settings, running), _status_sensor(settings, running)]
    if settings.exports:
        sensors.append(build_export_sensor(settings, running))
    if settings.alerts.to:
        sensors.append(build_failure_sensor(wiring, running))
    return sensors


def _poll_sensor(settings: Settings, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    windows = inbound_windows(settings.poll)

    @dg.sensor(
        name="stampli_poll_sensor",
        job_name=INBOUND_JOB,
        minimum_interval_seconds=_POLL_INTERVAL,
        default_status=status,
        description="Looks at Stampli's folder, gives settled files to the open window, and asks for what must run.",
    )
    @masking_errors
    def stampli_poll_sensor(
        context: dg.SensorEvaluationContext, inbound: InboundResource
    ) -> dg.SensorResult | dg.SkipReason:
        from mlc_dagster.sftp.errors import SftpError
        from mlc_dagster.stampli.intake.feed import BeforeGoLive, FirstContact

        began = time.monotonic()

        def left() -> float:
            return TICK_BUDGET - (time.monotonic() - began)

        fail_dead_runs(context.instance)
        if left() < LEAST_FOR_SFTP:
            return dg.SkipReason("no time left in this tick for the SFTP server; the next one polls")
        try:
            wired = inbound.connect(sftp_deadline=left())
            polling = Polling(wired, inbound.wiring.secrets.resolve, windows, time_left=left)
            looked = polling.look()
        except (BeforeGoLive, FirstContact, SandboxDown) as reason:
            return dg.SkipReason(str(reason))
        except SftpError as error:
            if not error.transient:
                raise
            return dg.SkipReason(f"{error}; the next poll tries again")
        for text in (*looked.news, *looked.unsent):
            context.log.warning("%s", text)
        if left() >= LEAST_FOR_SFTP:
            _put_away(context, polling, connect=lambda: inbound.connect(sftp_deadline=left()))
        poll = looked.poll
        there, not_there = ready(windows, poll.runs)
        for run in not_there:
            context.log.warning(
                "window %s is no partition (yet): it begins after this host's clock, or before poll.start", run.run_key
            )
        waiting = _waiting(poll)
        if poll.refused:
            waiting += f"; {poll.refused[0]}" + (f", and {len(poll.refused) - 1} more" if len(poll.refused) > 1 else "")
        return dg.SensorResult(
            run_requests=[run_request(run) for run in there],
            asset_events=list(looked.marks),
            skip_reason=None if there else f"nothing to run: {waiting}",
        )

    return stampli_poll_sensor


def _put_away(context: dg.SensorEvaluationContext, polling: Polling, *, connect: "Callable[[], Inbound]") -> None:
    try:
        away = polling.put_away(connect=connect)
    except Exception:
        # Whatever it is: files have been assigned, and tidying up must not cost their runs.
        context.log.exception("processed files could not be put away; the next poll tries again")
        return
    for text in (*away.retried.told, *away.newly_stuck, *away.unsent):
        context.log.warning("%s", text)


def _waiting(poll: "Poll") -> str:
    """Why there is nothing to run, as far as files wait."""
    settling = len(poll.waiting) - len(poll.unready)
    said = [f"{settling} {'file has' if settling == 1 else 'files have'} not settled"] if settling else []
    if (first := next(iter(poll.unready), None)) is not None:
        said.append(first + (f", and {len(poll.unready) - 1} more" if len(poll.unready) > 1 else ""))
    if poll.overdue:
        said.append(f"{len(poll.overdue)} of them too long")
    return "; ".join(said) or "no new files"


def _status_sensor(settings: Settings, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    @dg.sensor(
        name="fusion_invoice_status_sensor",
        job_name=STATUS_JOB,
        # Not a schedule: retry.check_every may be any number of seconds, which cron cannot say.
        minimum_interval_seconds=max(_POLL_INTERVAL, round(settings.retry.check_every)),
        default_status=status,
        description="Asks for the statuses of posted invoices while any is not accounted, or parked.",
    )
    @masking_errors
    def fusion_invoice_status_sensor(
        context: dg.SensorEvaluationContext, inbound: InboundResource
    ) -> dg.RunRequest | dg.SkipReason:
        from mlc_dagster.ledger.observations import something_to_observe

        fail_dead_runs(context.instance)
        try:
            ledger = inbound.connect().ledger
        except SandboxDown as reason:
            return dg.SkipReason(str(reason))
        with ledger.reading() as reading:
            if not something_to_observe(reading):
                return dg.SkipReason("everything posted is accounted, and nothing is parked")
        unfinished = dg.RunsFilter(job_name=STATUS_JOB, statuses=_UNFINISHED)
        if context.instance.get_runs_count(unfinished):
            return dg.SkipReason("the round before has not ended")
        return dg.RunRequest()

    return fusion_invoice_status_sensor
