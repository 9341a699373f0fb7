"""What goes wrong on purpose: latency, refusals, cut connections, answers lost after the commit, gates.

A fault picks requests by method, path pattern, probability (seeded) and remaining count. Faults are added from a YAML
or JSON file, over HTTP, or by a test in the same process; the server asks ``matching`` once per request.
"""

import asyncio
import fnmatch
import itertools
import random
import threading
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import yaml

BEFORE: Final = (
    "latency",
    "status",
    "reset",
    "hang",
    "concurrency_cap",
    "revoked",
    "token_down",
    "zero_rows",
    "wrong_dialect",
    "commit_late",
)
AFTER: Final = (
    "commit_then_hang",
    "commit_then_reset",
    "commit_then_status",
    "cut_off",
    "truncated",
    "stuck",
    "trickle",
)
KINDS: Final = (*BEFORE, *AFTER)
QUIRKS: Final = ("has_more_always_false", "has_more_always_true", "shuffled_pages", "no_items_when_empty")
"""Ways in which answers mislead; ``shuffled_pages`` only where the request gives no orderBy."""


@dataclass
class Fault:
    """One fault.

    ``path`` is a shell pattern on the path below the version segment (``invoices``, ``invoices/*``, ``*LOV``); the
    token endpoint is ``oauth2/v1/token`` and ``*`` does not reach it. ``count`` is how often it still strikes, ``skip``
    how many matching requests pass first; with ``every``, only the first ``burst`` of every so many are struck.
    ``seconds`` is the latency, the pause before each part of a trickle, or how long a hang lasts (0: until the client
    gives up); ``retry_after`` is sent as is, ``retry_at`` (seconds from now) as a date by Fusion's clock. The
    ``commit_…`` kinds mean POST unless a method is given.

    Of the kinds, ``zero_rows`` hides every row and ``wrong_dialect`` those that a ``q`` asks for; ``commit_late`` keeps
    an invoice back until ``reads`` look-ups by its number were answered, stores it then, and answers nothing;
    ``cut_off`` ends within the announced length, ``truncated`` announces the half that it sends, ``stuck`` sends half
    and keeps the connection open.
    """

    kind: str
    method: str | None = None
    path: str = "*"
    probability: float = 1.0
    count: int | None = None
    skip: int = 0
    status: int = 503
    retry_after: str | float | None = None
    body: str = ""
    content_type: str = "text/html"
    retry_at: float | None = None
    seconds: float = 0.0
    jitter: float = 0.0
    cap: int = 8
    every: int = 0
    burst: int = 1
    reads: int = 1
    fault_id: int = 0
    fired: int = 0
    seen: int = 0

    def __post_init__(self) -> None:
        # The address for administration reads JSON numbers as Decimal, as is right for money.
        self.probability, self.seconds, self.jitter = float(self.probability), float(self.seconds), float(self.jitter)
        if isinstance(self.retry_after, Decimal):
            self.retry_after = float(self.retry_after)
        self.retry_at = None if self.retry_at is None else float(self.retry_at)
        if self.kind not in KINDS:
            msg = f"fault kind {self.kind!r} is not one of {', '.join(KINDS)}"
            raise ValueError(msg)
        if self.kind == "token_down" and self.path == "*":
            self.path = TOKEN_PATH
        if self.kind.startswith("commit_") and self.method is None:
            self.method = "POST"

    def describe(self) -> dict[str, Any]:
        return dict(vars(self))


TOKEN_PATH: Final = "oauth2/v1/token"


