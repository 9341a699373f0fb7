"""``run_inbound``: one whole poll in one call, what it says of it, and with which exit code."""

import datetime as dt
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from mlc_dagster.assets.failures import FailureKind
from mlc_dagster.ledger import schema
from mlc_dagster.ledger.audit import verify
from mlc_dagster.ledger.process import process_name
from mlc_dagster.stampli.window import hold_window
from mlc_dagster_tests.automation.dagster_flow import DagsterFlow
from mlc_dagster_tests.protocols.posting import until
from mlc_dagster_tests.stampli.builders import invoice_rows


def of_unknown_vendor(*amounts: str) -> list[dict[str, str]]:
    return invoice_rows(*amounts, vendor_id="99999", invoice_id="9", invoice_number="INV-9")


def test_one_call_is_one_whole_poll(flow: DagsterFlow) -> None:
    """A person types one command and the invoice is in Fusion: the settle time is waited out within the call."""
    flow.remote.change_config({"stampli": {"settle_seconds": 0.2}})
    flow.drop(1)
    outcome = flow.poll()
    assert outcome.exit_code == 0
    assert outcome.posted == 1
    assert outcome.totals == {"USD": Decimal("100.00")}
    assert flow.remote.fusion.books.totals() == {"USD": Decimal("100.00")}
    [file] = outcome.files
    assert (file.invoices, file.posted, file.state) == (1, 1, "READ")


def test_no_wait_leaves_settling_files_to_the_next_call(flow: DagsterFlow) -> None:
    """For cron: a call never sleeps; A1 lets the next one settle what this one saw."""
    flow.drop(1)
    first = flow.poll(wait=False, sleep=lambda _: pytest.fail("slept"))
    assert [file.path for file in first.waiting] == [
        f"/outbound/{path.name}" for path in flow.remote.outbound.iterdir()
    ]
    assert first.exit_code == 0
    assert flow.poll(wait=False).posted == 1


def test_second_call_finds_nothing_to_do(flow: DagsterFlow) -> None:
    """Cron runs it every quarter of an hour."""
    flow.drop(1)
    flow.poll()
    again = flow.poll()
    assert again.windows == []
    assert again.exit_code == 0
    assert len(flow.remote.fusion.books.invoices()) == 1


def test_parked_invoice_is_exit_code_1_with_its_reason(flow: DagsterFlow) -> None:
    """The accounts payable specialist has something to do; the others went through."""
    flow.drop(1, invoice_rows() + of_unknown_vendor())
    outcome = flow.poll()
    assert (outcome.exit_code, outcome.newly_parked, outcome.posted) == (1, 1, 1)
    assert outcome.files[0].why == {"VENDOR_UNKNOWN": 1}


def test_what_was_parked_before_does_not_alarm_again(flow: DagsterFlow) -> None:
    """An alarm that rings every quarter of an hour for the same invoice is switched off by people."""
    flow.drop(1, of_unknown_vendor())
    flow.poll()
    assert flow.poll().exit_code == 0


def test_cured_invoice_goes_through_by_itself(flow: DagsterFlow) -> None:
    """The supplier was created in Fusion: the next call posts that invoice and nothing else."""
    flow.drop(1, invoice_rows() + of_unknown_vendor("12.50"))
    flow.poll()
    flow.remote.fusion.create_supplier("99999", "New Supplier")
    outcome = flow.poll()
    assert (outcome.cured, outcome.posted, outcome.exit_code) == (1, 1, 0)
    assert outcome.totals == {"USD": Decimal("12.50")}
    assert [result.kind for result in outcome.windows] == ["RETRY"]


def test_statuses_are_followed_without_the_daemon(flow: DagsterFlow) -> None:
    """A customer who runs the command from cron wants to see his invoices accounted as well."""
    flow.remote.change_config({"retry": {"check_every": 0.0}})
    flow.drop(1)
    assert flow.poll().posted == 1
    [booked] = flow.remote.fusion.books.invoices()
    flow.remote.fusion.validate_invoice(booked.invoice_id)
    flow.remote.fusion.create_accounting()
    assert flow.poll().exit_code == 0
    with flow.remote.ledger.reading() as reading:
        [seen] = reading.rows(sa.select(schema.fusion_observation))
    assert (seen["validation_status"], seen["accounting_status"]) == ("Validated", "Accounted")
    assert seen["accounted_at"] is not None


