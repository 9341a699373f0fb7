"""A plain HTTP caller of the embedded Fusion, and bodies to send it."""

import json
from decimal import Decimal
from typing import Any, Self

import httpx

from mlc_dagster.sandbox.server import FusionSandbox

ACTION = "application/vnd.oracle.adf.action+json"
ERROR = "application/vnd.oracle.adf.error+json"


def invoice(number: str = "INV-1", amount: str = "30.00", **changes: Any) -> dict[str, Any]:
    """A body that the default seed accepts on 2026-11-21; a change to None takes the attribute out."""
    body: dict[str, Any] = {
        "InvoiceNumber": number,
        "InvoiceCurrency": "USD",
        "InvoiceAmount": amount,
        "InvoiceDate": "2026-11-10",
        "AccountingDate": "2026-11-10",
        "BusinessUnit": "US1 Business Unit",
        "Supplier": "Acme, Inc.",
        "SupplierNumber": "30012",
        "SupplierSite": "HQ",
        "InvoiceSource": "Stampli",
        "invoiceLines": [line(1, amount)],
    }
    body |= changes
    return {name: value for name, value in body.items() if value is not None}


def line(number: int, amount: str, **changes: Any) -> dict[str, Any]:
    return {
        "LineNumber": number,
        "LineType": "Item",
        "LineAmount": amount,
        "DistributionCombination": "101-4410-61200-000-000-000",
    } | changes


class Caller:
    """Holds a token and a framework version; every answer is the raw one."""

    def __init__(self, fusion: FusionSandbox, version: int | None = 4) -> None:
        self.fusion = fusion
        self.client = httpx.Client(base_url=fusion.resources_url, timeout=10.0)
        self.sign_in()
        if version is not None:
            self.client.headers["REST-Framework-Version"] = str(version)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def sign_in(self) -> None:
        answer = httpx.post(
            self.fusion.token_url,
            auth=(self.fusion.client_id, self.fusion.client_secret),
            data={"grant_type": "client_credentials", "scope": self.fusion.scope},
        )
        self.client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def get(self, path: str, *, version: int | None = None, accept: str | None = None, **params: Any) -> httpx.Response:
        headers: dict[str, str] = {}
        if version is not None:
            headers["REST-Framework-Version"] = str(version)
        if accept is not None:
            headers["Accept"] = accept
        return self.client.get(f"/{path}", params=params, headers=headers)

    def items(self, path: str, *, version: int | None = None, **params: Any) -> list[dict[str, Any]]:
        answer = self.get(path, version=version, **params)
        assert answer.status_code == 200, answer.text
        return exact(answer)["items"]

    def post(self, body: dict[str, Any], path: str = "invoices", **headers: str) -> httpx.Response:
        return self.client.post(f"/{path}", json=body, headers=headers)

    def act(self, action: str, **parameters: str) -> httpx.Response:
        body = {"BusinessUnit": "US1 Business Unit", "Supplier": "Acme, Inc."} | parameters
        if action == "validateInvoice":
            body.setdefault("ProcessAction", "Validate")
        content = json.dumps(body)
        return self.client.post(f"/invoices/action/{action}", content=content, headers={"Content-Type": ACTION})


def exact(answer: httpx.Response) -> Any:
    """The JSON of an answer with every fraction as a Decimal."""
    return json.loads(answer.content, parse_float=Decimal)


def codes(answer: httpx.Response) -> set[str | None]:
    """Error codes of a structured refusal."""
    return {detail.get("o:errorCode") for detail in answer.json()["o:errorDetails"]}
