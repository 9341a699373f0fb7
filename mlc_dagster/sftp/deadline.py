"""The time a whole session may take.

What belongs here: the clock that closes a connection from outside. A server that trickles one byte per channel timeout
keeps every single request alive for ever; only closing the transport under it ends that.
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Deadline:
    """Calls what was handed to ``closes`` once, ``seconds`` after entering, unless left before."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._expired = False
        self._close: Callable[[], None] | None = None
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    @property
    def expired(self) -> bool:
        """True once the time is over, whether or not there was anything to close."""
        return self._expired

    @property
    def remaining(self) -> float:
        """Seconds left, never below a millisecond because a time-out of 0 means "do not wait" to sockets."""
        return max(self._end - time.monotonic(), 0.001)

    def closes(self, close: Callable[[], None]) -> None:
        """Names what ends the session; replaces an earlier one. Called at once when the time is over already."""
        with self._lock:
            self._close = close
            expired = self._expired
        if expired:
            close()

    def _expire(self) -> None:
        with self._lock:
            self._expired = True
            close = self._close
        if close is not None:
            close()

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
