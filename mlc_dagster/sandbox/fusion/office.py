"""The administration's addresses for what people do in Fusion: journals, purchase orders, invoices, the clock.

Thin: JSON in, the world's own methods, JSON out. How addresses are served and errors answered is in ``admin``.
"""

import datetime as dt
from typing import Any

from starlette.requests import Request

from mlc_dagster.sandbox.fusion.world import World


class Office:
    def __init__(self, world: World) -> None:
        self.world = world

    def paths(self) -> list[tuple[str, str, Any]]:
        """(method, path, step) as ``Admin`` serves them."""
        return [
            ("GET", "/clock", self.read_clock),
            ("POST", "/clock", self.move_clock),
            ("POST", "/touch", self.touch),
            ("POST", "/page_hooks", self.touch_after_page),
            ("GET", "/journals", self.read_journals),
            ("POST", "/journals", self.add_batch),
            ("POST", "/journals/load", self.load_journals),
            ("POST", "/journals/{batch_id:int}/post", self.post_batch),
            ("PATCH", "/journals/{batch_id:int}", self.change_journal),
            ("PATCH", "/journals/{batch_id:int}/lines/{line:int}", self.change_line),
            ("GET", "/orders", self.read_orders),
            ("POST", "/orders", self.create_order),
            ("PATCH", "/orders/{order_id:int}", self.change_order),
            ("POST", "/orders/{order_id:int}/lines", self.add_order_line),
            ("POST", "/orders/{order_id:int}/cancel", self.cancel_order),
            ("PATCH", "/invoices/{invoice_id:int}", self.describe_invoice),
            ("PATCH", "/invoices/{invoice_id:int}/installments/{number:int}", self.change_installment),
        ]

    def read_clock(self, _request: Request, _document: dict[str, Any]) -> Any:
        return {"now": self.world.now()}

    def move_clock(self, _request: Request, document: dict[str, Any]) -> Any:
        self.world.move_clock(dt.timedelta(seconds=float(document["seconds"])))
        return {"now": self.world.now()}

    def touch(self, _request: Request, document: dict[str, Any]) -> Any:
        self.world.touch(document["resource"], document["ids"], at=document.get("at"))
        return {}

    def touch_after_page(self, _request: Request, document: dict[str, Any]) -> Any:
        resource: str = document["resource"]
        ids: list[int] = document["touch"]
        # After a child collection's page the rows at the head of its path are touched.
        top = resource.partition("/")[0]
        self.world.after_page(resource, document.get("n", 1), lambda world: world.touch(top, ids))
        return {}

    def read_journals(self, _request: Request, _document: dict[str, Any]) -> Any:
        """Every journal as it stands, with its batch's id and status; attributes under Fusion's names."""
        with self.world.lock:
            return {
                "journals": [
                    {name: batch.values[name] for name in ("JeBatchId", "BatchName", "Status", "LastUpdateDate")}
                    | {name: journal.values[name] for name in ("JournalName", "LedgerName", "LedgerCurrencyCode")}
                    | {"lines": [dict(line.values) for line in journal.children["journalLines"]]}
                    for batch in self.world.tables["journalBatches"].rows.values()
                    for journal in batch.children["journalHeaders"]
                ]
            }

    def read_orders(self, _request: Request, _document: dict[str, Any]) -> Any:
        """Every purchase order with its lines as they stand; attributes under Fusion's names."""
        with self.world.lock:
            return {
                "orders": [
                    dict(order.values) | {"lines": [dict(line.values) for line in order.children["lines"]]}
                    for order in self.world.tables["purchaseOrders"].rows.values()
                ]
            }

    def add_batch(self, _request: Request, document: dict[str, Any]) -> Any:
        return {"batch_id": self.world.add_journal_batch(**document)}

    def load_journals(self, _request: Request, document: dict[str, Any]) -> Any:
        spread = dt.timedelta(seconds=float(document.pop("spread_seconds", 0)))
        ids = self.world.load_journals(**document, spread=spread)
        return {"first": ids.start, "step": ids.step, "count": len(ids)}

    def post_batch(self, request: Request, _document: dict[str, Any]) -> Any:
        self.world.post_journal_batch(request.path_params["batch_id"])
        return {}

    def change_journal(self, request: Request, document: dict[str, Any]) -> Any:
        self.world.change_journal_header(request.path_params["batch_id"], **document)
        return {}

    def change_line(self, request: Request, document: dict[str, Any]) -> Any:
        self.world.change_journal_line(request.path_params["batch_id"], request.path_params["line"], **document)
        return {}

    def create_order(self, _request: Request, document: dict[str, Any]) -> Any:
        return {"order_id": self.world.create_purchase_order(**document)}

    def change_order(self, request: Request, document: dict[str, Any]) -> Any:
        self.world.change_purchase_order(request.path_params["order_id"], **document)
        return {}

    def add_order_line(self, request: Request, document: dict[str, Any]) -> Any:
        return {"line": self.world.add_purchase_order_line(request.path_params["order_id"], document)}

    def cancel_order(self, request: Request, _document: dict[str, Any]) -> Any:
        self.world.cancel_purchase_order(request.path_params["order_id"])
        return {}

    def describe_invoice(self, request: Request, document: dict[str, Any]) -> Any:
        self.world.change_invoice_description(request.path_params["invoice_id"], **document)
        return {}

    def change_installment(self, request: Request, document: dict[str, Any]) -> Any:
        number: int = request.path_params["number"]
        self.world.change_installment(request.path_params["invoice_id"], number, **document)
        return {}
