"""What an attempt became that Fusion shows something of, under its own names or under others.

Belongs here: telling ours from others', and what is for people. What is absent, and what is sent again, is decided in
``uncertainty``.
"""

import datetime as dt
from collections.abc import Sequence
from functools import partial
from typing import Any

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.fusion.invoices import read_back
from mlc_dagster.ledger import recovery, submissions
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.submissions import Phase
from mlc_dagster.ledger.writer import LedgerWriter
from mlc_dagster.stampli.inbound import Inbound
from mlc_dagster.stampli.posting.absence import AbsenceProver, Finding, Presence
from mlc_dagster.stampli.posting.adoption import MOST_UNREAD, adopting, may_be_only, named, ours_of, unread_text
from mlc_dagster.stampli.posting.comparison import compare, origin
from mlc_dagster.stampli.posting.other_names import OtherNames
from mlc_dagster.stampli.posting.sending import PostingSummary, Sender
from mlc_dagster.stampli.reasons import problem, problem_rows


class Traced:
    """Records what became of one run's attempts; every method returns after its commit."""

    def __init__(
        self,
        inbound: Inbound,
        client: FusionClient,
        writer: LedgerWriter,
        prover: AbsenceProver,
        sender: Sender,
        summary: PostingSummary,
    ) -> None:
        self._inbound = inbound
        self._client = client
        self._writer = writer
        self._prover = prover
        self._sender = sender
        self._summary = summary
        self._settings = inbound.settings.fusion

    async def read(self, findings: Sequence[Finding]) -> dict[int, InvoiceRecord]:
        """What was found, with its lines, by InvoiceId; raises FusionError when Fusion cannot be read."""
        ids = [record.invoice_id for finding in findings for record in finding.records]
        return await read_back(self._client, ids) if ids else {}

    async def postpone(self, row: Row, why: str) -> None:
        """Look again later, for the reason that is given."""
        if row["phase"] == Phase.INTENT:
            # Its request is over: as an intent it would keep the run waiting until its lease ends.
            await self._sender.unknown(row["id"], why, row["http_status"])
            return
        wait = dt.timedelta(seconds=self._settings.ambiguous_wait)
        await self._writer.submit(partial(recovery.postpone, submission_id=row["id"], wait=wait))

    async def _unread(self, row: Row, records: Sequence[InvoiceRecord]) -> None:
        """Deleted since the look-up, or not to be read: nothing can be said now, and people are told after a while."""
        ids = [record.invoice_id for record in records]
        times = await self._writer.submit(partial(recovery.note_unread, submission_id=row["id"], invoice_ids=ids))
        if times % MOST_UNREAD == 0:
            await self.park_unknown(row, unread_text(records))
        else:
            await self.postpone(row, unread_text(records))

    async def found(
        self, submission_id: int, fields: dict[str, Any], finding: Finding, complete: dict[int, InvoiceRecord]
    ) -> None:
        """Ours, somebody else's, or for people; ``complete`` are the finding's records with their lines."""
        user = self._settings.posting_user
        records = [complete[record.invoice_id] for record in finding.records if record.invoice_id in complete]
        with self._inbound.ledger.reading() as reading:
            this = recovery.get_submission(reading, submission_id)
            sent = recovery.attempts_of(reading, [this["invoice_pk"]])[::-1]
        # Each run has a group of its own: what an earlier attempt of it was refused for may be stored since.
        same = [each for each in sent if each["occurrence_id"] == this["occurrence_id"] and each["id"] != submission_id]
        found = ours_of([this, *same], records, posting_user=user)
        if found is not None:
            await self._writer.submit(adopting(submission_id, found[1]))
            self._summary.adopted += 1
            return
        if len(records) < len(finding.records):
            await self._unread(this, finding.records)
            return
        if may_be_only(fields["InvoiceNumber"], records):
            await self.park_unknown(this, f"not every character can be read of the number of {named(records)}")
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

    def other_names(self) -> OtherNames:
        """What one round of looking asks for; see ``OtherNames``."""
        user = self._settings.posting_user
        return OtherNames(self._prover, self._client, self._inbound.ledger, posting_user=user)

    async def under_other_names(self, row: Row, names: OtherNames) -> bool:
        """What is absent under its names may be there under others; True when it is, or may be."""
        traces = await names.look(row)
        if traces.presence is Presence.UNPROVEN or traces.wait:
            await self.postpone(row, "what Fusion shows may be it, or another's")
            return True
        if traces.ours is not None:
            evidence = "found in Fusion under another number or supplier, with our marks and content"
            await self._writer.submit(adopting(row["id"], traces.ours, evidence))
            self._summary.adopted += 1
        elif traces.told:
            await self.park_unknown(row, "it may be in Fusion under other names", remedy=traces.told)
        return traces.ours is not None or bool(traces.told)

    async def park_unknown(self, row: Row, why: str, *, remedy: str | None = None) -> None:
        """Nobody here can say what became of it."""
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
