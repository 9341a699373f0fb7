"""How a document's levels arrive on the wire, and how a wire row becomes a record.

The attributes that are read are those of the record: its fields, under Fusion's names, in the loose types of the wire
(days as text, flags as Y/N, numbers perhaps as text). Children stay undecoded until somebody wants them. Attributes
that nobody declared are passed over.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from operator import attrgetter
from typing import Any, Optional, get_args

import msgspec
from msgspec.structs import FieldInfo

from mlc_dagster.fusion.canonical import Record, plain
from mlc_dagster.fusion.client import path_below_root
from mlc_dagster.fusion.journal_lines import JournalLines
from mlc_dagster.fusion.wire import MOST_WHOLE, Id, YesNo, day, flag, instant, money


class Link(msgspec.Struct):
    rel: str = ""
    href: str = ""


class _Context(msgspec.Struct):
    links: list[Link] = []


class WireRow(msgspec.Struct, rename="pascal", kw_only=True):
    """What every row may have beside its own attributes. Times are ISO text."""

    last_update_date: str | None = None
    creation_date: str | None = None
    links: list[Link] = msgspec.field(default_factory=list[Link], name="links")
    context: _Context | None = msgspec.field(default=None, name="@context")

    @property
    def path(self) -> str | None:
        """The row's own address below the version root; None where links were not sent."""
        links = self.links or (self.context.links if self.context is not None else [])
        href = next((link.href for link in links if link.rel == "self"), None)
        return None if href is None else path_below_root(href)


_MAYBE_ID: Any = Optional[Id]  # noqa: UP045  A type to pass on, which "|" makes of no Annotated.
_LAST_OF_PLAIN = "123456789"
"""What a plain decimal that is no whole number ends in."""

Kept = Sequence[Any] | JournalLines
"""Rows of a collection as they are kept until their document is whole: as they came, or as columns."""

Agreement = Callable[[Any, Any], str | None]
"""What is wrong with a parent's rows by the parent's own figures: a text, empty when they prove the rows to be all,
None when the parent has no such figures."""


@dataclass(frozen=True, eq=False)
class Level:
    """One collection of a document, or its top.

    ``key`` names the record's fields that tell siblings apart; ``order_by`` must sort by as much. Where the parent
    keeps all rows together, as columns, for lines, which come in hundreds of thousands, ``packed`` is what makes
    them of a page's rows; these have the types of ``record`` on the wire too.
    """

    name: str
    """Of the collection on the wire."""
    record: type[Record]
    key: tuple[str, ...]
    order_by: str
    children: tuple["Level", ...] = ()
    packed: Callable[[Sequence[Any]], JournalLines] | None = None
    without: frozenset[str] = frozenset()
    """Fields of the record that no attribute of the row has: another level fills them, or ``made``."""
    extra: tuple[tuple[str, str, Any], ...] = ()
    """Further attributes to read: name of the field, name on the wire, type."""
    made: Callable[[Any], dict[str, Any]] | None = None
    """Fields of the record that are made of the whole row; they go before what the attributes say."""
    agrees: Agreement | None = None
    row: Any = field(init=False)
    """Type of the rows on the wire."""
    columns: tuple[tuple[str, Callable[[Any], Any] | None], ...] = field(init=False)
    """Fields of the record that a row fills, each with what makes its value."""
    fields: dict[str, str] = field(init=False)
    """Names of the child collections to the record's fields that hold them."""
    _key_of: Callable[[Any], Any] = field(init=False)

    def __post_init__(self) -> None:
        names = {child.name for child in self.children}
        declared = msgspec.structs.fields(self.record)
        holders = {column.encode_name: column.name for column in declared if column.encode_name in names}
        object.__setattr__(self, "fields", holders)
        own = [column for column in declared if column.name not in self.without and column.encode_name not in names]
        object.__setattr__(self, "columns", tuple((column.name, _maker(column)) for column in own))
        object.__setattr__(self, "_key_of", attrgetter(*self.key))
        object.__setattr__(self, "row", _wire_type(self, own))

    @property
    def asked_for(self) -> str | None:
        """Value of ``fields`` where rows are so many that what nobody reads shall not come; None: all attributes."""
        names = (field.encode_name for field in msgspec.structs.fields(self.row))
        return None if self.packed is None else ",".join(names)

    @property
    def expand(self) -> str | None:
        """Value of ``expand`` that brings all levels below this one; parents come by themselves."""
        return ",".join(self.paths(leaves=True)) or None

    def paths(self, *, leaves: bool = False) -> list[str]:
        """Dotted names of the levels below, with ``leaves`` of the lowest only."""
        found: list[str] = []
        for child in self.children:
            below = [f"{child.name}.{path}" for path in child.paths(leaves=leaves)]
            found += below if leaves and below else [child.name, *below]
        return found

    def nested(self, row: Any, child: "Level") -> msgspec.Raw:
        """The child collection as it came with ``row``; empty when it did not come."""
        return getattr(row, _attribute(child))

    def kept(self, rows: list[Any]) -> Kept:
        """What is kept of rows that just came; raises ResponseInvalid for values that are none."""
        return rows if self.packed is None else self.packed(rows)

    def joined(self, parts: Sequence[Any]) -> Kept:
        """What was kept of several pages, as one."""
        return list(chain.from_iterable(parts)) if self.packed is None else JournalLines.joined(parts)

    def ordered(self, rows: Kept) -> tuple[Kept, Sequence[Any]]:
        """``rows`` by their keys, and the keys: the order they came in must not show in what is made of them."""
        if isinstance(rows, JournalLines):
            in_order = rows.by_number()
            return in_order, in_order.line_number
        keys = list(map(self._sortable, rows))
        sorted_keys = sorted(keys)
        return (rows if keys == sorted_keys else sorted(rows, key=self._sortable)), sorted_keys

    def _sortable(self, row: Any) -> tuple[Any, ...]:
        return tuple(value if isinstance(value, int) else str(value or "") for value in self._values_of_key(row))

    def _values_of_key(self, row: Any) -> tuple[Any, ...]:
        found = self._key_of(row)
        return found if len(self.key) > 1 else (found,)

    def values(self, row: Any) -> dict[str, Any]:
        """Fields of the record that ``row`` has a value for; raises ResponseInvalid for values that are none."""
        found: dict[str, Any] = {}
        for name, make in self.columns:
            value = getattr(row, name)
            if value is not None:
                value = make(value) if make is not None else value
                if value is not None:
                    found[name] = value
            elif make is required_text:
                found[name] = ""
        if self.made is not None:
            found.update(self.made(row))
        return found


