"""Fixtures that every test may ask for: databases to keep a ledger in, and an environment without surprises.

What belongs here: what several folders of tests share. Servers themselves live in ``servers/``.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from mlc_dagster_tests.servers.postgres import PostgresServer, running_postgres

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a shell that ignores Ctrl-C for all it starts: what tests interrupt would not end.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# The developer's own configuration must not reach a test, and a test must not report to anybody. Set before Dagster is
# imported and for every process that a test starts.
for _variable in ("MLC_CONFIG", "DAGSTER_HOME"):
    os.environ.pop(_variable, None)
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"

# A shared core makes single examples slow now and then; the test's own time limit is the one that counts.
hypothesis.settings.register_profile("mlc", deadline=None, print_blob=True)
# In CI the same examples every time: a red run must mean that the change broke something.
hypothesis.settings.register_profile("ci", parent=hypothesis.settings.get_profile("mlc"), derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "mlc")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for this test process, on a loopback port (TCP); started when first asked for."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Address (``postgresql+psycopg://…``) of a new, empty database of this test."""
    database = postgres_server.create_database()
    yield postgres_server.url(database)
    postgres_server.drop_database(database)


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a new, empty database; the test runs once on SQLite (a file) and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    url: str = request.getfixturevalue("postgres_url")
    return url
