"""The catalogue of source fields that a layout may name, by source and row level, from ``fusion.records``.

Belongs here: names, types, where a value comes from and which currency an amount is in. Does not: text and formats.
"""

import datetime as dt
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Literal, get_args

import msgspec

from mlc_dagster.fusion import records
from mlc_dagster.fusion.journal_lines import JournalLine

Kind = Literal["text", "integer", "decimal", "date", "time", "flag"]
Money = Literal["document", "line", "ledger"]
"""Currency of an amount: the document's, the line's (journals: else the journal's), the ledger's."""


@dataclass(frozen=True, slots=True)
class Field:
    """One source field."""

    name: str
    """As layouts write it: ``line.entered_dr``."""
    level: str
    """Whose value it is: document, or line, schedule, distribution, installment, site."""
    kind: Kind
    attribute: str
    """Of the level's record; a path from ``documents.Document`` where the value is the document's."""
    money: Money | None = None
    family: Literal["record", "segment", "derived", "status"] = "record"


@dataclass(frozen=True, slots=True)
class Level:
    """Rows below the document: their class and where the parent keeps them."""

    record: type[msgspec.Struct]
    attribute: str


DOCUMENT_PREFIX = {"journals": "journal", "invoices": "invoice", "purchase_orders": "order", "suppliers": "supplier"}

LEVELS: Mapping[str, Mapping[str, Level]] = {
    "journals": {"line": Level(JournalLine, "lines")},
    "invoices": {
        "line": Level(records.InvoiceLine, "lines"),
        "distribution": Level(records.InvoiceDistribution, "distributions"),
        "installment": Level(records.Installment, "installments"),
    },
    "purchase_orders": {
        "line": Level(records.OrderLine, "lines"),
        "schedule": Level(records.OrderSchedule, "schedules"),
        "distribution": Level(records.OrderDistribution, "distributions"),
    },
    "suppliers": {"site": Level(records.SupplierPlace, "sites")},
}

ROWS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "journals": {"header": (), "line": ("line",)},
    "invoices": {
        "header": (),
        "line": ("line",),
        "distribution": ("line", "distribution"),
        "installment": ("installment",),
    },
    "purchase_orders": {
        "header": (),
        "line": ("line",),
        "schedule": ("line", "schedule"),
        "distribution": ("line", "schedule", "distribution"),
    },
    "suppliers": {"header": (), "site": ("site",)},
}
"""Levels from the document down to one row, by source and row."""

COMBINATIONS: Mapping[tuple[str, str], str] = {
    ("journals", "line"): "account_combination",
    ("invoices", "line"): "combination",
    ("invoices", "distribution"): "combination",
    ("purchase_orders", "distribution"): "charge_account",
}
"""Attribute with the account combination that segments are taken from, by source and row."""

_MONEY: Mapping[tuple[str, str], Money] = {
    ("line", "entered_dr"): "line",
    ("line", "entered_cr"): "line",
    ("line", "accounted_dr"): "ledger",
    ("line", "accounted_cr"): "ledger",
    ("invoice", "amount"): "document",
    ("line", "amount"): "document",
    ("distribution", "amount"): "document",
    ("installment", "gross_amount"): "document",
    ("status", "amount_paid"): "document",
    ("order", "ordered"): "document",
    ("order", "total"): "document",
    ("line", "ordered"): "document",
    ("schedule", "ordered"): "document",
    ("distribution", "ordered"): "document",
}

_ABOUT: Mapping[str, tuple[Kind, str]] = {
    "record.id": ("text", "version.read.record_id"),
    "record.version": ("integer", "version.number"),
    "record.change": ("text", "version.change.value"),
    "record.fusion_id": ("integer", "version.read.fusion_id"),
    "record.last_update": ("time", "version.read.last_update_date"),
    "record.created": ("time", "version.read.creation_date"),
    "record.position": ("integer", "position"),
    "feed.name": ("text", "feed"),
    "layout.name": ("text", "layout_name"),
    "layout.version": ("text", "layout_version"),
    "document.rows": ("integer", "rows"),
}
"""What is known about a document beside its content."""

DERIVED: Mapping[str, tuple[Kind, Money | None]] = {
    "line.side": ("text", None),
    "line.entered_amount": ("decimal", "line"),
    "line.entered_net": ("decimal", "line"),
    "line.accounted_amount": ("decimal", "ledger"),
    "line.accounted_net": ("decimal", "ledger"),
}
"""Of journal lines: D or C, the amount on that side, and debit minus credit."""

