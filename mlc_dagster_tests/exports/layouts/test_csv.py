"""CSV as partners' importers want it: every option of the layout is visible in the bytes."""

import csv
import io
from pathlib import Path

import pytest

from mlc_dagster.exports.layouts.loading import load_layout, open_writer
from mlc_dagster.exports.writing import DocumentHeld
from mlc_dagster.fusion.records import Journal
from mlc_dagster_tests.exports.layouts import workbench as b

DESCRIPTION = "[{name: D, field: line.description}]"
AMOUNTS = "[{name: DR, field: line.entered_dr}, {name: CR, field: line.entered_cr}]"


def described(*texts: str | None) -> Journal:
    """A journal of one balanced pair, with these texts on lines of no amount."""
    return b.journal(*(b.line(number, description=text) for number, text in enumerate(texts, start=1)))


def test_the_default_layout_repeats_the_header_on_every_line() -> None:
    """Importers read a row at a time; ledger, account and cost centre must be on each, by the chart's segments."""
    writer = open_writer(load_layout("journals_csv", root=Path()), b.feed_of(), b.CHARTS)
    rows = b.assembled(writer, [b.version_of(b.journal())]).decode().split("\r\n")
    assert rows[0].startswith("LEDGER,PERIOD,BATCH,JOURNAL,SOURCE,CATEGORY,CURRENCY,")
    assert rows[1] == (
        "US Primary Ledger,Nov-26,Batch,Journal,,,USD,USD,2026-11-03,,1,101-200-60540-000,60540,200,"
        "10.50,,10.50,,,,4711/US Primary Ledger/Journal,1"
    )
    assert rows[2].startswith("US Primary Ledger,Nov-26,Batch,Journal")
    assert rows[3:] == [""]


def test_quotes_stand_only_where_needed_and_are_doubled() -> None:
    """RFC 4180, or a comma in a description shifts every column after it."""
    text = b.csv_layout(DESCRIPTION)
    assert b.body(text, described("a,b", 'say "x"', "two\r\nlines", "plain")) == (
        b'"a,b"\r\n"say ""x"""\r\n"two\r\nlines"\r\nplain\r\n'
    )


def test_absent_and_empty_are_told_apart() -> None:
    """An empty text is not an absent one; with a null token, a text that looks like the token is quoted."""
    assert b.body(b.csv_layout(DESCRIPTION), described(None, "")) == b'\r\n""\r\n'
    token = b.csv_layout(DESCRIPTION, 'null: "\\\\N"')
    assert b.body(token, described(None, "", "\\N")) == b'\\N\r\n""\r\n"\\N"\r\n'


def test_quote_all_and_quote_text() -> None:
    """Some importers want every value quoted, some every text: leading zeros survive there."""
    columns = "[{name: A, field: segment.subAccount}, {name: N, field: line.line_number}]"
    assert b.body(b.csv_layout(columns, "quote: all"), described("x")) == b'"000","1"\r\n'
    assert b.body(b.csv_layout(columns, "quote: text"), described("x")) == b'"000",1\r\n'


def test_a_delimiter_of_several_characters_cannot_be_confused() -> None:
    """A value that ends in the beginning of the delimiter would be read with the next one; it is quoted."""
    columns = "[{name: D, field: line.description}, {name: N, field: line.line_number}]"
    text = b.csv_layout(columns, "delimiter: '|@|'")
    assert b.body(text, described("a", "b|", "c|@|d")) == b'a|@|1\r\n"b|"|@|2\r\n"c|@|d"|@|3\r\n'


def test_without_quotes_a_delimiter_holds_the_document() -> None:
    """There is no way to write it that a reader takes apart again."""
    with pytest.raises(DocumentHeld, match=r"column D \(line.description\), row 2 of 2: 'a;b'") as held:
        b.body(b.csv_layout(DESCRIPTION, "quote: none", "delimiter: ;"), described("fine", "a;b"))
    assert (held.value.reason, held.value.field, held.value.target) == ("DELIMITER", "line.description", "D")


def test_without_quotes_delimiters_are_replaced_where_that_is_agreed() -> None:
    """Replaced and counted: nothing changes in silence."""
    text = b.csv_layout(DESCRIPTION, "quote: none", "delimiter: ;", "unquotable: replace")
    made = b.rendered(text, described("a;b", "c\nd"))
    assert made.body == b"a b\r\nc d\r\n"
    assert made.counts == {"delimiters": 1, "newlines": 1}


def test_new_lines_become_blanks_where_that_is_agreed() -> None:
    """For importers that read line by line."""
    made = b.rendered(b.csv_layout(DESCRIPTION, "newlines: replace"), described("a\r\nb\nc"))
    assert (made.body, made.counts) == (b"a b c\r\n", {"newlines": 2})


@pytest.mark.parametrize(("ending", "end"), [("crlf", b"\r\n"), ("lf", b"\n"), ("cr", b"\r")])
def test_line_endings(ending: str, end: bytes) -> None:
    """A Windows importer takes LF for part of the last column."""
    text = b.csv_layout(DESCRIPTION, f"line_ending: {ending}", "trailer: [[END]]")
    assert b.file_of(text, described("x")) == b"D" + end + b"x" + end + b"END" + end


