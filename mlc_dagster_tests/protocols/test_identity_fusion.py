"""B2 and B3: what was mapped at the intent stays, and who may use a supplier's invoice number in Fusion."""

from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.releases import NotReleasable, release_hold
from mlc_dagster.ledger.schema import submission
from mlc_dagster.stampli.steps import observe_step
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.protocols.intake import (
    align,
    bill,
    deliver,
    drop,
    files,
    invoice_row,
    outcomes,
    problems,
    prove_books,
    verdict,
)
from mlc_dagster_tests.servers.rehearsal import COMPANIES, Rehearsal

UK: dict[str, Any] = {
    "fusion": {
        "charts": {
            "UK1": {
                "ledgers": ["UK Primary Ledger"],
                "segments": ["entity", "department", "account", "subAccount", "location", "future1"],
                "natural_account": "account",
                "cost_center": "department",
            }
        }
    },
    "stampli": {
        "companies": {
            "C200": {
                **COMPANIES["C100"],
                "business_unit": "UK1 Business Unit",
                "legal_entity": "UK1 Legal Entity",
                "ledger": "UK Primary Ledger",
                "chart": "UK1",
                "time_zone": "Europe/London",
                "account_template": "201-{cost_center}-{account}-000-000-000",
            }
        }
    },
}


def _release(flow: Rehearsal, source_id: str, reason: str) -> None:
    with flow.ledger.transaction() as transaction:
        release_hold(transaction, invoice_row(flow, source_id)["id"], reason, BOTH)


def test_b2_a_crosswalk_changed_after_posting_maps_nothing_again(flow: Rehearsal) -> None:
    """Materialising an old window again under new crosswalks must not post under another supplier."""
    deliver(flow, 1, bill("1", "10.00"))
    (flow.folder / "vendors.csv").write_text("stampli,fusion\n30012,30014\n")
    (flow.folder / "accounts.csv").write_text("stampli,fusion\n61200,62100\n")
    flow.change_config({"stampli": {"crosswalks": {"vendors": "vendors.csv", "accounts": "accounts.csv"}}})
    (_, validated, posted) = flow.run(files(flow)[0]["window_start"])
    assert (validated.summary.validated, posted.posting.created) == (0, 0)
    assert posted.confirmation.unchanged == 1
    prove_books(flow, "N-1")


def test_b2_what_is_sent_again_are_the_frozen_bytes(flow: Rehearsal) -> None:
    """Between an unknown outcome and its repetition the crosswalk changes: the second request is the first one."""
    flow.change_config({"fusion": {"wait_in_run": 0.5, "ambiguous_wait": 360}})
    align(flow)
    deliver(flow, 1, bill("0", "5.00"))
    flow.fusion.faults.add("reset", method="POST", path="invoices", count=1)
    deliver(flow, 2, bill("1", "10.00"))
    (flow.folder / "vendors.csv").write_text("stampli,fusion\n30012,30014\n")
    flow.change_config({"stampli": {"crosswalks": {"vendors": "vendors.csv"}}})
    for _ in range(3):
        flow.clock.advance(7 * 60)
        for wanted in flow.poll().runs:
            flow.run(wanted)
    prove_books(flow, "N-0", "N-1")
    assert flow.fusion.books.invoices()[1].supplier_number == "30012"
    with flow.ledger.reading() as reading:
        rows = reading.rows(
            sa.select(submission.c.body_sha256, submission.c.mapped_with)
            .where(submission.c.invoice_pk == invoice_row(flow, "1")["id"])
            .order_by(submission.c.attempt)
        )
    assert len(rows) == 2
    assert rows[0] == rows[1]
    assert set(rows[0]["mapped_with"]) == {"profile", "crosswalks"}


def test_b3_two_stampli_ids_with_one_number_are_posted_once(flow: Rehearsal) -> None:
    """Entered twice in Stampli: the second is held, whatever its case, blanks or Unicode form."""
    deliver(flow, 1, bill("1", "10.00", number="RÉ-7"), bill("2", "10.00", number="re\u0301-7"))
    deliver(flow, 2, bill("3", "10.00", number="RÉ-7"))
    assert verdict(flow, "1") == "CONFIRMED"
    assert [verdict(flow, key) for key in ("2", "3")] == ["PARKED DUP_EXACT"] * 2
    assert "Stampli 1" in str(problems(flow, "3")[0]["value"])
    prove_books(flow, "RÉ-7")


def test_b3_the_same_number_of_two_suppliers_is_two_invoices(flow: Rehearsal) -> None:
    """Suppliers number their invoices themselves."""
    deliver(flow, 1, bill("1", "10.00", number="7"), bill("2", "20.00", number="7", vendor_id="30014"))
    prove_books(flow, "7", "7")


