"""Invoice files of any bytes: refused as a whole, or every row accounted for and no amount changed."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.stampli.parsing.parse import InvoiceStream
from mlc_dagster.stampli.parsing.parsed import FileRejected, ParsedInvoice, QuarantinedRow
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster_tests.fuzzing.effort import fuzzed
from mlc_dagster_tests.stampli.builders import COLUMNS, PROFILE, invoice_csv, invoice_rows

HEADER = ",".join(COLUMNS)
_HOSTILE = st.sampled_from(
    [
        "",
        " ",
        '"',
        '""',
        ",",
        "\r",
        "\n",
        "\r\n",
        "\0",
        "\ufeff",
        "=cmd|' /C calc'!A0",
        "@SUM(A1)",
        "\x1b[2J",
        "\x9b31m",
        "\u202e",
        "\u200b",
        "\u0660",
        "\u2028",
        "\x85",
        "\x0b",
        "\x0c",
        "\x1c",
        "1e9",
        "NaN",
        "-0.00",
        "Infinity",
        "1,000.00",
        "0.001",
        "9" * 30,
        "../../etc/passwd",
        "A" * 5000,
        "é",
        "\U000e0041",
    ]
)
_CELL = st.one_of(
    _HOSTILE,
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.decimals(allow_nan=False, allow_infinity=False, places=2).map(str),
)


@st.composite
def _files(draw: st.DrawFn) -> bytes:
    """A valid file with cells replaced, bytes put in and bytes cut out; half of them without a quote to begin with."""
    plain = {"line_description": "Filters"} if draw(st.booleans()) else {}
    cells = {"vendor_name": "Acme"} if plain else {}
    rows = [
        row
        for number in ("1", "2", "1")
        for row in invoice_rows("10.50", "2.00", invoice_id=number, lines=[plain, plain], **cells)
    ]
    for _ in range(draw(st.integers(0, 4))):
        row = draw(st.sampled_from(rows))
        row[draw(st.sampled_from(COLUMNS))] = draw(_CELL)
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    content = invoice_csv(rows, line_end=line_end)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(content)))
        cut = draw(st.integers(0, 30))
        put = draw(st.one_of(st.binary(max_size=6), _HOSTILE.map(lambda text: text.encode("utf-8", "replace"))))
        content = content[:at] + put + content[at + cut :]
    return content


def read(
    path: Path, profile: Profile = PROFILE, *, careful: bool = False
) -> tuple[list[ParsedInvoice | QuarantinedRow], int] | FileRejected:
    """Everything in the file and its number of rows, or its refusal."""
    try:
        stream = InvoiceStream(path, profile, careful=careful)
        return list(stream), stream.rows
    except FileRejected as refusal:
        return refusal


def prove(outcome: tuple[list[ParsedInvoice | QuarantinedRow], int] | FileRejected) -> None:
    """No row lost, none counted twice, no amount other than the file's own text."""
    if isinstance(outcome, FileRejected):
        assert outcome.reason in ("FILE_SCHEMA", "FILE_COMPRESSION")
        assert outcome.text.isprintable()
        return
    found, rows = outcome
    lines = [line for each in found for line in (each.rows if isinstance(each, ParsedInvoice) else (each.line,))]
    assert len(lines) == len(set(lines)) == rows
    for each in found:
        if isinstance(each, QuarantinedRow):
            assert each.text.isprintable()
            continue
        assert each.company_id.isprintable()
        assert each.source_id.isprintable()
        assert all(problem.text.isprintable() for problem in each.problems)
        assert (each.invoice is None) == bool(each.problems)
        if each.invoice is not None:
            assert each.amount_text is not None
            assert each.invoice.amount == Decimal(each.amount_text)
            assert each.invoice.number.isprintable()


def prove_against_another_reader(found: list[ParsedInvoice | QuarantinedRow], content: bytes) -> None:
    """Where no quote makes it a question, physical lines are rows: each is there, with its own amount."""
    if b'"' in content:
        return
    lines = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    filled = [number for number, line in enumerate(lines, start=1) if line]
    numbers = {line for each in found for line in (each.rows if isinstance(each, ParsedInvoice) else (each.line,))}
    assert numbers == set(filled[1:])
    names = [name.strip().lower() for name in lines[filled[0] - 1].decode("utf-8").split(",")]
    at = names.index("line_amount")
    for each in found:
        if isinstance(each, ParsedInvoice) and each.invoice is not None:
            written = [Decimal(lines[row - 1].split(b",")[at].decode()) for row in each.rows]
            assert sorted(line.amount for line in each.invoice.lines) == sorted(written)


@fuzzed(250)
@given(content=_files())
def test_every_row_of_a_damaged_file_is_accounted_for(tmp_path: Path, content: bytes) -> None:
    """Whatever a sender writes, a row is in an invoice or in quarantine, and the two ways to read agree on which."""
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    outcome = read(path)
    prove(outcome)
    if not isinstance(outcome, FileRejected):
        prove_against_another_reader(outcome[0], content)
    careful = read(path, careful=True)
    if isinstance(outcome, FileRejected):
        assert isinstance(careful, FileRejected)
        assert careful.text == outcome.text
    else:
        assert careful == outcome


@fuzzed(200)
@given(
    content=st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(lambda rest: HEADER.encode() + b"\n" + rest))
)
def test_bytes_that_are_no_invoices_raise_nothing_else(tmp_path: Path, content: bytes) -> None:
    """A picture under a CSV's name is refused in words, not by a traceback."""
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    prove(read(path))


