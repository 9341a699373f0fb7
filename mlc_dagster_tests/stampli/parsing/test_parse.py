"""From a file to invoices and quarantined rows: rows add up, one fault costs one invoice, content has one digest."""

import csv
import datetime as dt
import io
import tracemalloc
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_dagster.stampli.model import content_json, digest
from mlc_dagster.stampli.parsing import parse as parsing
from mlc_dagster.stampli.parsing import physical_lines
from mlc_dagster.stampli.parsing.parse import InvoiceStream, parse_file
from mlc_dagster.stampli.parsing.parsed import FileRejected, ParsedInvoice
from mlc_dagster_tests.stampli.builders import (
    COLUMNS,
    PROFILE,
    invoice_csv,
    invoice_rows,
    only,
    parse,
    reasons,
    write_csv,
)


def test_rows_of_one_invoice_become_one_invoice(tmp_path: Path) -> None:
    """The ordinary case, every field where it belongs."""
    parsed = only(tmp_path, invoice_csv(invoice_rows("1000.00", "82.50", vendor_site="HQ")))
    assert parsed.problems == ()
    assert parsed.rows == (2, 3)
    assert parsed.invoice is not None
    assert parsed.invoice.amount == Decimal("1082.50")
    assert parsed.invoice.vendor_name == "Acme, Inc."
    assert parsed.invoice.vendor_site == "HQ"
    assert parsed.invoice.approved_at == dt.datetime(2026, 10, 30, 16, 2, 11, tzinfo=dt.UTC)
    assert [line.amount for line in parsed.invoice.lines] == [Decimal("1000.00"), Decimal("82.50")]
    assert parsed.invoice.lines[0].description == 'Filters, 20"'
    assert parsed.invoice.lines[0].dimensions == {"cost_center": "4410"}
    assert parsed.content == content_json(parsed.invoice)
    assert parsed.digest == digest(parsed.invoice)


def test_content_does_not_depend_on_rows_columns_bom_or_line_ends(tmp_path: Path) -> None:
    """The same invoice in another export must be recognised as a duplicate, not taken for a revision."""
    rows = invoice_rows("1000.00", "82.50", "-2.00")
    columns = [*COLUMNS]
    other = invoice_csv(
        [rows[2], rows[0], rows[1]], columns=[*reversed(columns), "custom_1", "new_column"], line_end="\r\n"
    )
    plain = only(tmp_path, invoice_csv(rows))
    turned = only(tmp_path, b"\xef\xbb\xbf" + other)
    assert turned.digest == plain.digest
    assert turned.content == plain.content


def test_raw_content_does_not_depend_on_rows_and_columns_either(tmp_path: Path) -> None:
    """An invoice that cannot be built is compared with its next appearance as well."""
    rows = invoice_rows("1000.00", "8x", invoice_amount="1")
    plain = only(tmp_path, invoice_csv(rows))
    turned = only(tmp_path, invoice_csv(rows[::-1], columns=list(reversed(COLUMNS))))
    assert plain.invoice is None
    assert plain.digest == turned.digest


def test_rows_that_are_not_adjacent_are_one_invoice(tmp_path: Path) -> None:
    """An export sorted by line number must not post one invoice per piece."""
    one = invoice_rows("1.00", "2.00", "3.00", invoice_id="1")
    two = invoice_rows("4.00", "5.00", "6.00", invoice_id="2")
    mixed = [row for pair in zip(one, two, strict=True) for row in pair]
    invoices, quarantined = parse(tmp_path, invoice_csv(mixed))
    assert not quarantined
    assert {parsed.source_id: parsed.rows for parsed in invoices} == {"1": (2, 4, 6), "2": (3, 5, 7)}
    assert all(parsed.invoice is not None for parsed in invoices)


def test_the_same_invoice_id_of_two_companies_is_two_invoices(tmp_path: Path) -> None:
    """Stampli numbers invoices per company."""
    invoices, _ = parse(tmp_path, invoice_csv(invoice_rows() + invoice_rows(company_id="C200")))
    assert {parsed.company_id for parsed in invoices} == {"C100", "C200"}


def test_a_header_only_file_holds_no_invoices(tmp_path: Path) -> None:
    """A quiet quarter of an hour is exported like this."""
    assert parse(tmp_path, invoice_csv([])) == ([], [])


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_a_file_without_a_header_is_rejected(tmp_path: Path, content: bytes) -> None:
    """Nothing to read is not the same as no invoices."""
    with pytest.raises(FileRejected, match="header row"):
        parse(tmp_path, content)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ([c for c in COLUMNS if c != "invoice_amount"], ["file.csv", "'invoice_amount'", "missing"]),
        ([c if c != "invoice_number" else "invoice_nr" for c in COLUMNS], ["'invoice_number'", "found 'invoice_nr'"]),
        ([*COLUMNS, "status"], ["'status'", "more than once"]),
        ([*COLUMNS, " Status"], ["'status'", "more than once"]),
    ],
)
def test_a_wrong_header_rejects_the_file_and_names_the_column(
    tmp_path: Path, columns: list[str], words: list[str]
) -> None:
    """With a missing or doubled column no row can be trusted."""
    with pytest.raises(FileRejected) as rejected:
        parse(tmp_path, invoice_csv(invoice_rows(), columns=columns))
    assert rejected.value.reason == "FILE_SCHEMA"
    assert all(word in rejected.value.text for word in words)


