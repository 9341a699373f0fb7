"""Payables invoices as documents to export (``invoices`` with lines, distributions and installments).

Posting invoices and following their statuses is the affair of ``invoices``.
"""

from decimal import Decimal
from typing import Any

from mlc_dagster.fusion.documents import Node, Source
from mlc_dagster.fusion.levels import Level, amount, latest
from mlc_dagster.fusion.records import Installment, Invoice, InvoiceDistribution, InvoiceLine, InvoiceStatus, Read
from mlc_dagster.fusion.wire import instant

NAME = "invoices"

DISTRIBUTIONS = Level("invoiceDistributions", InvoiceDistribution, ("number",), "DistributionLineNumber:asc")
LINES = Level("invoiceLines", InvoiceLine, ("number",), "LineNumber:asc", children=(DISTRIBUTIONS,))
INSTALLMENTS = Level("invoiceInstallments", Installment, ("number",), "InstallmentNumber:asc")
_STATUS = (
    ("validation_status", "ValidationStatus", str),
    ("approval_status", "ApprovalStatus", str),
    ("paid_status", "PaidStatus", str),
    ("accounting_status", "AccountingStatus", str),
    ("amount_paid", "AmountPaid", Decimal),
)
TOP = Level("invoices", Invoice, ("invoice_id",), "InvoiceId:asc", children=(LINES, INSTALLMENTS), extra=_STATUS)


def _reads(node: Node) -> list[Read]:
    row: Any = node.row
    invoice: Invoice = node.record()
    return [
        Read(
            source=NAME,
            record_id=invoice.record_id,
            fusion_id=invoice.invoice_id,
            content=invoice,
            last_update_date=latest(node.changed()),
            creation_date=instant(row.creation_date),
            status=InvoiceStatus(
                validation=row.validation_status,
                approval=row.approval_status,
                paid=row.paid_status,
                accounting=row.accounting_status,
                amount_paid=None if row.amount_paid is None else amount(row.amount_paid),
            ),
        )
    ]


INVOICES = Source(NAME, TOP, "InvoiceId", _reads, plain_path=False)
