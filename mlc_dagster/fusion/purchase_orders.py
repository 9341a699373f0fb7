"""Purchase orders (``purchaseOrders`` with lines, schedules and distributions), once finalised.

Fusion's status codes move with every receipt and invoice. Of them the content has only what a partner orders by:
canceled, or not.
"""

from typing import Any

from mlc_dagster.fusion.documents import Node, Source
from mlc_dagster.fusion.levels import Level, latest
from mlc_dagster.fusion.records import OrderDistribution, OrderLine, OrderSchedule, OrderStatus, PurchaseOrder, Read
from mlc_dagster.fusion.wire import instant

NAME = "purchase_orders"

_STATUS: dict[str, Any] = {"without": frozenset({"canceled"}), "extra": (("status_code", "StatusCode", str),)}


def _canceled(row: Any) -> dict[str, Any]:
    return {"canceled": (row.status_code or "").upper() in ("CANCELED", "CANCELLED")}


# By number, as people read them; the id beside it makes the order a total one.
DISTRIBUTIONS = Level(
    "distributions",
    OrderDistribution,
    ("number", "distribution_id"),
    "DistributionNumber:asc,PODistributionId:asc",
)
SCHEDULES = Level(
    "schedules",
    OrderSchedule,
    ("number", "schedule_id"),
    "ScheduleNumber:asc,LineLocationId:asc",
    children=(DISTRIBUTIONS,),
    made=_canceled,
    **_STATUS,
)
LINES = Level(
    "lines",
    OrderLine,
    ("number", "line_id"),
    "LineNumber:asc,POLineId:asc",
    children=(SCHEDULES,),
    made=_canceled,
    **_STATUS,
)
TOP = Level(
    "purchaseOrders", PurchaseOrder, ("header_id",), "POHeaderId:asc", children=(LINES,), made=_canceled, **_STATUS
)


def _reads(node: Node) -> list[Read]:
    order: PurchaseOrder = node.record()
    return [
        Read(
            source=NAME,
            record_id=order.record_id,
            fusion_id=order.header_id,
            content=order,
            last_update_date=latest(node.changed()),
            creation_date=instant(node.row.creation_date),
            status=_status(node),
        )
    ]


def _status(order: Node) -> OrderStatus:
    lines = order.below[LINES.name]
    schedules = [schedule for line in lines for schedule in line.below[SCHEDULES.name]]
    return OrderStatus(
        code=order.row.status_code,
        lines={line.row.line_id: line.row.status_code for line in lines if line.row.status_code},
        schedules={each.row.schedule_id: each.row.status_code for each in schedules if each.row.status_code},
    )


PURCHASE_ORDERS = Source(NAME, TOP, "POHeaderId", _reads, plain_path=False)
