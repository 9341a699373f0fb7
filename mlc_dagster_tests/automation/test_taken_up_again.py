"""What a window needs is asked for until it is done, whoever began it and however that ended; and nothing more."""

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from mlc_dagster.automation.jobs import INBOUND_JOB
from mlc_dagster.ledger import schema, submissions
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.tellings import KIND
from mlc_dagster.ledger.windows import window_key
from mlc_dagster_tests.alerts.receiver import Receiver, receiving
from mlc_dagster_tests.automation.dagster_flow import QUIET, DagsterFlow
from mlc_dagster_tests.cli.conftest import json_of, run_mlc
from mlc_dagster_tests.ledger.population import add_invoice, add_window, sent_invoice

PROFILE = Path("mlc_dagster/stampli/profiles/stampli_lines_v1.yaml")


def last_step_alone(flow: DagsterFlow, request: dg.RunRequest) -> bool:
    """Re-execution of one step in the UI, with the run's tags."""
    result = flow.defs.resolve_job_def(INBOUND_JOB).execute_in_process(
        partition_key=request.partition_key,
        instance=flow.instance,
        tags=dict(request.tags),
        run_config=QUIET,
        raise_on_error=False,
        asset_selection=[dg.AssetKey("posted_fusion_invoices")],
    )
    return result.success


def at_once(flow: DagsterFlow) -> None:
    """As if the pause after a failed attempt were over."""
    flow.sql(sa.update(schema.window_run).values(not_before=None))


def generations(flow: DagsterFlow) -> list[tuple[str, str]]:
    return [(row["kind"], row["state"]) for row in flow.rows(schema.window_run)]


@pytest.fixture
def requested(flow: DagsterFlow) -> dg.RunRequest:
    """The run that the daemon asked for, of one file."""
    flow.drop(1)
    flow.tick()
    [request] = flow.tick().run_requests
    return request


def test_a_step_executed_alone_leaves_no_file_behind(flow: DagsterFlow, requested: dg.RunRequest) -> None:
    """It finds nothing to post and ends well; the file must be read and posted all the same."""
    assert last_step_alone(flow, requested)
    assert generations(flow) == [("FILES", "OPEN")]
    at_once(flow)
    assert flow.poll().posted == 1
    assert generations(flow) == [("FILES", "DONE")]
    assert [row["state"] for row in flow.rows(schema.source_file)] == ["READ"]


@pytest.fixture
def stranded(flow: DagsterFlow, requested: dg.RunRequest) -> DagsterFlow:
    """A file that its generation left unread, as earlier versions of this program could."""
    assert requested.partition_key is not None
    flow.sql(sa.update(schema.window_run).values(state="DONE"))
    return flow


def test_a_file_that_was_left_unread_is_taken_up(stranded: DagsterFlow) -> None:
    """By a RETRY of its window, which fetches it, and shows it."""
    assert stranded.poll().posted == 1
    assert generations(stranded) == [("FILES", "DONE"), ("RETRY", "DONE")]
    assert stranded.metadata("stampli_invoice_files")["files"] == 1


def test_a_file_that_was_left_unread_is_named(stranded: DagsterFlow) -> None:
    """Where nobody polls any more, the control and the list of exceptions are all that a person sees."""
    [file] = stranded.rows(schema.source_file)
    control = [check for check in stranded.defs.asset_checks or [] if "every_invoice" in str(check.check_specs)]
    defs = dg.Definitions(
        assets=stranded.defs.assets,
        asset_checks=control,
        resources=stranded.defs.resources,
        jobs=[dg.define_asset_job("control", selection=dg.AssetSelection.checks(*control))],
        executor=dg.in_process_executor,
    )
    result = defs.resolve_job_def("control").execute_in_process(
        instance=stranded.instance,
        tags={"dagster/partition": window_key(file["window_start"])},
        run_config=QUIET,
        raise_on_error=False,
    )
    [judged] = result.get_asset_check_evaluations()
    assert not judged.passed
    assert judged.description == f"{file['path']} is ASSIGNED, and no run reads it"
    listed = json_of(run_mlc("--config", stranded.remote.config, "exceptions", "--json"))["exceptions"]
    assert [(each["state"], each["file"]) for each in listed] == [("ASSIGNED", file["path"].rpartition("/")[2])]


@pytest.fixture
def posted(flow: DagsterFlow) -> str:
    """One invoice in Fusion; the key of its window."""
    flow.drop(1)
    [result] = flow.poll().windows
    return result.window


