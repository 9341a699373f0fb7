"""Posting a window's invoices to Fusion, each once.

The order never changes: absence proven, then claim and intent committed, then the request, then its outcome recorded.
An unknown outcome waits and is looked up twice before anything is sent again; a refused request once. The rest of the
window goes on meanwhile. What is due later than this run cares to wait is left to the next poll.
"""

import asyncio
import datetime as dt
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.errors import BusinessRefusal
from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.ledger import control_rows, recovery, submissions
from mlc_dagster.ledger import invoices as ledger_invoices
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.states import InvoiceState, move
from mlc_dagster.ledger.submissions import MOST_UNKNOWN, Intent, Phase, TakenBy
from mlc_dagster.ledger.windows import window_key
from mlc_dagster.ledger.writer import LedgerWriter
from mlc_dagster.stampli.absence import AbsenceProver, DataAccessLost, Finding, Presence
from mlc_dagster.stampli.body import fill_group
from mlc_dagster.stampli.comparison import body_fields, compare
from mlc_dagster.stampli.earlier_attempts import EarlierAttempts, is_unchanged, sought_for
from mlc_dagster.stampli.inbound import Inbound, WindowWork, silent
from mlc_dagster.stampli.reading import problem_rows
from mlc_dagster.stampli.reasons import problem
from mlc_dagster.stampli.sending import PostingStopped, PostingSummary, Sender, lease_length
from mlc_dagster.stampli.uncertainty import Uncertainty, require_window

_CHUNK = 400
_LOW = 160
"""With so few invoices ready, the next ones are looked up while these are sent: about a second of posting."""
_PAUSE = 0.1
"""Seconds between two looks for a free slot while nothing is under way."""


@dataclass(frozen=True)
class _Ready:
    """An invoice proven absent; ``alone`` when it is the first of a business unit that shows none."""

    row: Row
    alone: bool = False