def test_another_delimiter_is_named(tmp_path: Path) -> None:
    """The commonest mistake of an export from a European Excel."""
    with pytest.raises(FileRejected, match="separated by ';'"):
        parse(tmp_path, invoice_csv(invoice_rows()).replace(b",", b";"))


def test_utf_16_is_named(tmp_path: Path) -> None:
    """Excel calls it Unicode text."""
    with pytest.raises(FileRejected, match="UTF-16"):
        parse(tmp_path, invoice_csv(invoice_rows(), encoding="utf-16"))


def test_column_names_are_read_without_case_and_blanks(tmp_path: Path) -> None:
    """Headers are edited by people."""
    content = invoice_csv(invoice_rows())
    head, rest = content.split(b"\n", 1)
    assert only(tmp_path, head.upper().replace(b",", b" , ") + b"\n" + rest).problems == ()


def test_unknown_columns_are_told_and_unknown_dimensions_are_kept(tmp_path: Path) -> None:
    """A new column must not stop the feed; a new dimension is for the account template to use."""
    path = write_csv(tmp_path, [{**invoice_rows()[0], "colour": "red", "dim_region": "West", "custom_7": "x"}])
    stream = parse_file(path, PROFILE)
    (parsed,) = stream
    assert any("'colour'" in warning for warning in stream.warnings)
    assert isinstance(parsed, ParsedInvoice)
    assert parsed.invoice is not None
    assert parsed.invoice.lines[0].dimensions == {"cost_center": "4410", "region": "West"}
    assert parsed.invoice.lines[0].custom == {"7": "x"}


def test_every_fault_is_reported(tmp_path: Path) -> None:
    """People correct an invoice once, not once per fault."""
    rows = invoice_rows("10.00", "5,00", invoice_amount="15.00", invoice_date="soon", vendor_name="", currency="")
    parsed = only(tmp_path, invoice_csv(rows))
    assert sorted(reasons(parsed)) == [
        ("FIELD_INVALID", "invoice_date"),
        ("FIELD_INVALID", "line_amount"),
        ("FIELD_MISSING", "currency"),
        ("FIELD_MISSING", "vendor_name"),
    ]


def test_rows_that_disagree_about_the_invoice_are_a_conflict(tmp_path: Path) -> None:
    """Which amount would be posted? Both are named, with their rows."""
    rows = invoice_rows("10.00", "5.00")
    rows[1]["invoice_amount"] = "16.00"
    rows[1]["currency"] = "EUR"
    parsed = only(tmp_path, invoice_csv(rows))
    assert parsed.invoice is None
    assert sorted(reasons(parsed)) == [("HEADER_CONFLICT", "currency"), ("HEADER_CONFLICT", "invoice_amount")]
    text = next(found.text for found in parsed.problems if found.field == "invoice_amount")
    assert "'15.00' in row 2" in text
    assert "'16.00' in row 3" in text


def test_bank_data_parks_the_invoice_and_goes_nowhere(tmp_path: Path) -> None:
    """A changed bank account in an invoice feed is how suppliers are impersonated."""
    rows = [{**invoice_rows()[0], "iban": "DE02120300000000202051"}]
    parsed = only(tmp_path, invoice_csv(rows))
    assert parsed.invoice is None
    assert reasons(parsed) == [("BANK_DATA_PRESENT", "iban")]
    assert b"DE0212" not in parsed.content
    assert "DE0212" not in parsed.problems[0].text


def test_an_empty_bank_column_harms_nobody(tmp_path: Path) -> None:
    """Templates carry columns that nobody fills."""
    assert only(tmp_path, invoice_csv(invoice_rows(), columns=[*COLUMNS, "bank_account"])).problems == ()


def test_a_cell_under_a_nameless_column_parks(tmp_path: Path) -> None:
    """A trailing comma in the header hides a comma too many in a row."""
    content = invoice_csv(invoice_rows(), columns=[*COLUMNS, ""])
    assert only(tmp_path, content).problems == ()
    shifted = content.rstrip(b"\n") + b"x\n"
    assert reasons(only(tmp_path, shifted)) == [("FIELD_INVALID", f"column {len(COLUMNS) + 1}")]


