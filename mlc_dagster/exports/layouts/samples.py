"""Built-in records to try a layout with, before anything was ever read from Fusion.

They show what usually goes wrong in a layout: two currencies, one of them without decimals, accents, a comma and quotes
in text, a credit memo, tax and freight. Every name and number is invented.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from mlc_dagster.fusion.journal_lines import JournalLine, JournalLines
from mlc_dagster.fusion.records import (
    Content,
    Installment,
    Invoice,
    InvoiceDistribution,
    InvoiceLine,
    InvoiceStatus,
    Journal,
    OrderDistribution,
    OrderLine,
    OrderSchedule,
    OrderStatus,
    PurchaseOrder,
    Read,
    Status,
    SupplierPlace,
    SupplierRecord,
)
from mlc_dagster.settings.fusion import ChartSettings

SAMPLE_CHART = ChartSettings(
    ledgers=["US Primary Ledger"],
    segments=["entity", "department", "account", "subAccount", "location", "future1"],
    natural_account="account",
    cost_center="department",
)
"""What accounts are built by where mlc.yaml names no chart."""

_AT = dt.datetime(2026, 11, 20, 16, 30, tzinfo=dt.UTC)
_DAY = dt.date(2026, 11, 20)
D = Decimal


def sample_reads(source: str, charts: Mapping[str, ChartSettings]) -> list[Read]:
    """Two records of the source; ledger and accounts are those of the first chart, or of ``SAMPLE_CHART``.

    Raises:
        KeyError: no such source.
    """
    chart = next(iter(charts.values()), SAMPLE_CHART)
    makers: dict[str, Callable[[ChartSettings], Sequence[tuple[Any, ...]]]] = {
        "journals": _journals,
        "invoices": _invoices,
        "purchase_orders": _orders,
        "suppliers": _suppliers,
    }
    return [_read(source, *made) for made in makers[source](chart)]


def _account(chart: ChartSettings, natural: str, cost_center: str = "200") -> str:
    known = {chart.balancing_segment: "101", chart.natural_account: natural}
    if chart.cost_center is not None:
        known[chart.cost_center] = cost_center
    return chart.delimiter.join(known.get(segment, "000") for segment in chart.segments)


def _read(source: str, fusion_id: int, content: Content, status: Status | None = None) -> Read:
    return Read(
        source=source,
        record_id=content.record_id,
        fusion_id=fusion_id,
        content=content,
        last_update_date=_AT,
        creation_date=_AT - dt.timedelta(days=1),
        status=status,
    )


def _journal_line(
    number: int, account: str, currency: str, amount: str, accounted: str, *, debit: bool, text: str | None = None
) -> JournalLine:
    amounts: dict[str, Any] = (
        {"entered_dr": D(amount), "accounted_dr": D(accounted)}
        if debit
        else {"entered_cr": D(amount), "accounted_cr": D(accounted)}
    )
    return JournalLine(line_number=number, account_combination=account, currency=currency, description=text, **amounts)


def _journals(chart: ChartSettings) -> Sequence[tuple[int, Journal]]:
    rent, bank, accrued = _account(chart, "60540"), _account(chart, "10110", "000"), _account(chart, "24110", "000")
    common: dict[str, Any] = {
        "status": "P",
        "balance_type": "Actual",
        "ledger": chart.ledgers[0],
        "ledger_currency": "USD",
        "legal_entity": "US1 Legal Entity",
        "period": "Nov-26",
        "effective_date": _DAY,
        "posted_date": _DAY,
    }
    return [
        (
            300100012345671,
            Journal(
                batch_id=300100012345671,
                batch_name="Accruals Nov-26",
                source="Spreadsheet",
                name="Rent accrual, Nov-26",
                description='Rent "Main St." – São Paulo office',
                category="Accrual",
                currency="USD",
                lines=JournalLines.of(
                    (
                        _journal_line(1, rent, "USD", "1250.5", "1250.5", debit=True, text="Rent, November"),
                        _journal_line(2, accrued, "USD", "1250.5", "1250.5", debit=False, text="Rent, November"),
                    )
                ),
                **common,
            ),
        ),
        (
            300100012345672,
            Journal(
                batch_id=300100012345672,
                batch_name="Payables Nov-26",
                source="Payables",
                name="Payments JPY",
                category="Payments",
                currency="JPY",
                conversion_rate=D("0.0067"),
                conversion_type="Corporate",
                lines=JournalLines.of(
                    (
                        _journal_line(1, accrued, "JPY", "140800", "943.36", debit=True),
                        _journal_line(2, bank, "JPY", "140800", "943.36", debit=False),
                    )
                ),
                **common,
            ),
        ),
    ]


def _invoice_line(
    number: int, kind: str, amount: str, account: str, text: str, *, quantity: str | None = None,
    price: str | None = None,
) -> InvoiceLine:  # fmt: skip
    return InvoiceLine(
        number=number,
        kind=kind,
        amount=D(amount),
        description=text,
        quantity=None if quantity is None else D(quantity),
        unit_price=None if price is None else D(price),
        uom=None if quantity is None else "Each",
        combination=account,
        distributions=(
            InvoiceDistribution(
                line_number=number, number=1, kind=kind, amount=D(amount), combination=account, accounting_date=_DAY
            ),
        ),
    )


def _invoices(chart: ChartSettings) -> Sequence[tuple[int, Invoice, InvoiceStatus]]:
    supplies, tax = _account(chart, "60520"), _account(chart, "22310", "000")
    status = InvoiceStatus(validation="Validated", approval="Not required", paid="Unpaid", accounting="Accounted")
    common: dict[str, Any] = {
        "business_unit": "US1 Business Unit",
        "legal_entity": "US1 Legal Entity",
        "supplier": "Müller & Söhne, Inc.",
        "supplier_number": "39001",
        "supplier_site": "DENVER",
        "currency": "USD",
        "invoice_date": _DAY,
        "accounting_date": _DAY,
        "source": "Stampli",
        "payment_terms": "Net 30",
        "terms_date": _DAY,
        "payment_method": "Check",
    }
    due = _DAY + dt.timedelta(days=30)
    return [
        (
            300100022345671,
            Invoice(
                invoice_id=300100022345671,
                number="2026-11-0815",
                amount=D("1082.5"),
                kind="Standard",
                description="Office supplies",
                lines=(
                    _invoice_line(1, "Item", "1000", supplies, "Desk lamps, black", quantity="8", price="125"),
                    _invoice_line(2, "Freight", "20", supplies, "Freight"),
                    _invoice_line(3, "Tax", "62.5", tax, "Sales tax"),
                ),
                installments=(Installment(number=1, due_date=due, gross_amount=D("1082.5"), payment_method="Check"),),
                **common,
            ),
            status,
        ),
        (
            300100022345672,
            Invoice(
                invoice_id=300100022345672,
                number="CM-0815",
                amount=D(-125),
                kind="Credit memo",
                description="One lamp returned",
                lines=(_invoice_line(1, "Item", "-125", supplies, "Desk lamp", quantity="-1", price="125"),),
                installments=(Installment(number=1, due_date=due, gross_amount=D(-125), payment_method="Check"),),
                **common,
            ),
            status,
        ),
    ]


def _order_line(
    number: int, account: str, text: str, quantity: str, price: str, amount: str, item: str | None
) -> OrderLine:
    key = 300100032000000 + number * 10
    distribution = OrderDistribution(
        distribution_id=key + 2,
        number=1,
        quantity=D(quantity),
        ordered=D(amount),
        charge_account=account,
        budget_date=_DAY,
        deliver_to="Denver HQ",
        requester="Lovelace, Ada",
    )
    schedule = OrderSchedule(
        schedule_id=key + 1,
        number=1,
        quantity=D(quantity),
        ordered=D(amount),
        ship_to="Denver HQ",
        ship_to_code="DEN",
        requested_delivery=_DAY + dt.timedelta(days=14),
        destination_type="EXPENSE",
        distributions=(distribution,),
    )
    return OrderLine(
        line_id=key,
        number=number,
        kind="Goods",
        item=item,
        description=text,
        category="Office Supplies",
        quantity=D(quantity),
        uom="Each",
        price=D(price),
        ordered=D(amount),
        schedules=(schedule,),
    )


def _orders(chart: ChartSettings) -> Sequence[tuple[int, PurchaseOrder, OrderStatus]]:
    supplies = _account(chart, "60520")
    common: dict[str, Any] = {
        "legal_entity": "US1 Legal Entity",
        "business_unit": "US1 Business Unit",
        "requisitioning_bu": "US1 Business Unit",
        "bill_to_bu": "US1 Business Unit",
        "bill_to": "Denver HQ",
        "ship_to": "Denver HQ",
        "buyer": "Hopper, Grace",
        "supplier": "Müller & Söhne, Inc.",
        "supplier_id": 300100009000001,
        "supplier_site": "DENVER",
        "currency": "USD",
        "order_date": _DAY,
        "payment_terms": "Net 30",
    }
    orders = [
        PurchaseOrder(
            header_id=300100032345671,
            number="US164815",
            description="Desk lamps, 2nd floor",
            ordered=D(1250),
            total=D(1250),
            lines=(
                _order_line(1, supplies, "Desk lamp, black", "8", "125", "1000", "LAMP-BK"),
                _order_line(2, supplies, 'Bulb 5" E27', "100", "2.5", "250", None),
            ),
            **common,
        ),
        PurchaseOrder(
            header_id=300100032345672,
            number="US164816",
            ordered=D("59.97"),
            total=D("59.97"),
            lines=(_order_line(3, supplies, "Cable 3 m", "3", "19.99", "59.97", "CABLE-3"),),
            **common,
        ),
    ]
    return [(order.header_id, order, _open(order)) for order in orders]


def _open(order: PurchaseOrder) -> OrderStatus:
    """Nothing received, nothing billed."""
    schedules = (schedule for line in order.lines for schedule in line.schedules)
    return OrderStatus(
        code="OPEN",
        lines={line.line_id: "OPEN" for line in order.lines},
        schedules={schedule.schedule_id: "OPEN" for schedule in schedules},
    )


def _suppliers(_: ChartSettings) -> Sequence[tuple[int, SupplierRecord]]:
    def site(number: int, name: str, *, pays: bool) -> SupplierPlace:
        return SupplierPlace(
            site_id=300100009100000 + number,
            name=name,
            business_unit="US1 Business Unit",
            address=name,
            pays=pays,
            purchases=True,
            payment_terms="Net 30",
            status="ACTIVE",
        )

    return [
        (
            300100009000001,
            SupplierRecord(
                supplier_id=300100009000001,
                name="Müller & Söhne, Inc.",
                number="39001",
                kind="SUPPLIER",
                country="US",
                status="ACTIVE",
                sites=(site(1, "DENVER", pays=True), site(2, "BOULDER", pays=False)),
            ),
        ),
        (
            300100009000002,
            SupplierRecord(
                supplier_id=300100009000002,
                name="Fabrikam Facilities",
                number="39002",
                country="US",
                status="INACTIVE",
                inactive_date=_DAY,
                sites=(site(3, "AUSTIN", pays=True),),
            ),
        ),
    ]
