"""Finding rows: a parsed ``q`` against rows, by index where one helps, then order and page.

Nulls follow SQL: a comparison with null is neither true nor false, so ``!=`` does not find them.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from mlc_dagster.sandbox.fusion import query as q
from mlc_dagster.sandbox.fusion.errors import Detail, Refusal, bad_query
from mlc_dagster.sandbox.fusion.resources import (
    BOOLEAN,
    DATE,
    INTEGER,
    NUMBER,
    STRING,
    TIME,
    Attribute,
    Resource,
    Row,
    Table,
)

Test = Callable[[Row], bool | None]


def unknown_attribute(name: str, resource: Resource) -> Refusal:
    """400 for a query over an attribute that is not there."""
    # Like the real one, the text does not say which attribute it was.
    del name
    return Refusal(400, Detail("URL request parameter q contains an unknown attribute.", "27508", f"/{resource.name}"))


def instant(text: str) -> str:
    """Any ISO date or timestamp as the one UTC form that rows hold, so that text order is time order."""
    value = dt.datetime.fromisoformat(text)
    value = value.replace(tzinfo=value.tzinfo or dt.UTC).astimezone(dt.UTC)
    return value.isoformat(timespec="milliseconds")


def convert(attribute: Attribute, literal: q.Literal, resource: Resource) -> Any:
    """A literal as a value of the attribute's kind; 400 when it cannot be one."""
    text = literal.text
    try:
        if attribute.kind == INTEGER:
            number = Decimal(text)
            return int(number) if number == number.to_integral_value() else number
        if attribute.kind == NUMBER:
            return Decimal(text)
        if attribute.kind == DATE:
            return dt.date.fromisoformat(text).isoformat()
        if attribute.kind == TIME:
            return instant(text)
        if attribute.kind == BOOLEAN:
            return {"true": True, "false": False}[text.lower()]
    except (ValueError, InvalidOperation, KeyError):
        text = f"{text!r} is not a {attribute.kind} value for {attribute.name}"
        raise bad_query(text, resource.name) from None
    return text


class Selector:
    """Compiles a query for one resource: checks its attributes, gives a test per row and, when it can, candidates."""

    def __init__(self, node: q.Node, resource: Resource, *, dotted: bool) -> None:
        self.node = node
        self.resource = resource
        for operand in q.operands(node):
            if len(operand.path) > 1 and not dotted:
                raise unknown_attribute(".".join(operand.path), resource)
        self.test = self._compile(node)

    def candidates(self, table: Table) -> Iterable[Row] | None:
        """Rows that may match, in key order, from an index; None when every row must be looked at."""
        return self._candidates(self.node, table)

    def _candidates(self, node: q.Node, table: Table) -> Iterable[Row] | None:
        if isinstance(node, q.Nothing):
            return []
        if isinstance(node, q.And):
            lists = [found for part in node.parts if (found := self._candidates(part, table)) is not None]
            sized = [found for found in lists if isinstance(found, list)]
            return min(sized, key=len) if sized else (lists[0] if lists else None)
        if isinstance(node, q.Or):
            lists = [self._candidates(part, table) for part in node.parts]
            if not all(isinstance(found, list) for found in lists):
                return None
            union = {row.key: row for found in lists if found is not None for row in found}
            return [union[key] for key in sorted(union)]
        if isinstance(node, q.Compare | q.InList) and len(node.operand.path) == 1 and node.operand.function is None:
            return self._by_index(node, table)
        return None

    def _by_index(self, node: q.Compare | q.InList, table: Table) -> Iterable[Row] | None:
        name = node.operand.path[0]
        attribute = self.resource.attributes[name]
        literals = node.values if isinstance(node, q.InList) else (node.value,)
        values = [convert(attribute, literal, self.resource) for literal in literals]
        if isinstance(node, q.InList) or node.operator == "=":
            return table.lookup(name, values) if table.indexed(name) else None
        if name == self.resource.key and node.operator in {">", ">="}:
            return table.after(values[0], inclusive=node.operator == ">=")
        return None

    def _compile(self, node: q.Node) -> Test:
        if isinstance(node, q.And):
            return _all([self._compile(part) for part in node.parts])
        if isinstance(node, q.Or):
            return _any([self._compile(part) for part in node.parts])
        if isinstance(node, q.Not):
            return _not(self._compile(node.part))
        if isinstance(node, q.Nothing):
            return lambda _row: False
        resource, name, reach = self._resolve(node.operand)
        attribute = resource.attributes[name]
        return reach(self._condition(node, attribute, resource))

    def _resolve(self, operand: q.Operand) -> tuple[Resource, str, Callable[[Callable[[Any], bool | None]], Test]]:
        resource = self.resource
        for child in operand.path[:-1]:
            if child not in resource.children:
                raise unknown_attribute(child, self.resource)
            resource = resource.children[child]
        name = operand.path[-1]
        if name not in resource.attributes:
            raise unknown_attribute(name, self.resource)
        default = resource.attributes[name].default
        fold = {"UPPER": str.upper, "LOWER": str.lower}.get(operand.function or "")
        if fold is not None and resource.attributes[name].kind != STRING:
            text = f"{operand.function} needs a text attribute, {name} is none"
            raise bad_query(text, self.resource.name)

        def value_of(row: Row) -> Any:
            value = row.values.get(name, default)
            return fold(value) if fold is not None and value is not None else value

        def reach(condition: Callable[[Any], bool | None]) -> Test:
            if len(operand.path) == 1:
                return lambda row: condition(value_of(row))
            return lambda row: any(condition(value_of(child)) for child in _descend(row, operand.path[:-1]))

        return resource, name, reach

    def _condition(
        self, node: q.Compare | q.Like | q.InList | q.Between | q.IsNull, attribute: Attribute, resource: Resource
    ) -> Callable[[Any], bool | None]:
        if isinstance(node, q.IsNull):
            return lambda value: value is None
        if isinstance(node, q.Like):
            pattern = re.compile(_like(node.pattern), re.DOTALL)
            return lambda value: None if value is None else pattern.fullmatch(str(value)) is not None
        if isinstance(node, q.InList):
            wanted = {convert(attribute, literal, resource) for literal in node.values}
            return lambda value: None if value is None else value in wanted
        if isinstance(node, q.Between):
            low, high = convert(attribute, node.low, resource), convert(attribute, node.high, resource)
            return lambda value: None if value is None else low <= value <= high
        return _comparison(node.operator, convert(attribute, node.value, resource))