def test_formulas_and_markup_are_kept_as_text(tmp_path: Path) -> None:
    """Text is text: changing it would make our copy differ from the document."""
    text = '=HYPERLINK("http://x","y")'
    parsed = only(tmp_path, invoice_csv(invoice_rows(description=text)))
    assert parsed.invoice is not None
    assert parsed.invoice.description == text


def test_a_broken_row_parks_the_invoice_that_it_names(tmp_path: Path) -> None:
    """An invoice that lost a line must not be posted without it, even when the rest adds up."""
    good = invoice_csv(invoice_rows(invoice_id="1") + invoice_rows(invoice_id="2"))
    invoices, quarantined = parse(tmp_path, good + b"C100,,1,,broken\n")
    found = {parsed.source_id: parsed for parsed in invoices}
    assert [(row.line, row.company_id, row.source_id, row.raw) for row in quarantined] == [
        (4, "C100", "1", b"C100,,1,,broken")
    ]
    assert [problem.reason for problem in found["1"].problems] == ["ROW_MALFORMED"]
    assert found["1"].invoice is None
    assert found["2"].problems == ()


def test_a_broken_row_is_matched_although_it_comes_first(tmp_path: Path) -> None:
    """The invoice's good rows may follow a thousand rows later."""
    head, rest = invoice_csv(invoice_rows(invoice_id="1")).split(b"\n", 1)
    invoices, _ = parse(tmp_path, head + b"\nC100,,1,,broken\n" + rest)
    assert invoices[0].invoice is None


def test_a_row_without_a_key_is_quarantined(tmp_path: Path) -> None:
    """It belongs to no invoice; Excel writes rows of commas."""
    blank = b"," * (len(COLUMNS) - 1)
    invoices, quarantined = parse(tmp_path, invoice_csv(invoice_rows()) + blank + b"\n")
    assert len(invoices) == 1
    assert quarantined[0].line == 3
    assert "invoice_id" in quarantined[0].text
    assert quarantined[0].source_id is None


@pytest.mark.parametrize("key", ["88\x07121", "88\u202e121", "x" * 101])
def test_a_key_nobody_can_read_is_no_key(tmp_path: Path, key: str) -> None:
    """Keys are what people search for and compare by eye."""
    invoices, quarantined = parse(tmp_path, invoice_csv(invoice_rows(invoice_id=key)))
    assert not invoices
    assert len(quarantined) == 1


def test_a_wrongly_encoded_row_costs_its_invoice_only(tmp_path: Path) -> None:
    """One é from a Windows program in a UTF-8 file of a hundred invoices."""
    bad = invoice_csv(invoice_rows(invoice_id="2", vendor_name="Café"), encoding="cp1252").split(b"\n", 1)[1]
    invoices, quarantined = parse(tmp_path, invoice_csv(invoice_rows(invoice_id="1")) + bad)
    assert [parsed.source_id for parsed in invoices] == ["1"]
    assert [(row.line, row.source_id) for row in quarantined] == [(3, "2")]
    assert "0xE9" in quarantined[0].text


def test_two_invoices_of_one_number_and_two_vendors_stay_two(tmp_path: Path) -> None:
    """Numbers are unique per supplier at best."""
    rows = invoice_rows(invoice_id="1") + invoice_rows(invoice_id="2", vendor_id="40000")
    invoices, _ = parse(tmp_path, invoice_csv(rows))
    assert {(parsed.number, parsed.vendor_id) for parsed in invoices} == {
        ("INV-00417", "30012"),
        ("INV-00417", "40000"),
    }


def test_a_profile_without_an_id_uses_vendor_and_number(tmp_path: Path) -> None:
    """Not every export knows Stampli's own id."""
    rules = PROFILE.rows.model_copy(update={"key": ("company_id", "vendor_id", "number")})
    invoices, _ = parse(tmp_path, invoice_csv(invoice_rows()), PROFILE.model_copy(update={"rows": rules}))
    assert invoices[0].source_id == '["30012", "INV-00417"]'


def test_decimal_comma_and_another_date_order_are_read_as_declared(tmp_path: Path) -> None:
    """The profile says it, nobody guesses."""
    values = PROFILE.values.model_copy(update={"decimal_mark": ",", "date": "DD.MM.YYYY", "nulls": ("NULL",)})
    text = PROFILE.text.model_copy(update={"delimiter": ";", "encoding": "cp1252"})
    profile = PROFILE.model_copy(update={"values": values, "text": text})
    row = {**invoice_rows("1234.50")[0], "invoice_amount": "1234,50", "line_amount": "1234,5", "due_date": "NULL"}
    row |= {"invoice_date": "01.02.2026", "posting_date": "", "vendor_name": "Café"}
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=";").writerows([COLUMNS, [row.get(name, "") for name in COLUMNS]])
    invoices, _ = parse(tmp_path, buffer.getvalue().encode("cp1252"), profile)
    assert invoices[0].invoice is not None
    assert invoices[0].invoice.amount == Decimal("1234.50")
    assert invoices[0].invoice.invoice_date == dt.date(2026, 2, 1)
    assert invoices[0].invoice.due_date is None
    assert invoices[0].invoice.vendor_name == "Café"


