"""Money arithmetic: minor units per currency, sums that never round."""

from decimal import Decimal, Inexact

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.money import decimals, difference, minor_units, shown, to_minor, total


@pytest.mark.parametrize(
    ("currency", "units"), [("USD", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4), ("usd", None), ("X", None)]
)
def test_minor_units_are_those_of_iso_4217(currency: str, units: int | None) -> None:
    """A yen has no cents and a dinar has a thousand fils."""
    assert minor_units(currency) == units


@given(st.integers(-(10**30), 10**30), st.integers(0, 4))
def test_minor_units_are_exact(minor: int, exponent: int) -> None:
    """The ledger holds integers; no digit may be lost on the way."""
    assert (
        to_minor(Decimal(minor).scaleb(-exponent) if abs(minor) < 10**28 else Decimal(f"{minor}e-{exponent}"), exponent)
        == minor
    )


def test_excess_decimals_have_no_minor_units() -> None:
    """Rounding is not this function's decision."""
    with pytest.raises(ValueError, match="decimals"):
        to_minor(Decimal("1.005"), 2)


def test_sums_keep_every_digit() -> None:
    """Decimal's usual context would round at 28 digits."""
    large = Decimal("9999999999999999999999999999.99")
    assert total([large, large, Decimal("0.01")]) == Decimal("19999999999999999999999999999.99")
    assert difference(large, Decimal("0.01")) == Decimal("9999999999999999999999999999.98")


def test_a_sum_that_would_round_raises() -> None:
    """Better an error than a wrong cent."""
    with pytest.raises(Inexact):
        total([Decimal(10) ** 79, Decimal("0.01")])


@pytest.mark.parametrize(("amount", "expected"), [("1.50", 2), ("1", 0), ("1E+2", 0), ("0.000", 3)])
def test_decimals_as_written(amount: str, expected: int) -> None:
    """The scale of the text is what is checked."""
    assert decimals(Decimal(amount)) == expected


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("10.5", "USD", "10.50"), ("10", "USD", "10.00"), ("10", "JPY", "10"), ("1E+2", "KWD", "100.000"),
        ("10.125", "USD", "10.125"), ("-5", "EUR", "-5.00"), ("7.5", "STAT", "7.5"), ("NaN", "USD", "NaN"),
    ],
)  # fmt: skip
def test_amounts_are_shown_with_the_decimals_of_their_currency(amount: str, currency: str, text: str) -> None:
    """10.5 USD in a message looks like something is missing; nothing is ever cut."""
    assert shown(Decimal(amount), currency) == text
