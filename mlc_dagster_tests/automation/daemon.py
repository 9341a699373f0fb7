"""Dagster's daemon over a flow: its own sensor loop and run queue, one iteration at a time.

The instance is the one of the product's ``dagster.yaml``, in a folder; the code location is loaded from mlc.yaml as a
daemon loads it. What is shortened is waiting alone: a sensor's last tick is set back in the instance, and runs are
executed where they are launched instead of in a process each (``test_daemon_process`` has those).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import dagster as dg
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.scheduler.instigation import InstigatorTick, SensorInstigatorData
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._daemon.sensor import execute_sensor_iteration

ROOT = Path(__file__).parents[2]
LAUNCHER = """
run_launcher:
  module: dagster._core.launcher.sync_in_memory_run_launcher
  class: SyncInMemoryRunLauncher
"""
CODE_LOCATION = """
from pathlib import Path

from mlc_dagster.definitions import build_defs, definition_settings

defs = build_defs(definition_settings({{"MLC_CONFIG": {config!r}}}, Path.cwd()), environ={{}})
"""
_LONG_AGO = 3600.0
_LOG = logging.getLogger("daemon")


class Installation(Protocol):
    """A folder with an mlc.yaml, of either flow."""

    folder: Path
    config: Path


@dataclass
class Daemon:
    """A daemon that does one round when it is told to."""

    instance: dg.DagsterInstance
    workspace: WorkspaceProcessContext

    def round(self) -> list[dg.DagsterRun]:
        """Half a minute passes: every sensor ticks once, then what waits in the queue is run; the runs that are new."""
        before = {run.run_id for run in self.instance.get_runs()}
        self._let_time_pass()
        for fault in execute_sensor_iteration(self.workspace, _LOG, None, None):
            assert fault is None or not hasattr(fault, "message"), fault
        with QueuedRunCoordinatorDaemon(interval_seconds=0) as queue:
            list(queue.run_iteration(self.workspace))
        return [run for run in self.instance.get_runs() if run.run_id not in before]

    def ticks(self, sensor: str) -> list[InstigatorTick]:
        """The sensor's ticks, the newest first."""
        [state] = [state for state in self.instance.all_instigator_state() if state.name == sensor]
        return list(self.instance.get_ticks(state.origin.get_id(), state.selector_id))

    def _let_time_pass(self) -> None:
        for state in self.instance.all_instigator_state():
            data = state.instigator_data
            assert isinstance(data, SensorInstigatorData)
            if data.last_tick_timestamp is not None:
                earlier = data._replace(
                    last_tick_timestamp=data.last_tick_timestamp - _LONG_AGO,
                    last_tick_start_timestamp=(data.last_tick_start_timestamp or 0) - _LONG_AGO,
                )
                self.instance.update_instigator_state(state.with_data(earlier))


class Configured(Protocol):
    """Whatever has an mlc.yaml and a folder."""

    @property
    def folder(self) -> Path:
        """Where the daemon keeps what is its own."""
        ...

    @property
    def config(self) -> Path:
        """mlc.yaml."""
        ...


@contextmanager
def daemon(remote: Configured) -> Iterator[Daemon]:
    """A daemon on an instance of its own, over the configuration as it is now."""
    home = remote.folder / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text() + LAUNCHER)
    # A file per test: Dagster keeps what it loaded from a name.
    code = remote.folder / "code_location.py"
    code.write_text(CODE_LOCATION.format(config=str(remote.config)))
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(python_file=str(code), executable_path=None), location_name="mlc"
    )
    with (
        dg.DagsterInstance.from_config(str(home)) as instance,
        WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as workspace,
    ):
        yield Daemon(instance, workspace)
