"""How long to wait before the next attempt of a read: full jitter, and never sooner than the server asks."""

import asyncio
import random
from collections.abc import Awaitable, Callable

BASE = 0.5
"""Upper bound, in seconds, of the first wait; it doubles with every attempt."""

LONGEST = 20.0


class Backoff:
    """``sleep`` and ``draw`` (a number in 0..1) are passed in so that tests decide time and chance."""

    def __init__(
        self,
        *,
        retry_after_cap: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._retry_after_cap = retry_after_cap
        self._sleep = sleep
        self._draw = draw

    async def wait(self, failures: int, retry_after: float | None = None) -> None:
        """Waits after the ``failures``-th failed attempt; ``retry_after`` (seconds) is obeyed up to the cap."""
        jitter = self._draw() * min(LONGEST, BASE * 2 ** (failures - 1))
        # On top of what was asked for: those told the same moment must not all come back in it.
        await self._sleep(jitter + min(retry_after or 0.0, self._retry_after_cap))
