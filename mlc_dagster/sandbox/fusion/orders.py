"""The purchasing desk: purchase orders are created, changed as a new revision, cancelled.

What an order keeps true by itself: amounts add up from distribution to header, and the last schedule and distribution
take the difference when a quantity changes.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from mlc_dagster.sandbox.fusion.ledger_resources import PURCHASE_ORDERS
from mlc_dagster.sandbox.fusion.resources import Row, Table
from mlc_dagster.sandbox.fusion.state import Moment, State, exact, timestamp
from mlc_dagster.sandbox.seed import ACME, DELIMITER, US_BUSINESS_UNIT, BusinessUnit

BUYER = "Roth, Calvin"
LOCATIONS = {"Seattle": "SEA-01", "Denver": "DEN-01", "London": "LON-01"}
UNITS = {"EA": "Each", "BX": "Box", "HUR": "Hour", "KG": "Kilogram"}
_FIRST_ORDER = 165001
_LINE = {
    "description",
    "quantity",
    "price",
    "amount",
    "uom",
    "line_type",
    "item",
    "supplier_item",
    "category",
    "account",
    "requester",
    "schedules",
}
_SCHEDULE = {"quantity", "amount", "ship_to", "requested_delivery", "promised_delivery", "distributions"}
_DISTRIBUTION = {"quantity", "amount", "account"}


def _known(given: Mapping[str, Any], known: set[str], what: str) -> None:
    unknown = sorted(set(given) - known)
    if unknown:
        msg = f"{what} has no {', '.join(unknown)}"
        raise ValueError(msg)


class _Ids:
    """Numbers counting up from the order's own."""

    def __init__(self, last: int) -> None:
        self.last = last

    def take(self) -> int:
        self.last += 1
        return self.last


