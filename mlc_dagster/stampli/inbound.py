"""What the inbound flow works with: settings, ledger, archive, and how to reach the two remote sides.

Made once per run by the resources, the command line or a test; it holds no connection itself.
"""

import datetime as dt
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from mlc_dagster.fusion.client import Exchange, FusionClient
from mlc_dagster.ledger.archive import Archive
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.received_journal import ReceivedJournal, received_journal
from mlc_dagster.settings import Settings, StampliSettings
from mlc_dagster.sftp.session import SftpSession
from mlc_dagster.stampli.crosswalks import Crosswalks
from mlc_dagster.stampli.parsing.profile import Profile

FEED = "stampli"
"""The inbound feed's name in the ledger."""

OpenSession = Callable[[], AbstractContextManager[SftpSession]]
OpenClient = Callable[[Callable[[Exchange], None]], AbstractAsyncContextManager[FusionClient]]


def silent(count: int) -> None:
    """No progress display."""


@dataclass(frozen=True)
class Inbound:
    """The wiring of one inbound run."""

    settings: Settings
    stampli: StampliSettings
    ledger: Ledger
    archive: Archive
    profile: Profile
    crosswalks: Crosswalks
    open_session: OpenSession
    open_client: OpenClient

    @property
    def pod(self) -> str:
        """The Fusion environment, as it stands in claims and cached reference data."""
        return self.settings.fusion.base_url

    @property
    def scratch(self) -> Path:
        """Folder for files in transit, on the archive's disk."""
        return self.settings.data_path / "scratch"

    @property
    def received_journal(self) -> ReceivedJournal:
        """Where each file is noted that is put into the archive."""
        return received_journal(self.settings)

    @property
    def versions(self) -> dict[str, str]:
        """What a mapping was made with."""
        return {"profile": f"{self.profile.name}@{self.profile.digest}", "crosswalks": self.crosswalks.version}


@dataclass
class RequestCount:
    """Counts the HTTP requests of a run; pass ``count`` as a client's report."""

    requests: int = 0
    posts: int = 0
    seconds: float = 0.0
    failures: int = 0
    slowest: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict[int, int])

    def count(self, exchange: Exchange) -> None:
        self.requests += 1
        self.posts += exchange.method == "POST" and exchange.path.endswith("/invoices")
        self.seconds += exchange.seconds
        self.slowest = max(self.slowest, exchange.seconds)
        if exchange.status is None:
            self.failures += 1
        else:
            self.statuses[exchange.status] = self.statuses.get(exchange.status, 0) + 1


@dataclass(frozen=True)
class WindowWork:
    """A window's generation that this run holds the lease on."""

    start: dt.datetime
    generation: int
    owner: str
    fence: int
