"""One attempt per question: the connectors' client without its retries, and what the token endpoint said.

A doctor says what happened; waiting until it passes is for runs.
"""

import asyncio
import base64
import binascii
import datetime as dt
import json
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from mlc_dagster.doctor.findings import Cause, Wrong
from mlc_dagster.fusion.answers import Answer
from mlc_dagster.fusion.backoff import Backoff
from mlc_dagster.fusion.client import ROOT, Exchange, FusionClient, Seams
from mlc_dagster.fusion.grants import grant_of
from mlc_dagster.fusion.login import FusionCredentials
from mlc_dagster.fusion.tls import trusted_context
from mlc_dagster.fusion.token import Tokens
from mlc_dagster.fusion.transport import Transport, TransportFailure
from mlc_dagster.settings import FusionSettings

T = TypeVar("T")
_SAYS_ENOUGH = 64 * 1024


class _Again(Exception):
    """The client would wait and try again."""


async def _never(seconds: float) -> None:
    raise _Again(f"{seconds:g} s")


class _Heard(Transport):
    """Keeps the last answer: a token's lifetime is in it, which the product itself does not tell anybody."""

    answer: Answer | None = None

    async def send(self, *arguments: Any, **how: Any) -> Answer:
        self.answer = await super().send(*arguments, **how)
        return self.answer


class FusionSession:
    """A client, a token and an event loop of their own; use as a context manager."""

    def __init__(self, settings: FusionSettings, credentials: FusionCredentials) -> None:
        """Raises SettingsError: a key or a certificate cannot be used."""
        self.settings = settings
        self._credentials = credentials
        self._last: Exchange | None = None
        seams = Seams(sleep=_never)
        self._runner = asyncio.Runner()
        self.client = FusionClient(settings, credentials, report=self._note, seams=seams)

    def __enter__(self) -> Self:
        self._runner.run(self.client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._runner.run(self.client.__aexit__(kind, error, trace))
        finally:
            self._runner.close()

    def _note(self, exchange: Exchange) -> None:
        self._last = exchange

    def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """The answer to a connector's question, after one attempt per request.

        Raises:
            Wrong: no usable answer.
            FusionError: as the connector.
        """
        try:
            return self._runner.run(question)
        except _Again:
            raise self._down() from None

    def _down(self) -> Wrong:
        last = self._last
        said = "no answer" if last is None else last.error or f"HTTP {last.status}"
        where = "" if last is None else f"{last.method} {last.path.rpartition(ROOT)[2] or last.path}: "
        return Wrong(f"{where}{said}", "try again later; runs wait and try again by themselves", Cause.REMOTE)

    def token(self) -> dict[str, Any]:
        """What the token endpoint answers, without the token: ``expires_in`` and the token's readable claims.

        Raises:
            Wrong, FusionError: none is given.
        """
        return self.ask(self._token())

    async def _token(self) -> dict[str, Any]:
        settings, credentials = self.settings, self._credentials
        async with self._transport(settings.token_url) as transport:
            seams = Seams()
            backoff = Backoff(retry_after_cap=settings.retry_after_cap, sleep=_never)
            grant = grant_of(settings, credentials)
            tokens = Tokens(settings, grant, transport, backoff=backoff, clock=seams.clock, now=seams.now)
            try:
                value = await tokens.current()
            finally:
                await tokens.close()
            said = transport.answer
        document: dict[str, Any] = json.loads(said.content) if said is not None else {}
        return {"expires_in": document.get("expires_in"), "claims": _claims(value)}

    def date(self) -> tuple[str, dt.datetime, dt.datetime]:
        """The Date header of any answer of Fusion's, and our own time before and after; nobody is signed in."""
        return self._runner.run(self._date())

    async def _date(self) -> tuple[str, dt.datetime, dt.datetime]:
        url = f"{self.settings.base_url}{ROOT}"
        async with self._transport(self.settings.base_url) as transport:
            before = dt.datetime.now(dt.UTC)
            try:
                limit = self.settings.request_timeout
                answer = await transport.send("GET", url, headers={}, deadline=limit, max_bytes=_SAYS_ENOUGH)
            except TransportFailure as failure:
                raise Wrong(failure.reason, cause=Cause.REMOTE) from None
            return answer.headers.get("date", ""), before, dt.datetime.now(dt.UTC)

    def _transport(self, url: str) -> _Heard:
        key, passphrase = self._credentials.client_key, self._credentials.client_key_passphrase
        return _Heard((url,), connections=1, tls=trusted_context(self.settings, key, passphrase), report=self._note)


def _claims(token: str) -> dict[str, Any]:
    """The claims of a JWT; nothing for an opaque token. Its signature is Fusion's to check."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        decoded = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return {}
    return decoded if isinstance(decoded, dict) else {}
