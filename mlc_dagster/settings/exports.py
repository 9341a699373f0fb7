"""``exports:``, ``outbound:`` and ``alerts:`` - what leaves Fusion, for whom, in which layout, and who is told.

What belongs here: one feed per entry of ``exports``. What does not: the layouts, crosswalks and calendars that a feed
names; ``exports`` reads and checks those.
"""

import datetime as dt
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from mlc_dagster.settings.sftp import SftpSettings
from mlc_dagster.settings.values import Model, Seconds, TimeLimit

SourceName = Literal["journals", "invoices", "purchase_orders", "suppliers"]

_FEED_NAME = re.compile(r"[A-Za-z0-9_]{1,60}")
_CRON = re.compile(r"\S+(\s+\S+){4}")


def _identity(value: str) -> str:
    qualifier, separator, identity = value.partition(":")
    if not separator or len(qualifier) != 2 or not 1 <= len(identity) <= 15:
        msg = f"{value!r} is not QUALIFIER:ID, such as ZZ:ACME or 01:123456789 (at most 15 characters after the colon)"
        raise ValueError(msg)
    return value


InterchangeId = Annotated[str, AfterValidator(_identity)]


class PartnerSettings(Model):
    """Both ends of an X12 interchange, as agreed with the partner."""

    sender: InterchangeId
    """Our qualifier and id: ISA05 and ISA06."""
    receiver: InterchangeId
    """The partner's: ISA07 and ISA08."""
    group_sender: str | None = Field(default=None, min_length=2, max_length=15)
    """GS02, where it differs from the id in ISA06."""
    group_receiver: str | None = Field(default=None, min_length=2, max_length=15)
    usage: Literal["T", "P"] = "T"
    """ISA15: test or production. Control numbers are counted apart."""
    acknowledgement_requested: bool = False
    """ISA14: ask for a TA1."""

    @property
    def key(self) -> str:
        """What control numbers are counted by: both ids and the usage."""
        return f"{self.sender}>{self.receiver}/{self.usage}"


class AcknowledgementSettings(Model):
    """Where the partner's 997s arrive, and by when."""

    expected_within: TimeLimit
    """Seconds from delivery."""
    directory: str
    """Folder on the feed's SFTP server."""
    pattern: str = "*"
    """Names that are read, as a shell pattern."""


class UploadSettings(Model):
    """How a file gets onto the partner's server."""

    mode: Literal["rename", "direct", "tempdir"] = "rename"
    """Under a temporary name in the same folder; under its own name at once; in another folder, then moved."""
    temp_directory: str | None = None
    """For ``tempdir``: a folder on the same file system of the server."""
    verify: Literal["sha256", "size", "none"] = "sha256"
    """What is checked before the file gets its name; ``none`` where the account may not look at what it wrote."""
    verify_at_most: int = Field(default=16 * 1024 * 1024, ge=0)
    """Bytes up to which a file is read back for its SHA-256; larger ones are checked by size."""
    picked_up_at_once: bool = False
    """The partner takes a file as soon as it is complete: afterwards its absence is what is expected."""
    manifest: bool = False
    """A JSON file beside it: name, bytes, records, totals, SHA-256, layout version."""
    trigger: str | None = None
    """Ending of an empty file that is written last, such as ``.trg``."""
    compress: Literal["none", "gzip", "zip"] = "none"
    retry_for: Seconds = 300.0
    """How long a run goes on trying where the fault may pass."""

    @model_validator(mode="after")
    def _tempdir_names_a_folder(self) -> Self:
        if (self.mode == "tempdir") != (self.temp_directory is not None):
            msg = "temp_directory belongs to mode tempdir, and mode tempdir needs it"
            raise ValueError(msg)
        return self


class CalendarSchedule(Model):
    """Often around the period close, else daily."""

    calendar: str
    """YAML file of period dates."""


class ExportSettings(Model):
    """One feed: a source, a layout, a place, and when."""

    name: str
    source: SourceName
    layout: str
    """Name of a layout that ships with the product, or path of a YAML file."""
    date: Literal["last_update", "creation"] = "last_update"
    """``creation``: each record is sent once, when it was created; later changes are not."""
    start: dt.datetime | None = None
    """Records changed before are not sent; ``poll.start`` when absent."""
    ledgers: list[str] = []
    """Only journals of these ledgers; required for journals."""
    business_units: list[str] = []
    """Only invoices and purchase orders of these business units; all when empty."""
    journal_sources: list[str] = []
    include_unposted: bool = False
    balance_types: list[str] = ["Actual", "A"]
    """Fusion's words, in the reading user's language, for journals of real amounts (not budget, not encumbrance)."""
    schedule: str | CalendarSchedule = "*/15 * * * *"
    """Cron expression (UTC), or a close calendar."""
    sftp: SftpSettings
    upload: UploadSettings = UploadSettings()
    file_name: str | None = None
    """Template of the file's name; the layout's when absent."""
    max_documents: int | None = Field(default=None, ge=1)
    """Documents per file; all of a poll when absent."""
    partner: PartnerSettings | None = None
    acknowledgement: Literal["none"] | AcknowledgementSettings = "none"

    @field_validator("name")
    @classmethod
    def _safe_name(cls, value: str) -> str:
        if not _FEED_NAME.fullmatch(value):
            msg = f"{value!r} may have letters, digits and underscores only, at most 60: it names a Dagster asset"
            raise ValueError(msg)
        return value

    @field_validator("schedule")
    @classmethod
    def _five_fields(cls, value: str | CalendarSchedule) -> str | CalendarSchedule:
        if isinstance(value, str) and not _CRON.fullmatch(value.strip()):
            msg = f"{value!r} is not a cron expression of five fields, such as '*/15 * * * *'; or write calendar: FILE"
            raise ValueError(msg)
        return value

    @field_validator("start", mode="before")
    @classmethod
    def _utc(cls, value: object) -> object:
        if isinstance(value, str):
            value = dt.datetime.fromisoformat(value)
        if isinstance(value, dt.datetime):
            return value.replace(tzinfo=value.tzinfo or dt.UTC).astimezone(dt.UTC)
        if isinstance(value, dt.date):
            return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
        return value

    @model_validator(mode="after")
    def _journals_name_their_ledgers(self) -> Self:
        if self.source == "journals" and not self.ledgers:
            msg = "ledgers: is required for journals; name the ledgers whose journals the partner gets"
            raise ValueError(msg)
        return self


class OutboundSettings(Model):
    """How Fusion is read for all feeds."""

    overlap: Seconds = 900.0
    """Seconds read again before each window: rows become visible some time after their LastUpdateDate."""
    lag: Seconds = 120.0
    """Seconds, by Fusion's clock, that a window must be over before it is read."""
    look_back: Seconds = 172800.0
    """Seconds read again in full once per ``look_back_every``."""
    look_back_every: TimeLimit = 86400.0
    sweep: Seconds = 604800.0
    """Seconds over which ids are compared with Fusion's, once per ``look_back_every``; 0: never."""
    child_dates: bool = True
    """Ask for lines, schedules and distributions by their own LastUpdateDate too; off where the pod refuses it."""


class AlertSettings(Model):
    """Who is told when something needs a person."""

    to: list[str] = Field(default=[], repr=False)
    """Addresses as apprise writes them (``mailto://…``, ``slack://…``), or references to secrets that hold one."""
    prefix: str = "mlc-dagster"
    """Begins every subject: names the installation."""