@pytest.mark.parametrize(
    "content",
    [
        b'"' * 2_000_000,
        b'"\n' * 300_000,
        b'a,"\n' * 300_000,
        b"," * 2_000_000,
        ",".join(f"c{number}" for number in range(300_000)).encode() + b"\n",
        b"\n" * 2_000_000,
        b"\r" * 2_000_000,
        HEADER.encode() + b"\n" + b'C100,x,"\n' * 20_000,
        HEADER.encode() + b"\n" + b"C100,,1" + b"," * (len(COLUMNS) - 3) + b"x" * 3_000_000 + b"\n",
    ],
    ids=[
        "quotes",
        "quote lines",
        "open quotes",
        "commas",
        "columns",
        "blank lines",
        "returns",
        "stray quotes",
        "giant",
    ],
)
def test_files_made_to_cost_time_are_read_in_seconds(tmp_path: Path, content: bytes) -> None:
    """One file that takes hours is an outage that anybody with write access to the folder can cause."""
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    prove(read(path))


def test_a_file_with_too_many_columns_is_refused(tmp_path: Path) -> None:
    """Every column costs memory in every row; nobody exports a thousand."""
    path = tmp_path / "file.csv"
    path.write_bytes(invoice_csv(invoice_rows("1.00"), columns=[*COLUMNS, *(f"x{number}" for number in range(2000))]))
    refusal = read(path)
    assert isinstance(refusal, FileRejected)
    assert "2041 columns, 1000 are allowed" in refusal.text


def test_an_invoice_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    """All rows of an invoice are in memory together; a file that is one invoice would take it all."""
    profile = PROFILE.model_copy(update={"rows": PROFILE.rows.model_copy(update={"max_per_invoice": 3})})
    path = tmp_path / "file.csv"
    path.write_bytes(invoice_csv(invoice_rows("1.00", "1.00", "1.00")))
    assert not isinstance(read(path, profile), FileRejected)
    path.write_bytes(invoice_csv(invoice_rows("1.00", "1.00", "1.00", "1.00")))
    refusal = read(path, profile)
    assert isinstance(refusal, FileRejected)
    assert "invoice '88121' has more than 3 rows" in refusal.text


def test_a_file_of_broken_rows_is_refused_as_a_whole(tmp_path: Path) -> None:
    """Each would be a row in the ledger; a disk full of somebody's garbage stops the good files."""
    profile = PROFILE.model_copy(update={"rows": PROFILE.rows.model_copy(update={"max_broken": 2})})
    path = tmp_path / "file.csv"
    path.write_bytes(invoice_csv(invoice_rows("1.00")) + b"C100,x\n,,\n")
    assert not isinstance(read(path, profile), FileRejected)
    path.write_bytes(invoice_csv(invoice_rows("1.00")) + b"C100,x\n,,\nx\n")
    refusal = read(path, profile)
    assert isinstance(refusal, FileRejected)
    assert "more than 2 rows" in refusal.text


def test_an_invoice_in_very_many_pieces_is_refused_too(tmp_path: Path) -> None:
    """Between the rows of others it would pass a limit that counts adjacent rows alone."""
    profile = PROFILE.model_copy(update={"rows": PROFILE.rows.model_copy(update={"max_per_invoice": 3})})
    pair = [*invoice_rows("1.00", invoice_id="1"), *invoice_rows("1.00", invoice_id="2")]
    path = tmp_path / "file.csv"
    path.write_bytes(invoice_csv(pair * 10))
    refusal = read(path, profile)
    assert isinstance(refusal, FileRejected)
    assert "more than 3 rows" in refusal.text


@pytest.mark.parametrize("name", ["dim_\x1b[2J", "dim_\u202eevil", "dim_" + "x" * 300, "custom_a\nb"])
def test_a_column_name_that_terminals_act_upon_is_refused(tmp_path: Path, name: str) -> None:
    """Names of columns known by their prefix are the sender's own; they are stored and shown."""
    path = tmp_path / "file.csv"
    path.write_bytes(invoice_csv([{**row, name: "x"} for row in invoice_rows("1.00")]))
    refusal = read(path)
    assert isinstance(refusal, FileRejected)
    assert "a column is named" in refusal.text
    assert refusal.text.isprintable()


@pytest.mark.parametrize("cell", ["C\u202e100", "C\x1b[2J", "C\x00", "C\u200b100"])
@pytest.mark.parametrize("column", ["company_id", "invoice_id"])
def test_unseen_characters_in_a_key_set_the_row_aside(tmp_path: Path, column: str, cell: str) -> None:
    """Two keys that look alike and differ would be two invoices, both paid."""
    path = tmp_path / "file.csv"
    path.write_bytes(invoice_csv([{**row, column: cell} for row in invoice_rows("1.00")]))
    outcome = read(path)
    assert not isinstance(outcome, FileRejected)
    ((row,), _) = outcome
    assert isinstance(row, QuarantinedRow)
    assert row.reason == "ROW_MALFORMED"


@pytest.mark.parametrize("column", ["invoice_number", "vendor_id", "vendor_site", "document_file"])
def test_unseen_characters_in_codes_park_the_invoice(tmp_path: Path, column: str) -> None:
    """An invoice number that reads from right to left is another number than the person sees who approves it."""
    path = tmp_path / "file.csv"
    path.write_bytes(invoice_csv([{**row, column: "INV\u202e1"} for row in invoice_rows("1.00")]))
    outcome = read(path)
    assert not isinstance(outcome, FileRejected)
    ((invoice,), _) = outcome
    assert isinstance(invoice, ParsedInvoice)
    assert [problem.reason for problem in invoice.problems] == ["FIELD_INVALID"]
    assert "\\u202e" in invoice.problems[0].text
