"""What happens to an attempt whose outcome is not simply "created".

An unknown outcome: after ``ambiguous_wait`` two look-ups half a wait apart must both prove absence, then one further
attempt; three such attempts over all runs, then a person decides. A 429 or 503: one proof of absence, then again. A
refusal of the content: one look-up, since a proxy may have replayed a request that was stored, then PARKED.
"""

import asyncio
import datetime as dt
from collections import deque
from collections.abc import Coroutine
from functools import partial

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.errors import BusinessRefusal, FusionError
from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.ledger import recovery, submissions
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.submissions import Intent, Phase
from mlc_dagster.ledger.writer import LedgerWriter
from mlc_dagster.stampli.inbound import Inbound, WindowWork
from mlc_dagster.stampli.posting.absence import AbsenceProver, DataAccessLost, Finding, Presence
from mlc_dagster.stampli.posting.claiming import require_window
from mlc_dagster.stampli.posting.comparison import body_fields
from mlc_dagster.stampli.posting.other_names import QUICKER_THAN_PEOPLE, OtherNames
from mlc_dagster.stampli.posting.refusals import AlikeRefusals, answer_text, problem_of, reason_of
from mlc_dagster.stampli.posting.renamed import under_present_name
from mlc_dagster.stampli.posting.sending import PostingSummary, Sender, lease_length
from mlc_dagster.stampli.posting.sought import sought_for_attempt
from mlc_dagster.stampli.posting.traced import Traced
from mlc_dagster.stampli.posting.turns import sent_again_now
from mlc_dagster.stampli.posting.unseen import unseen_remedy
from mlc_dagster.stampli.reasons import problem_rows
from mlc_dagster.stampli.validation.body import body_keys

MOST_ATTEMPTS = 3
"""Attempts with unknown outcome, over all runs, before two people decide on a further one."""
PROOFS_NEEDED = 2
_LOOKED_UP_AT_ONCE = 4
"""Waiting attempts looked up together, per slot: a look-up of many costs little more than one of few."""


