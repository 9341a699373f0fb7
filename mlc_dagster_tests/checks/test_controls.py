"""Each control holds over an honest ledger, and fails when the ledger or Fusion is tampered with."""

from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import schema
from mlc_dagster_tests.automation.dagster_flow import QUIET, DagsterFlow
from mlc_dagster_tests.stampli.builders import invoice_rows

CONTROLS = {
    "control_totals_match", "every_invoice_accounted_for", "fusion_agrees_with_ledger", "no_blind_reposts",
}  # fmt: skip


@pytest.fixture
def posted(flow: DagsterFlow) -> DagsterFlow:
    """Two invoices in Fusion and one parked, from one window."""
    rows = invoice_rows() + invoice_rows("10.00", "20.00", invoice_id="2", invoice_number="INV-2")
    flow.drop(1, rows + invoice_rows("5.00", invoice_id="3", invoice_number="INV-3", vendor_id="99999"))
    assert flow.poll().posted == 2
    return flow


def judged(flow: DagsterFlow, *names: str) -> dict[str, dg.AssetCheckEvaluation]:
    """The controls run alone over the window, as a person runs them in the UI."""
    [window] = flow.rows(schema.poll_window)
    keys = [check.key for definition in flow.defs.asset_checks or [] for check in definition.check_specs]
    selected = [key for key in keys if not names or key.name in names]
    defs = dg.Definitions(
        assets=flow.defs.assets,
        asset_checks=flow.defs.asset_checks,
        resources=flow.defs.resources,
        jobs=[dg.define_asset_job("controls", selection=dg.AssetSelection.checks(*selected))],
        executor=dg.in_process_executor,
    )
    result = defs.resolve_job_def("controls").execute_in_process(
        instance=flow.instance,
        tags={"dagster/partition": window["window_start"].strftime("%Y-%m-%d-%H:%M")},
        run_config=QUIET,
        raise_on_error=False,
    )
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def plain(evaluation: dg.AssetCheckEvaluation) -> dict[str, Any]:
    return {name: getattr(value, "value", value) for name, value in evaluation.metadata.items()}


def test_all_controls_hold_over_an_honest_ledger(posted: DagsterFlow) -> None:
    """The numbers are shown even when all is well: an auditor wants to see what was compared."""
    found = judged(posted)
    assert {name: evaluation.passed for name, evaluation in found.items()} == dict.fromkeys(CONTROLS, True)
    equation = plain(found["every_invoice_accounted_for"])
    assert (equation["received"], equation["created"], equation["parked"]) == (3, 2, 1)
    assert equation["received_amount"] == "135.00 USD"
    fusion = plain(found["fusion_agrees_with_ledger"])
    assert (fusion["in_ledger"], fusion["in_fusion"]) == (2, 2)
    assert fusion["ledger_amount"] == fusion["fusion_amount"] == "130.00 USD"


def test_lost_invoice_breaks_the_equation(posted: DagsterFlow) -> None:
    """C10: an invoice that was read and is nowhere is the worst that can happen."""
    posted.sql(sa.delete(schema.invoice_occurrence).where(schema.invoice_occurrence.c.number == "INV-3"))
    found = judged(posted)["every_invoice_accounted_for"]
    assert not found.passed
    assert "3 invoices were read from files, 2 are accounted for" in (found.description or "")


def test_changed_amount_breaks_the_equation_in_its_currency(posted: DagsterFlow) -> None:
    """C10: the count agrees and a cent does not."""
    posted.sql(
        sa.update(schema.invoice_occurrence)
        .where(schema.invoice_occurrence.c.number == "INV-2")
        .values(amount_minor=3001)
    )
    found = judged(posted)["every_invoice_accounted_for"]
    assert not found.passed
    assert "USD: 13500 minor units were read from files, 13501 are accounted for" in (found.description or "")


