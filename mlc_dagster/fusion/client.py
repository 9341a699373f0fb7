"""The signed-in, paced client that the resource modules share.

What belongs here: slots, tokens, retries of reads, and which error a failure becomes. Reads are retried; a write
never is, except after 401, where Fusion refused before acting. Every HTTP request is reported through ``report``.
"""

import asyncio
import datetime as dt
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

from mlc_dagster.fusion import answers
from mlc_dagster.fusion.answers import Answer
from mlc_dagster.fusion.backoff import Backoff
from mlc_dagster.fusion.errors import (
    AccessRefused,
    ErrorDetail,
    NotAuthorised,
    NotSent,
    OutcomeUnknown,
    RemoteDown,
    ResponseInvalid,
    Untrusted,
)
from mlc_dagster.fusion.grants import grant_of
from mlc_dagster.fusion.login import BasicLogin, FusionCredentials, Login
from mlc_dagster.fusion.pacing import Limiter
from mlc_dagster.fusion.paging import collection_params, query_string, read_pages
from mlc_dagster.fusion.q import MAX_URL
from mlc_dagster.fusion.tls import trusted_context
from mlc_dagster.fusion.token import Tokens
from mlc_dagster.fusion.transport import Exchange, Transport, TransportFailure
from mlc_dagster.settings import FusionSettings

__all__ = ["Exchange", "FusionClient", "Seams"]

RowT = TypeVar("RowT")

ROOT = "/fscmRestApi/resources/11.13.18.05/"
READ_ATTEMPTS = 6

ERROR_TYPE = "application/vnd.oracle.adf.error+json"
COLLECTION_TYPE = "application/vnd.oracle.adf.resourcecollection+json"
ITEM_TYPE = "application/vnd.oracle.adf.resourceitem+json"
ACTION_TYPE = "application/vnd.oracle.adf.action+json"
ACTION_RESULT_TYPE = "application/vnd.oracle.adf.actionresult+json"

OVERLOAD_STATUSES = frozenset({429, 502, 503, 504})
"""Answers that speak for too many requests; 500 is about the one request."""

_RETRIED_READS = frozenset({408, 409, 429})


