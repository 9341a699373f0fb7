"""What the outbound flow works with: settings, ledger, archive, feeds, and how to reach Fusion and the partners.

Made once per run by the resources, the command line or a test; it holds no connection itself.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from mlc_dagster.alerts.sending import Alerts
from mlc_dagster.exports.writing import Writer
from mlc_dagster.fusion.client import Exchange, FusionClient
from mlc_dagster.ledger.archive import Archive
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.settings import ExportSettings, Settings
from mlc_dagster.sftp.session import SftpSession

OpenClient = Callable[[Callable[[Exchange], None]], AbstractAsyncContextManager[FusionClient]]


@dataclass(frozen=True)
class Feed:
    """One partner's feed, ready to be written and delivered."""

    settings: ExportSettings
    writer: Writer
    open_session: Callable[[], AbstractContextManager[SftpSession]]

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def source(self) -> str:
        return self.settings.source


@dataclass(frozen=True)
class Outbound:
    """The wiring of one outbound run."""

    settings: Settings
    ledger: Ledger
    archive: Archive
    feeds: Mapping[str, Feed]
    open_client: OpenClient
    alerts: Alerts

    def source_start(self, source: str) -> dt.datetime:
        """From when on a source is read: the earliest start of its feeds, ``poll.start`` where one names none."""
        poll = self.settings.poll
        starts = [entry.start or poll.start for entry in self.settings.exports if entry.source == source]
        return poll.window_start(min(starts, default=poll.start))

    @property
    def scratch(self) -> Path:
        """Folder for files in the making, on the archive's disk."""
        return self.settings.data_path / "scratch"

    @property
    def outbox(self) -> Path:
        """Folder where files that wait for delivery lie under their own names, for a person to fetch."""
        return self.settings.data_path / "outbox"
