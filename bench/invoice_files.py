"""The invoices of the inbound benchmark: files as Stampli would export them, and what Fusion's books must hold after.

Deterministic: the same place is always the same invoice, so that every program can say what it must find.
"""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from bench.measuring import WrongResult
from mlc_dagster.sandbox.seed import Seed

LINES = 3
SUPPLIERS = 60
COMPANY = "C100"
COLUMNS = (
    "company_id", "company_name", "invoice_id", "invoice_revision", "invoice_number", "invoice_type", "status",
    "vendor_id", "vendor_name", "vendor_site", "invoice_date", "due_date", "posting_date", "received_date", "currency",
    "exchange_rate_type", "exchange_rate_date", "exchange_rate", "invoice_amount", "tax_amount", "freight_amount",
    "payment_terms", "payment_method", "pay_group", "description", "approved_by", "approved_at", "document_url",
    "document_file", "line_number", "line_type", "line_description", "line_amount", "quantity", "unit_price", "uom",
    "gl_account", "dim_cost_center", "po_number", "po_line", "tax_code",
)  # fmt: skip
"""All columns that the product proposes for Stampli's export."""

_ACCOUNTS = ("61200", "61300", "62100", "60540", "60590")
_DEPARTMENTS = ("4410", "4420", "4430")


def today() -> dt.date:
    """The day of all invoices: the sandbox's periods are open today."""
    return dt.datetime.now(dt.UTC).date()


def number_of(place: int) -> str:
    """InvoiceNumber of the invoice at ``place``."""
    return f"BENCH-{place:07}"


def line_cents(place: int) -> list[int]:
    """Amounts of the invoice's lines in cents."""
    return [1_000 + (place * 37 + line * 9_973) % 250_000 for line in range(LINES)]


def total_cents(count: int, first: int = 0) -> int:
    """What ``count`` invoices come to."""
    return sum(sum(line_cents(place)) for place in range(first, first + count))


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def _cell(text: str) -> str:
    """As csv.writer writes it: in quotes only where they are needed."""
    escaped = text.replace('"', '""')
    return f'"{escaped}"' if "," in text or '"' in text else text


def rows_of(place: int, day: dt.date, suppliers: list[str], names: dict[str, str]) -> Iterator[str]:
    """The invoice's rows as text, in the order of ``COLUMNS``; ``names`` as cells."""
    vendor = suppliers[place % len(suppliers)]
    amounts = line_cents(place)
    head = (
        f"{COMPANY},Mountain Supply,ST{place:08},1,{number_of(place)},STANDARD,APPROVED,{vendor},{names[vendor]},HQ,"
        f"{day},{day + dt.timedelta(days=30)},{day},{day},USD,,,,{_money(sum(amounts))},,,Net 30,,,"
        f"Delivery {place} as ordered,j.doe,{day}T00:00:00Z,https://stampli.example/i/{place},"
    )
    for line, cents in enumerate(amounts):
        account = _ACCOUNTS[(place + line) % len(_ACCOUNTS)]
        department = _DEPARTMENTS[(place + line) % len(_DEPARTMENTS)]
        priced = f"{_money(cents)},1,{_money(cents)},EA"
        yield f"{head},{line + 1},ITEM,Services part {line + 1},{priced},{account},{department},,,\n"


def write_files(folder: Path, count: int, files: int, first: int = 0) -> list[Path]:
    """``count`` invoices over ``files`` files with names that the profile takes."""
    suppliers = Seed(SUPPLIERS).ordinary_suppliers()
    names = {number: _cell(Seed(SUPPLIERS).supplier_name(number)) for number in suppliers}
    day = today()
    paths: list[Path] = []
    for number in range(files):
        path = folder / f"stampli_invoices_{COMPANY}_{day:%Y%m%d}T000000Z_{number + 1:06}.csv"
        begin, end = (first + count * step // files for step in (number, number + 1))
        with path.open("w", encoding="utf-8", newline="") as stream:
            stream.write(",".join(COLUMNS) + "\n")
            for place in range(begin, end):
                stream.writelines(rows_of(place, day, suppliers, names))
        paths.append(path)
    return paths


def check_books(summary: dict[str, object], count: int) -> None:
    """The sandbox's own books: every invoice once and to the cent; raises WrongResult."""
    for what, expected in (
        ("invoices", count),
        ("duplicates", []),
        ("deleted", 0),
        ("canceled", 0),
        ("totals", {"USD": str(Decimal(total_cents(count)).scaleb(-2))}),
    ):
        if summary[what] != expected:
            raise WrongResult(f"Fusion's books: {what} {summary[what]}, expected {expected}")
