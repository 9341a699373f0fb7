"""The flow at which people interfere; a test file may have a flow of its own instead."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.sandbox.seed import Seed
from mlc_dagster_tests.faults.people import Kept
from mlc_dagster_tests.protocols.conftest import TODAY
from mlc_dagster_tests.protocols.posting import clerk
from mlc_dagster_tests.servers.postgres import PostgresServer
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Rehearsal]:
    """Both remote sides and the flow; a clerk's invoice is there, so that absence can be proven."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as running:
        running.open_feed()
        clerk(running)
        yield running


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Rehearsal]:
    """A business unit in which nothing was ever visible to us."""
    with rehearsal(tmp_path, seed=Seed(20, TODAY)) as running:
        running.open_feed()
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    """The same with a ledger of either kind, and a way to keep a copy of it."""
    postgres: PostgresServer | None = None
    url: str | None = None
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        postgres, url = server, server.url(server.create_database())
    with rehearsal(tmp_path, ledger_url=url, seed=Seed(20, TODAY)) as running:
        running.open_feed()
        clerk(running)
        yield Kept(running, postgres)
