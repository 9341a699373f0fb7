"""One HTTP request and its complete answer, over aiohttp.

What belongs here: connections, the total deadline, and knowing whether a body had begun to leave. What does not:
tokens, retries, the meaning of a status. Cookies, redirects and sign-ins of the session's own are not wanted.
"""

import asyncio
import functools
import re
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp
import httpx
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

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


_ENCODED = re.compile(r"[!-~]+")
"""Nothing that would have to be percent-encoded still."""

_WAITING = 1024 * 1024
"""Bytes of an answer that may wait to be taken: a page arrives without its connection being halted in between."""

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


class Body(aiohttp.Payload):
    """A request body that tells when it begins to leave.

    aiohttp asks for it once it holds a connection, and holds the headers back until then; so an exception of
    ``before_first_byte`` leaves the server with nothing at all.
    """

    def __init__(self, body: bytes, before_first_byte: Callable[[], None] | None) -> None:
        super().__init__(body)
        self._body = body
        self._size = len(body)
        self._before_first_byte = before_first_byte
        self.started = False
        self.objection: BaseException | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._body.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:  # noqa: ARG002
        if self.started:
            # A second copy must not leave on aiohttp's own decision, whatever its version thinks of retries.
            msg = "the body was asked for a second time"
            raise RuntimeError(msg)
        if self._before_first_byte is not None:
            try:
                self._before_first_byte()
            except BaseException as error:
                self.objection = error
                raise
        self.started = True
        await writer.write(self._body)


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
        by_place = {_place(_url(host)): host for host in hosts}
        self._connections = connections
        self._tls = tls
        self._proxies = {place: _proxy(host) for place, host in by_place.items()}
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for session in self._sessions.values():
            await session.close()

    def _session(self, place: str) -> aiohttp.ClientSession:
        """Connections to one host; made by the first request, since a session belongs to its event loop."""
        session = self._sessions.get(place)
        if session is None:
            connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=KEEP_ALIVE, ssl=self._tls)
            session = self._sessions[place] = aiohttp.ClientSession(
                connector=connector,
                # No cookies: a session cookie of an earlier request would compete with the token for who we are.
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=_WAITING,
                # The deadline of ``send`` is for everything together.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            )
        return session

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
        payload = None if body is None else Body(body, before_first_byte)
        target = _url(url)
        proxy = self._proxies[_place(target)]
        begun = time.monotonic()
        response: aiohttp.ClientResponse | None = None
        error: str | None = "cancelled"
        try:
            async with asyncio.timeout(deadline):
                response = await self._session(_place(target)).request(
                    method,
                    target,
                    headers={**headers, "Accept-Encoding": ACCEPTED},
                    data=payload,
                    allow_redirects=False,
                    proxy=None if proxy is None else proxy.url,
                    proxy_auth=None if proxy is None else proxy.login,
                )
                try:
                    content = await receive(response, max_bytes)
                finally:
                    response.release()
                    await response.wait_for_close()
            error = None
            return Answer(response.status, _headers(response), content)
        except Exception as failure:  # whatever it is: after the first byte it must not pass for "not sent"
            if payload is not None and payload.objection is not None:
                error = f"held back: {type(payload.objection).__name__}"
                raise payload.objection from None
            kind: Lost = "lost"
            error = _reason(failure, deadline)
            if isinstance(failure, BodyRefused):
                kind, error = "too_large" if failure.too_large else "lost", str(failure)
            elif untrusted := distrust(failure):
                kind, error = "untrusted", f"{target.host}: {untrusted}"
            started = payload is not None and payload.started
            raise TransportFailure(error, body_started=started, kind=kind) from failure
        finally:
            if self._report is not None:
                self._report(
                    Exchange(
                        method=method,
                        path=target.path,
                        query=target.raw_query_string,
                        status=None if response is None else response.status,
                        seconds=time.monotonic() - begun,
                        attempt=attempt,
                        request_bytes=len(body or b"") if payload is None or payload.started else 0,
                        response_bytes=0 if response is None else response.content.total_bytes,
                        error=error,
                    )
                )


def _reason(failure: Exception, deadline: float) -> str:
    if isinstance(failure, TimeoutError):
        return f"no complete answer within {deadline:g} s"
    return f"{type(failure).__name__}: {failure}" if str(failure) else type(failure).__name__


def _headers(response: aiohttp.ClientResponse) -> Mapping[str, str]:
    """Names in any case. Of an error they may be shown: then their bytes are read as text of some kind at least."""
    return response.headers if 200 <= response.status < 300 else httpx.Headers(list(response.raw_headers))


@functools.lru_cache(maxsize=64)
def _url(text: str) -> URL:
    # What was percent-encoded stays so: a gateway may not take a quote for %27.
    return URL(text, encoded=_ENCODED.fullmatch(text) is not None)


def _place(url: URL) -> str:
    return url.raw_authority


class _Proxy(NamedTuple):
    url: URL
    login: aiohttp.BasicAuth | None


def _proxy(host: str) -> _Proxy | None:
    text = environment_proxy(host)
    if text is None:
        return None
    url = URL(text)
    login = None if url.user is None else aiohttp.BasicAuth(url.user, url.password or "")
    return _Proxy(url.with_user(None), login)


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