def required_text(value: str | int) -> str:
    """Text that the record must have; Fusion shows incomplete documents without it."""
    return str(value)


def amount(value: Decimal) -> Decimal:
    """``canonical.plain`` with a way past it for what is plain already, as nearly all amounts are."""
    text = str(value)
    if len(text) <= MOST_WHOLE and (
        text.isdigit() or (text[-1] in _LAST_OF_PLAIN and "E" not in text and "N" not in text)
    ):
        return value
    return plain(money(value) or Decimal(0))


def journal_lines(rows: Sequence[Any]) -> JournalLines:
    """Lines as they came; raises ResponseInvalid for amounts that are none."""
    return JournalLines.of(rows, amount)


def latest(texts: Iterable[str]) -> dt.datetime | None:
    """The latest of some timestamps, UTC; raises ResponseInvalid. As text they would compare wrong across spellings."""
    return max((moment for text in set(texts) if (moment := instant(text)) is not None), default=None)


def _attribute(child: Level) -> str:
    return f"nested_{child.name}"


def _wire_type(level: Level, own: Sequence[FieldInfo]) -> type[Any]:
    fields: list[tuple[str, Any, Any]] = []
    if level.packed is not None:
        fields.append(("last_update_date", str | None, msgspec.field(name="LastUpdateDate", default=None)))
        whole = [column for column in own if int in _kinds(column)]
        fields += [(column.name, Id, msgspec.field(name=column.encode_name)) for column in whole]
        return msgspec.defstruct(f"{level.record.__name__}Row", fields, bases=(level.record,), kw_only=True, gc=False)
    for column in own:
        default = {} if column.required and column.type is not str else {"default": None}
        fields.append((column.name, _loose(column), msgspec.field(name=column.encode_name, **default)))
    for name, encoded, kind in level.extra:
        fields.append((name, kind | None, msgspec.field(name=encoded, default=None)))
    fields += [
        (_attribute(child), msgspec.Raw, msgspec.field(name=child.name, default=msgspec.Raw()))
        for child in level.children
    ]
    return msgspec.defstruct(f"{level.record.__name__}Row", fields, bases=(WireRow,), kw_only=True)


def _kinds(column: FieldInfo) -> tuple[Any, ...]:
    return tuple(kind for kind in get_args(column.type) if kind is not type(None)) or (column.type,)


def _loose(column: FieldInfo) -> Any:
    kinds = _kinds(column)
    if bool in kinds:
        return YesNo
    if dt.date in kinds:
        return str | None
    if int in kinds:
        return Id if column.required else _MAYBE_ID
    if str in kinds:
        # Numbers of documents and lines are text in one resource and numbers in the next.
        return str | int | None
    return column.type if column.required else column.type | None


def _maker(column: FieldInfo) -> Callable[[Any], Any] | None:
    kinds = _kinds(column)
    if Decimal in kinds:
        return amount
    if dt.date in kinds:
        return day
    if bool in kinds:
        return flag
    if str in kinds:
        return required_text if column.required else str
    return None
