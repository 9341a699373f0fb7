"""Cells: the form is checked before any cast; nothing is rounded and nothing is guessed."""

from pathlib import Path

import pytest

from mlc_dagster_tests.stampli.builders import invoice_csv, invoice_rows, only, reasons


@pytest.mark.parametrize(
    "amount",
    ["1.005", "1e3", "1,000.00", " 10", "10 ", "NaN", "Infinity", "+5", "1.", ".5", "٣", "--1", "0x10", "1_000"],
)
def test_text_that_is_not_an_exact_amount_is_refused(tmp_path: Path, amount: str) -> None:
    """Each of these passes a careless cast: rounded, scaled or reinterpreted."""
    parsed = only(tmp_path, invoice_csv(invoice_rows("10.00", lines=[{"line_amount": amount}])))
    assert parsed.invoice is None
    assert reasons(parsed) == [("FIELD_INVALID", "line_amount")]
    assert parsed.problems[0].row == 2
    assert parsed.problems[0].value == amount


@pytest.mark.parametrize(
    ("currency", "amount", "read"),
    [
        ("USD", "10", "10.00"),
        ("USD", "10.5", "10.50"),
        ("JPY", "1500", "1500"),
        ("KWD", "1.125", "1.125"),
        ("CLF", "1.1255", "1.1255"),
        ("USD", "90071992547409931.23", "90071992547409931.23"),
        ("USD", "-0.00", "0.00"),
    ],
)
def test_amounts_are_read_exactly_in_the_decimals_of_their_currency(
    tmp_path: Path, currency: str, amount: str, read: str
) -> None:
    """Also above 2^53, where a float on the way would bend the cents."""
    parsed = only(tmp_path, invoice_csv(invoice_rows(amount, currency=currency)))
    assert parsed.invoice is not None
    assert str(parsed.invoice.lines[0].amount) == read


@pytest.mark.parametrize(("currency", "amount"), [("JPY", "1500.5"), ("JPY", "1500.0"), ("KWD", "1.1255")])
def test_excess_decimals_are_refused(tmp_path: Path, currency: str, amount: str) -> None:
    """Also zeros: 1.000 USD may be a thousand written with a dot."""
    parsed = only(tmp_path, invoice_csv(invoice_rows(amount, currency=currency)))
    assert {found.reason for found in parsed.problems} == {"FIELD_INVALID"}


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("invoice_date", "28/10/2026"),
        ("invoice_date", "2026-02-30"),
        ("invoice_date", "2026-10-28T00:00:00"),
        ("approved_at", "2026-10-30T16:02:11"),
        ("approved_at", "2026-10-30 16:02:11Z"),
        ("invoice_type", "standard"),
        ("line_number", "1.0"),
        ("line_number", "-1"),
        ("line_type", "GIFT"),
        ("invoice_revision", "two"),
        ("vendor_id", "30\u200b012"),
        ("description", "bell \x07"),
        ("quantity", "1e2"),
    ],
)
def test_cells_of_the_wrong_form_are_refused_with_row_and_column(tmp_path: Path, column: str, cell: str) -> None:
    """Declared, never guessed: 01/02/2026 is two dates."""
    parsed = only(tmp_path, invoice_csv([{**invoice_rows()[0], column: cell}]))
    assert parsed.invoice is None
    assert reasons(parsed) == [("FIELD_INVALID", column)]


def test_the_29th_of_february_exists_in_leap_years_only(tmp_path: Path) -> None:
    """A date that is shifted silently lands in another period."""
    assert only(tmp_path, invoice_csv(invoice_rows(invoice_date="2028-02-29"))).problems == ()
    assert only(tmp_path, invoice_csv(invoice_rows(invoice_date="2026-02-29"))).invoice is None


def test_timestamps_are_read_as_instants(tmp_path: Path) -> None:
    """The same instant in another zone is the same content."""
    zoned = only(tmp_path, invoice_csv(invoice_rows(approved_at="2026-10-30T10:02:11-06:00")))
    assert zoned.digest == only(tmp_path, invoice_csv(invoice_rows())).digest