class OrderDesk(State):
    """What buyers do."""

    def create_purchase_order(
        self, lines: Sequence[Mapping[str, Any]], *, last_update_date: Moment | None = None, **header: Any
    ) -> int:
        """Creates an approved, open order; gives its POHeaderId.

        Args:
            lines: mappings of description, quantity and price (goods) or amount (services), uom, line_type, item,
                supplier_item, category, account, requester, schedules; see ``build_purchase_order``.
            last_update_date: with one in the past the order becomes visible late.
            **header: as ``build_purchase_order`` takes them.

        Raises:
            ValueError: an unknown supplier, site, unit or key, or a float.
        """
        with self.lock:
            moment = last_update_date if last_update_date is not None else self.clock()
            row = self.build_purchase_order(self._last_number + 1, lines=lines, moment=moment, **header)
            table = self.tables["purchaseOrders"]
            if table.lookup("OrderNumber", [row.values["OrderNumber"]]):
                msg = f"purchase order {row.values['OrderNumber']} is there already"
                raise ValueError(msg)
            self._seen(row)
            table.add(row)
            self.keep("order", row, PURCHASE_ORDERS)
            return int(row.key)

    def build_purchase_order(
        self,
        header_id: int,
        *,
        lines: Sequence[Mapping[str, Any]],
        moment: Moment,
        number: str | None = None,
        supplier_number: str = ACME,
        supplier_site: str = "HQ",
        business_unit: str = US_BUSINESS_UNIT,
        currency: str | None = None,
        buyer: str = BUYER,
        description: str | None = None,
        payment_terms: str | None = "Net 30",
        ship_to: str = "Seattle",
        bill_to: str = "Seattle",
        freight_terms: str | None = None,
        fob: str | None = None,
        order_date: Moment | None = None,
    ) -> Row:
        """The row of an order, not stored; ids count up from ``header_id``.

        A line's schedules (quantity or amount, ship_to, requested_delivery, promised_delivery, distributions) and a
        schedule's distributions (quantity or amount, account) may be left out: there is one of everything then.
        """
        unit = self.units.get(business_unit)
        suppliers = self.tables["suppliers"].lookup("SupplierNumber", [supplier_number])
        sites = suppliers[0].children.get("sites", []) if suppliers else []
        site = next((site for site in sites if site.values["SupplierSite"] == supplier_site), None)
        if unit is None or site is None:
            msg = f"no business unit {business_unit!r}, or no site {supplier_site!r} of supplier {supplier_number}"
            raise ValueError(msg)
        now = timestamp(moment)
        order = Row(
            header_id,
            {
                "POHeaderId": header_id,
                "OrderNumber": number or self._free_number(unit),
                "OrderDate": timestamp(order_date) if order_date is not None else now,
                "SoldToLegalEntityId": unit.legal_entity_id,
                "SoldToLegalEntity": unit.legal_entity,
                "Status": "Open",
                "StatusCode": "OPEN",
                "Revision": 0,
                "Description": description,
                **{f"{part}BUId": unit.business_unit_id for part in ("Procurement", "Requisitioning", "BillTo")},
                **{f"{part}BU": unit.name for part in ("Procurement", "Requisitioning", "BillTo")},
                "BillToLocation": bill_to,
                "DefaultShipToLocationCode": LOCATIONS.get(ship_to),
                "DefaultShipToLocation": ship_to,
                "Buyer": buyer,
                "SupplierId": suppliers[0].key,
                "Supplier": suppliers[0].values["Supplier"],
                "SupplierSiteId": site.key,
                "SupplierSite": supplier_site,
                "CurrencyCode": currency or unit.currency,
                "PaymentTerms": payment_terms,
                "FreightTerms": freight_terms,
                "FOB": fob,
                "CreatedBy": "PO.BUYER",
                "CreationDate": now,
                "LastUpdatedBy": "PO.BUYER",
                "LastUpdateDate": now,
            },
        )
        ids = _Ids(header_id)
        order.children["lines"] = []
        for given in lines:
            order.children["lines"].append(self._order_line(order, given, ids, now))
        self._sum_order(order)
        return order

    def purchase_order(self, order_id: int) -> Row:
        """The order's row. Raises LookupError."""
        return self.row_of("purchaseOrders", order_id)

    def change_purchase_order(
        self,
        order_id: int,
        line: int | None = None,
        *,
        quantity: Decimal | int | str | None = None,
        price: Decimal | int | str | None = None,
        amount: Decimal | int | str | None = None,
        description: str | None = None,
        promised_delivery: str | None = None,
        touch_header: bool = True,
    ) -> None:
        """Changes a line, or the header's description when ``line`` is None; the next revision.

        Args:
            order_id: POHeaderId.
            line: LineNumber.
            quantity: of the line; its last schedule and distribution take the difference.
            price: per unit.
            amount: of a line that has no quantity.
            description: of the line, or of the header.
            promised_delivery: ISO date, of every schedule of the line.
            touch_header: False changes line, schedules and distributions alone; revision and update date of the
                header stay, only its amounts follow.

        Raises:
            LookupError: no such order or line.
            ValueError: a float, or an amount for the header.
        """
        with self.lock:
            order = self.purchase_order(order_id)
            changes: dict[str, Any] = {}
            if line is None:
                if (quantity, price, amount, promised_delivery) != (None, None, None, None):
                    msg = "quantity, price, amount and promised_delivery are a line's: say which"
                    raise ValueError(msg)
                changes["Description"] = description
            else:
                row = _line_of(order, line)
                if description is not None:
                    row.values["Description"] = description
                self._reprice(row, exact(quantity), exact(price), exact(amount), order.values["CurrencyCode"])
                if promised_delivery is not None:
                    for schedule in row.children["schedules"]:
                        schedule.values["PromisedDeliveryDate"] = promised_delivery
                _stamp(row, self.now())
            self._revised(order, changes, touch=touch_header)

    def add_purchase_order_line(self, order_id: int, line: Mapping[str, Any]) -> int:
        """Adds a line as in ``create_purchase_order``; the next revision. Gives its number."""
        with self.lock:
            order = self.purchase_order(order_id)
            added = self._order_line(order, line, _Ids(self._last_number), self.now())
            self._seen(added)
            order.children["lines"].append(added)
            self._revised(order, {}, touch=True)
            return added.values["LineNumber"]

    def cancel_purchase_order(self, order_id: int) -> None:
        """Cancels the order with its lines and schedules; quantities and amounts stay to be seen."""
        with self.lock:
            order = self.purchase_order(order_id)
            canceled = {"Status": "Canceled", "StatusCode": "CANCELED"}
            for line in order.children["lines"]:
                line.values |= canceled
                for schedule in line.children["schedules"]:
                    schedule.values |= canceled
                _stamp(line, self.now())
            self._revised(order, canceled, touch=True)

    def _free_number(self, unit: BusinessUnit) -> str:
        table = self.tables["purchaseOrders"]
        number = _FIRST_ORDER + len(table)
        while table.lookup("OrderNumber", [f"{unit.name[:2]}{number}"]):
            number += 1
        return f"{unit.name[:2]}{number}"

    def _order_line(self, order: Row, given: Mapping[str, Any], ids: _Ids, now: str) -> Row:
        _known(given, _LINE, "a purchase order line")
        quantity, price, amount = (exact(given.get(name)) for name in ("quantity", "price", "amount"))
        if amount is None and (quantity is None or price is None):
            msg = "a purchase order line has quantity and price, or an amount"
            raise ValueError(msg)
        goods = quantity is not None
        uom = given.get("uom", "EA" if goods else None)
        line_id = ids.take()
        line = Row(
            line_id,
            {
                "POLineId": line_id,
                "POHeaderId": order.key,
                "LineNumber": 1 + max((row.values["LineNumber"] for row in order.children["lines"]), default=0),
                "LineType": given.get("line_type", "Goods" if goods else "Fixed Price Services"),
                "Item": given.get("item"),
                "Description": given.get("description"),
                "Category": given.get("category", "Miscellaneous"),
                "Quantity": quantity,
                "UOMCode": uom,
                "UOM": UNITS.get(uom, uom) if uom else None,
                "Price": price,
                "CurrencyCode": order.values["CurrencyCode"],
                "SupplierItem": given.get("supplier_item"),
                "Status": "Open",
                "StatusCode": "OPEN",
                "CreationDate": now,
                "LastUpdateDate": now,
            },
        )
        schedules: Sequence[Mapping[str, Any]] = given.get("schedules") or [{"quantity": quantity, "amount": amount}]
        line.children["schedules"] = [
            self._schedule(order, line, part, given, place, ids) for place, part in enumerate(schedules, start=1)
        ]
        self._reprice(line, quantity, price, amount, order.values["CurrencyCode"])
        return line

    def _schedule(
        self, order: Row, line: Row, given: Mapping[str, Any], whole: Mapping[str, Any], place: int, ids: _Ids
    ) -> Row:
        _known(given, _SCHEDULE, "a schedule")
        ship_to = given.get("ship_to") or order.values["DefaultShipToLocation"]
        created = line.values["CreationDate"]
        day = dt.date.fromisoformat(created[:10]) + dt.timedelta(days=14)
        schedule_id = ids.take()
        common = {"POLineId": line.key, "POHeaderId": order.key, "CreationDate": created, "LastUpdateDate": created}
        schedule = Row(
            schedule_id,
            {
                "LineLocationId": schedule_id,
                "ScheduleNumber": place,
                "Status": "Open",
                "StatusCode": "OPEN",
                "Quantity": exact(given.get("quantity")),
                "Ordered": exact(given.get("amount")),
                "ShipToLocationCode": LOCATIONS.get(ship_to),
                "ShipToLocation": ship_to,
                "ShipToOrganizationCode": "001",
                "RequestedDeliveryDate": given.get("requested_delivery") or day.isoformat(),
                "PromisedDeliveryDate": given.get("promised_delivery"),
                **common,
            },
        )
        parts: Sequence[Mapping[str, Any]] = given.get("distributions") or [
            {"quantity": given.get("quantity"), "amount": given.get("amount")}
        ]
        unit = self.units[order.values["ProcurementBU"]]
        default = DELIMITER.join((unit.entity, "4410", "61200", "000", "000", "000"))
        schedule.children["distributions"] = []
        for number, part in enumerate(parts, start=1):
            _known(part, _DISTRIBUTION, "a distribution")
            distribution_id = ids.take()
            values = {
                "PODistributionId": distribution_id,
                "LineLocationId": schedule_id,
                "DistributionNumber": number,
                "Quantity": exact(part.get("quantity")),
                "Ordered": exact(part.get("amount")),
                "POChargeAccount": part.get("account") or whole.get("account") or default,
                "BudgetDate": created[:10],
                "DeliverToLocation": ship_to,
                "Requester": whole.get("requester", BUYER),
                "CurrencyCode": order.values["CurrencyCode"],
                **common,
            }
            schedule.children["distributions"].append(Row(distribution_id, values))
        return schedule

    def _reprice(
        self, line: Row, quantity: Decimal | None, price: Decimal | None, amount: Decimal | None, currency: str
    ) -> None:
        """Sets what is given and lets the amounts below and of the line follow."""
        values, schedules = line.values, line.children["schedules"]
        places = Decimal(1).scaleb(-self.seed.currencies[currency])
        if values["Quantity"] is None:
            if amount is not None:
                _share(schedules, "Ordered", amount)
                for schedule in schedules:
                    _share(schedule.children["distributions"], "Ordered", schedule.values["Ordered"])
                values["Ordered"] = values["Total"] = amount
            return
        values["Quantity"] = quantity if quantity is not None else values["Quantity"]
        values["Price"] = price if price is not None else values["Price"]
        values["Ordered"] = (values["Quantity"] * values["Price"]).quantize(places, ROUND_HALF_UP)
        values["Total"] = values["Ordered"]
        _share(schedules, "Quantity", values["Quantity"])
        for schedule in schedules:
            _share(schedule.children["distributions"], "Quantity", schedule.values["Quantity"])
        for rows, whole in [(schedules, line), *((row.children["distributions"], row) for row in schedules)]:
            for row in rows:
                row.values["Ordered"] = (row.values["Quantity"] * values["Price"]).quantize(places, ROUND_HALF_UP)
            _share(rows, "Ordered", whole.values["Ordered"])

    def _sum_order(self, order: Row) -> None:
        total = sum((line.values["Ordered"] for line in order.children["lines"]), Decimal(0))
        order.values["Ordered"] = order.values["Total"] = total

    def _revised(self, order: Row, changes: dict[str, Any], *, touch: bool) -> None:
        self._sum_order(order)
        table: Table = self.tables["purchaseOrders"]
        if touch:
            stamp = {"Revision": order.values["Revision"] + 1, "LastUpdatedBy": "PO.BUYER"}
            table.change(order, changes | stamp | {"LastUpdateDate": self.now()})
        else:
            order.values |= changes
        self.keep("order", order, PURCHASE_ORDERS)


def _share(rows: list[Row], name: str, whole: Decimal) -> None:
    """Makes the rows add up to the whole; the last one takes the difference."""
    before = sum((row.values[name] or Decimal(0) for row in rows[:-1]), Decimal(0))
    rows[-1].values[name] = whole - before


def _stamp(line: Row, now: str) -> None:
    line.values["LastUpdateDate"] = now
    line.version += 1
    for schedule in line.children["schedules"]:
        schedule.values["LastUpdateDate"] = now
        schedule.version += 1
        for part in schedule.children["distributions"]:
            part.values["LastUpdateDate"] = now
            part.version += 1


def _line_of(order: Row, number: int) -> Row:
    for line in order.children["lines"]:
        if line.values["LineNumber"] == number:
            return line
    msg = f"purchase order {order.values['OrderNumber']} has no line {number}"
    raise LookupError(msg)
