"""Every odd file, row and invoice that senders are known for has its test: here, or where the catalogue points.

Belongs here: the catalogue, and what shows in the reading of one file. What needs a server, references or the ledger
is tested with those.
"""

import csv
import io
import re
import time
from decimal import Decimal
from pathlib import Path

import pytest

from mlc_dagster.stampli.parsing.parse import parse_file
from mlc_dagster.stampli.parsing.parsed import FileRejected, ParsedInvoice
from mlc_dagster_tests.stampli.builders import PROFILE, invoice_csv, invoice_rows, only, parse, reasons

HERE = "stampli/parsing/test_odd_files.py"
ROWS = "stampli/parsing/test_rows.py"
INTAKE = "protocols/test_intake_whole.py"
VERSIONS = "protocols/test_intake_versions.py"
IDENTITY = "protocols/test_identity_fusion.py"
OCCURRENCES = "protocols/test_identity_occurrences.py"
RULES = "protocols/test_accounting_rules.py"
INVOICES = "protocols/test_odd_invoices.py"

CATALOGUE = {
    "BOM": (HERE, "test_a_byte_order_mark_is_skipped"),
    "cp1252": (HERE, "test_one_byte_of_another_encoding_parks_its_invoice"),
    "NUL byte": (ROWS, "test_a_nul_byte_costs_its_row_only"),
    "CR only": (HERE, "test_every_line_end_is_read"),
    "embedded newline": (HERE, "test_line_ends_and_quotes_within_quotes_are_text"),
    "quote inside": (HERE, "test_line_ends_and_quotes_within_quotes_are_text"),
    "trailing comma": (HERE, "test_a_trailing_comma_in_all_rows_is_a_nameless_empty_column"),
    "short and long row": (
        "stampli/parsing/test_rows.py",
        "test_rows_of_the_wrong_width_are_set_aside_and_the_others_stay",
    ),
    "duplicate header": (HERE, "test_header_rows_that_are_not_the_profiles_are_refused_by_name"),
    "reordered columns": (HERE, "test_columns_may_stand_in_any_order"),
    "renamed column": (HERE, "test_header_rows_that_are_not_the_profiles_are_refused_by_name"),
    "missing column": (HERE, "test_header_rows_that_are_not_the_profiles_are_refused_by_name"),
    "extra column": (HERE, "test_an_extra_column_is_told"),
    "empty file": (HERE, "test_an_empty_file_is_refused_and_one_with_a_header_holds_nothing"),
    "header-only file": (HERE, "test_an_empty_file_is_refused_and_one_with_a_header_holds_nothing"),
    "0 bytes, then full": (INTAKE, "test_a3_a_file_that_is_empty_at_first_is_read_when_it_is_full"),
    "growing file": (INTAKE, "test_a3_a_file_that_grows_while_it_is_read_waits_and_is_then_read_whole"),
    "file replaced": (VERSIONS, "test_a4_the_same_name_with_new_bytes_is_a_new_version"),
    "same content, other name": (VERSIONS, "test_a4_the_same_bytes_under_another_name_are_noted_and_not_posted_twice"),
    "same number, two vendors": (IDENTITY, "test_b3_the_same_number_of_two_suppliers_is_two_invoices"),
    "same number, two units": (
        IDENTITY,
        "test_b3_the_number_in_another_business_unit_is_held_and_postable_after_release",
    ),
    "same number, two sites": (
        INVOICES,
        "test_the_same_number_at_two_sites_of_one_supplier_is_posted_once",
    ),
    "numbers that look alike": (
        INVOICES,
        "test_three_ways_to_write_one_number_are_posted_once_until_a_person_says_otherwise",
    ),
    "credit memo, positive": (RULES, "h2 positive memo"),
    "zero amount": (HERE, "test_zero_and_one_cent_are_exact"),
    "rounding of 0.01": (RULES, "h1 one cent off"),
    "JPY": (RULES, "g2 yen"),
    "KWD": (RULES, "g2 dinar"),
    "beyond 2^53": (RULES, "g2 beyond a double"),
    "10,000 lines": ("stampli/parsing/test_parse.py", "test_an_invoice_of_ten_thousand_lines_is_one_invoice"),
    "mixed currencies": (HERE, "test_two_currencies_in_one_invoice_are_a_conflict"),
    "negative line": (RULES, "h2 negative line"),
    "tax only": (HERE, "test_invoices_of_tax_or_freight_alone_are_read"),
    "freight": (HERE, "test_invoices_of_tax_or_freight_alone_are_read"),
    "purchase order": (RULES, "h3 purchase order"),
    "purchase order over-billed": (
        INVOICES,
        "test_an_order_that_is_billed_twice_over_is_never_posted_as_expense",
    ),
    "unknown vendor, then created": (
        "protocols/test_windows_cures.py",
        "test_d3_a_parked_invoice_goes_through_by_itself_once_its_supplier_exists",
    ),
    "inactive site": (RULES, "h5 the inactive one named"),
    "disabled account": (RULES, "h4 disabled"),
    "ended cost centre": (RULES, "h4 ended cost centre"),
    "closed period": (RULES, "g4 closed period"),
    "future period": (RULES, "g4 future period"),
    "never opened period": (RULES, "g4 never opened"),
    "29 February": ("stampli/parsing/test_cells.py", "test_the_29th_of_february_exists_in_leap_years_only"),
    "ambiguous date": (RULES, "g1 guessed date"),
    "midnight": ("protocols/test_accounting_periods.py", "test_g4_today_is_the_legal_entitys_day"),
    "unapproved row": (RULES, "h1 not approved"),
    "void after posting": (OCCURRENCES, "test_b4_a_void_after_posting_is_for_a_person"),
    "revision after posting": (
        OCCURRENCES,
        "test_b4_a_revision_after_posting_is_for_a_person_and_never_a_second_invoice",
    ),
    "document missing": (
        "protocols/test_posting_c6_after.py",
        "test_c7_missing_document_is_reported_and_attached_at_reconcile",
    ),
    "document too large": (INVOICES, "test_a_document_larger_than_allowed_is_told_and_not_attached"),
    "formula": (HERE, "test_formulas_are_text"),
    "path traversal": ("stampli/test_checks.py", "test_documents_outside_the_folder_are_refused"),
    "bidi and zero width": (HERE, "test_unseen_characters_in_a_vendor_name_are_kept_as_text_and_shown"),
    "a million rows": (HERE, "test_a_very_long_file_is_read_at_one_speed"),
}


