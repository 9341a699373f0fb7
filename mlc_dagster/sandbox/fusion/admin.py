"""The sandbox's own addresses under ``/sandbox``: its books, its faults, what people do in Fusion by hand, and alerts.

No token is asked for; only loopback callers are served. These requests never count in the books and no fault strikes
them.
"""

import asyncio
import dataclasses
import datetime as dt
import ipaddress
import json
from collections import deque
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mlc_dagster.sandbox.books import Books
from mlc_dagster.sandbox.faults import Faults
from mlc_dagster.sandbox.fusion import invoice_actions
from mlc_dagster.sandbox.fusion.errors import Refusal
from mlc_dagster.sandbox.fusion.invoice_rules import create_invoice
from mlc_dagster.sandbox.fusion.office import Office
from mlc_dagster.sandbox.fusion.payload import read_object
from mlc_dagster.sandbox.fusion.tokens import Tokens
from mlc_dagster.sandbox.fusion.world import World
from mlc_dagster.sandbox.sftp_faults import SftpFaults

KEPT_ALERTS = 1000

Step = Callable[[Request, dict[str, Any]], Any | Awaitable[Any]]


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dt.datetime):
        return value.isoformat()
    msg = f"{type(value)} has no JSON form"
    raise TypeError(msg)


def _json(status: int, document: Any) -> Response:
    text = json.dumps(document, default=_plain, ensure_ascii=False)
    return Response(text, status, media_type="application/json")


