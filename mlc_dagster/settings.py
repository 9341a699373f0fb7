"""mlc.yaml as one frozen model.

What belongs here: every key a user may write, its type, its default and its error text. What does not: reading the file
(``settings_file``), secrets (``vault``), files named by a setting (the package that owns them), the network.
"""

import datetime as dt
import ipaddress
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator


class SettingsError(Exception):
    """mlc.yaml cannot be used. ``problems`` holds one line per fault: key, value, what to do."""

    def __init__(self, source: str, problems: list[str]) -> None:
        self.source = source
        self.problems = problems
        super().__init__(f"{source}: " + "; ".join(problems))


SECRET_SCHEMES = ("store", "env", "file", "vault")


def _secret_reference(value: str) -> str:
    scheme, separator, rest = value.partition(":")
    if scheme not in SECRET_SCHEMES or not separator or not rest:
        # The value itself is not shown: a password typed here by mistake must not reach a log.
        msg = "is not a secret reference; write env:NAME, file:/path or store:name instead of the secret itself"
        raise ValueError(msg)
    return value


SecretRef = Annotated[str, AfterValidator(_secret_reference)]

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?$")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(value: object) -> object:
    if isinstance(value, bool):  # YAML's yes and on; pydantic would take them for one second.
        msg = f"{value} is not a duration; write seconds or 90s, 15m, 2h"
        raise ValueError(msg)  # noqa: TRY004  pydantic turns ValueError into a problem of this key, TypeError not.
    if isinstance(value, str) and (match := _DURATION.match(value.strip())):
        return float(match[1]) * _UNIT_SECONDS[match[2] or "s"]
    return value


Seconds = Annotated[float, pydantic.BeforeValidator(_seconds), Field(ge=0)]
TimeLimit = Annotated[float, pydantic.BeforeValidator(_seconds), Field(gt=0)]
"""Seconds that something may take; none at all would be no limit but a failure."""


def is_loopback(host: str) -> bool:
    """True for localhost and loopback addresses, where plain http is accepted."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _https_unless_loopback(value: str) -> str:
    try:
        parts = urlsplit(value)
        _ = parts.port  # Parsed when it is asked for.
    except ValueError as error:
        msg = f"is not an address: {error}"
        raise ValueError(msg) from None
    if "@" in parts.netloc:
        # Not shown: what stands before the @ is a password.
        msg = "must not carry a user or password; the secret belongs into client_secret, as a reference"
        raise ValueError(msg)
    if not parts.hostname:
        msg = f"{value!r} names no host; write https://host"
        raise ValueError(msg)
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname)):
        return value.rstrip("/")
    msg = f"{value!r} must be an https:// address; plain http:// is accepted for loopback addresses only"
    raise ValueError(msg)


RemoteUrl = Annotated[str, AfterValidator(_https_unless_loopback)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ChartSettings(_Model):
    """A chart of accounts: the names Fusion's account combination list gives to the segments, in their order."""

    ledgers: list[str]
    delimiter: str = "-"
    segments: list[str] = Field(min_length=1)
    natural_account: str
    cost_center: str | None = None
    balancing: str | None = None
    """Segment that carries the balancing (company) value; the first segment when absent."""
    cost_center_value_set: str | None = None
    """Code of the value set behind the cost centre segment; when given, cost centres are checked against it too."""

    @model_validator(mode="after")
    def _segments_known(self) -> Self:
        for key in ("natural_account", "cost_center", "balancing"):
            name = getattr(self, key)
            if name is not None and name not in self.segments:
                msg = f"{key}: {name!r} is not one of the segments {self.segments}"
                raise ValueError(msg)
        if len(self.delimiter) != 1:
            msg = f"delimiter: {self.delimiter!r} must be one character"
            raise ValueError(msg)
        return self

    @property
    def balancing_segment(self) -> str:
        return self.balancing or self.segments[0]


