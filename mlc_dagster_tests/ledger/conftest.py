"""Ledgers for the tests: an empty one per test on both databases, and one shared by tests that do not mind rows."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.ledger.process import process_name
from mlc_dagster_tests.ledger.population import HandClock
from mlc_dagster_tests.servers.ledgers import new_file
from mlc_dagster_tests.servers.postgres import PostgresServer


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """Name of a database that holds a new ledger, to be copied."""
    name = postgres_server.create_database()
    open_ledger(postgres_server.url(name)).close()
    return name


@pytest.fixture(params=["sqlite", "postgres"])
def prepared_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address of a new ledger whose tables are there; SQLite and PostgreSQL."""
    if request.param == "sqlite":
        yield new_file(tmp_path / "ledger.sqlite")
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    database = server.create_database(request.getfixturevalue("postgres_template"))
    yield server.url(database)
    server.drop_database(database)


@pytest.fixture
def ledger(prepared_url: str, clock: HandClock) -> Iterator[Ledger]:
    """An empty ledger whose time stands still until the test moves ``clock``; SQLite and PostgreSQL."""
    opened = open_ledger(prepared_url, actor="test", clock=clock)
    yield opened
    opened.close()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shared_ledger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """One ledger for all tests of a module: for many small cases, each with rows of its own."""
    if request.param == "sqlite":
        url = new_file(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
        opened = open_ledger(url, actor="test", clock=HandClock())
        yield opened
        opened.close()
        return
    server = request.getfixturevalue("postgres_server")
    database = server.create_database()
    opened = open_ledger(server.url(database), actor="test", clock=HandClock())
    yield opened
    opened.close()
    server.drop_database(database)


@pytest.fixture
def archive_root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def dead_process() -> str:
    """Name of a process of this host that ran and is gone."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        name = process_name(process.pid)
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
    return name