def invoice_group(window_start: dt.datetime, generation: int) -> str:
    """The InvoiceGroup under which a generation's invoices are found in Fusion; at most 50 characters."""
    return f"MLC {window_key(window_start)} g{generation}"


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
        self._writer = writer
        self._work = work
        self._progress = progress
        self._settings = inbound.settings.fusion
        self.summary = PostingSummary()
        self._prover = AbsenceProver(inbound.ledger, client, inbound.pod)
        self._earlier = EarlierAttempts(inbound, client, writer, self._prover, self.summary)
        self._changed = asyncio.Event()
        """A slot was freed, an attempt ended, or more invoices are ready."""
        self._sender = Sender(client, writer, self._settings, self.summary, freed=self._changed.set)
        self._uncertainty = Uncertainty(inbound, client, writer, work, self._prover, self._sender, self.summary)
        self._ready: deque[_Ready] = deque()
        self._preparing: asyncio.Task[None] | None = None
        self._in_flight: set[asyncio.Task[None]] = set()
        self._after = 0
        self._exhausted = False
        self._blocked_units: set[str] = set()
        self._lost: str | None = None

    async def run(self) -> PostingSummary:
        """Post everything that can be posted now.

        Raises:
            PostingStopped: Fusion refuses everything or does not answer; invoices not posted stay VALIDATED.
            DataAccessLost: absence cannot be proven any more.
            FusionError: a look-up failed.
        """
        await self._uncertainty.expire()
        patience, ended = self._now() + self._settings.wait_in_run, 0
        try:
            while self._sender.stopped is None:
                self._changed.clear()
                progressed = await self._uncertainty.settle_due(new=self._now() < patience)
                progressed |= await self._start(await self._uncertainty.send_proven(len(self._in_flight)))
                if self._may_begin():
                    progressed |= await self._begin()
                if self.summary.ended > ended:
                    # Sending alone is no progress: a Fusion that refuses everything would keep the run for ever.
                    ended = self.summary.ended
                    patience = self._now() + self._settings.wait_in_run
                if self._in_flight:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), 1.0)
                    self._collect()
                elif not progressed and not await self._wait(patience):
                    break
            if self._in_flight:
                await asyncio.wait(self._in_flight)
                self._collect()
        except BaseException:
            await self._abandon()
            raise
        finally:
            await self._stop_preparing()
        self.summary.left_waiting = await asyncio.to_thread(self._uncertainty.count_waiting)
        if self._sender.stopped is not None:
            raise self._sender.stopped
        if self._lost is not None:
            raise DataAccessLost(self._lost)
        return self.summary

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _collect(self) -> None:
        for task in [task for task in self._in_flight if task.done()]:
            self._in_flight.discard(task)
            self._progress(1)
            task.result()

    async def _start(self, requests: Iterable[Coroutine[None, None, None]]) -> bool:
        """Let them run as tasks; True when there are any."""
        tasks = [asyncio.create_task(request) for request in requests]
        for task in tasks:
            task.add_done_callback(self._wake)
        self._in_flight.update(tasks)
        # Each takes its slot now, so that the next group sees only those that are left.
        await asyncio.sleep(0)
        return bool(tasks)

    def _wake(self, _task: "asyncio.Task[None]") -> None:
        self._changed.set()

    async def _abandon(self) -> None:
        """Something failed: requests under way are let to their end, since their outcome is worth knowing."""
        if self._in_flight:
            await asyncio.wait(self._in_flight)
            for task in self._in_flight:
                if not task.cancelled():
                    task.exception()
            self._in_flight.clear()

    def _may_begin(self) -> bool:
        """No new invoice while too much is unknown, or while Fusion refuses one request after the other."""
        return (
            self._uncertainty.unknown < MOST_UNKNOWN
            and self._sender.refused_in_a_row < 3 * self._settings.max_in_flight
            and len(self._in_flight) - self._sender.recording < self._settings.max_in_flight
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
        """Commit the next group of intents, no larger than the free slots, and start their requests."""
        if not self._ready and self._exhausted and self._blocked_units:
            await asyncio.to_thread(self._unblock)
        if len(self._ready) < _LOW and self._preparing is None and not self._exhausted:
            self._preparing = asyncio.create_task(self._prepare())
            self._preparing.add_done_callback(self._wake)
        if self._preparing is not None and (self._preparing.done() or not (self._ready or self._in_flight)):
            await self._prepared()
        if not self._ready:
            # A whole chunk may be in Fusion already, or of a business unit that waits: behind it there may be others.
            return not self._exhausted
        free = self._sender.free_slots(len(self._in_flight))
        if free < 1:
            # An intent that had to wait for its slot would use up its lease; after a 429 there may be none for a while.
            await asyncio.sleep(0 if self._in_flight else _PAUSE)
            return False
        if self._ready[0].alone:
            # What is looked up at this moment will be looked up again, with a control row.
            await self._prepared()
            await self._begin_alone(self._ready.popleft())
            return True
        group: list[_Ready] = []
        while self._ready and len(group) < free and not self._ready[0].alone:
            group.append(self._ready.popleft())
        lease_end = self._sender.deadline()
        claimed = await self._claim([ready.row for ready in group])
        await self._start(self._post(intent, lease_end) for intent in claimed)
        return True

    async def _prepared(self) -> None:
        """Wait for the look-up that is under way; its error is this run's."""
        preparing, self._preparing = self._preparing, None
        if preparing is not None:
            await preparing

    async def _stop_preparing(self) -> None:
        """What the run no longer needs is not looked up to its end, and its error is nobody's."""
        preparing, self._preparing = self._preparing, None
        if preparing is not None:
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)

    async def _begin_alone(self, ready: _Ready) -> None:
        """The first invoice of a business unit that shows none: posted and read back before any other follows."""
        unit: str = ready.row["business_unit"]
        lease_end = self._sender.deadline()
        for intent in await self._claim([ready.row]):
            await self._post(intent, lease_end)
            with self._inbound.ledger.reading() as reading:
                state = recovery.get_submission(reading, intent.submission_id)
            if state["phase"] == Phase.CREATED:
                found = await self._prover.look_up([sought_for(ready.row)])
                record = found[ready.row["id"]].record
                if record is None:
                    raise DataAccessLost(unit)
                self._prover.keep(unit, record)
            elif state["phase"] in (Phase.UNKNOWN, Phase.REFUSED, Phase.RELEASED):
                self._blocked_units.add(unit)
        # Others of the unit were passed over when this one was chosen.
        self._after, self._exhausted = 0, False
        self._ready.clear()

    def _unblock(self) -> None:
        """The first invoice of a business unit, refused at first, was created meanwhile: the others may follow."""
        with self._inbound.ledger.reading() as reading:
            opened = {u for u in self._blocked_units if control_rows.created_in(reading, self._inbound.pod, u)}
        if opened:
            self._blocked_units -= opened
            self._after, self._exhausted = 0, False

    async def _claim(self, rows: Sequence[Row]) -> list[Intent]:
        def claim(transaction: Transaction) -> list[Intent]:
            require_window(transaction, self._work)
            return [intent for row in rows if (intent := self._claim_one(transaction, row)) is not None]

        return await self._writer.submit(claim)

    def _claim_one(self, transaction: Transaction, row: Row) -> Intent | None:
        if not is_unchanged(transaction, row):
            return None
        group = invoice_group(self._work.start, self._work.generation)
        released: list[str] = row["released_reasons"] or []
        # A released number of another business unit is a number of its own.
        suffix = f"\x1f{row['business_unit']}" if "DUP_OTHER_BU" in released else ""
        result = submissions.claim(
            transaction,
            row["id"],
            pod=self._inbound.pod,
            supplier_id=row["supplier_id"],
            number_key=row["number_key"] + suffix,
            body=fill_group(row["mapping"], group),
            invoice_group=group,
            mapped_with=row["mapped_with"],
            window_start=self._work.start,
            generation=self._work.generation,
            owner=self._work.owner,
            fence=self._work.fence,
            lease=lease_length(self._settings),
            occurrence_id=row["occurrence_id"],
        )
        if isinstance(result, TakenBy):
            found = problem(
                "DUP_EXACT", field="invoice_number", value=f"{row['number']} (our invoice {result.invoice_pk})"
            )
            self._park(transaction, row, found.reason, problem_rows([found]))
            return None
        return result

    def _park(self, transaction: Transaction, row: Row, reason: str, problems: Sequence[object]) -> None:
        if is_unchanged(transaction, row) and move(
            transaction, row["id"], InvoiceState.PARKED, expected=(InvoiceState.VALIDATED,), reason=reason,
            event="invoice.parked", detail={"problems": list(problems)}, problems=list(problems),
        ):  # fmt: skip
            self.summary.parked[reason] += 1

    async def _post(self, intent: Intent, lease_end: float) -> None:
        answer = await self._sender.send(intent, lease_end)
        if isinstance(answer, BusinessRefusal):
            await self._uncertainty.refused_by_content(intent, answer)

    async def _prepare(self) -> None:
        """Look the next validated invoices up in Fusion; those proven absent become ready."""
        rows = await asyncio.to_thread(self._next_validated)
        if not rows:
            self._exhausted = True
            return
        self._after = rows[-1]["id"]
        rows = [row for row in rows if row["business_unit"] not in self._blocked_units]
        rows = await self._earlier.settle(rows)
        for row in self._earlier.unproven:
            await self._writer.submit(partial(self._park_unproven, row=row))
        findings = await self._prover.look_up([sought_for(row) for row in rows])
        chosen_units: set[str] = set()
        for row in rows:
            unit = row["business_unit"]
            finding = findings[row["id"]]
            match finding.presence:
                case Presence.ABSENT:
                    self._ready.append(_Ready(row))
                case Presence.NOTHING_VISIBLE if row["id"] in self._earlier.given_up:
                    await self._writer.submit(partial(self._park_unproven, row=row))
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
                        self._ready.append(_Ready(row))
                    else:
                        await self._writer.submit(partial(self._held, row=row, finding=finding))

    def _next_validated(self) -> list[Row]:
        with self._inbound.ledger.reading() as reading:
            return ledger_invoices.window_invoices(
                reading, self._work.start, [InvoiceState.VALIDATED], after=self._after, limit=_CHUNK
            )

    def _park_unproven(self, transaction: Transaction, *, row: Row) -> None:
        found = problem("SUBMIT_UNKNOWN", value="it cannot be proven that an earlier attempt was not stored")
        self._park(transaction, row, found.reason, problem_rows([found]))

    async def _there(self, row: Row, finding: Finding) -> None:
        """In Fusion before anything was sent; or sent, refused for everybody (403), and stored all the same."""
        with self._inbound.ledger.reading() as reading:
            attempt = recovery.last_attempt(reading, row["id"])
        if attempt is not None and await self._earlier.adopt(attempt, finding):
            return
        await self._writer.submit(partial(self._already_there, row=row, finding=finding))

    def _already_there(self, transaction: Transaction, *, row: Row, finding: Finding) -> None:
        if not is_unchanged(transaction, row):
            return
        record = finding.record
        assert record is not None  # noqa: S101 - PRESENT carries its record
        if move(
            transaction,
            row["id"],
            InvoiceState.ALREADY_IN_FUSION,
            expected=(InvoiceState.VALIDATED,),
            event="invoice.already_in_fusion",
            detail={"invoice_id": record.invoice_id, "created_by": record.created_by, "source": record.invoice_source},
            fusion_invoice_id=record.invoice_id,
            differences=compare(body_fields(row["mapping"]), record).differences,
        ):
            self.summary.already_in_fusion += 1

    def _held(self, transaction: Transaction, *, row: Row, finding: Finding) -> None:
        record: InvoiceRecord | None = finding.record
        value = f"{row['fusion_number']} (InvoiceId {record.invoice_id} in {record.business_unit})" if record else None
        found = problem("DUP_OTHER_BU", field="invoice_number", value=value)
        self._park(transaction, row, found.reason, problem_rows([found]))


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


__all__ = ["MOST_UNKNOWN", "DataAccessLost", "PostingStopped", "WindowPosting", "invoice_group", "post_window"]
