"""Invoices as documents to export; posting them has tests of its own."""

import datetime as dt
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from mlc_dagster.fusion import invoices
from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.payables import INVOICES
from mlc_dagster.fusion.records import Invoice, InvoiceStatus, Read, canonical
from mlc_dagster.sandbox import seed as seeded
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.fusion.document_reading import TODAY, by_id, changed, connect
from mlc_dagster_tests.fusion.raw_server import Connection, RawServer, Received, collection, in_loop


@pytest.fixture
def sandbox() -> Iterator[FusionSandbox]:
    with FusionSandbox(Seed(20, TODAY)) as running:
        yield running


async def create(client: FusionClient, seed: Seed, lines: int) -> int:
    """An invoice over 10.10 and 10.00 for each further line; its InvoiceId."""
    document: dict[str, Any] = {
        "InvoiceNumber": f"NW-{lines}",
        "InvoiceCurrency": "USD",
        "InvoiceAmount": f"{lines}0.10",
        "InvoiceDate": TODAY.isoformat(),
        "AccountingDate": TODAY.isoformat(),
        "BusinessUnit": seeded.US_BUSINESS_UNIT,
        "Supplier": seed.supplier_name("30000"),
        "SupplierNumber": "30000",
        "SupplierSite": "HQ",
        "InvoiceSource": "Stampli",
        "InvoiceType": "Standard",
        "invoiceLines": [
            {
                "LineNumber": number,
                "LineType": "Item",
                "LineAmount": "10.10" if number == 1 else "10.00",
                "DistributionCombination": "101-4410-60540-000-000-000",
            }
            for number in range(1, lines + 1)
        ],
    }
    body = json.dumps(document).encode()
    return (await invoices.create(client, body, before_first_byte=lambda: None)).invoice_id


def invoice(read: Read) -> Invoice:
    assert isinstance(read.content, Invoice)
    return read.content


@pytest.mark.parametrize("version", [2, 3, 4, 9])
@in_loop
async def test_invoice_is_read_with_all_its_lines(sandbox: FusionSandbox, version: int) -> None:
    """Sixty lines, of which twenty-five come along: an 810 of less than the invoice's total is rejected."""
    async with connect(sandbox, framework_version=version) as client:
        number = await create(client, sandbox.seed, 60)
        (read,) = await by_id(client, INVOICES, number)
    found = invoice(read)
    assert (read.record_id, found.number, found.amount) == (str(number), "NW-60", Decimal("600.1"))
    assert [row.number for row in found.lines] == list(range(1, 61))
    assert sum(row.amount or 0 for row in found.lines) == found.amount
    assert found.supplier_number == "30000"
    assert not found.canceled


@in_loop
async def test_status_is_no_part_of_the_content(sandbox: FusionSandbox) -> None:
    """Fusion moves statuses by itself; each move would be a new version for the partner."""
    async with connect(sandbox) as client:
        number = await create(client, sandbox.seed, 1)
        (before,) = await by_id(client, INVOICES, number)
        with sandbox.world.lock:
            row = sandbox.world.row_of("invoices", number)
            row.values["ValidationStatus"] = "Validated"
        (after,) = await by_id(client, INVOICES, number)
    assert isinstance(after.status, InvoiceStatus)
    assert after.status.validation == "Validated"
    assert before.status != after.status
    assert canonical(before.content) == canonical(after.content)


@in_loop
async def test_installment_and_line_changed_alone_are_found(sandbox: FusionSandbox) -> None:
    """A new due date or line text is a change of the document, whatever the header's date says."""
    async with connect(sandbox) as client:
        by_line, by_installment = [await create(client, sandbox.seed, lines) for lines in (1, 2)]
        later = dt.datetime(2031, 1, 1, tzinfo=dt.UTC)
        sandbox.world.set_clock(lambda: later)
        sandbox.world.change_invoice_description(by_line, "new text", line=1, touch_parent=False)
        sandbox.world.change_installment(by_installment, due_date="2026-12-24", touch_parent=False)
        reads = await changed(client, INVOICES, later, later + dt.timedelta(minutes=1))
    found = {read.fusion_id: invoice(read) for read in reads}
    assert set(found) == {by_line, by_installment}
    assert found[by_line].lines[0].description == "new text"
    assert found[by_installment].installments[0].due_date == dt.date(2026, 12, 24)


@in_loop
async def test_looseness_of_the_wire_is_taken_in() -> None:
    """Flags as Y/N, numbers as text, an order's line number as a number, an invoice without its number."""
    line = {"LineNumber": "1", "LineAmount": "10.50", "PurchaseOrderLineNumber": 2, "invoiceDistributions": []}
    row = {
        "InvoiceId": "300000912345671",
        "InvoiceNumber": None,
        "InvoiceAmount": "10.50",
        "CanceledFlag": "N",
        "InvoiceDate": "2026-11-20T00:00:00.000+00:00",
        "NewAttribute": [1, 2],
        "invoiceLines": [line],
        "invoiceInstallments": [],
    }

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(200, collection([row], received, totalResults=1))

    async with RawServer(script) as server, server.client() as client:
        (read,) = await by_id(client, INVOICES, 300000912345671)
    found = invoice(read)
    assert (found.invoice_id, found.number, found.canceled) == (300000912345671, "", False)
    assert (found.amount, found.invoice_date) == (Decimal("10.5"), dt.date(2026, 11, 20))
    assert found.lines[0].purchase_order_line == "2"
