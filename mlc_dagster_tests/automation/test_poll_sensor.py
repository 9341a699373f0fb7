"""What a tick of ``stampli_poll_sensor`` asks for, from the ledger alone."""

import datetime as dt
import subprocess
import sys

import dagster as dg
import pytest
import sqlalchemy as sa

from mlc_dagster.assets import WINDOWED
from mlc_dagster.assets.holding import GENERATION_TAG, KIND_TAG, PROCESS_TAG, WINDOW_TAG
from mlc_dagster.automation.windows import ready
from mlc_dagster.ledger import schema
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.windows import GenerationKind, RunWanted, window_key
from mlc_dagster.partitions import inbound_windows
from mlc_dagster.settings import PollSettings
from mlc_dagster.sftp.errors import HostKeyRejected
from mlc_dagster_tests.automation.dagster_flow import DagsterFlow
from mlc_dagster_tests.stampli.builders import file_name, invoice_rows


def settled(flow: DagsterFlow) -> dg.RunRequest:
    """The request for the file that was dropped, at its second sighting."""
    assert not flow.tick().run_requests
    [request] = flow.tick().run_requests
    return request


def test_settled_file_asks_for_its_window(flow: DagsterFlow) -> None:
    """The run must know window and generation: everything downstream reads the set of files that was frozen there."""
    flow.drop(1)
    request = settled(flow)
    [row] = flow.rows(schema.window_run)
    assert request.partition_key == window_key(row["window_start"])
    assert request.run_key == f"{request.partition_key}/g1/a1"
    assert request.tags[GENERATION_TAG] == "1"
    assert request.tags[WINDOW_TAG] == request.partition_key
    assert request.tags[KIND_TAG] == "FILES"


def test_request_lost_in_a_crash_is_made_again_under_the_same_key(flow: DagsterFlow) -> None:
    """D2: a daemon that dies between the ledger's commit and the run must not lose the file, nor run it twice."""
    flow.drop(1)
    first = settled(flow)
    [again] = flow.tick().run_requests
    assert again.run_key == first.run_key


def test_failed_run_is_asked_for_again_under_a_new_key(flow: DagsterFlow) -> None:
    """D2: Dagster takes a run key once for ever, failed or not; a failed window would never be tried again."""
    flow.drop(1)
    request = settled(flow)
    flow.remote.fusion.tokens.clients.clear()
    assert not flow.launch(request).success
    flow.sql(sa.update(schema.window_run).values(not_before=None))
    [again] = flow.tick().run_requests
    assert again.run_key == f"{request.partition_key}/g1/a2"


def test_finished_window_is_not_asked_for_again(flow: DagsterFlow) -> None:
    """A tick every half minute must not start a run every half minute."""
    flow.drop(1)
    assert flow.launch(settled(flow)).success
    assert not flow.tick().run_requests


def test_first_contact_is_a_skipped_tick_that_names_the_commands(flow: DagsterFlow) -> None:
    """A2: old files are not new invoices; the person reads in the UI what to type."""
    flow.sql(sa.delete(schema.feed))
    flow.drop(1)
    tick = flow.tick()
    assert not tick.run_requests
    assert "mlc files baseline" in tick.skip_message
    assert "mlc files process" in tick.skip_message


def test_go_live_in_the_future_is_a_skipped_tick(flow: DagsterFlow) -> None:
    """D4: a code location may be up before go-live; it waits and says so."""
    flow.remote.change_config({"poll": {"start": dt.date(2099, 1, 1)}})
    assert "2099-01-01" in flow.tick().skip_message


def test_server_that_is_down_is_a_skipped_tick(flow: DagsterFlow) -> None:
    """A server restarts every night; that is no failure to be paged for."""
    flow.remote.sftp.stop()
    tick = flow.tick()
    assert not tick.run_requests
    assert "next poll" in tick.skip_message


