"""Shapes that every Fusion resource shares, and the conversions its looseness needs.

Numbers may come as JSON numbers or as strings (framework version 9), flags as booleans or ``Y``/``N``, children as
arrays or as paged collections (version 3 on), days as dates or timestamps. Typed rows are decoded here, money exactly.
"""

import datetime as dt
import functools
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec

from mlc_dagster.fusion.errors import ResponseInvalid

RowT = TypeVar("RowT")

YesNo = bool | str | None
"""A flag as it arrives: true/false, "Y"/"N", "true"/"false" or null."""

DEFAULT_LIMIT = 25
"""Rows of a page when nobody asked for a number; children of an expanded row come in pages of this size."""


class Page(msgspec.Struct, Generic[RowT], rename={"has_more": "hasMore"}):
    """One collection answer. ``items`` may be absent on an empty page; ``has_more`` is a hint and no more."""

    items: list[RowT] | None = None
    count: int | None = None
    has_more: bool | None = None
    limit: int | None = None
    offset: int | None = None


Nested = Page[RowT] | list[RowT] | None
"""Children of an expanded row: a collection (framework 3 and later), an array (before), or absent."""


def page_of(row_type: type[RowT], content: bytes) -> Page[RowT]:
    """A page of ``row_type``; raises msgspec.DecodeError or UnicodeDecodeError."""
    page_type: Any = Page[row_type]
    return _decoder(page_type).decode(content)


def item_of(row_type: type[RowT], content: bytes) -> RowT:
    """A single item; raises msgspec.DecodeError or UnicodeDecodeError."""
    return _decoder(row_type).decode(content)


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    # Not strict: a number may come as text. Typed as Decimal or int, neither ever passes through float.
    return msgspec.json.Decoder(kind, strict=False)


def nested_rows(nested: Nested[RowT]) -> list[RowT]:
    """The children that came with their parent."""
    if nested is None:
        return []
    return nested if isinstance(nested, list) else nested.items or []


def has_more_children(nested: Nested[RowT]) -> bool:
    """True when the children that came with their parent may not be all: the page is full, or says so."""
    if nested is None or isinstance(nested, list):
        return False
    return bool(nested.has_more) or len(nested.items or []) >= (nested.limit or DEFAULT_LIMIT)


def flag(value: YesNo) -> bool | None:
    """A flag as bool; None when absent. Raises ResponseInvalid for any other word: bool("N") would be True."""
    if value is None or isinstance(value, bool):
        return value
    match value.strip().upper():
        case "Y" | "YES" | "TRUE":
            return True
        case "N" | "NO" | "FALSE":
            return False
        case "":
            return None
        case _:
            msg = f"{value!r} is not a flag (true, false, Y, N)"
            raise ResponseInvalid(msg)


def day(text: str | None) -> dt.date | None:
    """A date from ``2026-10-14`` or from a timestamp that begins so; raises ResponseInvalid."""
    if not text:
        return None
    try:
        return dt.date.fromisoformat(text[:10])
    except ValueError:
        msg = f"{text!r} is not a date"
        raise ResponseInvalid(msg) from None


def instant(text: str | None) -> dt.datetime | None:
    """A timestamp as UTC; one without offset is taken as UTC. Raises ResponseInvalid."""
    if not text:
        return None
    try:
        moment = msgspec.convert(text, dt.datetime)
    except msgspec.ValidationError:
        msg = f"{text!r} is not a timestamp"
        raise ResponseInvalid(msg) from None
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC).astimezone(dt.UTC)


def money(amount: Decimal | None) -> Decimal | None:
    """``amount`` as it came; raises ResponseInvalid for NaN and Infinity, which Decimal would let through."""
    if amount is not None and not amount.is_finite():
        msg = f"{amount} is not an amount"
        raise ResponseInvalid(msg)
    return amount
