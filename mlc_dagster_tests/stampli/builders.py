"""Builds export files of profile stampli_lines_v1 for tests: one valid invoice, changed where a test wants it wrong."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from mlc_dagster.stampli.parsing.parse import InvoiceStream, parse_file
from mlc_dagster.stampli.parsing.parsed import ParsedInvoice, QuarantinedRow
from mlc_dagster.stampli.parsing.profile import Profile, load_profile

COLUMNS = (
    "company_id", "company_name", "invoice_id", "invoice_revision", "invoice_number", "invoice_type", "status",
    "vendor_id", "vendor_name", "vendor_site", "invoice_date", "due_date", "posting_date", "received_date", "currency",
    "exchange_rate_type", "exchange_rate_date", "exchange_rate", "invoice_amount", "tax_amount", "freight_amount",
    "payment_terms", "payment_method", "pay_group", "description", "approved_by", "approved_at", "document_url",
    "document_file", "line_number", "line_type", "line_description", "line_amount", "quantity", "unit_price", "uom",
    "gl_account", "dim_cost_center", "po_number", "po_line", "tax_code",
)  # fmt: skip

HEADER: Mapping[str, str] = {
    "company_id": "C100",
    "company_name": "Mountain Supply",
    "invoice_id": "88121",
    "invoice_revision": "1",
    "invoice_number": "INV-00417",
    "invoice_type": "STANDARD",
    "status": "APPROVED",
    "vendor_id": "30012",
    "vendor_name": "Acme, Inc.",
    "invoice_date": "2026-10-28",
    "due_date": "2026-11-27",
    "posting_date": "2026-10-31",
    "currency": "USD",
    "approved_by": "jdoe",
    "approved_at": "2026-10-30T16:02:11Z",
}
LINE: Mapping[str, str] = {
    "line_type": "ITEM",
    "line_description": 'Filters, 20"',
    "gl_account": "61200",
    "dim_cost_center": "4410",
}


def invoice_rows(
    *amounts: str, lines: Sequence[Mapping[str, str]] = (), invoice_amount: str | None = None, **header: str
) -> list[dict[str, str]]:
    """Rows of one invoice: a line per amount (default one of 100.00), ``lines`` override cells line by line.

    ``invoice_amount`` is the sum of the amounts when not given; other keywords override cells of the invoice.
    """
    amounts = amounts or ("100.00",)
    if invoice_amount is None:
        invoice_amount = _sum(amounts)
    rows: list[dict[str, str]] = []
    for index, amount in enumerate(amounts):
        line = {**LINE, "line_number": str(index + 1), "line_amount": amount}
        overrides = lines[index] if index < len(lines) else {}
        rows.append({**HEADER, "invoice_amount": invoice_amount, **header, **line, **overrides})
    return rows


def _sum(amounts: Iterable[str]) -> str:
    return str(sum((Decimal(amount) for amount in amounts), Decimal(0)))


def invoice_csv(
    rows: Iterable[Mapping[str, str]],
    *,
    columns: Sequence[str] | None = None,
    line_end: str = "\n",
    encoding: str = "utf-8",
) -> bytes:
    """A whole file with these rows; columns that a row has and ``columns`` lacks are appended to the header."""
    rows = list(rows)
    names = list(COLUMNS if columns is None else columns)
    if columns is None:
        names += sorted({name for row in rows for name in row} - set(names))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=line_end)
    writer.writerow(names)
    writer.writerows([row.get(name, "") for name in names] for row in rows)
    return text.getvalue().encode(encoding)


def file_name(sequence: int = 1, *, company_id: str = "C100", stamp: str = "20261030T170000Z") -> str:
    """A name that stampli_lines_v1 takes."""
    return f"stampli_invoices_{company_id}_{stamp}_{sequence:06d}.csv"


def write_csv(folder: Path, rows: Iterable[Mapping[str, str]], *, sequence: int = 1, **how: str) -> Path:
    """Write ``invoice_csv`` into the folder under ``file_name``."""
    path = folder / file_name(sequence)
    path.write_bytes(invoice_csv(rows, **how))
    return path


PROFILE = load_profile("stampli_lines_v1")


def parse(folder: Path, content: bytes, profile: Profile = PROFILE) -> tuple[list[ParsedInvoice], list[QuarantinedRow]]:
    """What is in a file of this content; also shows that reading by column and cell by cell do not differ."""
    path = folder / "file.csv"
    path.write_bytes(content)
    found = list(parse_file(path, profile))
    assert list(InvoiceStream(path, profile, careful=True)) == found
    return [f for f in found if isinstance(f, ParsedInvoice)], [f for f in found if isinstance(f, QuarantinedRow)]


def only(folder: Path, content: bytes) -> ParsedInvoice:
    invoices, quarantined = parse(folder, content)
    assert len(invoices) == 1
    assert not quarantined
    return invoices[0]


def reasons(parsed: ParsedInvoice) -> list[tuple[str, str | None]]:
    return [(found.reason, found.field) for found in parsed.problems]
