"""What a profile makes of a file: bounded whatever the file holds, and never a rule of its own."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.settings import CompanySettings
from mlc_dagster.stampli.any_company import problems_of
from mlc_dagster.stampli.checks import check_invoice
from mlc_dagster.stampli.model import Invoice
from mlc_dagster.stampli.profile_check import SAMPLES, examine
from mlc_dagster_tests.fuzzing.effort import fuzzed
from mlc_dagster_tests.stampli.builders import PROFILE, file_name, invoice_csv, invoice_rows, only


def invoice(folder: Path, *amounts: str, **cells: str) -> Invoice:
    """An invoice as it is read."""
    built = only(folder, invoice_csv(invoice_rows(*amounts, **cells))).invoice  # type: ignore[arg-type]
    assert built is not None
    return built


def test_tax_beside_the_lines_is_no_deviation(tmp_path: Path) -> None:
    """Where Fusion calculates tax the header has it and the lines do not: that is right for such a company."""
    assert problems_of(invoice(tmp_path, "100.00", tax_amount="8.25", invoice_amount="108.25")) == []


def test_the_kindest_company_speaks(tmp_path: Path) -> None:
    """An invoice that nobody could take is told with what is wrong for the company that minds least."""
    found = problems_of(invoice(tmp_path, "100.00", tax_amount="8.25", invoice_amount="108.26"))
    assert [problem.reason for problem in found] == ["AMOUNT_MISMATCH"]
    assert "difference 0.01" in found[0].text


@pytest.mark.parametrize("mode", ["fusion_calculates", "tax_line", "item_line"])
def test_what_a_company_takes_is_no_deviation(tmp_path: Path, mode: str) -> None:
    """The check must never refuse what the product posts."""
    company = CompanySettings.model_validate(
        {
            "business_unit": "x", "legal_entity": "x", "ledger": "x", "chart": "x", "time_zone": "UTC",
            "invoice_source": "x", "tax_mode": mode, "accounting_date": "today", "account_template": "x",
        }
    )  # fmt: skip
    for lines in ([{}, {}], [{}, {"line_type": "TAX"}]):
        rows = invoice_rows("100.00", "8.25", lines=lines)
        built = only(tmp_path, invoice_csv(rows)).invoice
        assert built is not None
        if not check_invoice(built, company):
            assert problems_of(built) == []


def test_a_memo_with_its_invoices_number_is_told_as_one(tmp_path: Path) -> None:
    """It is no duplicate: it is held, or gets the suffix that the company declared."""
    rows = [
        *invoice_rows("10.00"),
        *invoice_rows("-4.00", invoice_id="2", invoice_type="CREDIT_MEMO"),
        *invoice_rows("1.00", invoice_id="3", vendor_id="30099"),
        *invoice_rows("1.00", invoice_id="4", status="VOID"),
    ]
    path = tmp_path / file_name()
    path.write_bytes(invoice_csv(rows))
    told = examine(path, PROFILE, limit=10).deviations
    assert [(each.reason, each.place) for each in told] == [("MEMO_NUMBER_REUSED", "row 3, column invoice_number")]
    assert "also at row 2" in told[0].text


def test_a_huge_file_of_faults_costs_its_parse_and_no_more(tmp_path: Path) -> None:
    """Somebody checks a file of a million rows with the wrong decimal mark: the first faults, then their number."""
    path = tmp_path / file_name()
    one = invoice_csv(invoice_rows("1,00", invoice_amount="x", description="long " * 400)).split(b"\n", 1)

    def peak(invoices: int) -> int:
        rows = b"".join(one[1].replace(b"88121", b"%d" % number) for number in range(invoices))
        path.write_bytes(one[0] + b"\n" + rows)
        del rows
        tracemalloc.start()
        found = examine(path, PROFILE, limit=20)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (found.invoices, len(found.deviations), found.not_told) == (invoices, 20, 3 * invoices - 21)
        assert found.reasons == {"FIELD_INVALID": 2 * invoices, "DUP_EXACT": invoices - 1}
        return top

    few, many = peak(1_200), peak(3_600)
    assert many - few < 2_400 * 600


def test_samples_are_few(tmp_path: Path) -> None:
    """Output is for eyes."""
    path = tmp_path / file_name()
    rows = [
        row
        for number in range(40)
        for row in invoice_rows("1.00", invoice_id=str(number), invoice_number=f"N{number}", company_id=f"C{number}")
    ]
    path.write_bytes(invoice_csv(rows))
    found = examine(path, PROFILE, limit=10)
    assert len(found.values.samples) == SAMPLES
    assert found.values.counted["company_id"].total() == 40
    assert found.values.counted["company_id"]["others"] == 20


def test_lines_of_an_invoice_beyond_reason_keep_the_invoices_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their rows would have to be kept; the invoice's first row and the line's number are told instead."""
    monkeypatch.setattr("mlc_dagster.stampli.profile_check.MOST_ROWS", 1)
    path = tmp_path / file_name()
    path.write_bytes(invoice_csv(invoice_rows("1.00", "2.00", lines=[{}, {"gl_account": ""}])))
    (told,) = examine(path, PROFILE, limit=10).deviations
    assert told.place == "row 2, column gl_account"
    assert "gl_account of line 2" in told.text


@fuzzed(120)
@given(
    cells=st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from(["invoice_id", "invoice_number", "vendor_id", "currency", "invoice_amount", "line_amount",
                             "line_number", "line_type", "invoice_type", "status", "gl_account", "invoice_date",
                             "tax_amount", "po_number"]),
            st.sampled_from(["", "1", "2", "-1.00", "1.005", "1e9", "JPY", "KWD", "XXQ", "CREDIT_MEMO", "VOID", "TAX",
                             "9" * 24, "\u202e", "\ud7ff", "2026-02-30", "\0"]),
        ),
        max_size=6,
    ),
    limit=st.integers(1, 5),
)  # fmt: skip
def test_whatever_a_file_says_it_is_examined(tmp_path: Path, cells: list[tuple[int, str, str]], limit: int) -> None:
    """A traceback is no answer to "what is wrong with our file?"; and every deviation is counted."""
    rows = [row for number in "123" for row in invoice_rows("10.50", "2.00", invoice_id=number, invoice_number=number)]
    for at, column, cell in cells:
        rows[at][column] = cell
    path = tmp_path / file_name()
    path.write_bytes(invoice_csv(rows))
    found = examine(path, PROFILE, limit=limit)
    assert found.rows == found.lines + found.set_aside == 6
    assert len(found.deviations) == min(limit, found.reasons.total())
    assert all(each.text.isprintable() and each.place.isprintable() for each in found.deviations)
    assert bool(found.deviations) == bool(found.unbuilt or found.deviating or found.set_aside)
