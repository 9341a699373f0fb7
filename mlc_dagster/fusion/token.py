"""Access tokens by OAuth2, from the identity domain of the Fusion environment.

One token serves all requests; it is renewed before it expires and when Fusion refuses it, by one request however
many wait. The secret and the token stay inside: no repr, no error text carries them.
"""

import asyncio
import datetime as dt
from collections.abc import Callable
from urllib.parse import urlencode

import msgspec

from mlc_dagster.fusion.answers import BUSY_STATUSES, Answer, read_details
from mlc_dagster.fusion.backoff import Backoff
from mlc_dagster.fusion.errors import NotAuthorised, Redirected, RemoteDown, Untrusted
from mlc_dagster.fusion.grants import Grant, TokenRequest
from mlc_dagster.fusion.login import Send, scrubbed
from mlc_dagster.fusion.transport import Transport, TransportFailure
from mlc_dagster.fusion.wire import item_of
from mlc_dagster.settings import FusionSettings
from mlc_dagster.vault import SecretText

RENEW_BEFORE = 300.0
"""Seconds before expiry at which a token is renewed."""

ATTEMPTS = 4
MAX_BYTES = 256 * 1024
"""A token and its wrapping are a few kilobytes."""
WHERE = "token endpoint"


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: float = 3600.0

    def __repr__(self) -> str:
        return f"_TokenAnswer(expires_in={self.expires_in:g})"


class _Held(msgspec.Struct):
    token: str
    renew_at: float
    expires_at: float

    def __repr__(self) -> str:
        return f"_Held(expires_at={self.expires_at:g})"


class Tokens:
    """Holds the current token. ``clock`` counts seconds monotonically."""

    def __init__(
        self,
        settings: FusionSettings,
        grant: Grant,
        transport: Transport,
        *,
        backoff: Backoff,
        clock: Callable[[], float],
        now: Callable[[], dt.datetime],
    ) -> None:
        """``now`` is the wall clock, which assertions carry."""
        self.remedy = grant.remedy
        self._settings = settings
        self._grant = grant
        self._now = now
        self._transport = transport
        self._backoff = backoff
        self._clock = clock
        self._held: _Held | None = None
        self._flight: asyncio.Task[str] | None = None

    def __repr__(self) -> str:
        return f"Tokens({self._settings.client_id!r})"

    async def signed(self, send: Send) -> Answer:
        """See ``login.Login``."""
        token = await self.current()
        answer = await send(f"Bearer {token}")
        if answer.status == 401:
            token = await self.after_refusal(token)
            answer = await send(f"Bearer {token}")
        return scrubbed(answer, (token,))

    async def current(self) -> str:
        """A token good for the next minutes.

        Raises:
            NotAuthorised: the endpoint refuses the credentials or the scope.
            RemoteDown: the endpoint does not answer, or is not trusted.
            Redirected: it is elsewhere.
        """
        held = self._held
        if held is not None and self._clock() < held.renew_at:
            return held.token
        try:
            return await self._renewed()
        except RemoteDown:
            held = self._held
            if held is None or self._clock() >= held.expires_at:
                raise
            return held.token

    async def after_refusal(self, refused: str) -> str:
        """A token other than ``refused``; asks for one unless another request already did. Raises as ``current``."""
        if self._held is not None and self._held.token != refused:
            return self._held.token
        self._held = None
        return await self._renewed()

    async def close(self) -> None:
        """Stops a renewal that is under way."""
        if self._flight is not None and not self._flight.done():
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    async def _renewed(self) -> str:
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._fetch())
            # Every waiter may be gone by the time it fails; the failure is then nobody's and must not be warned about.
            self._flight.add_done_callback(lambda flight: flight.cancelled() or flight.exception())
        # Shielded: the one who asked first may be cancelled while others wait for the same answer.
        return await asyncio.shield(self._flight)

    async def _fetch(self) -> str:
        reason = ""
        for attempt in range(1, ATTEMPTS + 1):
            if attempt > 1:
                await self._backoff.wait(attempt - 1)
            asked = self._clock()
            request = self._grant.request(self._now())
            try:
                answer = await self._ask(request, attempt)
            except TransportFailure as failure:
                reason = failure.reason
                if failure.kind == "untrusted":
                    raise Untrusted(reason, where=WHERE) from failure
                if failure.kind == "too_large":
                    break
                continue
            # Before any text is cut: half a secret is one too.
            answer = scrubbed(answer, request.secrets)
            if answer.status in BUSY_STATUSES or answer.status == 408 or answer.status >= 500:
                reason = f"HTTP {answer.status}"
                continue
            if 300 <= answer.status < 400:
                location = answer.headers.get("location", "")
                raise Redirected(answer.status, location, where=WHERE, setting="fusion.token_url")
            if answer.status != 200:
                raise NotAuthorised(f"HTTP {answer.status}: {_said(answer)}", where=WHERE, remedy=self.remedy)
            try:
                granted = item_of(_TokenAnswer, answer.content)
            except (msgspec.DecodeError, UnicodeDecodeError):
                reason = "HTTP 200 without an access_token"
                continue
            self._grant.remember([granted.access_token])
            # A lifetime below twice the margin would be renewed at every request; half of it serves then.
            lifetime = max(0.0, granted.expires_in)
            self._held = _Held(
                SecretText(granted.access_token),
                asked + max(lifetime - RENEW_BEFORE, lifetime / 2),
                asked + lifetime,
            )
            return self._held.token
        raise RemoteDown(reason, where=WHERE)

    async def _ask(self, request: TokenRequest, attempt: int) -> Answer:
        return await self._transport.send(
            "POST",
            self._settings.token_url,
            headers={
                **request.headers,
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": "application/json",
            },
            body=urlencode(request.form).encode("ascii"),
            deadline=self._settings.request_timeout,
            max_bytes=MAX_BYTES,
            attempt=attempt,
        )


def _said(answer: Answer) -> str:
    detail = read_details(answer)[0]
    try:
        error = msgspec.json.decode(answer.content, type=dict[str, msgspec.Raw]).get("error")
    except (msgspec.DecodeError, UnicodeDecodeError):
        error = None
    return f"{bytes(error).decode().strip(chr(34))}: {detail.text}" if error is not None else detail.text
