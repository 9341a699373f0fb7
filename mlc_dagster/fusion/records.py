"""What Fusion's documents are to those who receive them: journal, invoice, purchase order, supplier.

Each is the fixed projection of a record: what it says, without what changes on its own (update times, request ids,
statuses that Fusion moves). Its canonical JSON, with Fusion's attribute names and absent values left out, is what a
version's hash is taken over: an attribute added here later, absent in old records, changes no hash.
Attribute names: Oracle's REST resources of version 11.13.18.05.
"""

import datetime as dt
import hashlib
from decimal import Decimal
from typing import Any

import msgspec

from mlc_dagster.fusion.canonical import ENCODER, Record
from mlc_dagster.fusion.journal_lines import NO_LINES, JournalLines


class Journal(Record, frozen=True, kw_only=True):
    """One journal of a batch, with all its lines. Identity: (JeBatchId, ledger, journal name)."""

    batch_id: int = msgspec.field(name="JeBatchId")
    batch_name: str | None = None
    batch_description: str | None = None
    status: str | None = None
    """``P`` posted, ``U`` not: how far posting has come in between moves on its own."""
    balance_type: str | None = msgspec.field(default=None, name="ActualFlagMeaning")
    source: str | None = msgspec.field(default=None, name="UserJeSourceName")
    posted_date: dt.date | None = None
    name: str = msgspec.field(name="JournalName")
    description: str | None = msgspec.field(default=None, name="JournalDescription")
    ledger: str = msgspec.field(name="LedgerName")
    ledger_currency: str | None = msgspec.field(default=None, name="LedgerCurrencyCode")
    legal_entity: str | None = msgspec.field(default=None, name="LegalEntityName")
    currency: str | None = msgspec.field(default=None, name="CurrencyCode")
    period: str | None = msgspec.field(default=None, name="PeriodName")
    effective_date: dt.date | None = msgspec.field(default=None, name="DefaultEffectiveDate")
    category: str | None = msgspec.field(default=None, name="UserJeCategoryName")
    conversion_date: str | None = msgspec.field(default=None, name="CurrencyConversionDate")
    conversion_rate: Decimal | None = msgspec.field(default=None, name="CurrencyConversionRate")
    conversion_type: str | None = msgspec.field(default=None, name="UserCurrencyConversionType")
    external_reference: str | None = None
    reversed_journal: str | None = msgspec.field(default=None, name="ReversedJeHeaderName")
    lines: JournalLines = msgspec.field(default=NO_LINES, name="journalLines")

    @property
    def record_id(self) -> str:
        return f"{self.batch_id}/{self.ledger}/{self.name}"


class InvoiceDistribution(Record, frozen=True, kw_only=True):
    line_number: int | None = msgspec.field(default=None, name="InvoiceLineNumber")
    number: int = msgspec.field(name="DistributionLineNumber")
    kind: str | None = msgspec.field(default=None, name="DistributionLineType")
    amount: Decimal | None = msgspec.field(default=None, name="DistributionAmount")
    combination: str | None = msgspec.field(default=None, name="DistributionCombination")
    accounting_date: dt.date | None = None
    description: str | None = None


class InvoiceLine(Record, frozen=True, kw_only=True):
    number: int = msgspec.field(name="LineNumber")
    kind: str | None = msgspec.field(default=None, name="LineType")
    amount: Decimal | None = msgspec.field(default=None, name="LineAmount")
    description: str | None = None
    quantity: Decimal | None = None
    unit_price: Decimal | None = None
    uom: str | None = msgspec.field(default=None, name="UOM")
    item: str | None = None
    combination: str | None = msgspec.field(default=None, name="DistributionCombination")
    tax_classification: str | None = None
    tax_rate: Decimal | None = None
    purchase_order: str | None = msgspec.field(default=None, name="PurchaseOrderNumber")
    purchase_order_line: str | None = msgspec.field(default=None, name="PurchaseOrderLineNumber")
    distributions: tuple[InvoiceDistribution, ...] = msgspec.field(default=(), name="invoiceDistributions")


class Installment(Record, frozen=True, kw_only=True):
    number: int = msgspec.field(name="InstallmentNumber")
    due_date: dt.date | None = None
    gross_amount: Decimal | None = None
    payment_method: str | None = None


class InvoiceStatus(Record, frozen=True, kw_only=True):
    """What Fusion says of the invoice's progress. Not part of its content: it changes without the invoice changing."""

    validation: str | None = msgspec.field(default=None, name="ValidationStatus")
    approval: str | None = msgspec.field(default=None, name="ApprovalStatus")
    paid: str | None = msgspec.field(default=None, name="PaidStatus")
    accounting: str | None = msgspec.field(default=None, name="AccountingStatus")
    amount_paid: Decimal | None = None


