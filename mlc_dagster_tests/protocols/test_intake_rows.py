"""A6: rows add up; one bad row costs its invoice, one bad file costs itself, and nothing else."""

import pytest

from mlc_dagster_tests.protocols.intake import bill, drop, files, posted_numbers, problems, prove_books, verdict
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.stampli.builders import COLUMNS, file_name, invoice_csv


def _with_neighbours(*damaged: bytes) -> bytes:
    """An invoice before, the damaged lines, and two invoices after."""
    lines = invoice_csv(bill("1", "10.00") + bill("2", "20.00") + bill("3", "30.00")).splitlines(keepends=True)
    return b"".join([*lines[:2], *damaged, *lines[2:]])


def _line(source_id: str, *amounts: str, **cells: str) -> bytes:
    return b"".join(invoice_csv(bill(source_id, *amounts, **cells)).splitlines(keepends=True)[1:])


def _counts(flow: Rehearsal) -> tuple[int, int, int]:
    row = files(flow)[0]
    return row["rows_total"], row["rows_in_invoices"], row["rows_quarantined"]


def test_a6_a_stray_quote_swallows_one_row_and_not_the_rest(flow: Rehearsal) -> None:
    """A quote that is never closed used to make one field of the remaining file."""
    damaged = _line("9", "90.00").replace(b"Mountain Supply", b'"Mountain Supply')
    flow.drop(file_name(1), _with_neighbours(damaged))
    flow.process()
    assert _counts(flow) == (4, 3, 1)
    prove_books(flow, "N-1", "N-2", "N-3")


def test_a6_a_ragged_row_parks_its_invoice_and_no_other(flow: Rehearsal) -> None:
    """The invoice's other row is good: alone it must not be posted, its lines are not all there."""
    good, ragged = _line("9", "90.00", "5.00").splitlines(keepends=True)
    flow.drop(file_name(1), _with_neighbours(good, ragged.replace(b"4410", b"4410,1,2,3")))
    flow.process()
    assert _counts(flow) == (5, 4, 1)
    assert verdict(flow, "9") == "PARKED ROW_MALFORMED"
    prove_books(flow, "N-1", "N-2", "N-3")


def test_a6_bytes_of_another_encoding_are_refused_and_not_guessed(flow: Rehearsal) -> None:
    """cp1252 read as UTF-8 by force would post a wrong name."""
    damaged = _line("9", "90.00").replace(b"Acme", b"Caf\xe9")
    flow.drop(file_name(1), _with_neighbours(damaged))
    flow.process()
    assert _counts(flow) == (4, 3, 1)
    prove_books(flow, "N-1", "N-2", "N-3")


def test_a6_a_nul_byte_costs_its_row(flow: Rehearsal) -> None:
    """NUL bytes come from writers that preallocate."""
    flow.drop(file_name(1), _with_neighbours(_line("9", "90.00").replace(b"Acme", b"Ac\0me")))
    flow.process()
    assert _counts(flow) == (4, 3, 1)
    prove_books(flow, "N-1", "N-2", "N-3")


def test_a6_line_ends_within_quotes_are_content(flow: Rehearsal) -> None:
    """A description of two lines is no broken row."""
    flow.drop(file_name(1), invoice_csv(bill("1", "10.00", description="first\nsecond"), line_end="\r\n"))
    flow.process()
    assert _counts(flow) == (1, 1, 0)
    assert flow.fusion.books.invoices()[0].description == "first\nsecond"
    prove_books(flow, "N-1")


def test_a6_rows_of_one_invoice_may_lie_apart(flow: Rehearsal) -> None:
    """Sorted by line, an export mixes its invoices; each is still one invoice."""
    one, two = bill("1", "10.00", "11.00"), bill("2", "20.00", "21.00")
    flow.drop(file_name(1), invoice_csv([one[0], two[0], one[1], two[1]]))
    flow.process()
    assert [len(booked.lines) for booked in flow.fusion.books.invoices()] == [2, 2]
    prove_books(flow, "N-1", "N-2")


def test_a6_a_bom_and_columns_in_another_order_are_read(flow: Rehearsal) -> None:
    """What Excel saves is the same file."""
    content = invoice_csv(bill("1", "10.00"), columns=tuple(reversed(COLUMNS)))
    flow.drop(file_name(1), b"\xef\xbb\xbf" + content)
    flow.process()
    prove_books(flow, "N-1")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(invoice_csv(bill("9", "1.00")).replace(b"invoice_amount", b"amount", 1), id="missing column"),
        pytest.param(invoice_csv(bill("9", "1.00")).replace(b"company_name", b"company_id", 1), id="column twice"),
        pytest.param(b"PK\x03\x04\x00\x00binary\n", id="not text"),
        pytest.param(b"\n\n", id="no header"),
    ],
)
def test_a6_a_file_without_its_declared_shape_is_rejected_and_its_window_goes_on(
    flow: Rehearsal, content: bytes
) -> None:
    """FILE_SCHEMA names the file; the good file of the same window is posted."""
    flow.drop(file_name(1), content)
    drop(flow, 2, bill("1", "10.00"))
    ((received, _, _),) = flow.process()
    assert [reading.rejected is not None for reading in received.readings] == [True, False]
    assert [row["state"] for row in files(flow)] == ["REJECTED", "READ"]
    reason = str(files(flow)[0]["reason"])
    assert reason.startswith("FILE_SCHEMA")
    assert file_name(1) in str(received.readings[0].rejected)
    prove_books(flow, "N-1")


def test_a6_a_file_with_a_header_only_is_read_and_holds_nothing(flow: Rehearsal) -> None:
    """A quiet day's export is no fault."""
    flow.drop(file_name(1), invoice_csv([]))
    flow.process()
    assert _counts(flow) == (0, 0, 0)
    prove_books(flow)


def test_a6_rows_that_disagree_about_their_invoice_park_it(flow: Rehearsal) -> None:
    """Which of two amounts is right is not for a program to say."""
    rows = bill("9", "10.00", "20.00")
    rows[1]["invoice_amount"] = "31.00"
    drop(flow, 1, rows, bill("1", "10.00"))
    flow.process()
    assert verdict(flow, "9") == "PARKED HEADER_CONFLICT"
    prove_books(flow, "N-1")


def test_a6_bank_details_park_the_invoice_and_are_stored_nowhere(flow: Rehearsal) -> None:
    """A bank account that travels by this feed is how invoices are forged."""
    rows = bill("9", "10.00")
    rows[0]["iban"] = "DE89370400440532013000"
    flow.drop(file_name(1), invoice_csv(rows + bill("1", "10.00")))
    flow.process()
    assert verdict(flow, "9") == "PARKED BANK_DATA_PRESENT"
    assert "DE8937" not in repr(problems(flow, "9"))
    assert b"DE8937" not in (flow.folder / "data" / "ledger.sqlite").read_bytes()
    prove_books(flow, "N-1")


def test_a6_an_invoice_of_the_quarantine_is_read_from_the_corrected_file(flow: Rehearsal) -> None:
    """The remedy of a malformed row is to send the file again."""
    good, ragged = _line("9", "90.00", "5.00").splitlines(keepends=True)
    flow.drop(file_name(1), _with_neighbours(good, ragged.replace(b"4410", b"4410,1,2,3")))
    flow.process()
    flow.drop(file_name(1), _with_neighbours(good, ragged))
    flow.process()
    assert sorted(posted_numbers(flow)) == ["N-1", "N-2", "N-3", "N-9"]
    prove_books(flow, "N-1", "N-2", "N-3", "N-9")
