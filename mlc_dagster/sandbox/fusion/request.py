"""One request below the version segment: its headers, URL parameters and where its path leads.

Parameters that Fusion does not know are refused here; which ones there are depends on whether a collection or one
item is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from mlc_dagster.sandbox.fusion.errors import Detail, Refusal, bad_parameter
from mlc_dagster.sandbox.fusion.rendering import DEFAULT_LIMIT, Shown, Style, chosen, everything, expanded
from mlc_dagster.sandbox.fusion.resources import Resource, Row, Table, matches_path_key, path_key

ITEM = "application/vnd.oracle.adf.resourceitem+json"
COLLECTION = "application/vnd.oracle.adf.resourcecollection+json"
ACTION = "application/vnd.oracle.adf.action+json"
ACTION_RESULT = "application/vnd.oracle.adf.actionresult+json"
ERROR = "application/vnd.oracle.adf.error+json"
JSON = "application/json"
_ITEM_PARAMETERS = {"fields", "expand", "onlyData", "links"}
_COLLECTION_PARAMETERS = _ITEM_PARAMETERS | {"q", "limit", "offset", "orderBy", "finder", "totalResults"}


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    """Below the version segment, without a leading slash, decoded."""
    query: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    root: str
    user: str

    @property
    def version(self) -> int:
        text = self.headers.get("rest-framework-version", "1").strip()
        if text not in {"1", "2", "3", "4", "5", "6", "7", "8", "9"}:
            raise bad_parameter(f"REST-Framework-Version {text} is not supported.")
        return int(text)

    @property
    def accepted(self) -> set[str]:
        parts = self.headers.get("accept", "*/*").split(",")
        return {part.partition(";")[0].strip().lower() for part in parts if part.strip()}

    @property
    def structured_errors(self) -> bool:
        text = self.headers.get("rest-framework-version", "1").strip()
        return ERROR in self.accepted or (text.isdigit() and int(text) >= 4)

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def must_accept(self, *types: str) -> None:
        """406 with an empty body when the client takes none of the types."""
        accepted = self.accepted
        if not accepted & {"*/*", "application/*", JSON, *types}:
            raise Refusal(406)

    def must_carry(self, *types: str) -> None:
        if self.content_type not in types:
            raise Refusal(415, Detail(f"The content type {self.content_type or '(none)'} is not supported here."))


class Parameters:
    """The checked URL parameters of a GET."""

    def __init__(self, request: Request, *, collection: bool) -> None:
        pairs = parse_qsl(request.query, keep_blank_values=True)
        self.given = dict(pairs)
        if len(self.given) != len(pairs):
            raise bad_parameter("A URL request parameter is repeated.")
        for name in self.given:
            if name not in (_COLLECTION_PARAMETERS if collection else _ITEM_PARAMETERS):
                raise bad_parameter(f"URL request parameter {name} cannot be used in this context.")
        self.only_data = self._flag("onlyData")
        self.total = self._flag("totalResults")
        links = self.given.get("links")
        relations = frozenset(part.strip() for part in links.split(",")) if links else None
        self.style = Style(request.version, self.only_data, request.root, relations)

    def _flag(self, name: str) -> bool:
        value = self.given.get(name, "false").lower()
        if value not in {"true", "false"}:
            raise bad_parameter(f"URL request parameter {name} must be true or false.")
        return value == "true"

    def number(self, name: str, default: int, least: int) -> int:
        text = self.given.get(name, str(default))
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise bad_parameter(f"URL request parameter {name} has the invalid value {text[:20]}.")
        return int(text)

    def limit(self, resource: Resource) -> int:
        """Silently capped; the answer says which limit was really used."""
        return min(self.number("limit", DEFAULT_LIMIT, 1), resource.cap)

    def order(self, resource: Resource) -> list[tuple[str, bool]]:
        """``orderBy=Attr:asc,Other:desc`` as (attribute, descending)."""
        result: list[tuple[str, bool]] = []
        for part in filter(None, self.given.get("orderBy", "").split(",")):
            name, _, direction = part.strip().partition(":")
            if name not in resource.attributes or direction.lower() not in {"", "asc", "desc"}:
                raise bad_parameter(f"URL request parameter orderBy has the invalid value {part.strip()}.")
            result.append((name, direction.lower() == "desc"))
        return result

    def shown(self, resource: Resource) -> Shown:
        """``fields`` wins over ``expand`` when both are given."""
        if "fields" in self.given:
            return chosen(resource, self.given["fields"])
        if "expand" in self.given:
            return expanded(resource, self.given["expand"])
        return everything(resource)

    def finder(self, resource: Resource) -> dict[str, str] | None:
        """Variables of ``finder=Name;Var=val,Other=val``."""
        if "finder" not in self.given:
            return None
        name, _, text = self.given["finder"].partition(";")
        known = resource.finders.get(name)
        if known is None:
            raise bad_parameter(f"The finder {name} is not known.")
        variables: dict[str, str] = {}
        for part in filter(None, text.split(",")):
            variable, equals, value = part.partition("=")
            if not equals or variable.strip() not in known:
                raise bad_parameter(f"The finder {name} has no variable {variable.strip()}.")
            variables[variable.strip()] = value.strip().strip("'")
        return variables


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads: a collection, or one row of it."""

    resource: Resource
    path: str
    """Address with the keys as links carry them."""
    table: Table | None
    """The table of a top-level collection; None for a child collection."""
    rows: list[Row]
    """The rows of a child collection."""
    row: Row | None
    parents: tuple[Row, ...]


def not_found(path: str) -> Refusal:
    """404, always as plain text."""
    return Refusal(404, Detail(f"The resource {path} does not exist."))


def locate(tables: Mapping[str, Table], path: str) -> Place:
    """Follows ``suppliers/3000…/child/sites/…``. Raises ``Refusal`` 404."""
    parts = path.split("/")
    table = tables.get(parts[0])
    if table is None:
        raise not_found(path)
    place = Place(table.resource, parts[0], table, [], None, ())
    rest = parts[1:]
    while rest:
        row = _row(place, rest[0])
        if row is None:
            raise not_found(path)
        address = f"{place.path}/{path_key(place.resource, row)}"
        if len(rest) == 1:
            return Place(place.resource, address, place.table, place.rows, row, place.parents)
        child = place.resource.children.get(rest[2]) if len(rest) > 2 and rest[1] == "child" else None
        if child is None:
            raise not_found(path)
        rows = row.children.get(child.name, [])
        place = Place(child, f"{address}/child/{child.name}", None, rows, None, (*place.parents, row))
        rest = rest[3:]
    return place


def _row(place: Place, text: str) -> Row | None:
    if place.table is not None:
        return place.table.by_path_key(text)
    return next((row for row in place.rows if matches_path_key(place.resource, row.key, text)), None)
