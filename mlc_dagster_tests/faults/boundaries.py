"""Where a process can die: every commit, every request to Fusion, every packet to the SFTP server, every fsync.

Found by instrumentation of what all of them pass through, not by hand: code that is added later is met as well. A
boundary is named by what happens there and by its side (before, after).
"""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import paramiko
import sqlalchemy as sa
from paramiko.sftp import CMD_NAMES
from sqlalchemy import event
from sqlalchemy.engine.default import DefaultDialect

from mlc_dagster.fusion.transport import Transport

_SEND = "_send_packet"
"""What every request of paramiko's SFTP client passes through."""


class Boundaries:
    """Counts the boundaries that this process passes, and dies (SIGKILL) at one of them.

    ``at`` counts from 0; None lets the process live and only counts.
    """

    def __init__(self, at: int | None) -> None:
        self._at = at
        self._lock = threading.Lock()
        self.passed: list[str] = []

    def arrive(self, name: str) -> None:
        """The process is at a boundary."""
        with self._lock:
            self.passed.append(name)
            if self._at is not None and len(self.passed) > self._at:
                # As the kernel's out-of-memory killer does it: no clean-up runs.
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Instrument this process; for the rest of its life."""
        self._watch_commits()
        self._watch_requests()
        self._watch_packets()
        self._watch_disk()

    def _watch_commits(self) -> None:
        writing = threading.local()

        def at_commit(connection: sa.Connection) -> None:
            options = connection.get_execution_options()
            # A view for reading ends with a commit too, and leaves nothing behind.
            writing.now = not (options.get("mlc_read_only") or options.get("postgresql_readonly"))
            if writing.now:
                self.arrive("before commit")

        def do_commit(dialect: DefaultDialect, connection: Any) -> None:
            commit(dialect, connection)
            if getattr(writing, "now", False):
                writing.now = False
                self.arrive("after commit")

        commit = DefaultDialect.do_commit
        event.listen(sa.engine.Engine, "commit", at_commit)
        _replace(DefaultDialect, "do_commit", do_commit)

    def _watch_requests(self) -> None:
        send: Callable[..., Any] = Transport.send

        async def watched(transport: Transport, method: str, url: str, **named: Any) -> Any:
            self.arrive(f"before {method} {_shown(url)}")
            answer = await send(transport, method, url, **named)
            self.arrive(f"after {method} {_shown(url)}")
            return answer

        _replace(Transport, "send", watched)

    def _watch_packets(self) -> None:
        original: Callable[..., Any] = getattr(paramiko.SFTPClient, _SEND)

        def watched(client: paramiko.SFTPClient, kind: int, packet: Any) -> Any:
            self.arrive(f"before SFTP packet {CMD_NAMES.get(kind, kind)}")
            return original(client, kind, packet)

        _replace(paramiko.SFTPClient, _SEND, watched)

    def _watch_disk(self) -> None:
        sync, replace = os.fsync, os.replace

        def synced(descriptor: Any) -> None:
            self.arrive("before fsync")
            sync(descriptor)

        def replaced(*arguments: Any, **named: Any) -> None:
            self.arrive("before replace")
            replace(*arguments, **named)
            self.arrive("after replace")

        os.fsync, os.replace = synced, replaced


def _replace(owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)


def _shown(url: str) -> str:
    """The resource, without host, query and ids: names are for people."""
    path = url.partition("?")[0].rpartition("11.13.18.05/")[2] or url.rpartition("/")[2]
    return "/".join("{id}" if part.isdigit() else part for part in path.split("/"))
