"""What goes wrong on purpose at the embedded SFTP server while files are being put there.

Faults count down and can be set from any thread, also over HTTP when Fusion runs beside the server. What they do to a
connection is ``sftp``'s business. Reading is never disturbed, except by a server that is down.
"""

import threading
from dataclasses import asdict, dataclass
from typing import Any, Final

KINDS: Final = ("refuse_upload", "drop_upload", "fail_close", "fail_rename", "down")


@dataclass
class SftpFault:
    """One fault.

    Kinds: ``refuse_upload`` (OPEN for writing answers FAILURE), ``drop_upload`` (the connection is cut once ``after``
    bytes of a file were written), ``fail_close`` (CLOSE of a written file answers FAILURE, the bytes are there),
    ``fail_rename`` (RENAME answers FAILURE), ``down`` (the connection is cut at OPEN for writing; without a count
    nobody gets in at all). ``count`` is how often it still strikes, None for until it is cleared; ``skip`` how often it
    passes first; ``username`` None means every account.
    """

    kind: str
    count: int | None = 1
    skip: int = 0
    after: int = 0
    username: str | None = None
    fired: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            msg = f"SFTP fault {self.kind!r} is not one of {', '.join(KINDS)}"
            raise ValueError(msg)


class SftpFaults:
    """The faults of one server; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[SftpFault] = []

    def add(
        self,
        kind: str,
        *,
        count: int | None = 1,
        skip: int = 0,
        after: int = 0,
        username: str | None = None,
    ) -> SftpFault:
        """Adds a fault. Raises ValueError for an unknown kind."""
        fault = SftpFault(kind, count, skip, after, username)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Everything works again."""
        with self._lock:
            self._faults.clear()

    def describe(self) -> list[dict[str, Any]]:
        """The faults, spent ones included, as JSON-ready values."""
        with self._lock:
            return [asdict(fault) for fault in self._faults]

    @property
    def refusing_connections(self) -> bool:
        """Whether the server is down for everybody until it is cleared."""
        with self._lock:
            return any(fault.kind == "down" and fault.count is None for fault in self._faults)

    def strikes(self, kind: str, username: str, *, written: int = 0) -> bool:
        """For the server: whether a fault of this kind strikes now; it is counted then."""
        with self._lock:
            for fault in self._faults:
                wanted = fault.kind == kind and fault.username in {None, username}
                if not wanted or fault.count == 0 or written < fault.after:
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.fired += 1
                fault.count = None if fault.count is None else fault.count - 1
                return True
        return False
