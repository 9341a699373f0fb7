"""What an attempt created, found under another number or supplier: a clerk changed it, or his supplier was merged.

A look-up by supplier and number does not see it any more, and calls it absent. Our marks (user, source, group) are what
such a change leaves as they were. What is equal but for its names is the attempt's, where its supplier is the same or
was merged into another; with any other change nobody here can say whose it is, and a person is told what was found:
in a restored ledger, it may be what the lost days posted. What becomes of the attempt is decided in ``uncertainty``.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.errors import BusinessRefusal
from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.fusion.invoices import read_back
from mlc_dagster.fusion.suppliers import read_supplier_by_id
from mlc_dagster.ledger import recovery
from mlc_dagster.ledger.database import Ledger, Row
from mlc_dagster.ledger.schema import invoice
from mlc_dagster.stampli.posting.absence import AbsenceProver, Finding, Presence
from mlc_dagster.stampli.posting.comparison import Comparison, body_fields, compare, origin
from mlc_dagster.stampli.posting.forgotten import names_of
from mlc_dagster.stampli.posting.sought import sought_for_attempt
from mlc_dagster.stampli.reasons import shown
from mlc_dagster.stampli.validation.sites import inactive

_NAMES = frozenset({"InvoiceNumber", "SupplierNumber", "SupplierSite"})
_TOLD = 5
QUICKER_THAN_PEOPLE = dt.timedelta(seconds=30)
"""An invoice that is looked for within this time of its request still bears the names that it was sent with."""


@dataclass(frozen=True)
class Traces:
    """What Fusion shows of an attempt beside its own names."""

    presence: Presence
    ours: InvoiceRecord | None = None
    """What the attempt created, beyond doubt."""
    told: str = ""
    """What a person must look at before anything is sent again; empty where nothing was found."""
    wait: bool = False
    """A later attempt, still to be looked for, may be the one that created what was found."""


class OtherNames:
    """One round of looking: what Fusion shows of a group is asked for once, however many attempts were made in it."""

    def __init__(self, prover: AbsenceProver, client: FusionClient, ledger: Ledger, *, posting_user: str) -> None:
        self._prover = prover
        self._client = client
        self._ledger = ledger
        self._user = posting_user
        self._found: dict[tuple[str, str, str], Finding] = {}

    async def look(self, attempt: Row) -> Traces:
        """What bears the attempt's marks and is known as no other invoice's.

        Raises:
            FusionError: Fusion cannot be read.
        """
        fields = body_fields(attempt["body"])
        finding = await self._orphans(attempt, fields)
        with self._ledger.reading() as reading:
            # Another attempt of this round may have been given what it created.
            taken = recovery.known_invoices(reading, names_of(finding.records), but=attempt["invoice_pk"])
        orphans = [record.invoice_id for record in finding.records if record.invoice_id not in taken]
        if not orphans:
            return Traces(finding.presence)
        # Without their lines a changed account would pass for what was sent.
        complete = await read_back(self._client, orphans)
        compared = [(record, compare(fields, record)) for record in complete.values()]
        same = [record for record, comparison in compared if _differs_in_names_only(comparison)]
        if len(same) != 1:
            return Traces(finding.presence, told=_told(compared))
        if not await self._may_be_of(attempt, fields, same[0]):
            return Traces(finding.presence, told=_told(compared))
        rivals = self._rivals(attempt, same[0])
        if not rivals:
            return Traces(finding.presence, ours=same[0])
        # The last of them decides first, or each would wait for the others for ever.
        later = any(rival["ended_at"] is None and rival["id"] > attempt["id"] for rival in rivals)
        return Traces(finding.presence, told=_told(compared), wait=later)

    async def _orphans(self, attempt: Row, fields: Mapping[str, Any]) -> Finding:
        """What bears the attempt's marks and is no invoice that the ledger knows."""
        key = (fields["BusinessUnit"], fields["InvoiceGroup"], fields["InvoiceSource"])
        if key in self._found:
            return self._found[key]
        sought = sought_for_attempt(attempt)
        try:
            finding = await self._prover.look_up_group(sought, fields["InvoiceGroup"])
            everything = True
        except BusinessRefusal:
            # Not every Fusion need take a question by group. What kept its date and amount is found all the same.
            finding = await self._prover.look_up_amount(sought, Decimal(str(fields["InvoiceAmount"])))
            everything = False
        marked = [record for record in finding.records if not origin(fields, record, posting_user=self._user)]
        with self._ledger.reading() as reading:
            known = recovery.known_invoices(reading, names_of(marked))
        finding = replace(finding, records=tuple(each for each in marked if each.invoice_id not in known))
        if everything:
            self._found[key] = finding
        return finding

    async def _may_be_of(self, attempt: Row, fields: Mapping[str, Any], record: InvoiceRecord) -> bool:
        """False for another supplier's while ours is active: nobody merged him, and it may be an invoice of its own."""
        if record.supplier_number in (fields.get("SupplierNumber"), None):
            return True
        with self._ledger.reading() as reading:
            supplier_id = reading.value(sa.select(invoice.c.supplier_id).where(invoice.c.id == attempt["invoice_pk"]))
            today = reading.now.date()
        supplier = None if supplier_id is None else await read_supplier_by_id(self._client, supplier_id)
        if supplier is None:
            return False
        merged = inactive(supplier.status, supplier.inactive_date, today) is not None
        return merged or supplier.number == record.supplier_number

    def _rivals(self, attempt: Row, record: InvoiceRecord) -> list[Row]:
        """Attempts at other invoices that may as well have created it: sent in the same group, with equal content."""
        with self._ledger.reading() as reading:
            others = recovery.unsettled_in_group(
                reading, attempt["invoice_pk"], attempt["pod"], attempt["invoice_group"]
            )
        return [other for other in others if _differs_in_names_only(compare(body_fields(other["body"]), record))]


def _differs_in_names_only(compared: Comparison) -> bool:
    """Whether what was found is what was sent but for what it is called."""
    return not compared.differences.keys() - _NAMES


def _told(compared: Sequence[tuple[InvoiceRecord, Comparison]]) -> str:
    shown_of = "; ".join(_described(record, comparison) for record, comparison in compared[:_TOLD])
    more = f"; and {len(compared) - _TOLD} more" if len(compared) > _TOLD else ""
    return (
        f"Fusion shows what may be it, with our user, source and group, but not as it was sent: {shown_of}{more}. When "
        "one of these is it, two people say so with `mlc invoices mark-posted`; when none is, find out whose they are."
    )


def _described(record: InvoiceRecord, comparison: Comparison) -> str:
    differences = ", ".join(
        f"{name}: sent {shown(str(sent))}, Fusion has {shown(str(seen))}"
        for name, (sent, seen) in comparison.differences.items()
    )
    return f"InvoiceId {record.invoice_id} ({differences or 'equal to what was sent'})"
