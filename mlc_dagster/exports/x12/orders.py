"""What 850 and 860 share: an order's lines with what belongs to them, its schedules, accounts and total.

Belongs here: the details of one line. Does not: headings, and what changed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from mlc_dagster.exports.balance import NO_CURRENCY
from mlc_dagster.exports.writing import DocumentHeld
from mlc_dagster.exports.x12.accounts import Accounts, split
from mlc_dagster.exports.x12.elements import plain_number
from mlc_dagster.exports.x12.headings import ONE, Headings, Pen, extended
from mlc_dagster.exports.x12.segments import segments
from mlc_dagster.fusion.records import OrderLine, OrderSchedule, PurchaseOrder
from mlc_dagster.money import total as sum_of

MOST_LINES = 100_000
"""PO1 and POC loops of one set."""

CHECKS = (
    "quantity times price is the line's ordered amount, in the currency's minor units",
    "the lines come to the order's amount, AMT02",
    f"no more than {MOST_LINES} lines",
)
"""What both sets make sure of before they are written."""


def open_lines(order: PurchaseOrder) -> list[OrderLine]:
    """The lines that are ordered: canceled ones are not."""
    return [line for line in order.lines if not line.canceled]


@dataclass(frozen=True, slots=True)
class Quantified:
    """What a line orders, in the partner's unit."""

    quantity: Decimal
    unit: str
    price: Decimal
    amount: Decimal