class FusionSettings(_Model):
    base_url: RemoteUrl
    token_url: RemoteUrl
    client_id: str
    client_secret: SecretRef
    scope: str
    username: str | None = None
    """Fusion user behind the token; with client credentials it is the client id (the default)."""
    charts: dict[str, ChartSettings]
    framework_version: int = Field(default=4, ge=2, le=9)
    page_size: int = Field(default=499, ge=1, le=500)
    max_in_flight: int = Field(default=16, ge=1, le=64)
    request_timeout: TimeLimit = 60.0
    """Seconds one request may take in all; leases last longer."""
    refused_wait: Seconds = 5.0
    ambiguous_wait: Seconds = 360.0
    """Seconds before an unknown outcome is looked up; longer than the server's own time limit (about 5 minutes)."""
    wait_in_run: Seconds = 30.0
    """A run waits this long for rows that become due; later ones are left to the next poll."""
    retry_after_cap: Seconds = 300.0
    reference_max_age: Seconds = 3600.0
    period_max_age: Seconds = 300.0
    accounted_status: str = "Accounted"
    """Fusion's word, in the posting user's language, for an invoice that is accounted in full."""

    @property
    def posting_user(self) -> str:
        return self.username or self.client_id


class SftpSettings(_Model):
    host: str
    port: int = Field(default=22, ge=1, le=65535)
    username: str
    password: SecretRef | None = None
    private_key: SecretRef | None = None
    passphrase: SecretRef | None = None
    host_key: str | list[str]
    """Pin(s): ``SHA256:…`` fingerprint or a known_hosts line; two while a key is being rotated."""
    directory: str = "."
    connect_timeout: TimeLimit = 15.0
    channel_timeout: TimeLimit = 60.0
    poll_deadline: TimeLimit = 300.0
    prefetch: Literal["auto", "off"] = "auto"

    @field_validator("host_key")
    @classmethod
    def _at_least_one_pin(cls, value: str | list[str]) -> str | list[str]:
        if not value or not all(value):
            msg = (
                "is empty; write the server's SHA256:… fingerprint, which `ssh-keyscan HOST | ssh-keygen -lf -` prints"
            )
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _one_way_to_log_in(self) -> Self:
        if (self.password is None) == (self.private_key is None):
            msg = "give either password or private_key"
            raise ValueError(msg)
        if self.passphrase is not None and self.private_key is None:
            msg = "passphrase belongs to private_key, which is absent"
            raise ValueError(msg)
        return self

    @property
    def host_keys(self) -> list[str]:
        return [self.host_key] if isinstance(self.host_key, str) else list(self.host_key)


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError):
        msg = f"{value!r} is not a time zone of the IANA database, such as America/Denver"
        raise ValueError(msg) from None
    return value


TaxMode = Literal["fusion_calculates", "tax_line", "item_line"]
AccountingDateRule = Literal["invoice_date", "posting_date", "posting_date_or_invoice_date", "today"]
AfterCreate = Literal["leave", "calculate_tax", "validate"]


class CompanySettings(_Model):
    """How one Stampli company is booked. What decides over money has no silent default."""

    business_unit: str
    legal_entity: str
    ledger: str
    chart: str
    time_zone: Annotated[str, AfterValidator(_time_zone)]
    invoice_source: str
    tax_mode: TaxMode
    conversion_rate_type: str | None = None
    accounting_date: AccountingDateRule
    tolerance: Decimal = Decimal(0)
    """Largest difference between header and lines, in units of the invoice's currency."""
    rounding_account: str | None = None
    after_create: AfterCreate = "leave"
    account_template: str
    balancing_values: list[str] = []
    """Balancing segment values that belong to this company; the template's literal when empty."""
    intercompany: bool = False
    unknown_combination: Literal["park", "try"] = "park"
    prepayments: bool = False
    payment_terms: str | None = None
    memo_suffix: str | None = None
    """Appended to the number of a memo that reuses its invoice's number; absent: such a memo is held."""
    require_cost_center: bool = True

    @model_validator(mode="after")
    def _rounding_needs_account(self) -> Self:
        if self.tolerance < 0:
            msg = f"tolerance: {self.tolerance} must not be negative"
            raise ValueError(msg)
        if self.tolerance > 0 and not self.rounding_account:
            msg = "tolerance above 0 needs rounding_account, the account that takes the difference"
            raise ValueError(msg)
        return self


class CrosswalkSettings(_Model):
    vendors: Path | None = None
    accounts: Path | None = None
    cost_centers: Path | None = None