def test_wrong_host_key_fails_the_tick(flow: DagsterFlow) -> None:
    """A skipped tick is grey and nobody looks; a server that is not ours must be red."""
    flow.remote.change_config({"stampli": {"sftp": {"host_key": f"SHA256:{'A' * 43}"}}})
    with pytest.raises(Exception, match="offered host key") as raised:
        flow.tick()
    assert isinstance(raised.value.__cause__ or raised.value, HostKeyRejected)


def test_empty_windows_are_marked_once(flow: DagsterFlow) -> None:
    """D4: a gap in the partitions must mean a missed poll, never an hour without files."""
    now = dt.datetime.now(dt.UTC)
    flow.sql(sa.update(schema.feed).values(first_seen_at=now - dt.timedelta(minutes=45)))
    events = flow.tick().asset_events
    assert {event.asset_key.to_user_string() for event in events} == set(WINDOWED)
    assert len({event.partition for event in events}) == 3
    assert {event.metadata["outcome"].value for event in events} == {"EMPTY"}
    assert not flow.tick().asset_events


def test_window_that_is_no_partition_yet_waits_for_the_next_tick() -> None:
    """A database clock that is ahead of ours names a window that Dagster does not have; the tick must not fail."""
    windows = inbound_windows(PollSettings(start=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)))
    there = RunWanted(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), 1, 1, GenerationKind.FILES)
    ahead = RunWanted(dt.datetime(2099, 1, 1, tzinfo=dt.UTC), 1, 1, GenerationKind.FILES)
    before = RunWanted(dt.datetime(2025, 1, 1, tzinfo=dt.UTC), 1, 1, GenerationKind.RETRY)
    assert ready(windows, [ahead, there, before]) == ([there], [ahead, before])


def test_tick_fails_the_run_of_a_process_that_is_gone(flow: DagsterFlow) -> None:
    """D6: a killed `mlc run` would be STARTED for ever, and a person would wait for it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as gone:
        name = process_name(gone.pid)
        dead = dg.DagsterRun(job_name="stampli_to_fusion", status=dg.DagsterRunStatus.STARTED, tags={PROCESS_TAG: name})
        flow.instance.add_run(dead)
        flow.tick()
        run = flow.instance.get_run_by_id(dead.run_id)
        assert run is not None
        assert run.status is dg.DagsterRunStatus.STARTED
        gone.kill()
    flow.tick()
    run = flow.instance.get_run_by_id(dead.run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.FAILURE


def test_one_bad_file_does_not_hold_up_the_tick(flow: DagsterFlow) -> None:
    """A file that is not of the profile is refused in its run; the others are posted by the same run."""
    flow.drop(1)
    flow.remote.drop(file_name(2), b"\xff\xfe not a csv\n")
    result = flow.launch(settled(flow))
    assert result.success
    assert flow.remote.fusion.books.totals() == {"USD": 100}
    assert flow.metadata("stampli_invoice_files")["files_rejected"] == 1


def test_keys_of_partitions_are_names_of_windows() -> None:
    """The ledger and Dagster must mean the same window by the same name."""
    windows = inbound_windows(PollSettings(start=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), cron="*/5 * * * *"))
    keys = windows.get_partition_keys(current_time=dt.datetime(2026, 1, 1, 0, 7, tzinfo=dt.UTC))
    starts = [dt.datetime(2026, 1, 1, 0, minute, tzinfo=dt.UTC) for minute in (0, 5)]
    assert list(keys) == [window_key(start) for start in starts]


def test_rows_of_two_files_in_one_window_share_a_run(flow: DagsterFlow) -> None:
    """One run per window, however many files: a run per file would queue for hours."""
    flow.drop(1)
    flow.drop(2, invoice_rows("7.00", invoice_id="2", invoice_number="INV-2"))
    result = flow.launch(settled(flow))
    assert result.success
    assert flow.remote.fusion.books.totals() == {"USD": 107}
