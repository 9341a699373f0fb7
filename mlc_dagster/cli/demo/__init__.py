"""``mlc demo``: the main job end to end on this machine, told step by step and checked against Fusion's own books."""

import os
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlc_dagster.cli.context import JsonOption
from mlc_dagster.cli.errors import CommandError, Exit
from mlc_dagster.cli.output import print_json
from mlc_dagster.cli.sandbox_process import running_sandbox

if TYPE_CHECKING:
    from mlc_dagster.cli.demo.screen import Screen


def demo(
    keep: Annotated[
        Path | None, typer.Option("--keep", help="New folder that keeps everything: files, ledger, books, runs.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """See it work: an embedded Fusion, real SFTP, about twenty files in and six out, the books compared to the cent.

    Needs no configuration and no network. Exit code 0 only when the files, our ledger and Fusion's own books agree.
    """
    from mlc_dagster.cli.demo.outbound_story import BEHIND
    from mlc_dagster.cli.demo.screen import Screen
    from mlc_dagster.cli.demo.story import tell

    began = time.monotonic()
    screen = Screen(silent=as_json)
    # The instance of the demonstration is its own; one in use must not fill up with its runs.
    os.environ.pop("DAGSTER_HOME", None)
    with _folder(keep) as folder, running_sandbox(folder, feeds_from=BEHIND) as sandbox:
        screen.say(
            "Approved Stampli invoices reach Oracle Fusion, exactly once; what changes in Fusion reaches a partner, "
            "exactly once. Everything here is real but the far ends: files over SFTP, Dagster assets, HTTP. The "
            "sandbox plays Stampli's folder, Oracle Fusion and the partner's folder."
        )
        told = tell(sandbox, screen)
    told["seconds"] = round(time.monotonic() - began, 1)
    if as_json:
        print_json(told | {"folder": str(keep) if keep else None})
    else:
        _verdict(screen, told, keep)
    if not told["agreed"]:
        raise typer.Exit(Exit.ATTENTION)


@contextmanager
def _folder(keep: Path | None) -> Generator[Path]:
    """The folder to keep, or one that is removed at the end.

    Raises:
        CommandError: the folder to keep is in use.
    """
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise CommandError(f"--keep {keep}: is not empty; name a new folder")
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="mlc-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _verdict(screen: "Screen", told: dict[str, Any], keep: Path | None) -> None:
    if told["agreed"]:
        screen.say("They agree: nothing lost, nothing twice.", style="bold green")
    else:
        screen.say("They do NOT agree:", style="bold red")
        for fault in told["faults"]:
            screen.say(f"  - {fault}", style="red")
    events, requests, posts = (told[name] for name in ("audit_events_sealed", "requests_to_fusion", "posts"))
    screen.say(f"{events} audit events sealed and verified; {requests} requests to Fusion, {posts} of them POSTs.")
    screen.say(f"{told['seconds']:.0f} seconds in all.")
    if keep is not None:
        screen.say(f"Kept in {keep}: `mlc --config {keep}/mlc.yaml exceptions` (or `invoices list`, `exports list`).")
        screen.say(f"Its far ends come up again with `mlc sandbox --dir {keep}`.")
    screen.say("Go on: `make dev` opens the Dagster UI on the sandbox; README.md says how to point it at real systems.")
