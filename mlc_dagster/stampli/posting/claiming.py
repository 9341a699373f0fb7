"""What the ledger is told of an invoice before its request: claim and intent, or why there is no request.

Each step holds only while the invoice is what was looked up, and commits before anything follows from it. Which
invoices are looked up, and when their turn comes, is in ``window_posting``.
"""

import datetime as dt
import secrets
from collections.abc import Sequence
from functools import partial

from mlc_dagster.ledger import submissions
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.releases import DUP_UNREADABLE
from mlc_dagster.ledger.states import InvoiceState, move
from mlc_dagster.ledger.submissions import Intent, TakenBy
from mlc_dagster.ledger.windows import WindowLost, window_held, window_key
from mlc_dagster.ledger.writer import LedgerWriter
from mlc_dagster.stampli.inbound import FEED, Inbound, WindowWork
from mlc_dagster.stampli.posting.absence import Finding
from mlc_dagster.stampli.posting.adoption import named
from mlc_dagster.stampli.posting.comparison import body_fields, compare
from mlc_dagster.stampli.posting.forgotten import GROUP_PREFIX
from mlc_dagster.stampli.posting.sending import PostingStopped, PostingSummary, lease_length
from mlc_dagster.stampli.posting.sought import is_unchanged, park_unsent
from mlc_dagster.stampli.reasons import Problem, problem
from mlc_dagster.stampli.validation.body import fill_group

_TOKEN_BYTES = 4
"""Of what tells one run's group from another's with the same window and generation."""


def invoice_group(window_start: dt.datetime, generation: int) -> str:
    """A new InvoiceGroup, under which one run's invoices are found in Fusion; at most 50 characters.

    Its last word is chance: after a restore windows and generations come again, and what the forgotten run created must
    not be taken for what a new one may have created. Never made anew for what was sent: its frozen body names it.
    """
    return f"{GROUP_PREFIX}{window_key(window_start)} g{generation} {secrets.token_hex(_TOKEN_BYTES)}"


def require_window(transaction: Transaction, work: WindowWork) -> None:
    """Raises PostingStopped when another run has taken the window over: our proofs of absence are old by then."""
    if not window_held(transaction, FEED, work.start, work.fence):
        raise PostingStopped(WindowLost(window_key(work.start)))


class Claiming:
    """Claims and verdicts of one run over one window; every method returns after its commit."""

    def __init__(self, inbound: Inbound, writer: LedgerWriter, work: WindowWork, summary: PostingSummary) -> None:
        self._pod = inbound.pod
        self._lease = lease_length(inbound.settings.fusion)
        self._group = invoice_group(work.start, work.generation)
        self._writer = writer
        self._work = work
        self._summary = summary

    async def claim(self, rows: Sequence[Row]) -> list[Intent]:
        """Intents for those of ``rows`` that may be sent; the others are not VALIDATED any more.

        Raises:
            PostingStopped: another run has taken the window over; nothing was claimed.
        """

        def change(transaction: Transaction) -> list[Intent | Problem]:
            require_window(transaction, self._work)
            return [result for row in rows if (result := self._claim(transaction, row)) is not None]

        results = await self._writer.submit(change)
        # After the commit: a change may be run more than once.
        self._summary.parked.update(result.reason for result in results if isinstance(result, Problem))
        return [result for result in results if isinstance(result, Intent)]

    def _claim(self, transaction: Transaction, row: Row) -> Intent | Problem | None:
        """The intent, or why the invoice was parked instead."""
        if not is_unchanged(transaction, row):
            return None
        released: list[str] = row["released_reasons"] or []
        # A released number of another business unit is a number of its own.
        suffix = f"\x1f{row['business_unit']}" if "DUP_OTHER_BU" in released else ""
        result = submissions.claim(
            transaction,
            row["id"],
            pod=self._pod,
            supplier_id=row["supplier_id"],
            number_key=row["number_key"] + suffix,
            body=fill_group(row["mapping"], self._group),
            invoice_group=self._group,
            mapped_with=row["mapped_with"],
            window_start=self._work.start,
            generation=self._work.generation,
            owner=self._work.owner,
            fence=self._work.fence,
            lease=self._lease,
            occurrence_id=row["occurrence_id"],
        )
        if isinstance(result, TakenBy):
            value = f"{row['number']} (our invoice {result.invoice_pk})"
            found = problem("DUP_EXACT", field="invoice_number", value=value)
            return found if park_unsent(transaction, row, found) else None
        return result

    async def park_unproven(self, row: Row) -> None:
        """An earlier attempt may have been stored, and nobody can find out."""
        await self._set_aside(
            row, problem("SUBMIT_UNKNOWN", value="it cannot be proven that an earlier attempt was not stored")
        )

    async def hold(self, row: Row, finding: Finding) -> None:
        """The supplier's number is used in another business unit: for a person."""
        record = finding.record
        value = f"{row['fusion_number']} (InvoiceId {record.invoice_id} in {record.business_unit})" if record else None
        await self._set_aside(row, problem("DUP_OTHER_BU", field="invoice_number", value=value))

    async def hold_unreadable(self, row: Row, finding: Finding) -> None:
        """What the supplier has may be it: not every character of its number can be read. For a person."""
        value = f"{row['fusion_number']} ({named(finding.records)})"
        await self._set_aside(row, problem(DUP_UNREADABLE, field="invoice_number", value=value))

    async def already_there(self, row: Row, finding: Finding) -> None:
        """Fusion has the invoice, and not by us."""
        if await self._writer.submit(partial(_already_there, row=row, finding=finding)):
            self._summary.already_in_fusion += 1

    async def _set_aside(self, row: Row, found: Problem) -> None:
        if await self._writer.submit(partial(park_unsent, row=row, found=found)):
            self._summary.parked[found.reason] += 1


def _already_there(transaction: Transaction, *, row: Row, finding: Finding) -> bool:
    if not is_unchanged(transaction, row):
        return False
    record = finding.record
    assert record is not None  # noqa: S101 - PRESENT carries its record
    return move(
        transaction,
        row["id"],
        InvoiceState.ALREADY_IN_FUSION,
        expected=(InvoiceState.VALIDATED,),
        event="invoice.already_in_fusion",
        detail={"invoice_id": record.invoice_id, "created_by": record.created_by, "source": record.invoice_source},
        fusion_invoice_id=record.invoice_id,
        differences=compare(body_fields(row["mapping"]), record).differences,
    )
