"""The files of the demonstration: about twenty, each with one thing that happens in real life, and its fate.

What belongs here: what is sent, in which order, and what must become of every invoice. The story checks itself against
these fates; nothing here is taken from what the product did.
"""

import dataclasses
import datetime as dt
from dataclasses import dataclass
from decimal import Decimal

from mlc_dagster.sandbox.exports import ExportInvoice, ExportLine, render
from mlc_dagster.sandbox.samples import MISSING_SUPPLIER, POSTED, SampleFile, Samples, parked, posted
from mlc_dagster.sandbox.seed import ACME, DISABLED_ACCOUNT, UMLAUT_SUPPLIER


@dataclass(frozen=True)
class DemoFiles:
    """Everything that is sent, and when."""

    old: tuple[SampleFile, ...]
    """There before go-live."""
    first: tuple[SampleFile, ...]
    """There at the first poll, whole."""
    growing: SampleFile
    """Still being written at the first poll, whole at the second."""
    cured: ExportInvoice
    """Parked until its supplier is created in Fusion."""

    def expected(self) -> tuple[int, dict[str, Decimal]]:
        """What Fusion must hold at the end: how many invoices, and the total of each currency."""
        fates = [fate for sent in (*self.first, self.growing) for fate in sent.fates]
        booked = [invoice for invoice, fate in fates if fate == POSTED] + [self.cured]
        totals: dict[str, Decimal] = {}
        for invoice in booked:
            totals[invoice.currency] = totals.get(invoice.currency, Decimal(0)) + invoice.total
        return len(booked), totals

    def parked_at_end(self) -> list[str]:
        """Numbers of the invoices that must be left for a person."""
        fates = [fate for sent in self.first for fate in sent.fates]
        return [invoice.number for invoice, fate in fates if fate != POSTED and invoice != self.cured]


def demo_files(now: dt.datetime) -> DemoFiles:
    """The files, made for this moment (UTC): its day decides which periods are open."""
    make = Samples(now, prefix="INV")
    old = (
        posted("an old file, handled before go-live", make.invoice("310.00")),
        posted("another old file", make.invoice("95.10", "12.00")),
    )
    ordinary = posted(
        "three ordinary invoices",
        make.invoice("1000.00", "82.50", vendor=ACME, vendor_site="HQ"),
        make.invoice("249.99", vendor="30001"),
        make.invoice("17.05", "3.20", "0.75", vendor=UMLAUT_SUPPLIER),
    )
    shared = make.invoice("640.00", vendor="30002")
    unknown = make.invoice("780.00", vendor=MISSING_SUPPLIER)
    twin = make.invoice("58.40", vendor="30003")
    first = (
        ordinary,
        SampleFile("the same bytes under another name", ordinary.content),
        # Before its look-alike, so that the look-alike is the one in doubt.
        posted("an ordinary invoice", twin),
        posted("an invoice that comes again in the next file", shared, make.invoice("75.00", vendor="30001")),
        _again("the invoice of the file before, once more", shared, make.invoice("36.60", vendor="30004")),
        parked("a vendor that Fusion does not know", unknown, "VENDOR_UNKNOWN", make.invoice("410.00", vendor="30001")),
        parked(
            "a date in a closed period",
            make.invoice("900.00", vendor="30002", invoice_date=make.closed_day()),
            "PERIOD_CLOSED",
        ),
        parked(
            "a header that is not the sum of its lines",
            make.invoice("100.00", "20.00", vendor="30002", amount=Decimal("125.00")),
            "AMOUNT_MISMATCH",
        ),
        _ragged(make),
        _wrong_encoding(make),
        posted(
            "a credit memo",
            make.invoice("-200.00", vendor=ACME, invoice_type="CREDIT_MEMO", description="Return of goods"),
        ),
        posted("yen, which have no decimals", make.invoice("128000", "12800", vendor="30003", currency="JPY")),
        posted("dinars, which have three", make.invoice("1250.125", "0.375", vendor="30004", currency="KWD")),
        posted(
            "another company, in pounds",
            make.invoice("330.30", vendor="30003", currency="GBP", company_id="C200", company_name="Contoso UK"),
            company_id="C200",
        ),
        posted("a vendor code of Stampli's own", make.invoice("515.15", vendor="V-ACME", vendor_name="Acme, Inc.")),
        parked("a line of a purchase order", _purchase_order(make), "PO_NOT_SUPPORTED"),
        parked("an invoice nobody approved", _unapproved(make), "NOT_APPROVED"),
        parked("a line number used twice", _same_line_twice(make), "LINE_DUPLICATE"),
        parked("a disabled account", _disabled_account(make), "ACCOUNT_INVALID"),
        parked(
            "a number that only looks new",
            dataclasses.replace(make.invoice("58.40", vendor="30003"), number=twin.number.replace("-", " ")),
            "DUP_NORMALISED",
        ),
    )
    growing = posted("a file that is still being written", make.invoice(*["12.50"] * 40, vendor="30000"))
    return DemoFiles(old, first, growing, unknown)


def _again(title: str, invoice: ExportInvoice, other: ExportInvoice) -> SampleFile:
    """A file that repeats an invoice: only the other one is new with it."""
    return SampleFile(title, render([invoice, other]), fates=((other, POSTED),))


def _ragged(make: Samples) -> SampleFile:
    odd = make.invoice("61.00", vendor="30001", description="Paint")
    good = make.invoice("88.00", vendor="30002")
    content = render([odd, good]).replace(b",Paint,", b",Paint, brushes and tape,")
    return SampleFile("a row with a cell too many", content, fates=((odd, "ROW_MALFORMED"), (good, POSTED)))


def _wrong_encoding(make: Samples) -> SampleFile:
    lines = (
        ExportLine(Decimal("42.00"), description="Caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ExportLine(Decimal("6.00")),
    )
    odd = make.invoice(vendor="30001", lines=lines)
    good = make.invoice("19.90", vendor="30002")
    content = render([odd, good]).replace("\N{LATIN SMALL LETTER E WITH ACUTE}".encode(), b"\xe9")
    return SampleFile("one letter in another encoding", content, fates=((odd, "ROW_MALFORMED"), (good, POSTED)))


def _purchase_order(make: Samples) -> ExportInvoice:
    return make.invoice(
        vendor="30002", lines=(ExportLine(Decimal("2400.00"), account="", po_number="PO-10045", po_line="1"),)
    )


def _unapproved(make: Samples) -> ExportInvoice:
    return make.invoice("350.00", vendor="30004", status="PENDING")


def _same_line_twice(make: Samples) -> ExportInvoice:
    return make.invoice(
        vendor="30004", lines=tuple(ExportLine(Decimal(amount), number=1) for amount in ("50.00", "70.00"))
    )


def _disabled_account(make: Samples) -> ExportInvoice:
    return make.invoice(vendor="30001", lines=(ExportLine(Decimal("230.00"), account=DISABLED_ACCOUNT),))
