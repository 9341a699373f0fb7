"""Two files and a manifest: joined without loss, and read only when all of it is there and true."""

import json
import tracemalloc
from pathlib import Path

import pytest

from mlc_dagster.stampli.parsing import parse as parsing
from mlc_dagster.stampli.parsing import split_rows
from mlc_dagster.stampli.parsing.parse import parse_file
from mlc_dagster.stampli.parsing.parsed import FileRejected
from mlc_dagster.stampli.parsing.profile import load_profile
from mlc_dagster_tests.stampli.builders import file_name, invoice_csv, invoice_rows
from mlc_dagster_tests.stampli.builders_shapes import SPLIT, manifest_of, read, split_parts, write_split

ROWS = [*invoice_rows("1060.00", "40.50"), *invoice_rows("1.00", invoice_id="2", vendor_name="Müller; Söhne")]


def refusal(folder: Path, parts: dict[str, bytes], manifest: bytes | None = None) -> str:
    with pytest.raises(FileRejected) as refused:
        read(write_split(folder, parts, manifest), SPLIT)
    assert refused.value.text.isprintable()
    return refused.value.text


def test_a_delivery_says_what_the_plain_file_says(tmp_path: Path) -> None:
    """Decimal comma, day before month, cp1252: declared, never guessed; approval comes with the manifest."""
    (first, second), aside = read(write_split(tmp_path, split_parts(ROWS)), SPLIT)
    assert not aside
    assert first.invoice is not None
    assert second.invoice is not None
    assert str(first.invoice.amount) == "1100.50"
    assert first.invoice.invoice_date.isoformat() == "2026-10-28"
    assert first.invoice.approved_by == "folder"
    assert first.invoice.approved_at is not None
    assert second.invoice.vendor_name == "Müller; Söhne"


def test_lines_without_invoice_and_invoices_without_lines_are_set_aside(tmp_path: Path) -> None:
    """Each is half of something; neither may be posted nor disappear."""
    parts = split_parts(ROWS)
    others = split_parts(invoice_rows("5.00", invoice_id="3"))
    parts["x_lines.csv"] += others["x_lines.csv"].split(b"\r\n", 1)[1]
    parts["x_headers.csv"] += split_parts(invoice_rows("6.00", invoice_id="4"))["x_headers.csv"].split(b"\r\n", 1)[1]
    invoices, aside = read(write_split(tmp_path, parts), SPLIT)
    assert len(invoices) == 2
    texts = [row.text for row in aside]
    assert "belongs to 3, which x_headers.csv lacks" in texts[0]
    assert "(x_headers.csv row 4) has no line in x_lines.csv" in texts[1]
    assert (aside[1].company_id, aside[1].source_id) == ("C100", "4")


def test_a_second_row_for_one_invoice_parks_it(tmp_path: Path) -> None:
    """Which of the two is right, nobody can tell."""
    parts = split_parts(ROWS)
    parts["x_headers.csv"] += parts["x_headers.csv"].split(b"\r\n")[1].replace(b"1100,50", b"9,99") + b"\r\n"
    invoices, (row,) = read(write_split(tmp_path, parts), SPLIT)
    assert "second row for 88121" in row.text
    assert [bool(invoice.problems) for invoice in invoices] == [True, False]


def test_a_broken_line_parks_the_invoice_that_it_names(tmp_path: Path) -> None:
    """An invoice must not be posted without the line that could not be read."""
    parts = split_parts(ROWS)
    parts["x_lines.csv"] += b"88121;3;ITEM;x;1,00;61200;4410;too;many\r\n"
    invoices, (row,) = read(write_split(tmp_path, parts), SPLIT)
    assert "has 9 cells, the header has 7" in row.text
    assert [bool(invoice.problems) for invoice in invoices] == [True, False]


def test_a_broken_invoice_row_takes_its_lines_with_it(tmp_path: Path) -> None:
    """Its lines have no supplier and no currency."""
    parts = split_parts(ROWS)
    parts["x_headers.csv"] = parts["x_headers.csv"].replace(b"Acme, Inc.", b"Acme;Inc.", 1)
    (invoice,), aside = read(write_split(tmp_path, parts), SPLIT)
    assert invoice.source_id == "2"
    assert len(aside) == 3
    assert aside[-1].source_id == "88121"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"lines": {"records": 4}}, "number of rows is 4, the file has 3"),
        ({"headers": {"total": "1100,50"}}, "the rows add up to 1101.5;"),
        ({"lines": {"bytes": 7}}, "the manifest says 7"),
        ({"lines": {"sha256": "0" * 64}}, "has SHA-256"),
        ({"lines": {"name": "y_lines.csv"}}, "is named by the manifest and not there"),
        ({"lines": {"name": "../x_lines.csv"}}, "write a plain file name"),
        ({"lines": {"name": "x_other.csv"}}, "names 0 files like"),
        ({"lines": {"sha256": "abc"}}, "is no SHA-256"),
        ({"lines": {"bytes": -1}}, "is no number of bytes"),
    ],
)
def test_a_manifest_that_is_not_true_refuses_the_delivery(
    tmp_path: Path, wrong: dict[str, dict[str, str | int]], words: str
) -> None:
    """Half a delivery looks whole in each of its files."""
    parts = split_parts(ROWS)
    assert words in refusal(tmp_path, parts, manifest_of(parts, **wrong))


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b"{}", b'{"files": {}}', b'{"files": [1]}', b"\xff", b"[" * 100_000, b'{"files": []}']
)
def test_a_manifest_that_is_none_is_refused_in_words(tmp_path: Path, manifest: bytes) -> None:
    """Whoever can write into the folder can write this."""
    assert "manifest" in refusal(tmp_path, split_parts(ROWS), manifest)


