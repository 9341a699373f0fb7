"""Invoices that we created and that the ledger does not know: it is older than they are, as after a restore.

Read again, most files name them as they were sent, and the look-up before each POST finds them. It does not where a
correction has another number, or a changed crosswalk another supplier: what may be the same purchase is then held for
two people, and everything else goes on. What was created in a group that is not settled yet may be an attempt's that
the ledger does know: what may be the same purchase waits until that is found out. Each run has a group of its own, so
that only a run that was under way when the ledger was copied can have created both.

A ledger that knows of no creation may be an old one as well: it asks for all that was ever created in our groups, which
is nothing where it is in truth the first.
"""

import asyncio
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.errors import BusinessRefusal
from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.fusion.invoices import created_since
from mlc_dagster.ledger import created_ids, recovery
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.releases import POSTED_BEFORE_RESTORE
from mlc_dagster.stampli.identity import number_key
from mlc_dagster.stampli.inbound import Inbound
from mlc_dagster.stampli.posting.comparison import body_fields
from mlc_dagster.stampli.reasons import Problem, problem

HOLD = POSTED_BEFORE_RESTORE
GROUP_PREFIX = "MLC "
"""Every InvoiceGroup of ours begins so; see ``claiming.invoice_group``."""


@dataclass(frozen=True)
class Held:
    """An invoice that is not sent, and why."""

    row: Row
    record: InvoiceRecord
    """What it may be."""
    waits: bool
    """The record may be what an open attempt created: nothing to tell anybody yet."""

    @property
    def problem(self) -> Problem:
        record = self.record
        amount = "" if record.amount is None else f", {record.amount:f} {record.currency or ''}".rstrip()
        value = f"InvoiceId {record.invoice_id}: {record.number} of supplier {record.supplier_number}{amount}"
        return problem(HOLD, field="invoice_number", value=value)


class Forgotten:
    """One run's knowledge of what the ledger has forgotten; asked for once."""

    def __init__(self, inbound: Inbound, client: FusionClient) -> None:
        self._inbound = inbound
        self._client = client
        self._records: Sequence[InvoiceRecord] | None = None

    async def held(self, rows: Sequence[Row]) -> list[Held]:
        """Those of the invoices that may be in Fusion already, as something that the ledger does not know.

        Raises:
            FusionError: Fusion cannot be read.
        """
        if self._records is None:
            self._records = await self._ask()
        if not self._records:
            return []
        # What was read from files in the meantime may name them, attempts end, and people decide.
        with self._inbound.ledger.reading() as reading:
            left = self._unknown(reading, self._records)
            unsettled = created_ids.unsettled_groups(reading, self._inbound.pod) if left else set[str]()
        for_people = [record for record in left if record.invoice_group not in unsettled]
        of_attempts = [record for record in left if record.invoice_group in unsettled]
        held: list[Held] = []
        for row in rows:
            if HOLD in (row["released_reasons"] or []):
                continue
            if (record := _alike(row, for_people)) is not None:
                held.append(Held(row, record, waits=False))
            elif (record := _alike(row, of_attempts)) is not None:
                held.append(Held(row, record, waits=True))
        return held

    async def _ask(self) -> Sequence[InvoiceRecord]:
        pod, user = self._inbound.pod, self._inbound.settings.fusion.posting_user
        with self._inbound.ledger.reading() as reading:
            # One that has created nothing, or has forgotten all of it, asks from the beginning.
            mark = created_ids.asked_up_to(reading, pod) or 0
        try:
            found = await created_since(self._client, GROUP_PREFIX, mark)
        except BusinessRefusal as refusal:
            # Not every Fusion need take a question by group; the look-up before each POST is there all the same.
            await asyncio.to_thread(self._note_refusal, mark, refusal)
            return ()
        # Another company's ledger may create in other business units under the same user.
        units = {company.business_unit for company in self._inbound.stampli.companies.values()}
        ours = [each for each in found if _is_by(each, user) and each.business_unit in units]
        return await asyncio.to_thread(self._note_asked, ours, mark)

    def _note_refusal(self, mark: int, refusal: BusinessRefusal) -> None:
        """Nobody is held in this run, and the trail must say so."""
        with self._inbound.ledger.transaction() as transaction:
            transaction.audit(
                "created_ids.not_asked", f"pod:{self._inbound.pod}", above=mark, text=str(refusal)[:500], held="nothing"
            )

    def _unknown(self, reading: Transaction, created: Sequence[InvoiceRecord]) -> list[InvoiceRecord]:
        """Those that the ledger does not know and nobody has decided on. What was cancelled is no purchase any more."""
        if not created:
            return []
        settled = recovery.known_invoices(reading, names_of(created)) | created_ids.told(reading, self._inbound.pod)
        return [record for record in created if record.invoice_id not in settled and not record.canceled]

    def _note_asked(self, created: Sequence[InvoiceRecord], mark: int) -> Sequence[InvoiceRecord]:
        """What is unknown of what was created; all below it is not asked for again."""
        with self._inbound.ledger.reading() as reading:
            unknown = self._unknown(reading, created)
        # Above the mark stays what is not known, for the next run to find it again.
        highest = max((record.invoice_id for record in created), default=mark)
        asked = min((record.invoice_id - 1 for record in unknown), default=highest)
        with self._inbound.ledger.transaction() as transaction:
            created_ids.note_asked(transaction, self._inbound.pod, asked)
        return unknown


def names_of(records: Sequence[InvoiceRecord]) -> dict[int, tuple[str, str | None]]:
    """What ``recovery.known_invoices`` asks the ledger for, by InvoiceId."""
    return {record.invoice_id: (number_key(record.number), record.supplier_number) for record in records}


def _is_by(record: InvoiceRecord, user: str) -> bool:
    group = record.invoice_group or ""
    return group.startswith(GROUP_PREFIX) and (record.created_by or "").casefold() == user.casefold()


def _alike(row: Row, records: Sequence[InvoiceRecord]) -> InvoiceRecord | None:
    """One that may be the same purchase: in the same business unit, of the same supplier or number, or amount and date.

    Many invoices have the same amount, as rents and fees do: it says something together with the date alone.
    """
    if not records:
        return None
    fields = body_fields(row["mapping"])
    amount, date = Decimal(str(fields["InvoiceAmount"])), dt.date.fromisoformat(fields["InvoiceDate"])
    content = (amount, fields["InvoiceCurrency"], date)
    for record in (each for each in records if each.business_unit == row["business_unit"]):
        if (
            record.supplier_number == row["supplier_number"]
            or number_key(record.number) == row["number_key"]
            or (record.amount, record.currency, record.invoice_date) == content
        ):
            return record
    return None
