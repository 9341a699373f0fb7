"""Typed records: every record is accounted for, and a trailer that is not true refuses the file."""

import hashlib
from decimal import Decimal
from pathlib import Path

import pytest

from mlc_dagster.stampli.parsing.parse import parse_file
from mlc_dagster.stampli.parsing.parsed import FileRejected
from mlc_dagster_tests.stampli.builders import invoice_csv, invoice_rows, only
from mlc_dagster_tests.stampli.builders_shapes import TYPED, read, typed_file, typed_records

ROWS = [*invoice_rows("60.00", "40.00"), *invoice_rows("1.00", invoice_id="2")]


def write(folder: Path, content: bytes) -> Path:
    path = folder / "typed.txt"
    path.write_bytes(content)
    return path


def refusal(folder: Path, content: bytes) -> str:
    with pytest.raises(FileRejected) as refused:
        read(write(folder, content), TYPED)
    assert refused.value.reason == "FILE_SCHEMA"
    return refused.value.text


def test_a_typed_file_says_what_the_plain_one_says(tmp_path: Path) -> None:
    """The shape of a file is the sender's matter; the invoice, and so its digest, is the same."""
    rows = invoice_rows("100.00", vendor_name="Pipe | and \\ Söhne")
    (invoice,), aside = read(write(tmp_path, typed_file(typed_records(rows), end="\r\n")), TYPED)
    assert not aside
    assert invoice.digest == only(tmp_path, invoice_csv(rows)).digest


def test_a_line_with_splits_becomes_its_splits(tmp_path: Path) -> None:
    """Each distribution has an account of its own; a line that kept its amount beside them would double it."""
    records = typed_records(invoice_rows("100.00"))
    records += ["D|1|70.00|61200|4410", "D|2|30.00|61300|"]
    (invoice,), _ = read(write(tmp_path, typed_file(records)), TYPED)
    assert invoice.invoice is not None
    assert [(line.amount, line.gl_account) for line in invoice.invoice.lines] == [
        (Decimal("70.00"), "61200"),
        (Decimal("30.00"), "61300"),
    ]
    assert [line.dimensions for line in invoice.invoice.lines] == [{"cost_center": "4410"}] * 2


def test_splits_that_do_not_make_their_line_park_the_invoice(tmp_path: Path) -> None:
    """Half a distribution is half of the money."""
    records = [*typed_records(invoice_rows("100.00")), "D|1|70.00|61200|4410"]
    (invoice,), (row,) = read(write(tmp_path, typed_file(records)), TYPED)
    assert "splits add up to 70" in row.text
    assert [found.reason for found in invoice.problems] == ["ROW_MALFORMED"]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("|2026-10-28|", "|28.10.2026|", "row 2, column invoice_date"),
        ("|61200|", "|6\t0|", "row 3, column gl_account"),
        ("A|88121.pdf", "A|88\t.pdf", "row 4, column document_file"),
        ("|30.00|", "|30,00|", "row 6, column line_amount"),
        ("|Filters", "|Fil\x1bters", "row 3, column line_description"),
        ("|82.50|CA", "|82.5O|CA", "row 7, column line_amount"),
    ],
)
def test_a_fault_names_the_record_that_holds_the_value(tmp_path: Path, old: str, new: str, place: str) -> None:
    """A date of the invoice stands in its H record, an amount of a split in its D record: people look there."""
    rows = invoice_rows("100.00", "82.50", lines=[{}, {"line_type": "TAX", "tax_code": "CA"}])
    *head, tax = typed_records(rows)
    records = [*head, "A|88121.pdf|", "D|1|70.00|61300|", "D|3|30.00||", tax]
    assert [record[:2] for record in records] == ["FH", "H|", "L|", "A|", "D|", "D|", "T|"]
    at = next(at for at, record in enumerate(records) if old in record)
    records[at] = records[at].replace(old, new)
    path = write(tmp_path, typed_file(records))
    stream = parse_file(path, TYPED)
    (found,) = stream
    assert stream.place(found.rows[0], "company_id") == "row 1, column company_id"  # type: ignore[union-attr]
    told = {(problem.row, stream.place(problem.row or 0, problem.field)) for problem in found.problems}  # type: ignore[union-attr]
    assert told == {(int(place.split(",", maxsplit=1)[0].removeprefix("row ")), place)}


def test_a_trailer_that_is_not_true_is_named_by_its_row(tmp_path: Path) -> None:
    """The last of ten thousand records, and which of its cells."""
    text = refusal(tmp_path, typed_file(typed_records(ROWS), "FT|2|3|5.00|x"))
    assert "row 7, the trailer's sum_amount is 5, the rows add up to 101" in text


