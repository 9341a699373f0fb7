"""Documents in memory for the cases that only write: journals of the books, and invoices of three lines."""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal

from bench import journal_books as books_of
from bench.journal_books import Books, currency, variant_lines, variant_of
from mlc_dagster.exports.writing import Change, Version
from mlc_dagster.fusion.canonical import plain
from mlc_dagster.fusion.journal_lines import JournalLine, JournalLines
from mlc_dagster.fusion.records import Content, Installment, Invoice, InvoiceLine, Journal, Read

DAY = dt.date(2026, 11, 2)


def journals(books: Books) -> Iterator[Version]:
    """The books' journals as they come out of the recognition."""
    for batch_id in books.batch_ids:
        number = batch_id - books_of.FIRST_BATCH_ID
        variant = variant_of(batch_id)
        lines = JournalLines.of(
            JournalLine(
                line_number=line.number,
                account_combination=line.combination,
                entered_dr=_amount(line.entered) if line.debit else None,
                entered_cr=None if line.debit else _amount(line.entered),
                accounted_dr=_amount(line.accounted) if line.debit else None,
                accounted_cr=None if line.debit else _amount(line.accounted),
                currency=currency(variant),
                description=line.description,
            )
            for line in variant_lines(variant)
        )
        journal = Journal(
            batch_id=batch_id,
            batch_name=f"Payables A {batch_id} {number:06}",
            status="P",
            source="Payables",
            name=f"Purchase Invoices {number:06}",
            ledger=books_of.LEDGER,
            ledger_currency="USD",
            currency=currency(variant),
            period="Nov-26",
            effective_date=DAY,
            category="Purchase Invoices",
            lines=lines,
        )
        yield _version("journals", journal, batch_id)


def invoices(count: int) -> Iterator[Version]:
    """``count`` invoices of three lines each, no two alike."""
    for number in range(count):
        invoice_id = 300_000_000_500_000 + number
        lines = tuple(
            InvoiceLine(
                number=position,
                kind="Item",
                amount=_amount(4 * (1250 + number % 977 * position)),
                description=f"Copier paper, A4 80 g, pallet {number % 313} of {position}",
                quantity=Decimal(4),
                unit_price=_amount(1250 + number % 977 * position),
                uom="Each",
                item=f"PAPER-{position:03}",
                combination=f"101-10-60540-{number % 900 + 100}-000-000",
                purchase_order=f"PO{number // 3:07}",
                purchase_order_line=str(position),
            )
            for position in (1, 2, 3)
        )
        total = sum((line.amount or Decimal(0) for line in lines), Decimal(0))
        invoice = Invoice(
            invoice_id=invoice_id,
            number=f"NW-{number:07}",
            business_unit="US1 Business Unit",
            legal_entity="US1 Legal Entity",
            supplier="Northwind Paper Co",
            supplier_number="1287",
            supplier_site="DENVER",
            currency="USD",
            amount=plain(total),
            invoice_date=DAY,
            accounting_date=DAY,
            kind="Standard",
            source="Manual invoice entry",
            description="Copier paper",
            payment_terms="Net 30",
            terms_date=DAY,
            purchase_order=f"PO{number // 3:07}",
            lines=lines,
            installments=(Installment(number=1, due_date=DAY + dt.timedelta(days=30), gross_amount=plain(total)),),
        )
        yield _version("invoices", invoice, invoice_id)


def _amount(cents: int) -> Decimal:
    return plain(Decimal(cents).scaleb(-2))


def _version(source: str, content: Content, fusion_id: int) -> Version:
    read = Read(source=source, record_id=content.record_id, fusion_id=fusion_id, content=content)
    return Version(read=read, number=1, change=Change.NEW)
