"""Both remote sides and an inbound flow between them: a real SFTP server, the embedded Fusion, a ledger in a folder.

The ledger's clock can be moved, so that waiting times pass without waiting. Judge the product by ``fusion.books``.
"""

import datetime as dt
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.windows import RunWanted
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster.sandbox.sftp import SandboxSftp
from mlc_dagster.settings import Settings
from mlc_dagster.settings_file import load_settings
from mlc_dagster.stampli.inbound import Inbound
from mlc_dagster.stampli.intake.feed import FirstContact, Poll, decide_first_contact, poll_folder
from mlc_dagster.stampli.steps import PostReport, ReceiveReport, ValidateReport, post_step, receive_step, validate_step
from mlc_dagster.stampli.window import hold_window
from mlc_dagster.stampli.wiring import connect_inbound
from mlc_dagster.vault import SecretResolver
from mlc_dagster_tests.servers.configuration import fusion_part, keep_secret
from mlc_dagster_tests.servers.ledgers import new_file


class MovableClock:
    """The wall clock, moved forward by ``advance``."""

    def __init__(self) -> None:
        self.offset = dt.timedelta()

    def __call__(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC) + self.offset

    def advance(self, seconds: float) -> None:
        self.offset += dt.timedelta(seconds=seconds)


@dataclass
class Rehearsal:
    """A running pair of remote sides and the flow between them."""

    folder: Path
    outbound: Path
    """What Stampli's SFTP server serves as /outbound."""
    fusion: FusionSandbox
    sftp: SandboxSftp
    config: Path
    ledger: Ledger
    clock: MovableClock
    runs: int = 0
    reports: list[PostReport] = field(default_factory=list[PostReport])

    @property
    def settings(self) -> Settings:
        return load_settings(self.config)

    @property
    def inbound(self) -> Inbound:
        settings = self.settings
        return connect_inbound(settings, SecretResolver({}, settings.root), self.ledger)

    def change_config(self, change: dict[str, Any]) -> None:
        """Merge ``change`` into mlc.yaml."""
        document = yaml.safe_load(self.config.read_text())
        _merge(document, change)
        self.config.write_text(yaml.safe_dump(document))

    def drop(self, name: str, content: str | bytes) -> Path:
        """Put a whole file into the outbound folder."""
        path = self.outbound / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        # The file's time goes with the movable clock, or two versions written within a second would look like one.
        now = self.clock().timestamp()
        os.utime(path, (now, now))
        return path

    def open_feed(self) -> None:
        """Make first contact with the folder as it is: everything there is baseline."""
        inbound = self.inbound
        try:
            self.poll()
        except FirstContact:
            decide_first_contact(self.ledger, inbound.open_session, inbound.stampli, inbound.profile, frozenset())

    def poll(self) -> Poll:
        inbound = self.inbound
        return poll_folder(self.ledger, inbound.open_session, inbound.stampli, inbound.settings.poll, inbound.profile)

    def poll_settled(self) -> Poll:
        """Two looks, with the settling time between them."""
        self.poll()
        self.clock.advance(self.inbound.stampli.settle_seconds + 1)
        return self.poll()

    def run(self, wanted: RunWanted | dt.datetime) -> tuple[ReceiveReport, ValidateReport, PostReport]:
        """The three steps of one run; a window's start instead of a wanted run is a reconcile."""
        self.runs += 1
        generation = wanted.generation if isinstance(wanted, RunWanted) else None
        start = wanted.window_start if isinstance(wanted, RunWanted) else wanted
        run_id = f"run-{self.runs}"
        inbound = self.inbound
        owner = f"{process_name(os.getpid())}|{run_id}"

        def hold(*, last: bool) -> Any:
            return hold_window(self.ledger, start, generation, owner=owner, run_id=run_id, last=last)

        with hold(last=False) as held:
            received = receive_step(inbound, held)
        with hold(last=False) as held:
            validated = validate_step(inbound, held)
        with hold(last=True) as held:
            posted = post_step(inbound, held)
        self.reports.append(posted)
        return received, validated, posted

    def process(self) -> list[tuple[ReceiveReport, ValidateReport, PostReport]]:
        """Poll until settled and run everything that is wanted."""
        return [self.run(wanted) for wanted in self.poll_settled().runs]


def _merge(target: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value


COMPANIES: dict[str, Any] = {
    "C100": {
        "business_unit": "US1 Business Unit",
        "legal_entity": "US1 Legal Entity",
        "ledger": "US Primary Ledger",
        "chart": "US1",
        "time_zone": "America/Denver",
        "invoice_source": "Stampli",
        "tax_mode": "tax_line",
        "conversion_rate_type": "Corporate",
        "accounting_date": "invoice_date",
        "tolerance": 0,
        "after_create": "leave",
        "account_template": "101-{cost_center}-{account}-000-000-000",
    }
}


def write_config(folder: Path, fusion: FusionSandbox, sftp: SandboxSftp, **fusion_settings: Any) -> Path:
    """An mlc.yaml that points to both; secrets in files beside it."""
    waits = {"refused_wait": 0.2, "ambiguous_wait": 0.4, "request_timeout": 3}
    document: dict[str, Any] = {
        "fusion": fusion_part(folder, fusion, **{**waits, **fusion_settings}),
        "stampli": {
            "sftp": {
                "host": "127.0.0.1",
                "port": sftp.port,
                "username": "stampli",
                "password": keep_secret(folder, "sftp_password", "sandbox-password"),
                "host_key": sftp.fingerprint,
                "directory": "/outbound",
            },
            "settle_seconds": 30,
            "companies": json.loads(json.dumps(COMPANIES)),
        },
        "poll": {"start": dt.date(2026, 1, 1)},
        "data_dir": "data",
    }
    path = folder / "mlc.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def rehearsal(
    folder: Path, *, ledger_url: str | None = None, seed: Seed | None = None, **fusion_settings: Any
) -> Iterator[Rehearsal]:
    """Start both remote sides and make first contact with an empty folder."""
    outbound = folder / "server" / "outbound"
    outbound.mkdir(parents=True)
    clock = MovableClock()
    with (
        FusionSandbox(seed) as fusion,
        SandboxSftp(
            folder / "server",
            username="stampli",
            password="sandbox-password",
            host_key_file=folder / "host_key",
        ) as sftp,
    ):
        config = write_config(folder, fusion, sftp, **fusion_settings)
        ledger = open_ledger(ledger_url or new_file(folder / "data" / "ledger.sqlite"), clock=clock)
        try:
            yield Rehearsal(folder, outbound, fusion, sftp, config, ledger, clock)
        finally:
            ledger.close()
