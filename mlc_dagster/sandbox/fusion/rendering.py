"""Rows as JSON text: which attributes and children are shown, in which shape the framework version asks for.

Money leaves as exact JSON numbers (never through a float); version 9 writes numbers as strings; from version 3 on a
nested collection is an object with a page of its own, before it is a plain array.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from mlc_dagster.sandbox.fusion.errors import bad_parameter
from mlc_dagster.sandbox.fusion.resources import BOOLEAN, INTEGER, NUMBER, Resource, Row, path_key

DEFAULT_LIMIT = 25
_text = json.encoder.encode_basestring
_CHANGE_INDICATOR = "ACED0005737200136A6176612E7574696C2E41727261794C6973747881D21D99C7619D03000149000473697A657870"


@dataclass
class Shown:
    """What a request shows of one resource."""

    resource: Resource
    names: tuple[str, ...]
    children: dict[str, "Shown"] = field(default_factory=dict[str, "Shown"])


@dataclass(frozen=True, slots=True)
class Style:
    """Properties of the request that shape the answer. ``root`` is the absolute address of the version segment."""

    version: int
    only_data: bool
    root: str
    relations: frozenset[str] | None = None
    """Link relations asked for with ``links=self,child``; None for all."""


def everything(resource: Resource) -> Shown:
    """All attributes and no child, what a plain GET shows."""
    return Shown(resource, tuple(resource.attributes))


def expanded(resource: Resource, expand: str) -> Shown:
    """``expand=invoiceLines,invoiceLines.invoiceDistributions`` or ``all``; parents are expanded implicitly."""
    shown = everything(resource)
    if expand.strip() == "all":
        shown.children = {name: everything(child) for name, child in resource.children.items()}
        return shown
    for path in filter(None, (part.strip() for part in expand.split(","))):
        _open(shown, path, "expand", whole=True)
    return shown


def chosen(resource: Resource, fields: str) -> Shown:
    """``fields=A,B;child:C,D;child.grandchild:E``; what is not named is not shown."""
    shown = Shown(resource, ())
    for part in fields.split(";"):
        path, colon, names = part.rpartition(":")
        target = _open(shown, path.strip(), "fields", whole=False) if colon else shown
        for name in filter(None, (word.strip() for word in names.split(","))):
            if name not in target.resource.attributes:
                raise bad_parameter(f"URL request parameter fields is not valid: {name} is unknown.")
            if name not in target.names:
                target.names = (*target.names, name)
    return shown


def _open(shown: Shown, path: str, parameter: str, *, whole: bool) -> Shown:
    for name in path.split("."):
        child = shown.resource.children.get(name)
        if child is None:
            raise bad_parameter(f"URL request parameter {parameter} is not valid: {name} is unknown.")
        if name not in shown.children:
            shown.children[name] = everything(child) if whole else Shown(child, ())
        shown = shown.children[name]
    return shown


def scalar(value: Any, kind: str, version: int) -> str:
    """One attribute as JSON text."""
    if value is None:
        return "null"
    if kind == NUMBER:
        text = number(value)
        return f'"{text}"' if version >= 9 else text
    if kind == INTEGER:
        return f'"{value}"' if version >= 9 else str(value)
    if kind == BOOLEAN:
        return "true" if value else "false"
    return _text(value)


def number(value: Decimal) -> str:
    """Exact and plain: no exponent, no trailing zeros (130.80 comes back as 130.8)."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def entity_tag(row: Row) -> str:
    """The change indicator: opaque, other after every change."""
    return f"{_CHANGE_INDICATOR}{row.version:08X}7704{row.version:08X}78"


def item(row: Row, shown: Shown, style: Style, path: str) -> str:
    """One row; ``path`` is its address below the root, for the links."""
    resource = shown.resource
    values = row.values
    pieces: list[str] = []
    for name in shown.names:
        attribute = resource.attributes[name]
        value = values.get(name, attribute.default)
        pieces.append(f'"{name}":{scalar(value, attribute.kind, style.version)}')
    for name, child in shown.children.items():
        pieces.append(f'"{name}":{_nested(row.children.get(name, []), child, style, f"{path}/child/{name}")}')
    if not style.only_data:
        pieces.append(f'"links":[{_item_links(row, resource, style, path)}]')
    return "{" + ",".join(pieces) + "}"


def _nested(rows: list[Row], shown: Shown, style: Style, path: str) -> str:
    if style.version < 3:
        entries = (item(row, shown, style, f"{path}/{path_key(shown.resource, row)}") for row in rows)
        return "[" + ",".join(entries) + "]"
    page = rows[:DEFAULT_LIMIT]
    return collection(page, shown, style, path, limit=DEFAULT_LIMIT, offset=0, has_more=len(rows) > len(page))


def collection(
    rows: Sequence[Row],
    shown: Shown,
    style: Style,
    path: str,
    *,
    limit: int,
    offset: int,
    has_more: bool,
    total: int | None = None,
    omit_empty_items: bool = False,
) -> str:
    """A page of rows with its paging attributes."""
    entries = ",".join(item(row, shown, style, f"{path}/{path_key(shown.resource, row)}") for row in rows)
    pieces = [] if omit_empty_items and not rows else [f'"items":[{entries}]']
    if total is not None:
        pieces.append(f'"totalResults":{total}')
    pieces.append(f'"count":{len(rows)},"hasMore":{"true" if has_more else "false"},"limit":{limit},"offset":{offset}')
    pieces.append(f'"links":[{_link("self", f"{style.root}/{path}", shown.resource.name, "collection")}]')
    return "{" + ",".join(pieces) + "}"


def _link(relation: str, href: str, name: str, kind: str, change: str | None = None) -> str:
    properties = f',"properties":{{"changeIndicator":"{change}"}}' if change else ""
    return f'{{"rel":"{relation}","href":{_text(href)},"name":"{name}","kind":"{kind}"{properties}}}'


def _item_links(row: Row, resource: Resource, style: Style, path: str) -> str:
    href = f"{style.root}/{path}"
    links = [
        _link("self", href, resource.name, "item", entity_tag(row)),
        _link("canonical", href, resource.name, "item"),
    ]
    parent, separator, _ = path.rpartition("/child/")
    if separator:
        links.append(_link("parent", f"{style.root}/{parent}", parent.split("/")[-2], "item"))
    links += [_link("child", f"{href}/child/{name}", name, "collection") for name in resource.children]
    if style.relations is not None:
        links = [link for link in links if link.split('"', 4)[3] in style.relations]
    return ",".join(links)
