"""One SFTP session at a time for a feed's deliveries: opened when needed, opened anew after trouble."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Self

from mlc_dagster.sftp import SftpSession

_FRESH_SHARE = 0.5


class Connection:
    """Hands out an open session; ``drop`` after a fault. A session has a deadline, so it is replaced well before."""

    def __init__(self, open_session: Callable[[], AbstractContextManager[SftpSession]], deadline: float) -> None:
        self._open = open_session
        self._fresh_for = deadline * _FRESH_SHARE
        self._stack = ExitStack()
        self._session: SftpSession | None = None
        self._opened_at = 0.0
        self.server_key: str | None = None
        """Fingerprint of the key that the latest server proved."""

    def session(self) -> SftpSession:
        """The open session; raises SftpError when there can be none."""
        if self._session is None:
            self._session = self._stack.enter_context(self._open())
            self._opened_at = time.monotonic()
            self.server_key = self._session.server_key
        return self._session

    def refresh(self) -> None:
        """Between two files: a session that has used up half its time would end in the middle of the next."""
        if self._session is not None and time.monotonic() - self._opened_at > self._fresh_for:
            self.drop()

    def drop(self) -> None:
        """Closes the session, if any."""
        self._session = None
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()
