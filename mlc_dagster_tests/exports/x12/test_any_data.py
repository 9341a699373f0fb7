"""Whatever stands in Fusion's texts and numbers: the file can be read back, and says what was there or was counted."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_dagster.exports.writing import DocumentHeld
from mlc_dagster.exports.x12.characters import Characters, CharacterSet, Tally
from mlc_dagster.exports.x12.checks import check_interchange, check_segments
from mlc_dagster.exports.x12.elements import Element, Format, Place, Style, formatting, is_scale_two, plain_number
from mlc_dagster.exports.x12.headings import Pen, last_digits
from mlc_dagster.exports.x12.layout import parse_x12_layout
from mlc_dagster.exports.x12.segments import STANDARDS, Standard, segments
from mlc_dagster_tests.exports.x12 import partner as p

AMOUNTS = st.decimals(min_value=-(10**12), max_value=10**12, places=2, allow_nan=False)
ANY = st.decimals(allow_nan=False, allow_infinity=False)
NASTY = st.text(st.one_of(st.sampled_from("*~>^|\r\n\té€ßŁ中✓ aA1\u0301"), st.characters(codec="utf-8")), max_size=400)
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def writes(kind: str, shortest: int, longest: int, **marks: bool) -> tuple[Format, Tally]:
    style = Style(Characters("extended", "*~>"))
    tally = Tally()
    element = Element("number", kind, shortest, longest, **marks)  # pyright: ignore[reportArgumentType]
    return formatting(element, Place("XX01 number", "invoice.number"), style, tally), tally


@SLOW
@given(NASTY, st.sampled_from(["cut", "split"]), st.sampled_from(["basic", "extended"]), st.sampled_from(STANDARDS))
def test_no_text_breaks_the_interchange(
    tmp_path: Path, text: str, too_long: str, characters: CharacterSet, standard: Standard
) -> None:
    """There is no escape character: one delimiter in a description shifts everything behind it."""
    sender = p.writer("invoices", text_too_long=too_long, character_set=characters, standard=standard)
    if characters == "basic":
        content = p.invoice(p.item(description=text), description=text)
    else:
        content = p.invoice(p.item(description=text), p.amount_only("Freight", "1", 2, description=text))
    data = p.interchange(sender, tmp_path, [p.version(content)])
    allowed = Characters(characters, "*~>" if standard == "004010" else "*~>^").allowed
    assert check_segments(data, standard, allowed).problems == []
    assert check_interchange(data).problems == []
    read = p.pyx12_reads(data)
    for found in p.named(read, "PID"):
        assert len(found) == 6
        assert 1 <= len(found[5]) <= 80
    assert len(p.named(read, "IT1")) == 1


@SLOW
@given(st.text(max_size=60))
def test_a_key_goes_unchanged_or_not_at_all(number: str) -> None:
    """Two invoices must never become one, nor one another."""
    sender = p.writer("invoices")
    try:
        segments_ = p.rendered(sender, p.invoice(number=number))
    except DocumentHeld as error:
        assert error.target == "BIG02 number"  # noqa: PT017  One of both outcomes.
    else:
        assert p.one(segments_, "BIG")[2] == number


LINE_TEXTS = st.none() | st.text("AZaz09 *~>%é.-", max_size=24) | st.sampled_from(["None", "EA", "1", ""])
LINE_NUMBERS = st.none() | ANY | st.decimals(-(10**10), 10**10, places=3)


@settings(deadline=None, max_examples=400)
@given(st.tuples(LINE_TEXTS, LINE_NUMBERS, LINE_TEXTS, LINE_NUMBERS, LINE_TEXTS, LINE_TEXTS))
def test_a_segment_at_once_is_what_its_elements_are_one_by_one(values: tuple[object, ...]) -> None:
    """The short way is there for speed: it must let nothing through that the long way stops or writes otherwise."""
    layout = parse_x12_layout(p.document("invoices"), source_file="f", crosswalks={})
    names = ("line", "quantity", "unit", "price", "qualifier_1", "id_1")
    shape = Pen(layout, Tally()).shape("IT1", dict.fromkeys(names, "line"))

    def outcome(write: Callable[[], str]) -> str:
        try:
            return write()
        except DocumentHeld as held:
            return f"{held.reason}: {held.text}"

    assert outcome(lambda: shape((), *values)) == outcome(lambda: shape._one_by_one(values))


@given(AMOUNTS)
def test_n2_is_the_amount_times_a_hundred(amount: Decimal) -> None:
    """Exact at every size, without a point."""
    write, _ = writes("N2", 1, 15)
    text = write(amount)
    assert "." not in text
    assert Decimal(text) / 100 == amount


@given(ANY)
def test_a_real_number_reads_back_as_itself(amount: Decimal) -> None:
    """No exponent, no rounding; what has too many digits is held."""
    write, _ = writes("R", 1, 18)
    try:
        text = write(amount)
    except DocumentHeld as error:
        assert error.reason == "OVERFLOW"  # noqa: PT017  One of both outcomes.
        return
    assert set(text) <= set("0123456789.-")
    assert Decimal(text) == amount
    assert text != "-0"


@pytest.mark.parametrize(
    ("value", "text"),
    [("1E+3", "1000"), ("100.00", "100"), ("0.10", "0.1"), ("-0.0", "0"), ("1E-7", "0.0000001"), ("-12.50", "-12.5")],
)
def test_numbers_have_one_plain_spelling(value: str, text: str) -> None:
    """1E+3 is a syntax error at the partner."""
    assert plain_number(Decimal(value)) == text


@given(ANY)
def test_two_decimals_are_told_from_more(amount: Decimal) -> None:
    """The line between what N2 carries and what waits; trailing zeros are no decimals."""
    exact = (amount * 100 == (amount * 100).to_integral_value()) if abs(amount) < 10**20 else None
    if exact is not None and len(amount.as_tuple().digits) < 24:
        assert is_scale_two(amount) == exact


def test_a_rate_is_padded_to_its_least_digits() -> None:
    """CUR03 has at least four digits."""
    write, _ = writes("R", 4, 10)
    assert [write(Decimal(value)) for value in ("1.1", "2", "12.3456")] == ["1.100", "2.000", "12.3456"]


def test_dates_of_both_lengths() -> None:
    """ISA09 has six digits, all others eight."""
    assert writes("DT", 8, 8)[0](dt.date(2026, 1, 2)) == "20260102"
    assert writes("DT", 6, 6)[0](dt.date(2026, 1, 2)) == "260102"


def test_texts_are_spelled_in_what_the_partner_can_read_and_counted() -> None:
    """Nothing is replaced in silence."""
    write, tally = writes("AN", 1, 80, text=True)
    assert write("Größe 5 µm*2\r\nfür €9 – Łódź  ") == "Grosse 5  m 2 fur EUR9 - Lodz"
    assert tally.counts["newlines"] == 1
    assert tally.counts["characters"] == 10


def test_a_long_text_is_cut_and_counted_or_split_or_held() -> None:
    """By the layout; silently by none."""
    long = "word " * 40
    made = p.writer("invoices").render(p.version(p.invoice(p.item(description=long))), 1)
    assert made.counts == {"cut_texts": 1}
    split = p.writer("invoices", text_too_long="split").render(p.version(p.invoice(p.item(description=long))), 1)
    assert split.counts == {}
    assert " ".join(found[5] for found in p.named(p.split(split.body), "PID")) == long.strip()
    with pytest.raises(DocumentHeld, match="80 characters"):
        p.writer("invoices", text_too_long="hold").render(p.version(p.invoice(p.item(description=long))), 1)


def test_a_delimiter_in_a_key_names_it() -> None:
    """The remedy is another delimiter or another number; the person must see which character it is."""
    with pytest.raises(DocumentHeld, match=r"'\*'.*delimiter"):
        p.writer("invoices").render(p.version(p.invoice(number="A*1")), 1)
    segments_ = p.split(
        p.writer("invoices", delimiters={"element": "|"}).render(p.version(p.invoice(number="A*1")), 1).body, "|"
    )
    assert p.one(segments_, "BIG")[2] == "A*1"


def test_a_percent_sign_is_data_and_may_be_a_delimiter() -> None:
    """It is also Python's formatting character."""
    body = p.writer("invoices", delimiters={"element": "%"}).render(p.version(p.invoice()), 1).body
    assert p.one(p.split(body, "%"), "TDS") == ["TDS", "12500"]
    assert b"*10% off~" in p.writer("invoices").render(p.version(p.invoice(p.item(description="10% off"))), 1).body