class StampliSettings(_Model):
    sftp: SftpSettings
    profile: str = "stampli_lines_v1"
    """Name of a profile that ships with the product, or path of a YAML file."""
    settle_seconds: Seconds = 30.0
    max_file_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    zero_byte_grace: Seconds = 600.0
    after_read: Literal["leave", "archive", "delete"] = "leave"
    archive_directory: str = "archive"
    attachments: Literal["none", "document_file"] = "none"
    """Whether the file named by ``document_file``, beside the invoice file, is attached to the invoice in Fusion."""
    max_attachment_bytes: int = Field(default=25 * 1024 * 1024, ge=1)
    companies: dict[str, CompanySettings] = Field(min_length=1)
    crosswalks: CrosswalkSettings = CrosswalkSettings()


class RetrySettings(_Model):
    check_every: Seconds = 900.0
    """How often statuses are observed and the causes of parked invoices probed, in seconds."""


POLL_MINUTES = {"*/5 * * * *": 5, "*/10 * * * *": 10, "*/15 * * * *": 15, "*/30 * * * *": 30, "0 * * * *": 60}


class PollSettings(_Model):
    cron: str = "*/15 * * * *"
    start: dt.datetime

    @field_validator("cron")
    @classmethod
    def _every_5_10_15_30_60(cls, value: str) -> str:
        if value not in POLL_MINUTES:
            msg = f"{value!r} must be one of {', '.join(map(repr, POLL_MINUTES))}"
            raise ValueError(msg)
        return value

    @field_validator("start", mode="before")
    @classmethod
    def _utc_midnight_or_instant(cls, value: object) -> object:
        # YAML reads 2026-01-01 as a date; a text date is accepted as well.
        if isinstance(value, str):
            try:
                value = dt.datetime.fromisoformat(value)
            except ValueError:
                msg = f"{value!r} is not a date; write one such as 2026-01-01"
                raise ValueError(msg) from None
        if isinstance(value, dt.datetime):
            return value.replace(tzinfo=value.tzinfo or dt.UTC).astimezone(dt.UTC)
        if isinstance(value, dt.date):
            return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
        msg = f"{value!r} is not a date; write one such as 2026-01-01"
        raise ValueError(msg)

    @model_validator(mode="after")
    def _start_on_a_window_boundary(self) -> Self:
        if self.window_start(self.start) != self.start:
            msg = f"start: {self.start.isoformat()} must fall on a window boundary of {self.cron!r}, such as 2026-01-01"
            raise ValueError(msg)
        return self

    @property
    def minutes(self) -> int:
        return POLL_MINUTES[self.cron]

    def window_start(self, instant: dt.datetime) -> dt.datetime:
        """Start (UTC) of the poll window that contains ``instant``."""
        instant = instant.astimezone(dt.UTC)
        return instant.replace(minute=instant.minute - instant.minute % self.minutes, second=0, microsecond=0)


class LedgerSettings(_Model):
    url: str | None = None
    """SQLAlchemy address, ``sqlite:///…`` or ``postgresql+psycopg://…``; default: ``ledger.sqlite`` in data_dir."""
    url_secret: SecretRef | None = None
    """Reference to the whole address, for those that carry a password."""

    @field_validator("url")
    @classmethod
    def _supported(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("sqlite:///", "postgresql+psycopg://")):
            msg = f"{value.split('@')[-1]!r} must begin with sqlite:/// or postgresql+psycopg://"
            raise ValueError(msg)
        if value is not None and urlsplit(value).password is not None:
            # Settings are shown in the UI and in `mlc config check`.
            msg = "has a password in it; put the whole address into a secret and write url_secret: env:NAME"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if self.url is not None and self.url_secret is not None:
            msg = "give either url or url_secret"
            raise ValueError(msg)
        return self


class Settings(_Model):
    """The whole of mlc.yaml. Relative paths are resolved against ``root``, the folder of the file."""

    fusion: FusionSettings
    stampli: StampliSettings | None = None
    poll: PollSettings
    retry: RetrySettings = RetrySettings()
    data_dir: Path = Path(".mlc")
    ledger: LedgerSettings = LedgerSettings()
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

    def path(self, value: Path) -> Path:
        """``value`` made absolute against the folder of mlc.yaml."""
        return value if value.is_absolute() else (self.root / value).resolve()

    @property
    def data_path(self) -> Path:
        return self.path(self.data_dir)
