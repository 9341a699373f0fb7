"""Checks without reference data: each rule finds its fault, names the values, and leaves good invoices alone."""

import datetime as dt
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc_dagster.stampli import checks
from mlc_dagster.stampli.checks import all_problems, check_invoice, warn_about
from mlc_dagster.stampli.model import Invoice, InvoiceLine
from mlc_dagster_tests.stampli.builders_mapping import company, invoice, line


def found(given: Invoice, **settings: Any) -> list[tuple[str, str | None]]:
    return [(problem.reason, problem.field) for problem in check_invoice(given, company(**settings))]


def test_a_good_invoice_passes() -> None:
    """A check that cries wolf is switched off."""
    assert found(invoice(line(1), line(2, "-5.00"), line(3, "0.00"))) == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"status": "DRAFT"}, "status"), ({"approved_by": None}, "approved_by"), ({"approved_at": None}, "approved_at")],
)
def test_only_approved_invoices_pass(changes: dict[str, Any], field: str) -> None:
    """Approval is the control that allows posting at all; who and when are its evidence."""
    assert found(invoice(**changes)) == [("NOT_APPROVED", field)]


def test_a_void_invoice_is_not_judged() -> None:
    """Nothing of it is posted; its amounts may be anything."""
    assert found(invoice(status="VOID", amount="7.00", approved_at=None)) == []


def test_header_and_lines_must_add_up_and_all_three_numbers_are_told() -> None:
    """Fusion would take the invoice and put it on hold after the fact."""
    (problem,) = check_invoice(invoice(line(amount="99.99"), amount="100.00"), company())
    assert problem.reason == "AMOUNT_MISMATCH"
    assert problem.value == "100.00, lines 99.99, difference 0.01"


def test_a_difference_within_the_tolerance_passes_and_one_beyond_does_not() -> None:
    """The bound is inclusive, in both directions."""
    settings = {"tolerance": "0.02", "rounding_account": "101-0000-79999-000-000-000"}
    assert found(invoice(amount="100.02"), **settings) == []
    assert found(invoice(amount="99.98"), **settings) == []
    assert found(invoice(amount="100.03"), **settings) == [("AMOUNT_MISMATCH", "invoice_amount")]


def test_very_large_amounts_are_added_exactly() -> None:
    """Neither floats nor Decimal's usual 28 digits may hide a cent."""
    lines = [line(n, "9999999999999999999999999.99") for n in range(1, 10)]
    assert found(invoice(*lines, amount="89999999999999999999999999.92")) == [("AMOUNT_MISMATCH", "invoice_amount")]
    assert found(invoice(*lines, amount="89999999999999999999999999.91")) == []


@pytest.mark.parametrize("kind", ["CREDIT_MEMO", "DEBIT_MEMO"])
def test_memos_are_negative(kind: str) -> None:
    """A credit memo with the wrong sign pays the supplier a second time."""
    assert found(invoice(line(amount="-100.00"), invoice_type=kind)) == []
    assert found(invoice(line(amount="100.00"), invoice_type=kind)) == [
        ("MEMO_SIGN", "invoice_amount"),
        ("MEMO_SIGN", "line_amount of line 1"),
    ]
    mixed = invoice(line(1, "-100.00"), line(2, "10.00"), invoice_type=kind)
    assert found(mixed) == [("MEMO_SIGN", "line_amount of line 2")]


def test_a_negative_standard_invoice_is_refused() -> None:
    """It is a credit memo that lost its type."""
    assert found(invoice(line(amount="-1.00"))) == [("MEMO_SIGN", "invoice_amount")]


def test_line_numbers_are_unique() -> None:
    """Lines are matched by number when Fusion is read back."""
    assert found(invoice(line(1), line(1), line(1), line(2))) == [("LINE_DUPLICATE", "line_number")]


def test_prepayments_need_the_companys_consent() -> None:
    """They are booked to other accounts and applied later."""
    assert found(invoice(invoice_type="PREPAYMENT")) == [("PREPAYMENT_NOT_ALLOWED", "invoice_type")]
    assert found(invoice(invoice_type="PREPAYMENT"), prepayments=True) == []