def test_reconciled_window_posts_nothing_and_is_unchanged(flow: DagsterFlow) -> None:
    """The reconciliation an auditor asks for: everything is looked up again, and nothing is sent."""
    flow.drop(1)
    [first] = flow.poll().windows
    posts = flow.remote.fusion.books.count("POST", "invoices")
    for _ in range(2):
        outcome = flow.poll(window=first.window)
        [result] = outcome.windows
        assert result.unchanged
        assert set(result.checks.values()) == {True}
        assert outcome.exit_code == 0
    assert flow.remote.fusion.books.count("POST", "invoices") == posts


def test_reconciled_window_says_what_differs(flow: DagsterFlow) -> None:
    """Somebody cancelled the invoice in Fusion: `unchanged` would be a lie."""
    flow.drop(1)
    [first] = flow.poll().windows
    [invoice] = flow.remote.fusion.books.invoices()
    flow.remote.fusion.cancel_invoice(invoice.invoice_id)
    [result] = flow.poll(window=first.window).windows
    assert not result.unchanged
    assert result.differences == (f"cancelled in Fusion: INV-00417 (InvoiceId {invoice.invoice_id})",)


@pytest.mark.parametrize("window", ["yesterday", "2026-01-01-00:07", "2026-01-01-00:00"])
def test_window_that_cannot_be_reconciled_is_exit_code_2(flow: DagsterFlow, window: str) -> None:
    """Not a time, not a window's start, or a window that no poll has reached: the text names it."""
    outcome = flow.poll(window=window)
    assert outcome.exit_code == 2
    assert window in outcome.failures[0].text


def test_first_contact_is_exit_code_1_and_names_the_commands(flow: DagsterFlow) -> None:
    """A2: ten thousand old files are not new invoices."""
    flow.sql(sa.delete(schema.feed))
    flow.drop(1)
    outcome = flow.poll()
    assert outcome.exit_code == 1
    assert outcome.first_contact is not None
    assert "mlc files baseline" in outcome.first_contact


def test_missing_secret_is_exit_code_2_and_not_shown(flow: DagsterFlow) -> None:
    """The reference is named, since that is what a person can repair."""
    (flow.remote.folder / "sftp_password").unlink()
    outcome = flow.poll()
    assert outcome.exit_code == 2
    assert "file:sftp_password" in outcome.failures[0].text


def test_sftp_server_down_is_exit_code_3(flow: DagsterFlow) -> None:
    """Cron's mail says which side is down."""
    flow.remote.sftp.stop()
    outcome = flow.poll()
    assert outcome.exit_code == 3
    assert outcome.failures[0].kind is FailureKind.REMOTE
    assert outcome.windows == []


def test_fusion_down_is_exit_code_3_and_loses_nothing(flow: DagsterFlow) -> None:
    """The file is archived and its invoice waits in the ledger; the next call posts it, once."""
    flow.drop(1)
    flow.remote.fusion.faults.add("status", status=503, path="*")
    outcome = flow.poll()
    assert outcome.exit_code == 3
    [result] = outcome.windows
    assert (result.success, result.outcome) == (False, "failed")
    flow.remote.fusion.faults.clear()
    flow.sql(sa.update(schema.window_run).values(not_before=None))
    assert flow.poll().posted == 1
    assert len(flow.remote.fusion.books.invoices()) == 1


def test_audit_trail_is_sealed_after_a_failed_run(flow: DagsterFlow) -> None:
    """G5: the run that went wrong is the one that an auditor wants to read."""
    flow.drop(1)
    flow.remote.fusion.tokens.clients.clear()
    assert flow.poll().exit_code == 3
    seal = verify(flow.remote.ledger)
    assert seal.fault is None
    assert seal.sealed > 0
    assert seal.unsealed == 0


