"""Processed files that cannot be put away: every poll tries again, and people hear of it after a day."""

import datetime as dt
import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.schema import ledger_setting
from mlc_dagster_tests.alerts.receiver import Receiver, receiving
from mlc_dagster_tests.automation.dagster_flow import DagsterFlow

KEPT = ledger_setting.c.name == "disposal/stampli"


@pytest.fixture
def stuck(flow: DagsterFlow) -> DagsterFlow:
    """One file was processed, and its archive folder is not there."""
    flow.remote.change_config({"stampli": {"after_read": "archive"}})
    flow.drop(1)
    assert any("archive_directory" in note for note in flow.poll().notes)
    return flow


@pytest.fixture
def receiver(flow: DagsterFlow) -> Iterator[Receiver]:
    """Where alerts go."""
    with receiving() as server:
        flow.remote.change_config({"alerts": {"to": [f"json://127.0.0.1:{server.port}"]}})
        yield server


def grow_old(flow: DagsterFlow, hours: int) -> None:
    """As if the first attempt, and the last, had been so long ago."""
    (row,) = [row for row in flow.rows(ledger_setting) if row["name"] == "disposal/stampli"]
    state = json.loads(row["value"])
    then = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours)).isoformat()
    state["failed_at"] = then
    for each in state["failing"].values():
        each["since"] = then
    flow.sql(sa.update(ledger_setting).where(KEPT).values(value=json.dumps(state)))


def test_a_tick_puts_away_what_a_run_could_not(stuck: DagsterFlow) -> None:
    """The folder was created; no file comes any more, so no window runs."""
    (stuck.remote.outbound / "archive").mkdir()
    grow_old(stuck, 1)
    assert not stuck.tick().run_requests
    assert [path.name for path in stuck.remote.outbound.iterdir()] == ["archive"]
    assert len(list((stuck.remote.outbound / "archive").iterdir())) == 1


def test_a_call_puts_it_away_too(stuck: DagsterFlow) -> None:
    """An installation without the daemon has nobody else."""
    (stuck.remote.outbound / "archive").mkdir()
    assert stuck.poll(wait=False).exit_code == 0
    assert [path.name for path in stuck.remote.outbound.iterdir()] == ["archive"]


def test_after_a_day_it_is_one_alert_whoever_polls(stuck: DagsterFlow, receiver: Receiver) -> None:
    """Each tick tries again or waits; people hear of it once a day."""
    stuck.tick()
    assert not receiver.received
    grow_old(stuck, 25)
    stuck.tick()
    stuck.tick()
    stuck.poll(wait=False)
    (sent,) = receiver.received
    assert sent["title"].endswith("1 processed file of stampli cannot be put away")
    assert "archive_directory" in sent["message"]
    assert "create the archive folder" in sent["message"]


def test_an_alert_that_reached_nobody_is_sent_by_the_next_poll(stuck: DagsterFlow, receiver: Receiver) -> None:
    """A mail server that was down for a minute must not keep it a secret for another day."""
    grow_old(stuck, 25)
    receiver.status = 500
    stuck.tick()
    receiver.status = 200
    receiver.received.clear()
    stuck.tick()
    assert len(receiver.received) == 1


def test_a_call_ends_with_1_once_a_day(stuck: DagsterFlow) -> None:
    """Cron's mail is the alert of a small installation."""
    assert stuck.poll(wait=False).exit_code == 0
    grow_old(stuck, 25)
    late = stuck.poll(wait=False)
    assert (late.exit_code, len(late.overdue)) == (1, 1)
    assert stuck.poll(wait=False).exit_code == 0


def test_what_fails_while_files_are_put_away_costs_no_run(flow: DagsterFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files were assigned by the same tick; what they ask for must reach Dagster whatever becomes of tidying up."""
    flow.remote.change_config({"stampli": {"after_read": "delete"}})

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("of no kind that anybody thought of")

    monkeypatch.setattr("mlc_dagster.stampli.intake.disposing.retry_disposal", fails)
    flow.drop(1)
    assert sum(len(flow.tick().run_requests) for _ in range(3)) > 0
