"""What single values of mlc.yaml may be: durations, addresses, references to secrets, names of files and zones.

What belongs here: types that several parts use, and the error text of each. What does not: keys.
"""

import ipaddress
import re
from importlib.metadata import entry_points
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mlc_dagster.expected import Expected, FailureKind


class SettingsError(Expected):
    """mlc.yaml cannot be used. ``problems`` holds one line per fault: key, value, what to do."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, source: str, problems: list[str]) -> None:
        self.source = source
        self.problems = problems
        super().__init__(f"{source}: " + "; ".join(problems))


SECRET_SCHEMES = ("store", "env", "file", "vault")
"""Schemes that the product itself resolves; packages add others by an entry point."""
SECRET_PROVIDERS = "mlc_dagster.secret_providers"  # noqa: S105
"""Group of the entry points that add a scheme: its name, and what makes the provider."""


def is_secret_reference(value: str) -> bool:
    """True for ``env:NAME`` and the like, a scheme that a package added included."""
    scheme, separator, rest = value.partition(":")
    if not separator or not rest:
        return False
    # What is installed is looked through only for schemes that are not the product's own.
    return scheme in SECRET_SCHEMES or bool(entry_points(group=SECRET_PROVIDERS, name=scheme))


def _secret_reference(value: str) -> str:
    if not is_secret_reference(value):
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


class Model(BaseModel):
    # What is refused may be a secret typed into the wrong place.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError):
        msg = f"{value!r} is not a time zone of the IANA database, such as America/Denver"
        raise ValueError(msg) from None
    return value


TimeZone = Annotated[str, AfterValidator(_time_zone)]
