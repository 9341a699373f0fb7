"""Access tokens by OAuth2 client credentials, from the identity domain of the Fusion environment.

One token serves all requests; it is renewed before it expires and when Fusion refuses it, by one request however
many wait. The secret and the token stay inside: no repr, no error text carries them.
"""

import asyncio
import base64
from collections.abc import Callable
from urllib.parse import urlencode

import msgspec

from mlc_dagster.fusion.answers import BUSY_STATUSES, Answer, read_details
from mlc_dagster.fusion.backoff import Backoff
from mlc_dagster.fusion.errors import NotAuthorised, RemoteDown
from mlc_dagster.fusion.transport import Transport, TransportFailure
from mlc_dagster.fusion.wire import item_of
from mlc_dagster.settings import FusionSettings

RENEW_BEFORE = 300.0
"""Seconds before expiry at which a token is renewed."""

ATTEMPTS = 4
WHERE = "token endpoint"


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: float = 3600.0


class _Held(msgspec.Struct):
    token: str
    renew_at: float
    expires_at: float


class Tokens:
    """Holds the current token. ``clock`` counts seconds monotonically."""

    def __init__(
        self,
        settings: FusionSettings,
        client_secret: str,
        transport: Transport,
        *,
        backoff: Backoff,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._client_secret = client_secret
        self._transport = transport
        self._backoff = backoff
        self._clock = clock
        self._held: _Held | None = None
        self._flight: asyncio.Task[str] | None = None

    def __repr__(self) -> str:
        return f"Tokens({self._settings.client_id!r})"

    async def current(self) -> str:
        """A token good for the next minutes.

        Raises:
            NotAuthorised: the endpoint refuses the credentials or the scope.
            RemoteDown: the endpoint does not answer.
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
            try:
                answer = await self._ask(attempt)
            except TransportFailure as failure:
                reason = failure.reason
                continue
            if answer.status in BUSY_STATUSES or answer.status == 408 or answer.status >= 500:
                reason = f"HTTP {answer.status}"
                continue
            if answer.status != 200:
                raise NotAuthorised(self._scrubbed(f"HTTP {answer.status}: {_said(answer)}"), where=WHERE)
            try:
                granted = item_of(_TokenAnswer, answer.content)
            except (msgspec.DecodeError, UnicodeDecodeError):
                reason = "HTTP 200 without an access_token"
                continue
            # A lifetime below twice the margin would be renewed at every request; half of it serves then.
            lifetime = max(0.0, granted.expires_in)
            self._held = _Held(
                granted.access_token, asked + max(lifetime - RENEW_BEFORE, lifetime / 2), asked + lifetime
            )
            return granted.access_token
        raise RemoteDown(self._scrubbed(reason), where=WHERE)

    async def _ask(self, attempt: int) -> Answer:
        settings = self._settings
        login = base64.b64encode(f"{settings.client_id}:{self._client_secret}".encode()).decode("ascii")
        form = urlencode({"grant_type": "client_credentials", "scope": settings.scope})
        return await self._transport.send(
            "POST",
            settings.token_url,
            headers={
                "Authorization": f"Basic {login}",
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": "application/json",
            },
            body=form.encode("ascii"),
            deadline=settings.request_timeout,
            attempt=attempt,
        )

    def _scrubbed(self, text: str) -> str:
        return text.replace(self._client_secret, "***") if self._client_secret else text


def _said(answer: Answer) -> str:
    detail = read_details(answer)[0]
    try:
        error = msgspec.json.decode(answer.content, type=dict[str, msgspec.Raw]).get("error")
    except (msgspec.DecodeError, UnicodeDecodeError):
        error = None
    return f"{bytes(error).decode().strip(chr(34))}: {detail.text}" if error is not None else detail.text