@dataclass
class Gate:
    """Holds matching requests until ``release`` or ``drop``.

    ``stage`` is ``before`` (nothing done yet) or ``after`` (committed, not answered).
    """

    method: str | None
    path: str
    stage: str
    gate_id: int
    limit: int | None = None
    """How many requests it holds before it lets all others pass; None for every one."""
    _open: bool = False
    _dropped: bool = False
    _passed: int = 0
    _held: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = field(
        default_factory=list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]
    )

    @property
    def held(self) -> int:
        """Requests waiting at the gate now."""
        return self._held

    def wait_held(self, timeout: float = 10.0, *, requests: int = 1) -> bool:
        """Waits until so many requests have arrived at the gate; False when ``timeout`` seconds pass first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._passed >= requests, timeout)

    def release(self) -> None:
        """Lets every held request go on, and all later ones pass."""
        self._let_go(dropped=False)

    def drop(self) -> None:
        """Cuts every held connection, as if the request never arrived (or its answer was lost); later ones pass."""
        self._let_go(dropped=True)

    def _let_go(self, *, dropped: bool) -> None:
        with self._changed:
            self._dropped = self._dropped or dropped
            self._open = True
            waiters, self._waiters = self._waiters, []
            self._changed.notify_all()
        for loop, event in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

    def matches(self, method: str, path: str, stage: str) -> bool:
        if self._open or stage != self.stage or not _selects(self.method, self.path, method, path):
            return False
        return self.limit is None or self._passed < self.limit

    async def hold(self) -> bool:
        """Waits; False when the request must not go on. For the server."""
        event = asyncio.Event()
        with self._changed:
            if self._open:
                return True
            self._waiters.append((asyncio.get_running_loop(), event))
            self._passed += 1
            self._held += 1
            self._changed.notify_all()
        try:
            await event.wait()
            return not self._dropped
        finally:
            with self._changed:
                self._held -= 1
                self._changed.notify_all()

    def describe(self) -> dict[str, Any]:
        return {
            "gate_id": self.gate_id,
            "method": self.method,
            "path": self.path,
            "stage": self.stage,
            "held": self._held,
            "arrived": self._passed,
            "open": self._open,
        }


class Faults:
    """The faults of one server; safe to change from any thread while requests run."""

    def __init__(self, seed: int = 20261121) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._random = random.Random(seed)
        self._faults: list[Fault] = []
        self._gates: dict[int, Gate] = {}
        self.quirks: set[str] = set()

    def add(self, kind: str, **properties: Any) -> Fault:
        """Adds a fault; properties are those of ``Fault``. Raises ValueError for an unknown kind or property."""
        try:
            fault = Fault(kind, **properties)
        except TypeError as error:
            msg = f"fault {kind}: {error}"
            raise ValueError(msg) from None
        with self._lock:
            fault.fault_id = next(self._numbers)
            self._faults.append(fault)
        return fault

    def remove(self, fault: Fault | int) -> None:
        number = fault if isinstance(fault, int) else fault.fault_id
        with self._lock:
            self._faults = [kept for kept in self._faults if kept.fault_id != number]

    def clear(self) -> None:
        """No faults and no quirks any more; gates open."""
        with self._lock:
            self._faults.clear()
            gates, self._gates = list(self._gates.values()), {}
        self.quirks.clear()
        for gate in gates:
            gate.release()

    def add_quirk(self, name: str) -> None:
        if name not in QUIRKS:
            msg = f"quirk {name!r} is not one of {', '.join(QUIRKS)}"
            raise ValueError(msg)
        self.quirks.add(name)

    def gate(
        self, *, method: str | None = None, path: str = "*", stage: str = "before", limit: int | None = None
    ) -> Gate:
        """Closes a gate for matching requests."""
        if stage not in {"before", "after"}:
            msg = f"stage {stage!r} is neither before nor after"
            raise ValueError(msg)
        with self._lock:
            gate = Gate(method, path, stage, next(self._numbers), limit)
            self._gates[gate.gate_id] = gate
        return gate

    def find_gate(self, gate_id: int) -> Gate | None:
        return self._gates.get(gate_id)

    def describe(self) -> dict[str, Any]:
        with self._lock:
            return {
                "faults": [fault.describe() for fault in self._faults],
                "gates": [gate.describe() for gate in self._gates.values()],
                "quirks": sorted(self.quirks),
            }

    def matching(self, method: str, path: str) -> list[Fault]:
        """The faults that strike this request, each counted as fired; for the server."""
        if not self._faults:
            return []
        struck: list[Fault] = []
        with self._lock:
            for fault in self._faults:
                if fault.count == 0 or not _selects(fault.method, fault.path, method, path):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                if fault.every:
                    fault.seen += 1
                    if (fault.seen - 1) % fault.every >= fault.burst:
                        continue
                if fault.probability < 1.0 and self._random.random() >= fault.probability:
                    continue
                if fault.kind != "concurrency_cap":
                    fault.fired += 1
                    fault.count = None if fault.count is None else fault.count - 1
                struck.append(fault)
        return struck

    def gates_for(self, method: str, path: str, stage: str) -> list[Gate]:
        if not self._gates:
            return []
        with self._lock:
            return [gate for gate in self._gates.values() if gate.matches(method, path, stage)]

    def delay(self, fault: Fault) -> float:
        """Seconds of a latency fault, jitter included."""
        with self._lock:
            return fault.seconds + (self._random.random() * fault.jitter if fault.jitter else 0.0)

    def load(self, source: Path | str | dict[str, Any]) -> None:
        """Reads ``faults`` and ``quirks`` from a YAML or JSON file, or from a dictionary of the same shape."""
        document = source if isinstance(source, dict) else yaml.safe_load(Path(source).read_text("utf-8")) or {}
        unknown = set(document) - {"faults", "quirks"}
        if unknown:
            msg = f"{source}: unknown keys {', '.join(sorted(map(str, unknown)))}"
            raise ValueError(msg)
        for entry in document.get("faults", []):
            properties = dict(entry)
            self.add(properties.pop("kind", ""), **properties)
        for quirk in document.get("quirks", []):
            self.add_quirk(quirk)


def _selects(wanted_method: str | None, pattern: str, method: str, path: str) -> bool:
    if wanted_method is not None and wanted_method.upper() != method:
        return False
    if path == TOKEN_PATH and pattern == "*":
        return False
    return pattern in {"*", path} or fnmatch.fnmatchcase(path, pattern)
