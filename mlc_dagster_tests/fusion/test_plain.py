"""The one spelling of a decimal: equal numbers are spelled alike, and no digit is ever lost."""

from decimal import ROUND_DOWN, Context, Decimal, Inexact, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.fusion.canonical import plain

numbers = st.builds(
    lambda sign, digits, exponent: Decimal((sign, digits, exponent)),
    st.integers(0, 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=60).map(tuple),
    st.integers(-80, 20),
)


@given(numbers)
def test_no_digit_is_lost(number: Decimal) -> None:
    """A rate of forty digits is forty digits at the partner's too; Decimal's own way rounds at 28."""
    assert Fraction(plain(number)) == Fraction(number)


@given(numbers, st.integers(0, 30))
def test_trailing_zeros_make_no_difference(number: Decimal, zeros: int) -> None:
    """Fusion writes 100, 100.00 and 1E+2 for one amount; two spellings would be two hashes."""
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    longer = Decimal((sign, (*digits, *([0] * zeros)), exponent - zeros))
    assert str(plain(longer)) == str(plain(number))


@given(numbers)
def test_the_callers_context_makes_no_difference(number: Decimal) -> None:
    """Whoever computes with few digits elsewhere in the process must not change what is read."""
    with localcontext(Context(prec=3, rounding=ROUND_DOWN)):
        spelled = plain(number)
    assert str(spelled) == str(plain(number))


def test_a_rate_that_was_rounded_before_is_whole() -> None:
    """41 digits with a zero at the end: the zero goes, nothing else."""
    assert (
        str(plain(Decimal("0.13404825737265415549597855227882037533500")))
        == "0.134048257372654155495978552278820375335"
    )


def test_more_digits_than_any_number_has_are_refused() -> None:
    """Rather no answer than a rounded one."""
    with pytest.raises(Inexact):
        plain(Decimal("0." + "1" * 6000 + "0"))
