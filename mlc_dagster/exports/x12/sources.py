"""Source fields by path, such as ``invoice.number`` and ``line.description``, and what layouts may say instead.

Belongs here: which paths exist, how their values are read and put into an element's type. Does not: which element
takes which field.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from operator import attrgetter
from typing import Any

import msgspec

from mlc_dagster.exports.layouts.crosswalk import CodeUnknown, Crosswalk
from mlc_dagster.exports.writing import DocumentHeld
from mlc_dagster.exports.x12.elements import Place, Type, plain_number
from mlc_dagster.fusion.canonical import Record
from mlc_dagster.fusion.journal_lines import JournalLine
from mlc_dagster.fusion.records import Invoice, InvoiceLine, Journal, OrderLine, PurchaseOrder

Scope = tuple[Any, ...]
"""The record, and below the line level the line."""

ROOTS: dict[str, tuple[tuple[str, type[Record]], ...]] = {
    "invoices": (("invoice", Invoice), ("line", InvoiceLine)),
    "purchase_orders": (("order", PurchaseOrder), ("line", OrderLine)),
    "journals": (("journal", Journal), ("line", JournalLine)),
}
"""By source: the first part of a path, from the top, and what it is."""


def paths(source: str) -> dict[str, int]:
    """Every path of the source with its level: 0 the record, 1 the line."""
    found: dict[str, int] = {}
    for level, (root, kind) in enumerate(ROOTS[source]):
        for field in msgspec.structs.fields(kind):
            if "tuple" not in str(field.type):
                found[f"{root}.{field.name}"] = level
    found[f"{ROOTS[source][0][0]}.record_id"] = 0
    return found


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from: a field, perhaps through a crosswalk, or a constant."""

    name: str
    """The path, or the constant in quotes."""
    level: int
    attribute: str | None = None
    constant: str | None = None
    crosswalk: Crosswalk | None = None

    @classmethod
    def of_path(cls, path: str, level: int, crosswalk: Crosswalk | None = None) -> "Origin":
        return cls(path, level, attribute=path.partition(".")[2], crosswalk=crosswalk)

    def value(self, scope: Scope) -> Any:
        """The value as the record has it; None where it is absent. Raises DocumentHeld."""
        if self.attribute is None:
            return self.constant
        value = getattr(scope[self.level], self.attribute)
        if value is None or self.crosswalk is None:
            return value
        return translated(self.crosswalk, as_text(value), self.name)

    def reader(self) -> Callable[[Any], Any]:
        """``value`` of the record or line itself, without a scope around it; for what is read of every line."""
        if self.attribute is not None and self.crosswalk is None:
            return attrgetter(self.attribute)
        # The other levels of the scope are not looked at.
        return lambda record: self.value((record,) * (self.level + 1))

    def text(self, scope: Scope) -> str | None:
        """The value as text; None where it is absent or empty."""
        value = self.value(scope)
        return None if value is None else as_text(value) or None


def translated(crosswalk: Crosswalk | None, value: str, field: str) -> str:
    """The partner's code, or the value where no such crosswalk is given. Raises DocumentHeld."""
    if crosswalk is None:
        return value
    try:
        return crosswalk.translate(value)
    except CodeUnknown as error:
        raise DocumentHeld("CODE_UNKNOWN", f"{field}: {error}", field=field) from None


def as_text(value: Any) -> str:
    """Any value of a record as the text of an AN element."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "Y" if value else "N"
    if isinstance(value, Decimal):
        return plain_number(value)
    if isinstance(value, dt.date):
        return value.strftime("%Y%m%d")
    return str(value)


def into(value: Any, kind: Type, place: Place) -> Any:
    """A value that a layout puts into an element, in the element's type. Raises DocumentHeld."""
    if value is None or kind in ("AN", "ID"):
        return None if value is None else as_text(value)
    if not isinstance(value, str):
        if isinstance(value, dt.date) == (kind in ("DT", "TM")):
            return value
        raise place.held("WRONG_TYPE", f"{as_text(value)!r} does not fit an element of type {kind}")
    try:
        return dt.date.fromisoformat(value) if kind == "DT" else Decimal(value)
    except (ValueError, InvalidOperation):
        raise place.held("WRONG_TYPE", f"{value!r} does not fit an element of type {kind}") from None


Overrides = Mapping[str, Mapping[str, Origin]]
"""By segment and element name."""
