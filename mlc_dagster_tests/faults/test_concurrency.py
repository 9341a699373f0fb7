"""Several at work at once, none of them waiting for another: workers, windows, the daemon and the command.

Each race is run on both databases and judged by the embedded Fusion's own books. What a gate can arrange (who holds
what while the other looks) is in ``protocols/test_posting_c1_claims``, claims alone in ``ledger/test_claim_races``.
"""

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mlc_dagster.ledger.windows import RunWanted
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster_tests.automation.daemon import ROOT, daemon
from mlc_dagster_tests.automation.test_daemon_process import daemon_process, storage
from mlc_dagster_tests.faults.scenes import Scene, finish, judge
from mlc_dagster_tests.faults.test_kill_points import TODAY
from mlc_dagster_tests.protocols.posting import attempts, clerk, drop, many, numbers, one, only, posts, states, until
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal
from mlc_dagster_tests.servers.runner import RunProcess, meeting

ALL = os.environ.get("MLC_FAULTS") == "all"
ROUNDS = 10 if ALL else 1
PATIENCE = 150.0
"""Seconds that a command or a daemon's round may take on a busy machine."""
SOON = 60.0
"""Seconds within which processes that are under way meet, on a busy machine."""
DATABASES = ("sqlite", "postgres")
__all__ = ["storage"]


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


@contextmanager
def race(flow: Rehearsal, *runs: RunWanted) -> Iterator[list[RunProcess]]:
    """Each in a process of its own, all of them beginning each step at the same moment, as long as they live."""
    # What is held at a gate must not pass for a time-out.
    flow.change_config({"fusion": {"request_timeout": PATIENCE}})
    together = meeting(len(runs))
    with ExitStack() as stack:
        yield [stack.enter_context(RunProcess(flow, wanted, meeting=together)) for wanted in runs]


def errors_of(results: list[dict[str, Any]]) -> list[str]:
    return [result["error"] for result in results if "error" in result]


def sending(flow: Rehearsal) -> set[dt.datetime]:
    """Windows with a request under way."""
    return {row["window_start"] for row in attempts(flow) if row["phase"] == "INTENT"}


def finished(flow: Rehearsal, *books: str, **buckets: int) -> None:
    finish(flow)
    judge(flow, Scene("at once", lambda _: None, books, buckets, boundaries=0))


@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_workers_on_one_window(flow: Rehearsal, attempt: int) -> None:
    """Three runs of one window begin at once: one of them works, the others find it busy while it has requests out."""
    drop(flow, many(20))
    wanted = only(flow.poll_settled().runs)
    gate = flow.fusion.faults.gate(method="POST", path="invoices")
    with race(flow, wanted, wanted, wanted) as processes:
        until(lambda: gate.held and sum(process.ended for process in processes) == 2, timeout=SOON)
        gate.release()
        results = [process.result() for process in processes]
    assert errors_of(results) == ["WindowBusy", "WindowBusy"]
    assert sum(result.get("created", 0) for result in results) == 20
    assert posts(flow) == 20
    finished(flow, *numbers(20), created=20)


@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_windows_with_the_same_invoices(flow: Rehearsal, attempt: int) -> None:
    """The same documents, and others of the same numbers, in two windows that both have requests under way."""
    drop(flow, [*many(12), *one("OLD-1")])
    flow.poll_settled()
    flow.clock.advance(1000)
    others = [row for number in range(7, 13) for row in one(f"INV-{number}", invoice_id=f"other-{number}")]
    drop(flow, [*many(6), *others, *one("NEW-1")], 2)
    runs = flow.poll_settled().runs
    assert len({wanted.window_start for wanted in runs}) == 2
    gate = flow.fusion.faults.gate(method="POST", path="invoices")
    with race(flow, *runs) as processes:
        until(lambda: len(sending(flow)) == 2 and gate.held >= 2, timeout=SOON)
        gate.release()
        results = [process.result() for process in processes]
    assert errors_of(results) == []
    assert posts(flow) == 14
    finished(flow, *numbers(12), "OLD-1", "NEW-1", created=14, duplicate=6, parked=6)


def combinations() -> list[object]:
    """Who comes first, and on which database; one of them in the sample."""
    found = [(first, database) for first in ("command", "daemon") for database in DATABASES]
    return [
        pytest.param(first, database, id=f"{first} first, {database}")
        for place, (first, database) in enumerate(found)
        if ALL or place == 0
    ]


def run_command(flow: Rehearsal) -> None:
    """``mlc run inbound`` as a person calls it."""
    call = [sys.executable, "-m", "mlc_dagster.cli", "--config", str(flow.config), "run", "inbound"]
    done = subprocess.run(call, check=False, timeout=PATIENCE, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("first", "database"), combinations())
def test_daemon_and_command_at_once(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, database: str
) -> None:
    """One of them has a request under way when the other begins, and more files have come by then."""
    with open_flow(request, tmp_path, database) as flow:
        monkeypatch.setenv("DAGSTER_HOME", str(flow.folder / "dagster_home"))
        # Longer than the other one takes: the request is under way until it has come to its end.
        flow.change_config({"stampli": {"settle_seconds": 0}, "fusion": {"request_timeout": 2 * PATIENCE}})
        drop(flow, many(3))
        gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after", limit=1)
        with daemon(flow) as running, ThreadPoolExecutor(1) as beside:

            def rounds() -> None:
                # The first look sees a file, the second one finds it settled and asks for its run.
                for _ in range(2):
                    running.round()

            begins, follows = rounds, partial(run_command, flow)
            if first == "command":
                begins, follows = follows, begins
            busy = beside.submit(begins)
            until(lambda: gate.held or busy.done(), timeout=PATIENCE)
            if not gate.held:
                busy.result()
                pytest.fail(f"{first} ended without a request")
            drop(flow, [*many(4), *one("INV-9", vendor_id="99999")], 2)
            follows()
            assert gate.held == 1
            assert not busy.done()
            assert posts(flow) <= 3
            gate.release()
            busy.result(PATIENCE)
            rounds()
        assert posts(flow) == 4
        finished(flow, *numbers(4), created=4, duplicate=3, parked=1)


@pytest.mark.skipif(not ALL, reason="make test-faults")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("database", DATABASES)
def test_daemon_process_and_command_at_once(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """Nothing in this process: the daemon, its code server and its run, and the command beside them."""
    if database == "postgres":
        request.getfixturevalue("storage")
    else:
        home = tmp_path / "dagster_home"
        home.mkdir()
        (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
        monkeypatch.setenv("DAGSTER_HOME", str(home))
    log = tmp_path / "daemon.log"
    with open_flow(request, tmp_path, database) as flow:
        flow.change_config({"stampli": {"settle_seconds": 0}, "fusion": {"request_timeout": 2 * PATIENCE}})
        drop(flow, many(3))
        # The daemon looks twice a minute; this is the first of the two looks that a file needs.
        flow.poll()
        gate = flow.fusion.faults.gate(method="POST", path="invoices", stage="after", limit=1)
        with daemon_process(flow.config, log) as process:
            until(lambda: gate.held or process.poll() is not None, timeout=PATIENCE)
            assert gate.held == 1, log.read_text()[-4000:]
            drop(flow, [*many(4), *one("INV-9", vendor_id="99999")], 2)
            run_command(flow)
            assert gate.held == 1
            gate.release()
            until(lambda: {states(flow)[number] for number in numbers(3)} == {"CONFIRMED"}, timeout=PATIENCE)
        finished(flow, *numbers(4), created=4, duplicate=3, parked=1)
        assert posts(flow) == 4
