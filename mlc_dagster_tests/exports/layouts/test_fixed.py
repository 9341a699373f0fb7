"""Fixed width, read back by slicing bytes."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.exports.layouts.errors import LayoutError
from mlc_dagster.exports.writing import DocumentHeld
from mlc_dagster_tests.exports.layouts import workbench as b

TEXT = "[{name: D, field: line.description, length: 10}, {name: N, field: line.line_number, length: 4}]"


def amount_column(rules: str, *more: str, length: int = 10) -> str:
    return b.fixed_layout(f"[{{name: A, field: line.entered_net, length: {length}, {rules}}}]", *more)


def shown(text: str, debit: str) -> bytes:
    """The first record of a journal over this amount, without its end."""
    return b.body(text, b.journal(b.line(1, debit), b.line(2, None, debit))).split(b"\r\n")[0]


def test_texts_are_left_and_numbers_right() -> None:
    """Blanks behind texts, zeros before numbers; the record has its declared length."""
    text = b.fixed_layout(TEXT, "record_length: 20")
    assert b.body(text, b.journal(b.line(7, description="abc"))) == b"abc       0007      \r\n"


def test_columns_may_name_their_start_and_leave_gaps() -> None:
    """Interface descriptions give positions from 1."""
    columns = "[{name: A, constant: X, length: 1}, {name: B, field: journal.period, start: 5, length: 8, align: right}]"
    assert b.body(b.fixed_layout(columns), b.journal(b.line(1))) == b"X     Nov-26\r\n"


@pytest.mark.parametrize(
    ("rules", "positive", "negative"),
    [
        ("format: {implied: true}", b"0000001050", b"-000001050"),
        ("format: {}", b"0000010.50", b"-000010.50"),
        ("format: {mark: ','}, pad: ' '", b"     10,50", b"    -10,50"),
        ("format: {plus: '+'}", b"+000010.50", b"-000010.50"),
        ("format: {sign: trailing}", b"000010.50 ", b"000010.50-"),
        ("format: {sign: trailing, plus: '+', implied: true}", b"000001050+", b"000001050-"),
        ("format: {sign: parentheses}, pad: ' '", b"     10.50", b"   (10.50)"),
        ("format: {sign: overpunch, implied: true}", b"000000105{", b"000000105}"),
        ("format: {sign: overpunch_ascii, implied: true}", b"0000001050", b"000000105p"),
        ("format: {sign: separate}", b"0000010.50", b"0000010.50"),
        ("align: left, format: {}", b"10.50     ", b"-10.50    "),
    ],
)
def test_signs_and_implied_decimals(rules: str, positive: bytes, negative: bytes) -> None:
    """Each of them is some bank's or mainframe's; a wrong one is a wrong amount."""
    text = amount_column(rules)
    assert (shown(text, "10.5"), shown(text, "-10.5")) == (positive, negative)


def test_a_sign_may_have_a_column_of_its_own() -> None:
    """The amount without sign, and + or - elsewhere."""
    columns = (
        "[{name: S, sign_of: A, length: 2, signs: ['C', 'DB']}, "
        "{name: A, field: line.entered_net, length: 8, format: {sign: separate, implied: true}}]"
    )
    assert b.body(b.fixed_layout(columns), b.journal()) == b"C 00001050\r\nDB00001050\r\n"


def test_a_negative_amount_without_a_place_for_its_sign_holds_the_document() -> None:
    """Dropping the sign would double the amount."""
    with pytest.raises(DocumentHeld) as held:
        shown(amount_column("format: {sign: none}"), "-1")
    assert held.value.reason == "NEGATIVE"


def test_overflow_names_the_value_and_cuts_nothing() -> None:
    """EText templates truncate; a cut amount is another amount."""
    with pytest.raises(DocumentHeld, match="'a long text' needs 11 bytes and the column has 10") as held:
        b.body(b.fixed_layout(TEXT), b.journal(b.line(1, description="a long text")))
    assert (held.value.reason, held.value.target) == ("OVERFLOW", "D")
    with pytest.raises(DocumentHeld, match=r"'12345678901\.00'"):
        shown(amount_column("format: {implied: true}"), "12345678901")
    with pytest.raises(DocumentHeld, match=r"'-99999999\.99'"):
        shown(amount_column("format: {implied: true}"), "-99999999.99")


def test_new_lines_become_blanks_and_are_counted() -> None:
    """A new line in a description would begin a record."""
    made = b.rendered(b.fixed_layout(TEXT), b.journal(b.line(1, description="a\r\nb\nc")))
    assert (made.body, made.counts) == (b"a b c     0001\r\n", {"newlines": 2})


def test_lengths_are_bytes_of_the_target_encoding() -> None:
    """ü is one byte in cp1252 and two in UTF-8, where it would shift every later column."""
    assert b.body(b.fixed_layout(TEXT), b.journal(b.line(1, description="Zürich €"))) == b"Z\xfcrich \x80  0001\r\n"
    with pytest.raises(LayoutError, match="utf-8 has characters of several bytes"):
        b.loaded(b.fixed_layout(TEXT, "encoding: utf-8"))
    in_characters = b.fixed_layout(TEXT, "encoding: utf-8", "length_mode: characters")
    assert b.body(in_characters, b.journal(b.line(1, description="Łódź"))).decode() == "Łódź      0001\r\n"


@pytest.mark.parametrize(
    ("encoding", "held"), [("cp037", True), ("cp500", True), ("cp1140", False), ("cp1252", False), ("latin-1", True)]
)
def test_the_euro_sign_where_it_exists(encoding: str, held: bool) -> None:
    """cp1140 is cp037 with a euro sign; in the others the document waits."""
    text, content = b.fixed_layout(TEXT, f"encoding: {encoding}"), b.journal(b.line(1, description="5 €"))
    if held:
        with pytest.raises(DocumentHeld, match="'€' in '5 €' does not exist in"):
            b.body(text, content)
    else:
        assert b.body(text, content).decode(encoding)[:3] == "5 €"


def test_mainframe_records_have_no_ends_and_zoned_decimals() -> None:
    """+10.50 and -10.50 in EBCDIC: F1 F0 F5 C0 and F1 F0 F5 D0."""
    text = amount_column(
        "format: {implied: true, sign: overpunch}", "encoding: cp037", "record_separator: none", length=4
    )
    assert b.body(text, b.journal()).hex() == "f1f0f5c0" + "f1f0f5d0"


def test_characters_may_be_replaced_and_counted() -> None:
    """Where the partner prefers a plain character to a waiting journal."""
    made = b.rendered(b.fixed_layout(TEXT, "unencodable: replace"), b.journal(b.line(1, description="“ł”…")))
    assert made.body == b"\x93?\x94\x85      0001\r\n"
    assert made.counts == {"characters": 1}


def test_absent_numbers_are_zero_unless_blanks_are_asked_for() -> None:
    """Blanks in a number end many a COBOL program."""
    text = "[{name: A, field: line.entered_dr, length: 6}, {name: B, field: line.entered_cr, length: 6, null: ''}]"
    assert b.body(b.fixed_layout(text, "implied: true"), b.journal()) == b"001050      \r\n000000001050\r\n"


def test_header_and_trailer_records() -> None:
    """Counts, both totals and the hash total, all records of one length."""
    text = b.fixed_layout(
        "[{name: T, constant: D, length: 1}, {name: A, field: line.entered_net, length: 12}]",
        "totals: {accounts: {field: chart.natural_account, method: hash}}",
        "header: [[{name: T, constant: H, length: 1}, {name: S, template: '{sequence:06}', length: 6}]]",
        "trailer: [[{name: T, constant: T, length: 1}, "
        "{name: N, template: '{rows}', length: 3, align: right, pad: '0'}, "
        "{name: D, total: entered_dr, length: 8, format: {decimals: 2, implied: true}}, "
        "{name: H, total: accounts, length: 4, format: {decimals: 0}}]]",
    )
    records = b.file_of(text, b.journal(), b.journal()).split(b"\r\n")[:-1]
    assert {len(record) for record in records} == {16}
    assert records[0] == b"H000007" + b" " * 9
    # 4 x 60540 = 242160, of which the rightmost four digits.
    assert records[-1] == b"T004000021002160"


def test_a_document_that_the_trailer_could_not_total_is_held() -> None:
    """Three decimals in a file whose trailer has two would stop the whole file; they stop their journal."""
    text = b.fixed_layout(
        "[{name: T, constant: D, length: 1}]",
        "trailer: [[{name: D, total: entered_dr, length: 8, format: {decimals: 2}}]]",
    )
    dinars = b.journal(b.line(1, "1.125"), b.line(2, None, "1.125"), currency="KWD", ledger_currency="KWD")
    with pytest.raises(DocumentHeld) as held:
        b.body(text, dinars)
    assert held.value.reason == "AMOUNT_SCALE"


def test_a_total_that_outgrows_its_column_stops_the_file() -> None:
    """A cut control total is worse than none."""
    text = b.fixed_layout(
        "[{name: T, constant: D, length: 1}]",
        "trailer: [[{name: D, total: entered_dr, length: 4, format: {decimals: 2, implied: true}}]]",
    )
    with pytest.raises(LayoutError, match="column D: '100000' needs 6 places"):
        b.file_of(text, b.journal(b.line(1, "1000"), b.line(2, None, "1000")))


@given(
    rows=st.lists(
        st.tuples(
            st.one_of(st.none(), st.text(st.characters(codec="cp1252"), max_size=12)),
            st.decimals(-(10**9), 10**9, places=2, allow_nan=False),
        ),
        min_size=1,
        max_size=1200,
    )
)
def test_every_value_is_where_its_position_says(rows: list[tuple[str | None, Decimal]]) -> None:
    """Sliced by bytes, any text of the code page and any amount come back."""
    columns = (
        "[{name: D, field: line.description, length: 12}, "
        "{name: A, field: line.entered_net, length: 13, format: {implied: true, decimals: 2}}, "
        "{name: E, constant: '|', length: 1}]"
    )
    lines = [
        b.line(number, str(amount), None, description=text, currency="STAT")
        for number, (text, amount) in enumerate(rows)
    ]
    content = b.body(b.fixed_layout(columns, "record_separator: none"), b.journal(*lines))
    records = [content[start : start + 26] for start in range(0, len(content), 26)]
    assert [record[25:] for record in records] == [b"|"] * len(rows)
    broken = str.maketrans(dict.fromkeys("\r\n\x0b\x0c\x85\u2028\u2029", " "))
    expected = [(text or "").replace("\r\n", "\n").translate(broken).ljust(12) for text, _ in rows]
    assert [record[:12].decode("cp1252") for record in records] == expected
    assert [Decimal(int(record[12:25])).scaleb(-2) for record in records] == [amount for _, amount in rows]


@pytest.mark.parametrize(
    ("form", "currency", "amount"),
    [
        ("implied: true", "STAT", "12.5"),
        ("implied: true", "STAT", "12"),
        ("implied: true, decimals: as_is", "USD", "1.5"),
    ],
)
def test_digits_without_a_mark_need_a_number_of_decimals(form: str, currency: str, amount: str) -> None:
    """12.5 hours as 125 would be read as 1.25."""
    text = b.fixed_layout(f"[{{name: A, field: line.entered_dr, length: 13, format: {{{form}}}}}]")
    lines = (b.line(1, amount, currency=currency), b.line(2, None, amount, currency=currency))
    with pytest.raises(DocumentHeld, match="no number of decimals") as held:
        b.body(text, b.journal(*lines, currency=currency))
    assert (held.value.reason, held.value.target) == ("AMOUNT_SCALE", "A")