def _comparison(operator: str, wanted: Any) -> Callable[[Any], bool | None]:
    tests: dict[str, Callable[[Any], bool]] = {
        "=": lambda value: value == wanted,
        "!=": lambda value: value != wanted,
        "<": lambda value: value < wanted,
        "<=": lambda value: value <= wanted,
        ">": lambda value: value > wanted,
        ">=": lambda value: value >= wanted,
    }
    test = tests[operator]
    return lambda value: None if value is None else test(value)


def _like(pattern: str) -> str:
    return "".join(".*" if mark == "%" else "." if mark == "_" else re.escape(mark) for mark in pattern)


def _descend(row: Row, path: tuple[str, ...]) -> Iterator[Row]:
    if not path:
        yield row
        return
    for child in row.children.get(path[0], ()):
        yield from _descend(child, path[1:])


def _all(tests: list[Test]) -> Test:
    def test(row: Row) -> bool | None:
        unknown = False
        for part in tests:
            answer = part(row)
            if answer is False:
                return False
            unknown = unknown or answer is None
        return None if unknown else True

    return test


def _any(tests: list[Test]) -> Test:
    def test(row: Row) -> bool | None:
        unknown = False
        for part in tests:
            answer = part(row)
            if answer is True:
                return True
            unknown = unknown or answer is None
        return None if unknown else False

    return test


def _not(test: Test) -> Test:
    def negated(row: Row) -> bool | None:
        answer = test(row)
        return None if answer is None else not answer

    return negated


def parse(text: str, resource: Resource, version: int) -> Selector:
    """``q`` in the dialect of the framework version, checked against the resource."""
    try:
        node = q.parse_example(text, narrow=resource.lov) if version == 1 else q.parse_expression(text)
    except q.QuerySyntaxError as error:
        raise bad_query(str(error), resource.name) from None
    return Selector(node, resource, dotted=version >= 2)


def ordered(rows: Iterable[Row], resource: Resource, order: list[tuple[str, bool]]) -> Iterable[Row]:
    """Sorts by ``(attribute, descending)`` pairs, nulls last; rows come in key order, so that order costs nothing."""
    if not order or order == [(resource.key, False)]:
        return rows
    result = list(rows)
    for name, descending in reversed(order):
        default = resource.attributes[name].default
        filled = [row for row in result if row.values.get(name, default) is not None]
        empty = [row for row in result if row.values.get(name, default) is None]
        filled.sort(key=lambda row: row.values.get(name, default), reverse=descending)
        result = filled + empty
    return result
