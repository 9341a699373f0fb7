"""What the ledger is told of an invoice before its request: claim and intent, or why there is no request.

Each step holds only while the invoice is what was looked up, and commits before anything follows from it. Which
invoices are looked up, and when their turn comes, is in ``posting``.
"""

import datetime as dt
from collections.abc import Sequence
from functools import partial

from mlc_dagster.ledger import submissions
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.states import InvoiceState, move
from mlc_dagster.ledger.submissions import Intent, TakenBy
from mlc_dagster.ledger.windows import window_key
from mlc_dagster.ledger.writer import LedgerWriter
from mlc_dagster.stampli.absence import Finding
from mlc_dagster.stampli.body import fill_group
from mlc_dagster.stampli.comparison import body_fields, compare
from mlc_dagster.stampli.earlier_attempts import is_unchanged
from mlc_dagster.stampli.inbound import Inbound, WindowWork
from mlc_dagster.stampli.reading import problem_rows
from mlc_dagster.stampli.reasons import Problem, problem
from mlc_dagster.stampli.sending import PostingSummary, lease_length
from mlc_dagster.stampli.uncertainty import require_window


def invoice_group(window_start: dt.datetime, generation: int) -> str:
    """The InvoiceGroup under which a generation's invoices are found in Fusion; at most 50 characters."""
    return f"MLC {window_key(window_start)} g{generation}"


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

        def change(transaction: Transaction) -> list[Intent]:
            require_window(transaction, self._work)
            return [intent for row in rows if (intent := self._claim(transaction, row)) is not None]

        return await self._writer.submit(change)

    def _claim(self, transaction: Transaction, row: Row) -> Intent | None:
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
            self._park(transaction, row=row, found=problem("DUP_EXACT", field="invoice_number", value=value))
            return None
        return result

    async def park_unproven(self, row: Row) -> None:
        """An earlier attempt may have been stored, and nobody can find out."""
        found = problem("SUBMIT_UNKNOWN", value="it cannot be proven that an earlier attempt was not stored")
        await self._writer.submit(partial(self._park, row=row, found=found))

    async def hold(self, row: Row, finding: Finding) -> None:
        """The supplier's number is used in another business unit: for a person."""
        record = finding.record
        value = f"{row['fusion_number']} (InvoiceId {record.invoice_id} in {record.business_unit})" if record else None
        found = problem("DUP_OTHER_BU", field="invoice_number", value=value)
        await self._writer.submit(partial(self._park, row=row, found=found))

    async def already_there(self, row: Row, finding: Finding) -> None:
        """Fusion has the invoice, and not by us."""
        await self._writer.submit(partial(self._already_there, row=row, finding=finding))

    def _park(self, transaction: Transaction, *, row: Row, found: Problem) -> None:
        problems = list(problem_rows([found]))
        if is_unchanged(transaction, row) and move(
            transaction, row["id"], InvoiceState.PARKED, expected=(InvoiceState.VALIDATED,), reason=found.reason,
            event="invoice.parked", detail={"problems": problems}, problems=problems,
        ):  # fmt: skip
            self._summary.parked[found.reason] += 1

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
            self._summary.already_in_fusion += 1
