"""One HTTP request and its complete answer, over the aiohttp transport of httpx.

What belongs here: connections, the total deadline, and knowing whether a body had begun to leave. What does not:
tokens, retries, the meaning of a status. Plain httpx gets slower as concurrency grows, hence the aiohttp transport. It
is asked without httpx's client, whose cookies, redirects and sign-ins are not wanted and cost more than the request.
"""

import asyncio
import functools
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Literal, NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from mlc_dagster.fusion.answers import Answer
from mlc_dagster.fusion.receiving import ACCEPTED, BodyRefused, receive
from mlc_dagster.fusion.tls import distrust
from mlc_dagster.settings import SettingsError, is_loopback

KEEP_ALIVE = 15.0
"""Seconds an idle connection is kept: shorter than any server's, since a POST on one just closed has no known end."""


class Exchange(NamedTuple):
    """One HTTP request as it is reported: sizes in bytes of the bodies, time in seconds, no headers, no secrets."""

    method: str
    path: str
    query: str
    status: int | None
    seconds: float
    attempt: int
    request_bytes: int
    response_bytes: int
    error: str | None


Lost = Literal["lost", "untrusted", "too_large"]


class TransportFailure(Exception):
    """No complete answer. ``body_started`` is False when not one byte of the request body can have left.

    ``kind`` tells what the same request would meet again at once: a host that is not trusted, or too large an answer.
    """

    def __init__(self, reason: str, *, body_started: bool, kind: Lost = "lost") -> None:
        self.reason = reason
        self.kind: Lost = kind
        self.body_started = body_started
        super().__init__(reason)


class BodyStream(httpx.AsyncByteStream):
    """A request body that tells when it begins to leave.

    aiohttp asks for the first chunk once it holds a connection, and holds the headers back until then; so an
    exception of ``before_first_byte`` leaves the server with nothing at all.
    """

    def __init__(self, body: bytes, before_first_byte: Callable[[], None] | None) -> None:
        self._body = body
        self._before_first_byte = before_first_byte
        self.started = False
        self.objection: BaseException | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.started:
            # A second copy must not leave on the transport's own decision, whatever its version thinks of retries.
            msg = "the body was asked for a second time"
            raise RuntimeError(msg)
        if self._before_first_byte is not None:
            try:
                self._before_first_byte()
            except BaseException as error:
                self.objection = error
                raise
        self.started = True
        yield self._body


class Transport:
    """Sends requests; use as an async context manager."""

    def __init__(
        self,
        hosts: tuple[str, ...],
        *,
        connections: int,
        tls: ssl.SSLContext,
        report: Callable[[Exchange], None] | None = None,
    ) -> None:
        """``hosts`` are the addresses that will be called; each gets the proxy the environment names for it."""
        self._report = report
        by_place = {_url(host).netloc: host for host in hosts}
        self._by_place = {place: _transport(host, connections, tls) for place, host in by_place.items()}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for transport in self._by_place.values():
            await transport.aclose()

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        deadline: float,
        max_bytes: int,
        attempt: int = 1,
        body: bytes | None = None,
        before_first_byte: Callable[[], None] | None = None,
    ) -> Answer:
        """The complete answer to one request. ``deadline`` is in seconds, from connect to the last byte received.

        ``max_bytes`` limits the answer's body, as it arrives and unpacked.

        ``before_first_byte`` is called directly before the body is handed over; what it raises reaches the caller
        unchanged and no byte is sent.

        Raises:
            TransportFailure: no complete answer within the deadline.
        """
        stream = None if body is None else BodyStream(body, before_first_byte)
        length = {} if body is None else {"Content-Length": str(len(body))}
        fields = {**headers, **length, "Accept-Encoding": ACCEPTED}
        request = httpx.Request(method, _url(url), headers=fields, content=stream)
        begun = time.monotonic()
        response: httpx.Response | None = None
        error: str | None = "cancelled"
        try:
            async with asyncio.timeout(deadline):
                response = await self._by_place[request.url.netloc].handle_async_request(request)
                try:
                    content = await receive(response, max_bytes)
                finally:
                    await response.aclose()
            error = None
            return Answer(response.status_code, response.headers, content)
        except Exception as failure:  # whatever it is: after the first byte it must not pass for "not sent"
            if stream is not None and stream.objection is not None:
                error = f"held back: {type(stream.objection).__name__}"
                raise stream.objection from None
            kind: Lost = "lost"
            error = _reason(failure, deadline)
            if isinstance(failure, BodyRefused):
                kind, error = "too_large" if failure.too_large else "lost", str(failure)
            elif untrusted := distrust(failure):
                kind, error = "untrusted", f"{request.url.host}: {untrusted}"
            started = stream is not None and stream.started
            raise TransportFailure(error, body_started=started, kind=kind) from failure
        finally:
            if self._report is not None:
                self._report(
                    Exchange(
                        method=method,
                        path=request.url.path,
                        query=request.url.query.decode("ascii"),
                        status=None if response is None else response.status_code,
                        seconds=time.monotonic() - begun,
                        attempt=attempt,
                        request_bytes=len(body or b"") if stream is None or stream.started else 0,
                        response_bytes=0 if response is None else response.num_bytes_downloaded,
                        error=error,
                    )
                )


def _reason(failure: Exception, deadline: float) -> str:
    if isinstance(failure, TimeoutError):
        return f"no complete answer within {deadline:g} s"
    # httpx-aiohttp reports a dropped connection as ConnectTimeout; aiohttp's own words are the true ones.
    origin = failure.__cause__ if isinstance(failure.__cause__, aiohttp.ClientError | OSError) else failure
    return f"{type(origin).__name__}: {origin}" if str(origin) else type(origin).__name__


@functools.lru_cache(maxsize=64)
def _url(text: str) -> httpx.URL:
    return httpx.URL(text)


def _transport(url: str, connections: int, tls: ssl.SSLContext) -> AiohttpTransport:
    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=connections, keepalive_timeout=KEEP_ALIVE, ssl=tls)
        # No cookies: a session cookie of an earlier request would compete with the token for who we are.
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    proxy = environment_proxy(url)
    return AiohttpTransport(verify=tls, client=session, proxy=None if proxy is None else httpx.Proxy(proxy))


def environment_proxy(url: str) -> str | None:
    """Proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for ``url``; never one for a loopback address.

    Raises:
        SettingsError: what they name is no address of a proxy; the text does not show it, as it may hold a password.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy is not None and not _is_proxy(proxy):
        fault = "is no proxy; write http://host:port or http://user:password@host:port, special characters as %XX"
        raise SettingsError("environment", [f"{parts.scheme.upper()}_PROXY (not shown): {fault}"])
    return proxy


def _is_proxy(text: str) -> bool:
    try:
        parts, url = urlsplit(text), httpx.URL(text)
        _ = parts.port  # Parsed when it is asked for.
    except (ValueError, httpx.InvalidURL):
        return False
    bare = "@" not in parts.path + parts.query + parts.fragment
    return parts.scheme in ("http", "https") and bool(parts.hostname) and bool(url.host) and bare
