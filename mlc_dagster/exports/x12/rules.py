"""The keys of an X12 layout, as YAML has them, with their defaults.

Belongs here: what may be said. Does not: whether the fields, crosswalks and elements named in it exist (``layout``).
"""

from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mlc_dagster.exports.x12.characters import CharacterSet
from mlc_dagster.exports.x12.elements import AmountScale, KeyTooLong, TextTooLong
from mlc_dagster.exports.x12.segments import PAIRS, Standard


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _word(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"{value!r} is no time zone, such as America/New_York") from None
    return value


def _delimiter(value: str) -> str:
    if len(value) != 1 or not value.isascii() or value.isalnum() or value in " .-":
        raise ValueError(f"{value!r} cannot be a delimiter: one ASCII character, no letter, digit, space, point, minus")
    return value


Word = Annotated[str, BeforeValidator(_word), Field(min_length=1)]
Code = Annotated[str, BeforeValidator(_word), Field(min_length=1, max_length=3)]
Mark = Annotated[str, AfterValidator(_delimiter)]


class DelimiterRules(_Model):
    element: Mark = "*"
    component: Mark = ">"
    repetition: Mark = "^"
    """ISA11 from 005010 on."""
    segment: Mark = "~"

    @model_validator(mode="after")
    def _all_different(self) -> Self:
        if len({self.element, self.component, self.repetition, self.segment}) < 4:
            raise ValueError("the four delimiters must be different characters")
        return self


class SetRules(_Model):
    """Transaction set by change."""

    new: Word
    change: Word
    cancel: Word


class PartyRules(_Model):
    """An N1 segment; it is left out where both its fields are empty."""

    entity: Code
    name: str | None = None
    qualifier: Code = "92"
    number: str | None = None


class ReferenceRules(_Model):
    """A REF segment; it is left out where its value is empty. Its field decides whether it is per document or line."""

    qualifier: Code
    field: str | None = None
    constant: str | None = None
    crosswalk: str | None = None
    description: str | None = None
    description_field: str | None = None


class FieldRules(_Model):
    """A qualifier and a field: DTM segments, product ids."""

    qualifier: Code
    field: str


class ElementRules(_Model):
    field: str | None = None
    constant: Annotated[str | None, BeforeValidator(_word)] = None
    crosswalk: str | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.field is None) == (self.constant is None):
            raise ValueError("give field or constant")
        return self


def _field_only(value: object) -> object:
    return {"field": value} if isinstance(value, str) else value


