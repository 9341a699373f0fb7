"""What happens to an attempt whose outcome is not simply "created".

An unknown outcome: after ``ambiguous_wait`` two look-ups half a wait apart must both prove absence, then one further
attempt; three such attempts over all runs, then a person decides. A 429 or 503: one proof of absence, then again. A
refusal of the content: one look-up, since a proxy may have replayed a request that was stored, then PARKED.
"""

import asyncio
import datetime as dt
import json
from collections import deque
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.errors import BusinessRefusal, FusionError
from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.fusion.invoices import read_back
from mlc_dagster.fusion.suppliers import read_supplier_by_id
from mlc_dagster.ledger import recovery, submissions
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.submissions import Intent, Phase
from mlc_dagster.ledger.writer import LedgerWriter
from mlc_dagster.stampli.inbound import Inbound, WindowWork
from mlc_dagster.stampli.posting.absence import AbsenceProver, DataAccessLost, Finding, Presence
from mlc_dagster.stampli.posting.adoption import adopting, ours_among
from mlc_dagster.stampli.posting.claiming import require_window
from mlc_dagster.stampli.posting.comparison import body_fields, compare, origin
from mlc_dagster.stampli.posting.other_names import QUICKER_THAN_PEOPLE, OtherNames
from mlc_dagster.stampli.posting.refusals import AlikeRefusals, answer_text, problem_of, reason_of
from mlc_dagster.stampli.posting.sending import PostingSummary, Sender, lease_length
from mlc_dagster.stampli.posting.sought import sought_for_attempt
from mlc_dagster.stampli.posting.unseen import unseen_remedy
from mlc_dagster.stampli.reasons import problem, problem_rows
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
        due = [_due_at(row) for row in rows]
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
        due = [row for row in rows if row["phase"] != Phase.INTENT and _due_at(row) <= at and row["id"] not in queued]
        due = due[: max(0, _LOOKED_UP_AT_ONCE * self._settings.max_in_flight - len(queued))]
        if not due:
            return False
        findings = await self._prover.look_up([sought_for_attempt(row) for row in due])
        present = [finding for finding in findings.values() if finding.presence is Presence.PRESENT]
        complete = await self._read(present)
        # First those that are there: what they became is nobody else's.
        names = self._other_names()
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
        group = [self._proven.popleft() for _ in range(min(free, len(self._proven)))]
        lease_end = self._sender.deadline()

        def change(transaction: Transaction) -> list[Intent]:
            require_window(transaction, self._work)
            claimed = [self._claim_again(transaction, row, ended_as, None) for row, ended_as in group]
            return [intent for intent in claimed if intent is not None]

        claimed = await self._writer.submit(change)
        self._summary.resent += len(claimed)
        return [self.post(intent, lease_end) for intent in claimed]

    async def _read(self, findings: Sequence[Finding]) -> dict[int, InvoiceRecord]:
        ids = [record.invoice_id for finding in findings for record in finding.records]
        return await read_back(self._client, ids) if ids else {}

    async def _settle(
        self,
        row: Row,
        finding: Finding,
        complete: dict[int, InvoiceRecord],
        names: OtherNames,
    ) -> None:
        match finding.presence:
            case Presence.PRESENT:
                await self._found(row["id"], body_fields(row["body"]), finding, complete)
            case Presence.ABSENT | Presence.OTHER_BUSINESS_UNIT:
                await self._absent(row, names)
            case Presence.NOTHING_VISIBLE if row["phase"] == Phase.REFUSED:
                # As little is visible as before the first invoice of this business unit was sent, and the refusal was
                # complete: the evidence for sending is the same as then.
                await self._absent(row, names)
            case Presence.NOTHING_VISIBLE:
                why = "no invoice of the business unit is visible, so it cannot be proven whether this one was created"
                await self._park_unknown(row, why)
            case Presence.UNPROVEN:
                await self._postpone(row["id"])

    async def _postpone(self, submission_id: int) -> None:
        await self._writer.submit(partial(recovery.postpone, submission_id=submission_id, wait=2 * self._half_wait))

    async def _found(
        self, submission_id: int, fields: dict[str, Any], finding: Finding, complete: dict[int, InvoiceRecord]
    ) -> None:
        user = self._settings.posting_user
        records = [complete[record.invoice_id] for record in finding.records if record.invoice_id in complete]
        ours = ours_among(fields, records, posting_user=user)
        if ours is not None:
            await self._writer.submit(adopting(submission_id, ours))
            self._summary.adopted += 1
            return
        if len(records) < len(finding.records):
            # Deleted since the look-up, or not to be read: nothing can be said of it now.
            await self._postpone(submission_id)
            return
        record = records[0]
        differences: dict[str, Any] = origin(fields, record, posting_user=user) | compare(fields, record).differences
        await self._writer.submit(
            partial(
                submissions.mark_foreign,
                submission_id=submission_id,
                fusion_invoice_id=record.invoice_id,
                differences=differences,
            )
        )
        self._summary.already_in_fusion += 1

    def _other_names(self) -> OtherNames:
        user = self._settings.posting_user
        return OtherNames(self._prover, self._client, self._inbound.ledger, posting_user=user)

    async def _under_other_names(self, row: Row, names: OtherNames) -> bool:
        """What is absent under its names may be there under others; True when it is, or may be."""
        traces = await names.look(row)
        if traces.presence is Presence.UNPROVEN or traces.wait:
            await self._postpone(row["id"])
            return True
        if traces.ours is not None:
            evidence = "found in Fusion under another number or supplier, with our marks and content"
            await self._writer.submit(adopting(row["id"], traces.ours, evidence))
            self._summary.adopted += 1
        elif traces.told:
            await self._park_unknown(row, "it may be in Fusion under other names", remedy=traces.told)
        return traces.ours is not None or bool(traces.told)

    async def _absent(self, row: Row, names: OtherNames) -> None:
        # A refused request that was stored all the same is found by its names, unless people had time to change them.
        asked_for_names = row["phase"] == Phase.UNKNOWN or self._people_had_time(row)
        if asked_for_names and await self._under_other_names(row, names):
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
                await self._park_unknown(row, f"{attempts} attempts ended without a known outcome")
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
        answer = await self._sender.send(intent, lease_end)
        if isinstance(answer, BusinessRefusal):
            await self.refused_by_content(intent, answer)
        elif answer is not None:
            self.alike.created(answer.business_unit or body_keys(intent.body).business_unit)

    async def _park_unknown(self, row: Row, why: str, *, remedy: str | None = None) -> None:
        found = problem("SUBMIT_UNKNOWN", value=why, remedy=remedy)
        await self._writer.submit(
            partial(
                submissions.park_submission,
                submission_id=row["id"],
                phase=Phase.ABSENT if row["absences"] >= 1 else Phase.UNKNOWN,
                reason=found.reason,
                problem=problem_rows([found])[0],
                http_status=row["http_status"],
                answer=why,
            )
        )
        self._summary.parked[found.reason] += 1

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
                await self._found(intent.submission_id, fields, finding, await self._read([finding]))
                return
            if finding.presence is Presence.UNPROVEN:
                await self._sender.unknown(intent.submission_id, f"{refusal}; absence not proven", refusal.status)
                return
            if self._people_had_time(row) and await self._under_other_names(row, self._other_names()):
                return
            if (body := await self._renamed(row, fields)) is not None:
                await self._send_renamed(row, body)
                return
        except FusionError as error:
            await self._sender.unknown(intent.submission_id, f"{refusal}; look-up failed: {error}", refusal.status)
            return
        # Where nothing is visible the refusal is told, but not taken for proof: the claim stays, and nothing that
        # takes the invoice's place is sent before this attempt could be looked for.
        proven = finding.presence is not Presence.NOTHING_VISIBLE
        told = self.alike.refused(row["business_unit"], refusal, intent.body, place)
        if not told and proven and intent.attempt == 1:
            why = f"{refusal}; every invoice of {row['business_unit']} is refused so"
            key, status = intent.submission_id, refusal.status
            await self._writer.submit(partial(submissions.release, submission_id=key, why=why, http_status=status))
            return
        remedy = None if proven else unseen_remedy(row["business_unit"], self._settings.posting_user)
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

    async def _renamed(self, row: Row, fields: dict[str, Any]) -> bytes | None:
        """The body under the supplier's present name, when he was renamed since reference data was read."""
        supplier = await read_supplier_by_id(self._client, row["supplier_id"])
        if supplier is None or (supplier.name, supplier.number) == (fields["Supplier"], fields["SupplierNumber"]):
            return None
        body: bytes = row["body"]
        for name, value in (("Supplier", supplier.name), ("SupplierNumber", supplier.number)):
            before = json.dumps(fields[name], ensure_ascii=False)
            after = json.dumps(value, ensure_ascii=False)
            body = body.replace(f'"{name}":{before}'.encode(), f'"{name}":{after}'.encode(), 1)
        # The same bytes again would be refused again, for ever.
        return None if body == row["body"] else body


def _due_at(row: Row) -> dt.datetime:
    due: dt.datetime = row["not_before"] or row["lease_until"]
    return due
