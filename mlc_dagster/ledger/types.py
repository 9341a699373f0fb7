"""Column types that mean the same on SQLite and PostgreSQL."""

import datetime as dt
import functools
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

UTC_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""64-bit key; SQLite numbers rows by itself only for a column declared INTEGER."""


class UtcDateTime(TypeDecorator[dt.datetime]):
    """An instant in UTC: timestamptz on PostgreSQL, sortable ISO text with microseconds on SQLite."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(sa.Text())

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"a time without zone was given to the ledger: {value!r}"
            raise ValueError(msg)
        if value.tzinfo is not dt.UTC:
            value = value.astimezone(dt.UTC)
        return value if dialect.name == "postgresql" else utc_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> dt.datetime | None:  # noqa: ARG002
        if value is None:
            return None
        if isinstance(value, dt.datetime):
            return value.astimezone(dt.UTC)
        return dt.datetime.fromisoformat(value)


@functools.lru_cache(maxsize=256)
def utc_text(moment: dt.datetime) -> str:
    """An instant in UTC in UTC_FORMAT; strftime would take ten times as long.

    Kept, since a transaction writes its own time a dozen times per invoice.
    """
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


class MinorUnits(TypeDecorator[int]):
    """Money in whole minor units; anything but an int is refused, which both databases would round in silence."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's signature
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            msg = f"money is kept in whole minor units, as int; the ledger was given {value!r}"
            raise TypeError(msg)
        return value


class JsonText(TypeDecorator[Any]):
    """JSON kept as text with sorted keys: the same bytes on both databases, so that digests over it agree."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        if type(value) is CanonicalText:
            return str(value)
        return None if value is None else canonical_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else json.loads(value)


class CanonicalText(str):
    """What ``canonical_json`` gave: for a JsonText column whose value was written out before."""

    __slots__ = ()


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
_encode_plain = msgspec.json.Encoder(order="sorted").encode
_PLAIN = frozenset({str, int, bool, type(None)})


_NOT_KEPT = re.compile("[\x00\ud800-\udfff]")
_HALF = re.compile("[\ud800-\udfff]")
"""Of a surrogate pair: alone it stands for no character, and has no bytes in UTF-8."""


def storable(text: str) -> str:
    r"""``text`` as any database keeps it: halves of surrogate pairs and NUL, which none or not each does, are escaped.

    They read as ``\ud800`` and ``\x00``. For text that tells what happened: it must not be lost for a character in it.
    """
    if text.isascii() and "\0" not in text:
        return text
    return _NOT_KEPT.sub(lambda match: ascii(match[0])[1:-1], text)


def canonical_json(value: Any) -> str:
    r"""JSON with sorted keys and no blanks; refuses floats, which have no place near money.

    Text that no database keeps is written with JSON's own escapes (``\u0000``, ``\ud800``), and reads back as it was.
    """
    if _is_plain(value):
        # The same characters at a sixth of the time. Of other types msgspec writes some that JSON does not have.
        with suppress(UnicodeEncodeError):
            return _encode_plain(value).decode()
    _refuse_floats(value)
    text = _encode(value)
    return text if text.isascii() else _HALF.sub(lambda match: ascii(match[0])[1:-1], text)


def _is_plain(value: Any) -> bool:
    """Nothing but JSON's own types: exactly these, no subclasses."""
    kind = cast("type[Any]", type(value))
    if kind is dict:
        items = cast("dict[Any, Any]", value)
        return all(type(key) is str for key in items) and all(
            type(item) in _PLAIN or _is_plain(item) for item in items.values()
        )
    if kind is list or kind is tuple:
        return all(type(item) in _PLAIN or _is_plain(item) for item in value)
    return kind in _PLAIN


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        msg = f"a float was given to the ledger: {value!r}; write it as text"
        raise TypeError(msg)
    if isinstance(value, dict):
        items: Iterable[Any] = cast("dict[str, Any]", value).values()
    elif isinstance(value, list | tuple):
        items = cast("list[Any]", value)
    else:
        return
    for item in items:
        # Nearly everything is text or a whole number: not worth a call.
        if type(item) is not str and type(item) is not int:
            _refuse_floats(item)
