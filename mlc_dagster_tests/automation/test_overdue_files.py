"""A file that waits for another one says so at every poll, and after a while to people: warning, exit code, alert."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml

from mlc_dagster.ledger.schema import file_sighting
from mlc_dagster.stampli.parsing.profile import load_profile
from mlc_dagster_tests.alerts.receiver import Receiver, receiving
from mlc_dagster_tests.automation.dagster_flow import DagsterFlow
from mlc_dagster_tests.cli.conftest import json_of, run_mlc


@pytest.fixture
def marked(flow: DagsterFlow, tmp_path: Path) -> DagsterFlow:
    """The flow with a file that lacks its marker, seen once."""
    document = load_profile("stampli_lines_v1").model_dump(mode="json", exclude_unset=True)
    document["file"]["end"] = {"rule": "marker"}
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(document))
    flow.remote.change_config({"stampli": {"profile": str(mine)}})
    flow.drop(1)
    return flow


@pytest.fixture
def receiver(flow: DagsterFlow) -> Iterator[Receiver]:
    """Where alerts go."""
    with receiving() as server:
        flow.remote.change_config({"alerts": {"to": [f"json://127.0.0.1:{server.port}"]}})
        yield server


def grow_old(flow: DagsterFlow) -> None:
    """As if the file had been seen two hours ago."""
    flow.sql(sa.update(file_sighting).values(same_since=dt.datetime.now(dt.UTC) - dt.timedelta(hours=2)))


def test_a_tick_says_what_a_file_waits_for(marked: DagsterFlow) -> None:
    """That there is nothing to run, about a folder with a file in it, sends people looking in the wrong place."""
    tick = marked.tick()
    assert not tick.run_requests
    assert "waits for its marker" in tick.skip_message
    assert "not settled" not in tick.skip_message


def test_an_overdue_file_is_one_alert_whoever_polls(marked: DagsterFlow, receiver: Receiver) -> None:
    """The marker never comes: the daemon's people and those of ``mlc run`` hear it once, not at every tick."""
    marked.tick()
    assert not receiver.received
    grow_old(marked)
    assert "1 of them too long" in marked.tick().skip_message
    marked.tick()
    marked.poll(wait=False)
    (sent,) = receiver.received
    assert sent["title"].endswith("1 file of stampli waits too long")
    assert "waits for its marker" in sent["message"]
    assert "ask the sender" in sent["message"]


def test_an_alert_that_reached_nobody_is_tried_again(marked: DagsterFlow, receiver: Receiver) -> None:
    """A mail server that was down for a minute must not make a lost delivery a secret for a day."""
    receiver.status = 500
    marked.tick()
    grow_old(marked)
    marked.tick()
    receiver.status = 200
    receiver.received.clear()
    marked.tick()
    assert len(receiver.received) == 1


def test_a_call_ends_with_1_once_and_does_not_wait_for_the_marker(marked: DagsterFlow) -> None:
    """Cron's mail is the alert of a small installation; the call itself must not sleep for what may never come."""
    marked.remote.change_config({"stampli": {"settle_seconds": 30}})
    first = marked.poll(sleep=lambda _: pytest.fail("slept"))
    assert first.exit_code == 0
    assert ["waits for its marker" in (file.note or "") for file in first.waiting] == [True]
    grow_old(marked)
    late = marked.poll(sleep=lambda _: pytest.fail("slept"))
    assert (late.exit_code, len(late.overdue)) == (1, 1)
    assert marked.poll(sleep=lambda _: pytest.fail("slept")).exit_code == 0


def test_the_list_of_files_says_what_it_waits_for(marked: DagsterFlow) -> None:
    """The answer to "did you get our file?"."""
    marked.poll(wait=False)
    listed = run_mlc("--config", marked.remote.config, "files", "list", "--json")
    (waiting,) = json_of(listed)["waiting"]
    assert waiting["note"].startswith("waits for its marker stampli_invoices_")
    assert "waits for its marker" in run_mlc("--config", marked.remote.config, "files", "list").stdout