class Invoice(Record, frozen=True, kw_only=True):
    """A Payables invoice with lines, distributions and installments. Identity: InvoiceId."""

    invoice_id: int
    number: str = msgspec.field(name="InvoiceNumber")
    business_unit: str | None = None
    legal_entity: str | None = None
    supplier: str | None = None
    supplier_number: str | None = None
    supplier_site: str | None = None
    currency: str | None = msgspec.field(default=None, name="InvoiceCurrency")
    amount: Decimal | None = msgspec.field(default=None, name="InvoiceAmount")
    invoice_date: dt.date | None = None
    accounting_date: dt.date | None = None
    kind: str | None = msgspec.field(default=None, name="InvoiceType")
    source: str | None = msgspec.field(default=None, name="InvoiceSource")
    description: str | None = None
    payment_terms: str | None = None
    terms_date: dt.date | None = None
    payment_method: str | None = None
    pay_group: str | None = None
    purchase_order: str | None = msgspec.field(default=None, name="PurchaseOrderNumber")
    canceled: bool = msgspec.field(default=False, name="CanceledFlag")
    canceled_date: dt.date | None = None
    lines: tuple[InvoiceLine, ...] = msgspec.field(default=(), name="invoiceLines")
    installments: tuple[Installment, ...] = msgspec.field(default=(), name="invoiceInstallments")

    @property
    def record_id(self) -> str:
        return str(self.invoice_id)


class OrderDistribution(Record, frozen=True, kw_only=True):
    distribution_id: int = msgspec.field(name="PODistributionId")
    number: int = msgspec.field(name="DistributionNumber")
    quantity: Decimal | None = None
    ordered: Decimal | None = None
    """Amount, in the order's currency."""
    charge_account: str | None = msgspec.field(default=None, name="POChargeAccount")
    budget_date: dt.date | None = None
    deliver_to: str | None = msgspec.field(default=None, name="DeliverToLocation")
    requester: str | None = None


class OrderSchedule(Record, frozen=True, kw_only=True):
    schedule_id: int = msgspec.field(name="LineLocationId")
    number: int = msgspec.field(name="ScheduleNumber")
    quantity: Decimal | None = None
    ordered: Decimal | None = None
    ship_to: str | None = msgspec.field(default=None, name="ShipToLocation")
    ship_to_code: str | None = msgspec.field(default=None, name="ShipToLocationCode")
    requested_delivery: dt.date | None = msgspec.field(default=None, name="RequestedDeliveryDate")
    promised_delivery: dt.date | None = msgspec.field(default=None, name="PromisedDeliveryDate")
    destination_type: str | None = msgspec.field(default=None, name="DestinationTypeCode")
    canceled: bool = False
    distributions: tuple[OrderDistribution, ...] = msgspec.field(default=(), name="distributions")


class OrderLine(Record, frozen=True, kw_only=True):
    line_id: int = msgspec.field(name="POLineId")
    number: int = msgspec.field(name="LineNumber")
    kind: str | None = msgspec.field(default=None, name="LineType")
    item: str | None = None
    supplier_item: str | None = None
    description: str | None = None
    category: str | None = None
    quantity: Decimal | None = None
    uom: str | None = msgspec.field(default=None, name="UOMCode")
    price: Decimal | None = None
    ordered: Decimal | None = None
    """Amount, in the order's currency."""
    canceled: bool = False
    schedules: tuple[OrderSchedule, ...] = msgspec.field(default=(), name="schedules")


class PurchaseOrder(Record, frozen=True, kw_only=True):
    """A purchase order with lines, schedules and distributions. Identity: POHeaderId."""

    header_id: int = msgspec.field(name="POHeaderId")
    number: str = msgspec.field(name="OrderNumber")
    revision: int = 0
    canceled: bool = False
    """As of lines and schedules: what Fusion's status says beside it (open, received, closed) is ``OrderStatus``."""
    description: str | None = None
    legal_entity: str | None = msgspec.field(default=None, name="SoldToLegalEntity")
    business_unit: str | None = msgspec.field(default=None, name="ProcurementBU")
    requisitioning_bu: str | None = msgspec.field(default=None, name="RequisitioningBU")
    bill_to_bu: str | None = msgspec.field(default=None, name="BillToBU")
    bill_to: str | None = msgspec.field(default=None, name="BillToLocation")
    ship_to: str | None = msgspec.field(default=None, name="DefaultShipToLocation")
    buyer: str | None = None
    supplier: str | None = None
    supplier_id: int | None = None
    supplier_site: str | None = None
    currency: str | None = msgspec.field(default=None, name="CurrencyCode")
    ordered: Decimal | None = None
    total: Decimal | None = None
    order_date: dt.date | None = None
    payment_terms: str | None = None
    freight_terms: str | None = None
    fob: str | None = msgspec.field(default=None, name="FOB")
    lines: tuple[OrderLine, ...] = msgspec.field(default=(), name="lines")

    @property
    def record_id(self) -> str:
        return str(self.header_id)


