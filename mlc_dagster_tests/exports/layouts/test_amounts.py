"""Money on its way to text: exact, in the decimals of its currency, never rounded; and balanced."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.exports.balance import check_balance, journal_totals
from mlc_dagster.exports.layouts.numbers import (
    ScaleExceeded,
    number_texts,
    overpunched,
    quick_implied,
    quick_texts,
)
from mlc_dagster.exports.writing import DocumentHeld
from mlc_dagster_tests.exports.layouts import workbench as b

DEBIT = "[{name: DR, field: line.entered_dr}]"


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30), st.integers(0, 12))
def test_a_number_is_exact_or_refused(value: Decimal, places: int) -> None:
    """Whatever the text is, it is the number; with fewer places than the number has there is no text."""
    scaled = Decimal(int(value.scaleb(places))).scaleb(-places) if abs(value) < 10**15 else None
    try:
        (text,) = number_texts([value], places)
    except ScaleExceeded:
        assert scaled is None or scaled != value
        return
    assert text is not None
    assert Decimal(text) == value
    assert len(text.partition(".")[2]) == places
    assert "E" not in text


@given(st.lists(st.one_of(st.none(), st.decimals(-(10**12), 10**12, places=3)), max_size=20), st.integers(0, 9))
def test_the_short_ways_say_the_same_or_nothing(values: list[Decimal | None], places: int) -> None:
    """Speed must not have an arithmetic of its own."""
    try:
        expected = number_texts(values, places)
    except ScaleExceeded:
        assert quick_texts(values, places, "") is None
        assert quick_implied(values, places, 30, "0", "0" * 30) is None
        return
    assert quick_texts(values, places, "") in (None, [text or "" for text in expected])
    implied = [(text or "0").replace(".", "").rjust(30, "0") for text in expected]
    assert quick_implied(values, places, 30, "0", "0" * 30) in (None, implied)


@pytest.mark.parametrize(
    ("currency", "amount", "shown"),
    [("USD", "10.5", "10.50"), ("JPY", "1000", "1000"), ("KWD", "1.125", "1.125"), ("USD", "1E+3", "1000.00")],
)
def test_amounts_have_the_decimals_of_their_currency(currency: str, amount: str, shown: str) -> None:
    """10.5 yen do not exist, 1.125 dinars do."""
    content = b.journal(b.line(1, amount), b.line(2, None, amount), currency=currency, ledger_currency=currency)
    assert b.body(b.csv_layout(DEBIT), content).decode().split("\r\n")[0] == shown


@pytest.mark.parametrize(("currency", "amount"), [("USD", "1.005"), ("JPY", "0.5"), ("KWD", "1.0005")])
def test_excess_decimals_hold_the_document(currency: str, amount: str) -> None:
    """1.005 dollars would become 1.00 or 1.01: neither was posted."""
    content = b.journal(b.line(1, amount), b.line(2, None, amount), currency=currency, ledger_currency=currency)
    with pytest.raises(DocumentHeld, match="nothing is rounded") as held:
        b.body(b.csv_layout(DEBIT), content)
    assert (held.value.reason, held.value.field) == ("AMOUNT_SCALE", "line.entered_dr")


def test_trailing_zeros_are_no_excess_decimals() -> None:
    """10.5000 dollars are 10.50."""
    content = b.journal(b.line(1, "10.5000"), b.line(2, None, "10.50"))
    assert b.body(b.csv_layout(DEBIT), content).startswith(b"10.50\r\n")


def test_an_unknown_currency_holds_the_document() -> None:
    """Its decimals are not known, and guessing two is how yen get multiplied by a hundred."""
    content = b.journal(b.line(1, "1"), b.line(2, None, "1"), currency="ZZZ")
    with pytest.raises(DocumentHeld, match="'ZZZ' is not one of ISO 4217") as held:
        b.body(b.csv_layout(DEBIT), content)
    assert held.value.reason == "CURRENCY_UNKNOWN"
    assert (
        b.body(b.csv_layout("[{name: DR, field: line.entered_dr, format: {decimals: 2}}]"), content)[:6] == b"1.00\r\n"
    )


def test_lines_of_several_currencies_have_each_their_decimals() -> None:
    """A journal may have a statistical line, or lines of another currency than its own."""
    content = b.journal(
        b.line(1, "1000", currency="JPY"),
        b.line(2, None, "1000", currency="JPY"),
        b.line(3, "2.5"),
        b.line(4, None, "2.5"),
        b.line(5, "7.125", currency="STAT"),
    )
    text = b.csv_layout("[{name: A, field: line.entered_amount}, {name: S, field: line.side}]")
    assert b.body(text, content).decode().split() == ["1000,D", "1000,C", "2.50,D", "2.50,C", "7.125,D"]


def test_debits_that_do_not_equal_credits_hold_the_journal() -> None:
    """An importer would book one side of it."""
    with pytest.raises(DocumentHeld, match=r"entered debits 10.50 and credits 10.49 USD differ by 0.01") as held:
        b.body(b.csv_layout(DEBIT), b.journal(b.line(1, "10.50"), b.line(2, None, "10.49")))
    assert held.value.reason == "UNBALANCED"


def test_currencies_balance_each_on_its_own() -> None:
    """Equal sums over all currencies are a coincidence."""
    content = b.journal(b.line(1, "5", currency="EUR"), b.line(2, None, "5", currency="USD"))
    with pytest.raises(DocumentHeld, match=r"EUR differ by 5.00; entered debits 0.00 and credits 5.00 USD"):
        check_balance(content)


def test_accounted_amounts_balance_too() -> None:
    """Entered may balance while conversion left a cent."""
    lines = b.line(1, "5", accounted_dr=Decimal("5.01")), b.line(2, None, "5")
    with pytest.raises(DocumentHeld, match=r"accounted debits 5\.01 and credits 5\.00 USD"):
        check_balance(b.journal(*lines))


def test_statistical_amounts_have_no_other_side() -> None:
    """Head counts and square metres are not owed to anybody."""
    content = b.journal(b.line(1, "3", currency="STAT"), b.line(2, "5"), b.line(3, None, "5"))
    assert check_balance(content)["entered_dr STAT"] == 3
    assert check_balance(b.journal(b.line(1, "3"), currency="STAT"))["accounted_dr STAT"] == 3


@given(st.lists(st.decimals(-(10**24), 10**24, places=5), min_size=1, max_size=30))
def test_totals_are_exact_beyond_28_digits(amounts: list[Decimal]) -> None:
    """Python's usual context rounds at 28 digits, without a word."""
    lines = [b.line(number, str(amount)) for number, amount in enumerate(amounts)]
    total = journal_totals(b.journal(*lines))["entered_dr USD"]
    assert Fraction(total) == sum(map(Fraction, amounts))


@pytest.mark.parametrize(
    ("number", "ebcdic", "ascii_"),
    [("12345", "1234E", "12345"), ("-12345", "1234N", "1234u"), ("0", "{", "0"), ("-10", "1}", "1p"), ("9", "I", "9"),
     ("-9", "R", "y"), ("-1", "J", "q"), ("1", "A", "1")],
)  # fmt: skip
def test_overpunched_signs(number: str, ebcdic: str, ascii_: str) -> None:
    """One wrong row of the table turns a credit into a debit."""
    assert overpunched(number) == ebcdic
    assert overpunched(number, ascii_table=True) == ascii_
