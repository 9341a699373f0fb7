"""Purchase orders (``purchaseOrders`` with lines, schedules and distributions), once finalised."""

from mlc_dagster.fusion.documents import Node, Source
from mlc_dagster.fusion.levels import Level, latest
from mlc_dagster.fusion.records import OrderDistribution, OrderLine, OrderSchedule, PurchaseOrder, Read
from mlc_dagster.fusion.wire import instant

NAME = "purchase_orders"

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
)
LINES = Level("lines", OrderLine, ("number", "line_id"), "LineNumber:asc,POLineId:asc", children=(SCHEDULES,))
TOP = Level("purchaseOrders", PurchaseOrder, ("header_id",), "POHeaderId:asc", children=(LINES,))


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
        )
    ]


PURCHASE_ORDERS = Source(NAME, TOP, "POHeaderId", _reads, plain_path=False)
