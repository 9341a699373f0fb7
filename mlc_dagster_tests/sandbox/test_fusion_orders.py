"""Purchase orders over HTTP: lines, schedules, distributions, and what buyers do to them."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlc_dagster.sandbox import seed_documents
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.sandbox.conftest import TODAY, midday
from mlc_dagster_tests.sandbox.fusion_caller import Caller, exact

WHOLE = "lines.schedules.distributions"


@pytest.fixture
def admin(fusion: FusionSandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{fusion.base_url}/sandbox", timeout=15) as client:
        yield client


def order_of(caller: Caller, order_id: int) -> dict[str, Any]:
    return exact(caller.get(f"purchaseOrders/{order_id}", expand=WHOLE, onlyData="true"))


def one_line(**changes: Any) -> dict[str, Any]:
    return {"description": "Paper", "quantity": "100", "price": "2.50", "uom": "BX"} | changes


def test_a_go_live_finds_goods_services_and_pounds(caller: Caller) -> None:
    """Two schedules, an amount without a quantity, another currency."""
    orders = {row["OrderNumber"]: row for row in caller.items("purchaseOrders", expand=WHOLE)}
    goods = orders[seed_documents.GOODS_ORDER]["lines"]["items"][0]
    assert [row["Quantity"] for row in goods["schedules"]["items"]] == [120, 80]
    services = orders[seed_documents.SERVICES_ORDER]["lines"]["items"][1]
    assert (services["Quantity"], services["Price"], services["Ordered"]) == (None, None, 500)
    assert orders[seed_documents.UK_ORDER]["CurrencyCode"] == "GBP"
    assert all(row["LastUpdateDate"] < f"{TODAY}" for row in orders.values())


def test_amounts_add_up_from_distribution_to_header(caller: Caller) -> None:
    """Whatever is rounded on the way."""
    for order in caller.items("purchaseOrders", expand=WHOLE):
        lines = order["lines"]["items"]
        assert sum(row["Ordered"] for row in lines) == order["Ordered"] == order["Total"]
        for row in lines:
            schedules = row["schedules"]["items"]
            assert sum(part["Ordered"] for part in schedules) == row["Ordered"]
            parts = [part for schedule in schedules for part in schedule["distributions"]["items"]]
            assert sum(part["Ordered"] for part in parts) == row["Ordered"]


def test_every_level_is_paged(fusion: FusionSandbox, caller: Caller) -> None:
    """More than 25 lines, schedules or distributions are more than a nested page shows."""
    parts = [{"quantity": 1} for _ in range(30)]
    schedules = [{"quantity": 30, "distributions": parts}, *({"quantity": 1} for _ in range(29))]
    lines = [one_line(quantity=59, schedules=schedules), *(one_line() for _ in range(29))]
    order_id = fusion.world.create_purchase_order(lines)
    order = order_of(caller, order_id)
    line = order["lines"]["items"][0]
    schedule = line["schedules"]["items"][0]
    for nested in (order["lines"], line["schedules"], schedule["distributions"]):
        assert (nested["count"], nested["hasMore"]) == (25, True)
    path = f"purchaseOrders/{order_id}/child/lines/{line['POLineId']}/child/schedules"
    assert len(caller.items(path, limit=100)) == 30
    path = f"{path}/{schedule['LineLocationId']}/child/distributions"
    assert len(caller.items(path, limit=100, q="Quantity = 1")) == 30


def test_orders_are_found_by_number_and_cannot_be_posted(caller: Caller) -> None:
    """They are made as drafts elsewhere."""
    (found,) = caller.items("purchaseOrders", q=f"OrderNumber='{seed_documents.UK_ORDER}'")
    assert found["SupplierSite"] == "HQ"
    assert caller.post({"OrderNumber": "x"}, "purchaseOrders").status_code == 405


def test_a_changed_quantity_is_the_next_revision(fusion: FusionSandbox, caller: Caller) -> None:
    """The last schedule takes the difference, amounts follow up to the header."""
    schedules = [{"quantity": 60}, {"quantity": 40}]
    order_id = fusion.world.create_purchase_order([one_line(schedules=schedules)])
    before = order_of(caller, order_id)
    fusion.world.change_purchase_order(order_id, 1, quantity="90", description="Thick paper")
    after = order_of(caller, order_id)
    line = after["lines"]["items"][0]
    assert (after["Revision"], after["Ordered"], line["Description"]) == (1, 225, "Thick paper")
    assert [row["Quantity"] for row in line["schedules"]["items"]] == [60, 30]
    assert [row["Ordered"] for row in line["schedules"]["items"]] == [150, 75]
    assert after["LastUpdateDate"] >= before["LastUpdateDate"]


def test_a_schedule_can_change_without_its_order(fusion: FusionSandbox, caller: Caller) -> None:
    """What a reader who looks at headers alone never sees."""
    order_id = fusion.world.create_purchase_order([one_line()], last_update_date="2026-11-01T08:00:00Z")
    fusion.world.change_purchase_order(order_id, 1, promised_delivery="2026-12-24", touch_header=False)
    since = "2026-11-20T00:00:00.000Z"
    assert order_id not in {row["POHeaderId"] for row in caller.items("purchaseOrders", q=f"LastUpdateDate>='{since}'")}
    found = caller.items("purchaseOrders", q=f"lines.schedules.LastUpdateDate>='{since}'")
    assert [(row["POHeaderId"], row["Revision"]) for row in found] == [(order_id, 0)]


def test_a_canceled_order_says_so_everywhere(fusion: FusionSandbox, caller: Caller) -> None:
    """Header, lines and schedules."""
    order_id = fusion.world.create_purchase_order([one_line(), one_line()])
    fusion.world.cancel_purchase_order(order_id)
    order = order_of(caller, order_id)
    lines = order["lines"]["items"]
    codes = [order["StatusCode"], *(row["StatusCode"] for row in lines)]
    codes += [row["schedules"]["items"][0]["StatusCode"] for row in lines]
    assert set(codes) == {"CANCELED"}
    assert order["Revision"] == 1


def test_orders_are_made_and_changed_over_http(caller: Caller, admin: httpx.Client) -> None:
    """For a demonstration in another process."""
    body = {"lines": [one_line()], "number": "US900001", "description": "New"}
    order_id = admin.post("/orders", json=body).json()["order_id"]
    assert admin.patch(f"/orders/{order_id}", json={"line": 1, "price": "2.75"}).status_code == 200
    assert admin.post(f"/orders/{order_id}/lines", json={"description": "Fee", "amount": "9.99"}).json() == {"line": 2}
    order = order_of(caller, order_id)
    assert (order["Revision"], order["Ordered"]) == (2, Decimal("284.99"))
    assert admin.post(f"/orders/{order_id}/cancel").status_code == 200
    assert admin.post("/orders", json=body).status_code == 400
    assert admin.patch(f"/orders/{order_id}", json={"line": 9, "price": "1"}).status_code == 404
    assert admin.post("/orders", json={"lines": [{"description": "neither"}]}).status_code == 400


def test_orders_survive_a_restart(tmp_path: Path) -> None:
    """With their revisions."""
    books = tmp_path / "books.sqlite"
    with FusionSandbox(Seed(today=TODAY), books=books, clock=midday) as first:
        order_id = first.world.create_purchase_order([one_line()])
        first.world.change_purchase_order(order_id, 1, quantity=7)
        first.world.cancel_purchase_order(seed_documents.FIRST_ORDER)
        with Caller(first) as caller:
            before = caller.items("purchaseOrders", expand=WHOLE, onlyData="true")
    with FusionSandbox(Seed(today=TODAY), books=books, clock=midday) as second, Caller(second) as caller:
        after = caller.items("purchaseOrders", expand=WHOLE, onlyData="true")
    assert after == before