def test_broken_equation_fails_the_run(posted: DagsterFlow) -> None:
    """It blocks: a red run is seen, a red check under a green run is not."""
    posted.sql(sa.update(schema.source_file).values(invoices=4))
    [window] = {row["window_start"] for row in posted.rows(schema.window_run)}
    outcome = posted.poll(window=window.strftime("%Y-%m-%d-%H:%M"))
    [result] = outcome.windows
    assert not result.success
    assert not result.checks["every_invoice_accounted_for"]
    assert outcome.exit_code == 1
    assert "4 invoices were read from files, 3 are accounted for" in outcome.failures[-1].text


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"rows_total": 5}, "5 rows in the file, 4 in invoices and 0 quarantined"),
        ({"rows_quarantined": 1, "rows_total": 5}, "rows quarantined: the reader counted 1, the ledger holds 0"),
        ({"rows_in_invoices": 3, "rows_total": 3}, "rows in invoices: the reader counted 3, the ledger holds 4"),
        ({"invoices": 2}, "invoices: the reader counted 2, the ledger holds 3"),
        ({"amounts_minor": {"USD": 1}}, "USD: the reader added up 1 minor units, the ledger holds 13500"),
        ({"amounts_minor": {"USD": 13500, "EUR": 7}}, "EUR: the reader added up 7 minor units, the ledger holds 0"),
    ],
)
def test_control_totals_name_the_file_and_both_numbers(posted: DagsterFlow, change: dict[str, Any], fault: str) -> None:
    """A6: rows add up, always; whoever sees it fail must know which file and by how much."""
    posted.sql(sa.update(schema.source_file).values(**change))
    found = judged(posted, "control_totals_match")["control_totals_match"]
    assert not found.passed
    assert fault in (found.description or "")
    assert "stampli_invoices_C100" in (found.description or "")
    assert plain(found)["files_at_fault"] == 1


def test_invoice_deleted_in_fusion_is_named(posted: DagsterFlow) -> None:
    """What we say is there, and is not, is money that nobody will pay."""
    [invoice] = posted.remote.fusion.books.invoices(number="INV-2")
    posted.remote.fusion.delete_invoice(invoice.invoice_id)
    found = judged(posted, "fusion_agrees_with_ledger")["fusion_agrees_with_ledger"]
    assert not found.passed
    assert f"INV-2 (InvoiceId {invoice.invoice_id}) missing in Fusion" in (found.description or "")
    assert plain(found)["in_fusion"] == 1


def test_amount_that_differs_in_fusion_is_named_with_both(posted: DagsterFlow) -> None:
    """A total alone could agree by accident; each invoice is compared."""
    posted.sql(sa.update(schema.invoice).where(schema.invoice.c.number == "INV-2").values(amount_minor=3100))
    found = judged(posted, "fusion_agrees_with_ledger")["fusion_agrees_with_ledger"]
    assert not found.passed
    assert "ledger 31.00 USD, Fusion 30" in (found.description or "")
    assert plain(found)["ledger_amount"] == "131.00 USD"
    assert plain(found)["fusion_amount"] == "130.00 USD"


def test_fusion_down_is_a_warning_and_no_agreement(posted: DagsterFlow) -> None:
    """Not compared is not the same as equal; and it is not a wrong posting either."""
    posted.remote.fusion.tokens.clients.clear()
    found = judged(posted, "fusion_agrees_with_ledger")["fusion_agrees_with_ledger"]
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.WARN
    assert "could not be compared" in (found.description or "")


def test_nothing_created_asks_fusion_nothing(flow: DagsterFlow) -> None:
    """A quiet window costs no request."""
    flow.drop(1, invoice_rows(status="PENDING"))
    flow.poll()
    asked = flow.remote.fusion.books.count()
    found = judged(flow, "fusion_agrees_with_ledger")["fusion_agrees_with_ledger"]
    assert found.passed
    assert flow.remote.fusion.books.count() == asked


