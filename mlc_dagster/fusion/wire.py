"""Shapes that every Fusion resource shares, and the conversions its looseness needs.

Numbers may come as JSON numbers or as strings (framework version 9), flags as booleans or ``Y``/``N``, children as
arrays or as paged collections (version 3 on), days as dates or timestamps. Typed rows are decoded here, money exactly.
"""

import datetime as dt
import functools
import re
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from mlc_dagster.fusion.errors import ResponseInvalid

RowT = TypeVar("RowT")

Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A number of Fusion's; no database keeps more than 64 bits."""

YesNo = bool | str | None
"""A flag as it arrives: true/false, "Y"/"N", "true"/"false" or null."""

_SHOWN = 100
"""Characters of a wrong value that an error shows."""

DEFAULT_LIMIT = 25
"""Rows of a page when nobody asked for a number; children of an expanded row come in pages of this size."""


class Page(msgspec.Struct, Generic[RowT], rename={"has_more": "hasMore"}):
    """One collection answer. ``items`` may be absent on an empty page; ``has_more`` is a hint and no more."""

    items: list[RowT] | None = None
    count: Id | None = None
    has_more: bool | None = None
    limit: Id | None = None
    offset: Id | None = None


Nested = Page[RowT] | list[RowT] | None
"""Children of an expanded row: a collection (framework 3 and later), an array (before), or absent."""


MOST_WHOLE = 30
MOST_DECIMALS = 48
"""Digits before and after the decimal point of amounts, prices and rates: none has more, and sums stay exact."""

_NUL = b"\\u0000"
_NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def decoded(decoder: msgspec.json.Decoder[RowT], content: bytes) -> RowT:
    """``content`` as the decoder's type; of a name that is there twice the last counts.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: not such JSON, nested beyond any use, or with a NUL in a text, which
            no database keeps.
    """
    if _NUL in content and _NUL_ESCAPE.search(content) is not None:
        raise msgspec.ValidationError("a text holds a NUL character")
    try:
        return decoder.decode(content)
    except RecursionError:
        raise msgspec.DecodeError("nested too deeply") from None


def page_of(row_type: type[RowT], content: bytes) -> Page[RowT]:
    """A page of ``row_type``; raises msgspec.DecodeError or UnicodeDecodeError."""
    page_type: Any = Page[row_type]
    return decoded(_decoder(page_type), content)


def item_of(row_type: type[RowT], content: bytes) -> RowT:
    """A single item; raises msgspec.DecodeError or UnicodeDecodeError."""
    return decoded(_decoder(row_type), content)


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
            msg = f"{_shown(value)} is not a flag (true, false, Y, N)"
            raise ResponseInvalid(msg)


def day(text: str | None) -> dt.date | None:
    """A date from ``2026-10-14`` or from a timestamp that begins so; raises ResponseInvalid."""
    if not text:
        return None
    try:
        return dt.date.fromisoformat(text[:10])
    except ValueError:
        msg = f"{_shown(text)} is not a date"
        raise ResponseInvalid(msg) from None


def instant(text: str | None) -> dt.datetime | None:
    """A timestamp as UTC; one without offset is taken as UTC. Raises ResponseInvalid."""
    if not text:
        return None
    try:
        moment = msgspec.convert(text, dt.datetime)
        return moment.replace(tzinfo=moment.tzinfo or dt.UTC).astimezone(dt.UTC)
    except (msgspec.ValidationError, OverflowError):
        # Overflow: 0001-01-01 in a zone east of Greenwich has no instant.
        msg = f"{_shown(text)} is not a timestamp"
        raise ResponseInvalid(msg) from None


def money(amount: Decimal | None) -> Decimal | None:
    """``amount`` as it came; raises ResponseInvalid for NaN, Infinity and 1E+999999, which Decimal lets through."""
    if amount is None:
        return None
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -MOST_DECIMALS or (amount and amount.adjusted() >= MOST_WHOLE):
        msg = f"{str(amount)[:_SHOWN]} is not an amount"
        raise ResponseInvalid(msg)
    return amount


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
