"""Several at work at once, none of them waiting for another: workers, windows, the daemon and the command.

Each race is run on both databases and judged by the embedded Fusion's own books. What a gate can arrange (who holds
what while the other looks) is in ``protocols/test_posting_c1_claims``, claims alone in ``ledger/test_claim_races``.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlc_dagster.ledger.windows import RunWanted
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster_tests.automation.daemon import daemon
from mlc_dagster_tests.faults.scenes import Scene, finish, judge
from mlc_dagster_tests.faults.test_kill_points import TODAY
from mlc_dagster_tests.protocols.posting import clerk, drop, many, numbers, one, only, posts, until
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal
from mlc_dagster_tests.servers.runner import RunProcess

ALL = os.environ.get("MLC_FAULTS") == "all"
ROUNDS = 10 if ALL else 1
PATIENCE = 150.0
"""Seconds that a command or a daemon's round may take on a busy machine."""
DATABASES = ("sqlite", "postgres")


@pytest.fixture(params=DATABASES)
def flow(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rehearsal]:
    """Both remote sides; the ledger on SQLite, then on PostgreSQL, and known to other processes by mlc.yaml."""
    with open_flow(request, tmp_path, request.param) as running:
        yield running


@contextmanager
def open_flow(request: pytest.FixtureRequest, folder: Path, database: str) -> Iterator[Rehearsal]:
    url: str | None = request.getfixturevalue("postgres_url") if database == "postgres" else None
    with rehearsal(folder, ledger_url=url, seed=Seed(20, TODAY)) as running:
        if url is not None:
            running.change_config({"ledger": {"url": url}})
        running.open_feed()
        clerk(running)
        yield running


def race(flow: Rehearsal, *runs: RunWanted) -> list[dict[str, Any]]:
    """Each in a process of its own, all at once; what each did, or its ``error``."""
    with ExitStack() as stack:
        processes = [stack.enter_context(RunProcess(flow, wanted)) for wanted in runs]
        return [process.result() for process in processes]


def finished(flow: Rehearsal, *books: str, **buckets: int) -> None:
    finish(flow)
    judge(flow, Scene("at once", lambda _: None, books, buckets, boundaries=0))


@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_workers_on_one_window(flow: Rehearsal, attempt: int) -> None:
    """Three runs of one window: each invoice is sent by one of them, and none ends in anything but "busy"."""
    drop(flow, many(20))
    wanted = only(flow.poll_settled().runs)
    results = race(flow, wanted, wanted, wanted)
    assert {result["error"] for result in results if "error" in result} <= {"WindowBusy"}
    assert sum(result.get("created", 0) for result in results) == 20
    assert posts(flow) == 20
    finished(flow, *numbers(20), created=20)


@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_windows_with_the_same_invoices(flow: Rehearsal, attempt: int) -> None:
    """The same documents, and others of the same numbers, in two windows that run at once."""
    drop(flow, many(12))
    flow.poll_settled()
    flow.clock.advance(1000)
    others = [row for number in range(7, 13) for row in one(f"INV-{number}", invoice_id=f"other-{number}")]
    drop(flow, [*many(6), *others, *one("NEW-1")], 2)
    runs = flow.poll_settled().runs
    assert len({wanted.window_start for wanted in runs}) == 2
    results = race(flow, *runs)
    assert [result for result in results if "error" in result] == []
    assert posts(flow) == 13
    finished(flow, *numbers(12), "NEW-1", created=13, duplicate=6, parked=6)


def combinations() -> list[object]:
    """Who comes first, and on which database; one of them in the sample."""
    found = [(first, database) for first in ("command", "daemon") for database in DATABASES]
    return [
        pytest.param(first, database, id=f"{first} first, {database}")
        for place, (first, database) in enumerate(found)
        if ALL or place == 0
    ]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("first", "database"), combinations())
def test_daemon_and_command_at_once(request: pytest.FixtureRequest, tmp_path: Path, first: str, database: str) -> None:
    """One of them has a request under way when the other begins, and more files have come by then."""
    with open_flow(request, tmp_path, database) as flow:
        flow.change_config({"stampli": {"settle_seconds": 0}})
        drop(flow, many(3))
        gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after", limit=1)
        with daemon(flow) as running, ThreadPoolExecutor(1) as beside:

            def rounds() -> None:
                # The first look sees a file, the second one finds it settled and asks for its run.
                for _ in range(2):
                    running.round()

            said: list[str] = []

            def command() -> None:
                environ = {**os.environ, "DAGSTER_HOME": str(flow.folder / "dagster_home")}
                call = [sys.executable, "-m", "mlc_dagster.cli", "--config", str(flow.config), "run", "inbound"]
                done = subprocess.run(call, env=environ, check=False, timeout=PATIENCE, capture_output=True, text=True)
                said.append(done.stdout + done.stderr)
                assert done.returncode in (0, 1), said

            begins, follows = (command, rounds) if first == "command" else (rounds, command)
            busy = beside.submit(begins)
            until(lambda: gate.held or busy.done(), timeout=PATIENCE)
            if not gate.held:
                busy.result()
                pytest.fail(f"{first} ended without a request: {said}")
            drop(flow, [*many(4), *one("INV-9", vendor_id="99999")], 2)
            follows()
            assert posts(flow, 201) <= 5
            gate.release()
            busy.result(PATIENCE)
            rounds()
        assert posts(flow) == 4
        finished(flow, *numbers(4), created=4, duplicate=3, parked=1)
