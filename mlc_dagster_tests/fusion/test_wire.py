"""The looseness of Fusion's values ends here: flags, dates, times, children."""

import datetime as dt
from decimal import Decimal

import msgspec
import pytest

from mlc_dagster.fusion.errors import ResponseInvalid
from mlc_dagster.fusion.wire import (
    Nested,
    Page,
    YesNo,
    day,
    flag,
    has_more_children,
    instant,
    item_of,
    money,
    nested_rows,
)


class Child(msgspec.Struct):
    n: int


class Parent(msgspec.Struct):
    amount: Decimal | None = None
    on: YesNo = None
    children: Nested[Child] = None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("true", True), ('"Y"', True), ('"true"', True), ("false", False), ('"N"', False), ("null", None), ('""', None)],
)
def test_flags_come_in_three_spellings(raw: str, expected: bool | None) -> None:
    """bool("N") is True: a disabled account would take postings."""
    assert flag(item_of(Parent, f'{{"on":{raw}}}'.encode()).on) is expected


def test_other_words_are_not_flags() -> None:
    """A translated or new word must be noticed, not guessed."""
    with pytest.raises(ResponseInvalid, match="Oui"):
        flag("Oui")


@pytest.mark.parametrize("raw", ["9007199254740993.01", '"9007199254740993.01"'])
def test_amounts_do_not_pass_through_float(raw: str) -> None:
    """Above 2**53 a float loses the cent, below it the last digit sometimes."""
    assert item_of(Parent, f'{{"amount":{raw}}}'.encode()).amount == Decimal("9007199254740993.01")


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_amount_that_is_no_number_is_refused(word: str) -> None:
    """Decimal accepts these words and every comparison with them is false."""
    with pytest.raises(ResponseInvalid):
        money(Decimal(word))


@pytest.mark.parametrize("text", ["2026-10-14", "2026-10-14T00:00:00+00:00", "2026-10-14T00:00:00.000Z"])
def test_days_may_come_as_timestamps(text: str) -> None:
    """The day that Fusion wrote is kept, whatever time it put behind it."""
    assert day(text) == dt.date(2026, 10, 14)


def test_absent_and_wrong_dates() -> None:
    """No date is None; a wrong one is not silently none."""
    assert (day(None), day(""), instant(None)) == (None, None, None)
    with pytest.raises(ResponseInvalid):
        day("14.10.2026")
    with pytest.raises(ResponseInvalid):
        instant("yesterday")


@pytest.mark.parametrize(
    "text", ["2026-10-14T15:02:11.412+00:00", "2026-10-14T17:02:11.412+02:00", "2026-10-14T15:02:11.412"]
)
def test_times_become_utc(text: str) -> None:
    """Times are compared across time zones; one without offset is UTC."""
    assert instant(text) == dt.datetime(2026, 10, 14, 15, 2, 11, 412000, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("raw", "numbers", "more"),
    [
        ("null", [], False),
        ('[{"n":1}]', [1], False),
        ('{"items":[{"n":1}],"count":1,"hasMore":false,"limit":25}', [1], False),
        ('{"items":[{"n":1}],"count":1,"hasMore":true,"limit":25}', [1], True),
        ('{"items":[{"n":1},{"n":2}],"count":2,"hasMore":false,"limit":2}', [1, 2], True),
        ('{"count":0}', [], False),
        ('{"items":[' + ",".join(['{"n":1}'] * 25) + "]}", [1] * 25, True),
    ],
)
def test_children_come_as_array_or_as_page(raw: str, numbers: list[int], more: bool) -> None:
    """A full page of lines may hide a line; comparing without it would report false differences."""
    nested = item_of(Parent, f'{{"children":{raw}}}'.encode()).children
    assert [child.n for child in nested_rows(nested)] == numbers
    assert has_more_children(nested) is more


def test_page_is_generic_over_its_rows() -> None:
    """Each resource decodes into its own type."""
    page: Page[Child] = item_of(Page[Child], b'{"items":[{"n":"3"}],"count":"1"}')
    assert page.items == [Child(3)]