def test_totals_in_numbers_of_json_are_exact(tmp_path: Path) -> None:
    """A float would make 0.1 + 0.2 another sum than the sender's."""
    parts = split_parts(invoice_rows("0.10", "0.20"))
    document = json.loads(manifest_of(parts))
    text = json.dumps(document).replace('"0,30"', "0.30")
    invoices, _ = read(write_split(tmp_path, parts, text.encode()), SPLIT)
    assert len(invoices) == 1


def test_a_column_in_both_files_is_refused(tmp_path: Path) -> None:
    """Which of the two values counts is not for us to guess."""
    parts = split_parts(ROWS)
    parts["x_lines.csv"] = parts["x_lines.csv"].replace(b"line_type", b"currency")
    assert "'currency' appears more than once" in refusal(tmp_path, parts)


def test_a_missing_join_column_is_named(tmp_path: Path) -> None:
    """It is the first thing that a new export forgets."""
    parts = split_parts(ROWS)
    parts["x_lines.csv"] = parts["x_lines.csv"].replace(b"invoice_id", b"id")
    assert "x_lines.csv: needs one column 'invoice_id'" in refusal(tmp_path, parts)


def test_memory_follows_the_keys_and_not_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the invoices wait on disk."""
    monkeypatch.setattr(split_rows, "_SPOOLED", 64 * 1024)
    long = "x" * 3000
    rows = [row for number in range(6000) for row in invoice_rows("1.00", invoice_id=str(number), vendor_name=long)]
    path = write_split(tmp_path, split_parts(rows))
    stream = split_rows.SplitRows(split_rows.Delivery(path, SPLIT), SPLIT, SPLIT.rows)  # type: ignore[arg-type]
    header = stream.header()
    assert isinstance(header, list)
    tracemalloc.start()
    count = sum(len(block.rows) for block in stream.blocks(len(header), bool))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 6000
    assert path.with_name("x_headers.csv").stat().st_size > 18_000_000
    assert peak < 7_000_000


def counted(folder: Path, parts: dict[str, bytes]) -> dict[str, tuple[int, int, int]]:
    """(rows, in invoices, set aside) of each file of a delivery, which add up."""
    stream = parse_file(write_split(folder, parts), SPLIT)
    assert stream.delivery is not None
    for found in stream:
        stream.delivery.note(found)
    for part in stream.delivery.parts():
        assert part.rows == part.rows_in_invoices + part.rows_quarantined
    return {part.name: part[3:] for part in stream.delivery.parts()}


@pytest.mark.parametrize("kept", [False, True], ids=["read twice", "kept"])
def test_rows_add_up_in_each_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kept: bool) -> None:
    """A row of the invoices has no row of its own in the ledger: without a count it could vanish unnoticed."""
    if not kept:
        monkeypatch.setattr(parsing, "_KEPT", 0)
    parts = split_parts(ROWS)
    assert counted(tmp_path, parts) == {"x_headers.csv": (2, 2, 0), "x_lines.csv": (3, 3, 0)}
    second = parts["x_headers.csv"].split(b"\r\n")[1] + b"\r\n"
    lonely = split_parts(invoice_rows("6.00", invoice_id="4"))["x_headers.csv"].split(b"\r\n", 1)[1]
    nobodys = split_parts(invoice_rows("5.00", invoice_id="3"))["x_lines.csv"].split(b"\r\n", 1)[1]
    parts["x_headers.csv"] += second + lonely + b"too;few\r\n"
    parts["x_lines.csv"] += nobodys + b"88121;3;ITEM;x;1,00;61200;4410;too;many\r\n"
    assert counted(tmp_path, parts) == {"x_headers.csv": (5, 2, 3), "x_lines.csv": (5, 3, 2)}


def test_an_invoice_row_whose_lines_are_set_aside_was_set_aside_with_them(tmp_path: Path) -> None:
    """Its company is missing, so no line of it can be in an invoice."""
    parts = split_parts(ROWS)
    parts["x_headers.csv"] = parts["x_headers.csv"].replace(b"C100", b"", 1)
    assert counted(tmp_path, parts) == {"x_headers.csv": (2, 1, 1), "x_lines.csv": (3, 1, 2)}


def test_an_invoice_of_which_every_line_is_broken_is_set_aside(tmp_path: Path) -> None:
    """The broken line names it; without a row of its own it would be neither in an invoice nor set aside."""
    parts = split_parts(ROWS)
    parts["x_lines.csv"] = parts["x_lines.csv"].replace(b"\r\n2;", b"\r\n2;too;many;", 1)
    assert counted(tmp_path, parts) == {"x_headers.csv": (2, 1, 1), "x_lines.csv": (3, 2, 1)}
    _, aside = read(write_split(tmp_path, parts), SPLIT)
    assert "has only lines that cannot be read in x_lines.csv" in aside[-1].text
    assert (aside[-1].company_id, aside[-1].source_id) == ("C100", "2")


def test_a_single_file_has_no_parts(tmp_path: Path) -> None:
    """Its rows are counted as they are."""
    path = tmp_path / file_name()
    path.write_bytes(invoice_csv(ROWS))
    assert parse_file(path, load_profile("stampli_lines_v1")).delivery is None
