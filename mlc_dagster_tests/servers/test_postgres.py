"""The PostgreSQL server of the tests: real, separate for each test, and gone afterwards."""

import os
import shutil
import signal
import subprocess
import sys

import psycopg
import pytest
import sqlalchemy as sa

from mlc_dagster_tests.servers.postgres import PostgresServer


@pytest.mark.parametrize("attempt", [1, 2])
def test_each_test_has_an_empty_database(postgres_url: str, attempt: int) -> None:
    """Tests that saw each other's rows would depend on their order."""
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE only_mine (n int)"))
        assert sa.inspect(connection).get_table_names() == ["only_mine"]


def test_a_connection_left_open_does_not_keep_the_database(postgres_server: PostgresServer) -> None:
    """A test that fails leaves connections behind; cleaning up after it must not fail as well."""
    name = postgres_server.create_database()
    with psycopg.connect(postgres_server.url(name).replace("+psycopg", "")):
        postgres_server.drop_database(name)
    with psycopg.connect(postgres_server.url("postgres").replace("+psycopg", "")) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
    assert found is None


def test_a_template_copies_its_tables(postgres_server: PostgresServer) -> None:
    """Copying a prepared database is faster than building its tables again for each test."""
    template = postgres_server.create_database()
    with psycopg.connect(postgres_server.url(template).replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE prepared (n int)")
    copy = postgres_server.create_database(template)
    engine = sa.create_engine(postgres_server.url(copy))
    assert sa.inspect(engine).has_table("prepared")
    engine.dispose()
    postgres_server.drop_database(copy)
    postgres_server.drop_database(template)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_a_killed_test_process_leaves_no_server() -> None:
    """Servers of killed runs would pile up on a developer's machine and on CI."""
    program = (
        "from mlc_dagster_tests.servers.postgres import running_postgres\n"
        "import sys\n"
        "with running_postgres() as server:\n"
        "    print(server.port, server.log.parent, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        port, folder = parent.stdout.readline().split()
        watcher = psycopg.connect(host="127.0.0.1", port=int(port), user="postgres", dbname="postgres")
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        # The fast stop ends every session, also one that waits in a statement.
        with pytest.raises(psycopg.OperationalError):
            watcher.execute("SELECT pg_sleep(60)")
    watcher.close()
    shutil.rmtree(folder, ignore_errors=True)
