"""Attachments of an invoice: what a POST may carry and what is shown of it afterwards."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from mlc_dagster.sandbox.fusion import catalogue
from mlc_dagster.sandbox.fusion.errors import Detail, Refusal
from mlc_dagster.sandbox.fusion.payload import Payload
from mlc_dagster.sandbox.fusion.resources import Row
from mlc_dagster.sandbox.fusion.world import World

TYPES = {"File": "FILE", "Text": "TEXT", "Url": "WEB_PAGE"}
CATEGORIES = {"From Supplier": "FROM_SUPPLIER", "Miscellaneous": "MISC", "To Supplier": "TO_SUPPLIER"}


def build_attachment(world: World, document: Mapping[str, Any], user: str) -> Row:
    """A checked attachment row, not stored yet. Raises ``Refusal`` 400. Contents are measured, not kept."""
    faults: list[Detail] = []
    payload = Payload(catalogue.ATTACHMENTS, document, "/invoices/attachments", faults)
    kind = payload.values.setdefault("Type", "File")
    if kind not in TYPES:
        payload.fault("Type", f"The attachment type {kind} is not valid.")
    category = payload.values.setdefault("Category", "From Supplier")
    if category not in CATEGORIES:
        payload.fault("Category", f"The attachment category {category} is not valid.")
    payload.require({"File": ("FileName", "FileContents"), "Url": ("Url",)}.get(kind, ("Title",)))
    payload.longest({"Title": 80, "FileName": 2048})
    length = 0
    try:
        length = len(base64.b64decode(payload.values.pop("FileContents", ""), validate=True))
    except binascii.Error:
        payload.fault("FileContents", "The file contents are not valid Base64.")
    if faults:
        raise Refusal(400, *faults)
    number, now = world.next_number(), world.now()
    values = payload.values | {
        "AttachedDocumentId": number,
        "DatatypeCode": TYPES[kind],
        "CategoryName": CATEGORIES[category],
        "CreatedBy": user,
        "CreatedByUserName": user,
        "CreationDate": now,
        "LastUpdatedBy": user,
        "LastUpdateDate": now,
    }
    if kind == "File":
        values |= {"UploadedFileName": values["FileName"], "UploadedFileLength": length}
        values["UploadedFileContentType"] = (
            "application/pdf" if values["FileName"].lower().endswith(".pdf") else "application/octet-stream"
        )
    values.setdefault("Title", values.get("FileName"))
    return Row(number, values)


def attach(world: World, invoice: Row, document: Mapping[str, Any], user: str) -> Row:
    """Adds an attachment to an invoice; the same file twice is two attachments, as in Fusion."""
    with world.lock:
        row = build_attachment(world, document, user)
        invoice.children.setdefault("attachments", []).append(row)
        world.keep_invoice(invoice)
        return row