@pytest.mark.parametrize("case", CATALOGUE)
def test_every_odd_file_has_its_test(case: str) -> None:
    """Who removes a test removes a promise: this says which."""
    place, name = CATALOGUE[case]
    text = (Path(__file__).parents[2] / place).read_text(encoding="utf-8")
    assert re.search(rf'(def {re.escape(name)}\(|"{re.escape(name)}":)', text), f"{place} has no {name}"


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    """Excel writes one; it is no part of the first column's name."""
    content = invoice_csv(invoice_rows("1.00"))
    assert only(tmp_path, b"\xef\xbb\xbf" + content).digest == only(tmp_path, content).digest


def test_one_byte_of_another_encoding_parks_its_invoice(tmp_path: Path) -> None:
    """cp1252 "é" in a UTF-8 file: the name is not guessed, the other invoice goes on."""
    rows = [*invoice_rows("1.00", vendor_name="Caf\u00e9"), *invoice_rows("2.00", invoice_id="2")]
    (invoice,), (row,) = parse(tmp_path, invoice_csv(rows, encoding="cp1252"))
    assert invoice.source_id == "2"
    assert "0xE9" in row.text
    assert row.source_id == "88121"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_is_read(tmp_path: Path, end: str) -> None:
    """Old Macs and mainframes end lines with CR alone."""
    rows = invoice_rows("1.00", "2.00")
    assert only(tmp_path, invoice_csv(rows, line_end=end)).digest == only(tmp_path, invoice_csv(rows)).digest


def test_line_ends_and_quotes_within_quotes_are_text(tmp_path: Path) -> None:
    """An address has lines, a filter has inches."""
    found = only(tmp_path, invoice_csv(invoice_rows("1.00", description='two\nlines, 20"')))
    assert found.invoice is not None
    assert found.invoice.description == 'two\nlines, 20"'


def test_a_trailing_comma_in_all_rows_is_a_nameless_empty_column(tmp_path: Path) -> None:
    """Many exports end each row so; in one row alone it moves nothing silently."""
    content = invoice_csv(invoice_rows("1.00")).replace(b"\n", b",\n")
    assert only(tmp_path, content).invoice is not None
    head, row = invoice_csv(invoice_rows("1.00")).splitlines(keepends=True)
    invoices, aside = parse(tmp_path, head + row.replace(b"\n", b",\n"))
    assert (len(invoices), len(aside)) == (0, 1)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"vendor_site", b"vendor_id", "'vendor_id' appears more than once"),
        (b"invoice_amount", b"invoice_amout", "'invoice_amount' (found 'invoice_amout') is missing"),
        (b"line_amount", b"x", "'line_amount' is missing"),
    ],
)
def test_header_rows_that_are_not_the_profiles_are_refused_by_name(
    tmp_path: Path, old: bytes, new: bytes, words: str
) -> None:
    """Twice, renamed, missing: no row of the file can be trusted, and the text says which column."""
    with pytest.raises(FileRejected, match=re.escape(words)):
        parse(tmp_path, invoice_csv(invoice_rows("1.00")).replace(old, new, 1))


