"""The sandbox's own view of journals and orders, and the address that alerts are sent to: what people judge by."""

import json
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from mlc_dagster.sandbox import seed_documents
from mlc_dagster.sandbox.server import FusionSandbox


@pytest.fixture
def admin(fusion: FusionSandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{fusion.base_url}/sandbox", timeout=15) as client:
        yield client


def test_journals_are_told_with_every_line(admin: httpx.Client) -> None:
    """A judge that saw the first lines alone would find every lost one in order."""
    journals = admin.get("/journals").json()["journals"]
    [long] = [journal for journal in journals if journal["BatchName"] == seed_documents.LONG_BATCH]
    assert len(long["lines"]) == 60
    assert sum(Decimal(line["EnteredDr"] or 0) for line in long["lines"]) == Decimal("7687.70")
    assert {journal["Status"] for journal in journals} == {"P", "U"}


def test_orders_are_told_as_they_stand(admin: httpx.Client) -> None:
    """After a change: the new quantity, and that it is the next revision."""
    lines = [{"description": "Paper", "quantity": "100", "price": "2.50", "uom": "BX"}]
    order_id = admin.post("/orders", json={"number": "US1", "lines": lines}).json()["order_id"]
    assert admin.patch(f"/orders/{order_id}", json={"line": 1, "quantity": "120"}).status_code == 200
    [order] = [row for row in admin.get("/orders").json()["orders"] if row["OrderNumber"] == "US1"]
    assert (order["Revision"], Decimal(order["lines"][0]["Quantity"]), Decimal(order["Ordered"])) == (1, 120, 300)


def test_alerts_are_kept_in_their_order(admin: httpx.Client) -> None:
    """Whoever rehearses a bad day wants to read what they would have been sent."""
    for title in ("first", "second"):
        assert admin.post("/alerts", json={"title": title, "message": "What happened: …"}).status_code == 200
    assert [alert["title"] for alert in admin.get("/alerts").json()["alerts"]] == ["first", "second"]


def test_alerts_follow_the_sandbox_to_another_port(tmp_path: Path) -> None:
    """An mlc.yaml that sends them to yesterday's port would lose every one."""
    command = [sys.executable, "-m", "mlc_dagster.sandbox.run", str(tmp_path), "--fusion-port", "0"]
    for _ in range(2):
        with subprocess.Popen(
            [*command, "--until-stdin-closes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            port = json.loads(process.stdout.readline())["fusion_port"]
            process.stdin.close()
            process.wait(20)
        assert f'alerts: {{to: ["json://127.0.0.1:{port}/sandbox/alerts"]}}' in (tmp_path / "mlc.yaml").read_text(
            "utf-8"
        )
