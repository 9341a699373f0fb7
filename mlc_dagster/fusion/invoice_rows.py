"""Payables invoices as Fusion shows them: the typed record and its decoding.

The answer to a create leaves derived attributes (type, terms, statuses) empty; only a later read has them.
"""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from mlc_dagster.fusion.wire import Id, Nested, YesNo, day, flag, instant, money, nested_rows


class LineRecord(msgspec.Struct, frozen=True):
    """An invoice line; ``amount`` in the invoice's currency."""

    number: int
    amount: Decimal | None
    line_type: str | None
    description: str | None
    distribution_combination: str | None
    canceled: bool | None
    discarded: bool | None


class InvoiceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice as Fusion shows it.

    ``amount`` is None for an incomplete invoice that a person has begun. ``lines`` is None when lines were not read.
    Statuses are display texts. Times are UTC.
    """

    invoice_id: int
    number: str
    business_unit: str | None
    supplier: str | None
    supplier_number: str | None
    supplier_site: str | None
    currency: str | None
    amount: Decimal | None
    invoice_date: dt.date | None
    accounting_date: dt.date | None
    invoice_type: str | None
    invoice_source: str | None
    invoice_group: str | None
    description: str | None
    created_by: str | None
    creation_date: dt.datetime | None
    validation_status: str | None
    approval_status: str | None
    paid_status: str | None
    accounting_status: str | None
    canceled: bool | None
    amount_paid: Decimal | None
    last_update_date: dt.datetime | None
    lines: tuple[LineRecord, ...] | None = None


class LineRow(msgspec.Struct, rename="pascal"):
    """A line on the wire."""

    line_number: Id
    line_amount: Decimal | None = None
    line_type: str | None = None
    description: str | None = None
    distribution_combination: str | None = None
    canceled_flag: YesNo = None
    discarded_flag: YesNo = None

    def record(self) -> LineRecord:
        """Raises ResponseInvalid when a value is not what it should be."""
        return LineRecord(
            number=self.line_number,
            amount=money(self.line_amount),
            line_type=self.line_type,
            description=self.description,
            distribution_combination=self.distribution_combination,
            canceled=flag(self.canceled_flag),
            discarded=flag(self.discarded_flag),
        )


class InvoiceRow(msgspec.Struct, rename="pascal", kw_only=True):
    """An invoice on the wire."""

    invoice_id: Id
    invoice_number: str | None = None
    business_unit: str | None = None
    supplier: str | None = None
    supplier_number: str | None = None
    supplier_site: str | None = None
    invoice_currency: str | None = None
    invoice_amount: Decimal | None = None
    invoice_date: str | None = None
    accounting_date: str | None = None
    invoice_type: str | None = None
    invoice_source: str | None = None
    invoice_group: str | None = None
    description: str | None = None
    created_by: str | None = None
    creation_date: str | None = None
    validation_status: str | None = None
    approval_status: str | None = None
    paid_status: str | None = None
    accounting_status: str | None = None
    canceled_flag: YesNo = None
    amount_paid: Decimal | None = None
    last_update_date: str | None = None
    invoice_lines: Nested[LineRow] = msgspec.field(default=None, name="invoiceLines")

    def record(self, lines: Sequence[LineRow] | None = None) -> InvoiceRecord:
        """The record, with ``lines`` in place of those that came along; raises ResponseInvalid."""
        if lines is None and self.invoice_lines is not None:
            lines = nested_rows(self.invoice_lines)
        return InvoiceRecord(
            invoice_id=self.invoice_id,
            number=self.invoice_number or "",
            business_unit=self.business_unit,
            supplier=self.supplier,
            supplier_number=self.supplier_number,
            supplier_site=self.supplier_site,
            currency=self.invoice_currency,
            amount=money(self.invoice_amount),
            invoice_date=day(self.invoice_date),
            accounting_date=day(self.accounting_date),
            invoice_type=self.invoice_type,
            invoice_source=self.invoice_source,
            invoice_group=self.invoice_group,
            description=self.description,
            created_by=self.created_by,
            creation_date=instant(self.creation_date),
            validation_status=self.validation_status,
            approval_status=self.approval_status,
            paid_status=self.paid_status,
            accounting_status=self.accounting_status,
            canceled=flag(self.canceled_flag),
            amount_paid=money(self.amount_paid),
            last_update_date=instant(self.last_update_date),
            lines=None if lines is None else tuple(line.record() for line in lines),
        )


HEADER_FIELDS = tuple(name for name in InvoiceRow.__struct_encode_fields__ if name != "invoiceLines")
"""Fusion's names of all header attributes read."""
