"""``poll:`` and ``ledger:`` - the poll windows, and where the durable state lives."""

import datetime as dt
from typing import Self
from urllib.parse import parse_qsl

from pydantic import field_validator, model_validator

from mlc_dagster.settings.values import Model, SecretRef

POLL_MINUTES = {"*/5 * * * *": 5, "*/10 * * * *": 10, "*/15 * * * *": 15, "*/30 * * * *": 30, "0 * * * *": 60}


class PollSettings(Model):
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


class LedgerSettings(Model):
    url: str | None = None
    """SQLAlchemy address, ``sqlite:///…`` or ``postgresql+psycopg://…``; default: ``ledger.sqlite`` in data_dir."""
    url_secret: SecretRef | None = None
    """Reference to the whole address, for those that carry a password."""

    @field_validator("url")
    @classmethod
    def _supported(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("sqlite:///", "postgresql+psycopg://")):
            shown = value.split("@")[-1].partition("?")[0]
            msg = f"{shown!r} must begin with sqlite:/// or postgresql+psycopg://"
            raise ValueError(msg)
        if value is not None and _has_password(value):
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


def _has_password(url: str) -> bool:
    """Whether a ledger's address carries a password, before its host or as one of its parameters."""
    rest = url.partition("://")[2]
    # Up to the last @, since a password may hold what ends the host elsewhere.
    user, at, _ = rest.rpartition("@")
    parameters = parse_qsl(rest.partition("?")[2], keep_blank_values=True)
    return (bool(at) and ":" in user and not rest.startswith("/")) or any(
        "password" in name.lower() or "secret" in name.lower() for name, _ in parameters
    )
