"""Purchase orders as records, three levels deep."""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal

import pytest

from mlc_dagster.fusion.purchase_orders import PURCHASE_ORDERS
from mlc_dagster.fusion.records import PurchaseOrder, Read, canonical
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.fusion.document_reading import TODAY, by_id, changed, connect
from mlc_dagster_tests.fusion.raw_server import in_loop

AT = dt.datetime(2026, 11, 20, 10, 0, tzinfo=dt.UTC)
QUARTER = dt.timedelta(minutes=15)
PAPER = {"description": "A4 paper", "quantity": "200", "price": "5.5", "uom": "BX", "supplier_item": "NW-A4"}


@pytest.fixture
def sandbox() -> Iterator[FusionSandbox]:
    with FusionSandbox(Seed(40, TODAY)) as running:
        yield running


def order(read: Read) -> PurchaseOrder:
    assert isinstance(read.content, PurchaseOrder)
    return read.content


@in_loop
async def test_order_is_read_with_lines_schedules_and_distributions(sandbox: FusionSandbox) -> None:
    """The partner's order has quantities, dates and the charge account, which are on three different levels."""
    schedules = [
        {"quantity": "120", "ship_to": "Seattle", "requested_delivery": "2026-12-01"},
        {"quantity": "80", "ship_to": "Seattle", "requested_delivery": "2026-12-08"},
    ]
    number = sandbox.world.create_purchase_order([{**PAPER, "schedules": schedules}], supplier_number="30012")
    async with connect(sandbox) as client:
        (read,) = await by_id(client, PURCHASE_ORDERS, number)
    found = order(read)
    (row,) = found.lines
    assert (read.record_id, found.revision, found.ordered) == (str(number), 0, Decimal(1100))
    assert isinstance(found.order_date, dt.date)
    assert (row.quantity, row.price, row.uom, row.supplier_item) == (Decimal(200), Decimal("5.5"), "BX", "NW-A4")
    assert [(part.quantity, part.requested_delivery) for part in row.schedules] == [
        (Decimal(120), dt.date(2026, 12, 1)),
        (Decimal(80), dt.date(2026, 12, 8)),
    ]
    assert all(part.distributions[0].charge_account for part in row.schedules)


@pytest.mark.parametrize("version", [2, 3, 4, 9])
@in_loop
async def test_levels_beyond_the_nested_page_are_read(sandbox: FusionSandbox, version: int) -> None:
    """Lines and schedules come 25 at a time, each level by itself."""
    schedules = [{"quantity": "1"} for _ in range(30)]
    rows = [{**PAPER, "quantity": "30", "schedules": schedules}, *[PAPER] * 59]
    number = sandbox.world.create_purchase_order(rows)
    async with connect(sandbox, framework_version=version) as client:
        (read,) = await by_id(client, PURCHASE_ORDERS, number)
    found = order(read)
    assert [row.number for row in found.lines] == list(range(1, 61))
    assert [part.number for part in found.lines[0].schedules] == list(range(1, 31))
    assert all(part.distributions for row in found.lines for part in row.schedules)


@in_loop
async def test_orders_read_the_same_in_every_framework_version(sandbox: FusionSandbox) -> None:
    """A change of the pinned version must not send every order again."""
    read_in: list[list[bytes]] = []
    for version in (2, 3, 4, 9):
        async with connect(sandbox, framework_version=version) as client:
            read_in.append(sorted(canonical(read.content) for read in await changed(client, PURCHASE_ORDERS)))
    assert len(read_in[0]) == 3
    assert read_in[0] == read_in[1] == read_in[2] == read_in[3]


@in_loop
async def test_line_changed_without_its_header_is_found(sandbox: FusionSandbox) -> None:
    """The header's date need not move; the partner needs the new quantity all the same."""
    number = sandbox.world.create_purchase_order([PAPER], last_update_date=AT - QUARTER)
    sandbox.world.set_clock(lambda: AT)
    sandbox.world.change_purchase_order(number, 1, quantity="180", touch_header=False)
    async with connect(sandbox) as client:
        (read,) = await changed(client, PURCHASE_ORDERS, AT, AT + QUARTER)
    assert (read.fusion_id, order(read).lines[0].quantity) == (number, Decimal(180))
    assert read.last_update_date == AT


@in_loop
async def test_cancelled_order_says_so(sandbox: FusionSandbox) -> None:
    """A cancellation is sent as one; it is the status that tells."""
    number = sandbox.world.create_purchase_order([PAPER])
    sandbox.world.cancel_purchase_order(number)
    async with connect(sandbox) as client:
        (read,) = await by_id(client, PURCHASE_ORDERS, number)
    assert order(read).canceled
    assert order(read).revision == 1


@in_loop
async def test_services_line_has_an_amount_and_no_quantity(sandbox: FusionSandbox) -> None:
    """A price of nothing times nothing would be an order for free."""
    row = {"description": "Cleaning", "amount": "500.00", "line_type": "Fixed Price Services"}
    number = sandbox.world.create_purchase_order([row])
    async with connect(sandbox) as client:
        (read,) = await by_id(client, PURCHASE_ORDERS, number)
    found = order(read).lines[0]
    assert (found.quantity, found.ordered) == (None, Decimal(500))
