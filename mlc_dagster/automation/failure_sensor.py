"""The daemon's ear for failed runs: hands what failed to ``run_alerts``, which says when people hear of it.

A server that is down for a night fails an attempt every quarter of an hour; nobody reads the fortieth message.
"""

# ruff: noqa: PLC0415 - apprise and the ledger are imported by the tick that sends.

from contextlib import ExitStack, closing, suppress

import dagster as dg

from mlc_dagster.assets.failures import FailureKind
from mlc_dagster.automation.jobs import INBOUND_JOB, OUTBOUND_JOB, STATUS_JOB
from mlc_dagster.automation.outcome import RunFailure
from mlc_dagster.automation.pruning import PRUNE_JOB
from mlc_dagster.automation.results import failure_of_step
from mlc_dagster.automation.run_alerts import tell_failures, worth_telling
from mlc_dagster.automation.tick_errors import masking_errors
from mlc_dagster.ledger.database import Ledger, LedgerError
from mlc_dagster.resources import Wiring
from mlc_dagster.vault import SecretError


def build_failure_sensor(wiring: Wiring, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """The sensor that sends alerts for failed runs of this code location's jobs."""

    @dg.run_failure_sensor(
        name="alert_on_failure",
        default_status=status,
        description="Sends what failed, and what to do, to the addresses under alerts: in mlc.yaml.",
    )
    @masking_errors
    def alert_on_failure(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        from mlc_dagster.alerts.sending import Alerts
        from mlc_dagster.ledger.opening import open_settings_ledger

        run = context.dagster_run
        if run.job_name not in {INBOUND_JOB, OUTBOUND_JOB, STATUS_JOB, PRUNE_JOB, "__ASSET_JOB"}:
            return dg.SkipReason(f"job {run.job_name} is not one of ours")
        failures = _why(context)
        if not worth_telling(failures):
            return dg.SkipReason(f"run {run.run_id}: {failures[0].text}")
        alerts = Alerts(wiring.settings.alerts, wiring.secrets.resolve)
        with ExitStack() as stack:
            ledger: Ledger | None = None
            # Without the ledger nobody knows what was told, and its absence is what has to be told.
            with suppress(LedgerError, SecretError):
                ledger = stack.enter_context(closing(open_settings_ledger(wiring.settings, wiring.secrets)))
            faults = tell_failures(ledger, alerts, failures, job=run.job_name, run_id=run.run_id, tags=dict(run.tags))
        for fault in faults:
            context.log.warning("an alert could not be sent: %s", fault)
        return None

    return alert_on_failure


def _why(context: dg.RunFailureSensorContext) -> list[RunFailure]:
    events = context.get_step_failure_events()
    message = context.failure_event.message or "the run failed"
    job = context.dagster_run.job_name
    return [failure_of_step(event, None) for event in events] or [RunFailure(FailureKind.UNEXPECTED, message, job)]
