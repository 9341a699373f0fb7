"""The three window assets: what they say of a run, how they fail, and what a run by hand does."""

import os

import dagster as dg
import sqlalchemy as sa

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.process import process_name
from mlc_dagster.stampli.window import hold_window
from mlc_dagster_tests.automation.dagster_flow import QUIET, DagsterFlow, failure_of
from mlc_dagster_tests.stampli.builders import invoice_rows


def request(flow: DagsterFlow) -> dg.RunRequest:
    flow.tick()
    [wanted] = flow.tick().run_requests
    return wanted


def materialize(flow: DagsterFlow, *names: str, window: str) -> dg.ExecuteInProcessResult:
    """Some assets of the window by hand, as from the UI's selection."""
    job = flow.defs.resolve_job_def("stampli_to_fusion")
    return job.execute_in_process(
        partition_key=window,
        instance=flow.instance,
        asset_selection=[dg.AssetKey(name) for name in names],
        run_config=QUIET,
        raise_on_error=False,
    )


def test_numbers_of_a_run_are_metadata_that_plots(flow: DagsterFlow) -> None:
    """One event per window and asset with counts, totals, seconds: the controller's chart needs no query."""
    rows = invoice_rows("100.00", "8.50") + invoice_rows("5.00", invoice_id="3", invoice_number="I-3", vendor_id="9")
    flow.drop(1, rows)
    assert flow.launch(request(flow)).success
    files = flow.metadata("stampli_invoice_files")
    assert (files["files"], files["invoices"], files["rows"], files["quarantined"]) == (1, 2, 3, 0)
    assert (files["amount"], files["amount_usd"]) == ("113.50 USD", 113.5)
    judged = flow.metadata("validated_invoices")
    assert (judged["validated"], judged["parked"]) == (1, 1)
    posted = flow.metadata("posted_fusion_invoices")
    assert (posted["posted"], posted["confirmed"], posted["outcome"]) == (1, 1, "posted")
    assert (posted["amount"], posted["amount_usd"]) == ("108.50 USD", 108.5)
    assert posted["requests_per_invoice"] >= 1
    assert posted["seconds"] > 0


def test_parked_invoice_is_in_the_table_with_what_to_do(flow: DagsterFlow) -> None:
    """The specialist opens the asset and sees which invoice, why, and the remedy."""
    flow.drop(1, invoice_rows(vendor_id="99999"))
    flow.launch(request(flow))
    [record] = flow.metadata("validated_invoices")["table_of_parked"].records
    assert record.data["reason"] == "VENDOR_UNKNOWN"
    assert record.data["value"] == "99999"
    assert "supplier 99999" in str(record.data["remedy"])
    assert str(record.data["file"]).endswith(".csv, row 2")


def test_tables_are_bounded(flow: DagsterFlow) -> None:
    """Ten thousand parked invoices in one event would make the UI and its database crawl."""
    rows = [
        row
        for number in range(60)
        for row in invoice_rows(invoice_id=str(number), invoice_number=f"I-{number}", vendor_id="99999")
    ]
    flow.drop(1, rows)
    flow.launch(request(flow))
    judged = flow.metadata("validated_invoices")
    assert judged["parked"] == 60
    assert len(judged["table_of_parked"].records) == 50


def test_window_that_no_poll_has_reached_fails_in_one_sentence(flow: DagsterFlow) -> None:
    """Somebody clicks a partition of last spring: a clear answer, no stack trace, no empty success."""
    result = flow.run("2026-03-01-00:00")
    assert not result.success
    assert "2026-03-01-00:00 UTC is not in the ledger; no poll has reached it yet" in failure_of(
        result, "stampli_invoice_files"
    )


def test_materialized_again_by_hand_is_unchanged(flow: DagsterFlow) -> None:
    """D1: a run without generation reconciles; posting again is the one thing it must not do."""
    flow.drop(1)
    wanted = request(flow)
    flow.launch(wanted)
    assert flow.run(wanted.partition_key or "").success
    assert flow.metadata("posted_fusion_invoices")["outcome"] == "unchanged"
    assert flow.metadata("stampli_invoice_files")["outcome"] == "unchanged"
    assert len(flow.remote.fusion.books.invoices()) == 1


def test_archived_file_that_differs_from_the_ledger_is_said(flow: DagsterFlow) -> None:
    """Reconciling re-reads the archived bytes: a ledger row that was changed afterwards does not go unnoticed."""
    flow.drop(1)
    wanted = request(flow)
    flow.launch(wanted)
    flow.sql(sa.update(schema.invoice_occurrence).values(digest="0" * 64))
    flow.run(wanted.partition_key or "")
    files = flow.metadata("stampli_invoice_files")
    assert files["outcome"] == "differs"
    assert "INV-00417 (88121) reads differently from the ledger" in files["summary"]


def test_first_asset_alone_ends_its_generation(flow: DagsterFlow) -> None:
    """A person materializes one asset: no lease and no open generation may be left behind to start a run later."""
    flow.drop(1)
    wanted = request(flow)
    flow.launch(wanted)
    assert materialize(flow, "stampli_invoice_files", window=wanted.partition_key or "").success
    [window] = flow.rows(schema.poll_window)
    assert window["lease_owner"] is None
    assert {row["state"] for row in flow.rows(schema.window_run)} == {"DONE"}


def test_busy_window_fails_without_retry_and_is_asked_for_again(flow: DagsterFlow) -> None:
    """D1, D2: one run per window at a time; the one that came second is not lost."""
    flow.drop(1)
    wanted = request(flow)
    [window] = flow.rows(schema.poll_window)
    owner = f"{process_name(os.getpid())}|other"
    with hold_window(flow.remote.ledger, window["window_start"], None, owner=owner, run_id="other", last=True):
        result = flow.launch(wanted)
    assert "is being worked on by process" in failure_of(result, "stampli_invoice_files")
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    flow.sql(sa.update(schema.window_run).values(not_before=None))
    [again] = flow.tick().run_requests
    assert again.run_key == f"{wanted.partition_key}/g1/a2"


def test_failed_step_gives_the_window_back(flow: DagsterFlow) -> None:
    """A run that failed must not hold its window for a minute; the next one may begin at once."""
    flow.drop(1)
    flow.remote.fusion.tokens.clients.clear()
    result = flow.launch(request(flow))
    assert "check client_id, client_secret and scope" in failure_of(result, "validated_invoices")
    [window] = flow.rows(schema.poll_window)
    assert window["lease_owner"] is None
    [run] = flow.rows(schema.window_run)
    assert run["state"] == "OPEN"
    assert "check client_id" in run["failure"]


def test_log_has_one_line_per_stage(flow: DagsterFlow) -> None:
    """A log line is a row in Dagster's database; one per invoice would be ten thousand."""
    rows = [row for n in range(30) for row in invoice_rows(invoice_id=str(n), invoice_number=f"I-{n}")]
    flow.drop(1, rows)
    result = flow.launch(request(flow))
    records = flow.instance.all_logs(result.run_id)
    ours = [record.user_message for record in records if record.dagster_event is None]
    assert len(ours) == 3
    assert ours[2].endswith("30 created, 30 confirmed")


def test_lease_names_this_process_and_its_run(flow: DagsterFlow) -> None:
    """D6: whoever waits for a window can tell whether the holder still lives."""
    flow.drop(1)
    result = flow.launch(request(flow))
    [attempt] = flow.rows(schema.submission)
    assert attempt["owner"] == f"{process_name(os.getpid())}|{result.run_id}"
