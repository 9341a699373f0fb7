"""Alerts out of the house: every address of ``alerts.to``, side by side, each with the same few seconds.

An alert that cannot be sent must not end the run that wanted to send it: what fails comes back as text. Addresses hold
tokens and passwords, so texts name them by their scheme and host only.
"""

import logging
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from time import monotonic
from typing import Any
from urllib.parse import unquote, urlsplit

from mlc_dagster.settings import AlertSettings
from mlc_dagster.settings.values import is_secret_reference
from mlc_dagster.vault import SecretError
from mlc_dagster.vault.redaction import redact

WITHIN = 20.0
"""Seconds that all addresses together have; a service that hangs must not hold up the flow of money."""


class Alerts:
    """The people and services of ``alerts:``; ``resolve`` turns a reference to a secret into its value."""

    def __init__(self, settings: AlertSettings, resolve: Callable[[str], str], *, within: float = WITHIN) -> None:
        self._settings = settings
        self._resolve = resolve
        self._within = within

    def __bool__(self) -> bool:
        """Whether anybody is told at all."""
        return bool(self._settings.to)

    def __len__(self) -> int:
        """How many addresses there are."""
        return len(self._settings.to)

    def send(self, title: str, body: str) -> list[str]:
        """Tell everybody; one line per address that was not reached. Never raises.

        References are resolved now, so that a rotated token is used from then on.
        """
        attempts = [_Attempt(f"alerts.to[{number}]", entry) for number, entry in enumerate(self._settings.to)]
        # Not a pool: its threads are waited for when the process ends, a hanging one too.
        threads = [
            threading.Thread(target=self._work, args=(attempt, title, body), name="alert", daemon=True)
            for attempt in attempts
        ]
        for name in ("apprise", "urllib3.connectionpool"):
            logging.getLogger(name).addFilter(_LISTENER)
        for thread in threads:
            thread.start()
        # Not apprise's own limits: each is for one read, and a service that trickles never reaches them.
        end = monotonic() + self._within
        for thread in threads:
            thread.join(max(0.0, end - monotonic()))
        return [failure for attempt in attempts if (failure := attempt.failure(self._within)) is not None]

    def _work(self, attempt: "_Attempt", title: str, body: str) -> None:
        _current.set(attempt)
        try:
            self._deliver(attempt, f"{self._settings.prefix}: {title}", body)
        except SecretError as error:
            attempt.fault = str(error)
        except Exception as error:  # noqa: BLE001 - a service's module may raise anything; its text may hold a token
            attempt.fault = f"{attempt.place}: {type(error).__name__} while sending"
        attempt.done = True

    def _deliver(self, attempt: "_Attempt", title: str, body: str) -> None:
        # Takes a second or two, and most runs have nothing to say. Its types are not whole.
        apprise: Any = import_module("apprise")
        address = attempt.entry
        if is_secret_reference(address):
            attempt.place = address
            address = self._resolve(address).strip()
        service = apprise.Apprise.instantiate(address, asset=apprise.AppriseAsset(async_mode=False))
        if service is None:
            attempt.fault = (
                f"{attempt.place}: {_scheme(address)} is not an address that apprise understands; compare it with "
                "apprise's list of services, and write special characters of a password as %40 and the like"
            )
            return
        attempt.place = _shown(service)
        service.socket_connect_timeout = min(service.socket_connect_timeout, self._within)
        service.socket_read_timeout = min(service.socket_read_timeout, self._within)
        sender = apprise.Apprise()
        sender.add(service)
        if not sender.notify(body=body, title=title, body_format=apprise.NotifyFormat.TEXT):
            told = redact(" ".join(attempt.heard), _parts(address))
            attempt.fault = f"{attempt.place}: {told or 'the service did not take the alert'}"


@dataclass
class _Attempt:
    place: str
    """What texts call the address: its position, then scheme and host."""
    entry: str = field(repr=False)
    heard: list[str] = field(default_factory=list[str], repr=False)
    """apprise's warnings: the only reason it gives."""
    fault: str | None = None
    done: bool = False

    def failure(self, within: float) -> str | None:
        if not self.done:
            return f"{self.place}: no answer within {within:g} s; the alert may or may not have arrived"
        return self.fault


_current: ContextVar[_Attempt | None] = ContextVar("alert", default=None)
"""Whose sending a log line belongs to. apprise hands it on to threads of its own."""


class _Listener(logging.Filter):
    """Takes the lines that sending an alert writes out of the log, where they would show addresses whole."""

    def filter(self, record: logging.LogRecord) -> bool:
        attempt = _current.get()
        if attempt is None:
            return True
        if record.levelno >= logging.WARNING and record.name == "apprise":
            attempt.heard.append(record.getMessage())
        return False


_LISTENER = _Listener()


def _scheme(address: str) -> str:
    scheme, separator, _ = address.partition("://")
    return f"{scheme}://…" if separator and scheme.isalnum() and len(scheme) <= 20 else "(not shown)"


def _shown(service: Any) -> str:
    """Scheme and host. Where the host is a token, as with Slack, apprise masks it itself."""
    parts = urlsplit(str(service.url(privacy=True)))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _parts(address: str) -> set[str]:
    """Everything in an address that may be secret: all of it but the scheme and the host's name."""
    parts = urlsplit(address)
    fields: list[Any] = [address, parts.username, parts.password, parts.query, parts.fragment, *parts.path.split("/")]
    fields += [value.partition("=")[2] for value in parts.query.split("&")]
    # A token stands where a host would: no dot in it, and not this machine.
    host = parts.netloc.rpartition("@")[2].partition(":")[0]
    fields += [host] if "." not in host and host != "localhost" else []
    return {text for each in fields if each for text in (str(each), unquote(str(each)))}
