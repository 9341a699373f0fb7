"""Tells people of a failed run: the first attempt at a piece of work, and then once in a while.

A server that is down for a night fails an attempt every quarter of an hour; nobody reads the fortieth message.
"""

# ruff: noqa: PLC0415 - apprise is imported by the tick that sends.

import dagster as dg

from mlc_dagster.assets.failures import KIND, FailureKind
from mlc_dagster.automation.jobs import INBOUND_JOB, OUTBOUND_JOB, STATUS_JOB
from mlc_dagster.resources import Wiring

EVERY = 96
"""Attempts between two messages about one piece of work: with the longest pause, a day."""


def worth_telling(run_key: str | None) -> bool:
    """Whether this attempt is one that people hear of; a run without a key was started by hand."""
    _, _, attempt = (run_key or "").rpartition("/a")
    return not attempt.isdigit() or int(attempt) % EVERY == 1


def build_failure_sensor(wiring: Wiring, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """The sensor that sends alerts for failed runs of this code location's jobs."""

    @dg.run_failure_sensor(
        name="alert_on_failure",
        default_status=status,
        description="Sends what failed, and what to do, to the addresses under alerts: in mlc.yaml.",
    )
    def alert_on_failure(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        from mlc_dagster.alerts.messages import run_failed
        from mlc_dagster.alerts.sending import Alerts

        run = context.dagster_run
        if run.job_name not in {INBOUND_JOB, OUTBOUND_JOB, STATUS_JOB, "__ASSET_JOB"}:
            return dg.SkipReason(f"job {run.job_name} is not one of ours")
        if not worth_telling(run.tags.get("dagster/run_key")):
            return dg.SkipReason(f"run {run.run_id}: people were told at an earlier attempt")
        kinds, texts = _why(context)
        if kinds == {FailureKind.BUSY}:
            return dg.SkipReason(f"run {run.run_id}: {texts[0]}")
        title, body = run_failed(job=run.job_name, run_id=run.run_id, tags=dict(run.tags), failures=texts)
        for fault in Alerts(wiring.settings.alerts, wiring.secrets.resolve).send(title, body):
            context.log.warning("an alert could not be sent: %s", fault)
        return None

    return alert_on_failure


def _why(context: dg.RunFailureSensorContext) -> tuple[set[FailureKind], list[str]]:
    kinds: set[FailureKind] = set()
    texts: list[str] = []
    for event in context.get_step_failure_events():
        failure = event.step_failure_data
        if failure.user_failure_data is not None:
            kind = failure.user_failure_data.metadata.get(KIND)
            kinds.add(FailureKind(kind.value) if isinstance(kind, dg.TextMetadataValue) else FailureKind.UNEXPECTED)
            texts.append(f"{event.step_key}: {failure.user_failure_data.description or 'failed'}")
        elif failure.error is not None:
            kinds.add(FailureKind.UNEXPECTED)
            texts.append(f"{event.step_key}: {(failure.error.cause or failure.error).message.strip()}")
    return kinds, texts or [context.failure_event.message or "the run failed"]