ORDER_STATUSES: Mapping[str, tuple[str, str]] = {
    "line": ("lines", "line_id"),
    "schedule": ("schedules", "schedule_id"),
}
"""Where ``OrderStatus`` has the codes of a level, and which attribute of its records they are found by."""

CHART_FIELDS = ("chart.natural_account", "chart.cost_center", "chart.balancing", "chart.name")

_FRAME_ONLY = ("file.sequence", "file.created", "file.rows", "file.documents")


def _kind(annotation: Any) -> Kind | None:
    kinds: dict[type, Kind] = {
        str: "text", int: "integer", Decimal: "decimal", dt.date: "date", dt.datetime: "time", bool: "flag"
    }  # fmt: skip
    for candidate in (annotation, *get_args(annotation)):
        if candidate in kinds:
            return kinds[candidate]
    return None


def _record_fields(prefix: str, level: str, record: type[msgspec.Struct]) -> list[Field]:
    fields: list[Field] = []
    for entry in msgspec.structs.fields(record):
        kind = None if getattr(entry.type, "__origin__", None) is tuple else _kind(entry.type)
        if kind is not None:
            money = _MONEY.get((prefix, entry.name)) if kind == "decimal" else None
            path = f"content.{entry.name}" if level == "document" else entry.name
            fields.append(Field(f"{prefix}.{entry.name}", level, kind, path, money))
    return fields


@cache
def catalogue(source: str, row: str) -> dict[str, Field]:
    """Every field of the source that a row of that level may show, segments apart."""
    prefix = DOCUMENT_PREFIX[source]
    fields = _record_fields(prefix, "document", records.KINDS[source])
    for level in ROWS[source][row]:
        fields += _record_fields(level, level, LEVELS[source][level].record)
    fields += [Field(name, "document", kind, path) for name, (kind, path) in _ABOUT.items()]
    if source == "invoices":
        fields += [
            Field(entry.name, "document", entry.kind, entry.name, entry.money)
            for entry in _record_fields("status", "status", records.InvoiceStatus)
        ]
    if source == "purchase_orders":
        fields.append(Field("order.status", "document", "text", "status.code"))
        fields += [
            Field(f"{level}.status", level, "text", level, None, "status")
            for level in ROWS[source][row]
            if level in ORDER_STATUSES
        ]
    if source == "journals" and row == "line":
        fields += [Field(name, "line", kind, name, money, "derived") for name, (kind, money) in DERIVED.items()]
    if (source, row) in COMBINATIONS:
        fields += [Field(name, row, "text", name, None, "segment") for name in CHART_FIELDS]
    return {field.name: field for field in fields}


class FieldUnknown(Exception):
    """No such field at that level; the text says what to write instead."""


def find_field(name: str, *, source: str, row: str, segments: frozenset[str] | None = None) -> Field:
    """The field; ``segments`` are the names of the charts' segments where these are known.

    Raises:
        FieldUnknown: names the nearest field, or the row level that has it.
    """
    known = catalogue(source, row)
    if name in known:
        return known[name]
    prefix, _, rest = name.partition(".")
    if prefix == "segment" and rest:
        if (source, row) not in COMBINATIONS:
            raise FieldUnknown(f"{name!r}: a row of {row} has no account combination; {_rows_with_accounts(source)}")
        if segments is not None and rest not in segments:
            raise FieldUnknown(f"{name!r}: no chart has such a segment; {_nearest(rest, sorted(segments))}")
        return Field(name, row, "text", rest, None, "segment")
    if name in _FRAME_ONLY or prefix == "file":
        raise FieldUnknown(
            f"{name!r}: what belongs to the file is known when it is assembled; write it in header or trailer"
        )
    for other in ROWS[source]:
        if name in catalogue(source, other):
            raise FieldUnknown(f"{name!r}: is a field of row: {other}, and this is a row of {row}")
    raise FieldUnknown(f"{name!r}: no such field; {_nearest(name, [*known, 'segment.<name>'])}")


def _rows_with_accounts(source: str) -> str:
    rows = [row for known, row in COMBINATIONS if known == source]
    return f"write row: {' or '.join(rows)}" if rows else f"{source} have none"


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
