"""Looking invoices up and reading them back: absence is proven or not claimed, lines are complete."""

import base64
import datetime as dt
import json
import re
from decimal import Decimal
from typing import Any

import pytest

from mlc_dagster.fusion import invoices
from mlc_dagster.fusion.errors import NotPlain, OutcomeUnknown
from mlc_dagster.fusion.invoices import Control
from mlc_dagster.fusion.q import MAX_URL
from mlc_dagster_tests.fusion.raw_server import ROOT, Connection, RawServer, Received, collection, in_loop

CONTROL = Control(1, "CTRL-1")


def invoice(invoice_id: int, number: str, **more: Any) -> dict[str, Any]:
    return {"InvoiceId": invoice_id, "InvoiceNumber": number, "InvoiceAmount": 10.5, **more}


class Books:
    """A Fusion that knows ``in (…)`` on numbers and ids, and nothing else."""

    def __init__(self, rows: list[dict[str, Any]], *, lines: dict[int, list[dict[str, Any]]] | None = None) -> None:
        self.rows = rows
        self.lines = lines or {}
        self.links: list[dict[str, str]] = []

    async def __call__(self, received: Received, connection: Connection) -> None:
        if child := re.fullmatch(r"invoices/(\d+|key-\d+)/child/invoiceLines", received.path):
            key = int(child[1].removeprefix("key-"))
            await connection.answer(200, collection(self.lines[key], received))
            return
        asked = set(re.findall(r"'([^']*)'|(?<=[(,=])(\d+)", received.params.get("q", "")))
        wanted = {text or number for text, number in asked}
        found = [row for row in self.rows if not wanted or {row["InvoiceNumber"], str(row["InvoiceId"])} & wanted]
        if received.params.get("expand") == "invoiceLines":
            found = [self._expanded(row) for row in found]
        if received.params["onlyData"] == "false":
            found = [{**row, "links": self.links} for row in found]
        await connection.answer(200, collection(found, received))

    def _expanded(self, row: dict[str, Any]) -> dict[str, Any]:
        lines = self.lines.get(row["InvoiceId"], [])
        page = {"items": lines[:3], "count": len(lines[:3]), "hasMore": False, "limit": 3, "offset": 0}
        return {**row, "invoiceLines": page}


@in_loop
async def test_numbers_are_found_with_their_proof() -> None:
    """The control row in the same answer shows that the question works and the data is visible."""
    books = Books([invoice(1, "CTRL-1"), invoice(2, "A-1", Supplier="Northwind"), invoice(3, "A-1", Supplier="Other")])
    async with RawServer(books) as server, server.client() as client:
        found = await invoices.find_by_number(client, ["A-1", "A-2"], CONTROL)
    assert sorted(row.invoice_id for row in found.rows) == [2, 3]
    assert found.control_seen


@pytest.mark.parametrize("odd", ["half \ud800", "\udc00 half", "NUL \0"])
@in_loop
async def test_an_invoice_with_text_that_cannot_be_kept_is_found_with_those_beside_it(odd: str) -> None:
    """One in two hundred must not stop the posting of all; passed over, its invoice would count as absent."""
    books = Books(
        [invoice(1, "CTRL-1"), invoice(2, "A-1", Description=odd), invoice(3, "A-2", Description="\U0001f600")]
    )
    async with RawServer(books) as server, server.client() as client:
        found = await invoices.find_by_number(client, ["A-1", "A-2", "A-3"], CONTROL)
        whole = await invoices.read_back(client, [2])
    assert found.control_seen
    assert {row.number: row.description for row in found.rows} == {
        "A-1": odd.replace("\ud800", "\\ud800").replace("\udc00", "\\udc00").replace("\0", "\\u0000"),
        "A-2": "\U0001f600",
    }
    assert [row.number for row in whole.values()] == ["A-1"]


@in_loop
async def test_a_supplier_that_cannot_be_read_whole_may_be_the_one_asked_for() -> None:
    """Absence is proven by rows that are told apart, not by rows that nobody can read."""

    async def script(received: Received, connection: Connection) -> None:
        row = invoice(2, "Ä-1", SupplierNumber="300\ud8002", InvoiceDate="2026-11-10")
        await connection.answer(200, collection([invoice(1, "CTRL-1"), row], received))

    async with RawServer(script) as server, server.client() as client:
        day = dt.date(2026, 11, 10)
        there = await invoices.find_by_supplier(client, "30012", day, CONTROL)
        other = await invoices.find_by_supplier(client, "40012", day, CONTROL)
    assert [row.invoice_id for row in there.rows] == [2]
    assert other.rows == []