class Seams(NamedTuple):
    """Time and chance, replaced by tests: monotonic seconds, waiting, a number in 0..1, the wall clock in UTC."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], float] = random.random
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)


class FusionClient:
    """Reads and writes of one Fusion environment; use as an async context manager, within one event loop."""

    def __init__(
        self,
        settings: FusionSettings,
        credentials: FusionCredentials,
        *,
        report: Callable[[Exchange], None] | None = None,
        seams: Seams | None = None,
    ) -> None:
        """``report`` is called for every HTTP request, those to the token endpoint included; it must not raise.

        Raises:
            SettingsError: a key or a certificate cannot be used.
        """
        seams = seams or Seams()
        self.settings = settings
        self.whole_rows: set[str] = set()
        """Collections of which this environment does not know some attribute: their rows come with all they have."""
        self.limiter = Limiter(settings.max_in_flight, clock=seams.clock)
        self._seams = seams
        self._transport = Transport(
            (settings.base_url, settings.token_url) if settings.token_url else (settings.base_url,),
            connections=settings.max_in_flight + 1,
            tls=trusted_context(settings, credentials.client_key, credentials.client_key_passphrase),
            report=report,
        )
        self._backoff = Backoff(retry_after_cap=settings.retry_after_cap, sleep=seams.sleep, draw=seams.draw)
        self._login = self._login_of(credentials)

    def __repr__(self) -> str:
        return f"FusionClient({self.settings.base_url!r}, user={self.settings.posting_user!r})"

    def _login_of(self, credentials: FusionCredentials) -> Login:
        if self.settings.auth == "basic":
            return BasicLogin(self.settings.posting_user, credentials.password or "")
        return Tokens(
            self.settings,
            grant_of(self.settings, credentials),
            self._transport,
            backoff=self._backoff,
            clock=self._seams.clock,
            now=self._seams.now,
        )

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._login.close()
        await self._transport.__aexit__(exc_type, exc, traceback)

    async def read(self, path: str, params: Mapping[str, str] | None = None) -> Answer:
        """GETs ``path`` (below the version root) until it succeeds, at most READ_ATTEMPTS times.

        Raises:
            RemoteDown: still 408, 409, 429, 5xx or no answer after the last attempt.
            NotAuthorised, AccessRefused, BusinessRefusal: at once.
            Untrusted: at once.
            ResponseInvalid: success without content, or with more than max_response_bytes.
        """
        where = f"GET {path}"
        target = self._target(path, params)
        headers = self._headers(f"{COLLECTION_TYPE}, {ITEM_TYPE}, application/json, {ERROR_TYPE}")
        reason = ""
        for attempt in range(1, READ_ATTEMPTS + 1):
            wait: float | None = None
            try:
                answer = await self._exchange("GET", target, headers, attempt=attempt)
            except TransportFailure as failure:
                reason = failure.reason
                if failure.kind == "untrusted":
                    raise Untrusted(reason, where=where) from failure
                if failure.kind == "too_large":
                    limit = "fusion.max_response_bytes; raise it, or lower fusion.page_size"
                    raise ResponseInvalid(f"{reason}, the limit of {limit}", where=where) from failure
            else:
                if answer.status == 200:
                    return answer
                if answer.status not in _RETRIED_READS and answer.status < 500:
                    raise await self._read_failure(answer, target, where)
                reason = f"HTTP {answer.status}: {answers.read_details(answer)[0].text}"
                wait = answers.retry_after(answer, self._seams.now())
            if attempt < READ_ATTEMPTS:
                await self._backoff.wait(attempt, wait)
        msg = f"{READ_ATTEMPTS} attempts, the last: {reason}"
        raise RemoteDown(msg, where=where)

    async def write(
        self,
        path: str,
        body: bytes,
        *,
        content_type: str = "application/json",
        accept: str = ITEM_TYPE,
        granted: Callable[[], None] | None = None,
        before_first_byte: Callable[[], None] | None = None,
    ) -> Answer:
        """POSTs ``body`` once and returns the complete 2xx answer.

        ``granted`` is called when the request has its slot, before a token is asked for or a connection opened;
        ``before_first_byte`` directly before the body leaves, again if a refused token makes it leave a second time.
        What they raise reaches the caller unchanged and nothing is sent. A cancelled write may have been received.

        Raises:
            NotSent, RemoteDown (no token), NotAuthorised, AccessRefused, Refused, BusinessRefusal: Fusion did not act.
            OutcomeUnknown: it may have.
        """
        where = f"POST {path}"
        headers = self._headers(f"{accept}, application/json, {ERROR_TYPE}") | {"Content-Type": content_type}
        try:
            answer = await self._exchange(
                "POST", self._target(path), headers, body=body, granted=granted, before_first_byte=before_first_byte
            )
        except TransportFailure as failure:
            if failure.body_started:
                raise OutcomeUnknown(failure.reason, where=where) from failure
            raise NotSent(failure.reason, where=where) from failure
        error = answers.write_failure(answer, where=where, now=self._seams.now())
        if error is not None:
            raise self._with_remedy(error)
        return answer

    def pages(
        self,
        resource_path: str,
        row_type: type[RowT],
        *,
        q: str | None = None,
        fields: str | Sequence[str] | None = None,
        expand: str | Sequence[str] | None = None,
        order_by: str | None = None,
        finder: str | None = None,
        limit: int | None = None,
        params: Mapping[str, str] | None = None,
    ) -> AsyncIterator[list[RowT]]:
        """Pages of a collection as rows of ``row_type``; see ``paging``. ``order_by`` should name a unique attribute.

        Raises:
            ResponseInvalid: an answer that is not a page of such rows.
            FusionError: as ``read``.
        """
        chosen = collection_params(q=q, fields=fields, expand=expand, order_by=order_by, finder=finder, params=params)
        return read_pages(self, resource_path, row_type, chosen, limit=limit or self.settings.page_size)

    def room_in_url(self, path: str, params: Mapping[str, str]) -> int:
        """Encoded characters left for values when ``params`` (with ``q`` but for its values) go to ``path``."""
        paging = {"limit": "000", "offset": "000000"}
        return MAX_URL - len(self._target(path, {**params, **paging}))

    def _target(self, path: str, params: Mapping[str, str] | None = None) -> str:
        url = f"{self.settings.base_url}{ROOT}{path}"
        return f"{url}?{query_string(params)}" if params else url

    def _headers(self, accept: str) -> dict[str, str]:
        return {"Accept": accept, "REST-Framework-Version": str(self.settings.framework_version)}

    async def _exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        *,
        attempt: int = 1,
        body: bytes | None = None,
        granted: Callable[[], None] | None = None,
        before_first_byte: Callable[[], None] | None = None,
    ) -> Answer:
        async def send(authorization: str) -> Answer:
            return await self._transport.send(
                method,
                target,
                headers={**headers, "Authorization": authorization},
                deadline=self.settings.request_timeout,
                max_bytes=self.settings.max_response_bytes,
                attempt=attempt,
                body=body,
                before_first_byte=before_first_byte,
            )

        async with self.limiter.slot() as slot:
            if granted is not None:
                granted()
            try:
                answer = await self._login.signed(send)
            except TransportFailure:
                slot.answered(refused=True)
                raise
            slot.answered(refused=answer.status in OVERLOAD_STATUSES)
            if answer.status == 429 and (wait := answers.retry_after(answer, self._seams.now())):
                # A rate limit counts for all of us; a 503 may concern this one request alone.
                self.limiter.pause(wait)
        return answer

    def _with_remedy(self, error: Exception) -> Exception:
        if isinstance(error, NotAuthorised):
            return NotAuthorised(error.reason, where=error.where, remedy=self._login.remedy, status=error.status)
        return error

    async def _read_failure(self, answer: Answer, target: str, where: str) -> Exception:
        if 200 <= answer.status < 300:
            return ResponseInvalid(f"HTTP {answer.status} to a read", where=where)
        if answer.status != 406:
            return self._with_remedy(answers.refusal(answer, where=where))
        # Some resources answer 406 with nothing in it to the version header and the error type together; asked
        # plainly they say what is wrong. The plain answer is for the message only: its rows would be another version's.
        try:
            plain = await self._exchange("GET", target, {"Accept": "application/json"}, attempt=2)
        except (TransportFailure, NotAuthorised, RemoteDown) as failure:
            return AccessRefused(406, (ErrorDetail(None, None, f"asked plainly: {failure}"),), where=where)
        if plain.status >= 400:
            return AccessRefused(406, answers.read_details(plain), where=where)
        said = f"asked plainly it answers HTTP {plain.status}"
        return AccessRefused(406, (ErrorDetail(None, None, said),), where=where)


def path_below_root(href: str) -> str | None:
    """The resource path of a link of Fusion's; host and port are dropped, so a token never follows a link elsewhere."""
    path = urlsplit(href).path
    _, found, rest = path.partition("/fscmRestApi/resources/")
    version, separator, resource = rest.partition("/")
    return resource if found and version and separator and resource else None
