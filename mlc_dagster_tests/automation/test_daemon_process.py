"""The daemon as production has it: a process, its code server and its runs, all of them on PostgreSQL."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import pytest

from mlc_dagster_tests.automation.daemon import ROOT
from mlc_dagster_tests.automation.purchase_orders import order_paper, purchase_order_feed, transaction_sets
from mlc_dagster_tests.servers.partner_rehearsal import partner_rehearsal
from mlc_dagster_tests.servers.postgres import USER, PostgresServer

LONGEST = 90.0
"""Seconds from the daemon's start to the end of its first run, on a busy machine."""


@pytest.fixture
def storage(tmp_path: Path, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """DAGSTER_HOME as ``deploy/postgres`` has it, with a database of its own."""
    database = postgres_server.create_database()
    home = tmp_path / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "deploy" / "postgres" / "dagster.yaml").read_text())
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("DAGSTER_PG_HOST", "127.0.0.1")
    monkeypatch.setenv("DAGSTER_PG_PORT", str(postgres_server.port))
    monkeypatch.setenv("DAGSTER_PG_USERNAME", USER)
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "any")
    monkeypatch.setenv("DAGSTER_PG_DB", database)
    yield
    postgres_server.drop_database(database)


@contextmanager
def daemon_process(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``dagster-daemon run`` over the product's code location; asked to stop as a service is, nothing is left."""
    command = [sys.executable, "-m", "dagster._daemon", "run", "--module-name", "mlc_dagster.definitions"]
    environ = {**os.environ, "MLC_CONFIG": str(config)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=log.parent, env=environ, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def first_run(instance: dg.DagsterInstance, process: subprocess.Popen[bytes], log: Path) -> dg.DagsterRun:
    """The daemon's first run, once it has ended."""
    deadline = time.monotonic() + LONGEST
    while True:
        ended = [run for run in instance.get_runs() if run.is_finished]
        if ended:
            return ended[0]
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(log.read_text()[-4000:])
        time.sleep(0.05)


@pytest.mark.usefixtures("storage")
def test_the_daemon_delivers_with_everything_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    """Ledger, runs, events and the queue in databases: an installation without a folder of SQLite files."""
    log = tmp_path / "daemon.log"
    with partner_rehearsal(tmp_path, ledger_url=postgres_url) as remote, dg.DagsterInstance.get() as instance:
        remote.change_config(ledger={"url": postgres_url})
        purchase_order_feed(remote)
        order_paper(remote, "US170001")
        remote.later()
        with daemon_process(remote.config, log) as process:
            run = first_run(instance, process, log)
        assert run.job_name == "fusion_to_sftp"
        assert run.status is dg.DagsterRunStatus.SUCCESS
        assert transaction_sets(remote) == [("850", "US170001")]
