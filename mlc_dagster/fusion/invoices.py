"""Payables invoices (``invoices``): create, look up, read back, observe, act on.

Fusion has no idempotency key: whoever creates must be able to prove absence first and to find the result afterwards.
``find_…`` therefore carry a control row, an invoice known to be there, through the very same answer.
"""

import base64
import datetime as dt
from collections.abc import Callable, Collection, Sequence
from decimal import Decimal
from typing import NamedTuple, TypeVar

import msgspec

from mlc_dagster.fusion.answers import Answer
from mlc_dagster.fusion.client import ACTION_RESULT_TYPE, ACTION_TYPE, FusionClient, path_below_root
from mlc_dagster.fusion.errors import NotPlain, OutcomeUnknown, ResponseInvalid
from mlc_dagster.fusion.halves import may_be
from mlc_dagster.fusion.invoice_rows import HEADER_FIELDS, InvoiceRecord, InvoiceRow, LineRecord, LineRow
from mlc_dagster.fusion.lookup import all_rows, rows_by_key, together
from mlc_dagster.fusion.paging import collection_params
from mlc_dagster.fusion.q import any_of, chunked, encoded_length, equals, is_plain, quoted
from mlc_dagster.fusion.wire import Id, has_more_children, item_of, nested_rows

__all__ = ["Attachment", "Control", "Found", "InvoiceRecord", "LineRecord"]

RowT = TypeVar("RowT")

PATH = "invoices"
BY_ID = "InvoiceId:asc"
CONTROL_SEARCH_PAGES = 10


class Control(NamedTuple):
    """An invoice known to be in Fusion and visible to the user; ``number`` must be plain."""

    invoice_id: int
    number: str


class Found(NamedTuple):
    """``rows`` prove absence of what is missing only if ``control_seen``: every answer held the control row."""

    rows: list[InvoiceRecord]
    control_seen: bool


class Attachment(msgspec.Struct, frozen=True, rename="pascal"):
    """A file attached to an invoice; its contents are not read."""

    attachment_id: Id | None = msgspec.field(default=None, name="AttachedDocumentId")
    file_name: str | None = None
    title: str | None = None
    category: str | None = None


class _Link(msgspec.Struct):
    rel: str = ""
    name: str = ""
    href: str = ""


class _Context(msgspec.Struct):
    links: list[_Link] = []


class _LinkedRow(msgspec.Struct):
    links: list[_Link] = []
    context: _Context = msgspec.field(default_factory=_Context, name="@context")


async def find_by_number(client: FusionClient, numbers: Sequence[str], control: Control | None) -> Found:
    """Invoices of these numbers, of whatever supplier, business unit or state, each once.

    Raises:
        NotPlain: a number, or the control's, that cannot be put into a question; see ``find_by_supplier``.
    """
    for number in numbers:
        if not is_plain(number):
            raise NotPlain(number)
    constant = [control.number] if control is not None else []
    room = _room(client, any_of("InvoiceNumber", [*constant, "0"])) if numbers or constant else 0

    async def look_up(group: list[str]) -> list[InvoiceRecord]:
        return await _headers(client, any_of("InvoiceNumber", dict.fromkeys([*group, *constant])))

    groups = list(chunked(numbers, room)) or ([[]] if constant else [])
    return _found(await together(look_up(group) for group in groups), control, wanted=set(numbers))


async def find_by_supplier(
    client: FusionClient, supplier_number: str, invoice_date: dt.date, control: Control | None
) -> Found:
    """All invoices of one supplier and invoice date, for numbers that cannot be put into a question.

    Raises:
        NotPlain: the supplier number or the control's number cannot either.
    """
    q = f"{equals('SupplierNumber', supplier_number)} and InvoiceDate='{invoice_date.isoformat()}'"
    if control is not None:
        q = f"({q}) or {equals('InvoiceNumber', control.number)}"
    rows = await _headers(client, q)
    found = _found([rows], control, wanted=None)
    return found._replace(
        rows=[
            row
            for row in found.rows
            if may_be(row.supplier_number or "", supplier_number) and row.invoice_date == invoice_date
        ]
    )


async def find_by_amount(
    client: FusionClient, invoice_date: dt.date, amount: Decimal, control: Control | None
) -> Found:
    """All invoices of one date and amount, for those whose number or supplier may have been changed in Fusion.

    Raises:
        NotPlain: the control's number cannot be put into a question.
    """
    q = f"InvoiceDate='{invoice_date.isoformat()}' and InvoiceAmount={amount:f}"
    if control is not None:
        q = f"({q}) or {equals('InvoiceNumber', control.number)}"
    found = _found([await _headers(client, q)], control, wanted=None)
    return found._replace(rows=[row for row in found.rows if (row.invoice_date, row.amount) == (invoice_date, amount)])


