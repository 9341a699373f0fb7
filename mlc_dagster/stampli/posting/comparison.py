"""Is what Fusion shows what we sent? Compared with the frozen bytes of the request, to the cent and line by line.

Lines that Fusion generated (tax, withholding) are listed apart and are no difference. Names are not compared: a
supplier may be renamed after posting; the supplier's number stays.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.stampli.identity import number_key

_GENERATED = frozenset({"tax", "withholding", "withholding tax"})


@dataclass(frozen=True)
class Comparison:
    """``differences``: field → [sent, found]; ``generated``: lines that Fusion added by itself."""

    differences: dict[str, list[str | None]]
    generated: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        return not self.differences


def body_fields(body: bytes | str) -> dict[str, Any]:
    """A request body with its numbers as Decimal."""
    fields: dict[str, Any] = json.loads(body, parse_float=Decimal, parse_int=Decimal)
    return fields


def _text(value: object) -> str | None:
    if value is None:
        return None
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def compare(fields: Mapping[str, Any], record: InvoiceRecord) -> Comparison:
    """What differs between a request body and Fusion's record. Lines are compared when the record has them."""
    found: dict[str, list[str | None]] = {}

    def check(name: str, sent: object, seen: object) -> None:
        if sent is not None and sent != seen:
            found[name] = [_text(sent), _text(seen)]

    if number_key(str(fields["InvoiceNumber"])) != number_key(record.number):
        found["InvoiceNumber"] = [_text(fields["InvoiceNumber"]), record.number]
    check("InvoiceCurrency", fields["InvoiceCurrency"], record.currency)
    check("InvoiceAmount", Decimal(str(fields["InvoiceAmount"])), record.amount)
    check("InvoiceDate", fields["InvoiceDate"], record.invoice_date and record.invoice_date.isoformat())
    check("AccountingDate", fields.get("AccountingDate"), record.accounting_date and record.accounting_date.isoformat())
    check("BusinessUnit", fields["BusinessUnit"], record.business_unit)
    check("SupplierNumber", fields.get("SupplierNumber"), record.supplier_number)
    check("SupplierSite", fields.get("SupplierSite"), record.supplier_site)
    if record.invoice_type is not None:
        check("InvoiceType", fields.get("InvoiceType"), record.invoice_type)
    if record.canceled:
        found["CanceledFlag"] = ["false", "true"]
    generated = _compare_lines(fields, record, found) if record.lines is not None else ()
    return Comparison(found, generated)


def _compare_lines(
    fields: Mapping[str, Any], record: InvoiceRecord, found: dict[str, list[str | None]]
) -> tuple[str, ...]:
    seen = {line.number: line for line in record.lines or ()}
    for sent in fields.get("invoiceLines", []):
        number = int(sent["LineNumber"])
        line = seen.pop(number, None)
        if line is None:
            found[f"line {number}"] = [_text(sent["LineAmount"]), None]
            continue
        amount = Decimal(str(sent["LineAmount"]))
        if line.amount != amount or line.canceled or line.discarded:
            shown = "cancelled" if line.canceled or line.discarded else _text(line.amount)
            found[f"line {number} LineAmount"] = [_text(amount), shown]
        account = sent.get("DistributionCombination")
        if account is not None and line.distribution_combination != account:
            found[f"line {number} DistributionCombination"] = [account, line.distribution_combination]
    generated: list[str] = []
    for number, line in sorted(seen.items()):
        if (line.line_type or "").casefold() in _GENERATED:
            generated.append(f"line {number} {line.line_type} {_text(line.amount)}")
        else:
            found[f"line {number}"] = [None, _text(line.amount)]
    return tuple(generated)


def is_ours(fields: Mapping[str, Any], record: InvoiceRecord, *, posting_user: str) -> bool:
    """Created by our user, from our source, in the group this request named, with equal content."""
    return not origin(fields, record, posting_user=posting_user) and compare(fields, record).equal


def origin(fields: Mapping[str, Any], record: InvoiceRecord, *, posting_user: str) -> dict[str, list[str | None]]:
    """What says that an invoice is not the doing of this request, besides its content: field → [ours, found]."""
    marks = {
        "InvoiceSource": (fields["InvoiceSource"], record.invoice_source),
        "InvoiceGroup": (fields["InvoiceGroup"], record.invoice_group),
    }
    found = {name: [ours, seen] for name, (ours, seen) in marks.items() if ours != seen}
    if (record.created_by or "").casefold() != posting_user.casefold():
        found["CreatedBy"] = [posting_user, record.created_by]
    return found
