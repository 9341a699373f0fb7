"""850: a purchase order, whole. Also as a replacement (BEG01 05), where the partner takes no 860."""

from decimal import Decimal

from mlc_dagster.exports.writing import Change, DocumentHeld, Version
from mlc_dagster.exports.x12.accounts import Accounts
from mlc_dagster.exports.x12.headings import Pen
from mlc_dagster.exports.x12.orders import CHECKS, OrderParts, open_lines
from mlc_dagster.fusion.records import PurchaseOrder
from mlc_dagster.money import total as sum_of

_PURPOSES = {Change.NEW: "00", Change.CHANGE: "05", Change.CANCEL: "01"}


class OrderDocument:
    """Writes the segments between ST and SE."""

    order = ("BEG", "CUR", "REF", "PER", "ITD", "DTM", "N9", "MSG", "N1", "PO1", "PID", "SCH", "CTT", "AMT")
    checks = CHECKS

    def __init__(self, pen: Pen, accounts: Accounts) -> None:
        self._rules = pen.rules
        self._parts = parts = OrderParts(pen, accounts)
        self._beg = pen.shape(
            "BEG",
            {"purpose": "change", "type": "order_type", "number": "order.number", "ordered": "order.order_date"},
        )
        self._lines = parts.headings.line_shapes(
            "PO1",
            {
                "line": "line.number",
                "quantity": "line.quantity",
                "unit": "line.uom",
                "price": "line.price",
            },
        )

    def segments(self, version: Version) -> tuple[list[str], dict[str, Decimal]]:
        """Segments and exact totals. Raises DocumentHeld."""
        order = version.read.content
        if not isinstance(order, PurchaseOrder):
            raise DocumentHeld("WRONG_SOURCE", f"an 850 carries purchase orders, not {version.read.source}")
        canceled = version.change is Change.CANCEL
        lines = list(order.lines) if canceled else open_lines(order)
        if not lines:
            raise DocumentHeld(
                "NO_LINES", "the order has no open line, and an 850 needs one", field="order.lines", target="PO1"
            )
        parts = self._parts
        parts.check_count(len(lines))
        purpose = _PURPOSES[version.change]
        out = [self._beg((order,), purpose, self._rules.order_type, order.number, order.order_date)]
        out += parts.heading(order)
        quantities: list[Decimal] = []
        amounts: list[Decimal] = []
        for line in lines:
            what = parts.quantified(order, line, is_gone=canceled)
            quantities.append(what.quantity)
            amounts.append(what.amount)
            scope = (order, line)
            ids = parts.headings.ids(scope)
            write = self._lines[len(ids) // 2]
            out.append(write(scope, str(line.number), what.quantity, what.unit, what.price, *ids))
            out += parts.below(order, line, what.unit)
        # A canceled order's own amount says what is left of it, which is not the sum of what was ordered.
        total = sum_of(amounts) if canceled else parts.total(order, amounts)
        out += parts.ending(order, len(lines), quantities, total)
        return out, parts.control_total(order, total)
