"""Plays Stampli's export: invoices to CSV files in the outbound folder, named and written as an export would.

What belongs here: the file's shape (one row per line, the invoice's columns repeated) and its way into the folder.
What does not: which invoices are worth sending (``samples``). Written from the file's description alone, so that the
product's own reader is judged by it.
"""

import csv
import datetime as dt
import io
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

COLUMNS: Final = (
    "company_id",
    "company_name",
    "invoice_id",
    "invoice_revision",
    "invoice_number",
    "invoice_type",
    "status",
    "vendor_id",
    "vendor_name",
    "vendor_site",
    "invoice_date",
    "due_date",
    "currency",
    "invoice_amount",
    "description",
    "approved_by",
    "approved_at",
    "line_number",
    "line_type",
    "line_description",
    "line_amount",
    "gl_account",
    "dim_cost_center",
    "po_number",
    "po_line",
)
_SEQUENCE = re.compile(r"_(\d{6})\.csv$")


@dataclass(frozen=True)
class ExportLine:
    """One invoice line; the amount is signed, in units of the invoice's currency."""

    amount: Decimal
    account: str = "61200"
    cost_center: str = "4410"
    description: str = "Services"
    line_type: str = "ITEM"
    number: int | None = None
    """Position in the invoice, from 1, unless given."""
    po_number: str = ""
    po_line: str = ""


@dataclass(frozen=True)
class ExportInvoice:
    """One invoice as Stampli holds it when it is exported."""

    invoice_id: str
    number: str
    vendor_id: str
    vendor_name: str
    invoice_date: dt.date
    approved_at: dt.datetime
    lines: tuple[ExportLine, ...]
    company_id: str = "C100"
    company_name: str = "Contoso US"
    currency: str = "USD"
    amount: Decimal | None = None
    """The header's amount; the sum of the lines unless given."""
    invoice_type: str = "STANDARD"
    status: str = "APPROVED"
    vendor_site: str = ""
    revision: int = 1
    description: str = ""
    approved_by: str = "j.doe"

    @property
    def total(self) -> Decimal:
        """What the header says."""
        return self.amount if self.amount is not None else sum((line.amount for line in self.lines), Decimal(0))

    def rows(self) -> list[dict[str, str]]:
        """The invoice's rows by column name."""
        header = {
            "company_id": self.company_id,
            "company_name": self.company_name,
            "invoice_id": self.invoice_id,
            "invoice_revision": str(self.revision),
            "invoice_number": self.number,
            "invoice_type": self.invoice_type,
            "status": self.status,
            "vendor_id": self.vendor_id,
            "vendor_name": self.vendor_name,
            "vendor_site": self.vendor_site,
            "invoice_date": self.invoice_date.isoformat(),
            "due_date": (self.invoice_date + dt.timedelta(days=30)).isoformat(),
            "currency": self.currency,
            "invoice_amount": f"{self.total:f}",
            "description": self.description,
            "approved_by": self.approved_by,
            "approved_at": self.approved_at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return [
            header
            | {
                "line_number": str(line.number if line.number is not None else place),
                "line_type": line.line_type,
                "line_description": line.description,
                "line_amount": f"{line.amount:f}",
                "gl_account": line.account,
                "dim_cost_center": line.cost_center,
                "po_number": line.po_number,
                "po_line": line.po_line,
            }
            for place, line in enumerate(self.lines, start=1)
        ]


def render(invoices: Iterable[ExportInvoice]) -> bytes:
    """The CSV file of these invoices: UTF-8, comma, CRLF, header row, a line end at the end."""
    text = io.StringIO()
    writer: csv.DictWriter[str] = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for invoice in invoices:
        writer.writerows(invoice.rows())
    return text.getvalue().encode()


class StampliExport:
    """An outbound folder that Stampli writes into."""

    def __init__(self, folder: Path, *, clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)) -> None:
        self.folder = folder
        self._clock = clock
        folder.mkdir(parents=True, exist_ok=True)

    def next_name(self, company_id: str = "C100") -> str:
        """The name of the next file: company, time, and a sequence that counts up over the folder."""
        taken = [int(match[1]) for entry in self.folder.iterdir() if (match := _SEQUENCE.search(entry.name))]
        return f"stampli_invoices_{company_id}_{self._clock():%Y%m%dT%H%M%SZ}_{max(taken, default=0) + 1:06d}.csv"

    def send(self, content: bytes, *, company_id: str = "C100", age: dt.timedelta = dt.timedelta(0)) -> Path:
        """Put a whole file into the folder: written under a temporary name, then renamed.

        Args:
            content: the file's bytes.
            company_id: whose export it is; part of the name.
            age: how long ago the file was last written.
        """
        path = self.folder / self.next_name(company_id)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(content)
        if age:
            moment = time.time() - age.total_seconds()
            os.utime(part, (moment, moment))
        part.rename(path)
        return path

    def begin(self, content: bytes, *, company_id: str = "C100") -> Path:
        """Begin a file in place, as a sender without temporary names does; go on with ``more``."""
        path = self.folder / self.next_name(company_id)
        path.write_bytes(content)
        return path

    @staticmethod
    def more(path: Path, content: bytes) -> None:
        """Write on at the end of a file that was begun."""
        with path.open("ab") as stream:
            stream.write(content)
