"""D1, D2, D4 and D6: what a run works on is frozen, what must run is derived from the ledger, nothing is skipped."""

import pytest

from mlc_dagster.fusion.errors import FusionError
from mlc_dagster.ledger.audit import seal, verify
from mlc_dagster.ledger.database import LedgerError, open_ledger
from mlc_dagster.ledger.windows import GenerationKind, WindowBusy
from mlc_dagster.stampli.inbound import FEED
from mlc_dagster.stampli.intake.receiving import files_of
from mlc_dagster.stampli.posting.sending import PostingStopped
from mlc_dagster.stampli.window import hold_window
from mlc_dagster_tests.protocols.intake import (
    align,
    bill,
    deliver,
    drop,
    events,
    files,
    invoice_row,
    posted_numbers,
    prove_books,
    stepwise,
    verdict,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal


def test_d1_a_generation_is_frozen_and_a_late_file_of_the_window_gets_its_own(flow: Rehearsal) -> None:
    """What a run works on must not change while it runs."""
    align(flow)
    drop(flow, 1, bill("1", "10.00"))
    (first,) = flow.poll_settled().runs
    drop(flow, 2, bill("2", "20.00"))
    later = flow.poll_settled().runs
    assert [(wanted.window_start, wanted.generation) for wanted in later] == [
        (first.window_start, 1), (first.window_start, 2),
    ]  # fmt: skip
    assert len(files_of(flow.ledger, first.window_start, 1)) == 1
    flow.run(first)
    assert posted_numbers(flow) == ["N-1"]
    flow.run(later[1])
    prove_books(flow, "N-1", "N-2")
    groups = [booked.invoice_group for booked in flow.fusion.books.invoices()]
    assert [str(group).split()[2] for group in groups] == ["g1", "g2"]


def test_d1_one_run_per_window_at_a_time(flow: Rehearsal) -> None:
    """Daemon and command at the same moment: the second one is told who works on it."""
    align(flow)
    drop(flow, 1, bill("1", "10.00"))
    (wanted,) = flow.poll_settled().runs

    def second() -> None:
        with (
            pytest.raises(WindowBusy, match="is being worked on"),
            hold_window(flow.ledger, wanted.window_start, None, owner="here||2|1", run_id="other", last=True),
        ):
            raise AssertionError("two runs hold one window")

    stepwise(flow, wanted, after_receive=second, after_validate=second)
    prove_books(flow, "N-1")


def test_d1_a_window_run_again_by_hand_reads_the_archived_bytes_and_changes_nothing(flow: Rehearsal) -> None:
    """The file is gone from the server; what was posted is explained by the bytes that were processed."""
    name = drop(flow, 1, bill("1", "10.00"), bill("9", "90.00", vendor_id="39999"))
    flow.process()
    (flow.outbound / name).unlink()
    before = flow.fusion.books.count("POST", "invoices")
    for _ in range(2):
        received, validated, posted = flow.run(files(flow)[0]["window_start"])
        assert [(reread.invoices, reread.differences) for reread in received.rereadings] == [(2, ())]
        assert (validated.summary.validated, posted.posting.created, posted.confirmation.unchanged) == (0, 0, 1)
    assert flow.fusion.books.count("POST", "invoices") == before
    prove_books(flow, "N-1")


def test_d1_a_run_by_hand_notices_a_damaged_archive(flow: Rehearsal) -> None:
    """Bytes that no longer have their hash prove nothing: told of the file, and all else is looked at none the less."""
    deliver(flow, 1, bill("1", "10.00"))
    (stored,) = [path for path in (flow.folder / "data" / "archive").rglob("*") if path.is_file()]
    stored.chmod(0o600)
    stored.write_bytes(stored.read_bytes().replace(b"10.00", b"11.00"))
    received, _, posted = flow.run(files(flow)[0]["window_start"])
    (reread,) = received.rereadings
    assert reread.unreadable is not None
    assert "other bytes" in reread.unreadable
    assert reread.differences == (f"cannot be read again: {reread.unreadable}",)
    assert posted.confirmation.unchanged == 1
    assert flow.poll().runs == ()
    prove_books(flow, "N-1")


def test_d2_a_failed_run_is_asked_for_again_under_a_new_key(flow: Rehearsal) -> None:
    """Dagster takes a run key once: without the attempt in it a failed window would stay failed."""
    drop(flow, 1, bill("1", "10.00"))
    flow.fusion.faults.add("revoked", method="POST", path="invoices", count=1)
    (wanted,) = flow.poll_settled().runs
    with pytest.raises((PostingStopped, FusionError)):
        flow.run(wanted)
    assert verdict(flow, "1") == "VALIDATED"
    assert flow.poll().runs == ()
    flow.clock.advance(61)
    (again,) = flow.poll().runs
    assert (again.generation, again.attempt) == (wanted.generation, wanted.attempt + 1)
    assert again.run_key != wanted.run_key
    flow.run(again)
    prove_books(flow, "N-1")


def test_d2_a_crash_between_assignment_and_request_loses_nothing(flow: Rehearsal) -> None:
    """The tick died after its commit; the next process asks for the same run, with the same key."""
    drop(flow, 1, bill("1", "10.00"))
    (wanted,) = flow.poll_settled().runs
    flow.ledger.close()
    flow.ledger = open_ledger(f"sqlite:///{flow.folder / 'data' / 'ledger.sqlite'}", clock=flow.clock)
    (again,) = flow.poll().runs
    assert again.run_key == wanted.run_key
    flow.clock.advance(16 * 60)
    (lost,) = flow.poll().runs
    assert lost.attempt == 2
    flow.run(lost)
    assert flow.poll().runs == ()
    prove_books(flow, "N-1")


def test_d2_a_retry_goes_to_the_invoices_home_window(flow: Rehearsal) -> None:
    """A day later: the window in which the invoice arrived accounts for it, whatever window it is now."""
    flow.change_config({"fusion": {"wait_in_run": 0.5, "ambiguous_wait": 360}})
    deliver(flow, 1, bill("0", "5.00"))
    flow.fusion.faults.add("commit_then_reset", path="invoices", count=1)
    deliver(flow, 2, bill("1", "10.00"))
    home = invoice_row(flow, "1")["window_start"]
    flow.clock.advance(86_400)
    (retry,) = flow.poll().runs
    assert (retry.window_start, retry.kind) == (home, GenerationKind.RETRY)
    flow.run(retry)
    assert flow.poll().runs == ()
    prove_books(flow, "N-0", "N-1")


def test_d4_every_window_gets_one_outcome_and_empty_ones_are_told_once(flow: Rehearsal) -> None:
    """After an outage of hours every missed window is EMPTY, once, without a run; no gap is skipped."""
    align(flow)
    deliver(flow, 1, bill("1", "10.00"))
    start = files(flow)[0]["window_start"]
    flow.clock.advance(4 * 15 * 60)
    empty = flow.poll().empty_windows
    assert [(window - start).total_seconds() / 60 for window in empty][-3:] == [15, 30, 45]
    assert start not in empty
    assert flow.poll().empty_windows == ()
    flow.clock.advance(15 * 60)
    assert len(flow.poll().empty_windows) == 1
    prove_books(flow, "N-1")


def test_d4_another_cron_is_refused_and_nothing_is_lost(flow: Rehearsal) -> None:
    """Windows of another length would cut through old ones."""
    drop(flow, 1, bill("1", "10.00"))
    flow.poll()
    flow.change_config({"poll": {"cron": "*/30 * * * *"}})
    with pytest.raises(LedgerError, match=r"\*/15"):
        flow.poll()
    flow.change_config({"poll": {"cron": "*/15 * * * *"}})
    flow.process()
    prove_books(flow, "N-1")


def test_d6_a_run_whose_process_is_gone_stalls_nobody(flow: Rehearsal) -> None:
    """Its lease is taken over at once on the same host."""
    import subprocess
    import sys

    from mlc_dagster.ledger import windows
    from mlc_dagster.ledger.process import process_name
    from mlc_dagster.ledger.window_hold import LEASE

    drop(flow, 1, bill("1", "10.00"))
    (wanted,) = flow.poll_settled().runs
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = f"{process_name(process.pid)}|run"
        with flow.ledger.transaction() as transaction:
            windows.take_window(
                transaction, FEED, wanted.window_start, wanted.generation, owner=owner, run_id="run", lease=LEASE
            )
        assert flow.poll().runs == ()
    (again,) = flow.poll().runs
    assert again.attempt == wanted.attempt + 1
    flow.run(again)
    prove_books(flow, "N-1")


def test_g5_the_chain_verifies_after_a_run_and_names_a_change(flow: Rehearsal) -> None:
    """Triggers refuse a change; one made past them breaks the seal."""
    import sqlalchemy as sa

    deliver(flow, 1, bill("1", "10.00"))
    prove_books(flow, "N-1")
    assert len(events(flow, "window.done")) == 1
    with flow.ledger.engine.begin() as connection:
        triggers = connection.execute(
            sa.text("select name from sqlite_master where type = 'trigger' and tbl_name = 'audit_event'")
        ).scalars()
        for name in triggers.all():
            connection.execute(sa.text(f'drop trigger "{name}"'))
        connection.execute(sa.text("update audit_event set actor = 'nobody' where kind = 'submission.created'"))
    seal(flow.ledger)
    assert "submission.created" in str(verify(flow.ledger).fault)
