"""Column types that mean the same on SQLite and PostgreSQL."""

import datetime as dt
import json
from typing import Any, cast

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
        value = value.astimezone(dt.UTC)
        return value if dialect.name == "postgresql" else value.strftime(UTC_FORMAT)

    def process_result_value(self, value: Any, dialect: Dialect) -> dt.datetime | None:  # noqa: ARG002
        if value is None:
            return None
        if isinstance(value, dt.datetime):
            return value.astimezone(dt.UTC)
        return dt.datetime.strptime(value, UTC_FORMAT).replace(tzinfo=dt.UTC)


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
        return None if value is None else canonical_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else json.loads(value)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no blanks; refuses floats, which have no place near money."""
    _refuse_floats(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        msg = f"a float was given to the ledger: {value!r}; write it as text"
        raise TypeError(msg)
    items: list[Any] = []
    if isinstance(value, dict):
        items = list(cast("dict[str, Any]", value).values())
    elif isinstance(value, list | tuple):
        items = list(cast("list[Any]", value))
    for item in items:
        _refuse_floats(item)