def test_a_reconciliation_says_what_the_profile_no_longer_takes(flow: DagsterFlow, posted: str, tmp_path: Path) -> None:
    """The partner renamed a column since, and the profile follows: old files differ, and nothing is blocked."""
    changed = tmp_path / "changed.yaml"
    changed.write_text(PROFILE.read_text().replace("  vendor_id: {field: vendor_id", "  supplier: {field: vendor_id"))
    flow.remote.change_config({"stampli": {"profile": str(changed)}})
    outcome = flow.poll(window=posted)
    [result] = outcome.windows
    assert (result.success, result.unchanged, outcome.exit_code) == (True, False, 1)
    [difference] = result.differences
    assert "cannot be read again: " in difference
    assert "'supplier' is missing" in difference
    assert outcome.notes == [difference]
    assert generations(flow) == [("FILES", "DONE"), ("RECONCILE", "DONE")]


def test_a_failed_reconciliation_is_not_repeated_and_blocks_nothing(flow: DagsterFlow, posted: str) -> None:
    """Fusion was down for the person who asked; what is due in the window afterwards goes through."""
    flow.remote.fusion.faults.add("status", status=503, path="*")
    assert flow.poll(window=posted).exit_code == 3
    flow.remote.fusion.faults.clear()
    assert generations(flow) == [("FILES", "DONE"), ("RECONCILE", "FAILED")]
    assert flow.poll().windows == []
    assert flow.tick().run_requests == []
    flow.sql(sa.update(schema.invoice).values(state="CREATED"))
    assert [result.kind for result in flow.poll().windows] == ["RETRY"]
    assert [row["state"] for row in flow.rows(schema.invoice)] == ["CONFIRMED"]


@pytest.fixture
def many_unknown(flow: DagsterFlow) -> DagsterFlow:
    """Eight outcomes are unknown, and one invoice waits to be sent."""
    ledger = flow.remote.ledger
    with ledger.transaction() as transaction:
        start = flow.settings.poll.window_start(transaction.now)
        add_window(transaction, start)
        transaction.execute(sa.update(schema.window_run).values(state="DONE"))
    for _ in range(submissions.MOST_UNKNOWN):
        key, intent = sent_invoice(ledger, start=start)
        with ledger.transaction() as transaction:
            wait = dt.timedelta(hours=1)
            submissions.mark_unknown(transaction, intent.submission_id, wait=wait, http_status=None, why="")
            transaction.execute(sa.update(schema.invoice).where(schema.invoice.c.id == key).values(window_start=start))
    with ledger.transaction() as transaction:
        add_invoice(transaction, InvoiceState.VALIDATED, start=start)
    return flow


def test_command_and_daemon_hold_back_alike(many_unknown: DagsterFlow) -> None:
    """While so many outcomes are unknown nothing new is begun, not by a person's command either."""
    assert many_unknown.tick().run_requests == []
    assert many_unknown.poll().windows == []


@pytest.fixture
def overdue(flow: DagsterFlow) -> DagsterFlow:
    """A file that is not whole, and unchanged for hours."""
    path = flow.drop(1)
    old = path.stat().st_mtime
    path.write_bytes(path.read_bytes().rstrip(b"\r\n"))
    os.utime(path, (old, old - 7200))
    flow.poll()
    return flow


@pytest.fixture
def receiver(overdue: DagsterFlow) -> Iterator[Receiver]:
    """Where alerts go."""
    with receiving() as server:
        overdue.remote.change_config({"alerts": {"to": [f"json://127.0.0.1:{server.port}"]}})
        yield server


def told(flow: DagsterFlow) -> list[str]:
    return [row["subject"] for row in flow.rows(schema.audit_event) if row["kind"] == KIND]


def test_nobody_is_on_record_as_told_where_nobody_is(overdue: DagsterFlow) -> None:
    """No addresses: the trail must not say that an alert was sent; the exit code says it once all the same."""
    codes = [overdue.poll().exit_code, overdue.poll().exit_code]
    assert codes == [1, 0]
    assert told(overdue) == []


def test_an_alert_that_reached_nobody_is_not_on_record(overdue: DagsterFlow, receiver: Receiver) -> None:
    """Nor one that could not be delivered; when it arrives, it stands there, once."""
    receiver.status = 500
    overdue.tick()
    assert told(overdue) == []
    receiver.status = 200
    overdue.tick()
    overdue.tick()
    assert [subject.partition(":")[0] for subject in told(overdue)] == ["file"]
