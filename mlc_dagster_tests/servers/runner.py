"""One run of the inbound flow as a process of its own, so that a test can stop or kill it.

Forked from a process that has everything imported, so that a run begins in milliseconds. ``stop_before_send`` stops it
(SIGSTOP) between the first committed intent and the first byte of its request; ``wake`` says for how long it will have
stood still by its own clocks, which nobody has to wait for. Runs that share a ``meeting`` begin each
of their steps at the same moment, for as long as all of them are at work.
"""

import dataclasses
import datetime as dt
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any, Self

from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.ledger.opening import ledger_url
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.windows import RunWanted
from mlc_dagster.settings_file import load_settings
from mlc_dagster.stampli.posting import sending
from mlc_dagster.stampli.steps import post_step, receive_step, validate_step
from mlc_dagster.stampli.window import hold_window
from mlc_dagster.stampli.wiring import connect_inbound
from mlc_dagster.vault import SecretResolver
from mlc_dagster_tests.servers.rehearsal import MovableClock, Rehearsal

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])
_PATIENCE = 30.0
"""Seconds that one run waits for the others at a meeting; then it goes on alone."""


def meeting(runs: int) -> Barrier:
    """Where so many runs wait for each other."""
    return _PROCESSES.Barrier(runs, timeout=_PATIENCE)


class RunProcess:
    """A run in a process of its own; killed at the end of the block, if need be."""

    def __init__(
        self, flow: Rehearsal, wanted: RunWanted, *, stop_before_send: bool = False, meeting: Barrier | None = None
    ) -> None:
        self._answer, theirs = _PROCESSES.Pipe(duplex=False)
        self._slept: Any = _PROCESSES.Value("d", 0.0)
        self.process = _PROCESSES.Process(
            target=_run,
            args=(theirs, flow.config, wanted, flow.clock.offset, self._slept if stop_before_send else None, meeting),
            daemon=True,
        )
        self.process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def ended(self) -> bool:
        """Whether it has said what it did."""
        return self._answer.poll(0)

    def wait_stopped(self, timeout: float = 30.0) -> None:
        """Waits until the process has stopped itself."""
        deadline = time.monotonic() + timeout
        stat = Path(f"/proc/{self.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "T":
            if time.monotonic() > deadline:
                raise TimeoutError("the run did not stop itself")
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL, and wait until nothing of it runs any more."""
        self.process.kill()
        self.process.join(10)

    def wake(self, after: float) -> None:
        """SIGCONT; by the clocks of the process it stood still for ``after`` seconds."""
        self._slept.value = after
        os.kill(self.pid, signal.SIGCONT)

    def result(self, timeout: float = 40.0) -> dict[str, Any]:
        """What posting did, if it came to its end, and ``error``: the name of what ended the run, if anything."""
        if not self._answer.poll(timeout):
            raise TimeoutError("the run did not end")
        found: dict[str, Any] = self._answer.recv()
        self.process.join(10)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.is_alive():
            self.kill()
        self._answer.close()


def _stop_before_send(slept: Any, clock: MovableClock) -> None:
    create = sending.create
    stopped = False
    # What a lease is compared with does not stand still for a stopped process.
    defaults: dict[str, Any] = sending.Sender.__init__.__kwdefaults__ or {}
    defaults["clock"] = lambda: time.monotonic() + slept.value

    async def stopping(*arguments: Any, **named: Any) -> Any:
        nonlocal stopped
        if not stopped:
            stopped = True
            os.kill(os.getpid(), signal.SIGSTOP)
            clock.advance(slept.value)
        return await create(*arguments, **named)

    sending.create = stopping


def _met(meeting: Barrier) -> None:
    # Broken by one that ended early: the others go on.
    with suppress(BrokenBarrierError):
        meeting.wait()


def _run(
    answer: Connection,
    config: Path,
    wanted: RunWanted,
    offset: dt.timedelta,
    slept: Any,
    meeting: Barrier | None,
) -> None:
    meet: Callable[[], object] = (lambda: None) if meeting is None else (lambda: _met(meeting))
    settings = load_settings(config)
    secrets = SecretResolver({}, settings.root)
    clock = MovableClock()
    clock.advance(offset.total_seconds())
    if slept is not None:
        _stop_before_send(slept, clock)
    ledger = open_ledger(ledger_url(settings, secrets), clock=clock)
    inbound = connect_inbound(settings, secrets, ledger)
    start, generation = wanted.window_start, wanted.generation
    run_id = f"process-{os.getpid()}"
    owner = f"{process_name(os.getpid())}|{run_id}"
    posted: dict[str, Any] = {}
    try:
        meet()
        with hold_window(ledger, start, generation, owner=owner, run_id=run_id, last=False) as held:
            receive_step(inbound, held)
        meet()
        with hold_window(ledger, start, generation, owner=owner, run_id=run_id, last=False) as held:
            validate_step(inbound, held)
        meet()
        with hold_window(ledger, start, generation, owner=owner, run_id=run_id, last=True) as held:
            posted = dataclasses.asdict(post_step(inbound, held).posting)
    except Exception as error:  # noqa: BLE001 - the test judges it
        answer.send({**posted, "error": type(error).__name__, "text": str(error)})
    else:
        answer.send(posted)
    finally:
        if meeting is not None:
            meeting.abort()
        ledger.close()