@in_loop
async def test_zero_rows_without_control_prove_nothing() -> None:
    """Lost data access answers 200 and zero rows; taking that for absence posts everything twice."""
    async with RawServer(Books([])) as server, server.client() as client:
        found = await invoices.find_by_number(client, ["A-1"], CONTROL)
        without = await invoices.find_by_number(client, ["A-1"], None)
    assert (found.rows, found.control_seen) == ([], False)
    assert not without.control_seen


@in_loop
async def test_control_must_be_the_very_invoice() -> None:
    """Another supplier's invoice of the same number says nothing about our view of the data."""
    async with RawServer(Books([invoice(99, "CTRL-1")])) as server, server.client() as client:
        found = await invoices.find_by_number(client, ["A-1"], CONTROL)
    assert not found.control_seen


@in_loop
async def test_every_chunk_carries_the_control_and_fits_into_an_address() -> None:
    """One chunk without proof is as bad as no proof at all."""
    numbers = [f"INVOICE NUMBER {index:05d}/2026" for index in range(200)]
    books = Books([invoice(1, "CTRL-1"), invoice(2, numbers[150])])
    async with RawServer(books) as server, server.client() as client:
        found = await invoices.find_by_number(client, numbers, CONTROL)
        base = len(server.url)
    questions = [request.params["q"] for request in server.received]
    asked = {number for question in questions for number in re.findall(r"'([^']*)'", question)}
    assert asked == {*numbers, "CTRL-1"}
    assert all("'CTRL-1'" in question for question in questions)
    assert max(base + len(request.target) for request in server.received) <= MAX_URL
    assert [row.number for row in found.rows] == [numbers[150]]
    assert found.control_seen


@in_loop
async def test_one_chunk_without_control_spoils_the_proof() -> None:
    """control_seen speaks for all numbers or for none."""
    numbers = [f"N-{index}" for index in range(120)]

    async def script(received: Received, connection: Connection) -> None:
        rows = [] if "'N-100'" in received.params["q"] else [invoice(1, "CTRL-1")]
        await connection.answer(200, collection(rows, received))

    async with RawServer(script) as server, server.client() as client:
        found = await invoices.find_by_number(client, numbers, CONTROL)
    assert not found.control_seen


@in_loop
async def test_number_that_is_not_plain_is_refused() -> None:
    """It is looked up by supplier and date instead; asked for as it is, it would prove a false absence."""
    async with RawServer(Books([])) as server, server.client() as client:
        with pytest.raises(NotPlain):
            await invoices.find_by_number(client, ["O'Neil 7"], CONTROL)
    assert server.received == []


@in_loop
async def test_odd_numbers_are_found_by_supplier_and_date() -> None:
    """The whole set of that day is read and the caller compares; the control row rides along."""
    day = {"SupplierNumber": "1287", "InvoiceDate": "2026-10-14"}
    rows = [invoice(1, "CTRL-1"), invoice(5, "O'Neil 7", **day), invoice(6, "Ü 8", **day)]

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(200, collection(rows, received))

    async with RawServer(script) as server, server.client() as client:
        found = await invoices.find_by_supplier(client, "1287", dt.date(2026, 10, 14), CONTROL)
    question = server.received[0].params["q"]
    assert question == "(SupplierNumber='1287' and InvoiceDate='2026-10-14') or InvoiceNumber='CTRL-1'"
    assert [row.number for row in found.rows] == ["O'Neil 7", "Ü 8"]
    assert found.control_seen
    assert server.received[-1].params["offset"] == "3"


@in_loop
async def test_control_row_is_plain_and_of_the_business_unit() -> None:
    """It will be asked for by its number ever after."""
    unit = {"BusinessUnit": "R&D Unit"}
    rows = [invoice(4, "Ü1", **unit), invoice(5, "X", BusinessUnit="Other"), invoice(6, "OK-1", **unit)]

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(200, collection(rows, received))

    async with RawServer(script) as server, server.client() as client:
        chosen = await invoices.any_invoice(client, "R&D Unit")
        none = await invoices.any_invoice(client, "Empty Unit")
    assert chosen is not None
    assert chosen.number == "OK-1"
    assert none is None


@in_loop
async def test_read_back_follows_a_full_page_of_lines() -> None:
    """Expanded lines come in pages of their own; comparing the first page alone would call the rest missing."""
    lines = {
        2: [{"LineNumber": n, "LineAmount": f"{n}.10"} for n in range(1, 8)],
        3: [{"LineNumber": 1, "LineAmount": 1}],
    }
    books = Books([invoice(2, "A-1"), invoice(3, "A-2")], lines=lines)
    async with RawServer(books) as server, server.client() as client:
        records = await invoices.read_back(client, [2, 3, 4])
    assert set(records) == {2, 3}
    assert [line.amount for line in records[2].lines or ()] == [Decimal(f"{n}.10") for n in range(1, 8)]
    assert len(records[3].lines or ()) == 1