def test_an_invoice_of_ten_thousand_lines_is_one_invoice(tmp_path: Path) -> None:
    """Freight and utility invoices look like this."""
    parsed = only(tmp_path, invoice_csv(invoice_rows(*["0.01"] * 10_000)))
    assert parsed.invoice is not None
    assert len(parsed.invoice.lines) == 10_000
    assert parsed.invoice.amount == Decimal("100.00")


_DAMAGE = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b'"', b"\n", b"\r", b",", b"\0", b'","', b"\xff", b'"\n', b"C100,", b"88121"]),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 40), _DAMAGE), max_size=6))
def test_rows_add_up_whatever_happens_to_the_file(tmp_path: Path, cuts: list[tuple[int, int, bytes]]) -> None:
    """Rows in the file = rows in invoices + rows quarantined, each line once, under any damage to the bytes."""
    rows = invoice_rows("1.00", "2.00", invoice_id="1") + invoice_rows("3.00", invoice_id="2")
    rows += invoice_rows("5.00", invoice_id="1") + invoice_rows("4.00", "5.00", invoice_id="3")
    head, body = invoice_csv(rows).split(b"\n", 1)
    for at, gone, put in cuts:
        body = body[:at] + put + body[at + gone :]
    path = tmp_path / "file.csv"
    path.write_bytes(head + b"\n" + body)
    stream = parse_file(path, PROFILE)
    lines: Counter[int] = Counter()
    keys: Counter[tuple[str, str]] = Counter()
    for found in stream:
        lines.update(found.rows if isinstance(found, ParsedInvoice) else [found.line])
        if isinstance(found, ParsedInvoice):
            keys[found.company_id, found.source_id] += 1
            assert (found.invoice is None) == bool(found.problems)
    assert stream.rows == lines.total()
    assert set(lines.values()) <= {1}
    assert set(keys.values()) <= {1}
    # The careful path alone sees the same.
    assert list(InvoiceStream(path, PROFILE, careful=True)) == list(parse_file(path, PROFILE))


def test_pieces_of_invoices_wait_on_disk_with_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the waiting rows lie must not show in the result."""
    rows = [row for n in range(300) for row in invoice_rows("1.00", "2.00", invoice_id=str(n))]
    path = write_csv(tmp_path, [*rows[::2], *rows[1::2]])
    in_memory = list(parse_file(path, PROFILE))
    monkeypatch.setattr(parsing, "_SPOOLED", 1000)
    assert list(parse_file(path, PROFILE)) == in_memory
    assert len(in_memory) == 300


def test_memory_follows_the_invoice_and_not_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand invoices in one file is somebody's go-live."""
    # Both files are long ones, which are read twice; what is kept of a short one has a bound of its own.
    monkeypatch.setattr(parsing, "_KEPT", 200_000)
    peaks: list[int] = []
    for invoices in (2_000, 8_000):
        row = invoice_rows()[0]
        path = write_csv(tmp_path, ({**row, "invoice_id": str(n)} for n in range(invoices)))
        tracemalloc.start()
        assert sum(1 for _ in parse_file(path, PROFILE)) == invoices
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # What grows is the index, about 130 bytes per invoice; its row alone would take 2,000.
    assert peaks[1] - peaks[0] < 6_000 * 300


@pytest.mark.parametrize("kept", [0, 2 * 1024 * 1024])
@pytest.mark.parametrize("chunk", [700, 2500, 128 * 1024])
def test_reading_once_or_twice_and_in_whatever_portions_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, chunk: int
) -> None:
    """A short file is kept between the passes, a long one is read again; neither may show in the result."""
    rows = [row for number in range(30) for row in invoice_rows("1.00", "2.00", "3.00", invoice_id=f"{number}")]
    rows[40]["line_amount"] = "x"
    rows[50]["currency"] = "EUR"
    rows[10], rows[80] = rows[80], rows[10]
    head, rest = invoice_csv(rows).split(b"\n", 1)
    path = tmp_path / "file.csv"
    path.write_bytes(head + b"\n" + rest.replace(b"\n", b"\nC100,,7,,broken\n", 1))
    expected = list(InvoiceStream(path, PROFILE, careful=True))
    monkeypatch.setattr(parsing, "_KEPT", kept)
    monkeypatch.setattr(physical_lines, "CHUNK", chunk)
    found = list(parse_file(path, PROFILE))
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert sum(isinstance(each, ParsedInvoice) and each.invoice is None for each in found) == 3