class OrderStatus(Record, frozen=True, kw_only=True):
    """What Fusion says of an order's progress. Not part of its content: receipts and invoices move it."""

    code: str | None = msgspec.field(default=None, name="StatusCode")
    lines: dict[int, str] = msgspec.field(default_factory=dict[int, str], name="lines")
    """Code of each line, by POLineId."""
    schedules: dict[int, str] = msgspec.field(default_factory=dict[int, str], name="schedules")
    """Code of each schedule, by LineLocationId."""


class SupplierPlace(Record, frozen=True, kw_only=True):
    site_id: int = msgspec.field(name="SupplierSiteId")
    name: str | None = msgspec.field(default=None, name="SupplierSite")
    business_unit: str | None = msgspec.field(default=None, name="ProcurementBU")
    address: str | None = msgspec.field(default=None, name="SupplierAddressName")
    pays: bool = msgspec.field(default=False, name="SitePurposePayFlag")
    purchases: bool = msgspec.field(default=False, name="SitePurposePurchasingFlag")
    payment_terms: str | None = None
    pay_group: str | None = None
    status: str | None = None
    inactive_date: dt.date | None = None


class SupplierRecord(Record, frozen=True, kw_only=True):
    """A supplier with its sites; bank accounts and tax identifiers are left out. Identity: SupplierId."""

    supplier_id: int
    name: str = msgspec.field(name="Supplier")
    number: str | None = msgspec.field(default=None, name="SupplierNumber")
    alternate_name: str | None = None
    kind: str | None = msgspec.field(default=None, name="SupplierType")
    tax_organization_type: str | None = None
    country: str | None = msgspec.field(default=None, name="TaxpayerCountry")
    status: str | None = None
    inactive_date: dt.date | None = None
    sites: tuple[SupplierPlace, ...] = msgspec.field(default=(), name="sites")

    @property
    def record_id(self) -> str:
        return str(self.supplier_id)


Content = Journal | Invoice | PurchaseOrder | SupplierRecord
Status = InvoiceStatus | OrderStatus

KINDS: dict[str, type[Content]] = {
    "journals": Journal,
    "invoices": Invoice,
    "purchase_orders": PurchaseOrder,
    "suppliers": SupplierRecord,
}
"""Source name, as in mlc.yaml, to what its records are."""

STATUSES: dict[str, type[Status]] = {"invoices": InvoiceStatus, "purchase_orders": OrderStatus}
"""Source name to what is read beside its records' content."""


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """A record as it was read once: content, and what is known about it without being part of it."""

    source: str
    """journals, invoices, purchase_orders or suppliers."""
    record_id: str
    fusion_id: int
    """Id of the top-level row: JeBatchId, InvoiceId, POHeaderId or SupplierId."""
    content: Content
    last_update_date: dt.datetime | None = None
    """Latest of the record's and its children's, UTC, by Fusion."""
    creation_date: dt.datetime | None = None
    status: Status | None = None


def canonical(content: Content) -> bytes:
    """The content as canonical JSON: fixed order, no blanks, absent values left out, decimals as exact text."""
    return ENCODER.encode(content)


def write_canonical(content: Content, target: bytearray) -> None:
    """``canonical`` into a buffer in place of what it held: large documents need not find new memory each time."""
    ENCODER.encode_into(content, target)


def digest(canonical_content: bytes | bytearray) -> str:
    """SHA-256 of a canonical content, hex: equal digests, equal content."""
    return hashlib.sha256(canonical_content).hexdigest()


def content_of(source: str, canonical_content: bytes | msgspec.Raw) -> Content:
    """Inverse of ``canonical``; raises msgspec.DecodeError."""
    return _decoder(source).decode(canonical_content)


def told_status(status: Status | None) -> dict[str, Any] | None:
    """The status as plain JSON values; amounts are exact text."""
    return None if status is None else msgspec.to_builtins(status, str_keys=True)


def status_of(source: str, told: dict[str, Any] | None) -> Status | None:
    """Inverse of ``told_status``; raises msgspec.ValidationError."""
    if told is None or source not in STATUSES:
        return None
    return msgspec.convert(told, STATUSES[source], strict=False, str_keys=True)


_DECODERS: dict[str, msgspec.json.Decoder[Content]] = {}


def _decoder(source: str) -> msgspec.json.Decoder[Content]:
    if source not in _DECODERS:
        _DECODERS[source] = msgspec.json.Decoder(KINDS[source], strict=False)
    return _DECODERS[source]