def test_a_decimal_comma_is_quoted_where_it_is_the_delimiter() -> None:
    """Semicolon files carry 10,50 as it is; comma files must quote it."""
    semicolon = b.csv_layout(AMOUNTS, "mark: ','", "delimiter: ;")
    assert b.body(semicolon, b.journal()) == b"10,50;\r\n;10,50\r\n"
    assert b.body(b.csv_layout(AMOUNTS, "mark: ','"), b.journal()) == b'"10,50",\r\n,"10,50"\r\n'


@pytest.mark.parametrize(
    ("style", "shown"), [("leading", b"-1234.50"), ("trailing", b"1234.50-"), ("parentheses", b"(1234.50)")]
)
def test_negative_amounts(style: str, shown: bytes) -> None:
    """A sign that the importer does not know turns a reversal into an expense."""
    text = b.csv_layout("[{name: N, field: line.entered_dr}]", f"negative: {style}")
    reversal = b.journal(b.line(1, "-1234.5"), b.line(2, None, "-1234.5"))
    assert b.body(text, reversal).split(b"\r\n")[0] == shown


def test_dates_by_pattern_in_english_whatever_the_locale() -> None:
    """03-Nov-2026 must not become 03-Nov.-2026 on a German server."""
    columns = '[{name: A, field: journal.effective_date, format: "%d-%b-%Y"}, {name: B, field: journal.effective_date}]'
    text = b.csv_layout(columns, 'dates: "%d.%m.%y"', row="header")
    assert b.body(text, b.journal()) == b"03-Nov-2026,03.11.26\r\n"


def test_a_character_that_the_encoding_lacks_holds_the_document() -> None:
    """Named with its place, so that it can be corrected; never a silent question mark."""
    with pytest.raises(DocumentHeld, match="'Ł' in 'Łódź, ulica Długa' does not exist in cp1252") as held:
        b.body(b.csv_layout(DESCRIPTION, "encoding: cp1252"), described("fine", "Łódź, ulica Długa"))
    assert held.value.reason == "ENCODING"


def test_characters_are_replaced_and_counted_where_that_is_agreed() -> None:
    """Punctuation by plain characters, the rest by the replacement; € exists in cp1252 and stays."""
    text = b.csv_layout(DESCRIPTION, "encoding: latin-1", "unencodable: replace")
    made = b.rendered(text, described("“quoted” – 5 €", "ł"))
    assert made.body == b'"""quoted"" - 5 EUR"\r\n?\r\n'
    assert made.counts == {"characters": 5}
    assert b.body(b.csv_layout(DESCRIPTION, "encoding: cp1252"), described("5 €")) == b"5 \x80\r\n"


def test_a_byte_order_mark_comes_once_and_first() -> None:
    """Excel takes UTF-8 for the local code page without it; a second one would be part of a value."""
    content = b.file_of(b.csv_layout(DESCRIPTION, "bom: true"), described("é"), described("ü"))
    assert content == b"\xef\xbb\xbfD\r\n\xc3\xa9\r\n\xc3\xbc\r\n"
    wide = b.file_of(b.csv_layout(DESCRIPTION, "bom: true", "encoding: utf-16-le"), described("é"), described("ü"))
    assert wide.decode("utf-16") == "D\r\né\r\nü\r\n"


def test_the_formula_guard_touches_texts_only() -> None:
    """-10.50 is an amount, -1+1 in a description may be run by a spreadsheet; off unless asked for."""
    columns = "[{name: D, field: line.description}, {name: A, field: line.entered_dr}]"
    content = b.journal(b.line(1, "-1", description="=cmd()"), b.line(2, None, "-1", description="+1"))
    assert b.body(b.csv_layout(columns), content) == b"=cmd(),-1.00\r\n+1,\r\n"
    guarded = b.rendered(b.csv_layout(columns, "formula_guard: prefix"), content)
    assert (guarded.body, guarded.counts) == (b"'=cmd(),-1.00\r\n'+1,\r\n", {"formulas": 2})
    with pytest.raises(DocumentHeld, match="begins like a formula"):
        b.body(b.csv_layout(columns, "formula_guard: reject"), content)


def test_header_and_trailer_carry_counts_totals_and_sequence() -> None:
    """Control records are how the partner knows that a file is whole."""
    text = b.csv_layout(
        AMOUNTS,
        'header: [["H", "{feed}", "{sequence:06}", "{utc:%Y%m%d}", "{rows}", "{total.entered_dr:2}"]]',
        'trailer: [["T", "{documents}", "{records}", "{total.entered_cr}"]]',
        "column_names: false",
    )
    lines = b.file_of(text, b.journal(), b.journal()).decode().split("\r\n")
    assert lines[0] == "H,partner,000007,20261121,4,21.00"
    assert lines[-2] == "T,2,6,21"