def test_window_held_by_another_run_is_left_to_it(flow: DagsterFlow) -> None:
    """Daemon and command side by side: the second says who is at work, and that is no failure."""
    flow.drop(1)
    [first] = flow.poll().windows
    [window] = flow.rows(schema.poll_window)
    owner = f"{process_name(os.getpid())}|other-run"
    with hold_window(flow.remote.ledger, window["window_start"], None, owner=owner, run_id="other-run", last=True):
        outcome = flow.poll(window=first.window)
    assert outcome.exit_code == 0
    assert "is being worked on by process" in outcome.notes[0]
    assert outcome.failures == []
    assert [result.outcome for result in outcome.windows] == ["busy"]


def test_two_calls_at_once_post_once(flow: DagsterFlow) -> None:
    """Cron's call overlaps with a person's: each invoice is in Fusion once, and neither call ends in a stack trace."""
    rows = [row for n in range(20) for row in invoice_rows("1.00", invoice_id=str(n), invoice_number=f"I-{n}")]
    flow.drop(1, rows)
    flow.poll(wait=False)
    with dg.DagsterInstance.ephemeral() as other, ThreadPoolExecutor(2) as both:
        calls = [both.submit(replace(flow, instance=instance).poll) for instance in (flow.instance, other)]
        outcomes = [call.result() for call in calls]
    assert [outcome.exit_code for outcome in outcomes] == [0, 0]
    books = flow.remote.fusion.books
    assert (books.totals(), books.duplicates()) == ({"USD": Decimal(20)}, [])
    assert books.count("POST", "invoices") == 20


def test_windows_without_files_are_marked_without_a_run(flow: DagsterFlow) -> None:
    """D4: also where no daemon ever runs, the partitions of quiet hours are complete."""
    since = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=45)
    flow.sql(sa.update(schema.feed).values(first_seen_at=since))
    assert flow.poll().empty_windows == 3
    marked = flow.instance.get_materialized_partitions(dg.AssetKey("posted_fusion_invoices"))
    assert len(marked) == 3
    assert flow.poll().empty_windows == 0


def test_dagsters_log_lines_stay_off_the_terminal(flow: DagsterFlow, capfd: pytest.CaptureFixture[str]) -> None:
    """`--json` must be JSON, and a table must be a table, also when a run fails."""
    flow.drop(1)
    flow.remote.fusion.tokens.clients.clear()
    flow.poll()
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "STEP_FAILURE" not in printed.err
    assert "Traceback" not in printed.err


_CALL = """
import sys
from pathlib import Path
import dagster as dg
from mlc_dagster.automation.one_shot import run_inbound
from mlc_dagster.settings_file import load_settings
with dg.DagsterInstance.local_temp(sys.argv[2]) as instance:
    print(run_inbound(load_settings(Path(sys.argv[1])), instance=instance).posted)
"""


@pytest.mark.timeout(400)
def test_killed_call_stalls_nobody_and_posts_nothing_twice(flow: DagsterFlow, tmp_path: Path) -> None:
    """D6, C1: kill -9 while the request is under way; the next call fails the dead run and settles the invoice."""
    home = tmp_path / "dagster"
    home.mkdir()
    # On a busy machine the signal may come late: until then the request must not have timed out and been settled.
    flow.remote.change_config({"fusion": {"request_timeout": 300}})
    flow.drop(1)
    gate = flow.remote.fusion.faults.gate(method="POST", path="invoices", stage="after")
    call = [sys.executable, "-c", _CALL, str(flow.remote.config), str(home)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as killed:
        until(lambda: gate.held or killed.poll() is not None, timeout=300)
        assert killed.poll() is None, "the call ended before it could be killed"
        killed.kill()
    gate.release()
    flow.remote.fusion.faults.clear()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        [dead] = instance.get_runs()
        assert dead.status is dg.DagsterRunStatus.STARTED
        # The time of its intent's lease, which the next sender would wait out.
        over = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
        flow.sql(sa.update(schema.submission).values(lease_until=over))
        flow.instance = instance
        outcome = flow.poll()
        assert dead.run_id in outcome.dead_runs
        run = instance.get_run_by_id(dead.run_id)
        assert run is not None
        assert run.status is dg.DagsterRunStatus.FAILURE
    assert len(flow.remote.fusion.books.invoices()) == 1
    assert [row["state"] for row in flow.rows(schema.invoice)] == ["CONFIRMED"]
