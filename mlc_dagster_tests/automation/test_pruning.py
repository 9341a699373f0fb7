"""Pruning Dagster: old runs go, and every partition, asset and check looks as it did before."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.partitions.definition import StaticPartitionsDefinition
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import make_new_run_id

from mlc_dagster.automation.pruning import Pruned, build_pruning, prune_instance
from mlc_dagster.settings.retention import DagsterRetention
from mlc_dagster_tests.exports.workshop import settings_of
from mlc_dagster_tests.servers.postgres import PostgresServer
from mlc_dagster_tests.test_project import POSTGRES, SQLITE, booted

PARTITIONS = StaticPartitionsDefinition(["a", "b", "c", "d"])
RULES = DagsterRetention(runs="90d", ticks="30d")
CHECK = dg.AssetCheckKey(dg.AssetKey("windows"), "agrees")


class Fails(dg.Config):
    fails: bool = False


@dg.asset(partitions_def=PARTITIONS, check_specs=[dg.AssetCheckSpec("agrees", asset="windows")])
def windows(config: Fails) -> dg.MaterializeResult:
    if config.fails:
        raise dg.Failure("as asked")
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True, check_name="agrees")])


@dg.asset
def statuses() -> None: ...


@pytest.fixture(params=["sqlite", "postgres"])
def instance(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """An instance as the repository's dagster.yaml describes it, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        with booted(SQLITE, tmp_path) as made:
            yield made
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    database = server.create_database()
    values = {"HOST": "127.0.0.1", "PORT": str(server.port), "USERNAME": "postgres", "PASSWORD": "any", "DB": database}
    for name, value in values.items():
        monkeypatch.setenv(f"DAGSTER_PG_{name}", value)
    with booted(POSTGRES, tmp_path) as made:
        yield made
    server.drop_database(database)


def run(instance: dg.DagsterInstance, partition: str | None = None, *, fails: bool = False) -> str:
    if partition is None:
        return dg.materialize([statuses], instance=instance).run_id
    config = dg.RunConfig(ops={"windows": Fails(fails=fails)})
    result = dg.materialize(
        [windows], instance=instance, partition_key=partition, run_config=config, raise_on_error=False
    )
    assert result.success is not fails
    return result.run_id


def in_90_days() -> dt.datetime:
    """When everything up to now is old, and what is run from here on is not."""
    return dt.datetime.now(dt.UTC) + dt.timedelta(days=90)


def seen(instance: dg.DagsterInstance) -> object:
    """What the lineage shows: state per partition, what was made last, and the checks."""
    key = dg.AssetKey("windows")
    states = instance.get_status_by_partition(key, PARTITIONS.get_partition_keys(), PARTITIONS)
    [check] = instance.event_log_storage.get_latest_asset_check_execution_by_key([CHECK]).values()
    checks = instance.event_log_storage.get_asset_check_partition_info([CHECK])
    last = instance.get_latest_materialization_event(dg.AssetKey("statuses"))
    assert last is not None
    return (
        states,
        instance.get_materialized_partitions(key),
        instance.event_log_storage.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION),
        [(each.partition_key, each.latest_execution_status, each.latest_planned_run_id) for each in checks],
        (check.run_id, check.status),
        last.run_id,
    )


def test_every_partition_keeps_its_state(instance: dg.DagsterInstance) -> None:
    """A window that suddenly looks as if it was never polled would be run again, or reported as a gap."""
    superseded = [run(instance, "a"), run(instance, "a")]
    old_and_latest = run(instance, "b")
    failed_alone = run(instance, "c", fails=True)
    failed_first = run(instance, "d", fails=True)
    then_made = run(instance, "d")
    statuses_of_old = [run(instance), run(instance)]
    now = in_90_days()
    recent = run(instance, "a")
    before = seen(instance)
    assert prune_instance(instance, RULES, [CHECK], now=now) == Pruned(4, 4)
    assert seen(instance) == before
    left = set(instance.get_run_ids())
    assert left == {old_and_latest, failed_alone, then_made, recent, statuses_of_old[1]}
    for run_id in (*superseded, failed_first, statuses_of_old[0]):
        assert instance.get_run_by_id(run_id) is None
    events = instance.fetch_materializations(dg.AssetKey("windows"), limit=100).records
    assert {event.run_id for event in events} == {old_and_latest, then_made, recent}
    assert instance.all_logs(old_and_latest)


