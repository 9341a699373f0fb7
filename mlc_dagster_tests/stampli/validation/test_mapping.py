"""Mapping: the right supplier, site, accounts, date and rate, or every reason why not."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from mlc_dagster.stampli.crosswalks import Target
from mlc_dagster.stampli.validation.mapping import Needed, needed
from mlc_dagster_tests.stampli.builders_mapping import (
    KEY,
    TODAY,
    FakeCombination,
    FakePeriod,
    FakeReferences,
    FakeSupplier,
    chart,
    company,
    crosswalks,
    invoice,
    line,
    mapped,
    outcome,
    parked,
)


def test_an_invoice_in_order_is_mapped() -> None:
    """Everything that Fusion is told, in its own words."""
    result = mapped(invoice(line(1), line(2, "8.25", line_type="TAX"), description="Filters"))
    assert result.header == {
        "InvoiceNumber": "INV-00417",
        "InvoiceCurrency": "USD",
        "InvoiceAmount": Decimal("108.25"),
        "InvoiceDate": dt.date(2026, 10, 28),
        "BusinessUnit": "US1 Business Unit",
        "Supplier": "ACME Inc",
        "SupplierNumber": "30012",
        "SupplierSite": "HQ",
        "InvoiceType": "Standard",
        "InvoiceSource": "Stampli",
        "LegalEntity": "US1 Legal Entity",
        "AccountingDate": dt.date(2026, 10, 28),
        "Description": "Filters",
        "InvoiceReceivedDate": None,
        "PaymentTerms": None,
        "PaymentMethod": None,
        "PayGroup": None,
    }
    assert [each["LineType"] for each in result.lines] == ["Item", "Tax"]
    assert result.lines[0]["DistributionCombination"] == "101-4410-61200-000-000-000"
    assert result.lines[0]["Description"] == "Filters"
    assert result.supplier_id == 300000047507499
    assert result.fusion_number == "INV-00417"
    assert result.warnings == ()


@pytest.mark.parametrize(
    ("kind", "word"), [("CREDIT_MEMO", "Credit memo"), ("DEBIT_MEMO", "Debit memo"), ("STANDARD", "Standard")]
)
def test_invoice_types_in_fusions_words(kind: str, word: str) -> None:
    """Fusion takes display words, not codes."""
    assert mapped(invoice(line(amount="-1.00"), invoice_type=kind)).header["InvoiceType"] == word


# -- date, period


@pytest.mark.parametrize(
    ("rule", "posting", "expected"),
    [
        ("invoice_date", dt.date(2026, 10, 31), dt.date(2026, 10, 28)),
        ("posting_date", dt.date(2026, 10, 31), dt.date(2026, 10, 31)),
        ("posting_date_or_invoice_date", None, dt.date(2026, 10, 28)),
        ("posting_date_or_invoice_date", dt.date(2026, 10, 31), dt.date(2026, 10, 31)),
        ("today", None, TODAY),
    ],
)
def test_the_accounting_date_follows_the_companys_rule(rule: str, posting: dt.date | None, expected: dt.date) -> None:
    """It decides the period and cannot be changed after creation."""
    references = FakeReferences()
    result = mapped(invoice(posting_date=posting), references, accounting_date=rule)
    assert result.header["AccountingDate"] == result.accounting_date == expected
    assert ("ap_period", "US Primary Ledger", expected) in references.asked
    assert ("gl_period", "US Primary Ledger", expected) in references.asked


def test_a_missing_posting_date_parks_under_its_rule() -> None:
    """No other date is taken in its place."""
    assert parked(accounting_date="posting_date") == ["FIELD_MISSING"]


@pytest.mark.parametrize(
    ("ap", "gl", "expected"),
    [
        (FakePeriod(status="C"), FakePeriod(), ["PERIOD_CLOSED"]),
        (FakePeriod(), FakePeriod(status="C"), ["PERIOD_CLOSED"]),
        (FakePeriod(status="C"), FakePeriod(status="P"), ["PERIOD_CLOSED", "PERIOD_CLOSED"]),
        (FakePeriod(status="F"), FakePeriod(), ["PERIOD_FUTURE"]),
        (FakePeriod(status="W"), FakePeriod(), ["PERIOD_CLOSED"]),
        (FakePeriod(status="N"), FakePeriod(), ["PERIOD_CLOSED"]),
        (FakePeriod(status="N", start=TODAY + dt.timedelta(30)), FakePeriod(), ["PERIOD_FUTURE"]),
        (None, FakePeriod(), ["PERIOD_CLOSED"]),
    ],
)
def test_both_periods_must_be_open(ap: FakePeriod | None, gl: FakePeriod | None, expected: list[str]) -> None:
    """An invoice in an open payables period and a closed ledger cannot be accounted."""
    assert parked(references=FakeReferences(ap=ap, gl=gl)) == expected


# -- currency


def test_an_invoice_in_the_ledgers_currency_has_no_rate() -> None:
    """Whatever rate columns the export carries."""
    assert "ConversionRateType" not in mapped(invoice(exchange_rate_type="Corporate")).header


def test_a_foreign_currency_needs_a_rate_type() -> None:
    """Fusion would put the invoice on hold."""
    assert parked(invoice(currency="EUR")) == ["RATE_MISSING"]


def test_the_companys_rate_type_serves_where_the_file_has_none() -> None:
    """The conversion date is the rate's own or the invoice date."""
    header = mapped(invoice(currency="EUR"), conversion_rate_type="Corporate").header
    assert (header["ConversionRateType"], header["ConversionDate"]) == ("Corporate", dt.date(2026, 10, 28))
    assert "ConversionRate" not in header


