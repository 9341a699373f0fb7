"""850 and 860: an order as it is, and what changed in it since the partner's copy."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from mlc_dagster.exports.writing import Change, DocumentHeld
from mlc_dagster.fusion.records import OrderDistribution, OrderLine, OrderSchedule, PurchaseOrder
from mlc_dagster_tests.exports.x12 import partner as p


def changed(before: PurchaseOrder | None, after: PurchaseOrder, **keys: Any) -> list[list[str]]:
    return p.rendered(p.writer("purchase_orders", **keys), after, Change.CHANGE, before)


def poc(before: PurchaseOrder | None, after: PurchaseOrder, **keys: Any) -> list[list[str]]:
    return p.named(changed(before, after, **keys), "POC")


def schedule(number: int = 1, **changes: Any) -> OrderSchedule:
    fields: dict[str, Any] = {
        "schedule_id": 7000 + number,
        "number": number,
        "quantity": Decimal(10),
        "ship_to_code": "SEA1",
        "requested_delivery": dt.date(2026, 12, 1),
        "distributions": (
            OrderDistribution(distribution_id=1, number=1, ordered=Decimal(125), charge_account="101-20-63100"),
        ),
    }
    return OrderSchedule(**fields | changes)


def test_a_whole_order_is_what_a_guide_shows() -> None:
    """Header N1 follows N9 and ITD, CTT is followed by its AMT: translators match positions."""
    content = p.order(p.order_line(schedules=(schedule(),)), payment_terms="Net 30", description="Urgent")
    sender = p.writer("purchase_orders", accounts="whole")
    made = sender.render(p.version(content), 1)
    assert made.body.decode().split("~") == [
        "ST*850*0001",
        "BEG*00*SA*PO-7781**20261101",
        "CUR*BY*USD",
        "PER*BD*Roth, Calvin",
        "ITD************Net 30",
        "N9*ZZ*NOTE",
        "MSG*Urgent",
        "N1*BY*US1 Business Unit",
        "N1*SE*Widget Supply Co*92*300000047",
        "N1*ST*Seattle",
        "PO1*1*10*EA*12.5**VP*WID-001",
        "PID*F****Widget, blue",
        "REF*ZZ*101-20-63100*1-1 ACCOUNT",
        "REF*ZZ*125*1-1 ORDERED",
        "SCH*10*EA*ST*SEA1*002*20261201",
        "CTT*1*10",
        "AMT*TT*125",
        "SE*18*0001",
        "",
    ]
    assert (made.set_control, made.totals) == ("PO/0001", {"ordered USD": Decimal(125)})


def test_accounts_may_go_segment_by_segment() -> None:
    """An 850 has no FA1 below the line; a REF per segment keeps them apart."""
    content = p.order(p.order_line(schedules=(schedule(),)))
    segments = p.rendered(p.writer("purchase_orders", accounts="segments"), content)
    assert [found[2:] for found in p.named(segments, "REF")] == [
        ["101", "1-1 entity"],
        ["20", "1-1 department"],
        ["63100", "1-1 account"],
        ["125", "1-1 ORDERED"],
    ]


def test_a_quantity_up_says_so_with_the_new_quantity() -> None:
    """POC03 is the new quantity, not the difference; other lines are not repeated."""
    before = p.order(p.order_line(1), p.order_line(2))
    after = p.order(p.order_line(1, quantity="12"), p.order_line(2), revision=1)
    segments = changed(before, after)
    assert p.one(segments, "BCH")[1:7] == ["04", "SA", "PO-7781", "", "1", "20261101"]
    assert p.one(segments, "POC") == ["POC", "1", "QI", "12", "12", "EA", "12.5", "", "VP", "WID-001"]
    assert p.one(segments, "AMT") == ["AMT", "TT", "275"]
    assert p.one(segments, "CTT") == ["CTT", "1", "12"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (p.order_line(quantity="9"), "QD"),
        (p.order_line(price="13"), "PC"),
        (p.order_line(quantity="9", price="13"), "CA"),
        (p.order_line(description="Widget, green"), "CA"),
        (p.order_line(quantity="9", description="Widget, green"), "CA"),
        (p.order_line(schedules=(schedule(requested_delivery=dt.date(2027, 1, 5)),)), "CA"),
    ],
)
def test_each_kind_of_change_has_its_code(line: OrderLine, code: str) -> None:
    """A change of text or date is a change too: the partner prints it on the goods."""
    before = p.order(p.order_line(schedules=(schedule(),)) if line.schedules else p.order_line())
    assert [found[2] for found in poc(before, p.order(line))] == [code]


def test_a_text_change_carries_the_new_text() -> None:
    """The code alone would make a person phone."""
    segments = changed(p.order(), p.order(p.order_line(description="Widget, green")))
    assert p.one(segments, "PID")[5] == "Widget, green"


def test_lines_added_and_removed_are_told_apart() -> None:
    """A line is recognised by its id: numbers are given again."""
    before = p.order(p.order_line(1), p.order_line(2))
    after = p.order(p.order_line(1), p.order_line(2, line_id=9999, supplier_item="NEW"))
    found = poc(before, after)
    assert [each[1:5] for each in found] == [["2", "AI", "10", "10"], ["2", "DI", "0", "0"]]
    assert found[0][9] == "NEW"


def test_a_canceled_line_is_removed() -> None:
    """Fusion keeps canceled lines in the order; the partner must not deliver them."""
    before = p.order(p.order_line(1), p.order_line(2))
    after = p.order(p.order_line(1), p.order_line(2, canceled=True))
    segments = changed(before, after)
    assert p.one(segments, "POC")[1:4] == ["2", "DI", "0"]
    assert p.one(segments, "AMT")[2] == "125"


def test_a_line_that_is_as_it_was_is_not_told_again() -> None:
    """The order's own text changed; a POC would make the partner look for what is new about the line."""
    assert poc(p.order(p.order_line()), p.order(p.order_line(), description="New note")) == []


