"""The Dagster side over a running pair of remote sides: definitions, ticks, runs and single assets as a user has them.

Built on ``servers.rehearsal``. Files settle at once, unless a test says otherwise; nothing is faked.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sa

from mlc_dagster.automation.jobs import INBOUND_JOB
from mlc_dagster.automation.one_shot import run_inbound
from mlc_dagster.automation.outcome import InboundOutcome
from mlc_dagster.definitions import build_defs
from mlc_dagster.ledger.database import Row
from mlc_dagster.settings import Settings
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.stampli.builders import file_name, invoice_csv, invoice_rows

QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
AN_HOUR = 3600


@dataclass
class DagsterFlow:
    """One code location on one instance, with its remote sides."""

    remote: Rehearsal
    instance: dg.DagsterInstance

    @property
    def settings(self) -> Settings:
        return self.remote.settings

    @property
    def defs(self) -> dg.Definitions:
        return build_defs(self.settings, environ={})

    def drop(self, sequence: int, rows: list[dict[str, str]] | None = None) -> Path:
        """A whole file of an hour ago, so that it is not hashed once more at the next poll."""
        path = self.remote.drop(file_name(sequence), invoice_csv(invoice_rows() if rows is None else rows))
        old = time.time() - AN_HOUR
        os.utime(path, (old, old))
        return path

    def tick(self, sensor: str = "stampli_poll_sensor") -> Any:
        """One evaluation of a sensor."""
        defs = self.defs
        resources = {"inbound": (defs.resources or {})["inbound"]}
        with dg.build_sensor_context(
            self.instance, definitions=defs, sensor_name=sensor, resources=resources
        ) as context:
            return defs.get_repository_def().get_sensor_def(sensor).evaluate_tick(context)

    def launch(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """What the daemon does with a request."""
        assert request.partition_key is not None
        return self.run(request.partition_key, tags={**request.tags, "dagster/run_key": request.run_key or ""})

    def run(self, window: str, *, tags: Mapping[str, str] | None = None) -> dg.ExecuteInProcessResult:
        """The job over one window; without tags, as a person starts it."""
        job = self.defs.resolve_job_def(INBOUND_JOB)
        return job.execute_in_process(
            partition_key=window, instance=self.instance, tags=dict(tags or {}), run_config=QUIET, raise_on_error=False
        )

    def poll(self, **how: Any) -> InboundOutcome:
        """``mlc run inbound``."""
        return run_inbound(self.settings, instance=self.instance, environ={}, **how)

    def metadata(self, asset: str) -> dict[str, Any]:
        """What the asset's last materialization said, as plain values."""
        [record] = self.instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
        materialization = record.asset_materialization
        assert materialization is not None
        return {name: getattr(value, "value", value) for name, value in materialization.metadata.items()}

    def sql(self, statement: Any) -> None:
        """Change the ledger behind the product's back."""
        with self.remote.ledger.transaction() as transaction:
            transaction.execute(statement)

    def rows(self, table: sa.Table) -> list[Row]:
        with self.remote.ledger.reading() as reading:
            return reading.rows(sa.select(table))


@contextmanager
def dagster_flow(remote: Rehearsal) -> Iterator[DagsterFlow]:
    """The flow on an instance in memory; files settle at their second sighting."""
    remote.change_config({"stampli": {"settle_seconds": 0}})
    with dg.DagsterInstance.ephemeral() as instance:
        yield DagsterFlow(remote, instance)


def failure_of(result: dg.ExecuteInProcessResult, step: str) -> str:
    """The sentence with which a step failed."""
    [event] = [event for event in result.all_events if event.is_step_failure and event.step_key == step]
    assert event.step_failure_data.user_failure_data is not None, event.step_failure_data.error
    return str(event.step_failure_data.user_failure_data.description)
