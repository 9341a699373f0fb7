"""810: an invoice's values arrive as they are in Fusion, and what cannot be said exactly is not said."""

import datetime as dt
from decimal import Decimal

import pytest

from mlc_dagster.exports.layouts.crosswalk import Crosswalk
from mlc_dagster.exports.writing import Change, DocumentHeld
from mlc_dagster.exports.x12.writer import X12Writer
from mlc_dagster.fusion.records import Installment, Invoice, InvoiceDistribution
from mlc_dagster_tests.exports.x12 import partner as p


def held(sender: X12Writer, content: Invoice, change: Change = Change.NEW) -> DocumentHeld:
    with pytest.raises(DocumentHeld) as caught:
        sender.render(p.version(content, change), 1)
    return caught.value


def test_a_whole_invoice_is_what_a_guide_shows() -> None:
    """The order of segments is part of the format: a translator that expects N1 finds no REF there."""
    content = p.invoice(
        p.item(1),
        p.item(2, quantity="3", price="0.1"),
        p.amount_only("Tax", "10.31", 3, tax_classification="US SALES TAX", tax_rate=Decimal("8.25")),
        p.amount_only("Freight", "10", 4, description="Freight"),
        purchase_order="PO-7781",
        installments=(Installment(number=1, due_date=dt.date(2026, 12, 20)),),
    )
    sender = p.writer("invoices", dates=[{"qualifier": "003", "field": "invoice.invoice_date"}])
    made = sender.render(p.version(content), 12)
    assert made.body.decode().split("~") == [
        "ST*810*0012",
        "BIG*20261120*INV-10045**PO-7781***DI",
        "CUR*SE*USD",
        "N1*SE*Widget Supply Co*92*1252",
        "N1*BT*US1 Business Unit",
        "ITD******20261220******Net 30",
        "DTM*003*20261120",
        "IT1*1*10*EA*12.5**BP*WID-001",
        "PID*F****Widget, blue",
        "IT1*2*3*EA*0.1**BP*WID-002",
        "PID*F****Widget, blue",
        "TDS*14561",
        "TXI*TX*10.31*8.25",
        "SAC*C*D240***1000**********Freight",
        "CTT*2*13",
        "SE*16*0012",
        "",
    ]
    assert (made.rows, made.set_control, made.totals) == (16, "IN/0012", {"amount USD": Decimal("145.61")})


def test_no_segment_ends_in_an_empty_element() -> None:
    """CTT*2** is refused by strict readers."""
    sender = p.writer("invoices", hash_total="none")
    body = sender.render(p.version(p.invoice(p.item(item=None), payment_terms=None, supplier_number=None)), 1).body
    assert b"*~" not in body
    assert b"CTT*1~" in body


def test_quantity_unit_and_price_go_together_or_not_at_all() -> None:
    """P020304 of IT1: a line of an amount alone is a charge, never an IT1 with gaps."""
    segments = p.rendered(p.writer("invoices"), p.invoice(p.amount_only("Item", "55.5", 1, description="Consulting")))
    assert p.named(segments, "IT1") == []
    assert p.one(segments, "SAC") == ["SAC", "C", "ZZZZ", "", "", "5550", *[""] * 9, "Consulting"]
    assert p.one(segments, "CTT") == ["CTT", "0", "0"]


def test_amount_only_lines_may_be_one_unit_each() -> None:
    """Partners who post lines want a line, not a charge."""
    segments = p.rendered(p.writer("invoices", amount_only="one"), p.invoice(p.amount_only("Item", "-55.5", 1)))
    assert p.one(segments, "IT1") == ["IT1", "1", "-1", "EA", "55.5"]


def test_an_allowance_is_a_positive_amount_of_its_own_kind() -> None:
    """A minus in SAC05 beside C would be read as a charge by half of the world."""
    content = p.invoice(p.item(), p.amount_only("Miscellaneous", "-5", 2))
    assert p.one(p.rendered(p.writer("invoices"), content), "SAC")[1:6] == ["A", "ZZZZ", "", "", "500"]


def test_yen_have_two_implied_decimals_too() -> None:
    """N2 is N2 whatever the currency: 1000 yen written as 1000 would be ten."""
    content = p.invoice(p.item(quantity="1", price="1000"), currency="JPY")
    assert p.one(p.rendered(p.writer("invoices"), content), "TDS") == ["TDS", "100000"]


def test_three_decimals_hold_the_invoice() -> None:
    """A dinar amount has no exact place in TDS01; it is never rounded unasked."""
    error = held(p.writer("invoices"), p.invoice(p.item(quantity="1", price="1.234"), currency="KWD"))
    assert error.reason == "AMOUNT_SCALE"
    assert error.target == "TDS01 total"
    assert "1.234" in error.text