def test_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    """The header row names them."""
    rows = invoice_rows("1.00")
    turned = invoice_csv(rows, columns=sorted(rows[0], reverse=True))
    assert only(tmp_path, turned).digest == only(tmp_path, invoice_csv(rows)).digest


def test_an_extra_column_is_told(tmp_path: Path) -> None:
    """Its values are not used; nobody should believe that they are."""
    path = tmp_path / "file.csv"
    path.write_bytes(invoice_csv([{**row, "colour": "red"} for row in invoice_rows("1.00")]))
    stream = parse_file(path, PROFILE)
    assert stream.warnings == ("column 'colour' is not in profile stampli_lines_v1; its values are not used",)
    assert isinstance(next(stream), ParsedInvoice)


def test_an_empty_file_is_refused_and_one_with_a_header_holds_nothing(tmp_path: Path) -> None:
    """The first is an accident, the second a day without invoices."""
    with pytest.raises(FileRejected, match="is empty"):
        parse(tmp_path, b"")
    assert parse(tmp_path, invoice_csv([], columns=list(invoice_rows()[0]))) == ([], [])


def test_zero_and_one_cent_are_exact(tmp_path: Path) -> None:
    """-0.00 is 0.00, and a cent is a cent."""
    found = only(tmp_path, invoice_csv(invoice_rows("-0.00", "0.01", "-0.01")))
    assert found.invoice is not None
    assert str(found.invoice.amount) == "0.00"
    assert [str(line.amount) for line in found.invoice.lines] == ["0.00", "0.01", "-0.01"]


def test_two_currencies_in_one_invoice_are_a_conflict(tmp_path: Path) -> None:
    """100 of which?"""
    rows = invoice_rows("1.00", "2.00", lines=[{}, {"currency": "EUR"}])
    assert reasons(only(tmp_path, invoice_csv(rows))) == [("HEADER_CONFLICT", "currency")]


@pytest.mark.parametrize("line_type", ["TAX", "FREIGHT"])
def test_invoices_of_tax_or_freight_alone_are_read(tmp_path: Path, line_type: str) -> None:
    """Customs send bills of import tax alone, carriers of freight alone."""
    found = only(tmp_path, invoice_csv(invoice_rows("8.25", lines=[{"line_type": line_type}])))
    assert found.invoice is not None
    assert [(line.line_type, line.amount) for line in found.invoice.lines] == [(line_type, Decimal("8.25"))]


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1", "-1+2", "@SUM(A1)", "<script>"])
def test_formulas_are_text(tmp_path: Path, text: str) -> None:
    """They are kept as the supplier wrote them and never become cells of ours."""
    found = only(tmp_path, invoice_csv(invoice_rows("1.00", description=text)))
    assert found.invoice is not None
    assert found.invoice.description == text


def test_unseen_characters_in_a_vendor_name_are_kept_as_text_and_shown(tmp_path: Path) -> None:
    """The name decides nothing, the id does; where it is shown its characters are visible."""
    found = only(tmp_path, invoice_csv(invoice_rows("1.00", vendor_name="Ac\u202eme\u200b")))
    assert found.invoice is not None
    assert found.invoice.vendor_name == "Ac\u202eme\u200b"
    assert reasons(only(tmp_path, invoice_csv(invoice_rows("1.00", vendor_id="3\u200b0012")))) == [
        ("FIELD_INVALID", "vendor_id")
    ]


def test_a_very_long_file_is_read_at_one_speed(tmp_path: Path) -> None:
    """A million rows take ten times a hundred thousand, not a hundred times: no step looks back over the file."""
    rows = invoice_rows("1.00", "2.00")
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([list(row.values()) for row in rows])
    head = ",".join(rows[0]) + "\n"
    seconds: list[float] = []
    # Both beyond what is kept between two looks at a file.
    for count in (8_000, 32_000):
        path = tmp_path / f"{count}.csv"
        path.write_text(head + "".join(text.getvalue().replace("88121", str(number)) for number in range(count)))
        began = time.process_time()
        assert sum(1 for _ in parse_file(path, PROFILE)) == count
        seconds.append(time.process_time() - began)
    assert seconds[1] < seconds[0] * 8
