"""Invoices, purchase orders and suppliers at every row level; and what a preview says of a layout."""

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from mlc_dagster.exports.layouts.errors import LayoutError
from mlc_dagster.exports.layouts.loading import load_layout, open_writer
from mlc_dagster.exports.layouts.preview import preview
from mlc_dagster.exports.writing import DocumentHeld
from mlc_dagster.fusion.records import (
    Installment,
    Invoice,
    InvoiceLine,
    InvoiceStatus,
    OrderDistribution,
    OrderLine,
    OrderSchedule,
    PurchaseOrder,
    SupplierPlace,
    SupplierRecord,
)
from mlc_dagster.settings.exports import PartnerSettings
from mlc_dagster_tests.exports.layouts import workbench as b

INVOICE = Invoice(
    invoice_id=1,
    number="INV-1",
    currency="JPY",
    amount=Decimal(1500),
    lines=(InvoiceLine(number=1, amount=Decimal(1000)), InvoiceLine(number=2, amount=Decimal(500))),
    installments=(Installment(number=1, due_date=dt.date(2026, 12, 1), gross_amount=Decimal(1500)),),
)


def distribution(number: int, amount: str, account: str) -> OrderDistribution:
    return OrderDistribution(distribution_id=number, number=number, ordered=Decimal(amount), charge_account=account)


ORDER = PurchaseOrder(
    header_id=9,
    number="PO9",
    buyer="Ann Buyer",
    currency="USD",
    ordered=Decimal("30.5"),
    canceled=True,
    lines=(
        OrderLine(
            line_id=1,
            number=1,
            ordered=Decimal("30.5"),
            price=Decimal("0.00125"),
            schedules=(
                OrderSchedule(
                    schedule_id=1,
                    number=1,
                    distributions=(distribution(1, "20", b.ACCOUNT), distribution(2, "10.5", "101-300-60550-000")),
                ),
            ),
        ),
        OrderLine(line_id=2, number=2, description="Service without a distribution"),
    ),
)
SUPPLIER = SupplierRecord(
    supplier_id=5, name="Acme, Inc.", sites=(SupplierPlace(site_id=1, name="MAIN", pays=True), SupplierPlace(site_id=2))
)


def test_the_budget_layout_puts_every_amount_beside_its_account() -> None:
    """The consolidation system budgets by account; header, line and schedule are repeated."""
    writer = open_writer(load_layout("purchase_orders_budget_csv", root=Path()), b.feed_of("purchase_orders"), b.CHARTS)
    rows = b.assembled(writer, [b.version_of(ORDER, "purchase_orders")]).decode().split("\r\n")
    names = rows[0].split(",")
    values = [dict(zip(names, row.split(","), strict=True)) for row in rows[1:4]]
    shown = [
        (row["LINE"], row["GL_ACCOUNT"], row["COST_CENTER"], row["ORDERED_AMOUNT"], row["BUYER"]) for row in values
    ]
    assert shown == [
        ("1", "60540", "200", "20.00", "Ann Buyer"),
        ("1", "60550", "300", "10.50", "Ann Buyer"),
        ("2", "", "", "", "Ann Buyer"),
    ]
    assert rows[4] == "TRAILER,1,3,30.5"


def test_a_line_without_distributions_is_not_lost() -> None:
    """It has a row at every level below, with that level's columns empty."""
    text = b.csv_layout(
        "[{name: L, field: line.number}, {name: S, field: schedule.number}, {name: P, field: line.price}]",
        row="schedule",
        source="purchase_orders",
    )
    assert b.body(text, ORDER, "purchase_orders") == b"1,1,0.00125\r\n2,,\r\n"
    skipping = text.replace("row: schedule", "row: schedule\nchildless: skip")
    made = b.rendered(skipping, ORDER, "purchase_orders")
    assert (made.body, made.counts) == (b"1,1,0.00125\r\n", {"childless": 1})


def test_invoices_by_line_installment_and_header() -> None:
    """Amounts in the invoice's currency: yen have no decimals."""
    by_line = b.csv_layout("[{name: N, field: invoice.number}, {name: A, field: line.amount}]", source="invoices")
    assert b.body(by_line, INVOICE, "invoices") == b"INV-1,1000\r\nINV-1,500\r\n"
    installments = b.csv_layout(
        "[{name: D, field: installment.due_date}, {name: A, field: installment.gross_amount}]",
        source="invoices",
        row="installment",
    )
    assert b.body(installments, INVOICE, "invoices") == b"2026-12-01,1500\r\n"
    header = b.csv_layout("[{name: A, field: invoice.amount}]", source="invoices", row="header")
    assert b.rendered(header, INVOICE, "invoices").totals == {"amount JPY": Decimal(1500)}


def test_the_status_that_fusion_moves_may_be_shown() -> None:
    """It is read with the invoice, without being part of its content."""
    columns = (
        "[{name: V, field: status.validation}, {name: P, field: status.amount_paid}, "
        "{name: C, field: invoice.canceled}]"
    )
    writer = b.writer_of(b.csv_layout(columns, source="invoices", row="header"))
    status = InvoiceStatus(validation="Validated", amount_paid=Decimal(5))
    assert writer.render(b.version_of(INVOICE, "invoices", status=status), 1).body == b"Validated,5,N\r\n"
    assert writer.render(b.version_of(INVOICE, "invoices"), 2).body == b",,N\r\n"


