"""The bytes of the request that creates an invoice: JSON with exact, fixed-point numbers.

Belongs here: writing. Does not: what the attributes are (``mapping``). The bytes are stored before they are sent and
sent as stored, so their order and form are the same on every run.
"""

import datetime as dt
from decimal import Decimal

import msgspec

from mlc_dagster.stampli.model import fixed_point
from mlc_dagster.stampli.validation.mapping import BodyValue, Mapping

GROUP_SLOT = "@@mlc-invoice-group@@"
"""Stands for the InvoiceGroup until the intent names window, generation and run; see ``fill_group``."""


def render_body(mapping: Mapping, invoice_group: str) -> bytes:
    """UTF-8 JSON without blanks, attributes in the order of the mapping, InvoiceGroup after them, lines last.

    Decimals become JSON numbers without exponent, digit by digit: a float on the way would bend amounts above 2^53.
    Absent values are left out.
    """
    attributes = _written({**mapping.header, "InvoiceGroup": invoice_group})
    lines = [_written(line) for line in mapping.lines]
    return msgspec.json.encode({**attributes, "invoiceLines": lines})


def _written(values: dict[str, BodyValue]) -> dict[str, str | int | msgspec.Raw]:
    return {name: _value(value) for name, value in values.items() if value is not None}


def _value(value: str | int | Decimal | dt.date) -> str | int | msgspec.Raw:
    if isinstance(value, Decimal):
        return msgspec.Raw(fixed_point(value).encode("ascii"))
    if isinstance(value, dt.date):
        return value.isoformat()
    return value


class BodyKeys(msgspec.Struct, rename="pascal"):
    """What names an invoice in its body; reading the whole of it with exact numbers takes twenty times as long."""

    business_unit: str
    supplier_number: str
    invoice_number: str
    invoice_date: dt.date


_KEYS = msgspec.json.Decoder(BodyKeys)


def body_keys(body: bytes | str) -> BodyKeys:
    """Raises msgspec.DecodeError when it is no body of ours."""
    return _KEYS.decode(body)


def fill_group(template: str, invoice_group: str) -> bytes:
    """The body to send: the template with its invoice group.

    The slot is matched with its key and quotes, which no JSON string can contain unescaped.
    """
    slot = f'"InvoiceGroup":"{GROUP_SLOT}"'
    if template.count(slot) != 1:
        msg = "a stored mapping has no single place for its invoice group; validate the invoice again"
        raise ValueError(msg)
    return template.replace(slot, f'"InvoiceGroup":"{invoice_group}"').encode()
