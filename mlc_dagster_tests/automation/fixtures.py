"""Fixtures shared by the tests of assets, checks, resources and automation."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.sandbox.seed import Seed
from mlc_dagster_tests.automation.dagster_flow import DagsterFlow, dagster_flow
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal

TODAY = dt.date(2026, 11, 21)
"""Fusion's day: October and November are open."""


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Rehearsal]:
    """Both remote sides; the folder was empty at first contact."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as running:
        running.open_feed()
        yield running


@pytest.fixture
def flow(remote: Rehearsal) -> Iterator[DagsterFlow]:
    """Assets, checks, sensors and command over both remote sides, on an instance in memory."""
    with dagster_flow(remote) as running:
        yield running