@pytest.mark.parametrize("terms", ["\u4e2d", "\t", "^"])
def test_terms_of_which_nothing_can_be_sent_give_no_segment(terms: str) -> None:
    """A name without elements is no segment: readers refuse the whole file."""
    assert p.named(p.rendered(p.writer("invoices"), p.invoice(payment_terms=terms)), "ITD") == []


def test_an_invoice_without_lines_is_its_total() -> None:
    """Zero lines of zero money are consistent; zero lines of money are not."""
    empty = p.invoice(lines=(), amount=Decimal(0))
    assert p.one(p.rendered(p.writer("invoices"), empty), "CTT") == ["CTT", "0", "0"]
    with pytest.raises(DocumentHeld, match="come to 0"):
        p.writer("invoices").render(p.version(p.invoice(lines=(), amount=Decimal(1))), 1)


@pytest.mark.parametrize(
    ("total", "kept"), [("12345678901", "2345678901"), ("123456789.25", "23456789.25".zfill(11)), ("12.5", "12.5")]
)
def test_a_hash_total_that_is_too_long_loses_its_leftmost_digits(total: str, kept: str) -> None:
    """The element's own rule; both sides compute it."""
    assert last_digits(Decimal(total), 10) == Decimal(kept)


@pytest.mark.parametrize("standard", STANDARDS)
def test_every_row_of_the_segment_table_can_be_used(standard: Standard) -> None:
    """The table is text: a slip in it must not wait for the one partner who uses that element."""
    kinds = {"AN", "ID", "N0", "N2", "R", "DT", "TM"}
    for segment in segments(standard).values():
        known = [element for element in segment.elements if element is not None]
        assert {element.type for element in known} <= kinds
        assert all(1 <= element.shortest <= element.longest for element in known)
        assert len(set(segment.names)) == len(segment.names)
        for rule in segment.rules:
            assert rule.kind in "PRCLE"
            assert max(rule.positions) <= len(segment.elements)
            assert all(segment.element(position) for position in rule.positions)