@pytest.mark.parametrize("field", ["po_number", "po_line", "po_schedule", "receipt_number"])
def test_purchase_order_lines_are_parked(field: str) -> None:
    """Posted as an expense, a matched line doubles the cost of the receipt."""
    matched: dict[str, Any] = {field: "4711"}
    assert found(invoice(line(**matched))) == [("PO_NOT_SUPPORTED", f"{field} of line 1")]


def test_a_line_needs_an_account() -> None:
    """Unless a purchase order gives it one."""
    assert found(invoice(line(gl_account=None))) == [("FIELD_MISSING", "gl_account of line 1")]


def test_currencies_are_iso_codes() -> None:
    """Fusion knows them by these codes."""
    assert found(invoice(currency="usd")) == [("CURRENCY_INVALID", "currency")]


@pytest.mark.parametrize(("currency", "amount"), [("USD", "1.005"), ("JPY", "1.5"), ("KWD", "1.0005")])
def test_amounts_with_excess_decimals_park(currency: str, amount: str) -> None:
    """Checked again here: an invoice may come from another reader than the CSV one."""
    assert {reason for reason, _ in found(invoice(line(amount=amount), currency=currency))} == {"FIELD_INVALID"}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (invoice(number="9" * 51), "invoice_number"),
        (invoice(description="x" * 241), "description"),
        (invoice(line(description="x" * 241)), "line_description of line 1"),
    ],
)
def test_texts_longer_than_fusion_takes_park(given: Invoice, field: str) -> None:
    """Fusion refuses them; a number that is cut off would be another number."""
    assert found(given) == [("LENGTH", field)]


def test_texts_of_exactly_the_length_pass() -> None:
    """50 and 240 characters are allowed."""
    assert found(invoice(line(description="x" * 240), number="9" * 50, description="x" * 240)) == []


def test_fusion_calculates_refuses_tax_lines() -> None:
    """Fusion would add the same tax a second time."""
    lines = (line(1), line(2, "8.25", line_type="TAX"))
    assert found(invoice(*lines), tax_mode="fusion_calculates") == [("TAX_CONFLICT", "line_type")]


def test_fusion_calculates_counts_the_stated_tax() -> None:
    """The invoice amount is with tax, the lines are without."""
    given = invoice(line(amount="100.00"), amount="108.25", tax_amount=Decimal("8.25"))
    assert found(given, tax_mode="fusion_calculates") == []
    assert found(given, tax_mode="tax_line") == [("TAX_CONFLICT", "tax_amount"), ("AMOUNT_MISMATCH", "invoice_amount")]


@pytest.mark.parametrize("mode", ["tax_line", "item_line"])
def test_stated_tax_and_tax_lines_agree(mode: str) -> None:
    """The header's tax is a control total of the tax lines."""
    lines = (line(1), line(2, "8.25", line_type="TAX"))
    assert found(invoice(*lines, tax_amount=Decimal("8.25")), tax_mode=mode) == []
    assert found(invoice(*lines, tax_amount=Decimal("8.24")), tax_mode=mode) == [("TAX_CONFLICT", "tax_amount")]


def test_stated_freight_and_freight_lines_agree() -> None:
    """The header's freight is a control total too."""
    lines = (line(1), line(2, "5.00", line_type="FREIGHT"))
    assert found(invoice(*lines, freight_amount=Decimal("5.00"))) == []
    assert found(invoice(*lines, freight_amount=Decimal("6.00"))) == [("AMOUNT_MISMATCH", "freight_amount")]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\\..\\b.pdf", "C:\\x.pdf", "~/x.pdf"])
def test_documents_outside_the_folder_are_refused(name: str) -> None:
    """The document is fetched from the server by this path."""
    assert found(invoice(document_file=name)) == [("FIELD_INVALID", "document_file")]


def test_documents_in_the_folder_pass() -> None:
    """Also in a folder of their own."""
    assert found(invoice(document_file="2026/88121.pdf")) == []


def test_all_problems_are_reported() -> None:
    """People correct an invoice once."""
    given = invoice(line(1, po_number="1"), line(1, description="x" * 241), approved_by=None, amount="1.00")
    reasons = {reason for reason, _ in found(given)}
    assert reasons == {"NOT_APPROVED", "LENGTH", "LINE_DUPLICATE", "PO_NOT_SUPPORTED", "AMOUNT_MISMATCH"}


