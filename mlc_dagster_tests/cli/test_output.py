"""How amounts and times look, and that a JSON document never holds money as a float."""

import datetime as dt
import json
from decimal import Decimal

import pytest

from mlc_dagster.cli.output import age, minor_money, money, print_json, totals_text

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("minor", "currency", "shown"),
    [
        (108250, "USD", "1,082.50 USD"),
        (140800, "JPY", "140,800 JPY"),
        (12345, "KWD", "12.345 KWD"),
        (-5, "EUR", "-0.05 EUR"),
    ],
)
def test_amounts_have_the_decimals_of_their_currency(minor: int, currency: str, shown: str) -> None:
    """A yen amount with two decimals is a hundredth of what it says."""
    assert minor_money(minor, currency) == shown


def test_an_amount_that_could_not_be_read_is_shown_as_it_came() -> None:
    """The person who corrects it must see what stands in the file."""
    assert minor_money(None, "USD", "12,5O") == "12,5O USD"


def test_totals_are_not_added_over_currencies() -> None:
    """One number over two currencies is wrong in both."""
    assert totals_text({"USD": Decimal("2.50"), "EUR": Decimal("1.00")}) == "1.00 EUR, 2.50 USD"


def test_large_amounts_keep_every_digit() -> None:
    """Above 2^53 a float would round; a report that does so disagrees with the books."""
    assert money(Decimal("90071992547409.93"), "USD") == "90,071,992,547,409.93 USD"


def test_json_carries_money_as_exact_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A JSON number would be read as a float by the next program."""
    print_json({"amount": Decimal("1E+3"), "at": NOW})
    assert json.loads(capsys.readouterr().out) == {"amount": "1000", "at": "2026-11-21T12:00:00Z"}


@pytest.mark.parametrize(
    ("ago", "shown"),
    [({"days": 3}, "3 d"), ({"hours": 5}, "5 h"), ({"minutes": 12}, "12 min"), ({"seconds": -5}, "0 min")],
)
def test_age_in_the_unit_people_use(ago: dict[str, int], shown: str) -> None:
    """Exceptions are worked by age."""
    assert age(NOW - dt.timedelta(**ago), NOW) == shown
