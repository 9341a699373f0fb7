"""The outbound sensor: asks for a run per feed when windows are over by Fusion's clock and its schedule says so.

A tick derives everything from the ledger and Fusion's time; it reads no records and reaches no partner.
"""

# ruff: noqa: PLC0415 - httpx and the layouts are imported by the tick, not by the definitions.

from typing import TYPE_CHECKING

import dagster as dg

from mlc_dagster.assets import EXPORTS, feed_key
from mlc_dagster.assets.exporting import FEED_TAG, RANGE_END_TAG, RANGE_START_TAG
from mlc_dagster.assets.failures import FailureKind, kind_of, said
from mlc_dagster.assets.fusion_sources import BY_NAME
from mlc_dagster.assets.holding import GENERATION_TAG, WINDOW_TAG
from mlc_dagster.automation.dead_runs import fail_dead_runs
from mlc_dagster.automation.jobs import OUTBOUND_JOB
from mlc_dagster.automation.outcome import RunFailure
from mlc_dagster.automation.run_alerts import tell_failures
from mlc_dagster.automation.tick_errors import masking_errors
from mlc_dagster.exports.runs import ExportRun
from mlc_dagster.ledger.windows import window_key
from mlc_dagster.partitions import outbound_windows
from mlc_dagster.resources import OutboundResource, SandboxDown
from mlc_dagster.settings import Settings

if TYPE_CHECKING:
    from mlc_dagster.exports.outbound import Outbound
    from mlc_dagster.exports.planning import FeedFault

_INTERVAL = 30


def export_tags(run: ExportRun) -> dict[str, str]:
    """Tags that say what a run is for: its feed, its piece of work, its range of windows."""
    return {
        FEED_TAG: run.feed,
        WINDOW_TAG: window_key(run.home),
        GENERATION_TAG: str(run.generation),
        RANGE_START_TAG: window_key(run.first),
        RANGE_END_TAG: window_key(run.last),
    }


def export_selection(run: ExportRun) -> list[dg.AssetKey]:
    """The assets of one feed's run: its source, the feed, the summary."""
    return [dg.AssetKey(BY_NAME[run.source].asset), feed_key(run.feed), dg.AssetKey(EXPORTS)]


def build_export_sensor(settings: Settings, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """The sensor that asks for outbound runs."""
    windows = outbound_windows(settings.poll)

    @dg.sensor(
        name="fusion_export_sensor",
        job_name=OUTBOUND_JOB,
        minimum_interval_seconds=_INTERVAL,
        default_status=status,
        description="Asks for a run per feed when windows are over by Fusion's clock and the feed is due.",
    )
    @masking_errors
    def fusion_export_sensor(
        context: dg.SensorEvaluationContext, outbound: OutboundResource
    ) -> dg.SensorResult | dg.SkipReason:
        from mlc_dagster.exports.planning import plan_exports
        from mlc_dagster.exports.reading import fusion_now
        from mlc_dagster.fusion.errors import FusionError, NotAuthorised, Untrusted

        fail_dead_runs(context.instance)
        try:
            # No feed is connected here: a layout that cannot be used fails its own feed's run, and no other.
            wired = outbound.connect(only=())
        except SandboxDown as reason:
            return dg.SkipReason(str(reason))
        try:
            now = fusion_now(wired)
        except (NotAuthorised, Untrusted) as refused:
            # It stays so until somebody does something, and there is no run that could fail of it.
            _tell(
                context,
                wired,
                [RunFailure(FailureKind.REMOTE, said(refused), "fusion_export_sensor", error=type(refused).__name__)],
            )
            raise
        except FusionError as error:
            return dg.SkipReason(f"{error}; the next tick asks again")
        plan = plan_exports(wired, now)
        faults = [failure_of(fault) for fault in plan.faults]
        for fault in faults:
            context.log.error("%s: %s", fault.step, fault.text)
        _tell(context, wired, faults)
        runs = [run for run in plan.runs if windows.has_partition_key(window_key(run.last))]
        nothing = [f"nothing is due; Fusion's clock says {now:%Y-%m-%d %H:%M:%S} UTC"]
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(run_key=run.run_key, tags=export_tags(run), asset_selection=export_selection(run))
                for run in runs
            ],
            skip_reason=None if runs else "; ".join(nothing + [f"{fault.step}: {fault.text}" for fault in faults]),
        )

    return fusion_export_sensor


def failure_of(fault: "FeedFault") -> RunFailure:
    """A feed that cannot be planned, as a failure of its asset."""
    return RunFailure(kind_of(fault.error), said(fault.error), f"{EXPORTS}/{fault.feed}")


def _tell(context: dg.SensorEvaluationContext, outbound: "Outbound", failures: list[RunFailure]) -> None:
    for fault in tell_failures(outbound.ledger, outbound.alerts, failures, job=OUTBOUND_JOB):
        context.log.warning("an alert could not be sent: %s", fault)
