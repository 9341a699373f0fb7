"""The daily job that prunes what Dagster keeps of itself: ended runs with their logs, and ticks.

Dagster knows a partition's state from events of the run that made it; deleting that run makes the partition look as if
it was never materialised, and there is no way to keep the event without its run. So a run stays whole, whatever its
age, while it is the latest word on any asset, partition or check. What the ledger keeps is ``mlc retention``'s.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import dagster as dg
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.event_log import SqliteEventLogStorage

from mlc_dagster.settings import Settings
from mlc_dagster.settings.retention import DagsterRetention, cutoff

PRUNE_JOB = "prune_dagster"
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_TICKS_OVER = [TickStatus.SKIPPED, TickStatus.SUCCESS, TickStatus.FAILURE]
_AT_ONCE = 500


@dataclass(frozen=True)
class Pruned:
    """What one round did."""

    runs_deleted: int
    runs_kept: int
    """Older than the period, and the latest word on something."""


def build_pruning(settings: Settings, flow: dg.Definitions) -> dg.Definitions:
    """The job and its schedule; the schedule is stopped at first where the configuration is the sandbox's.

    Args:
        settings: mlc.yaml.
        flow: what the instance runs; the latest evaluations of its checks stay.
    """
    retention = settings.retention.dagster
    checks = [
        key for each in flow.asset_checks or () if isinstance(each, dg.AssetChecksDefinition) for key in each.check_keys
    ]

    @dg.op(description="Deletes what retention.dagster in mlc.yaml no longer keeps.")
    def delete_old_runs_and_ticks(context: dg.OpExecutionContext) -> None:
        pruned = prune_instance(context.instance, retention, checks, now=dt.datetime.now(dt.UTC))
        context.log.info(
            "%s runs deleted; %s older ones stay as the latest of a partition, asset or check",
            pruned.runs_deleted,
            pruned.runs_kept,
        )
        context.add_output_metadata({"runs_deleted": pruned.runs_deleted, "runs_kept": pruned.runs_kept})

    @dg.job(
        name=PRUNE_JOB,
        description=f"Old runs ({retention.runs}) and ticks ({retention.ticks}); each partition's latest run stays.",
        executor_def=dg.in_process_executor,
    )
    def prune_dagster() -> None:
        delete_old_runs_and_ticks()

    schedule = dg.ScheduleDefinition(
        name="prune_dagster_daily",
        job=prune_dagster,
        cron_schedule="17 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED if settings.sandbox else dg.DefaultScheduleStatus.RUNNING,
    )
    return dg.Definitions(jobs=[prune_dagster], schedules=[schedule])


def prune_instance(
    instance: dg.DagsterInstance, retention: DagsterRetention, checks: Iterable[dg.AssetCheckKey], *, now: dt.datetime
) -> Pruned:
    """Delete old ended runs, with event and compute logs, and old ticks.

    May be stopped anywhere and run again: a run's own row goes last.

    Args:
        instance: Dagster's instance.
        retention: how long runs and ticks are kept.
        checks: whose latest evaluations stay.
        now: UTC.
    """
    before = cutoff(retention.ticks, now)
    if before is not None:
        for state in instance.all_instigator_state():
            instance.purge_ticks(
                state.instigator_origin_id, state.selector_id, before.timestamp(), tick_statuses=_TICKS_OVER
            )
    before = cutoff(retention.runs, now)
    if before is None:
        return Pruned(0, 0)
    ended = dg.RunsFilter(statuses=_ENDED, updated_before=before)
    old = instance.get_run_ids(ended)
    # After the list: a run that ends meanwhile may be the latest of something, and is not on it.
    kept = latest_runs(instance, checks) if old else frozenset[str]()
    deleted = 0
    for run_id in old:
        if run_id not in kept:
            _delete(instance, run_id)
            deleted += 1
    return Pruned(deleted, len(old) - deleted)


def latest_runs(instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey]) -> frozenset[str]:
    """Runs without which an asset, a partition or a check would look otherwise.

    Of each asset and partition the latest materialisation and an attempt after it that failed; of each check and
    partition the latest evaluation.
    """
    storage = instance.event_log_storage
    kept: set[str] = set()
    for record in instance.get_asset_records():
        key, entry = record.asset_entry.asset_key, record.asset_entry
        if entry.last_run_id:
            kept.add(entry.last_run_id)
        if entry.last_materialization_record is not None:
            kept.add(entry.last_materialization_record.run_id)
        latest = storage.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION)
        for ids in _chunks(latest.values()):
            found = instance.fetch_materializations(dg.AssetRecordsFilter(key, storage_ids=ids), limit=len(ids))
            kept |= {event.run_id for event in found.records}
        attempts = storage.get_latest_asset_partition_materialization_attempts_without_materializations(key)
        kept |= {run_id for run_id, _ in attempts.values()}
    keys = list(checks)
    for latest_check in storage.get_asset_check_partition_info(keys):
        kept.add(latest_check.latest_planned_run_id)
    return frozenset(kept)


def _chunks(values: Collection[int]) -> Iterator[list[int]]:
    remaining = iter(values)
    while chunk := list(islice(remaining, _AT_ONCE)):
        yield chunk


def _delete(instance: dg.DagsterInstance, run_id: str) -> None:
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    storage = instance.event_log_storage
    storage.delete_events(run_id)
    instance.delete_run(run_id)
    if isinstance(storage, SqliteEventLogStorage):
        # Dagster empties the run's own database and leaves the file.
        shard = Path(storage.path_for_shard(run_id))
        for path in (shard, shard.with_name(f"{shard.name}-wal"), shard.with_name(f"{shard.name}-shm")):
            with suppress(FileNotFoundError):
                path.unlink()
