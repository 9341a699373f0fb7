"""Everything that mlc.yaml names, loaded without connecting to anything; used by ``mlc config check`` as well."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlc_dagster.exports.assembling import PartnerMissing
from mlc_dagster.exports.calendar import CalendarError, ends_soon
from mlc_dagster.exports.cron import CronError
from mlc_dagster.exports.layouts.errors import LayoutError
from mlc_dagster.exports.naming import FileNameUnusable
from mlc_dagster.exports.wiring import check_feed
from mlc_dagster.exports.x12.envelope import EnvelopeUnusable
from mlc_dagster.fusion.account import fusion_account
from mlc_dagster.settings import (
    ExportSettings,
    Settings,
    SettingsError,
    SftpSettings,
    StampliSettings,
    secret_references,
)
from mlc_dagster.settings.exports import CalendarSchedule
from mlc_dagster.sftp import KeyUnreadable, PinUnreadable
from mlc_dagster.sftp.keys import load_private_key, parse_pins
from mlc_dagster.stampli.crosswalks import CrosswalkError, load_crosswalks
from mlc_dagster.stampli.parsing.profile import Profile, ProfileError, load_profile
from mlc_dagster.stampli.validation.accounts import TemplateFault, template_of
from mlc_dagster.vault import SecretResolver

UNUSABLE = (
    SettingsError,
    ProfileError,
    CrosswalkError,
    TemplateFault,
    LayoutError,
    CalendarError,
    CronError,
    FileNameUnusable,
    EnvelopeUnusable,
    PartnerMissing,
    PinUnreadable,
    KeyUnreadable,
)
"""What loading raises for a file or a value that cannot be used; the text names it and the remedy."""

Check = tuple[str, Callable[[], Any]]
"""Key of mlc.yaml, and what loads that which it names."""


def checks(settings: Settings, secrets: SecretResolver, values: Mapping[str, str]) -> list[Check]:
    """One check per part of mlc.yaml.

    Args:
        settings: mlc.yaml.
        secrets: resolves what ``values`` does not need to hold.
        values: the secrets that could be resolved, by their key in mlc.yaml; what needs another is left out.
    """
    found: list[Check] = []
    if settings.stampli is not None:
        found += _inbound(settings, settings.stampli, values)
    fusion = [key for key in secret_references(settings) if key.startswith("fusion.")]
    if all(key in values for key in fusion):
        found.append(("fusion", lambda: fusion_account(settings, secrets)))
    for entry in settings.exports:
        found += [*_account(f"exports.{entry.name}.sftp", entry.sftp, values), _feed(settings, entry)]
    return found


def profile_of(settings: Settings, stampli: StampliSettings) -> Profile:
    """The profile of Stampli's files: a path is relative to mlc.yaml, a bare name is one of the product's own.

    Raises:
        ProfileError: it cannot be used.
    """
    named = stampli.profile
    return load_profile(settings.path(Path(named)) if "/" in named or named.endswith((".yaml", ".yml")) else named)


def warnings(settings: Settings, today: dt.date) -> Iterator[str]:
    """What can be used and will not do much longer."""
    for entry in settings.exports:
        # One that cannot be used is told as a fault.
        with suppress(CalendarError):
            last = ends_soon(entry.schedule, today=today, root=settings.root)
            if last is not None and isinstance(entry.schedule, CalendarSchedule):
                days = (last - today).days
                when = f"ends in {days} days" if days > 0 else "has ended" if days < 0 else "ends today"
                yield (
                    f"exports.{entry.name}.schedule: calendar {entry.schedule.calendar} {when} ({last}); after that "
                    "every day is an ordinary one. Add the next periods"
                )


def _feed(settings: Settings, entry: ExportSettings) -> Check:
    return f"exports.{entry.name}", lambda: check_feed(settings, entry)


def _account(key: str, sftp: SftpSettings, values: Mapping[str, str]) -> list[Check]:
    found: list[Check] = [(f"{key}.host_key", lambda: parse_pins(sftp.host_keys))]
    if (private_key := values.get(f"{key}.private_key")) is not None:
        passphrase = values.get(f"{key}.passphrase")
        found.append((f"{key}.private_key", lambda: load_private_key(private_key, passphrase)))
    return found


def _inbound(settings: Settings, stampli: StampliSettings, values: Mapping[str, str]) -> list[Check]:
    found: list[Check] = [
        ("stampli.profile", lambda: profile_of(settings, stampli)),
        ("stampli.crosswalks", lambda: load_crosswalks(stampli.crosswalks, settings.root)),
        *_account("stampli.sftp", stampli.sftp, values),
    ]
    for company_id, company in stampli.companies.items():
        chart = settings.fusion.charts[company.chart]
        found.append(
            (f"stampli.companies.{company_id}", lambda company=company, chart=chart: template_of(company, chart))
        )
    return found
