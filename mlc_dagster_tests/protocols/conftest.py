"""A running pair of remote sides for the protocol tests, judged by the embedded Fusion's own books."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.sandbox.seed import Seed
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal

TODAY = dt.date(2026, 11, 21)
"""Fusion's day: October and November are open, December is future-enterable, September is closed."""


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Rehearsal]:
    """Both remote sides and the flow between them; the feed is open and its folder empty."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as running:
        running.open_feed()
        yield running
