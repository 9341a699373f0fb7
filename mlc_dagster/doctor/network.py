"""The first steps to every remote system: its name, its port, its certificate. Nothing is logged in to."""

import datetime as dt
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mlc_dagster.doctor.findings import NotNeeded, Steps, Told, Warned

EXPIRES_SOON = 21
"""Days before a certificate's end at which a renewal should be under way."""

T = TypeVar("T")


def within(seconds: float, work: Callable[[], T]) -> T:
    """``work`` done in a thread that is left behind when it takes longer; for calls without a time limit of their own.

    Raises:
        TimeoutError: it took longer.
    """
    done: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            done.put((None, error))

    threading.Thread(target=run, name="doctor", daemon=True).start()
    try:
        value, failure = done.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"{seconds:g} s") from None
    if failure is not None:
        raise failure
    return value  # pyright: ignore[reportReturnType] - without a failure it is what work returned


def place_of(url: str) -> tuple[str, int]:
    """Host and port of an http(s) address."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def reach(steps: Steps, host: str, port: int, timeout: float, *, prefix: str = "") -> bool:
    """Look ``host`` up and connect to ``port``; the steps are called ``DNS`` and ``TCP`` after ``prefix``.

    Args:
        steps: of the system.
        host: name or address.
        port: of TCP.
        timeout: seconds for each.
        prefix: tells two hosts of one system apart.
    """
    dns = f"{prefix}DNS"
    steps.step(dns, lambda: _addresses(host, port, timeout))
    return steps.step(f"{prefix}TCP", lambda: _connected(host, port, timeout), needs=[dns])


def _addresses(host: str, port: int, timeout: float) -> str:
    found = within(timeout, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
    return f"{host} is {', '.join(addresses)}"


def _connected(host: str, port: int, timeout: float) -> str:
    begun = time.monotonic()
    socket.create_connection((host, port), timeout=timeout).close()
    return f"port {port} answers in {(time.monotonic() - begun) * 1000:.0f} ms"


def certificate(url: str, context: Callable[[], ssl.SSLContext], timeout: float, now: dt.datetime) -> Told:
    """TLS version, issuer and days left of the certificate at ``url``.

    Raises:
        ssl.SSLError, OSError, SettingsError: no trusted connection.
    """
    if not url.startswith("https:"):
        return NotNeeded("plain http is spoken to this loopback address")
    host, port = place_of(url)
    with (
        socket.create_connection((host, port), timeout=timeout) as plain,
        context().wrap_socket(plain, server_hostname=host) as tls,
    ):
        seen: Any = tls.getpeercert() or {}
        version = tls.version() or "TLS"
    ends = dt.datetime.fromtimestamp(ssl.cert_time_to_seconds(seen["notAfter"]), dt.UTC)
    issuer = {name: value for part in seen.get("issuer", ()) for name, value in part}
    issued_by = issuer.get("organizationName") or issuer.get("commonName") or "an unnamed authority"
    days = (ends - now).days
    text = f"{version}, issued by {issued_by}, valid for {days} more {'day' if days == 1 else 'days'}"
    if days < EXPIRES_SOON:
        return Warned(f"{text} (until {ends:%Y-%m-%d})", "ask the server's owner when it will be renewed")
    return text
