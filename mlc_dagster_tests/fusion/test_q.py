"""Questions that mean what they say, whatever the value, and fit into an address."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.fusion import q
from mlc_dagster.fusion.errors import NotPlain


@pytest.mark.parametrize("value", ["NW-20451", "A/B_1.2", "12 34", "0"])
def test_plain_values_may_be_asked_for(value: str) -> None:
    """The usual invoice numbers go into the question."""
    assert q.quoted(value) == f"'{value}'"


@pytest.mark.parametrize(
    "value", ["", "O'Neil", "a;b", "1%", "Ü1", "a\nb", "a,b", "a*", " 1", "1 ", "(1)", "a=b", "1\n"]
)
def test_other_values_raise_and_say_what_to_do(value: str) -> None:
    """There is no escape: a quote or a percent sign changes the question and may prove a false absence."""
    assert not q.is_plain(value)
    with pytest.raises(NotPlain, match="cannot be asked for in q"):
        q.quoted(value)


def test_expressions_are_in_the_second_dialect() -> None:
    """The semicolon of the first dialect gives zero rows without a word."""
    condition = q.all_of(q.equals("LedgerId", 7), "", q.any_of("InvoiceNumber", ["a", "b"]))
    assert condition == "LedgerId=7 and InvoiceNumber in ('a','b')"
    assert q.any_of("InvoiceId", [1, 2]) == "InvoiceId in (1,2)"


def test_empty_list_is_not_a_question() -> None:
    """It would match nothing, or be refused, or match all."""
    with pytest.raises(ValueError, match="empty list"):
        q.any_of("InvoiceNumber", [])


@given(
    st.lists(st.from_regex(r"[A-Za-z0-9._/-]([A-Za-z0-9 ._/-]{0,60}[A-Za-z0-9._/-])?", fullmatch=True), max_size=200)
)
def test_chunks_hold_every_value_once_and_fit(values: list[str]) -> None:
    """A value that falls between two chunks would be taken for absent."""
    room = 600
    groups = list(q.chunked(values, room))
    assert [value for group in groups for value in group] == list(dict.fromkeys(values))
    for group in groups:
        assert len(group) <= q.MAX_VALUES
        written = ",".join(f"'{value}'" for value in group)
        assert len(quote(written, safe="")) <= room or len(group) == 1