async def find_by_group(client: FusionClient, invoice_group: str, control: Control | None) -> Found:
    """All invoices of one InvoiceGroup, whatever became of their number, supplier, date and amount.

    Raises:
        NotPlain: the group or the control's number cannot be put into a question.
        BusinessRefusal: this Fusion takes no question by InvoiceGroup.
    """
    # A window's name has a colon, which stands in the quoted times of other questions too.
    if not is_plain(invoice_group.replace(":", "-")):
        raise NotPlain(invoice_group)
    q = f"InvoiceGroup='{invoice_group}'"
    if control is not None:
        q = f"({q}) or {equals('InvoiceNumber', control.number)}"
    found = _found([await _headers(client, q)], control, wanted=None)
    return found._replace(rows=[row for row in found.rows if may_be(row.invoice_group or "", invoice_group)])


async def created_since(client: FusionClient, group_prefix: str, invoice_id: int) -> list[InvoiceRecord]:
    """Invoices above an InvoiceId whose InvoiceGroup begins like this.

    Raises:
        NotPlain: the beginning cannot be put into a question; blanks at its end may be.
        BusinessRefusal: this Fusion takes no question by InvoiceGroup.
    """
    q = f"InvoiceGroup like {quoted(group_prefix.rstrip())[:-1]}%' and InvoiceId>{invoice_id}"
    return await _headers(client, q)


async def any_invoice(client: FusionClient, business_unit: str) -> InvoiceRecord | None:
    """An invoice of the business unit that can serve as control row; None when none is visible.

    The name of a business unit may not be plain; then the first pages of all invoices are searched.
    """
    q = equals("BusinessUnit", business_unit) if is_plain(business_unit) else None
    searched = 0
    async for page in client.pages(PATH, InvoiceRow, q=q, fields=HEADER_FIELDS, order_by=BY_ID, limit=100):
        for row in page:
            if row.business_unit == business_unit and row.invoice_number and is_plain(row.invoice_number):
                return row.record()
        searched += 1
        if searched == CONTROL_SEARCH_PAGES:
            break
    return None


async def create(
    client: FusionClient,
    body: bytes,
    *,
    granted: Callable[[], None] | None = None,
    before_first_byte: Callable[[], None],
) -> InvoiceRecord:
    """Creates one invoice from a JSON body; the record has what the answer had, derived attributes often empty.

    The two callbacks and the errors are those of ``FusionClient.write``. An answer that does not show an invoice
    with id and number is OutcomeUnknown, whatever its status says.
    """
    answer = await client.write(PATH, body, granted=granted, before_first_byte=before_first_byte)
    where = f"POST {PATH}"
    if answer.status not in (200, 201):
        reason = f"HTTP {answer.status} without an invoice"
        raise OutcomeUnknown(reason, status=answer.status, where=where)
    row = _written(answer, InvoiceRow, where)
    try:
        record = row.record()
    except ResponseInvalid as error:
        raise OutcomeUnknown(error.text, status=answer.status, where=where) from error
    if not record.number:
        reason = f"HTTP {answer.status} with an invoice without number"
        raise OutcomeUnknown(reason, status=answer.status, where=where)
    return record


async def read_back(client: FusionClient, invoice_ids: Collection[int]) -> dict[int, InvoiceRecord]:
    """Invoices by id with all their lines, those that Fusion generated included; gone ones are absent."""
    rows = await rows_by_key(
        client,
        PATH,
        InvoiceRow,
        attribute="InvoiceId",
        keys=invoice_ids,
        order_by=BY_ID,
        expand="invoiceLines",
        unique=True,
    )
    # A task each only for those that have to be asked for: the others are many.
    whole = [row.record(nested_rows(row.invoice_lines)) for row in rows if not has_more_children(row.invoice_lines)]
    longer = await together(_with_lines(client, row) for row in rows if has_more_children(row.invoice_lines))
    return {record.invoice_id: record for record in (*whole, *longer)}


