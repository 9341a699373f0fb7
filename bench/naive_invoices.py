"""The peer: what one would write by hand to read invoice files, with csv, pydantic and json.

Each row is validated by a model, rows are grouped by invoice, the repeated columns compared, sums checked, and the
invoice written as JSON with its digest, as ours does. A row that is not right is an error of the row.
``python -m bench.naive_invoices FILE …``; the result is one line of JSON on standard output.
"""

import argparse
import csv
import datetime as dt
import hashlib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from bench.measuring import Stopwatch, tell

Text = Annotated[str, Field(max_length=240)] | None
Code = Annotated[str, Field(min_length=1, max_length=100)]
Money = Annotated[Decimal, Field(max_digits=18, decimal_places=2)]


class Line(BaseModel):
    line_number: int
    line_type: Literal["ITEM", "TAX", "FREIGHT", "MISC"]
    line_description: Text
    line_amount: Money
    quantity: Decimal | None
    unit_price: Decimal | None
    uom: Text
    gl_account: Text
    dim_cost_center: Text
    po_number: Text
    po_line: Text
    tax_code: Text


class Header(BaseModel):
    company_id: Code
    invoice_id: Code
    invoice_revision: int
    invoice_number: Annotated[str, Field(min_length=1, max_length=50)]
    invoice_type: Literal["STANDARD", "CREDIT_MEMO", "DEBIT_MEMO", "PREPAYMENT"]
    status: Literal["APPROVED", "VOID"]
    vendor_id: Code
    vendor_name: Annotated[str, Field(min_length=1, max_length=360)]
    vendor_site: Text
    invoice_date: dt.date
    due_date: dt.date | None
    posting_date: dt.date | None
    received_date: dt.date | None
    currency: Literal["USD", "EUR", "GBP", "CAD", "CHF"]
    exchange_rate_type: Text
    exchange_rate_date: dt.date | None
    exchange_rate: Decimal | None
    invoice_amount: Money
    tax_amount: Decimal | None
    freight_amount: Decimal | None
    payment_terms: Text
    payment_method: Text
    pay_group: Text
    description: Text
    approved_by: Code
    approved_at: dt.datetime
    document_url: Text
    document_file: Text


class InvoiceRow(Header, Line):
    """One row of the file: the invoice's columns and the line's."""


class Invoice(Header):
    lines: list[Line]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if sum(line.line_amount for line in self.lines) != self.invoice_amount:
            raise ValueError(self.invoice_number)
        return self


HEADER = tuple(Header.model_fields)
LINE = tuple(Line.model_fields)


def read(path: Path) -> tuple[int, int, Decimal, int]:
    """(rows, invoices, their amount, bytes of JSON); wrong rows and invoices are left out."""
    grouped: dict[tuple[str, str], list[InvoiceRow]] = {}
    rows = invoices = size = 0
    amount = Decimal(0)
    with path.open(encoding="utf-8", newline="") as stream:
        for cells in csv.DictReader(stream):
            rows += 1
            try:
                row = InvoiceRow.model_validate({name: cell or None for name, cell in cells.items()})
            except ValidationError:
                continue
            grouped.setdefault((row.company_id, row.invoice_id), []).append(row)
    for group in grouped.values():
        first = group[0]
        head = {name: getattr(first, name) for name in HEADER}
        if any({name: getattr(row, name) for name in HEADER} != head for row in group[1:]):
            continue
        lines = [{name: getattr(row, name) for name in LINE} for row in group]
        try:
            invoice = Invoice.model_validate({**head, "lines": sorted(lines, key=lambda line: line["line_number"])})
        except ValidationError:
            continue
        content = invoice.model_dump_json(exclude_none=True).encode()
        hashlib.sha256(content).hexdigest()
        invoices += 1
        amount += first.invoice_amount
        size += len(content)
    return rows, invoices, amount, size


def main() -> None:
    """Command line of the peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    chosen = parser.parse_args()
    watch = Stopwatch()
    found = [read(path) for path in chosen.files]
    rows, invoices, size = (sum(each[at] for each in found) for at in (0, 1, 3))
    amount = sum((each[2] for each in found), Decimal(0))
    tell(invoices=invoices, rows=rows, amount=str(amount), json=size, **watch.stop())


if __name__ == "__main__":
    main()