def test_b3_a_number_that_only_looks_the_same_is_held_and_posted_after_release(flow: Rehearsal) -> None:
    """2026-1-11 and 2026-11-1 are different invoices, and one person in ten thousand would see it."""
    deliver(flow, 1, bill("1", "10.00", number="2026-1-11"))
    deliver(flow, 2, bill("2", "20.00", number="2026-11-1"))
    assert verdict(flow, "2") == "PARKED DUP_NORMALISED"
    assert "2026-1-11" in str(problems(flow, "2")[0]["value"])
    prove_books(flow, "2026-1-11")
    observe_step(flow.inbound)
    assert flow.process() == []
    _release(flow, "2", "DUP_NORMALISED")
    flow.process()
    prove_books(flow, "2026-1-11", "2026-11-1")


@pytest.mark.parametrize("number", ["INV417", "inv 00417", "INV-0417"])
def test_b3_leading_zeros_and_punctuation_are_held(flow: Rehearsal, number: str) -> None:
    """INV-00417 typed by hand."""
    drop(flow, 1, bill("1", "10.00", number="INV-00417"))
    drop(flow, 2, bill("2", "10.00", number=number))
    flow.process()
    assert verdict(flow, "2") == "PARKED DUP_NORMALISED"
    prove_books(flow, "INV-00417")


def test_b3_the_number_in_another_business_unit_is_held_and_postable_after_release(flow: Rehearsal) -> None:
    """Often the invoice went to the wrong company; sometimes it is genuine."""
    flow.change_config(UK)
    deliver(flow, 1, bill("1", "10.00", number="7"))
    deliver(flow, 2, bill("2", "20.00", number="7", company_id="C200", currency="GBP"))
    assert verdict(flow, "2") == "PARKED DUP_OTHER_BU"
    prove_books(flow, "7")
    _release(flow, "2", "DUP_OTHER_BU")
    flow.process()
    assert verdict(flow, "2") == "CONFIRMED"
    assert {currency: str(total) for currency, total in flow.fusion.books.totals().items()} == {
        "USD": "10.00",
        "GBP": "20.00",
    }
    # Two business units, released by a person: the books call this pair a duplicate, and it is the only one.
    assert flow.fusion.books.duplicates() == [("30012", "7")]


def test_b3_an_exact_duplicate_cannot_be_released(flow: Rehearsal) -> None:
    """One claim per supplier and number, whatever a person clicks."""
    deliver(flow, 1, bill("1", "10.00", number="7"), bill("2", "10.00", number="7"))
    with pytest.raises(NotReleasable, match="DUP_EXACT"):
        _release(flow, "2", "DUP_EXACT")
    flow.process()
    prove_books(flow, "7")


def test_b3_a_suppliers_new_name_makes_no_new_invoice(flow: Rehearsal) -> None:
    """The supplier's id survives a rename; a name would not, and the same number would pass as new."""
    deliver(flow, 1, bill("1", "10.00", number="7"))
    flow.fusion.change_supplier("30012", name="Acme Holdings Inc")
    flow.clock.advance(2 * 3600)
    deliver(flow, 2, bill("2", "10.00", number="7"), bill("3", "30.00", number="8"))
    assert verdict(flow, "2") == "PARKED DUP_EXACT"
    prove_books(flow, "7", "8")


def test_h5_a_rename_behind_the_cache_is_read_again_by_id_and_sent_once_more(flow: Rehearsal) -> None:
    """The cached name is refused; the supplier is read by its id, and the invoice is posted once."""
    deliver(flow, 1, bill("1", "10.00"))
    flow.fusion.change_supplier("30012", name="Acme Holdings Inc")
    deliver(flow, 2, bill("2", "20.00"))
    assert verdict(flow, "2") == "CONFIRMED"
    prove_books(flow, "N-1", "N-2")


def test_b3_an_invoice_entered_by_hand_is_never_touched(flow: Rehearsal) -> None:
    """A clerk was quicker: skipped and reported with Fusion's id, not posted, not counted as ours."""
    entered = flow.fusion.enter_invoice(
        {
            "InvoiceNumber": "N-1", "InvoiceCurrency": "USD", "InvoiceAmount": 10, "InvoiceDate": "2026-10-28",
            "BusinessUnit": "US1 Business Unit", "SupplierNumber": "30012", "SupplierSite": "HQ",
            "invoiceLines": [{"LineAmount": 10, "DistributionCombination": "101-4410-61200-000-000-000"}],
        }
    )  # fmt: skip
    deliver(flow, 1, bill("1", "10.00"))
    assert verdict(flow, "1") == "ALREADY_IN_FUSION"
    assert invoice_row(flow, "1")["fusion_invoice_id"] == entered
    prove_books(flow, "N-1")
    assert outcomes(flow, "1") == ["CURRENT"]
