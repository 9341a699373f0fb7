"""``stampli:``, the companies and how their invoices are booked."""

from decimal import Decimal

import pytest

from mlc_dagster_tests.settings.configuration import problems, settings


def test_company_names_a_chart_that_exists() -> None:
    """Otherwise its first invoice would find out."""
    assert problems({"stampli.companies.C100.chart": "UK1"}) == [
        "stampli.companies.C100.chart: 'UK1' is not under fusion.charts"
    ]


def test_company_names_a_ledger_of_its_chart() -> None:
    """A ledger of another chart has other segments: every combination would be unknown."""
    [problem] = problems({"stampli.companies.C100.ledger": "UK Ledger"})
    assert "'UK Ledger' is not among the ledgers of chart 'US1': ['US Primary Ledger']" in problem


@pytest.mark.parametrize("zone", ["Mars", "", "../etc/passwd", "denver"])
def test_time_zone_is_one_of_the_database(zone: str) -> None:
    """The accounting date of "today" is a day of the company, not of the server."""
    [problem] = problems({"stampli.companies.C100.time_zone": zone})
    assert "is not a time zone of the IANA database, such as America/Denver" in problem


def test_tolerance_is_exact() -> None:
    """0.01 as a binary float is not a cent."""
    read = settings({"stampli.companies.C100.tolerance": 0.01, "stampli.companies.C100.rounding_account": "7999"})
    assert read.stampli is not None
    assert read.stampli.companies["C100"].tolerance == Decimal("0.01")


def test_tolerance_needs_an_account_for_the_difference() -> None:
    """A difference that is booked nowhere makes the invoice fail in Fusion."""
    [problem] = problems({"stampli.companies.C100.tolerance": 0.01})
    assert "needs rounding_account" in problem


def test_negative_tolerance_is_refused() -> None:
    """It would park every invoice."""
    [problem] = problems({"stampli.companies.C100.tolerance": -1})
    assert "-1 must not be negative" in problem