class X12Rules(_Model):
    """The keys of an X12 layout."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
    version: Word
    description: str | None = None
    format: Literal["x12"]
    source: Literal["invoices", "purchase_orders", "journals"]
    standard: Standard
    industry: Annotated[str, Field(max_length=6, pattern=r"^[A-Z0-9]*$")] = ""
    """Behind the standard in GS08, such as VICS."""
    extension: Annotated[str, Field(pattern=r"^\.[A-Za-z0-9.]+$")] = ".x12"
    file_name: Word
    crosswalks: object = None
    """Read by ``layouts.loading``."""
    delimiters: DelimiterRules = DelimiterRules()
    line_break: Literal["none", "lf", "crlf"] = "none"
    """After each segment terminator."""
    character_set: CharacterSet = "extended"
    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """Of the dates and times in ISA and GS."""
    group_time: Literal["HHMM", "HHMMSS"] = "HHMM"
    sets: SetRules | None = None
    key_too_long: KeyTooLong = "hold"
    text_too_long: TextTooLong = "cut"
    amount_scale: AmountScale = "hold"
    """amt: an amount of more than two decimals is rounded in N2 elements (counted) and exact in AMT."""
    on_cancel: Literal["hold", "send"] = "hold"
    """Canceled invoices and journals; 860 always says a cancellation."""
    parties: list[PartyRules] | None = None
    references: list[ReferenceRules] | None = None
    dates: list[FieldRules] = []
    line_ids: Annotated[list[FieldRules], Field(max_length=PAIRS)] | None = None
    elements: dict[str, Annotated[ElementRules, BeforeValidator(_field_only)]] = {}
    """``SEGMENT.element`` to a field, a constant, or a field through a crosswalk."""
    currency_entity: Code | None = None
    accounts: Literal["none", "whole", "segments"] | None = None
    """810 and 821: FA1 and FA2; 850 and 860: REF, for each distribution."""
    account_qualifier: Annotated[str, Field(min_length=2, max_length=2)] = "ZZ"
    segment_codes: dict[str, Annotated[str, Field(min_length=2, max_length=2)]] = {}
    """FA201 or REF01 by the chart's segment name, where it differs from ``account_qualifier``."""
    chart: str | None = None
    """Chart of the account combinations of invoices and orders; journals' follows from their ledger."""
    hash_total: Literal["none", "quantity", "digits"] = "quantity"
    """CTT02: the sum of the quantities, the sum of their digits, or left out."""
    # 810
    credit_sign: Literal["negative", "positive"] = "negative"
    """Of a memo's amounts, beside BIG07."""
    amount_only: Literal["sac", "one"] = "sac"
    """Lines without quantity and price: a charge or allowance, or quantity one at the amount. Tax is always TXI."""
    amount_unit: Annotated[str, Field(min_length=2, max_length=2)] = "EA"
    tax_type: Annotated[str, Field(min_length=2, max_length=2)] = "TX"
    ignored_line_types: list[str] = []
    """Lines that are not part of the invoice amount; not sent."""
    # 850 and 860
    order_type: Annotated[str, Field(min_length=2, max_length=2)] = "SA"
    notes: bool = True
    """The order's description as N9 and MSG."""
    schedules: bool = True
    """SCH segments."""
    change_codes: dict[str, Annotated[str, Field(min_length=2, max_length=2)]] = {}
    cancel_lines: bool = False
    """A canceled order lists all its lines as removed."""
    # 821
    transaction_code: Word = "GL"
    """FIR02, mutually agreed."""
    negative_amounts: Literal["flip", "keep"] = "flip"
    """A negative debit goes as a credit (counted), or as a negative debit."""
    period_end: Code = "194"
    """Qualifier of the effective date."""


DEFAULTS: dict[str, dict[str, Any]] = {
    "invoices": {
        "parties": [
            {"entity": "SE", "name": "invoice.supplier", "number": "invoice.supplier_number"},
            {"entity": "BT", "name": "invoice.business_unit"},
        ],
        "references": [],
        "line_ids": [
            {"qualifier": "BP", "field": "line.item"},
            {"qualifier": "PO", "field": "line.purchase_order"},
        ],
        "currency_entity": "SE",
        "accounts": "none",
    },
    "purchase_orders": {
        "parties": [
            {"entity": "BY", "name": "order.business_unit"},
            {"entity": "SE", "name": "order.supplier", "number": "order.supplier_id"},
            {"entity": "BT", "name": "order.bill_to"},
            {"entity": "ST", "name": "order.ship_to"},
        ],
        "references": [],
        "line_ids": [
            {"qualifier": "VP", "field": "line.supplier_item"},
            {"qualifier": "BP", "field": "line.item"},
        ],
        "currency_entity": "BY",
        "accounts": "none",
    },
    "journals": {
        "parties": [],
        "references": [
            {"qualifier": "ZZ", "field": "journal.batch_id", "description_field": "journal.name"},
            {"qualifier": "ZZ", "field": "journal.ledger", "description": "LEDGER"},
            {"qualifier": "ZZ", "field": "journal.period", "description": "PERIOD"},
            {"qualifier": "ZZ", "field": "journal.source", "description": "SOURCE"},
            {"qualifier": "ZZ", "field": "journal.category", "description": "CATEGORY"},
        ],
        "line_ids": [],
        "currency_entity": "BY",
        "accounts": "segments",
    },
}
