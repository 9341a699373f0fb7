"""Posting a window's invoices to Fusion, each once.

The order never changes: absence proven, then claim and intent committed, then the request, then its outcome recorded.
An unknown outcome waits and is looked up twice before anything is sent again; a refused request once. The rest of the
window goes on meanwhile. What is due later than this run cares to wait is left to the next poll.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.ledger import control_rows, recovery
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.invoice_chunks import window_rows
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.submissions import MOST_UNKNOWN, Phase
from mlc_dagster.ledger.writer import LedgerWriter
from mlc_dagster.stampli.inbound import Inbound, WindowWork, silent
from mlc_dagster.stampli.posting.absence import AbsenceProver, DataAccessLost, Finding, Presence
from mlc_dagster.stampli.posting.adoption import Adoption, may_be_only
from mlc_dagster.stampli.posting.claiming import Claiming
from mlc_dagster.stampli.posting.earlier_attempts import EarlierAttempts
from mlc_dagster.stampli.posting.sending import PostingSummary, Sender
from mlc_dagster.stampli.posting.sought import sought_for
from mlc_dagster.stampli.posting.turns import Turns
from mlc_dagster.stampli.posting.uncertainty import Uncertainty

_CHUNK = 400
_LOW = 160
"""With so few invoices ready, the next ones are looked up while these are sent: about a second of posting."""
LOOKED_UP = (
    "id", "occurrence_id", "window_start", "number", "business_unit", "supplier_id", "supplier_number", "fusion_number",
    "number_key", "released_reasons", "mapping", "mapped_with",
)  # fmt: skip
_PAUSE = 0.1
"""Seconds between two looks for what there is room for while nothing is under way."""


@dataclass(frozen=True)
class _Ready:
    """An invoice proven absent; ``alone`` when it is the first of a business unit that shows none, or refused all."""

    row: Row
    alone: bool = False


class WindowPosting:
    """One run's posting of one window."""

    def __init__(
        self,
        inbound: Inbound,
        client: FusionClient,
        writer: LedgerWriter,
        work: WindowWork,
        *,
        progress: Callable[[int], None] = silent,
    ) -> None:
        self._inbound = inbound
        self._client = client
        self._work = work
        self._progress = progress
        self._settings = inbound.settings.fusion
        self.summary = PostingSummary()
        self._prover = AbsenceProver(inbound.ledger, client, inbound.pod)
        self._claiming = Claiming(inbound, writer, work, self.summary)
        self._earlier = EarlierAttempts(inbound, client, writer, self._prover, self.summary)
        self._changed = asyncio.Event()
        """A slot was freed, an attempt ended, or more invoices are ready."""
        self._sender = Sender(client, writer, self._settings, self.summary, freed=self._changed.set)
        self._uncertainty = Uncertainty(inbound, client, writer, work, self._prover, self._sender, self.summary)
        self._alike = self._uncertainty.alike
        self._turns = Turns(self._alike)
        self._ready: deque[_Ready] = deque()
        self._preparing: asyncio.Task[None] | None = None
        self._in_flight: set[asyncio.Task[None]] = set()
        self._claims: dict[asyncio.Task[None], int] = {}
        """Groups of intents on their way into the ledger, and how many slots each will take."""
        self._settling: asyncio.Task[bool] | None = None
        self._after = 0
        self._exhausted = False
        self._blocked_units: set[str] = set()
        self._lost: str | None = None

    async def run(self) -> PostingSummary:
        """Post everything that can be posted now.

        Raises:
            PostingStopped: Fusion refuses everything or does not answer; invoices not posted stay VALIDATED. As
                UnitsStopped when it refuses everything of some business units; the others are done.
            DataAccessLost: absence cannot be proven any more.
            FusionError: a look-up failed.
        """
        await self._uncertainty.expire()
        patience, ended = self._now() + self._settings.wait_in_run, 0
        try:
            while self._sender.stopped is None:
                self._changed.clear()
                progressed = await self._settle(new=self._now() < patience)
                if self._settling is None:
                    # Not beside a look-up that may be about the same attempts.
                    room = self._room()
                    progressed |= await self._start(await self._uncertainty.send_proven(room))
                if self._may_begin():
                    progressed |= await self._begin()
                if self.summary.ended > ended:
                    # Sending alone is no progress: a Fusion that refuses everything would keep the run for ever.
                    ended = self.summary.ended
                    patience = self._now() + self._settings.wait_in_run
                if self._under_way():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(1.0):
                            await self._changed.wait()
                    self._collect()
                elif not progressed and not await self._wait(patience):
                    break
            while under_way := self._under_way():
                await asyncio.wait(under_way)
                self._collect()
            if self._settling is not None:
                # What it finds is written down to the end.
                await asyncio.gather(self._settling, return_exceptions=True)
        except BaseException:
            await self._abandon()
            raise
        finally:
            await self._stop_looking()
        self.summary.left_waiting = self.summary.dropped + await asyncio.to_thread(self._uncertainty.count_waiting)
        if self._sender.stopped is not None:
            raise self._sender.stopped
        if self._lost is not None:
            raise DataAccessLost(self._lost)
        if (stopped := self._alike.stopped()) is not None:
            raise stopped
        return self.summary

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _under_way(self) -> set["asyncio.Task[None]"]:
        """What ends by itself and must be waited for: intents on their way into the ledger, and requests."""
        return self._in_flight | self._claims.keys()

    def _room(self) -> int:
        """How many intents may be committed now, beside those that are on their way into the ledger."""
        return self._sender.room(len(self._in_flight), sum(self._claims.values()))

    def _collect(self) -> None:
        for task in [task for task in self._claims if task.done()]:
            del self._claims[task]
            task.result()
        for task in [task for task in self._in_flight if task.done()]:
            self._in_flight.discard(task)
            self._progress(1)
            task.result()

    async def _settle(self, *, new: bool) -> bool:
        """Settle what is due, beside the requests that are under way; True when anything was."""
        if self._settling is None:
            if not self._uncertainty.time_to_look():
                return False
            self._settling = asyncio.create_task(self._uncertainty.settle_due(new=new))
            self._settling.add_done_callback(self._wake)
        if self._under_way() and not self._settling.done():
            return False
        settling, self._settling = self._settling, None
        return await settling

    async def _start(self, requests: Iterable[Coroutine[None, None, None]]) -> bool:
        """Let them run as tasks; True when there are any."""
        tasks = [asyncio.create_task(request) for request in requests]
        for task in tasks:
            task.add_done_callback(self._wake)
        self._in_flight.update(tasks)
        # Each takes its slot now, so that the next group sees only those that are left.
        await asyncio.sleep(0)
        return bool(tasks)

    def _wake(self, _task: "asyncio.Task[Any]") -> None:
        self._changed.set()

    async def _abandon(self) -> None:
        """Something failed: requests under way are let to their end, since their outcome is worth knowing."""
        self._sender.withhold()
        while under_way := self._under_way():
            ended, _ = await asyncio.wait(under_way)
            for task in ended:
                self._in_flight.discard(task)
                self._claims.pop(task, None)
                if not task.cancelled():
                    task.exception()

    def _may_begin(self) -> bool:
        """No new invoice while too much is unknown, or while Fusion refuses one request after the other."""
        return (
            self._uncertainty.unknown < MOST_UNKNOWN
            and self._sender.refused_in_a_row < 3 * self._settings.max_in_flight
        )

    async def _wait(self, patience: float) -> bool:
        """Sleep until something can go on; False when nothing can within this run's patience."""
        seconds = await asyncio.to_thread(self._uncertainty.seconds_to_next)
        if seconds is None:
            # Nothing waits for its time. Invoices that are ready wait for a slot.
            return bool(self._ready) and self._may_begin() and self._now() < patience
        if self._now() + seconds > patience:
            return False
        await asyncio.sleep(seconds)
        # What was due may let new invoices begin again.
        self._sender.refused_in_a_row = 0
        return True

    async def _begin(self) -> bool:
        """Commit the next group of intents, no larger than there is room for, and start their requests."""
        if not self._ready and self._exhausted and self._blocked_units:
            await asyncio.to_thread(self._unblock)
        if self._alike.anything_waits():
            self._ready = deque(each for each in self._ready if not self._alike.waits(each.row["business_unit"]))
        if len(self._ready) < _LOW and self._preparing is None and not self._exhausted:
            self._preparing = asyncio.create_task(self._prepare())
            self._preparing.add_done_callback(self._wake)
        if self._preparing is not None and (self._preparing.done() or not (self._ready or self._under_way())):
            await self._prepared()
        if not self._ready:
            # A whole chunk may be in Fusion already, or of a business unit that waits: behind it there may be others.
            return not self._exhausted or self._again()
        room = self._room()
        if room < 1:
            # An intent that waits for its slot uses up its lease; after a 429 there may be none for a while.
            await asyncio.sleep(0 if self._under_way() else _PAUSE)
            return False
        if self._ready[0].alone:
            if not self._client.limiter.free_slots:
                # The loop waits for this one's end: it must begin at once.
                await asyncio.sleep(0 if self._under_way() else _PAUSE)
                return False
            # What is looked up at this moment will be looked up again, with a control row.
            await self._prepared()
            await self._begin_alone(self._ready.popleft())
            return True
        group: list[_Ready] = []
        while self._ready and len(group) < room and not self._ready[0].alone:
            group.append(self._ready.popleft())
        claiming = asyncio.create_task(self._claim_and_post([ready.row for ready in group]))
        claiming.add_done_callback(self._wake)
        self._claims[claiming] = len(group)
        # It hands its change to the ledger's writer now, so that it is committed with what is recorded at this moment.
        await asyncio.sleep(0)
        return True

    async def _claim_and_post(self, rows: Sequence[Row]) -> None:
        """Commit a group of intents, then start their requests."""
        lease_end = self._sender.deadline()
        claimed = await self._claiming.claim(rows)
        # The group's slots stay reserved until its requests have taken theirs.
        await self._start(self._uncertainty.post(intent, lease_end) for intent in claimed)

    async def _prepared(self) -> None:
        """Wait for the look-up that is under way; its error is this run's."""
        preparing, self._preparing = self._preparing, None
        if preparing is not None:
            await preparing

    async def _stop_looking(self) -> None:
        """What the run no longer needs is not looked up to its end, and its error is nobody's."""
        looking: list[asyncio.Task[Any]] = [task for task in (self._preparing, self._settling) if task is not None]
        self._preparing = self._settling = None
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)

    async def _begin_alone(self, ready: _Ready) -> None:
        """The first invoice of a business unit that shows none, or refused all: read back before any other follows."""
        unit: str = ready.row["business_unit"]
        lease_end = self._sender.deadline()
        for intent in await self._claiming.claim([ready.row]):
            await self._uncertainty.post(intent, lease_end)
            with self._inbound.ledger.reading() as reading:
                # Under the supplier's new name it may have gone out once more.
                state = recovery.last_attempt(reading, intent.invoice_pk)
            assert state is not None  # noqa: S101 - its intent was committed
            if state["phase"] == Phase.CREATED:
                found = await self._prover.look_up([sought_for(ready.row)])
                record = found[ready.row["id"]].record
                if record is None:
                    raise DataAccessLost(unit)
                self._prover.keep(unit, record)
            elif state["phase"] in (Phase.INTENT, Phase.UNKNOWN, Phase.REFUSED, Phase.RELEASED):
                if self._alike.suspected(unit):
                    self._alike.wait(unit)
                else:
                    self._blocked_units.add(unit)
        # Others of the unit were passed over when this one was chosen.
        self._from_the_start()
        self._ready.clear()

    def _again(self) -> bool:
        """The window was read to its end: True when it is read once more, for invoices that were passed over."""
        if self._under_way():
            # What is under way is told by its answer, not looked up beside it.
            return False
        if self._alike.reopened():
            self._from_the_start()
        elif self._turns.next_round():
            self._after, self._exhausted = 0, False
        return not self._exhausted

    def _from_the_start(self) -> None:
        """Read the window's invoices from the first on: some that were passed over may be begun now."""
        self._after, self._exhausted = 0, False
        self._turns.restart()

    def _unblock(self) -> None:
        """The first invoice of a business unit, refused at first, was created meanwhile: the others may follow."""
        with self._inbound.ledger.reading() as reading:
            opened = {u for u in self._blocked_units if control_rows.created_in(reading, self._inbound.pod, u)}
        if opened:
            self._blocked_units -= opened
            self._from_the_start()

    async def _prepare(self) -> None:
        """Look the next validated invoices up in Fusion; those proven absent become ready."""
        rows = await asyncio.to_thread(self._next_validated)
        if not rows:
            self._exhausted = True
            self._ready.extendleft(_Ready(row, alone=True) for row in self._turns.to_try())
            return
        self._after = rows[-1]["id"]
        await self._alike.recall({row["business_unit"] for row in rows})
        rows = self._turns.now(row for row in rows if row["business_unit"] not in self._blocked_units)
        rows = await self._earlier.settle(rows)
        for row in self._earlier.unproven:
            await self._claiming.park_unproven(row)
        findings = await self._prover.look_up([sought_for(row) for row in rows])
        chosen_units: set[str] = set()
        absent: list[Row] = []
        for row in rows:
            unit = row["business_unit"]
            finding = findings[row["id"]]
            match finding.presence:
                case Presence.ABSENT:
                    absent.append(row)
                case Presence.NOTHING_VISIBLE if row["id"] in self._earlier.given_up:
                    await self._claiming.park_unproven(row)
                case Presence.NOTHING_VISIBLE:
                    if unit not in chosen_units:
                        chosen_units.add(unit)
                        self._ready.appendleft(_Ready(row, alone=True))
                case Presence.UNPROVEN:
                    # The other units go on; the run ends with the error.
                    self._blocked_units.add(unit)
                    self._ready = deque(each for each in self._ready if each.row["business_unit"] != unit)
                    self._lost = unit
                case Presence.PRESENT:
                    await self._there(row, finding)
                case Presence.OTHER_BUSINESS_UNIT:
                    if "DUP_OTHER_BU" in (row["released_reasons"] or []):
                        absent.append(row)
                    else:
                        await self._claiming.hold(row, finding)
        self._ready.extend(_Ready(row) for row in self._turns.apart(absent))

    def _next_validated(self) -> list[Row]:
        with self._inbound.ledger.reading() as reading:
            return window_rows(
                reading, self._work.start, (InvoiceState.VALIDATED,), LOOKED_UP, after=self._after, limit=_CHUNK
            )

    async def _there(self, row: Row, finding: Finding) -> None:
        """In Fusion before anything was sent; or sent, refused for everybody (403), and stored all the same."""
        with self._inbound.ledger.reading() as reading:
            attempts = recovery.attempts_of(reading, [row["id"]])[::-1]
        # Any of them may be what was stored: each run's group is another.
        if attempts and await self._earlier.adopt(row, attempts, finding) is not Adoption.FOREIGN:
            return
        if may_be_only(row["fusion_number"], finding.records):
            await self._claiming.hold_unreadable(row, finding)
            return
        await self._claiming.already_there(row, finding)


async def post_window(
    inbound: Inbound,
    client: FusionClient,
    writer: LedgerWriter,
    work: WindowWork,
    *,
    progress: Callable[[int], None] = silent,
) -> PostingSummary:
    """Post a window's validated invoices and settle what earlier runs left open; see ``WindowPosting.run``."""
    return await WindowPosting(inbound, client, writer, work, progress=progress).run()