class OrderParts:
    """Segments below a line, and the headings and totals that both sets write alike."""

    def __init__(self, pen: Pen, accounts: Accounts) -> None:
        self._pen = pen
        self._rules = pen.rules
        self._accounts = accounts
        self.headings = Headings(pen, "order")
        self._buyer = pen.shape("PER", {"name": "order.buyer"}, constants={"function": "BD"}, only_with="name")
        self._description = pen.shape(
            "PID", {"description": "line.description"}, constants={"kind": "F"}, only_with="description"
        )
        self._account = pen.shape(
            "REF",
            {
                "qualifier": "segment_codes",
                "number": "distribution.charge_account",
                "description": "schedule, distribution, segment",
            },
            settable=False,
            shown=pen.rules.accounts != "none",
        )
        self._schedule = pen.shape(
            "SCH",
            {
                "quantity": "schedule.quantity",
                "unit": "line.uom",
                "entity": "'ST'",
                "name": "schedule.ship_to_code, else ship_to",
                "qualifier": "'067' promised, '002' requested",
                "date": "schedule.promised_delivery, else requested_delivery",
            },
            shown=pen.rules.schedules,
        )
        self._longest_account = segments(pen.rules.standard)["REF"].element(2).longest
        self._amount = pen.shape("AMT", {"amount": "sum of the lines"}, constants={"qualifier": "TT"})

    def heading(self, order: PurchaseOrder) -> list[str]:
        """From CUR to the N1 loop, in the sets' common order."""
        scope = (order,)
        headings = self.headings
        out = [*headings.currency(scope, order.currency), *headings.references(scope, 0)]
        if order.buyer and (text := self._buyer.again(scope, order.buyer)):
            out.append(text)
        out += headings.terms(scope, order.payment_terms)
        out += headings.dates(scope)
        out += headings.note(order.description)
        out += headings.parties(scope)
        return out

    def quantified(self, order: PurchaseOrder, line: OrderLine, *, is_gone: bool = False) -> Quantified:
        """Quantity and price with their check; a line of an amount alone is one unit at that price.

        Args:
            is_gone: canceled lines keep their quantity while Fusion takes their amount back; they are not checked.
        """
        if line.quantity is None or line.price is None:
            if line.ordered is None:
                raise DocumentHeld(
                    "FIELD_MISSING",
                    f"line {line.number} has neither quantity and price nor an amount",
                    field="line.ordered",
                )
            return Quantified(ONE, self._rules.amount_unit, line.ordered, line.ordered)
        unit = self._pen.unit(line.uom, "line.uom")
        if unit is None:
            raise DocumentHeld("FIELD_MISSING", f"line {line.number} has no unit of measure", field="line.uom")
        amount = extended(line.quantity, line.price, order.currency)
        if line.ordered is not None and line.ordered != amount and not is_gone:
            raise DocumentHeld(
                "TOTALS",
                f"line {line.number}: quantity {plain_number(line.quantity)} times price {plain_number(line.price)}"
                f" is not the ordered amount {plain_number(line.ordered)}",
                field="line.ordered",
            )
        return Quantified(line.quantity, unit, line.price, amount)

    def below(self, order: PurchaseOrder, line: OrderLine, unit: str) -> Iterable[str]:
        """PID, REF and SCH of a line."""
        scope = (order, line)
        if line.description:
            for piece in self._pen.pieces(line.description, 80):
                text = self._description(scope, piece)
                if text:
                    yield text
        yield from self.headings.references(scope, 1)
        if self._rules.accounts != "none":
            for schedule in line.schedules:
                yield from self._accounts_of(schedule)
        if self._rules.schedules:
            yield from self._schedules(line, unit)

    def _accounts_of(self, schedule: OrderSchedule) -> Iterable[str]:
        """REF per segment (or one for the whole account), and the amount: REF03 says which schedule, distribution."""
        qualifier = self._rules.account_qualifier
        for distribution in schedule.distributions:
            label = f"{schedule.number}-{distribution.number}"
            combination = distribution.charge_account
            if combination and self._rules.accounts == "whole":
                if len(combination) > self._longest_account:
                    raise DocumentHeld(
                        "KEY_TOO_LONG",
                        f"account {combination!r} is longer than {self._longest_account} characters;"
                        " set accounts: segments to send each segment by itself",
                        field="distribution.charge_account",
                        target="REF02 number",
                    )
                yield self._account((), qualifier, combination, f"{label} ACCOUNT")
            elif combination:
                parts = split(self._accounts.usual(), combination, "distribution.charge_account")
                for name, value in parts:
                    code = self._rules.segment_codes.get(name, qualifier)
                    yield self._account((), code, value, f"{label} {name}")
            if distribution.ordered is not None:
                yield self._account((), qualifier, plain_number(distribution.ordered), f"{label} ORDERED")

    def _schedules(self, line: OrderLine, unit: str) -> Iterable[str]:
        for schedule in line.schedules:
            if schedule.canceled:
                continue
            if schedule.promised_delivery is not None:
                date, qualifier = schedule.promised_delivery, "067"
            else:
                date, qualifier = schedule.requested_delivery, "002"
            if schedule.quantity is None or date is None:
                self._pen.tally.add("schedules_left_out")
                continue
            place = schedule.ship_to_code or schedule.ship_to
            yield self._schedule((), schedule.quantity, unit, "ST" if place else None, place, qualifier, date)

    def total(self, order: PurchaseOrder, amounts: Sequence[Decimal]) -> Decimal:
        """The order's total: the sum of its lines. Raises DocumentHeld where Fusion says otherwise."""
        total = sum_of(amounts)
        if order.ordered is not None and order.ordered != total:
            raise DocumentHeld(
                "TOTALS",
                f"the lines come to {plain_number(total)}, the order to {plain_number(order.ordered)}",
                field="order.ordered",
                target="AMT02 amount",
            )
        return total

    @staticmethod
    def check_count(lines: int) -> None:
        """Raises DocumentHeld where the set has no room for so many."""
        if lines > MOST_LINES:
            raise DocumentHeld("OVERFLOW", f"{lines} lines, a set takes {MOST_LINES}", field="order.lines")

    @staticmethod
    def control_total(order: PurchaseOrder, total: Decimal) -> dict[str, Decimal]:
        """The total under its name in the file's control totals."""
        return {f"ordered {order.currency or NO_CURRENCY}": total}

    def ending(self, order: PurchaseOrder, lines: int, quantities: Iterable[Decimal], total: Decimal) -> list[str]:
        return [self.headings.count(lines, quantities), self._amount((order,), total)]
