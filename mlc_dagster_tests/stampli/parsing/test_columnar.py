"""Whole files by column and cell by cell: the same invoices, faults, contents and rows, whatever is in the file."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.stampli.parsing import physical_lines
from mlc_dagster.stampli.parsing.assembly import Assembler, Piece
from mlc_dagster.stampli.parsing.parse import InvoiceStream, parse_file
from mlc_dagster.stampli.parsing.parsed import FileRejected, ParsedInvoice
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster_tests.fuzzing.effort import fuzzed
from mlc_dagster_tests.stampli.builders import COLUMNS, PROFILE, invoice_rows, write_csv

EUROPEAN = PROFILE.model_copy(
    update={
        "values": PROFILE.values.model_copy(
            update={"decimal_mark": ",", "date": "DD.MM.YYYY", "nulls": ("NULL", "n/a"), "excess_zeros": "accept"}
        ),
        "text": PROFILE.text.model_copy(update={"delimiter": ";", "encoding": "cp1252"}),
    }
)
BY_NUMBER = PROFILE.model_copy(
    update={"rows": PROFILE.rows.model_copy(update={"key": ("company_id", "vendor_id", "number")})}
)

_AMOUNTS = ["10.00", "-0.00", "5", "5.5", "1.005", "1.000", "1e3", "", "NULL", "90071992547409931.23", "-7.25", "1.",
            ".5", "+1.00", " 1.00", "1_0.00", "\u0661.00", "9" * 25 + ".00"]  # fmt: skip
_NUMBERS = ["", "3", "3.50", "0.0000001", "1.0000000000000", "-0", "100", "x", "n/a", "NaN", "0." + "0" * 12]
_TEXTS = ["", "plain", "é ü", "tab\there", "two\nlines", "a,b;c", 'quote "', '"', "x" * 300, "\u200b", "nbsp\u00a0",
          "=SUM(A1)", "back\\slash", "E-1", "NULL", "\x7f"]  # fmt: skip
_CODES = ["", "61200", "6\u00a01200", "y" * 241, "NULL", "a\nb"]
_DATES = ["", "2026-02-28", "2026-02-29", "01.02.2026", "soon"]
_CELLS: dict[str, list[str]] = {
    "company_id": ["C100", "C200", "", "NULL"],
    "company_name": ["", "Mountain Supply", "two\nlines"],
    "invoice_revision": ["", "2", "02", "x"],
    "currency": ["USD", "JPY", "KWD", "XXX", ""],
    "invoice_amount": _AMOUNTS,
    "tax_amount": _AMOUNTS,
    "exchange_rate": _NUMBERS,
    "status": ["APPROVED", "VOID", "HELD", ""],
    "vendor_name": ["Acme, Inc.", "Acme", "", "z" * 361, "Müller"],
    "description": _TEXTS,
    "due_date": _DATES,
    "approved_at": ["", "2026-10-30T16:02:11Z", "2026-10-30T16:02:11.5+02:00", "2026-10-30"],
    "line_number": ["1", "2", "3", "01", "x", "", "0"],
    "line_type": ["ITEM", "TAX", "item", ""],
    "line_description": _TEXTS,
    "line_amount": _AMOUNTS,
    "quantity": _NUMBERS,
    "unit_price": _NUMBERS,
    "uom": ["", "EA", "u" * 26],
    "gl_account": _CODES,
    "dim_cost_center": _CODES,
    "dim_location": ["", "SEA"],
    "custom_1": ["", "c", "\u202e"],
    "iban": ["", "", "", "DE02"],
    "": ["", "", "", "moved"],
    "colour": ["", "red"],
}
_ORDERS = st.sampled_from(["usual", "reversed", "mixed"])


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, Profile]:
    """Some ordinary invoices, some with odd cells, and bytes put in and cut out."""
    profile = draw(st.sampled_from([PROFILE, PROFILE, EUROPEAN, BY_NUMBER]))
    rows = [
        row
        for number in range(draw(st.integers(1, 8)))
        for row in invoice_rows(*draw(st.sampled_from([("1.00",), ("2.00", "-3.50"), ("1.00",) * 4])),
                                invoice_id=f"{number}", invoice_number=f"I-{number}", description="Déjà")
    ]  # fmt: skip
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(_CELLS)))
        cell = draw(st.sampled_from(_CELLS[name]))
        for row in draw(st.sampled_from([rows, [draw(st.sampled_from(rows))]])):
            row[name] = cell
    if draw(st.booleans()):
        rows = draw(st.permutations(rows))
    names = [*COLUMNS, *sorted({name for row in rows for name in row} - set(COLUMNS))]
    order = draw(_ORDERS)
    names = names[::-1] if order == "reversed" else [*names[20:], *names[:20]] if order == "mixed" else names
    content = _written(draw, rows, names, profile)
    if profile.text.encoding == "utf-8" and draw(st.booleans()):
        content = b"\xef\xbb\xbf" + content
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(content)))
        put = draw(st.sampled_from([b"", b'"', b"\n", b"\r", b",", b";", b"\0", b"\xff", b'"\n', b"\nC100,x\n"]))
        content = content[:at] + put + content[at + draw(st.integers(0, 3)) :]
    return content, profile


def _written(draw: st.DrawFn, rows: list[dict[str, str]], names: list[str], profile: Profile) -> bytes:
    delimiter, end = profile.text.delimiter, draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    always = draw(st.booleans())

    def cell(text: str, name: str) -> str:
        if profile is EUROPEAN:
            text = text.replace(".", ",") if name.endswith(("_amount", "price", "quantity")) else text
            if name.endswith("_date") and text.count("-") == 2:
                text = ".".join(reversed(text.split("-")))
        special = always or delimiter in text or '"' in text or "\n" in text
        return '"' + text.replace('"', '""') + '"' if special else text

    lines = [delimiter.join(names), *(delimiter.join(cell(row.get(name, ""), name) for name in names) for row in rows)]
    return "".join(line + end for line in lines).encode(profile.text.encoding, "replace")


@fuzzed(300)
@given(given_file=files(), chunk=st.sampled_from([300, 2500, 128 * 1024]))
def test_reading_by_column_and_by_cell_agree_on_whole_files(
    tmp_path: Path, given_file: tuple[bytes, Profile], chunk: int
) -> None:
    """Nobody may see from an invoice, or from its fault, how it was read."""
    content, profile = given_file
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    kept, physical_lines.CHUNK = physical_lines.CHUNK, chunk
    try:
        fast, slow = (_outcome(path, profile, careful=careful) for careful in (False, True))
    finally:
        physical_lines.CHUNK = kept
    assert fast == slow


def _outcome(path: Path, profile: Profile, *, careful: bool) -> tuple[object, ...]:
    """All that one way to read says of a file."""
    try:
        stream = InvoiceStream(path, profile, careful=careful)
        found = list(stream)
    except FileRejected as refusal:
        return refusal.reason, refusal.text
    assert stream.rows == sum(len(each.rows) if isinstance(each, ParsedInvoice) else 1 for each in found)
    # Faults are told portion by portion, and the portions of the two are not always the same.
    return stream.rows, stream.warnings, sorted(found, key=str)


@pytest.mark.parametrize("lines", [1, 400])
def test_a_file_without_oddities_is_read_by_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int) -> None:
    """Reading cell by cell takes twice as long; nobody would notice in the result."""
    rows = [row for number in range(1000) for row in invoice_rows("10.00", "-2.00", invoice_id=f"{number}")]
    path = write_csv(tmp_path, [*rows, *invoice_rows(*["1.00"] * lines, invoice_id="long", vendor_name="Caf\u00e9")])
    with_care: list[str] = []
    assemble = Assembler.assemble

    def counted(self: Assembler, source_id: str, piece: Piece, faults: Sequence[tuple[int, str]]) -> ParsedInvoice:
        with_care.append(source_id)
        return assemble(self, source_id, piece, faults)

    monkeypatch.setattr(Assembler, "assemble", counted)
    assert [found.problems for found in parse_file(path, PROFILE) if isinstance(found, ParsedInvoice)] == [()] * 1001
    # The invoices at the ends of what is read at once, and the last one of all.
    assert len(with_care) <= path.stat().st_size // physical_lines.CHUNK + 2
    assert with_care[-1] == "long"


@pytest.mark.parametrize("lines", [1, 2, 3, 7])
def test_invoices_cut_by_the_end_of_a_portion_keep_their_rows_and_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    """What is read at once ends anywhere within an invoice; the rest of it must not go to its neighbours."""
    amounts = ["1.00"] * lines
    path = write_csv(tmp_path, [row for number in range(200) for row in invoice_rows(*amounts, invoice_id=f"{number}")])
    for chunk in range(3000, 4000, 37):
        monkeypatch.setattr(physical_lines, "CHUNK", chunk)
        found = [each for each in parse_file(path, PROFILE) if isinstance(each, ParsedInvoice)]
        assert [each.source_id for each in found] == [str(number) for number in range(200)]
        assert [row for each in found for row in each.rows] == list(range(2, 2 + 200 * lines))
        assert {len(each.rows) for each in found} == {lines}
        assert not any(each.problems for each in found)
