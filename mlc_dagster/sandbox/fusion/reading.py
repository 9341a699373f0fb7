"""GET: a page of a collection or one item, with everything the framework lets a client ask for."""

import itertools
import json
import random
from collections.abc import Iterable
from typing import Any

from mlc_dagster.sandbox.fusion import query as q
from mlc_dagster.sandbox.fusion.answer import Answer
from mlc_dagster.sandbox.fusion.catalogue import ERP_INTEGRATIONS, TABLES
from mlc_dagster.sandbox.fusion.rendering import collection, entity_tag, item
from mlc_dagster.sandbox.fusion.request import COLLECTION, ERROR, ITEM, JSON, Parameters, Place, Request, locate
from mlc_dagster.sandbox.fusion.request import not_found as no_such
from mlc_dagster.sandbox.fusion.resources import Resource, Row
from mlc_dagster.sandbox.fusion.selection import Selector, ordered, parse
from mlc_dagster.sandbox.fusion.world import World


def read(world: World, request: Request, *, quirks: set[str], zero_rows: bool) -> Answer:
    """Answers a GET. ``zero_rows`` is a user whose data access was taken away: 200 and nothing."""
    if request.path == "":
        return _catalogue(request)
    if request.path.endswith("/describe"):
        return _describe(request)
    if request.path == ERP_INTEGRATIONS.name:
        return _job_status(world, request)
    place = locate(world.tables, request.path)
    if place.row is not None:
        return _item(request, place, place.row, hidden=zero_rows)
    answer = _page(request, place, quirks=quirks, hidden=zero_rows)
    world.page_was_read(place.path)
    return answer


def _media_type(request: Request, wanted: str) -> str:
    request.must_accept(wanted, ERROR)
    return wanted if wanted in request.accepted else JSON


def _item(request: Request, place: Place, row: Row, *, hidden: bool) -> Answer:
    media = _media_type(request, ITEM)
    parameters = Parameters(request, collection=False)
    if hidden:
        raise no_such(request.path)
    tag = f'"{entity_tag(row)}"'
    if request.headers.get("if-none-match") == tag:
        return Answer(304, b"", media, {"ETag": tag})
    text = item(row, parameters.shown(place.resource), parameters.style, place.path)
    return Answer(200, text.encode(), media, {"ETag": tag})


def _page(request: Request, place: Place, *, quirks: set[str], hidden: bool) -> Answer:
    media = _media_type(request, COLLECTION)
    parameters = Parameters(request, collection=True)
    resource = place.resource
    limit, offset = parameters.limit(resource), parameters.number("offset", 0, 0)
    shown, order = parameters.shown(resource), parameters.order(resource)
    rows: Iterable[Row] = ordered(_matching(parameters, place, request.version), resource, order)
    if hidden:
        rows = []
    if "shuffled_pages" in quirks and not order:
        rows = list(rows)
        random.shuffle(rows)
    total: int | None = None
    if parameters.total:
        rows = list(rows)
        total = len(rows)
    window = list(itertools.islice(rows, offset, offset + limit + 1))
    has_more = len(window) > limit
    if "has_more_always_false" in quirks:
        has_more = False
    elif "has_more_always_true" in quirks:
        has_more = True
    text = collection(
        window[:limit],
        shown,
        parameters.style,
        place.path,
        limit=limit,
        offset=offset,
        has_more=has_more,
        total=total,
        omit_empty_items="no_items_when_empty" in quirks,
    )
    return Answer(200, text.encode("utf-8", "backslashreplace"), media)


def _matching(parameters: Parameters, place: Place, version: int) -> Iterable[Row]:
    resource = place.resource
    selectors: list[Selector] = []
    if "q" in parameters.given:
        selectors.append(parse(parameters.given["q"], resource, version))
    variables = parameters.finder(resource)
    if variables:
        equal = tuple(
            q.Compare(q.Operand((name,)), "=", q.Literal(value, quoted=True)) for name, value in variables.items()
        )
        selectors.append(Selector(q.And(equal), resource, dotted=False))
    rows: Iterable[Row] = place.table if place.table is not None else place.rows
    if place.table is not None:
        for selector in selectors:
            candidates = selector.candidates(place.table)
            if candidates is not None:
                rows = candidates
                break
    for selector in selectors:
        rows = filter(selector.test, rows)
    return rows


def _job_status(world: World, request: Request) -> Answer:
    media = _media_type(request, COLLECTION)
    parameters = Parameters(request, collection=True)
    variables = parameters.finder(ERP_INTEGRATIONS)
    rows: list[Row] = []
    if variables and "requestId" in variables:
        number = variables["requestId"]
        values: dict[str, Any] = {"OperationName": "getESSJobStatus", "ReqstId": number}
        # A job that was not submitted through this resource is answered with an empty status, not with an error.
        values["RequestStatus"] = look_at_job(world, number)
        rows = [Row(number, values)]
    text = collection(
        rows,
        parameters.shown(ERP_INTEGRATIONS),
        parameters.style,
        ERP_INTEGRATIONS.name,
        limit=parameters.limit(ERP_INTEGRATIONS),
        offset=0,
        has_more=False,
    )
    return Answer(200, text.encode(), media)


def look_at_job(world: World, number: str) -> str | None:
    """The status a job shows this time; it moves on with every look."""
    job = world.jobs.get(number)
    if job is None:
        return None
    statuses = world.policies.job_statuses
    status = statuses[min(job["looks"], len(statuses) - 1)]
    job["looks"] += 1
    return status


def _catalogue(request: Request) -> Answer:
    version = request.root.rpartition("/")[2]
    allowed = [str(number) for number in range(1, 10)]
    extension = {"defaultFrameworkVersion": "1", "allowedFrameworkVersions": allowed}
    document = {"items": [{"version": version, "isLatest": True, "adf:extension": extension}]}
    return Answer(200, json.dumps(document).encode())


def _describe(request: Request) -> Answer:
    name = request.path.removesuffix("/describe")
    resource = TABLES.get(name)
    if resource is None:
        raise no_such(request.path)
    return Answer(200, json.dumps({"Resources": {name: _description(resource)}}).encode())


def _description(resource: Resource) -> dict[str, Any]:
    described = [
        {"name": attribute.name, "type": attribute.kind, "queryable": True}
        for attribute in resource.attributes.values()
    ]
    children = {name: _description(child) for name, child in resource.children.items()}
    return {"attributes": described, "children": children}
