"""Control rows: invoices known to be visible to us, one per business unit.

An answer that shows its control row proves the absence of what it does not show; see ``stampli.absence``.
"""

import sqlalchemy as sa

from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.schema import control_row, invoice, submission
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.submissions import Phase


def created_in(transaction: Transaction, pod: str, business_unit: str, *, limit: int = 20) -> list[int]:
    """InvoiceIds of the invoices that we created last in a business unit and that no one has cancelled since."""
    rows = transaction.rows(
        sa.select(invoice.c.fusion_invoice_id)
        .where(
            invoice.c.business_unit == business_unit,
            invoice.c.state.in_([str(InvoiceState.CREATED), str(InvoiceState.CONFIRMED)]),
            sa.exists().where(
                submission.c.invoice_pk == invoice.c.id,
                submission.c.pod == pod,
                submission.c.phase == str(Phase.CREATED),
            ),
        )
        .order_by(invoice.c.id.desc())
        .limit(limit)
    )
    return [row["fusion_invoice_id"] for row in rows]


def control_for(transaction: Transaction, pod: str, business_unit: str) -> tuple[int, str] | None:
    """(InvoiceId, number) of an invoice known to be visible in the business unit."""
    row = transaction.row(
        sa.select(control_row).where(control_row.c.pod == pod, control_row.c.business_unit == business_unit)
    )
    return (row["fusion_invoice_id"], row["number"]) if row else None


def keep_control(
    transaction: Transaction, pod: str, business_unit: str, *, fusion_invoice_id: int, number: str
) -> None:
    """Remember an invoice that was just seen; it takes the place of the business unit's last one."""
    transaction.upsert(
        control_row,
        [
            {
                "pod": pod,
                "business_unit": business_unit,
                "fusion_invoice_id": fusion_invoice_id,
                "number": number,
                "seen_at": transaction.now,
            }
        ],
    )
    transaction.audit("control_row.kept", f"business_unit:{business_unit}", invoice_id=fusion_invoice_id, number=number)
