"""What went out before for an invoice that is about to be sent: looked for under its own identity, and adopted.

A revision may bear another number or supplier than what was sent before it, and a refusal may have hidden that the
request was stored, which people may have renamed since. The look-up of the new number says nothing of that.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.fusion.invoices import read_back
from mlc_dagster.ledger import created_ids, recovery
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.submissions import Phase
from mlc_dagster.ledger.writer import LedgerWriter
from mlc_dagster.stampli.identity import number_key
from mlc_dagster.stampli.inbound import Inbound
from mlc_dagster.stampli.posting.absence import AbsenceProver, Finding, Presence, Sought
from mlc_dagster.stampli.posting.adoption import MOST_UNREAD, Adoption, adopting, ours_of, unread_text
from mlc_dagster.stampli.posting.forgotten import Forgotten, Held
from mlc_dagster.stampli.posting.other_names import QUICKER_THAN_PEOPLE, OtherNames
from mlc_dagster.stampli.posting.sending import PostingSummary
from mlc_dagster.stampli.posting.sought import park_unsent, sought_for, sought_for_attempt
from mlc_dagster.stampli.reasons import problem


def _identity(sought: Sought) -> tuple[str, str, str]:
    return sought.business_unit, sought.supplier_number, number_key(sought.number)


class EarlierAttempts:
    """Looks for what was sent before for a chunk of invoices: their attempts, and what the ledger has forgotten."""

    def __init__(
        self,
        inbound: Inbound,
        client: FusionClient,
        writer: LedgerWriter,
        prover: AbsenceProver,
        summary: PostingSummary,
    ) -> None:
        self._inbound = inbound
        self._client = client
        self._writer = writer
        self._prover = prover
        self._summary = summary
        self._forgotten = Forgotten(inbound, client)
        self.given_up: set[int] = set()
        """Invoices with an attempt of which nobody found out whether Fusion created it."""
        self.unproven: list[Row] = []
        """Of the last chunk: an earlier attempt under another identity can neither be found nor ruled out."""

    async def settle(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that may go on to their own look-up; raises FusionError when Fusion cannot be read."""
        with self._inbound.ledger.reading() as reading:
            attempts = recovery.attempts_of(reading, [row["id"] for row in rows])
            now = reading.now
        by_key = {row["id"]: row for row in rows}
        self.given_up |= {each["invoice_pk"] for each in attempts if each["phase"] == Phase.UNKNOWN}
        earlier = {
            each["id"]: each
            for each in attempts
            if _identity(sought_for_attempt(each)) != _identity(sought_for(by_key[each["invoice_pk"]]))
        }
        findings = await self._prover.look_up([sought_for_attempt(each) for each in earlier.values()])
        came_of_it: defaultdict[int, set[Adoption]] = defaultdict(set)
        unproven: set[int] = set()
        for key, finding in findings.items():
            invoice_pk = earlier[key]["invoice_pk"]
            if finding.presence is Presence.PRESENT:
                came_of_it[invoice_pk].add(await self.adopt(by_key[invoice_pk], [earlier[key]], finding))
            elif finding.presence in (Presence.UNPROVEN, Presence.NOTHING_VISIBLE):
                unproven.add(invoice_pk)
        adopted = {key for key, outcomes in came_of_it.items() if Adoption.ADOPTED in outcomes}
        # It stays VALIDATED, and the next run looks again.
        unread = {key for key, outcomes in came_of_it.items() if Adoption.UNREAD in outcomes}
        self.unproven = [by_key[invoice_pk] for invoice_pk in sorted(unproven - adopted)]
        settled = adopted | unread | unproven
        # Refused for everybody and stored all the same: by now people may have given it another number or supplier.
        hidden = [
            each
            for each in attempts
            if each["phase"] == Phase.RELEASED
            and each["http_status"] is not None
            and now - each["created_at"] >= QUICKER_THAN_PEOPLE
            and each["invoice_pk"] not in settled
        ]
        settled |= await self._under_other_names(hidden, by_key)
        left = [row for row in rows if row["id"] not in settled]
        held = await self._forgotten.held(left)
        for each in held:
            # One that waits stays VALIDATED: the next run looks again.
            if not each.waits and await self._writer.submit(partial(self._hold, held=each)):
                self._summary.parked[each.problem.reason] += 1
        held_keys = {each.row["id"] for each in held}
        return [row for row in left if row["id"] not in held_keys]

    def _hold(self, transaction: Transaction, *, held: Held) -> bool:
        moved = park_unsent(transaction, held.row, held.problem)
        if moved:
            created_ids.note_held(transaction, held.row["id"], self._inbound.pod, held.record.invoice_id)
        return moved

    async def _under_other_names(self, attempts: Sequence[Row], by_key: Mapping[int, Row]) -> set[int]:
        """Keys of the invoices that are, or may be, in Fusion under other names, and are not sent now."""
        user = self._inbound.settings.fusion.posting_user
        names = OtherNames(self._prover, self._client, self._inbound.ledger, posting_user=user)
        settled: set[int] = set()
        for attempt in attempts:
            invoice_pk: int = attempt["invoice_pk"]
            if invoice_pk in settled:
                continue
            traces = await names.look(attempt)
            if traces.ours is not None:
                evidence = "refused for everybody, and found in Fusion under another number or supplier"
                await self._writer.submit(adopting(attempt["id"], traces.ours, evidence))
                self._summary.adopted += 1
            elif traces.told and not traces.wait:
                await self._park(by_key[invoice_pk], "it may be in Fusion under other names", remedy=traces.told)
            elif not traces.wait and traces.presence is not Presence.UNPROVEN:
                continue
            settled.add(invoice_pk)
        return settled

    async def adopt(self, row: Row, attempts: Sequence[Row], finding: Finding) -> Adoption:
        """Record what one of the invoice's attempts created, when Fusion shows it as ours."""
        complete = await read_back(self._client, [record.invoice_id for record in finding.records])
        found = ours_of(attempts, complete.values(), posting_user=self._inbound.settings.fusion.posting_user)
        if found is not None:
            await self._writer.submit(adopting(found[0]["id"], found[1]))
            self._summary.adopted += 1
            return Adoption.ADOPTED
        if len(complete) == len(finding.records):
            return Adoption.FOREIGN
        await self._unread(row, attempts[0], finding.records)
        return Adoption.UNREAD

    async def _unread(self, row: Row, attempt: Row, records: Sequence[InvoiceRecord]) -> None:
        ids = [record.invoice_id for record in records]
        times = await self._writer.submit(partial(recovery.note_unread, submission_id=attempt["id"], invoice_ids=ids))
        if times % MOST_UNREAD == 0:
            await self._park(row, unread_text(records))

    async def _park(self, row: Row, why: str, *, remedy: str | None = None) -> None:
        found = problem("SUBMIT_UNKNOWN", value=why, remedy=remedy)
        if await self._writer.submit(partial(park_unsent, row=row, found=found)):
            self._summary.parked[found.reason] += 1
