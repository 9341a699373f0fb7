"""What is written is what independent readers read back: polars, pyarrow and the csv module."""

import csv
import io
import string
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.fusion.canonical import plain
from mlc_dagster_tests.exports.layouts import workbench as b

COLUMNS = (
    "[{name: J, field: journal.name}, {name: D, field: line.description}, {name: R, field: line.reference_1}, "
    "{name: DR, field: line.entered_dr}, {name: CR, field: line.entered_cr}]"
)

texts = st.text(
    st.one_of(
        st.sampled_from(",;\"'|@\r\n\t =+-\\"), st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    ),
    max_size=30,
)
amounts = st.decimals(min_value=-(10**18), max_value=10**18, places=2, allow_nan=False).map(plain)


@given(name=texts, rows=st.lists(st.tuples(st.one_of(st.none(), texts), texts, amounts), min_size=1, max_size=12))
def test_every_value_comes_back(name: str, rows: list[tuple[str | None, str, Decimal]]) -> None:
    """Delimiters, quotes, new lines, any alphabet and long numbers in the data, read back by the csv module."""
    lines = [
        line
        for number, (text, reference, amount) in enumerate(rows)
        for line in (
            b.line(number, str(amount), description=text, reference_1=reference),
            b.line(number, None, str(amount), description=text, reference_1=reference),
        )
    ]
    content = b.file_of(b.csv_layout(COLUMNS), b.journal(*lines, name=name)).decode()
    read = list(csv.reader(io.StringIO(content, newline=""), strict=True))
    assert read[0] == ["J", "D", "R", "DR", "CR"]
    assert [(row[0], row[1], row[2]) for row in read[1::2]] == [(name, text or "", ref) for text, ref, _ in rows]
    assert [Decimal(row[3]) for row in read[1::2]] == [amount for *_, amount in rows]
    assert [row[4].partition(".")[2] for row in read[2::2]] == [
        f"{amount:.2f}".partition(".")[2] for *_, amount in rows
    ]


@given(
    delimiter=st.text(st.sampled_from("|@;:~^"), min_size=1, max_size=3),
    values=st.lists(st.text(string.ascii_letters + "|@;:~^\"' ", max_size=10), min_size=1, max_size=6),
)
def test_delimiters_of_several_characters_split_where_they_were_written(delimiter: str, values: list[str]) -> None:
    """Read by a splitter of a dozen lines that knows nothing of the writer."""
    columns = "[{name: D, field: line.description}, {name: E, field: line.reference_1}]"
    text = b.csv_layout(columns, f"delimiter: '{delimiter}'")
    lines = [b.line(1, description=value, reference_1=value[::-1]) for value in values]
    read = [split(row, delimiter) for row in b.body(text, b.journal(*lines)).decode().split("\r\n")[:-1]]
    assert read == [[value, value[::-1]] for value in values]


def split(row: str, delimiter: str) -> list[str]:
    """A row's values, left to right."""
    values: list[str] = []
    while True:
        if row.startswith('"'):
            end = 1
            while row[end] != '"' or row[end : end + 2] == '""':
                end += 2 if row[end] == '"' else 1
            values.append(row[1:end].replace('""', '"'))
            row = row[end + 1 :]
        else:
            end = row.find(delimiter)
            values.append(row if end < 0 else row[:end])
            row = "" if end < 0 else row[end:]
        if not row:
            return values
        assert row.startswith(delimiter)
        row = row[len(delimiter) :]


@pytest.fixture(scope="module")
def long_file() -> bytes:
    """100,000 lines, every seventh with a comma, a quote, a new line or another alphabet in its text."""
    odd = ["a, b", 'say "x"', "two\nlines", "żółć", ""]
    lines = [
        b.line(
            number,
            *((f"{number}.{number % 100:02}", None) if number % 2 else (None, f"{number - 1}.{(number - 1) % 100:02}")),
            description=odd[number % 5] if number % 7 == 0 else f"plain {number}",
            reference_1=f"{number:020}",
        )
        for number in range(1, 100_001)
    ]
    return b.file_of(b.csv_layout(COLUMNS), b.journal(*lines))


def test_polars_reads_100_000_lines(long_file: bytes) -> None:
    """Row count, sum to the cent, leading zeros, absent against empty."""
    frame = pl.read_csv(long_file, infer_schema=False)
    assert frame.height == 100_000
    debit, credit = (frame[name].drop_nulls().str.to_decimal(scale=2).sum() for name in ("DR", "CR"))
    assert debit == credit == sum(Decimal(f"{n}.{n % 100:02}") for n in range(1, 100_001, 2))
    assert frame["R"][0] == "0" * 19 + "1"
    assert frame["D"][13] == ""


def test_pyarrow_reads_100_000_lines(long_file: bytes) -> None:
    """A second reader in another language, with new lines in values."""
    table = pa_csv.read_csv(
        io.BytesIO(long_file),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in ("J", "D", "R")}
            | {n: pa.decimal128(20, 2) for n in ("DR", "CR")}
        ),
    )
    assert table.num_rows == 100_000
    assert table["D"][6].as_py() == "two\nlines"
    assert sum(filter(None, table["DR"].to_pylist())) == sum(filter(None, table["CR"].to_pylist())) > 0


def test_a_chunk_ends_nowhere_visible(long_file: bytes) -> None:
    """Long documents are rendered in chunks; rows keep their order and none is there twice."""
    read = list(csv.reader(io.StringIO(long_file.decode(), newline="")))
    assert [int(row[2]) for row in read[1:]] == list(range(1, 100_001))
