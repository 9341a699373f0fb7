"""Invoices worth sending to a rehearsal: the ordinary ones, and one of each kind that goes wrong in real life.

What belongs here: the content of the sample files and what is to become of each invoice. What does not: how files are
written (``exports``) and what reads them. The suppliers, accounts and periods are those of ``seed``.
"""

import dataclasses
import datetime as dt
import itertools
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from mlc_dagster.sandbox.exports import ExportInvoice, ExportLine, render
from mlc_dagster.sandbox.seed import ACME, Seed, month_start

POSTED: Final = "posted"
MISSING_SUPPLIER: Final = "39001"
MISSING_SUPPLIER_NAME: Final = "Fabrikam Facilities"
VENDORS_CSV: Final = f"stampli,fusion,site,valid_from,valid_to\nV-ACME,{ACME},HQ,,\n"
ACCOUNTS_CSV: Final = "stampli,fusion,valid_from,valid_to\n6120-CONSULTING,61200,,\n"
COST_CENTERS_CSV: Final = "stampli,fusion,valid_from,valid_to\nMARKETING,4420,,\n"


@dataclass(frozen=True)
class SampleFile:
    """One file: its bytes, what is special about it, and the fate of each invoice that is new with it."""

    title: str
    content: bytes
    company_id: str = "C100"
    fates: tuple[tuple[ExportInvoice, str], ...] = ()
    """(invoice, ``posted`` or the reason code for which it is parked)."""


class Samples:
    """Makes sample invoices; ids and numbers go on from one to the next."""

    def __init__(self, now: dt.datetime, *, prefix: str | None = None) -> None:
        """Sets the day.

        Args:
            now: the moment of the export, UTC. Its day is the invoice date; approvals lie shortly before it.
            prefix: how invoice numbers begin; made from the time when absent, so that they are new every time.
        """
        self.now = now
        self.today = now.date()
        self.seed = Seed(today=self.today)
        self._prefix = prefix or f"INV-{now:%y%m%d%H%M%S}"
        self._places = itertools.count(1)

    def invoice(self, *amounts: str, vendor: str = "30000", currency: str = "USD", **other: Any) -> ExportInvoice:
        """An invoice with one line per amount, approved within the last hours; ``other`` as in ``ExportInvoice``."""
        place = next(self._places)
        lines = tuple(
            ExportLine(Decimal(amount), ("61200", "61300", "62100")[line % 3], ("4410", "4420", "4430")[line % 3])
            for line, amount in enumerate(amounts)
        )
        invoice = ExportInvoice(
            invoice_id=f"{self.now:%y%m%d%H%M%S}{place:05d}",
            number=f"{self._prefix}-{place:03d}",
            vendor_id=vendor,
            vendor_name=self.vendor_name(vendor),
            invoice_date=self.today,
            approved_at=self.now - dt.timedelta(minutes=7 * (place % 60)),
            lines=lines,
            currency=currency,
            description=f"Delivery {place}",
        )
        return dataclasses.replace(invoice, **other)

    def vendor_name(self, vendor: str) -> str:
        """What Stampli calls a vendor; one that Fusion does not know has a name too."""
        if vendor == MISSING_SUPPLIER:
            return MISSING_SUPPLIER_NAME
        return self.seed.supplier_name(vendor) if vendor.isdigit() else vendor

    def ordinary(self, count: int) -> SampleFile:
        """A file of ``count`` invoices that have nothing wrong with them."""
        suppliers = self.seed.ordinary_suppliers()
        made = [
            self.invoice(f"{100 + place}.{place % 100:02d}", "25.50", vendor=suppliers[place % len(suppliers)])
            for place in range(count)
        ]
        return posted("ordinary invoices", *made)

    def closed_day(self) -> dt.date:
        """A day of a period that is closed."""
        return month_start(self.today, -4) + dt.timedelta(days=14)


def posted(title: str, *invoices: ExportInvoice, company_id: str = "C100") -> SampleFile:
    """A file whose invoices are all posted."""
    return SampleFile(title, render(invoices), company_id, tuple((invoice, POSTED) for invoice in invoices))


def parked(title: str, invoice: ExportInvoice, reason: str, *others: ExportInvoice) -> SampleFile:
    """A file with one invoice that is parked, and others that are posted all the same."""
    fates = ((invoice, reason), *((other, POSTED) for other in others))
    return SampleFile(title, render([invoice, *others]), fates=fates)