def test_three_decimals_may_go_exact_in_amt() -> None:
    """The option keeps the exact figure beside the rounded one, and counts that it did."""
    sender = p.writer("invoices", amount_scale="amt")
    content = p.invoice(p.item(quantity="1", price="1.235"), p.amount_only("Freight", "0.001", 2), currency="KWD")
    made = sender.render(p.version(content), 1)
    segments = p.split(made.body)
    assert p.one(segments, "TDS") == ["TDS", "124"]
    assert p.one(segments, "AMT") == ["AMT", "TT", "1.236"]
    assert made.counts["rounded_totals"] == 1
    assert p.named(segments, "IT1")[1] == ["IT1", "2", "1", "EA", "0.001"]


def test_lines_that_do_not_come_to_the_total_hold_the_invoice() -> None:
    """No grammar checks TDS against the lines; the partner's accountant would."""
    error = held(p.writer("invoices"), p.invoice(p.item(), amount=Decimal("125.01")))
    assert error.reason == "TOTALS"
    assert "125.01" in error.text


def test_a_line_whose_quantity_times_price_is_another_amount_holds_the_invoice() -> None:
    """The partner computes the line; it must find our amount."""
    assert held(p.writer("invoices"), p.invoice(p.item(amount=Decimal("125.02")))).reason == "TOTALS"


def test_a_price_of_many_decimals_is_checked_in_the_currencys_units() -> None:
    """Fusion rounds 3 × 33.333 to 100.00, and so does the partner."""
    content = p.invoice(p.item(quantity="3", price="33.333", amount=Decimal(100)))
    assert p.one(p.rendered(p.writer("invoices"), content), "TDS") == ["TDS", "10000"]


def test_ignored_line_types_are_no_part_of_the_arithmetic() -> None:
    """Applied prepayments stand among the lines and are not in the invoice amount."""
    content = p.invoice(p.item(), p.amount_only("Prepayment", "-20", 2), amount=Decimal(125))
    made = p.writer("invoices", ignored_line_types=["Prepayment"]).render(p.version(content), 1)
    assert made.counts == {"ignored_lines": 1}
    assert b"TDS*12500~" in made.body


@pytest.mark.parametrize(
    ("sign", "quantity", "total", "tax"), [("negative", "-2", "-1100", "-1"), ("positive", "2", "1100", "1")]
)
def test_a_credit_memo_has_the_sign_that_the_partner_wants(sign: str, quantity: str, total: str, tax: str) -> None:
    """Some take BIG07 for the sign, others for a comment: the wrong one doubles the payable."""
    memo = p.invoice(p.item(quantity="-2", price="5"), p.amount_only("Tax", "-1", 2), kind="Credit memo")
    segments = p.rendered(p.writer("invoices", credit_sign=sign), memo)
    assert p.one(segments, "BIG")[7] == "CR"
    assert p.one(segments, "IT1")[2:5] == [quantity, "EA", "5"]
    assert p.one(segments, "TDS")[1] == total
    assert p.one(segments, "TXI")[2] == tax


def test_a_negative_price_puts_its_sign_on_the_quantity() -> None:
    """Unit prices are positive by custom."""
    memo = p.invoice(p.item(quantity="2", price="-5"), kind="Credit memo")
    assert p.one(p.rendered(p.writer("invoices"), memo), "IT1")[2:5] == ["-2", "EA", "5"]


def test_a_negative_standard_invoice_never_looks_positive() -> None:
    """Without a memo's code nothing would say that it is a credit."""
    content = p.invoice(p.item(quantity="-2", price="5"))
    assert held(p.writer("invoices", credit_sign="positive"), content).reason == "SIGN"


def test_a_changed_invoice_replaces_and_a_canceled_one_waits() -> None:
    """BIG08 05, else the partner has it twice; a cancellation is for people to tell unless agreed."""
    assert p.one(p.rendered(p.writer("invoices"), p.invoice(), Change.CHANGE), "BIG")[8] == "05"
    assert held(p.writer("invoices"), p.invoice(), Change.CANCEL).reason == "CANCELED"
    segments = p.rendered(p.writer("invoices", on_cancel="send"), p.invoice(), Change.CANCEL)
    assert p.one(segments, "BIG")[8] == "01"


def test_a_number_that_is_too_long_holds_the_invoice() -> None:
    """BIG02 takes 22 characters, Fusion 50; a cut number would be another invoice's."""
    error = held(p.writer("invoices"), p.invoice(number="A" * 23))
    assert (error.reason, error.field, error.target) == ("KEY_TOO_LONG", "invoice.number", "BIG02 number")


@pytest.mark.parametrize(("standard", "pieces"), [("004010", ["A" * 30, "A" * 15]), ("005010", ["A" * 45])])
def test_a_number_that_is_too_long_may_go_to_a_reference(standard: str, pieces: list[str]) -> None:
    """Whole, in REF, with a stand-in that stays the same from version to version and differs from number to number."""
    sender = p.writer("invoices", key_too_long="ref", standard=standard)
    segments = p.rendered(sender, p.invoice(number="A" * 45))
    assert [found[2] for found in p.named(segments, "REF")] == pieces
    assert p.named(segments, "REF")[0][3].startswith("BIG02")
    stand_in = p.one(segments, "BIG")[2]
    assert len(stand_in) <= 22
    assert p.one(p.rendered(sender, p.invoice(number="A" * 45)), "BIG")[2] == stand_in
    assert p.one(p.rendered(sender, p.invoice(number="A" * 46)), "BIG")[2] != stand_in