def test_a_trailer_per_currency_does_not_mix_them() -> None:
    """Dollars and yen added up control nothing."""
    text = b.csv_layout(AMOUNTS, 'trailer: [{per: currency, cells: ["{currency}", "{total.entered_dr}"]}]')
    yen = b.journal(b.line(1, "1000"), b.line(2, None, "1000"), currency="JPY", ledger_currency="USD")
    assert b.file_of(text, b.journal(), yen).decode().split("\r\n")[-3:-1] == ["JPY,1000", "USD,10.50"]


def test_document_records_stand_around_the_rows() -> None:
    """Importers with a record per journal and one per line."""
    text = b.csv_layout(
        "[{name: T, constant: L}, {name: N, field: line.line_number}]",
        "document_header: [{name: T, constant: J}, {name: N, field: journal.name}]",
        "document_trailer: [{name: T, constant: E}, {name: N, field: document.rows}]",
    )
    assert b.body(text, b.journal()) == b"J,Journal\r\nL,1\r\nL,2\r\nE,2\r\n"


def test_no_file_without_documents_unless_asked_for() -> None:
    """Default: no file for nothing; some partners want one with its frame."""
    assert b.writer_of(b.csv_layout(DESCRIPTION)).empty_file is False
    writer = b.writer_of(b.csv_layout(DESCRIPTION, "empty_file: frame", 'trailer: [["T", "{rows}"]]'))
    assert (writer.empty_file, b.assembled(writer, [])) == (True, b"D\r\nT,0\r\n")


@pytest.mark.parametrize(("childless", "rows"), [("row", b"Journal,\r\n"), ("skip", b"")])
def test_a_journal_without_lines(childless: str, rows: bytes) -> None:
    """One row with empty line columns, or none and counted."""
    text = b.csv_layout(
        "[{name: J, field: journal.name}, {name: N, field: line.line_number}]", f"childless: {childless}"
    )
    made = b.rendered(text, b.journal(lines=()))
    assert made.body == rows
    assert made.counts == ({"childless": 1} if childless == "skip" else {})


def test_a_journal_without_lines_is_held_where_that_is_agreed() -> None:
    """Nobody should wonder where it went."""
    with pytest.raises(DocumentHeld) as held:
        b.body(b.csv_layout(DESCRIPTION, "childless: hold"), b.journal(lines=()))
    assert held.value.reason == "NO_ROWS"


def test_crosswalks_case_defaults_and_lengths() -> None:
    """A code without a row, an empty required value and a key that is too long hold the document; nothing is cut."""
    rules = "crosswalks: {sides: {codes: {D: Soll}}}"
    text = b.csv_layout("[{name: S, field: line.side, crosswalk: sides, case: upper}]", rules)
    assert b.body(text, b.journal(b.line(1, "0"))) == b"SOLL\r\n"
    faults = {
        "CODE_UNKNOWN": (text, b.journal()),
        "FIELD_MISSING": (b.csv_layout("[{name: S, field: line.description, required: true}]"), b.journal()),
        "TOO_LONG": (b.csv_layout("[{name: S, field: journal.name, max_length: 6}]"), b.journal()),
    }
    for reason, (layout, content) in faults.items():
        with pytest.raises(DocumentHeld) as held:
            b.body(layout, content)
        assert (held.value.reason, held.value.target) == (reason, "S")
    assert b.body(b.csv_layout("[{name: S, field: line.description, default: none}]"), described(None)) == b"none\r\n"


def test_segments_that_do_not_fit_the_chart_hold_the_document() -> None:
    """A cost centre taken from the wrong place would be booked."""
    with pytest.raises(DocumentHeld, match="has 2 segments and chart US1 4") as held:
        b.body(
            b.csv_layout("[{name: A, field: chart.natural_account}]"),
            b.journal(b.line(1, account_combination="101-200")),
        )
    assert held.value.reason == "SEGMENTS"
    with pytest.raises(DocumentHeld, match="'Other' is in no chart"):
        b.body(b.csv_layout("[{name: A, field: segment.entity}]"), b.journal(ledger="Other"))


def test_a_line_without_combination_leaves_the_segments_of_the_others_in_their_rows() -> None:
    """All combinations of a journal are split at once; a gap must not shift the accounts behind it."""
    lines = (
        b.line(1, account_combination="101-200-60540-000"),
        b.line(2, account_combination=None),
        b.line(3, account_combination="102-300-70000-001"),
    )
    columns = "[{name: N, field: line.line_number}, {name: A, field: chart.natural_account}]"
    assert b.body(b.csv_layout(columns), b.journal(*lines)) == b"1,60540\r\n2,\r\n3,70000\r\n"


@pytest.mark.parametrize("texts", [('27"', "a,b", "plain"), ('27"', "a,b", "c\nd", "plain"), ('"', "plain")])
def test_values_with_different_marks_are_quoted_side_by_side(texts: tuple[str, ...]) -> None:
    """Columns with one or two kinds of marks go a short way; it must quote what the long way quotes."""
    rows = list(csv.reader(io.StringIO(b.body(b.csv_layout(DESCRIPTION), described(*texts)).decode(), newline="")))
    assert rows == [[text] for text in texts]