@pytest.mark.parametrize(
    ("trailer", "words"),
    [
        ("FT|3|3|101.00|{hash}", "invoice_count (H) is 3, the file has 2"),
        ("FT|2|4|101.00|{hash}", "line_count (L+T) is 4, the file has 3"),
        ("FT|2|3|101.01|{hash}", "sum_amount is 101.01, the rows add up to 101;"),
        ("FT|2|3|101.00|" + "0" * 64, "have it sent again"),
        ("FT|2|3|1e2|{hash}", "write digits"),
        ("FT|two|3|101.00|{hash}", "write a whole number"),
        ("FT|2|3|101.00", "has 3 cells after its type"),
    ],
)
def test_a_trailer_that_is_not_true_refuses_the_file(tmp_path: Path, trailer: str, words: str) -> None:
    """Control totals exist to tell that something was lost on the way."""
    records = typed_records(ROWS)
    digest = hashlib.sha256("".join(f"{record}\n" for record in records).encode()).hexdigest()
    assert words in refusal(tmp_path, typed_file(records, trailer.replace("{hash}", digest)))


def test_the_trailer_is_compared_before_any_invoice_is_handed_out(tmp_path: Path) -> None:
    """Whoever takes the first invoice may post it."""
    path = write(tmp_path, typed_file(typed_records(ROWS), "FT|2|3|5.00|x"))
    with pytest.raises(FileRejected):
        read(path, TYPED)


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "expected first"),
        (["L|1"], "a record FH is expected first"),
        (["FH|C100|7|x|1", "FH|C100|7|x|1"], "second record of the file"),
        (["FH|C100"], "has 1 cells after its type"),
    ],
)
def test_a_file_without_its_frame_is_refused(tmp_path: Path, records: list[str], words: str) -> None:
    """Without its head nobody knows whose invoices these are."""
    assert words in refusal(tmp_path, typed_file(records))


def test_a_file_without_trailer_or_with_records_after_it_is_refused(tmp_path: Path) -> None:
    """The first is a part of a file, the second two files in one."""
    whole = typed_file(typed_records(ROWS))
    assert "has no trailer" in refusal(tmp_path, whole.rpartition(b"FT|")[0])
    assert "stands after the trailer" in refusal(tmp_path, whole + whole)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ("L|2|ITEM|short", "a record L has 12"),
        ("Z|1", "unknown record type 'Z'"),
        ("L|2|ITEM|C:\\new|1.00||||61200||||", "write \\\\ for one that is text"),
        ("L|2|ITEM|nul\0|1.00||||61200||||", "NUL"),
    ],
)
def test_a_broken_record_parks_its_invoice_and_no_other(tmp_path: Path, record: str, words: str) -> None:
    """The order tells whose record it is, also where it cannot be read."""
    records = typed_records(ROWS)
    records.insert(4, record)
    kinds = [each.split("|")[0] for each in records]
    body = "".join(f"{each}\n" for each in records).encode()
    trailer = f"FT|2|{kinds.count('L')}|101.00|{hashlib.sha256(body).hexdigest()}"
    invoices, (row,) = read(write(tmp_path, typed_file(records, trailer)), TYPED)
    assert words in row.text
    assert (row.line, row.source_id) == (5, "88121")
    assert [bool(invoice.problems) for invoice in invoices] == [True, False]


def test_records_of_an_invoice_whose_head_is_broken_are_set_aside(tmp_path: Path) -> None:
    """They must not be taken for lines of the invoice before."""
    records = [*typed_records(invoice_rows("5.00")), "H|2|1|broken", "L|1|ITEM|x|7.00||||61200|4410|||"]
    body = "".join(f"{each}\n" for each in records).encode()
    content = typed_file(records, f"FT|2|2|5.00|{hashlib.sha256(body).hexdigest()}")
    (invoice,), aside = read(write(tmp_path, content), TYPED)
    assert invoice.invoice is not None
    assert [row.line for row in aside] == [4, 5]
    assert {row.source_id for row in aside} == {"2"}


def test_an_invoice_without_lines_is_set_aside(tmp_path: Path) -> None:
    """Nothing of it could be posted, and nothing of it may disappear."""
    records = typed_records(invoice_rows("5.00"))[:2]
    invoices, (row,) = read(write(tmp_path, typed_file(records)), TYPED)
    assert not invoices
    assert (row.company_id, row.source_id) == ("C100", "88121")
    assert "without lines" in row.text


def test_a_document_belongs_to_its_invoice_and_a_second_one_is_not_dropped(tmp_path: Path) -> None:
    """One can be kept; to forget the other silently would lose evidence."""
    records = [*typed_records(invoice_rows("5.00")), "A|88121.pdf|"]
    (invoice,), _ = read(write(tmp_path, typed_file(records)), TYPED)
    assert invoice.invoice is not None
    assert invoice.invoice.document_file == "88121.pdf"
    (invoice,), (row,) = read(write(tmp_path, typed_file([*records, "A|more.pdf|"])), TYPED)
    assert "second A" in row.text
    assert invoice.invoice is None


def test_bytes_of_another_encoding_cost_their_record_only(tmp_path: Path) -> None:
    """cp1252 in a UTF-8 file is one wrong name, not a lost file."""
    rules = TYPED.file.model_copy(update={"end": TYPED.file.end.model_copy(update={"sha256": None})})
    profile = TYPED.model_copy(update={"file": rules})
    content = typed_file(typed_records(ROWS)).replace(b"Filters", b"Fen\xeatre", 1)
    invoices, (row,) = read(write(tmp_path, content), profile)
    assert "0xEA" in row.text
    assert [bool(invoice.problems) for invoice in invoices] == [True, False]
