"""860: what changed in a purchase order since the partner's copy of it, with the new quantities and prices.

Belongs here: comparing two versions line by line. A change of texts, dates or accounts is a change too.
"""

from collections.abc import Iterable
from decimal import Decimal

from mlc_dagster.exports.writing import Change, DocumentHeld, Version
from mlc_dagster.exports.x12.accounts import Accounts
from mlc_dagster.exports.x12.headings import ZERO, Pen
from mlc_dagster.exports.x12.orders import CHECKS, OrderParts, Quantified, open_lines
from mlc_dagster.fusion.records import OrderLine, PurchaseOrder


def what_happened(before: OrderLine, after: OrderLine) -> str | None:
    """Key of ``change_codes``; None where the partner has the line as it is."""
    if before == after:
        return None
    same_quantity = before.quantity == after.quantity
    same_price = before.price == after.price
    # A fixed price is the amount of its line; quantity and price are absent.
    same_price = same_price and (after.price is not None or before.ordered == after.ordered)
    if not same_quantity and not same_price:
        return "other"
    if not same_price:
        return "price" if _texts(before) == _texts(after) else "other"
    if same_quantity or before.quantity is None or after.quantity is None or _texts(before) != _texts(after):
        return "other"
    return "quantity_up" if after.quantity > before.quantity else "quantity_down"


def _texts(line: OrderLine) -> tuple[object, ...]:
    """What is neither quantity nor price."""
    return (line.number, line.kind, line.item, line.supplier_item, line.description, line.category, line.uom)


class ChangeDocument:
    """Writes the segments between ST and SE."""

    order = ("BCH", "CUR", "REF", "PER", "ITD", "DTM", "N9", "MSG", "N1", "POC", "PID", "SCH", "CTT", "AMT")
    checks = (*CHECKS, "the order has the number that the partner knows")

    def __init__(self, pen: Pen, accounts: Accounts) -> None:
        self._rules = pen.rules
        self._codes = pen.layout.change_codes
        self._parts = parts = OrderParts(pen, accounts)
        self._bch = pen.shape(
            "BCH",
            {
                "purpose": "change",
                "type": "order_type",
                "number": "order.number",
                "change_number": "order.revision",
                "ordered": "order.order_date",
                "changed": "last_update_date",
            },
        )
        self._lines = parts.headings.line_shapes(
            "POC",
            {
                "line": "line.number",
                "change": "change_codes",
                "quantity": "line.quantity",
                "left": "line.quantity",
                "unit": "line.uom",
                "price": "line.price",
            },
        )

    def segments(self, version: Version) -> tuple[list[str], dict[str, Decimal]]:
        """Segments and exact totals. Raises DocumentHeld."""
        order, before = version.read.content, version.previous
        if not isinstance(order, PurchaseOrder) or not isinstance(before, PurchaseOrder | None):
            raise DocumentHeld("WRONG_SOURCE", f"an 860 carries purchase orders, not {version.read.source}")
        if before is not None and before.number != order.number:
            raise DocumentHeld(
                "KEY_CHANGED",
                f"the order was {before.number} and is {order.number}; an 860 names one number only",
                field="order.number",
                target="BCH03 number",
            )
        canceled = version.change is Change.CANCEL
        updated = version.read.last_update_date
        out = [
            self._bch(
                (order,),
                "01" if canceled else "04",
                self._rules.order_type,
                order.number,
                str(order.revision) if order.revision else None,
                order.order_date,
                updated.date() if updated else None,
            )
        ]
        out += self._parts.heading(order)
        changes = list(self._canceled(order, before) if canceled else self._changed(order, before))
        self._parts.check_count(len(changes))
        quantities: list[Decimal] = []
        for line, code, what in changes:
            out += self._change(order, line, code, what)
            quantities.append(what.quantity)
        amounts = [self._parts.quantified(order, line).amount for line in open_lines(order)]
        total = ZERO if canceled else self._parts.total(order, amounts)
        out += self._parts.ending(order, len(changes), quantities, total)
        return out, self._parts.control_total(order, total)

    def _changed(
        self, order: PurchaseOrder, before: PurchaseOrder | None
    ) -> Iterable[tuple[OrderLine, str, Quantified]]:
        """Lines that are new, different or gone, in the order's own sequence, those that are gone last."""
        known = None if before is None else {line.line_id: line for line in open_lines(before)}
        for line in open_lines(order):
            if known is None:
                happened = "unknown"
            elif line.line_id not in known:
                happened = "added"
            else:
                happened = what_happened(known.pop(line.line_id), line)
            if happened is not None:
                yield line, self._codes[happened], self._parts.quantified(order, line)
        for line in (known or {}).values():
            yield line, self._codes["removed"], self._none_left(order, line)

    def _canceled(
        self, order: PurchaseOrder, before: PurchaseOrder | None
    ) -> Iterable[tuple[OrderLine, str, Quantified]]:
        """All lines the partner has, as removed, where it wants to see them."""
        if self._rules.cancel_lines:
            for line in open_lines(before) if before is not None else order.lines:
                yield line, self._codes["removed"], self._none_left(order, line)

    def _none_left(self, order: PurchaseOrder, line: OrderLine) -> Quantified:
        what = self._parts.quantified(order, line, is_gone=True)
        return Quantified(ZERO, what.unit, what.price, ZERO)

    def _change(self, order: PurchaseOrder, line: OrderLine, code: str, what: Quantified) -> Iterable[str]:
        """POC and, unless the line is gone, what belongs to it.

        Quantity left to receive repeats the quantity: receipts are not part of the record, and the element goes with
        the quantity.
        """
        scope = (order, line)
        ids = self._parts.headings.ids(scope)
        yield self._lines[len(ids) // 2](
            scope,
            str(line.number),
            code,
            what.quantity,
            what.quantity,
            what.unit,
            what.price,
            *ids,
        )
        if code != self._codes["removed"]:
            yield from self._parts.below(order, line, what.unit)