def test_suppliers_by_site_with_flags_in_the_partners_words() -> None:
    """Yes and no are spelled differently by everyone."""
    text = b.csv_layout(
        "[{name: S, field: supplier.name}, {name: P, field: site.pays}, "
        "{name: Q, field: site.purchases, format: {true: 'yes', false: 'no'}}]",
        "flags: ['1', '0']",
        source="suppliers",
        row="site",
    )
    assert b.body(text, SUPPLIER, "suppliers") == b'"Acme, Inc.",1,no\r\n"Acme, Inc.",0,no\r\n'


def test_several_charts_need_one_by_name() -> None:
    """An order names no ledger; which chart its accounts are of must not be guessed."""
    columns = "[{name: A, field: chart.natural_account}, {name: N, field: chart.name}]"
    text = b.csv_layout(columns, "childless: skip", source="purchase_orders", row="distribution")
    charts = {"US1": b.CHART, "FR1": b.CHART.model_copy(update={"ledgers": ["FR Ledger"]})}
    version = b.version_of(ORDER, "purchase_orders")
    with pytest.raises(DocumentHeld, match="name one as chart: in the layout"):
        b.writer_of(text, charts).render(version, 1)
    named = text.replace("childless", "chart: FR1\nchildless")
    assert b.writer_of(named, charts).render(version, 1).body == b"60540,FR1\r\n60550,FR1\r\n"


def test_what_is_known_about_a_record_can_be_written() -> None:
    """Ids and versions let the partner recognise a change."""
    columns = (
        "[{name: A, field: record.id}, {name: B, field: record.version}, {name: C, field: record.change}, "
        "{name: D, field: record.position}, {name: E, field: feed.name}, {name: F, field: record.last_update}]"
    )
    version = b.version_of(SUPPLIER, "suppliers", last_update_date=b.AT)
    made = b.writer_of(b.csv_layout(columns, source="suppliers", row="header")).render(version, 3)
    assert made.body == b"5,1,NEW,3,partner,2026-11-21T12:30:05Z\r\n"


def test_a_preview_names_source_and_target_and_every_problem() -> None:
    """What a user sees before the first file goes out."""
    layout = load_layout("journals_fixed", root=Path())
    good = b.version_of(b.journal()).read
    bad = b.version_of(b.journal(b.line(1, "1"), name="Odd")).read
    made = preview(layout, b.feed_of(), [good, bad], b.CHARTS)
    assert made.text.splitlines()[0].startswith("Hpartner")
    assert len(made.content) == 4 * 402
    assert "journal.ledger -> LEDGER [2-31] (required)" in made.mapping
    assert any("2 rows; entered_dr USD 10.5" in check for check in made.checks)
    (problem,) = made.problems
    assert problem.startswith("record 4711/US Primary Ledger/Odd: HELD UNBALANCED")


def test_a_mainframe_file_is_shown_as_text() -> None:
    """EBCDIC without line ends is not something to look at."""
    path = Path(__file__).parents[3] / "examples" / "layouts" / "journals_mainframe.yaml"
    made = preview(load_layout(str(path), root=Path()), b.feed_of(), [b.version_of(b.journal()).read], b.CHARTS)
    assert len(made.content) == 4 * 200
    records = made.text.split("\n")
    assert [record[:2] for record in records] == ["00", "10", "10", "99"]
    assert records[1][122:137] == "00000000000105{"
    assert records[2][122:137] == "00000000000105}"
    assert not made.problems


@pytest.mark.parametrize("name", ["invoices_csv", "purchase_orders_csv", "suppliers_csv"])
def test_shipped_layouts_write_their_source(name: str) -> None:
    """One row per line or site, with id and version at the end."""
    layout = load_layout(name, root=Path())
    content = {"invoices": INVOICE, "purchase_orders": ORDER, "suppliers": SUPPLIER}[layout.source]
    writer = open_writer(layout, b.feed_of(layout.source), b.CHARTS)
    made = writer.render(b.version_of(content, layout.source), 1)
    assert made.rows == 2
    assert all(row.endswith(f",{content.record_id},1") for row in made.body.decode().split("\r\n")[:-1])


def test_a_preview_of_x12_takes_no_control_number() -> None:
    """Rendered like any other format, with sample numbers; elements that the layout sets are named."""
    partner = PartnerSettings(sender="ZZ:US", receiver="ZZ:PARTNER")
    content = b.journal()
    layout = load_layout("x12_journals_821", root=Path())
    made = preview(layout, b.feed_of(partner=partner), [b.version_of(content).read], b.CHARTS)
    assert made.problems == ()
    assert made.text.startswith("ISA*")
    assert made.text[90:99] == "000000001"
    assert "NEW -> 821" in made.mapping
    with pytest.raises(LayoutError, match="X12 needs partner"):
        preview(layout, b.feed_of(), [], b.CHARTS)
