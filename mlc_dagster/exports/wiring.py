"""Builds the outbound flow's wiring from mlc.yaml: secrets resolved, layouts loaded, partners' accounts ready.

The one place where references become values; they go into the connectors and nowhere else.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from pathlib import Path

from mlc_dagster.alerts.sending import Alerts
from mlc_dagster.exports.calendar import check_schedule
from mlc_dagster.exports.layouts.errors import LayoutError
from mlc_dagster.exports.layouts.loading import load_layout, open_writer
from mlc_dagster.exports.naming import check_template
from mlc_dagster.exports.outbound import Feed, Outbound
from mlc_dagster.exports.places import SharedPath, refuse_shared_paths
from mlc_dagster.exports.writing import Writer
from mlc_dagster.fusion.account import fusion_account
from mlc_dagster.fusion.client import Exchange, FusionClient
from mlc_dagster.ledger.archive import LocalArchive
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.settings import ExportSettings, Settings, SettingsError, SftpSettings
from mlc_dagster.sftp.account import open_account
from mlc_dagster.sftp.session import SftpSession
from mlc_dagster.vault import SecretResolver


def connect_outbound(
    settings: Settings, secrets: SecretResolver, ledger: Ledger, *, only: Collection[str] | None = None
) -> Outbound:
    """The outbound flow's wiring.

    Args:
        settings: mlc.yaml.
        secrets: resolves its references.
        ledger: opened.
        only: names of the feeds that are needed; all when absent. A layout that cannot be used stops its own feed only.

    Raises:
        SettingsError: there are no ``exports:``, no such feed, or a layout does not fit its feed.
        LayoutError: a layout cannot be used.
        SecretError: a reference cannot be resolved.
    """
    wanted = settings.exports if only is None else [entry for entry in settings.exports if entry.name in only]
    refuse_unknown_feeds(settings, only)

    def client(report: Callable[[Exchange], None]) -> AbstractAsyncContextManager[FusionClient]:
        return fusion_account(settings, secrets, report=report)

    return Outbound(
        settings=settings,
        ledger=ledger,
        archive=LocalArchive(settings.data_path / "archive"),
        feeds={entry.name: _feed(settings, secrets, entry) for entry in wanted},
        open_client=client,
        alerts=Alerts(settings.alerts, secrets.resolve),
    )


def check_feed(settings: Settings, entry: ExportSettings) -> None:
    """Load what a feed of mlc.yaml names, for ``mlc config check``; connects to nothing.

    Raises:
        SettingsError, LayoutError, CalendarError, FileNameUnusable: it cannot be used.
    """
    writer = _writer_of(settings, entry)
    check_template(entry.file_name or writer.file_name, feed=entry.name, extension=writer.identity.extension)
    _refuse_shared_paths(settings, entry, writer)
    check_schedule(entry.schedule, root=settings.root)


def refuse_unknown_feeds(settings: Settings, only: Collection[str] | None) -> None:
    """Raise SettingsError when mlc.yaml has no feed at all, or none of such a name."""
    known = [entry.name for entry in settings.exports]
    source = str(settings.root / "mlc.yaml")
    if not known:
        raise SettingsError(source, ["exports: is absent, so there is no outbound flow"])
    for name in only or ():
        if name not in known:
            raise SettingsError(source, [f"exports: has no feed {name!r}; there are {', '.join(known)}"])


def _feed(settings: Settings, secrets: SecretResolver, entry: ExportSettings) -> Feed:
    writer = _writer_of(settings, entry)
    _refuse_shared_paths(settings, entry, writer)
    return Feed(entry, writer, partial(_session, entry.sftp, secrets))


def _refuse_shared_paths(settings: Settings, entry: ExportSettings, writer: Writer) -> None:
    def writer_of(other: ExportSettings) -> Writer | None:
        try:
            return _writer_of(settings, other)
        except (SettingsError, LayoutError):
            return None

    try:
        refuse_shared_paths(settings, entry, writer, writer_of)
    except SharedPath as shared:
        raise SettingsError(str(settings.root / "mlc.yaml"), [str(shared)]) from None


def _session(sftp: SftpSettings, secrets: SecretResolver) -> AbstractContextManager[SftpSession]:
    return open_account(sftp, secrets)


def _writer_of(settings: Settings, entry: ExportSettings) -> Writer:
    layout = load_layout(_layout_name(settings, entry.layout), root=settings.root)
    if layout.source != entry.source:
        text = (
            f"exports.{entry.name}.layout: {entry.layout!r} is a layout of {layout.source}, "
            f"the feed's source is {entry.source}"
        )
        raise SettingsError(str(settings.root / "mlc.yaml"), [text])
    if layout.format == "x12" and entry.partner is None:
        text = f"exports.{entry.name}.partner: is required for X12: sender, receiver (QUALIFIER:ID) and usage T or P"
        raise SettingsError(str(settings.root / "mlc.yaml"), [text])
    return open_writer(layout, entry, settings.fusion.charts)


def _layout_name(settings: Settings, name: str) -> str:
    """A path is relative to mlc.yaml; a bare name is one of the product's own layouts."""
    bare = "/" not in name and Path(name).suffix not in {".yaml", ".yml"}
    return name if bare else str((settings.root / name).resolve())