class Admin:
    def __init__(self, world: World, books: Books, faults: Faults, tokens: Tokens) -> None:
        self.world = world
        self.books = books
        self.faults = faults
        self.tokens = tokens
        self.sftp_faults: SftpFaults | None = None
        """Of the SFTP server that runs beside this Fusion, if one does."""
        self._alerts: deque[dict[str, Any]] = deque(maxlen=KEPT_ALERTS)

    def application(self) -> Starlette:
        paths: list[tuple[str, str, Step]] = [
            ("GET", "/books", self.read_books),
            ("GET", "/requests", self.read_requests),
            ("POST", "/suppliers", self.create_supplier),
            ("PATCH", "/suppliers/{number}", self.change_supplier),
            ("POST", "/periods", self.set_period),
            ("POST", "/invoices", self.enter_invoice),
            ("POST", "/invoices/{invoice_id:int}/cancel", self.cancel_invoice),
            ("POST", "/invoices/{invoice_id:int}/delete", self.delete_invoice),
            ("POST", "/invoices/{invoice_id:int}/validate", self.validate_invoice),
            ("POST", "/accounting", self.account),
            ("GET", "/faults", self.read_faults),
            ("POST", "/faults", self.add_fault),
            ("DELETE", "/faults", self.clear_faults),
            ("DELETE", "/faults/{fault_id:int}", self.remove_fault),
            ("POST", "/gates", self.close_gate),
            ("GET", "/gates/{gate_id:int}/wait", self.wait_gate),
            ("POST", "/gates/{gate_id:int}/release", self.release_gate),
            ("POST", "/gates/{gate_id:int}/drop", self.drop_gate),
            ("POST", "/tokens/expire", self.expire_tokens),
            ("POST", "/reset", self.reset),
            ("GET", "/sftp/faults", self.read_sftp_faults),
            ("POST", "/sftp/faults", self.add_sftp_fault),
            ("DELETE", "/sftp/faults", self.clear_sftp_faults),
            ("GET", "/alerts", self.read_alerts),
            ("POST", "/alerts", self.take_alert),
            *Office(self.world).paths(),
        ]
        return Starlette(
            routes=[Route(f"/sandbox{path}", _endpoint(step), methods=[method]) for method, path, step in paths]
        )

    def read_books(self, request: Request, _document: dict[str, Any]) -> Any:
        wanted = request.query_params.get("number")
        invoices = [dataclasses.asdict(invoice) for invoice in self.books.invoices(number=wanted)]
        return self.books.summary() | {"invoices_stored": invoices}

    def read_requests(self, request: Request, _document: dict[str, Any]) -> Any:
        limit = int(request.query_params.get("limit", "1000"))
        entries = self.books.requests(
            method=request.query_params.get("method"), route=request.query_params.get("route")
        )
        return {"count": len(entries), "requests": [dataclasses.asdict(entry) for entry in entries[-limit:]]}

    def create_supplier(self, _request: Request, document: dict[str, Any]) -> Any:
        return {"supplier_id": self.world.create_supplier(**document)}

    def change_supplier(self, request: Request, document: dict[str, Any]) -> Any:
        self.world.change_supplier(request.path_params["number"], **document)
        return {}

    def set_period(self, _request: Request, document: dict[str, Any]) -> Any:
        return {"changed": self.world.set_period(**document)}

    def enter_invoice(self, _request: Request, document: dict[str, Any]) -> Any:
        user = str(document.pop("CreatedBy", "AP.CLERK"))
        return {"invoice_id": create_invoice(self.world, document, user).key}

    def cancel_invoice(self, request: Request, _document: dict[str, Any]) -> Any:
        return self._on_invoice(request, invoice_actions.cancel)

    def validate_invoice(self, request: Request, _document: dict[str, Any]) -> Any:
        return self._on_invoice(request, invoice_actions.validate)

    def _on_invoice(self, request: Request, step: Callable[..., None]) -> Any:
        with self.world.lock:
            row = self.world.tables["invoices"].rows.get(request.path_params["invoice_id"])
            if row is None:
                raise LookupError(f"no invoice {request.path_params['invoice_id']}")
            step(self.world, row, "AP.CLERK")
        return {}

    def delete_invoice(self, request: Request, _document: dict[str, Any]) -> Any:
        if not self.world.delete_invoice(request.path_params["invoice_id"]):
            raise LookupError(f"no invoice {request.path_params['invoice_id']}")
        return {}

    def account(self, _request: Request, document: dict[str, Any]) -> Any:
        return {"accounted": invoice_actions.create_accounting(self.world, document.get("ledger_id"))}

    def read_faults(self, _request: Request, _document: dict[str, Any]) -> Any:
        return self.faults.describe()

    def add_fault(self, _request: Request, document: dict[str, Any]) -> Any:
        if "kind" not in document:
            self.faults.load(document)
            return self.faults.describe()
        return {"fault_id": self.faults.add(document.pop("kind"), **document).fault_id}

    def clear_faults(self, _request: Request, _document: dict[str, Any]) -> Any:
        self.faults.clear()
        return {}

    def remove_fault(self, request: Request, _document: dict[str, Any]) -> Any:
        self.faults.remove(request.path_params["fault_id"])
        return {}

    def close_gate(self, _request: Request, document: dict[str, Any]) -> Any:
        return {"gate_id": self.faults.gate(**document).gate_id}

    async def wait_gate(self, request: Request, _document: dict[str, Any]) -> Any:
        gate = self._gate(request)
        seconds = float(request.query_params.get("timeout", "10"))
        arrived = int(request.query_params.get("requests", "1"))
        # In a thread: waiting here would stop the very requests it waits for.
        reached = await asyncio.to_thread(gate.wait_held, seconds, requests=arrived)
        return {"reached": reached, "held": gate.held}

    def release_gate(self, request: Request, _document: dict[str, Any]) -> Any:
        self._gate(request).release()
        return {}

    def drop_gate(self, request: Request, _document: dict[str, Any]) -> Any:
        self._gate(request).drop()
        return {}

    def _gate(self, request: Request) -> Any:
        gate = self.faults.find_gate(request.path_params["gate_id"])
        if gate is None:
            raise LookupError(f"no gate {request.path_params['gate_id']}")
        return gate

    def expire_tokens(self, _request: Request, _document: dict[str, Any]) -> Any:
        self.tokens.expire_all()
        return {}

    def _sftp(self) -> SftpFaults:
        if self.sftp_faults is None:
            raise LookupError("no SFTP server runs beside this Fusion")
        return self.sftp_faults

    def read_sftp_faults(self, _request: Request, _document: dict[str, Any]) -> Any:
        return {"faults": self._sftp().describe()}

    def add_sftp_fault(self, _request: Request, document: dict[str, Any]) -> Any:
        self._sftp().add(**document)
        return {"faults": self._sftp().describe()}

    def clear_sftp_faults(self, _request: Request, _document: dict[str, Any]) -> Any:
        self._sftp().clear()
        return {}

    def take_alert(self, _request: Request, document: dict[str, Any]) -> Any:
        self._alerts.append(document)
        return {}

    def read_alerts(self, _request: Request, _document: dict[str, Any]) -> Any:
        """What was sent here, oldest first: this address stands for the telephone of whoever is on call."""
        return {"alerts": list(self._alerts)}

    def reset(self, _request: Request, _document: dict[str, Any]) -> Any:
        reset(self.world, self.books, self.faults)
        return {}


def reset(world: World, books: Books, faults: Faults) -> None:
    """Back to the seed: no invoices, no changes, no faults, no requests counted."""
    faults.clear()
    with world.lock:
        books.erase()
        world.load()


def _endpoint(step: Step) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if request.client is not None and not ipaddress.ip_address(request.client.host).is_loopback:
            return _json(403, {"error": "the sandbox is administered from its own machine only"})
        try:
            body = await request.body()
            document = read_object(body) if body else {}
            result = step(request, document)
            return _json(200, await result if isinstance(result, Awaitable) else result)
        except Refusal as refusal:
            return _json(refusal.status, {"error": [detail.text for detail in refusal.details]})
        except LookupError as error:
            return _json(404, {"error": str(error)})
        except (ValueError, TypeError) as error:
            return _json(400, {"error": str(error)})

    return endpoint
