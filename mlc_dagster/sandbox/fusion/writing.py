"""POST and PATCH: invoices, their actions and attachments, and scheduled jobs."""

import json

from mlc_dagster.sandbox.fusion.answer import Answer
from mlc_dagster.sandbox.fusion.attachments import attach
from mlc_dagster.sandbox.fusion.catalogue import ERP_INTEGRATIONS
from mlc_dagster.sandbox.fusion.errors import Detail, Refusal
from mlc_dagster.sandbox.fusion.invoice_actions import change_invoice, create_accounting, run_action
from mlc_dagster.sandbox.fusion.invoice_rules import as_created, create_invoice
from mlc_dagster.sandbox.fusion.payload import Payload, read_object
from mlc_dagster.sandbox.fusion.rendering import entity_tag, everything, item
from mlc_dagster.sandbox.fusion.request import ACTION, ACTION_RESULT, ERROR, ITEM, JSON, Place, Request, Style, locate
from mlc_dagster.sandbox.fusion.resources import Row, path_key
from mlc_dagster.sandbox.fusion.world import World

_JOBS = {
    ("subledgerAccounting/shared", "XLAFSNAPRPT"),
    ("generalLedger/programs/common", "AutomaticPosting"),
}


def write(world: World, request: Request, *, zero_rows: bool) -> Answer:
    """Answers a POST or PATCH. Raises ``Refusal``; then nothing was changed."""
    if request.query:
        raise Refusal(400, Detail("URL request parameters cannot be used in this context."))
    if request.method == "PATCH":
        return _patch(world, request, hidden=zero_rows)
    head, _, action = request.path.partition("/action/")
    if action:
        return _action(world, request, head, action, hidden=zero_rows)
    if request.path == ERP_INTEGRATIONS.name:
        return _submit(world, request)
    place = locate(world.tables, request.path)
    if place.row is None and place.resource.name == "invoices":
        return _create_invoice(world, request, hidden=zero_rows)
    if place.row is None and place.resource.name == "attachments":
        return _create_attachment(world, request, place)
    raise Refusal(405, headers={"Allow": "GET, PATCH" if place.path.startswith("invoices/") else "GET"})


def _prepare(request: Request, *types: str) -> Style:
    request.must_accept(ITEM, ERROR)
    request.must_carry(*types)
    return Style(request.version, only_data=False, root=request.root)


def _media_type(request: Request) -> str:
    return ITEM if ITEM in request.accepted else JSON


def _create_invoice(world: World, request: Request, *, hidden: bool) -> Answer:
    style = _prepare(request, JSON, ITEM)
    document = read_object(request.body)
    if hidden:
        text = "The business unit does not exist or you have no access to it. (AP-810101)"
        raise Refusal(400, Detail(text, "AP-810101", "/invoices/BusinessUnit"))
    row = create_invoice(world, document, request.user)
    resource = world.tables["invoices"].resource
    shown = everything(resource)
    if "invoiceLines" in document:
        shown.children["invoiceLines"] = everything(resource.children["invoiceLines"])
    path = f"invoices/{path_key(resource, row)}"
    body = item(as_created(world, row), shown, style, path)
    headers = {"Location": f"{style.root}/{path}", "ETag": f'"{entity_tag(row)}"'}
    return Answer(201, body.encode(), _media_type(request), headers)


def _create_attachment(world: World, request: Request, place: Place) -> Answer:
    style = _prepare(request, JSON, ITEM)
    row = attach(world, place.parents[-1], read_object(request.body), request.user)
    path = f"{place.path}/{path_key(place.resource, row)}"
    body = item(row, everything(place.resource), style, path)
    return Answer(201, body.encode(), _media_type(request), {"Location": f"{style.root}/{path}"})


def _action(world: World, request: Request, head: str, action: str, *, hidden: bool) -> Answer:
    if head != "invoices":
        raise Refusal(404, Detail(f"The action {action} does not exist on {head}."))
    request.must_accept(ACTION_RESULT, ERROR)
    request.must_carry(ACTION)
    document = read_object(request.body)
    if hidden:
        raise Refusal(400, Detail("The invoice does not exist. (AP-810700)", "AP-810700", "/invoices"))
    result = run_action(world, action, document, request.user)
    return Answer(200, json.dumps({"result": result}).encode(), JSON)


def _patch(world: World, request: Request, *, hidden: bool) -> Answer:
    place = locate(world.tables, request.path)
    if place.row is None or place.resource.name != "invoices":
        raise Refusal(405, headers={"Allow": "GET, POST" if place.resource.name == "invoices" else "GET"})
    style = _prepare(request, JSON, ITEM)
    if hidden:
        raise Refusal(404, Detail(f"The resource {request.path} does not exist."))
    expected = request.headers.get("if-match")
    if expected not in {None, "*", f'"{entity_tag(place.row)}"'}:
        raise Refusal(412, Detail("Another user has changed the row. (JBO-25014)", "JBO-25014", "/invoices"))
    row = change_invoice(world, place.row, read_object(request.body), request.user)
    body = item(row, everything(place.resource), style, place.path)
    return Answer(200, body.encode(), _media_type(request), {"ETag": f'"{entity_tag(row)}"'})


def _submit(world: World, request: Request) -> Answer:
    style = _prepare(request, JSON, ITEM)
    faults: list[Detail] = []
    payload = Payload(ERP_INTEGRATIONS, read_object(request.body), "/erpintegrations", faults)
    payload.require(("OperationName",))
    if faults:
        raise Refusal(400, *faults)
    if payload.get("OperationName") != "submitESSJobRequest":
        text = f"The operation {payload.get('OperationName')} is not valid."
        raise Refusal(400, Detail(text, None, "/erpintegrations/OperationName"))
    package = (payload.get("JobPackageName") or "").strip("/").removeprefix("oracle/apps/ess/financials/")
    job = (package, payload.get("JobDefName") or "")
    # A refused submission is a success to HTTP: only the request id says otherwise.
    number, status = "-1", 200
    if job in _JOBS:
        with world.lock:
            number, status = str(world.next_number() % 10_000_000), 201
            world.jobs[number] = {"job": job, "looks": 0}
            if job[1] == "XLAFSNAPRPT":
                create_accounting(world, _ledger_in(world, payload.get("ESSParameters") or ""))
    row = Row(number, payload.values | {"ReqstId": number})
    body = item(row, everything(ERP_INTEGRATIONS), style, f"erpintegrations/{number}")
    return Answer(status, body.encode(), _media_type(request))


def _ledger_in(world: World, parameters: str) -> int | None:
    ledgers = {str(unit.ledger_id): unit.ledger_id for unit in world.units.values()}
    return next((ledgers[part.strip()] for part in parameters.split(",") if part.strip() in ledgers), None)
