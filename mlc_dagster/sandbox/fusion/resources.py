"""What a REST resource is here: its attributes, children, rows and indexes.

Rows keep only what differs from an attribute's default, so that fifty thousand suppliers stay small in memory.
What each Fusion resource looks like is declared in ``catalogue``; reading them is the business of ``selection``.
"""

import bisect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

STRING, INTEGER, NUMBER, BOOLEAN, DATE, TIME = "string", "integer", "number", "boolean", "date", "datetime"
_KINDS = {"i": INTEGER, "n": NUMBER, "b": BOOLEAN, "d": DATE, "t": TIME, "s": STRING}


@dataclass(frozen=True, slots=True)
class Attribute:
    name: str
    kind: str
    default: Any = None


def attributes(text: str, defaults: Mapping[str, Any] | None = None) -> dict[str, Attribute]:
    """Reads ``InvoiceId:i InvoiceNumber InvoiceAmount:n``; kinds i, n, b, d, t, and string when there is none."""
    found: dict[str, Attribute] = {}
    for word in text.split():
        name, _, kind = word.partition(":")
        found[name] = Attribute(name, _KINDS[kind or "s"], (defaults or {}).get(name))
    return found


@dataclass(frozen=True, eq=False)
class Resource:
    """One collection: ``key`` is what the path carries; ``opaque`` resources give it a form clients cannot build."""

    name: str
    attributes: Mapping[str, Attribute]
    key: str
    """Attribute behind the path key; one that is not in ``attributes`` is never shown."""
    opaque: bool = False
    numeric_key: bool = True
    """Whether an opaque resource also answers under its plain number."""
    cap: int = 500
    lov: bool = False
    """Lists of values read ``q`` of framework version 1 more narrowly than the documents do."""
    children: Mapping[str, "Resource"] = field(default_factory=dict[str, "Resource"])
    indexed: tuple[str, ...] = ()
    finders: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


class Row:
    """One row with its children; ``version`` counts its changes and feeds the entity tag."""

    __slots__ = ("children", "key", "values", "version")

    def __init__(self, key: int | str, values: dict[str, Any]) -> None:
        self.key = key
        self.values = values
        self.children: dict[str, list[Row]] = {}
        self.version = 1

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)


_OPAQUE_PREFIX = "00020000000EACED00057708"
_OPAQUE_MASK = 0x5DEECE66D1234567


def opaque_key(number: int) -> str:
    """The hash-like form of a key, as in ``00020000000EACED00057708…``."""
    return f"{_OPAQUE_PREFIX}{number ^ _OPAQUE_MASK:016X}"


def number_of_opaque(text: str) -> int | None:
    """The number behind an opaque key; None for any other text."""
    if not text.startswith(_OPAQUE_PREFIX):
        return None
    try:
        return int(text[len(_OPAQUE_PREFIX) :], 16) ^ _OPAQUE_MASK
    except ValueError:
        return None


def path_key(resource: Resource, row: Row) -> str:
    """A row's key as links carry it."""
    return opaque_key(int(row.key)) if resource.opaque else str(row.key)


def matches_path_key(resource: Resource, row_key: int | str, text: str) -> bool:
    """Whether a path segment names the row."""
    if resource.opaque:
        number = number_of_opaque(text)
        return row_key == number or (resource.numeric_key and str(row_key) == text)
    return str(row_key) == text


class Table:
    """The rows of one top-level resource, in key order, with equality indexes on the attributes it declares."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.rows: dict[int | str, Row] = {}
        self._indexes: dict[str, dict[Any, list[Row]]] = {name: {} for name in resource.indexed}
        self._keys: list[Any] = []
        self._in_order = True

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        if self._in_order:
            return iter(self.rows.values())
        return (self.rows[key] for key in self._keys)

    def add(self, row: Row) -> None:
        if self._keys and row.key <= self._keys[-1]:
            bisect.insort(self._keys, row.key)
            self._in_order = False
        else:
            self._keys.append(row.key)
        self.rows[row.key] = row
        for name, index in self._indexes.items():
            index.setdefault(self._value(row, name), []).append(row)

    def remove(self, row: Row) -> None:
        del self.rows[row.key]
        self._keys.remove(row.key)
        for name, index in self._indexes.items():
            index[self._value(row, name)].remove(row)

    def change(self, row: Row, values: Mapping[str, Any]) -> None:
        """Sets attributes and keeps the indexes true."""
        for name, index in self._indexes.items():
            if name in values:
                index[self._value(row, name)].remove(row)
        row.values.update(values)
        row.version += 1
        for name, index in self._indexes.items():
            if name in values:
                index.setdefault(self._value(row, name), []).append(row)

    def indexed(self, name: str) -> bool:
        return name in self._indexes

    def lookup(self, name: str, values: Iterable[Any]) -> list[Row]:
        """Rows whose indexed attribute is one of the values, each once, in key order."""
        index = self._indexes[name]
        found = {row.key: row for value in values for row in index.get(value, ())}
        return [found[key] for key in sorted(found)]

    def after(self, key: Any, *, inclusive: bool) -> Iterator[Row]:
        """Rows behind a key, for callers that page by key."""
        place = bisect.bisect_left(self._keys, key) if inclusive else bisect.bisect_right(self._keys, key)
        return (self.rows[self._keys[index]] for index in range(place, len(self._keys)))

    def by_path_key(self, text: str) -> Row | None:
        number = number_of_opaque(text) if self.resource.opaque else None
        if number is None and (not self.resource.opaque or self.resource.numeric_key):
            if text in self.rows:
                return self.rows[text]
            number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
        return self.rows.get(number) if number is not None else None

    def _value(self, row: Row, name: str) -> Any:
        return row.values.get(name, self.resource.attributes[name].default)


def build_row(resource: Resource, record: Mapping[str, Any]) -> Row:
    """Makes a row, and the rows below it, from a plain dictionary."""
    values = {name: value for name, value in record.items() if name not in resource.children}
    for name in values:
        if name not in resource.attributes and name != resource.key:
            msg = f"{resource.name} has no attribute {name!r}"
            raise ValueError(msg)
    key = values[resource.key] if resource.key in resource.attributes else values.pop(resource.key)
    row = Row(key, values)
    for name, child in resource.children.items():
        if name in record:
            row.children[name] = [build_row(child, entry) for entry in record[name]]
    return row