class Uncertainty:
    """Settles the waiting attempts of one window."""

    def __init__(
        self,
        inbound: Inbound,
        client: FusionClient,
        writer: LedgerWriter,
        work: WindowWork,
        prover: AbsenceProver,
        sender: Sender,
        summary: PostingSummary,
    ) -> None:
        self._inbound = inbound
        self._client = client
        self._writer = writer
        self._work = work
        self._prover = prover
        self._sender = sender
        self._summary = summary
        self._settings = inbound.settings.fusion
        self._traced = Traced(inbound, client, writer, prover, sender, summary)
        self.alike = AlikeRefusals(inbound)
        self._next_check = 0.0
        self._proven: deque[tuple[Row, Phase]] = deque()
        """Attempts proven absent, and how they ended: to be sent again as soon as there is a slot."""
        self._began: dt.datetime | None = None
        self._counted = 0
        self._added_before = 0

    @property
    def unknown(self) -> int:
        """Unknown outcomes in Fusion's whole environment at the last check, and those of this run since then."""
        return self._counted + self._summary.unknown - self._added_before

    @property
    def _half_wait(self) -> dt.timedelta:
        return dt.timedelta(seconds=self._settings.ambiguous_wait / 2)

    async def expire(self) -> None:
        """Intents of senders that are gone become unknown outcomes; then count what is unknown."""
        wait = dt.timedelta(seconds=self._settings.ambiguous_wait)

        def change(transaction: Transaction) -> int:
            return recovery.expire_intents(transaction, self._work.start, wait=wait)

        self._summary.unknown += await self._writer.submit(change)
        await asyncio.to_thread(self._count)

    def _count(self) -> None:
        added = self._summary.unknown
        with self._inbound.ledger.reading() as reading:
            self._counted = recovery.unknown_count(reading, self._inbound.pod)
        self._added_before = added

    def _waiting(self) -> tuple[list[Row], dt.datetime]:
        with self._inbound.ledger.reading() as reading:
            return recovery.waiting(reading, self._work.start), reading.now

    def count_waiting(self) -> int:
        """Attempts that this run leaves for later."""
        return len(self._waiting()[0])

    def seconds_to_next(self) -> float | None:
        """Seconds until the next waiting attempt of the window is due; None when none waits."""
        rows, now = self._waiting()
        held = {row["id"] for row, _ in self._proven if self.alike.waits(row["business_unit"])}
        due = [_due_at(row) for row in rows if row["id"] not in held]
        if not due:
            return None
        return max(0.01, (min(due) - now).total_seconds() + 0.01)

    def time_to_look(self) -> bool:
        """Whether ``settle_due`` would look now."""
        return asyncio.get_running_loop().time() >= self._next_check

    async def settle_due(self, *, new: bool) -> bool:
        """Look up what is due and act on it; what may be sent again is kept for ``send_proven``.

        Args:
            new: also what came due after the run began; what was due by then is settled in any case.

        Returns:
            True when anything was due.

        Raises:
            DataAccessLost: absence cannot be proven any more.
        """
        now = asyncio.get_running_loop().time()
        if not self.time_to_look():
            return False
        # Often enough to be prompt, seldom enough to cost nothing while a window is posted at full speed.
        self._next_check = now + min(0.5, self._settings.refused_wait / 2, self._settings.ambiguous_wait / 4)
        await self.expire()
        rows, at = await asyncio.to_thread(self._waiting)
        self._began = self._began or at
        at = at if new else self._began
        queued = {row["id"] for row, _ in self._proven}
        ahead = sum(not self.alike.waits(row["business_unit"]) for row, _ in self._proven)
        due = [row for row in rows if row["phase"] != Phase.INTENT and _due_at(row) <= at and row["id"] not in queued]
        due = due[: max(0, _LOOKED_UP_AT_ONCE * self._settings.max_in_flight - ahead)]
        if not due:
            return False
        findings = await self._prover.look_up([sought_for_attempt(row) for row in due])
        present = [finding for finding in findings.values() if finding.presence is Presence.PRESENT]
        complete = await self._traced.read(present)
        # First those that are there: what they became is nobody else's.
        names = self._traced.other_names()
        for row in sorted(due, key=lambda row: findings[row["id"]].presence is not Presence.PRESENT):
            await self._settle(row, findings[row["id"]], complete, names)
        await asyncio.to_thread(self._count)
        for row in due:
            if findings[row["id"]].presence is Presence.UNPROVEN:
                raise DataAccessLost(row["business_unit"])
        return True

    async def send_proven(self, free: int) -> list[Coroutine[None, None, None]]:
        """What sends again what is proven absent, in as many ``free`` slots; the caller lets it run at once."""
        if not self._proven or free < 1:
            return []
        await self.alike.recall({row["business_unit"] for row, _ in self._proven})
        group = sent_again_now(self.alike, self._proven, free)
        if not group:
            return []
        lease_end = self._sender.deadline()

        def change(transaction: Transaction) -> list[Intent]:
            require_window(transaction, self._work)
            claimed = [self._claim_again(transaction, row, ended_as, None) for row, ended_as in group]
            return [intent for intent in claimed if intent is not None]

        claimed = await self._writer.submit(change)
        self._summary.resent += len(claimed)
        return [self.post(intent, lease_end) for intent in claimed]

    async def _settle(
        self,
        row: Row,
        finding: Finding,
        complete: dict[int, InvoiceRecord],
        names: OtherNames,
    ) -> None:
        match finding.presence:
            case Presence.PRESENT:
                await self._traced.found(row["id"], body_fields(row["body"]), finding, complete)
            case Presence.ABSENT | Presence.OTHER_BUSINESS_UNIT:
                await self._absent(row, names)
            case Presence.NOTHING_VISIBLE if row["phase"] == Phase.REFUSED:
                # As little is visible as before the first invoice of this business unit was sent, and the refusal was
                # complete: the evidence for sending is the same as then.
                await self._absent(row, names)
            case Presence.NOTHING_VISIBLE:
                why = "no invoice of the business unit is visible, so it cannot be proven whether this one was created"
                await self._traced.park_unknown(row, why)
            case Presence.UNPROVEN:
                await self._traced.postpone(row, "absence could not be proven")

    async def _absent(self, row: Row, names: OtherNames) -> None:
        # A refused request that was stored all the same is found by its names, unless people had time to change them.
        asked_for_names = row["phase"] == Phase.UNKNOWN or self._people_had_time(row)
        if asked_for_names and await self._traced.under_other_names(row, names):
            return
        if row["phase"] == Phase.UNKNOWN:
            proofs = await self._writer.submit(
                partial(submissions.mark_absent_once, submission_id=row["id"], next_look=self._half_wait)
            )
            if proofs < PROOFS_NEEDED:
                return
            with self._inbound.ledger.reading() as reading:
                attempts = recovery.unknown_attempts(reading, row["invoice_pk"])
                allowed = recovery.attempts_allowed(reading, row["invoice_pk"], MOST_ATTEMPTS)
            if attempts >= allowed:
                await self._traced.park_unknown(row, f"{attempts} attempts ended without a known outcome")
                return
            ended_as = Phase.ABSENT
        else:
            await self._writer.submit(
                partial(submissions.mark_absent_once, submission_id=row["id"], next_look=self._half_wait)
            )
            ended_as = Phase.REFUSED
        self._proven.append((row, ended_as))

    def _people_had_time(self, row: Row) -> bool:
        began: dt.datetime = row["created_at"]
        return self._inbound.ledger.now() - began >= QUICKER_THAN_PEOPLE

    def _claim_again(self, transaction: Transaction, row: Row, ended_as: Phase, body: bytes | None) -> Intent | None:
        before = recovery.get_submission(transaction, row["id"])
        return submissions.claim_again(
            transaction, before, owner=self._work.owner, fence=self._work.fence,
            lease=lease_length(self._settings), ended_as=ended_as, body=body,
        )  # fmt: skip

    async def _send_renamed(self, row: Row, body: bytes) -> None:
        """Within the slot of the attempt that was refused."""
        lease_end = self._sender.deadline()

        def change(transaction: Transaction) -> Intent | None:
            require_window(transaction, self._work)
            return self._claim_again(transaction, row, Phase.REJECTED, body)

        intent = await self._writer.submit(change)
        if intent is not None:
            self._summary.resent += 1
            await self.post(intent, lease_end)

    async def post(self, intent: Intent, lease_end: float) -> None:
        """Send an intent and look into what came of it; ``lease_end`` is ``Sender.send``'s."""
        # By the body throughout: Fusion may write the business unit's name in another way.
        unit = body_keys(intent.body).business_unit
        answer = await self._sender.send(intent, lease_end, closed=partial(self.alike.closed, unit))
        if isinstance(answer, BusinessRefusal):
            await self.refused_by_content(intent, answer)
        elif answer is not None:
            self.alike.created(unit)
        self.alike.tried(unit)

    async def refused_by_content(self, intent: Intent, refusal: BusinessRefusal) -> None:
        """Fusion refused the content of an intent: look once, then adopt, name the other owner, or park."""
        place = self.alike.answered()
        fields = body_fields(intent.body)
        row = await asyncio.to_thread(self._row_of, intent)
        if row is None:
            # The answer came so late that another run has settled the attempt.
            return
        sought = sought_for_attempt(row)
        try:
            finding = (await self._prover.look_up([sought]))[sought.key]
            if finding.presence is Presence.PRESENT:
                await self._traced.found(intent.submission_id, fields, finding, await self._traced.read([finding]))
                return
            if finding.presence is Presence.UNPROVEN:
                await self._sender.unknown(intent.submission_id, f"{refusal}; absence not proven", refusal.status)
                return
            if self._people_had_time(row) and await self._traced.under_other_names(row, self._traced.other_names()):
                return
            if (body := await under_present_name(self._client, row, fields)) is not None:
                await self._send_renamed(row, body)
                return
        except FusionError as error:
            await self._sender.unknown(intent.submission_id, f"{refusal}; look-up failed: {error}", refusal.status)
            return
        # Where nothing is visible the refusal is told, but not taken for proof: the claim stays, and nothing that
        # takes the invoice's place is sent before this attempt could be looked for.
        proven = finding.presence is not Presence.NOTHING_VISIBLE
        unit = body_keys(intent.body).business_unit
        told = self.alike.refused(unit, refusal, intent.body, place)
        if not told and proven:
            await self._sender.give_up(intent, f"{refusal}; every invoice of {unit} is refused so", refusal.status)
            return
        remedy = None if proven else unseen_remedy(unit, self._settings.posting_user)
        await self._writer.submit(
            partial(
                submissions.park_submission, submission_id=intent.submission_id,
                phase=Phase.REJECTED if proven else Phase.UNKNOWN, reason=reason_of(refusal),
                problem=problem_rows([problem_of(refusal, remedy)])[0],
                http_status=refusal.status, answer=answer_text(refusal),
            )
        )  # fmt: skip
        self._summary.parked["FUSION_REJECTED"] += 1

    def _row_of(self, intent: Intent) -> Row | None:
        with self._inbound.ledger.reading() as reading:
            rows = recovery.waiting(reading, self._work.start, intent.submission_id)
        return rows[0] if rows else None


def _due_at(row: Row) -> dt.datetime:
    due: dt.datetime = row["not_before"] or row["lease_until"]
    return due
