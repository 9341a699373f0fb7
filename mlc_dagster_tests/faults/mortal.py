"""One whole poll of the inbound flow in a process of its own that may die at a boundary: look, receive, validate, post.

Forked from a process that has everything imported, so that a matrix of hundreds of deaths takes minutes.
"""

import datetime as dt
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.ledger.process import process_name
from mlc_dagster.settings_file import load_settings
from mlc_dagster.stampli.intake.feed import poll_folder
from mlc_dagster.stampli.steps import post_step, receive_step, validate_step
from mlc_dagster.stampli.window import hold_window
from mlc_dagster.stampli.wiring import connect_inbound
from mlc_dagster.vault import SecretResolver
from mlc_dagster_tests.faults.boundaries import Boundaries
from mlc_dagster_tests.servers.rehearsal import MovableClock, Rehearsal

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])
_PATIENCE = 60.0
"""Seconds that a poll may take."""


def poll_until_death(flow: Rehearsal, at: int | None) -> list[str] | None:
    """A poll that dies at a boundary; the boundaries it passed, None when it died before its end.

    Raises:
        TimeoutError: it neither ended nor died.
        RuntimeError: it failed of itself.
    """
    ours, theirs = _PROCESSES.Pipe(duplex=False)
    url = flow.ledger.engine.url.render_as_string(hide_password=False)
    process = _PROCESSES.Process(target=_poll, args=(theirs, flow.config, url, flow.clock.offset, at), daemon=True)
    process.start()
    theirs.close()
    try:
        process.join(_PATIENCE)
        if process.is_alive():
            process.kill()
            msg = f"the poll that was to die at boundary {at} neither ended nor died"
            raise TimeoutError(msg)
        if not ours.poll(0):
            return None
        try:
            passed, error = ours.recv()
        except EOFError:
            return None
    finally:
        ours.close()
    if error is not None:
        raise RuntimeError(error)
    return passed


def _poll(answer: Connection, config: Path, url: str, offset: dt.timedelta, at: int | None) -> None:
    settings = load_settings(config)
    secrets = SecretResolver({}, settings.root)
    clock = MovableClock()
    clock.advance(offset.total_seconds())
    ledger = open_ledger(url, clock=clock)
    inbound = connect_inbound(settings, secrets, ledger)
    boundaries = Boundaries(at)
    boundaries.watch()
    owner = f"{process_name(os.getpid())}|mortal"
    try:
        poll = poll_folder(ledger, inbound.open_session, inbound.stampli, inbound.settings.poll, inbound.profile)
        for wanted in poll.runs:
            start, generation = wanted.window_start, wanted.generation
            with hold_window(ledger, start, generation, owner=owner, run_id="mortal", last=False) as held:
                receive_step(inbound, held)
            with hold_window(ledger, start, generation, owner=owner, run_id="mortal", last=False) as held:
                validate_step(inbound, held)
            with hold_window(ledger, start, generation, owner=owner, run_id="mortal", last=True) as held:
                post_step(inbound, held)
    except Exception as error:  # noqa: BLE001 - the test tells it
        answer.send(([], f"{type(error).__name__}: {error}"))
    else:
        answer.send((boundaries.passed, None))
    finally:
        answer.close()
