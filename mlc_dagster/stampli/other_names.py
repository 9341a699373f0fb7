"""What an attempt created, found under another number or supplier: a clerk renumbered it, or his supplier was merged.

A look-up by supplier and number does not see it any more, and calls it absent. Our marks (user, source, group) and the
amount are what such a change leaves as it was. What becomes of the attempt then is decided in ``uncertainty``.
"""

from dataclasses import replace
from decimal import Decimal

from mlc_dagster.ledger import recovery
from mlc_dagster.ledger.database import Ledger, Row
from mlc_dagster.stampli.absence import AbsenceProver, Finding
from mlc_dagster.stampli.comparison import Comparison, body_fields, origin
from mlc_dagster.stampli.earlier_attempts import sought_for_attempt
from mlc_dagster.stampli.identity import number_key

_NAMES = frozenset({"InvoiceNumber", "SupplierNumber", "SupplierSite"})


async def look_under_other_names(prover: AbsenceProver, ledger: Ledger, attempt: Row, *, posting_user: str) -> Finding:
    """Invoices that bear the attempt's marks and amount and are known as no other invoice's.

    Raises:
        FusionError: Fusion cannot be read.
    """
    fields = body_fields(attempt["body"])
    amount = Decimal(str(fields["InvoiceAmount"]))
    finding = await prover.look_up_amount(sought_for_attempt(attempt), amount)
    marked = [record for record in finding.records if not origin(fields, record, posting_user=posting_user)]
    if marked:
        with ledger.reading() as reading:
            marked = [
                record
                for record in marked
                if not recovery.belongs_to_another(
                    reading,
                    attempt["invoice_pk"],
                    fusion_invoice_id=record.invoice_id,
                    number_key=number_key(record.number),
                    supplier_number=record.supplier_number,
                )
            ]
    return replace(finding, records=tuple(marked))


def differs_in_names_only(compared: Comparison) -> bool:
    """Whether what was found is what was sent but for what it is called."""
    return not compared.differences.keys() - _NAMES
