"""Signing in to Fusion, in the way that ``fusion.auth`` names: what stands in the Authorization header of a request.

What belongs here: the choice between the ways, Basic, and keeping credentials out of what an answer says. What does
not: tokens (``token``) and how they are asked for (``grants``).
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from mlc_dagster.fusion.answers import Answer
from mlc_dagster.fusion.errors import NotAuthorised
from mlc_dagster.vault import redact

Remember = Callable[[Iterable[str]], None]
"""Told of short-lived credentials, so that they are kept out of logs: tokens and assertions."""


def forget(values: Iterable[str]) -> None:
    """Remembers nothing."""


Send = Callable[[str], Awaitable[Answer]]
"""Sends the request with the given Authorization header."""


@dataclass(frozen=True, slots=True)
class FusionCredentials:
    """The secrets behind the references of ``fusion:``, and who hears of tokens. Never shown by ``repr``."""

    client_secret: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    assertion_key: str | None = field(default=None, repr=False)
    assertion_key_passphrase: str | None = field(default=None, repr=False)
    client_key: str | None = field(default=None, repr=False)
    client_key_passphrase: str | None = field(default=None, repr=False)
    remember: Remember = field(default=forget, repr=False)


class Login(Protocol):
    """One way to sign in."""

    remedy: str
    """What to check when Fusion refuses it."""

    async def signed(self, send: Send) -> Answer:
        """The answer to a signed request; a token that Fusion refuses is replaced once.

        Raises:
            NotAuthorised, RemoteDown: there is nothing to sign with; the request was not sent.
        """
        ...

    async def close(self) -> None:
        """Stops what is under way."""
        ...


class BasicLogin:
    """User name and password at every request.

    A wrong password, sent sixteen times at once, locks the account. So the first request goes alone, and after a
    refusal no other goes at all.
    """

    remedy = "check username and password, and that the account is neither locked nor kept from Basic"

    def __init__(self, username: str, password: str) -> None:
        encoded = base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
        self._header = f"Basic {encoded}"
        self._secrets = (password, encoded)
        self._username = username
        self._first = asyncio.Lock()
        self._proven = False
        self._refused = False

    def __repr__(self) -> str:
        return f"BasicLogin({self._username!r})"

    async def signed(self, send: Send) -> Answer:
        if self._proven:
            return await self._sent(send)
        async with self._first:
            if not self._proven:
                return await self._sent(send)
        return await self._sent(send)

    async def _sent(self, send: Send) -> Answer:
        if self._refused:
            reason = "refused a moment ago, and not sent again, lest the account be locked"
            raise NotAuthorised(reason, remedy=self.remedy)
        answer = await send(self._header)
        self._refused = answer.status == 401
        self._proven = not self._refused
        return scrubbed(answer, self._secrets)

    async def close(self) -> None:
        pass


def scrubbed(answer: Answer, secrets: Iterable[str]) -> Answer:
    """``answer`` without ``secrets`` in it, where it is one whose text is shown: error pages repeat what was sent."""
    if 200 <= answer.status < 300:
        return answer
    known = list(secrets)
    content = redact(answer.content.decode("utf-8", "surrogateescape"), known).encode("utf-8", "surrogateescape")
    headers = httpx.Headers([(name, redact(value, known)) for name, value in answer.headers.items()])
    return Answer(answer.status, headers, content)