@pytest.mark.parametrize("rel", ["child", "self"])
@in_loop
async def test_children_are_addressed_by_the_invoices_own_link(rel: str) -> None:
    """The key in the path is a hash that is not ours to build; links carry another port and are cut to their path."""
    books = Books([invoice(2, "A-1")], lines={2: [{"LineNumber": n, "LineAmount": 1} for n in range(5)]})
    tail = "/child/invoiceLines" if rel == "child" else ""
    books.links = [{"rel": rel, "name": "invoiceLines", "href": f"https://pod.example:443{ROOT}invoices/key-2{tail}"}]
    async with RawServer(books) as server, server.client() as client:
        records = await invoices.read_back(client, [2])
    assert len(records[2].lines or ()) == 5
    assert any(request.path == "invoices/key-2/child/invoiceLines" for request in server.received)


@in_loop
async def test_observing_asks_for_no_lines_and_spares_the_empty_page() -> None:
    """Statuses of thousands of invoices are read every quarter of an hour; ids are unique, so a full count is all."""
    rows = [
        invoice(2, "A-1", ValidationStatus="Validated", CanceledFlag="N", LastUpdateDate="2026-10-14T15:02:12+02:00")
    ]
    async with RawServer(Books(rows)) as server, server.client() as client:
        records = await invoices.observe(client, [2])
    record = records[2]
    assert (record.validation_status, record.canceled, record.lines) == ("Validated", False, None)
    assert record.last_update_date == dt.datetime(2026, 10, 14, 13, 2, 12, tzinfo=dt.UTC)
    assert len(server.received) == 1
    assert "invoiceLines" not in server.received[0].params["fields"]


@in_loop
async def test_incomplete_invoice_of_a_person_can_be_read() -> None:
    """Somebody's half-entered invoice without amount must not stop the look-up of all others."""
    rows = [{"InvoiceId": 7, "InvoiceNumber": "A-1", "InvoiceAmount": None}]
    async with RawServer(Books(rows)) as server, server.client() as client:
        found = await invoices.find_by_number(client, ["A-1"], None)
    assert found.rows[0].amount is None


@in_loop
async def test_actions_name_the_invoice_as_fusion_wants_it() -> None:
    """Actions are collection level and take names, in their own content type."""

    async def script(received: Received, connection: Connection) -> None:
        if received.method == "GET":
            row = invoice(2, "A-1", BusinessUnit="US1", Supplier="Northwind")
            await connection.answer(200, collection([row], received))
        else:
            await connection.answer(200, {"result": "Done."})

    async with RawServer(script) as server, server.client() as client:
        record = (await invoices.observe(client, [2]))[2]
        said = [await invoices.validate(client, record), await invoices.calculate_tax(client, record)]
    checked, taxed = (request for request in server.received if request.method == "POST")
    assert said == ["Done.", "Done."]
    assert checked.path == "invoices/action/validateInvoice"
    assert checked.headers["content-type"] == "application/vnd.oracle.adf.action+json"
    named = {"InvoiceNumber": "A-1", "BusinessUnit": "US1", "Supplier": "Northwind"}
    assert json.loads(checked.body) == {**named, "ProcessAction": "Validate"}
    assert (taxed.path, json.loads(taxed.body)) == ("invoices/action/calculateTax", named)


@in_loop
async def test_attachment_travels_as_base64_and_is_listed() -> None:
    """Listing comes first on every attempt, because adding twice attaches twice."""
    attached = {
        "AttachedDocumentId": "300000912399001",
        "FileName": "a.pdf",
        "Title": "a.pdf",
        "Category": "From Supplier",
    }

    async def script(received: Received, connection: Connection) -> None:
        if received.method == "GET":
            await connection.answer(200, collection([attached], received))
        else:
            await connection.answer(201, attached)

    async with RawServer(script) as server, server.client() as client:
        added = await invoices.add_attachment(client, 2, "a.pdf", b"%PDF-1.7")
        listed = await invoices.list_attachments(client, 2)
    body = json.loads(server.received[0].body)
    assert base64.b64decode(body["FileContents"]) == b"%PDF-1.7"
    assert server.received[0].path == "invoices/2/child/attachments"
    assert listed == [added]
    assert added.attachment_id == 300000912399001


@in_loop
async def test_unreadable_answer_to_an_attachment_is_unknown() -> None:
    """The same rule as for the invoice itself."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(201, raw=b"{")

    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(OutcomeUnknown):
            await invoices.add_attachment(client, 2, "a.pdf", b"x")
