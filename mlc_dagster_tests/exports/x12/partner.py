"""A partner's side of X12 tests: documents to send, layouts, and a splitter that shares no code with the writer."""

import datetime as dt
import io
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from pyx12.x12file import X12Reader

from mlc_dagster.exports.layouts.crosswalk import Crosswalk
from mlc_dagster.exports.writing import Change, Frame, LayoutIdentity, Part, Version
from mlc_dagster.exports.x12.layout import parse_x12_layout
from mlc_dagster.exports.x12.writer import X12Writer
from mlc_dagster.fusion.journal_lines import JournalLine, JournalLines
from mlc_dagster.fusion.records import Content, Invoice, InvoiceLine, Journal, OrderLine, PurchaseOrder, Read
from mlc_dagster.settings.exports import PartnerSettings
from mlc_dagster.settings.fusion import ChartSettings

NOON = dt.datetime(2026, 11, 21, 12, 5, 9, tzinfo=dt.UTC)
US1 = ChartSettings(
    ledgers=["US Primary Ledger"],
    delimiter="-",
    segments=["entity", "department", "account"],
    natural_account="account",
    cost_center="department",
)
UNITS = Crosswalk("units", {"Each": "EA", "Box of 12": "BX"})


def document(source: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": "test",
        "version": "1",
        "format": "x12",
        "source": source,
        "standard": "004010",
        "file_name": "{feed}{extension}",
        **changes,
    }


def writer(
    source: str, *, partner: dict[str, Any] | None = None, codes: Sequence[Crosswalk] = (UNITS,), **keys: Any
) -> X12Writer:
    layout = parse_x12_layout(
        document(source, **keys), source_file="test.yaml", crosswalks={table.name: table for table in codes}
    )
    ends: dict[str, Any] = {"sender": "ZZ:ACME", "receiver": "01:123456789"} | (partner or {})
    identity = LayoutIdentity("test", "1", "0" * 64, "x12", ".x12")
    return X12Writer(layout, identity, PartnerSettings(**ends), {"US1": US1})


def item(number: int = 1, quantity: str = "10", price: str = "12.5", **changes: Any) -> InvoiceLine:
    fields: dict[str, Any] = {
        "number": number,
        "kind": "Item",
        "quantity": Decimal(quantity),
        "unit_price": Decimal(price),
        "amount": Decimal(quantity) * Decimal(price),
        "uom": "Each",
        "item": f"WID-{number:03d}",
        "description": "Widget, blue",
    }
    return InvoiceLine(**fields | changes)


def amount_only(kind: str, amount: str, number: int = 9, **changes: Any) -> InvoiceLine:
    return InvoiceLine(number=number, kind=kind, amount=Decimal(amount), **changes)


def invoice(*lines: InvoiceLine, **changes: Any) -> Invoice:
    lines = lines or (item(),)
    fields: dict[str, Any] = {
        "invoice_id": 300000123456789,
        "number": "INV-10045",
        "business_unit": "US1 Business Unit",
        "supplier": "Widget Supply Co",
        "supplier_number": "1252",
        "currency": "USD",
        "amount": sum((line.amount or Decimal(0) for line in lines), Decimal(0)),
        "invoice_date": dt.date(2026, 11, 20),
        "kind": "Standard",
        "payment_terms": "Net 30",
        "lines": lines,
    }
    return Invoice(**fields | changes)


def order_line(number: int = 1, quantity: str = "10", price: str = "12.5", **changes: Any) -> OrderLine:
    fields: dict[str, Any] = {
        "line_id": 5000 + number,
        "number": number,
        "quantity": Decimal(quantity),
        "price": Decimal(price),
        "ordered": Decimal(quantity) * Decimal(price),
        "uom": "Each",
        "supplier_item": f"WID-{number:03d}",
        "description": "Widget, blue",
    }
    return OrderLine(**fields | changes)