def test_an_unknown_unit_holds_the_invoice() -> None:
    """A unit that the partner reads differently changes the quantity."""
    error = held(p.writer("invoices"), p.invoice(p.item(uom="Furlong")))
    assert error.reason == "CODE_UNKNOWN"
    assert "Furlong" in error.text
    assert "units" in error.text


def test_without_a_crosswalk_fusions_unit_must_be_a_code() -> None:
    """Each is no X12 unit; writing it would break the element."""
    assert held(p.writer("invoices", codes=()), p.invoice()).reason == "CODE_UNKNOWN"


def test_terms_and_tax_go_through_their_crosswalks() -> None:
    """The partner's codes, with Fusion's words beside them."""
    codes = (
        p.UNITS,
        Crosswalk("terms", {"Net 30": "05/3/30"}),
        Crosswalk("tax", {"US SALES TAX": "ST"}),
        Crosswalk("charges", {"Freight": "D500"}),
    )
    content = p.invoice(
        p.item(),
        p.amount_only("Tax", "1", 2, tax_classification="US SALES TAX"),
        p.amount_only("Freight", "2", 3),
    )
    segments = p.rendered(p.writer("invoices", codes=codes), content)
    assert p.one(segments, "ITD") == ["ITD", "05", "3", "", "", "", "", "30", "", "", "", "", "Net 30"]
    assert p.one(segments, "TXI")[1] == "ST"
    assert p.one(segments, "SAC")[2] == "D500"


def test_elements_and_references_can_be_named_by_the_layout() -> None:
    """Every partner's guide has one element more."""
    sender = p.writer(
        "invoices",
        elements={"BIG.release_number": "invoice.source", "IT1.basis": {"constant": "PE"}},
        references=[
            {"qualifier": "VR", "field": "invoice.supplier_number", "description": "SUPPLIER"},
            {"qualifier": "CO", "field": "line.purchase_order_line"},
            {"qualifier": "DP", "constant": "042"},
        ],
    )
    segments = p.rendered(sender, p.invoice(p.item(purchase_order_line="7"), source="Stampli"))
    assert p.one(segments, "BIG")[5] == "Stampli"
    assert p.one(segments, "IT1")[5] == "PE"
    assert p.named(segments, "REF") == [["REF", "VR", "1252", "SUPPLIER"], ["REF", "DP", "042"], ["REF", "CO", "7"]]


def test_line_accounts_go_segment_by_segment() -> None:
    """Whoever posts the invoice needs the account as parts, not as text."""
    line = p.item(distributions=(InvoiceDistribution(number=1, combination="101-20-63100"),))
    segments = p.rendered(p.writer("invoices", accounts="segments", segment_codes={"account": "11"}), p.invoice(line))
    assert p.named(segments, "FA2") == [["FA2", "ZZ", "101"], ["FA2", "ZZ", "20"], ["FA2", "11", "63100"]]


@pytest.mark.parametrize(("standard", "fits"), [("004010", False), ("005010", True)])
def test_a_quantity_of_eleven_digits_fits_005010_only(standard: str, fits: bool) -> None:
    """IT102 has ten digits in 004010 and fifteen in 005010."""
    content = p.invoice(p.item(quantity="12345678901", price="1"))
    sender = p.writer("invoices", standard=standard)
    if fits:
        assert p.one(p.rendered(sender, content), "IT1")[2] == "12345678901"
    else:
        assert held(sender, content).reason == "OVERFLOW"


def test_numbers_beyond_exact_arithmetic_hold_the_invoice() -> None:
    """Nothing may be rounded on the way to a check, and one such record must not end the run of all others."""
    assert held(p.writer("invoices"), p.invoice(p.item(quantity="1" * 50, price="3" * 50))).reason == "OVERFLOW"


def test_an_invoice_without_its_date_waits_and_says_which_field() -> None:
    """A mandatory element that is empty gets the whole file rejected."""
    error = held(p.writer("invoices"), p.invoice(invoice_date=None))
    assert (error.reason, error.field, error.target) == ("FIELD_MISSING", "invoice.invoice_date", "BIG01 issued")


def test_a_held_invoice_leaves_nothing_behind() -> None:
    """Counts and moved keys of one document must not appear in the next."""
    sender = p.writer("invoices", key_too_long="ref")
    held(sender, p.invoice(number="B" * 40, amount=Decimal(1)))
    made = sender.render(p.version(p.invoice()), 1)
    assert made.counts == {}
    assert p.named(p.split(made.body), "REF") == []


def test_an_element_of_the_layout_without_its_partner_holds_the_line() -> None:
    """Rules between elements hold for what a layout adds, too: an id needs its qualifier."""
    error = held(
        p.writer("invoices", elements={"IT1.id_3": "line.purchase_order_line"}),
        p.invoice(p.item(purchase_order_line="7")),
    )
    assert error.reason == "ELEMENTS_DISAGREE"
    assert "P1011" in error.text
