"""mlc.yaml as one frozen model.

What belongs here: every key a user may write, its type, its default and its error text; one module per part of the
file. What does not: reading the file (``settings_file``), secrets (``vault``), files named by a setting (the package
that owns them), the network.
"""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from mlc_dagster.settings.audit import AuditSettings
from mlc_dagster.settings.exports import (
    AcknowledgementSettings,
    AlertSettings,
    ExportSettings,
    OutboundSettings,
    PartnerSettings,
    UploadSettings,
)
from mlc_dagster.settings.fusion import ChartSettings, FusionSettings
from mlc_dagster.settings.poll import POLL_MINUTES, LedgerSettings, PollSettings
from mlc_dagster.settings.retention import RetentionSettings
from mlc_dagster.settings.secrets import SecretsSettings, VaultSettings, secret_references
from mlc_dagster.settings.sftp import SftpSettings
from mlc_dagster.settings.stampli import CompanySettings, CrosswalkSettings, RetrySettings, StampliSettings
from mlc_dagster.settings.values import Model, SettingsError, is_loopback

__all__ = [
    "POLL_MINUTES",
    "AcknowledgementSettings",
    "AlertSettings",
    "AuditSettings",
    "ChartSettings",
    "CompanySettings",
    "CrosswalkSettings",
    "ExportSettings",
    "FusionSettings",
    "LedgerSettings",
    "OutboundSettings",
    "PartnerSettings",
    "PollSettings",
    "RetentionSettings",
    "RetrySettings",
    "SecretsSettings",
    "Settings",
    "SettingsError",
    "SftpSettings",
    "StampliSettings",
    "UploadSettings",
    "VaultSettings",
    "is_loopback",
    "secret_references",
]


class Settings(Model):
    """The whole of mlc.yaml. Relative paths are resolved against ``root``, the folder of the file."""

    fusion: FusionSettings
    stampli: StampliSettings | None = None
    outbound: OutboundSettings = OutboundSettings()
    exports: list[ExportSettings] = []
    poll: PollSettings
    retry: RetrySettings = RetrySettings()
    data_dir: Path = Path(".mlc")
    ledger: LedgerSettings = LedgerSettings()
    alerts: AlertSettings = AlertSettings()
    audit: AuditSettings = AuditSettings()
    secrets: SecretsSettings = SecretsSettings()
    retention: RetentionSettings = RetentionSettings()
    approvers: list[str] = []
    """Names of those who alone may ask for, and approve, what takes two people; empty: anybody, by any two names."""
    root: Path = Field(default=Path(), exclude=True)
    sandbox: bool = Field(default=False, exclude=True)
    """True when no mlc.yaml was found and the definitions show the sandbox configuration."""

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        for company_id, company in (self.stampli.companies if self.stampli else {}).items():
            chart = self.fusion.charts.get(company.chart)
            if chart is None:
                msg = f"stampli.companies.{company_id}.chart: {company.chart!r} is not under fusion.charts"
                raise ValueError(msg)
            if company.ledger not in chart.ledgers:
                msg = (
                    f"stampli.companies.{company_id}.ledger: {company.ledger!r} is not among the ledgers of chart "
                    f"{company.chart!r}: {chart.ledgers}"
                )
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _approvers_can_agree(self) -> Self:
        if self.approvers and (len(self.approvers) == 1 or not all(name.strip() for name in self.approvers)):
            msg = "approvers: name at least two people, none of them empty; without the list anybody may approve"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _feeds_differ(self) -> Self:
        names = [export.name.lower() for export in self.exports]
        for name in names:
            if names.count(name) > 1:
                msg = f"exports: {name!r} names two feeds (capitals do not count); give each its own name"
                raise ValueError(msg)
        known = {ledger for chart in self.fusion.charts.values() for ledger in chart.ledgers}
        for export in self.exports:
            if export.start is not None and export.start < self.poll.start:
                msg = (
                    f"exports.{export.name}.start: {export.start.isoformat()} is before poll.start "
                    f"({self.poll.start.isoformat()}), from when on there are windows; move poll.start back"
                )
                raise ValueError(msg)
            for ledger in export.ledgers:
                if ledger not in known:
                    msg = f"exports.{export.name}.ledgers: {ledger!r} is in no chart under fusion.charts"
                    raise ValueError(msg)
        return self

    def path(self, value: Path) -> Path:
        """``value`` made absolute against the folder of mlc.yaml."""
        return value if value.is_absolute() else (self.root / value).resolve()

    @model_validator(mode="after")
    def _checkpoints_apart(self) -> Self:
        if self.checkpoints_path.is_relative_to(self.data_path):
            msg = (
                f"audit.checkpoints: {self.checkpoints_path} lies inside data_dir; whoever can change the ledger there "
                "could change it too: name a folder elsewhere"
            )
            raise ValueError(msg)
        return self

    @property
    def data_path(self) -> Path:
        return self.path(self.data_dir)

    @property
    def checkpoints_path(self) -> Path:
        """The second place of the audit trail; beside data_dir unless ``audit.checkpoints`` names another."""
        if self.audit.checkpoints is not None:
            return self.path(self.audit.checkpoints)
        return self.data_path.with_name(f"{self.data_path.name}-checkpoints")
