"""When ``fusion_invoice_status_sensor`` asks for a round, and what a round finds."""

import dagster as dg

from mlc_dagster.automation.jobs import STATUS_JOB
from mlc_dagster_tests.automation.dagster_flow import QUIET, DagsterFlow, failure_of
from mlc_dagster_tests.stampli.builders import invoice_rows

SENSOR = "fusion_invoice_status_sensor"


def test_nothing_posted_and_nothing_parked_asks_for_nothing(flow: DagsterFlow) -> None:
    """D3: an idle installation asks Fusion nothing."""
    tick = flow.tick(SENSOR)
    assert not tick.run_requests
    assert "accounted" in tick.skip_message


def test_posted_invoice_is_followed_until_it_is_accounted(flow: DagsterFlow) -> None:
    """D3, C8: the controller asks whether it reached the general ledger; once it did, nobody needs to look again."""
    flow.drop(1)
    flow.poll()
    assert len(flow.tick(SENSOR).run_requests) == 1
    [invoice] = flow.remote.fusion.books.invoices()
    flow.remote.fusion.validate_invoice(invoice.invoice_id)
    flow.remote.fusion.create_accounting()
    observe(flow)
    assert flow.metadata("fusion_invoice_status")["accounted"] == 1
    assert not flow.tick(SENSOR).run_requests


def test_round_finds_that_a_parked_invoice_is_cured(flow: DagsterFlow) -> None:
    """D2, D3: the supplier is created in Fusion, and the invoice goes through without anybody touching it here."""
    flow.drop(1, invoice_rows(vendor_id="99999"))
    flow.poll()
    assert flow.remote.fusion.books.invoices() == []
    flow.remote.fusion.create_supplier("99999", "New Supplier")
    observe(flow)
    assert flow.metadata("fusion_invoice_status")["cured"] == 1
    [request] = flow.tick().run_requests
    assert request.tags["mlc/kind"] == "RETRY"
    assert flow.launch(request).success
    assert [invoice.supplier_number for invoice in flow.remote.fusion.books.invoices()] == ["99999"]


def test_round_that_is_still_running_is_not_doubled(flow: DagsterFlow) -> None:
    """A slow Fusion must not collect a queue of rounds that all ask the same."""
    flow.drop(1)
    flow.poll()
    flow.instance.add_run(dg.DagsterRun(job_name=STATUS_JOB, status=dg.DagsterRunStatus.STARTED))
    assert "has not ended" in flow.tick(SENSOR).skip_message


def test_cancelled_invoice_is_reported(flow: DagsterFlow) -> None:
    """C6: somebody cancelled it in Fusion; it is never posted again, and the table names it."""
    flow.drop(1)
    flow.poll()
    [invoice] = flow.remote.fusion.books.invoices()
    flow.remote.fusion.cancel_invoice(invoice.invoice_id)
    observe(flow)
    seen = flow.metadata("fusion_invoice_status")
    assert seen["voided"] == 1
    assert seen["outcome"] == "changed"


def test_fusion_down_fails_the_round_in_one_sentence(flow: DagsterFlow) -> None:
    """The person who opens the red run reads what is wrong, not a traceback of an HTTP library."""
    flow.drop(1)
    flow.poll()
    flow.remote.fusion.tokens.clients.clear()
    result = observe(flow)
    assert "check client_id, client_secret" in failure_of(result, "fusion_invoice_status")


def observe(flow: DagsterFlow) -> dg.ExecuteInProcessResult:
    job = flow.defs.resolve_job_def(STATUS_JOB)
    return job.execute_in_process(instance=flow.instance, run_config=QUIET, raise_on_error=False)
