"""Both remote sides of the inbound benchmark in a process of their own, and the mlc.yaml that points to them.

The embedded Fusion keeps its own books, by which every run is judged. Latency, refusals and the cap are its faults.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import yaml

from bench.invoice_files import SUPPLIERS
from bench.measuring import ROOT, ChildFailed

IN_FLIGHT = 16
REFUSED_WAIT = 1.0
"""Seconds before a refused invoice is looked for and sent again; the product's default is 5."""


class Site:
    """A running sandbox."""

    def __init__(self, folder: Path, pid: int, addresses: dict[str, Any]) -> None:
        self.folder = folder
        self.outbound = Path(addresses["outbound"])
        self.config = Path(addresses["config"])
        self._pid = pid
        self._admin = str(addresses["admin_url"])

    def _ask(self, method: str, path: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        body = None if document is None else json.dumps(document).encode()
        request = Request(f"{self._admin}{path}", body, {"Content-Type": "application/json"}, method=method)  # noqa: S310
        with urlopen(request, timeout=120) as answer:  # noqa: S310 - a loopback address of our own
            return json.load(answer)

    def fault(self, kind: str, **properties: Any) -> None:
        """Add a fault of the embedded Fusion; see ``mlc_dagster.sandbox.faults``."""
        self._ask("POST", "/faults", {"kind": kind, **properties})

    def books(self) -> dict[str, Any]:
        """Counts and totals of what Fusion holds, and of the requests it saw."""
        summary = self._ask("GET", "/books?number=none")
        summary.pop("invoices_stored")
        return summary

    def cpu_seconds(self) -> float:
        """User plus system time of the sandbox so far."""
        fields = Path(f"/proc/{self._pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def configure(self, **fusion: Any) -> Path:
        """An mlc.yaml for one run with a data folder of its own; ``fusion`` overrides settings of that part."""
        document = yaml.safe_load(self.config.read_text("utf-8"))
        document["fusion"] |= {
            "max_in_flight": IN_FLIGHT,
            "request_timeout": 30,
            "refused_wait": REFUSED_WAIT,
            "ambiguous_wait": 4,
            "wait_in_run": 30,
            **fusion,
        }
        document["stampli"]["settle_seconds"] = 0
        del document["exports"], document["outbound"], document["alerts"]
        # In the folder of the sandbox, since secrets and crosswalks are named from there.
        path = self.folder / "bench.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path


@contextmanager
def inbound_site(folder: Path, *, latency: float) -> Iterator[Site]:
    """The sandbox on free ports; ``latency`` in seconds before each of Fusion's answers."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "mlc_dagster.sandbox.run", str(folder), "--suppliers", str(SUPPLIERS)]
    with subprocess.Popen(
        [*command, "--fusion-port", "0", "--sftp-port", "0", "--until-stdin-closes"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        try:
            said = (child.stdout.readline() if child.stdout else "").strip()
            if not said:
                raise ChildFailed("the sandbox did not start")
            site = Site(folder, child.pid, json.loads(said))
            if latency:
                site.fault("latency", seconds=latency, path="*")
            yield site
        finally:
            child.terminate()
