"""Lines as columns: whatever they are made of and however they come, the same lines give the same bytes."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.fusion.canonical import plain
from mlc_dagster.fusion.journal_lines import NO_LINES, JournalLine, JournalLines
from mlc_dagster.fusion.records import Journal, canonical, content_of

_TEXTS = (
    st.just("USD")
    | st.none()
    | st.sampled_from(["", "null", '"', "101-10", "São, –", "a\\u0000b"])
    | st.text(max_size=8)
)
_NUMBERS = (
    st.none()
    | st.sampled_from(["0", "-0", "1.50", "100", "-100", "1E+2", "0.10", "12345678901234567890.12"]).map(Decimal)
    | st.decimals(-(10**12), 10**12, places=3, allow_nan=False)
)


@st.composite
def _lines(draw: st.DrawFn) -> list[JournalLine]:
    """Lines with some columns that only few of them have a value in."""
    fields = msgspec.structs.fields(JournalLine)[1:]
    names = draw(st.sets(st.sampled_from([field.name for field in fields])))
    values: dict[str, st.SearchStrategy[Any]] = {
        field.name: _NUMBERS if Decimal in _kinds(field.type) else _TEXTS for field in fields
    }
    count = draw(st.integers(0, 6))
    return [
        JournalLine(line_number=number, **{name: draw(values[name]) for name in sorted(names)})
        for number in range(1, count + 1)
    ]


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__args__", ())


def _spelled(lines: Sequence[JournalLine]) -> list[JournalLine]:
    """The same with every number in its one spelling."""
    found: list[JournalLine] = []
    for line in lines:
        values: dict[str, Any] = msgspec.structs.asdict(line)
        for name, value in values.items():
            values[name] = plain(value) if isinstance(value, Decimal) else value
        found.append(JournalLine(**values))
    return found


def _journal(lines: JournalLines) -> Journal:
    return Journal(batch_id=1, name="J", ledger="L", lines=lines)


def test_columns_are_the_attributes_of_a_line() -> None:
    """Layouts name a line's attributes and are given columns; hashes are taken over their names in JSON."""
    assert [(field.name, field.encode_name) for field in msgspec.structs.fields(JournalLines)] == [
        (field.name, field.encode_name) for field in msgspec.structs.fields(JournalLine)
    ]


@given(lines=_lines())
def test_lines_come_back_as_they_were(lines: list[JournalLine]) -> None:
    """Through columns and canonical JSON, numbers in their one spelling, by type too: 1.50 and 1.5 are equal."""
    kept = _journal(JournalLines.of(lines))
    back = content_of("journals", canonical(kept))
    assert isinstance(back, Journal)
    assert list(map(repr, back.lines)) == list(map(repr, _spelled(lines)))
    assert back == kept


@given(lines=_lines(), cut=st.integers(0, 6), data=st.data())
def test_pages_and_order_do_not_show(lines: list[JournalLine], cut: int, data: st.DataObject) -> None:
    """A journal that is read in other pages than before must not count as changed."""
    whole = canonical(_journal(JournalLines.of(lines)))
    parts = [JournalLines.of(lines[:cut]), JournalLines.of(lines[cut:])]
    assert canonical(_journal(JournalLines.joined(parts))) == whole
    shuffled = data.draw(st.permutations(lines))
    assert canonical(_journal(JournalLines.of(shuffled).by_number())) == whole


@given(lines=_lines(), cut=st.integers(0, 6))
def test_totals_are_those_of_the_column(lines: list[JournalLine], cut: int) -> None:
    """What was summed while reading, and what is summed of columns kept: the same."""
    read = JournalLines.joined([JournalLines.of(lines[:cut]), JournalLines.of(lines[cut:])])
    kept = content_of("journals", canonical(_journal(read)))
    assert isinstance(kept, Journal)
    for name in ("entered_dr", "entered_cr", "accounted_dr"):
        expected = sum((value for line in lines if (value := getattr(line, name)) is not None), Decimal(0))
        assert read.total(name) == kept.lines.total(name) == expected


def test_a_column_without_values_is_absent() -> None:
    """An attribute that is added here later, absent in old records, must not change their hashes."""
    lines = JournalLines.of([JournalLine(line_number=1, description=""), JournalLine(line_number=2)])
    assert canonical(_journal(lines)).endswith(b'"journalLines":{"JeLineNumber":[1,2],"Description":["",null]}}')
    assert list(lines.column("reference_1")) == [None, None]


def test_a_value_that_all_lines_have_stands_there_once() -> None:
    """The currency of ten thousand lines; however they came: by one, by pages, all at once."""
    rows = [JournalLine(line_number=n, currency="U,[S", entered_dr=Decimal("1.50")) for n in range(1, 5)]
    expected = b'"journalLines":{"JeLineNumber":[1,2,3,4],"EnteredDr":"1.5","CurrencyCode":"U,[S"}}'
    for size in (1, 2, 3, 4):
        parts = [JournalLines.of(rows[start : start + size]) for start in range(0, 4, size)]
        assert canonical(_journal(JournalLines.joined(parts))).endswith(expected)
    assert list(JournalLines.of(rows).column("entered_dr")) == [Decimal("1.5")] * 4


def test_no_lines_have_one_spelling() -> None:
    """A journal without lines is one content, whether none came or they were taken away."""
    assert JournalLines.of([]) is NO_LINES
    assert JournalLines.joined([NO_LINES, NO_LINES]) is NO_LINES
    assert b"journalLines" not in canonical(_journal(NO_LINES))


@pytest.mark.parametrize("number", ["1.50", "1.0", "-0", "-0.0", "1E+2", "0E-3", "1" * 40, "0.30", "20.0"])
def test_another_spelling_is_never_kept(number: str) -> None:
    """Beside plain neighbours, on either side."""
    rows = [JournalLine(line_number=n, entered_dr=Decimal(text)) for n, text in enumerate(["100", number, "10.5"])]
    assert [str(value) for value in JournalLines.of(rows).column("entered_dr")] == [
        "100", str(plain(Decimal(number))), "10.5",
    ]  # fmt: skip
