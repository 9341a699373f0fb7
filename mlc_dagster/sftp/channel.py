"""SFTP channels of one transport: opened when first used, replaced after trouble.

What belongs here: the life of a channel and its time-outs. What does not: what is asked over it. One channel serves one
thread: two threads on one paramiko client dead-lock (paramiko #718); several channels of one transport do not.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

import paramiko

from .errors import FileTooLarge, FileVanished, NoSuchPath, PermissionRefused, SftpTimeout, TargetExists
from .translation import Endpoint

# After these the channel has answered everything that was asked and can go on. After anything else answers may still
# be on their way (a prefetch cannot be called back, paramiko #2454), so a fresh channel takes its place.
_HARMLESS = (NoSuchPath, PermissionRefused, FileVanished, TargetExists, FileTooLarge)


class SftpChannel:
    """A place for one open channel. Not thread-safe; give each thread its own."""

    def __init__(self, transport: paramiko.Transport, endpoint: Endpoint, timeout: float) -> None:
        self.endpoint = endpoint
        self._transport = transport
        self._timeout = timeout
        self._client: paramiko.SFTPClient | None = None

    @contextmanager
    def use(self, operation: str, path: str = "") -> Generator[paramiko.SFTPClient]:
        """The client for one operation, every exception translated.

        Raises:
            SftpError: whatever the operation ran into; ``operation`` and ``path`` are named in it.
        """
        try:
            with self.endpoint.remote(operation, path):
                yield self._opened()
        except _HARMLESS:
            raise
        except BaseException:
            self.close()
            raise

    def open(self) -> None:
        """Opens the channel unless it is open.

        Raises:
            SftpError: the server allows no further session, or the connection is gone.
        """
        with self.use("opening an SFTP channel"):
            pass

    def _opened(self) -> paramiko.SFTPClient:
        if self._client is None:
            self._client = self._open()
        return self._client

    def _open(self) -> paramiko.SFTPClient:
        with self.endpoint.remote("opening an SFTP channel"):
            channel = self._transport.open_session(timeout=self._timeout)
            channel.settimeout(self._timeout)
            # Asking for the subsystem is the one wait to which paramiko gives no limit at all.
            late = threading.Event()

            def give_up() -> None:
                late.set()
                channel.close()

            timer = threading.Timer(self._timeout, give_up)
            timer.daemon = True
            timer.start()
            try:
                channel.invoke_subsystem("sftp")
                return paramiko.SFTPClient(channel)
            except (paramiko.SSHException, EOFError, OSError) as error:
                channel.close()
                if late.is_set():
                    self.endpoint.check_deadline("opening an SFTP channel")
                    raise SftpTimeout(self.endpoint.host, "opening an SFTP channel") from error
                raise
            finally:
                timer.cancel()

    def close(self) -> None:
        """Closes the channel, if any; the next use opens another."""
        client, self._client = self._client, None
        if client is not None and self._transport.is_active():
            # The connection may break between the look and the farewell; what is closed then is closed.
            with suppress(EOFError, OSError, paramiko.SSHException):
                client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