def test_a_line_of_an_amount_alone_is_one_unit() -> None:
    """Fixed-price services have neither quantity nor price."""
    service = p.order_line(quantity="1", price="1", uom=None, ordered=Decimal(500))
    service = type(service)(line_id=1, number=1, ordered=Decimal(500), description="Audit")
    raised = type(service)(line_id=1, number=1, ordered=Decimal(600), description="Audit")
    assert p.one(p.rendered(p.writer("purchase_orders"), p.order(service)), "PO1") == ["PO1", "1", "1", "EA", "500"]
    assert poc(p.order(service), p.order(raised)) == [["POC", "1", "PC", "1", "1", "EA", "600"]]


def test_without_the_partners_copy_every_line_replaces() -> None:
    """After a new start nobody knows what the partner has."""
    assert [found[2] for found in poc(None, p.order(p.order_line(1), p.order_line(2)))] == ["RZ", "RZ"]


@pytest.mark.parametrize(("listed", "codes"), [(False, []), (True, ["DI"])])
def test_a_cancellation_cancels_the_whole(listed: bool, codes: list[str]) -> None:
    """BCH01 01; some partners want every line besides."""
    sender = p.writer("purchase_orders", cancel_lines=listed)
    gone = p.order(p.order_line(canceled=True), canceled=True, ordered=Decimal(0))
    segments = p.rendered(sender, gone, Change.CANCEL, p.order())
    assert p.one(segments, "BCH")[1] == "01"
    assert [found[2] for found in p.named(segments, "POC")] == codes
    assert p.one(segments, "AMT") == ["AMT", "TT", "0"]


def test_codes_are_the_partners() -> None:
    """Partners take a few codes of the many."""
    found = poc(p.order(), p.order(p.order_line(quantity="12")), change_codes={"quantity_up": "CA"})
    assert found[0][2] == "CA"


def test_a_partner_without_860_gets_the_order_again() -> None:
    """BEG01 05: a second 850 with 00 would be a second order."""
    sender = p.writer("purchase_orders", sets={"new": 850, "change": 850, "cancel": 860})
    version = p.version(p.order(), Change.CHANGE, previous=p.order())
    assert sender.group_of(version) == "PO"
    assert p.one(p.split(sender.render(version, 1).body), "BEG")[1] == "05"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (p.order(p.order_line(ordered=Decimal(126))), "TOTALS"),
        (p.order(ordered=Decimal(1)), "TOTALS"),
        (p.order(p.order_line(canceled=True)), "NO_LINES"),
        (p.order(p.order_line(uom=None)), "FIELD_MISSING"),
        (p.order(number="P" * 23), "KEY_TOO_LONG"),
    ],
)
def test_what_cannot_be_ordered_waits(content: PurchaseOrder, reason: str) -> None:
    """A wrong order is delivered before anyone reads it."""
    with pytest.raises(DocumentHeld) as caught:
        p.writer("purchase_orders").render(p.version(content), 1)
    assert caught.value.reason == reason


def test_an_order_of_100_000_lines_is_whole_and_one_more_waits() -> None:
    """The PO1 loop's limit is the standard's; nothing is left out to stay within."""
    lines = tuple(p.order_line(number, quantity="1", price="0.01", description=None) for number in range(1, 100_002))
    segments = p.rendered(p.writer("purchase_orders"), p.order(*lines[:-1]))
    assert len(p.named(segments, "PO1")) == 100_000
    assert p.one(segments, "CTT") == ["CTT", "100000", "100000"]
    assert p.one(segments, "AMT")[2] == "1000"
    assert segments[-1][1] == str(len(segments))
    with pytest.raises(DocumentHeld, match="100001"):
        p.rendered(p.writer("purchase_orders"), p.order(*lines))


def test_a_whole_account_that_is_too_long_names_the_remedy() -> None:
    """Long charts do not fit REF02 of 004010; segments do."""
    distribution = OrderDistribution(distribution_id=1, number=1, charge_account="-".join(["12345"] * 6))
    content = p.order(p.order_line(schedules=(schedule(distributions=(distribution,)),)))
    with pytest.raises(DocumentHeld, match="accounts: segments"):
        p.rendered(p.writer("purchase_orders", accounts="whole"), content)


def test_a_canceled_line_whose_amount_fusion_took_back_can_be_told() -> None:
    """Ordered is 0 then while quantity and price stay: no contradiction, a cancellation."""
    gone = p.order(p.order_line(canceled=True, ordered=Decimal(0)), canceled=True, ordered=Decimal(0))
    segments = p.rendered(p.writer("purchase_orders", cancel_lines=True), gone, Change.CANCEL)
    assert p.one(segments, "POC")[1:4] == ["1", "DI", "0"]


def test_a_changed_number_is_not_a_change_of_that_order() -> None:
    """An 860 under a number that the partner has not got is rejected, or worse, matched."""
    with pytest.raises(DocumentHeld, match="PO-1"):
        changed(p.order(number="PO-1"), p.order(number="PO-2"))
