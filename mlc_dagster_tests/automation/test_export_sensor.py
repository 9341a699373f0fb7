"""``fusion_export_sensor`` under Dagster's own daemon: what changes in Fusion is at the partner's without a hand."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from mlc_dagster.assets.exporting import RANGE_END_TAG, RANGE_START_TAG
from mlc_dagster.ledger import exported
from mlc_dagster_tests.automation.daemon import Daemon, daemon
from mlc_dagster_tests.automation.purchase_orders import (
    FEED,
    order_paper,
    pause_passes,
    purchase_order_feed,
    transaction_sets,
)
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal

NUMBER = "US170001"
SENSOR = "fusion_export_sensor"
SUCCESS = dg.DagsterRunStatus.SUCCESS
FAILURE = dg.DagsterRunStatus.FAILURE


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[PartnerRehearsal]:
    """Both remote sides, and one feed: purchase orders as X12."""
    with partner_rehearsal(tmp_path) as running:
        running.stand_still()
        purchase_order_feed(running)
        yield running


@pytest.fixture
def running(remote: PartnerRehearsal) -> Iterator[Daemon]:
    """A daemon over that feed."""
    with daemon(remote) as started:
        yield started


def statuses(runs: list[dg.DagsterRun]) -> list[dg.DagsterRunStatus]:
    return [run.status for run in runs]


def test_an_order_is_at_the_partner_s_after_one_tick(remote: PartnerRehearsal, running: Daemon) -> None:
    """The promise of the flow: nobody starts anything."""
    order_paper(remote, NUMBER)
    remote.later()
    assert statuses(running.round()) == [SUCCESS]
    assert transaction_sets(remote) == [("850", NUMBER)]


def test_a_changed_order_follows_as_860(remote: PartnerRehearsal, running: Daemon) -> None:
    """The partner ships what the last message says."""
    order = order_paper(remote, NUMBER)
    remote.later()
    running.round()
    remote.world.change_purchase_order(order, 1, quantity="12")
    remote.later()
    assert statuses(running.round()) == [SUCCESS]
    assert transaction_sets(remote) == [("850", NUMBER), ("860", NUMBER)]


def test_a_window_without_changes_sends_nothing(remote: PartnerRehearsal, running: Daemon) -> None:
    """An order that the next read sees again, because reads overlap, is not an order placed twice."""
    order_paper(remote, NUMBER)
    remote.later()
    running.round()
    remote.later()
    assert statuses(running.round()) == [SUCCESS]
    assert transaction_sets(remote) == [("850", NUMBER)]


def test_further_ticks_in_the_same_window_start_nothing(remote: PartnerRehearsal, running: Daemon) -> None:
    """A tick every half minute must not be a run every half minute."""
    order_paper(remote, NUMBER)
    remote.later()
    running.round()
    before = remote.delivered()
    assert running.round() == []
    assert running.round() == []
    assert remote.delivered() == before
    skipped = running.ticks(SENSOR)[0].skip_reason
    assert skipped is not None
    assert "Fusion's clock" in skipped


def test_what_a_failed_run_left_is_delivered_by_a_later_tick(remote: PartnerRehearsal, running: Daemon) -> None:
    """A partner's server that is down at night is no work for the morning: the same bytes go when it is back."""
    order_paper(remote, NUMBER)
    remote.later()
    remote.sftp.faults.add("down", count=None, username="partner")
    assert statuses(running.round()) == [FAILURE]
    with remote.ledger.reading() as reading:
        [pending] = exported.pending_files(reading, FEED)
    assert remote.delivered() == []
    remote.sftp.faults.clear()
    pause_passes(remote)
    assert statuses(running.round()) == [SUCCESS]
    assert remote.delivered() == [pending["name"]]
    assert transaction_sets(remote) == [("850", NUMBER)]


def test_a_failed_run_is_not_repeated_before_its_pause_is_over(remote: PartnerRehearsal, running: Daemon) -> None:
    """A server that is down is not asked every half minute by runs that each fill the event log."""
    order_paper(remote, NUMBER)
    remote.later()
    remote.sftp.faults.add("down", count=None, username="partner")
    assert statuses(running.round()) == [FAILURE]
    assert running.round() == []


def test_windows_missed_are_one_run(remote: PartnerRehearsal, running: Daemon) -> None:
    """After a night without a daemon: one run, one read, one file, and every window marked."""
    order_paper(remote, NUMBER)
    remote.later(150)
    [run] = running.round()
    assert run.status is SUCCESS
    assert run.tags[RANGE_START_TAG] < run.tags[RANGE_END_TAG]
    marked = running.instance.get_materialized_partitions(dg.AssetKey(["sftp_exports", FEED]))
    assert len(marked) >= 9
    assert min(marked) == run.tags[RANGE_START_TAG]
    assert max(marked) == run.tags[RANGE_END_TAG]
    assert transaction_sets(remote) == [("850", NUMBER)]


def test_the_repetition_of_a_failed_run_marks_all_its_windows(remote: PartnerRehearsal, running: Daemon) -> None:
    """What was delivered late must not stay red: the files were committed for all windows, and so is their end."""
    order_paper(remote, NUMBER)
    remote.later(90)
    remote.sftp.faults.add("down", count=None, username="partner")
    [failed] = running.round()
    remote.sftp.faults.clear()
    pause_passes(remote)
    [repeated] = running.round()
    assert (failed.status, repeated.status) == (FAILURE, SUCCESS)
    assert repeated.tags[RANGE_START_TAG] == failed.tags[RANGE_START_TAG]
    feed = dg.AssetKey(["sftp_exports", FEED])
    assert set(running.instance.get_materialized_partitions(feed)) >= {
        failed.tags[RANGE_START_TAG],
        failed.tags[RANGE_END_TAG],
    }