def attempt_again(flow: DagsterFlow, **end_of_first: Any) -> None:
    """A second attempt in the ledger, after the first ended as given."""
    submission = schema.submission
    with flow.remote.ledger.transaction() as transaction:
        first = transaction.row(sa.select(submission).order_by(submission.c.id).limit(1))
        assert first is not None
        transaction.execute(sa.update(submission).where(submission.c.id == first["id"]).values(**end_of_first))
        second = {name: value for name, value in first.items() if name != "id"} | {"attempt": 2}
        transaction.execute(sa.insert(submission).values(**second))
        transaction.execute(sa.update(submission).where(submission.c.attempt == 2).values(created_at=transaction.now))


@pytest.mark.parametrize(
    ("end_of_first", "fault"),
    [
        ({"phase": "UNKNOWN"}, "the attempt before it ended as UNKNOWN"),
        ({"phase": "INTENT"}, "the attempt before it ended as INTENT"),
        ({"phase": "CREATED"}, "the attempt before it ended as CREATED"),
        ({"phase": "ABSENT", "absences": 1}, "1 of 2 proofs of absence after ABSENT"),
        ({"phase": "REFUSED", "absences": 0}, "0 of 1 proofs of absence after REFUSED"),
        ({"phase": "ABSENT", "absences": 2, "ended_at": None}, "the attempt before it was not over"),
    ],
)
def test_second_attempt_without_proof_is_found(posted: DagsterFlow, end_of_first: dict[str, Any], fault: str) -> None:
    """C2, C4: sent twice without proof is how an invoice is paid twice."""
    attempt_again(posted, **end_of_first)
    found = judged(posted, "no_blind_reposts")["no_blind_reposts"]
    assert not found.passed
    assert fault in (found.description or "")
    assert plain(found)["without_proof"] == 1


@pytest.mark.parametrize(
    "end_of_first",
    [
        {"phase": "ABSENT", "absences": 2},
        {"phase": "REFUSED", "absences": 1},
        {"phase": "REJECTED"},
        {"phase": "RELEASED"},
    ],
)
def test_second_attempt_after_proof_is_in_order(posted: DagsterFlow, end_of_first: dict[str, Any]) -> None:
    """A control that fails over honest retries is switched off by people."""
    attempt_again(posted, **end_of_first)
    found = judged(posted, "no_blind_reposts")["no_blind_reposts"]
    assert found.passed
    assert plain(found)["further_attempts"] == 1


def test_first_attempt_that_is_gone_is_found(posted: DagsterFlow) -> None:
    """A deleted row must not make a second attempt look like the first."""
    posted.sql(sa.update(schema.submission).where(schema.submission.c.id == 1).values(attempt=2))
    found = judged(posted, "no_blind_reposts")["no_blind_reposts"]
    assert "the attempt before it is not in the ledger" in (found.description or "")


def test_invoice_stored_twice_is_found(posted: DagsterFlow) -> None:
    """The one thing that must never happen; if it does, it is said in the open."""
    attempt_again(posted, phase="CREATED", fusion_invoice_id=7)
    found = judged(posted, "no_blind_reposts")["no_blind_reposts"]
    assert "two attempts were stored in Fusion" in (found.description or "")


def test_honest_retries_of_the_product_pass(flow: DagsterFlow) -> None:
    """The control is held against what the product really does when Fusion is too busy and when an answer is lost."""
    flow.drop(1)
    flow.poll()
    more = [row for n in "23" for row in invoice_rows("10.00", invoice_id=n, invoice_number=f"INV-{n}")]
    flow.drop(2, more)
    flow.remote.fusion.faults.add("status", method="POST", path="invoices", status=503, count=2)
    flow.remote.fusion.faults.add("commit_then_reset", path="invoices", count=1, skip=2)
    flow.poll()
    assert len(flow.remote.fusion.books.invoices()) == 3
    found = judged(flow, "no_blind_reposts")["no_blind_reposts"]
    assert found.passed, found.description
    assert plain(found)["further_attempts"] >= 2