async def observe(client: FusionClient, invoice_ids: Collection[int]) -> dict[int, InvoiceRecord]:
    """Invoices by id without lines, for their statuses; gone ones are absent."""
    rows = await rows_by_key(
        client,
        PATH,
        InvoiceRow,
        attribute="InvoiceId",
        keys=invoice_ids,
        order_by=BY_ID,
        fields=HEADER_FIELDS,
        unique=True,
    )
    return {row.invoice_id: row.record() for row in rows}


async def calculate_tax(client: FusionClient, record: InvoiceRecord) -> str:
    """Has Fusion calculate tax; returns its text. Errors as ``FusionClient.write``."""
    return await _act(client, "calculateTax", record)


async def validate(client: FusionClient, record: InvoiceRecord) -> str:
    """Runs validation; the text says that it ran, not that the invoice is valid: observe it afterwards."""
    return await _act(client, "validateInvoice", record, ProcessAction="Validate")


async def list_attachments(client: FusionClient, invoice_id: int) -> list[Attachment]:
    """Attachments of an invoice."""
    return await all_rows(client.pages(f"{PATH}/{invoice_id}/child/attachments", Attachment))


async def add_attachment(client: FusionClient, invoice_id: int, file_name: str, content: bytes) -> Attachment:
    """Attaches a file. Not idempotent: list first. Errors as ``FusionClient.write``."""
    path = f"{PATH}/{invoice_id}/child/attachments"
    body = {
        "Type": "File",
        "FileName": file_name,
        "Title": file_name,
        "Category": "From Supplier",
        "FileContents": base64.b64encode(content).decode("ascii"),
    }
    return _written(await client.write(path, msgspec.json.encode(body)), Attachment, f"POST {path}")


async def _headers(client: FusionClient, q: str) -> list[InvoiceRecord]:
    rows = await all_rows(client.pages(PATH, InvoiceRow, q=q, fields=HEADER_FIELDS, order_by=BY_ID))
    return [row.record() for row in rows]


def _room(client: FusionClient, q: str) -> int:
    frame = collection_params(q=q, fields=HEADER_FIELDS, order_by=BY_ID)
    return client.room_in_url(PATH, frame) + encoded_length("'0'")


def _found(answers: Sequence[Sequence[InvoiceRecord]], control: Control | None, *, wanted: set[str] | None) -> Found:
    seen = control is not None and all(any(row.invoice_id == control.invoice_id for row in rows) for rows in answers)
    rows = {row.invoice_id: row for rows in answers for row in rows}
    if control is not None and wanted is not None and control.number not in wanted:
        rows = {key: row for key, row in rows.items() if row.number != control.number}
    return Found(list(rows.values()), seen)


async def _with_lines(client: FusionClient, row: InvoiceRow) -> InvoiceRecord:
    """An invoice whose lines did not all come along."""
    # Read from the start: the order of the lines that came along is nobody's promise.
    path = await _child_path(client, row.invoice_id, "invoiceLines")
    return row.record(await all_rows(client.pages(path, LineRow, order_by="LineNumber:asc")))


async def _child_path(client: FusionClient, invoice_id: int, child: str) -> str:
    """Address of a child collection, from the invoice's own links: its key is documented as not ours to build."""
    pages = client.pages(PATH, _LinkedRow, q=equals("InvoiceId", invoice_id), params={"onlyData": "false"}, limit=1)
    for row in await all_rows(pages, at_most=1):
        links = row.links or row.context.links
        for link in links:
            if link.rel == "child" and link.name == child and (path := path_below_root(link.href)):
                return path
        for link in links:
            if link.rel == "self" and (path := path_below_root(link.href)):
                return f"{path}/child/{child}"
    return f"{PATH}/{invoice_id}/child/{child}"


class _ActionAnswer(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw(b"null")


async def _act(client: FusionClient, action: str, record: InvoiceRecord, **more: str) -> str:
    path = f"{PATH}/action/{action}"
    named = {"InvoiceNumber": record.number, "BusinessUnit": record.business_unit, "Supplier": record.supplier}
    body = {name: value for name, value in {**named, **more}.items() if value}
    answer = await client.write(path, msgspec.json.encode(body), content_type=ACTION_TYPE, accept=ACTION_RESULT_TYPE)
    result = bytes(_written(answer, _ActionAnswer, f"POST {path}").result)
    return msgspec.json.decode(result, type=str) if result.startswith(b'"') else result.decode("utf-8")


def _written(answer: Answer, row_type: type[RowT], where: str) -> RowT:
    try:
        return item_of(row_type, answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = f"HTTP {answer.status} with an unreadable body: {error}"
        raise OutcomeUnknown(reason, status=answer.status, where=where) from error