def test_a_user_rate_needs_its_value() -> None:
    """It is the one type that Fusion does not look up."""
    assert parked(invoice(currency="EUR", exchange_rate_type="User")) == ["RATE_MISSING"]
    given = invoice(currency="EUR", exchange_rate_type="User", exchange_rate=Decimal("1.0835"))
    assert mapped(given).header["ConversionRate"] == Decimal("1.0835")


def test_a_rate_that_is_not_used_is_told() -> None:
    """Somebody thought it would count."""
    given = invoice(currency="EUR", exchange_rate_type="Corporate", exchange_rate=Decimal("1.08"))
    assert [warning.reason for warning in mapped(given).warnings] == ["RATE_IGNORED"]


# -- tax, rounding, memos


def test_tax_as_an_item_line() -> None:
    """Where tax is cost."""
    given = invoice(line(1), line(2, "8.25", line_type="TAX", tax_code="CA"))
    result = mapped(given, tax_mode="item_line")
    assert [each["LineType"] for each in result.lines] == ["Item", "Item"]
    assert result.lines[1]["TaxClassification"] is None


def test_tax_codes_go_to_fusion_only_where_fusion_calculates() -> None:
    """With a tax line beside it, the code would tax the invoice twice."""
    given = invoice(line(tax_code="CA-8.25"))
    assert mapped(given, tax_mode="fusion_calculates").lines[0]["TaxClassification"] == "CA-8.25"
    assert mapped(given, tax_mode="tax_line").lines[0]["TaxClassification"] is None


def test_a_difference_within_the_tolerance_gets_a_rounding_line() -> None:
    """Lines and header must agree to the cent in Fusion."""
    rounding = ("101", "0000", "79999", "000", "000", "000")
    references = FakeReferences(combinations={KEY: FakeCombination(), rounding: FakeCombination()})
    result = mapped(invoice(line(7), amount="99.98"), references, tolerance="0.02", rounding_account="-".join(rounding))
    assert result.lines[1] == {
        "LineNumber": 8,
        "LineType": "Miscellaneous",
        "LineAmount": Decimal("-0.02"),
        "Description": "Rounding",
        "DistributionCombination": "-".join(rounding),
    }


def test_no_difference_needs_no_rounding_line() -> None:
    """A line of zero is noise."""
    assert len(mapped(tolerance="0.02", rounding_account="-".join(KEY)).lines) == 1


def test_a_memo_with_its_invoices_number_is_held_or_suffixed() -> None:
    """Fusion takes a number once per supplier."""
    memo = invoice(line(amount="-1.00"), invoice_type="CREDIT_MEMO")
    assert parked(memo, number_reused=True) == ["MEMO_NUMBER_REUSED"]
    result = mapped(memo, number_reused=True, memo_suffix="-CM")
    assert result.fusion_number == result.header["InvoiceNumber"] == "INV-00417-CM"
    assert mapped(memo, memo_suffix="-CM").fusion_number == "INV-00417"


def test_every_problem_is_reported() -> None:
    """One round trip to the people who cure it."""
    references = FakeReferences(suppliers={}, combinations={}, ap=None, gl=FakePeriod(status="C"))
    given = invoice(line(1), line(2, dimensions={}), currency="EUR")
    assert parked(given, references) == [
        "VENDOR_UNKNOWN",
        "PERIOD_CLOSED",
        "PERIOD_CLOSED",
        "RATE_MISSING",
        "ACCOUNT_INVALID",
        "COST_CENTER_MISSING",
    ]


def test_amortisation_dates_go_to_fusion() -> None:
    """Without them a year's cost would be booked in one month."""
    given = invoice(line(amort_start=dt.date(2026, 1, 1), amort_end=dt.date(2026, 12, 31)))
    assert mapped(given).lines[0]["MultiperiodAccountingStartDate"] == dt.date(2026, 1, 1)


# -- needed


def test_what_is_asked_was_announced() -> None:
    """Reference data is read in bulk before; a question nobody announced would be answered with "not there"."""
    references = FakeReferences(suppliers={"1287": FakeSupplier(number="1287")}, combinations={})
    tables = crosswalks(vendors={"30012": Target("1287")}, accounts={"61200": "60540"}, cost_centers={"4410": "120"})
    given = invoice(line(1), line(2, gl_account="-".join(KEY)), line(3, amort_account="15000"))
    charted = {"cost_center_value_set": "CC"}
    settings: dict[str, Any] = {"tolerance": "1", "rounding_account": "-".join(KEY)}
    announced = needed(given, company(**settings), chart(**charted), tables)
    outcome(given, references, tables=tables, charted=charted, **settings)
    assert {asked[1] for asked in references.asked if asked[0] == "supplier"} == announced.supplier_numbers
    assert {asked[2][2] for asked in references.asked if asked[0] == "combination"} <= announced.accounts
    assert {asked[2] for asked in references.asked if asked[0] == "cost_center"} <= announced.cost_centers
    assert announced.accounts == {"60540", "61200", "15000"}


def test_needs_unite() -> None:
    """One bulk read serves a whole batch."""
    one = Needed(frozenset({"1"}), frozenset({"a"}), frozenset())
    other = Needed(frozenset({"2"}), frozenset({"a"}), frozenset({"c"}))
    assert one | other == Needed(frozenset({"1", "2"}), frozenset({"a"}), frozenset({"c"}))
    assert (one | other) | one == one | other