def order(*lines: OrderLine, **changes: Any) -> PurchaseOrder:
    lines = lines or (order_line(),)
    fields: dict[str, Any] = {
        "header_id": 300000987,
        "number": "PO-7781",
        "currency": "USD",
        "business_unit": "US1 Business Unit",
        "supplier": "Widget Supply Co",
        "supplier_id": 300000047,
        "ship_to": "Seattle",
        "buyer": "Roth, Calvin",
        "order_date": dt.date(2026, 11, 1),
        "lines": lines,
    }
    return PurchaseOrder(**fields | changes)


def journal(*lines: JournalLine, **changes: Any) -> Journal:
    fields: dict[str, Any] = {
        "batch_id": 300000222,
        "name": "Accrual Nov 1",
        "ledger": "US Primary Ledger",
        "ledger_currency": "USD",
        "currency": "USD",
        "period": "Nov-26",
        "source": "Manual",
        "category": "Accrual",
        "effective_date": dt.date(2026, 11, 30),
        "lines": lines or (journal_line(1, dr="100.25"), journal_line(2, cr="100.25")),
    } | changes
    fields["lines"] = JournalLines.of(fields["lines"])
    return Journal(**fields)


def journal_line(number: int, *, dr: str | None = None, cr: str | None = None, **changes: Any) -> JournalLine:
    fields: dict[str, Any] = {
        "line_number": number,
        "account_combination": "101-20-63100",
        "entered_dr": Decimal(dr) if dr else None,
        "entered_cr": Decimal(cr) if cr else None,
        "accounted_dr": Decimal(dr) if dr else None,
        "accounted_cr": Decimal(cr) if cr else None,
        "currency": "USD",
        "description": "Accrued rent",
    }
    return JournalLine(**fields | changes)


_SOURCES = {Invoice: "invoices", PurchaseOrder: "purchase_orders", Journal: "journals"}


def version(
    content: Content, change: Change = Change.NEW, *, number: int = 1, previous: Content | None = None
) -> Version:
    read = Read(
        source=_SOURCES[type(content)],
        record_id=content.record_id,
        fusion_id=1,
        content=content,
        last_update_date=NOON,
    )
    return Version(read=read, number=number, change=change, previous=previous)


def rendered(
    sender: X12Writer, content: Content, change: Change = Change.NEW, previous: Content | None = None
) -> list[list[str]]:
    """The document's segments as lists of elements, by splitting alone."""
    return split(sender.render(version(content, change, previous=previous), 1).body)


def split(body: bytes, element: str = "*", segment: str = "~") -> list[list[str]]:
    text = body.decode("ascii")
    return [part.strip("\r\n").split(element) for part in text.split(segment) if part.strip("\r\n")]


def named(segments: list[list[str]], name: str) -> list[list[str]]:
    return [found for found in segments if found[0] == name]


def one(segments: list[list[str]], name: str) -> list[str]:
    (found,) = named(segments, name)
    return found


def interchange(
    sender: X12Writer, folder: Path, versions: Sequence[Version], *, numbers: Sequence[int] = (41, 7, 8)
) -> bytes:
    """A whole file, groups in the order of their first document."""
    bodies: dict[str, list[bytes]] = {}
    for each in versions:
        group = bodies.setdefault(sender.group_of(each), [])
        group.append(sender.render(each, len(group) + 1).body)
    parts: list[Part] = []
    for group, documents in bodies.items():
        path = folder / f"{group}.body"
        path.write_bytes(b"".join(documents))
        parts.append(Part(group=group, body=path, documents=len(documents), rows=0, totals={}))
    controls = {"interchange": [numbers[0]], "group": list(numbers[1 : 1 + len(parts)])}
    frame = Frame(feed="f", sequence=1, created_at=NOON, window_start=NOON, window_end=NOON, controls=controls)
    target = io.BytesIO()
    sender.assemble(parts, frame, target)
    return target.getvalue()


def pyx12_reads(data: bytes) -> list[list[str]]:
    """Segments as pyx12 reads them; fails on any fault that it finds in envelopes, counts and numbers."""
    reader = X12Reader(io.StringIO(data.decode("ascii")))
    segments: list[list[str]] = []
    for segment in reader:
        assert reader.err_list == []
        segments.append(
            [segment.get_seg_id() or "", *(element.format(segment.subele_term) for element in segment.elements)]
        )
    reader.cleanup()
    assert reader.err_list == []
    return segments
