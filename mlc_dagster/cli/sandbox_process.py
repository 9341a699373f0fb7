"""The sandbox as a process of its own, for ``mlc demo`` and ``mlc dev``: started, awaited, asked, ended."""

import datetime as dt
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from mlc_dagster.cli.errors import CommandError, Exit

_STARTS_WITHIN = 30.0
_ENDS_WITHIN = 10.0


class SandboxProcess:
    """A running sandbox and the addresses it announced."""

    def __init__(self, process: "subprocess.Popen[str]", addresses: dict[str, Any]) -> None:
        self.process = process
        self.addresses = addresses

    @property
    def config(self) -> Path:
        """The mlc.yaml that points at it."""
        return Path(self.addresses["config"])

    @property
    def outbound(self) -> Path:
        """The folder that Stampli writes into."""
        return Path(self.addresses["outbound"])

    def ask(self, path: str, document: dict[str, Any] | None = None, *, method: str | None = None) -> dict[str, Any]:
        """GET, or POST of a document, at the embedded Fusion's own addresses below ``/sandbox``; money as Decimal.

        Args:
            path: below ``/sandbox``.
            document: what is sent, if anything.
            method: another one, such as PATCH.
        """
        body = None if document is None else json.dumps(document).encode()
        url = self.addresses["admin_url"] + path
        request = Request(url, data=body, method=method)  # noqa: S310 - loopback, announced by our child
        with urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer, parse_float=Decimal)

    def books(self) -> dict[str, Any]:
        """Fusion's own books: invoices stored, totals per currency, requests counted."""
        return self.ask("/books")


@contextmanager
def running_sandbox(folder: Path, *, feeds_from: dt.timedelta = dt.timedelta(days=1)) -> Generator[SandboxProcess]:
    """A sandbox on ``folder`` until the block ends.

    Args:
        folder: the sandbox folder; made when absent.
        feeds_from: how far back a new mlc.yaml lets the partner's feeds begin.

    Raises:
        CommandError: it did not start.
    """
    options = ["--feeds-from", f"{feeds_from / dt.timedelta(hours=1)}", "--until-stdin-closes"]
    command = [sys.executable, "-m", "mlc_dagster.sandbox.run", str(folder), *options]
    log = folder / "sandbox.log"
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as errors:
        # A session of its own: Ctrl-C in the terminal reaches us first, and we end it in order.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
    try:
        yield SandboxProcess(process, _announcement(process, log))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _announcement(process: "subprocess.Popen[str]", log: Path) -> dict[str, Any]:
    """The line that the sandbox prints when it is ready."""
    too_late = threading.Timer(_STARTS_WITHIN, process.kill)
    too_late.daemon = True
    too_late.start()
    line = process.stdout.readline() if process.stdout is not None else ""
    too_late.cancel()
    if not line:
        said = log.read_text("utf-8").strip().splitlines()
        last = said[-1] if said else "it said nothing"
        raise CommandError(f"the sandbox did not start: {last}; see {log}", Exit.FAILED)
    return json.loads(line)
