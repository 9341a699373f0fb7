"""The outbound assets on a real instance: ranges of windows, by hand, checks, and what a failure says."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlc_dagster.assets.exporting import RANGE_END_TAG, RANGE_START_TAG
from mlc_dagster.automation.jobs import OUTBOUND_JOB
from mlc_dagster.definitions import build_defs
from mlc_dagster.ledger.windows import window_key
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal

DEBIT = "101-4410-61200-000-000-000"
CREDIT = "101-0000-22100-000-000-000"
FEED = dg.AssetKey(["sftp_exports", "journals"])
QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[PartnerRehearsal]:
    with partner_rehearsal(tmp_path) as running:
        yield running


def post(remote: PartnerRehearsal, name: str, amount: str = "100.00", credit: str | None = None) -> int:
    return remote.world.add_journal_batch(name, lines=[(DEBIT, amount, None), (CREDIT, None, credit or amount)])


def by_hand(remote: PartnerRehearsal, first: dt.datetime, last: dt.datetime | None = None) -> dg.ExecuteInProcessResult:
    """The job over windows, as somebody starts it in the UI."""
    job = build_defs(remote.settings, environ={}).resolve_job_def(OUTBOUND_JOB)
    tags = {RANGE_START_TAG: window_key(first), RANGE_END_TAG: window_key(last or first)}
    return job.execute_in_process(instance=remote.instance, tags=tags, run_config=QUIET, raise_on_error=False)


def metadata(remote: PartnerRehearsal, key: dg.AssetKey) -> dict[str, Any]:
    [record] = remote.instance.fetch_materializations(key, limit=1).records
    assert record.asset_materialization is not None
    return {name: getattr(value, "value", value) for name, value in record.asset_materialization.metadata.items()}


def test_one_run_marks_every_window_of_its_range(remote: PartnerRehearsal) -> None:
    """After downtime the lineage view shows each missed window as done, with one run and one read."""
    post(remote, "A")
    remote.later(120)
    outcome = remote.run()
    assert outcome.exit_code == 0
    for key in (dg.AssetKey("fusion_journals"), FEED, dg.AssetKey("sftp_exports")):
        assert len(remote.instance.get_materialized_partitions(key)) >= 7
    assert len(remote.instance.get_runs()) == 1


def test_a_window_started_by_hand_sends_nothing_twice(remote: PartnerRehearsal) -> None:
    """Materialising a window again is how people look; it must never be how partners get duplicates."""
    post(remote, "A")
    end = remote.later(50)
    remote.run()
    before = remote.delivered()
    result = by_hand(remote, end - dt.timedelta(minutes=30), end - dt.timedelta(minutes=15))
    assert result.success
    assert remote.delivered() == before
    assert metadata(remote, FEED)["outcome"] == "unchanged"
    assert metadata(remote, dg.AssetKey("fusion_journals"))["outcome"] == "already read"


def test_a_window_that_is_not_over_fails_with_a_sentence(remote: PartnerRehearsal) -> None:
    """Its journals may still be written; reading it now would call a part the whole."""
    end = remote.later()
    result = by_hand(remote, end + dt.timedelta(hours=3))
    assert not result.success
    [event] = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    assert "is not over" in str(failure.description)


def test_the_feed_says_what_it_delivered(remote: PartnerRehearsal) -> None:
    """Numbers and hashes on the event: the page of the asset answers an auditor's first questions."""
    post(remote, "A")
    remote.later()
    remote.run()
    said = metadata(remote, FEED)
    assert (said["outcome"], said["new"], said["files_delivered"]) == ("delivered", 1, 1)
    [name] = remote.delivered()
    assert name in str(said["table_of_files"])
    assert metadata(remote, dg.AssetKey("sftp_exports"))["documents"] == 1


def test_an_unbalanced_journal_is_held_and_the_others_go(remote: PartnerRehearsal) -> None:
    """One journal that does not balance is a person's work; it is no reason to keep the rest of the day."""
    post(remote, "good")
    post(remote, "bad", "100.00", "99.99")
    remote.later()
    outcome = remote.run()
    assert outcome.exit_code == 1
    assert outcome.newly_held == 1
    [held] = outcome.held
    assert held["reason"] == "UNBALANCED"
    [name] = remote.delivered()
    text = (remote.inbox / name).read_text()
    assert "good" in text
    assert "bad" not in text


def test_the_controls_hold_after_a_delivery(remote: PartnerRehearsal) -> None:
    """Each of them is looked at in every run of the feed."""
    post(remote, "A")
    remote.later()
    [result] = remote.run().feeds
    assert dict(result.checks) == {
        "debits_equal_credits": True,
        "exported_equals_fusion": True,
        "delivered_bytes_match": True,
        "sequence_has_no_gap": True,
    }


def test_a_journal_that_no_read_showed_fails_the_comparison_with_fusion(remote: PartnerRehearsal) -> None:
    """The check asks Fusion itself, not our books; a late row is what it is there for."""
    post(remote, "A")
    end = remote.later(120)
    remote.run()
    remote.world.add_journal_batch(
        "late", lines=[(DEBIT, "5", None), (CREDIT, None, "5")], last_update_date=end - dt.timedelta(minutes=50)
    )
    first = end - dt.timedelta(minutes=60)
    result = by_hand(remote, first, end - dt.timedelta(minutes=15))
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert not checks["exported_equals_fusion"].passed
    assert "never read" in str(checks["exported_equals_fusion"].description)


def test_a_file_that_was_cut_on_the_server_fails_its_check(remote: PartnerRehearsal) -> None:
    """What lies there is looked at again, not only what the ledger says of it."""
    post(remote, "A")
    end = remote.later(50)
    remote.run()
    [name] = remote.delivered()
    (remote.inbox / name).write_text("cut")
    result = by_hand(remote, end - dt.timedelta(minutes=30), end - dt.timedelta(minutes=15))
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert not checks["delivered_bytes_match"].passed
    assert "3 bytes lie on the server" in str(checks["delivered_bytes_match"].description)


def test_a_server_that_is_down_fails_the_run_and_keeps_the_file(remote: PartnerRehearsal) -> None:
    """Exit code 3, the file with its bytes in the outbox, and nothing marked as sent."""
    post(remote, "A")
    remote.later()
    remote.change_feed("journals", upload={"retry_for": 0})
    remote.sftp.faults.add("down", count=None, username="partner")
    outcome = remote.run()
    assert outcome.exit_code == 3
    [pending] = outcome.pending
    assert (remote.outbound.outbox / "journals" / pending["name"]).stat().st_size == pending["bytes"]
    assert remote.delivered() == []
    remote.sftp.faults.clear()
    assert remote.run().exit_code == 0
    assert remote.delivered() == [pending["name"]]


def test_one_partner_that_is_down_keeps_nobody_else_waiting(remote: PartnerRehearsal) -> None:
    """Feeds are independent pieces of work, whatever their order in mlc.yaml."""
    remote.change_feed("other", source="journals", ledgers=["US Primary Ledger"], layout="journals_csv")
    account = remote.account()["sftp"]
    remote.change_feed("journals", upload={"retry_for": 0}, sftp={**account, "directory": "/nowhere"})
    post(remote, "A")
    remote.later()
    outcome = remote.run()
    assert outcome.exit_code == 3
    assert [row["feed"] for row in outcome.sent] == ["other"]
    assert [row["feed"] for row in outcome.pending] == ["journals"]
