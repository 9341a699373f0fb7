"""``mlc dev``: the sandbox and the Dagster UI together, on one configuration, until Ctrl-C."""

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from mlc_dagster.cli.context import Workplace
from mlc_dagster.cli.dagster_home import prepare_home
from mlc_dagster.cli.sandbox import FOLDER, DirOption
from mlc_dagster.cli.sandbox_process import SandboxProcess, running_sandbox
from mlc_dagster.settings_file import load_settings

_ENDS_WITHIN = 30.0
_GROUP_ENDS_WITHIN = 5.0


def dev(
    folder: DirOption = FOLDER,
    port: Annotated[int, typer.Option(help="Port of the Dagster UI on 127.0.0.1.")] = 3000,
    samples: Annotated[bool, typer.Option(help="Put a few sample files into an empty outbound folder.")] = True,
) -> None:
    """Start the sandbox and `dagster dev` on its configuration; Ctrl-C stops both."""
    signal.signal(signal.SIGTERM, _interrupt)
    # Also while both stop: neither may be left behind.
    with suppress(KeyboardInterrupt), running_sandbox(folder.resolve()) as sandbox:
        if samples:
            drop_samples(sandbox)
        home = prepare_home(folder.resolve() / "dagster", project=True)
        typer.echo(f"Sandbox: Fusion {sandbox.addresses['base_url']}, outbound folder {sandbox.outbound}")
        typer.echo(f"More files: mlc sandbox drop --dir {folder}")
        typer.echo(f"Dagster UI: http://127.0.0.1:{port}   Ctrl-C stops both.")
        with _dagster_dev(sandbox.config, home, port) as process:
            process.wait()
    typer.echo("Sandbox and Dagster stopped.")


def drop_samples(sandbox: SandboxProcess) -> None:
    """A few files for a sandbox that was never used: good ones, and some that people have to look at."""
    from mlc_dagster.cli.demo.files import demo_files
    from mlc_dagster.sandbox.exports import StampliExport
    from mlc_dagster.stampli.intake.feed import decide_first_contact

    if any(sandbox.outbound.iterdir()):
        return
    workplace = Workplace(load_settings(sandbox.config), sandbox.config)
    with workplace.inbound() as inbound:
        # The folder is empty: nothing in it needs a person's decision, and what follows is to be posted.
        decide_first_contact(inbound.ledger, inbound.open_session, inbound.stampli, inbound.profile, None)
    export = StampliExport(sandbox.outbound)
    for sample in demo_files(dt.datetime.now(dt.UTC)).first[:9]:
        export.send(sample.content, company_id=sample.company_id, age=dt.timedelta(minutes=5))


@contextmanager
def _dagster_dev(config: Path, home: Path, port: int) -> "Generator[subprocess.Popen[bytes]]":
    """`dagster dev` until the block ends; it is asked to stop once, as Ctrl-C would."""
    environment = os.environ | {"MLC_CONFIG": str(config), "DAGSTER_HOME": str(home)}
    module = ("-m", "mlc_dagster.definitions", "-h", "127.0.0.1", "-p", str(port))
    # `dagster dev` begins with a warning that `dg dev` has come; both do the same, and only this one needs no project.
    command = [sys.executable, "-W", "ignore:Function `dev_command`", "-m", "dagster", "dev", *module]
    # A session of its own: a Ctrl-C in the terminal would reach it twice, and it would leave its children behind.
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_ENDS_WITHIN)
        # `dagster dev` leaves its code server to find out by missing heartbeats, and to poll on until then.
        _end_group(process.pid)
        process.wait()


def _end_group(group: int) -> None:
    """Ends what is left of a process group: asked first, killed after a while."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        deadline = time.monotonic() + _GROUP_ENDS_WITHIN
        while time.monotonic() < deadline:
            time.sleep(0.1)
            os.killpg(group, 0)
        os.killpg(group, signal.SIGKILL)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