def test_a_second_round_deletes_nothing_more(instance: dg.DagsterInstance) -> None:
    """It runs every day."""
    run(instance, "b")
    run(instance, "b")
    now = in_90_days()
    assert prune_instance(instance, RULES, [CHECK], now=now) == Pruned(1, 1)
    assert prune_instance(instance, RULES, [CHECK], now=now) == Pruned(0, 1)


def test_a_run_in_progress_stays(instance: dg.DagsterInstance) -> None:
    """However old: deleting it under its process would leave a window that nobody ends."""
    for status in (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING):
        instance.add_run(dg.DagsterRun("windows", run_id=make_new_run_id(), status=status))
    assert prune_instance(instance, RULES, [CHECK], now=in_90_days()) == Pruned(0, 0)
    assert instance.get_runs_count() == 2


def test_logs_go_with_their_run(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    """Printed text and, on SQLite, a database per run are most of what fills the disk."""
    old, latest = run(instance, "b"), run(instance, "b")
    manager = instance.compute_log_manager
    assert isinstance(manager, LocalComputeLogManager)
    for run_id in (old, latest):
        printed = Path(manager.get_captured_local_path([run_id, "compute_logs", "step"], "out"))
        printed.parent.mkdir(parents=True, exist_ok=True)
        printed.write_text("printed")
    prune_instance(instance, RULES, [CHECK], now=in_90_days())
    left = {path.name for path in tmp_path.rglob("*") if old in str(path)}
    assert left == set()
    assert any(latest in str(path) for path in tmp_path.rglob("*"))


def test_forever_keeps_everything(instance: dg.DagsterInstance) -> None:
    """Whoever has to keep run history for an auditor can say so."""
    run(instance)
    run(instance)
    rules = DagsterRetention(runs="forever", ticks="forever")
    assert prune_instance(instance, rules, [], now=in_90_days()) == Pruned(0, 0)
    assert instance.get_runs_count() == 2


def test_old_ticks_go_unless_they_are_under_way(instance: dg.DagsterInstance) -> None:
    """Also those of a sensor that was switched off, which Dagster itself no longer looks at."""
    place = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="m"), location_name="mlc")
    origin = RemoteRepositoryOrigin(place, "repository").get_instigator_origin("poll")
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.STOPPED, SensorInstigatorData())
    instance.add_instigator_state(state)
    now = dt.datetime.now(dt.UTC)
    for days, status in ((40, TickStatus.SKIPPED), (40, TickStatus.STARTED), (20, TickStatus.SUCCESS)):
        instance.create_tick(
            TickData(
                state.instigator_origin_id, "poll", InstigatorType.SENSOR, status,
                (now - dt.timedelta(days=days)).timestamp(), selector_id=state.selector_id, run_ids=[],
            )
        )  # fmt: skip
    prune_instance(instance, RULES, [], now=now)
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id)
    assert {tick.status for tick in ticks} == {TickStatus.STARTED, TickStatus.SUCCESS}


def test_the_job_prunes_by_the_settings(tmp_path: Path) -> None:
    """It is started by its schedule, with no configuration of its own."""
    settings = settings_of(tmp_path, "invoices")
    flow = dg.Definitions(assets=[windows, statuses])
    defs = dg.Definitions.merge(flow, build_pruning(settings, flow))
    with booted(SQLITE, tmp_path) as instance:
        result = defs.resolve_job_def("prune_dagster").execute_in_process(instance=instance)
        assert result.success
    [schedule] = defs.get_repository_def().schedule_defs
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
