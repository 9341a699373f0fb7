"""Fusion on one side, a partner's SFTP server on the other, and the outbound flow between them.

Fusion's clock is moved, never ours: ``later`` makes windows be over by its Date header. It begins a day behind, so that
the windows it passes are windows of the past for Dagster as well. Judge by ``inbox``, the partner's own folder.
"""

import datetime as dt
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from mlc_dagster.automation.export_outcome import OutboundOutcome
from mlc_dagster.automation.one_shot_outbound import run_outbound
from mlc_dagster.exports.outbound import Outbound
from mlc_dagster.exports.reading import ReadReport, closed_until, fusion_now, read_source
from mlc_dagster.exports.steps import FeedReport, deliver_feed
from mlc_dagster.exports.wiring import connect_outbound
from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.ledger.process import process_name
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster.sandbox.sftp import SandboxSftp
from mlc_dagster.sandbox.sftp_accounts import SftpAccount
from mlc_dagster.settings import Settings
from mlc_dagster.settings_file import load_settings
from mlc_dagster.vault import SecretResolver
from mlc_dagster_tests.servers.configuration import fusion_part, keep_secret
from mlc_dagster_tests.servers.ledgers import new_file

BEHIND = dt.timedelta(days=1)
"""How far Fusion's clock is behind at first."""


def never_wait(seconds: float) -> None:
    """Passes the time between two attempts."""


@dataclass
class PartnerRehearsal:
    """A running pair of remote sides and the outbound flow between them."""

    folder: Path
    inbox: Path
    """What the partner finds in its folder."""
    acks: Path
    """Where the partner leaves its 997s."""
    fusion: FusionSandbox
    sftp: SandboxSftp
    config: Path
    ledger: Ledger
    instance: dg.DagsterInstance
    runs: int = 0
    reads: list[ReadReport] = field(default_factory=list[ReadReport])

    @property
    def settings(self) -> Settings:
        return load_settings(self.config)

    @property
    def outbound(self) -> Outbound:
        settings = self.settings
        return connect_outbound(settings, SecretResolver({}, settings.root), self.ledger)

    @property
    def world(self) -> Any:
        return self.fusion.world

    def change_feed(self, name: str, **change: Any) -> None:
        """Merge ``change`` into a feed of mlc.yaml; a feed that is not there is added."""
        document = yaml.safe_load(self.config.read_text())
        feed = next((entry for entry in document["exports"] if entry["name"] == name), None)
        if feed is None:
            feed = {"name": name, **self.account()}
            document["exports"].append(feed)
        feed.update(change)
        self.config.write_text(yaml.safe_dump(document))

    def change_config(self, **change: Any) -> None:
        """Set top-level keys of mlc.yaml."""
        self.config.write_text(yaml.safe_dump(yaml.safe_load(self.config.read_text()) | change))

    def account(self) -> dict[str, Any]:
        """The partner's account, as mlc.yaml names it."""
        return {"sftp": partner_account(self.sftp)}

    def later(self, minutes: float = 20) -> dt.datetime:
        """Time passes in Fusion; the end of the last window that is over by its clock."""
        self.world.move_clock(dt.timedelta(minutes=minutes))
        outbound = self.outbound
        return closed_until(outbound, fusion_now(outbound))

    def stand_still(self) -> None:
        """Fusion's clock stands but for ``later``: no window is over by chance, between two ticks."""
        moment = self.world.clock()
        self.world.set_clock(lambda: moment)

    def read(self, source: str, *, until: dt.datetime | None = None, **how: Any) -> ReadReport:
        """Read a source up to the last window that is over."""
        outbound = self.outbound
        end = until or closed_until(outbound, fusion_now(outbound))
        report = read_source(outbound, source, until=end, owner=self._owner(), run_id=f"run-{self.runs}", **how)
        self.reads.append(report)
        return report

    def deliver(self, feed: str, *, until: dt.datetime | None = None) -> FeedReport:
        """Build and deliver a feed up to the last window that is over."""
        outbound = self.outbound
        end = until or closed_until(outbound, fusion_now(outbound))
        return deliver_feed(outbound, feed, until=end, owner=self._owner(), sleep=never_wait)

    def poll(self, feed: str, *, minutes: float = 20) -> FeedReport:
        """Time passes; the feed's source is read and the feed delivered."""
        self.later(minutes)
        self.read(self.outbound.feeds[feed].source)
        return self.deliver(feed)

    def run(self, **how: Any) -> OutboundOutcome:
        """``mlc run outbound``: through the Dagster assets."""
        return run_outbound(self.settings, instance=self.instance, environ={}, **how)

    def delivered(self) -> list[str]:
        """Names in the partner's folder."""
        return sorted(path.name for path in self.inbox.iterdir())

    def _owner(self) -> str:
        self.runs += 1
        return f"{process_name(os.getpid())}|run-{self.runs}"


def partner_account(sftp: SandboxSftp) -> dict[str, Any]:
    """How mlc.yaml names the account on the embedded server."""
    return {
        "host": "127.0.0.1",
        "port": sftp.port,
        "username": "partner",
        "password": "file:partner_password",
        "host_key": sftp.fingerprint,
        "directory": "/inbound",
    }


def write_config(folder: Path, fusion: FusionSandbox, sftp: SandboxSftp, start: dt.datetime) -> Path:
    """An mlc.yaml with one feed of journals; secrets in files beside it."""
    keep_secret(folder, "partner_password", "partner-password")
    document: dict[str, Any] = {
        "fusion": fusion_part(folder, fusion, request_timeout=5),
        "exports": [
            {
                "name": "journals",
                "source": "journals",
                "ledgers": ["US Primary Ledger"],
                "layout": "journals_csv",
                "sftp": partner_account(sftp),
            }
        ],
        "poll": {"start": start},
        "data_dir": "data",
    }
    path = folder / "mlc.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def partner_rehearsal(
    folder: Path, *, ledger_url: str | None = None, seed: Seed | None = None, behind: dt.timedelta | None = None
) -> Iterator[PartnerRehearsal]:
    """Start both remote sides; ``poll.start`` is the window in which Fusion's clock begins, ``behind`` ours."""
    inbox, acks = folder / "partner" / "inbound", folder / "partner" / "acks"
    inbox.mkdir(parents=True)
    acks.mkdir()
    (folder / "server").mkdir()
    with (
        FusionSandbox(seed or Seed(20)) as fusion,
        SandboxSftp(
            folder / "server",
            username="stampli",
            password="sandbox-password",
            host_key_file=folder / "host_key",
            accounts=[SftpAccount("partner", folder / "partner", password="partner-password")],
        ) as sftp,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        fusion.world.move_clock(-(BEHIND if behind is None else behind))
        now = fusion.world.clock()
        start = now.replace(minute=now.minute - now.minute % 15, second=0, microsecond=0)
        config = write_config(folder, fusion, sftp, start)
        ledger = open_ledger(ledger_url or new_file(folder / "data" / "ledger.sqlite"))
        try:
            yield PartnerRehearsal(folder, inbox, acks, fusion, sftp, config, ledger, instance)
        finally:
            ledger.close()