_CENTS = st.integers(-3, 3).map(lambda cents: Decimal(cents).scaleb(-2))
_AMOUNTS = _CENTS | st.sampled_from([Decimal(1), Decimal("1E+2"), Decimal("0.001"), Decimal("1.0")])
_LINES = st.builds(
    line,
    number=st.sampled_from([1, 2, 3, 0]),
    amount=_AMOUNTS.map(str),
    line_type=st.sampled_from(["ITEM", "ITEM", "ITEM", "MISC", "TAX", "FREIGHT", "item"]),
    description=st.sampled_from([None, "Filters", "x" * 240, "x" * 241]),
    gl_account=st.sampled_from(["61200", "61200", None]),
    po_number=st.sampled_from([None, None, None, "PO"]),
    po_line=st.sampled_from([None, None, None, "1"]),
    po_schedule=st.sampled_from([None, None, None, "1"]),
    receipt_number=st.sampled_from([None, None, None, "R"]),
    amort_start=st.sampled_from([None, None, None, dt.date(2026, 1, 1)]),
    amort_end=st.sampled_from([None, None, None, dt.date(2025, 1, 1), dt.date(2026, 12, 31)]),
)


@settings(max_examples=500)
@given(
    lines=st.lists(_LINES, max_size=3),
    amount=st.none() | _AMOUNTS.map(str),
    changes=st.fixed_dictionaries({}, optional={
        "invoice_type": st.sampled_from(["STANDARD", "CREDIT_MEMO", "DEBIT_MEMO", "PREPAYMENT", "OTHER"]),
        "status": st.sampled_from(["APPROVED", "HELD"]),
        "approved_by": st.none(),
        "approved_at": st.none(),
        "currency": st.sampled_from(["USD", "JPY", "KWD", "XXX"]),
        "number": st.sampled_from([" ", "x" * 50, "x" * 51]),
        "description": st.sampled_from([None, "x" * 240, "x" * 241]),
        "tax_amount": _AMOUNTS,
        "freight_amount": _AMOUNTS,
        "document_file": st.sampled_from(["a.pdf", "../a.pdf", "/a.pdf"]),
    }),
    company_says=st.sampled_from([{}, {"tax_mode": "fusion_calculates"}, {"tax_mode": "item_line"},
                                  {"tolerance": "0.02", "rounding_account": "101-0000-79999-000-000-000"}]),
)  # fmt: skip
def test_the_first_look_lets_nothing_pass_that_a_rule_refuses(
    lines: list[InvoiceLine], amount: str | None, changes: dict[str, Any], company_says: dict[str, Any]
) -> None:
    """Most invoices are passed by one look; it must never be kinder than the rules."""
    given_invoice = msgspec.structs.replace(invoice(amount=amount, **changes), lines=tuple(lines))
    if amount is None:
        total = sum((each.amount for each in lines), Decimal("0.00"))
        given_invoice = msgspec.structs.replace(given_invoice, amount=total)
    settings = company(**company_says)
    assert check_invoice(given_invoice, settings) == all_problems(given_invoice, settings)


@pytest.mark.parametrize("changes", [{}, {"tax_amount": Decimal("5.00")}, {"document_file": "88121.pdf"}])
def test_one_look_is_enough_for_a_good_invoice(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    """All rules one by one take three times as long; nobody would notice in the result."""
    monkeypatch.setattr(checks, "all_problems", None)
    tax = line(2, "5.00", line_type="TAX")
    assert check_invoice(invoice(line(1), tax, **changes), company()) == []
    memo = invoice(line(amount="-100.00"), invoice_type="CREDIT_MEMO")
    assert check_invoice(memo, company()) == []


def test_quantity_times_price_is_only_told() -> None:
    """Discounts and rounding are real; the line amount is what was approved."""
    given = invoice(line(amount="100.00", quantity=Decimal(3), unit_price=Decimal("33.30")))
    assert found(given) == []
    assert [warning.reason for warning in warn_about(given)] == ["QUANTITY_DIFFERS"]


def test_half_a_cent_of_rounding_is_not_told() -> None:
    """3 × 33.335 is 100.005."""
    given = invoice(line(amount="100.00", quantity=Decimal(3), unit_price=Decimal("33.335")))
    assert warn_about(given) == []


def test_half_an_amortisation_is_refused() -> None:
    """With one date missing the cost would be booked at once."""
    assert found(invoice(line(amort_start=dt.date(2026, 1, 1)))) == [("FIELD_MISSING", "amort_end of line 1")]
