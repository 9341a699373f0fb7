"""``mlc run outbound`` when something is wrong: with one feed, with a server, or with two calls at once."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml

from mlc_dagster.assets.exporting import FEED_TAG
from mlc_dagster.assets.failures import FailureKind
from mlc_dagster.automation.export_outcome import OutboundOutcome
from mlc_dagster.automation.one_shot_outbound import run_outbound
from mlc_dagster.definitions import build_defs
from mlc_dagster.exports.holding import hold_feed
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.schema import audit_event
from mlc_dagster.ledger.schema_outbound import exported_file, exported_record
from mlc_dagster.ledger.tellings import AGAIN_AFTER, KIND
from mlc_dagster_tests.alerts.receiver import Receiver, receiving
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal

DEBIT = "101-4410-61200-000-000-000"
CREDIT = "101-0000-22100-000-000-000"
LEDGERS = ["US Primary Ledger"]


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[PartnerRehearsal]:
    """A feed of journals, and one journal for it."""
    with partner_rehearsal(tmp_path) as running:
        running.stand_still()
        post(running, "A")
        running.later()
        yield running


@pytest.fixture
def receiver(remote: PartnerRehearsal) -> Iterator[Receiver]:
    """Where alerts go."""
    with receiving() as server:
        remote.change_config(alerts={"to": [f"json://127.0.0.1:{server.port}"]})
        yield server


def post(remote: PartnerRehearsal, name: str) -> None:
    remote.world.add_journal_batch(name, lines=[(DEBIT, "100.00", None), (CREDIT, None, "100.00")])


def titles(receiver: Receiver) -> list[str]:
    return [sent["title"] for sent in receiver.received]


def down(remote: PartnerRehearsal) -> None:
    remote.change_feed("journals", upload={"retry_for": 0})
    remote.sftp.faults.add("down", count=None, username="partner")


def a_day_passes(remote: PartnerRehearsal) -> None:
    """As if everything so far had been told the day before; the trail itself refuses to be changed."""
    with remote.ledger.engine.begin() as connection:
        for (trigger,) in connection.execute(sa.text("select name from sqlite_master where type = 'trigger'")).all():
            connection.execute(sa.text(f'drop trigger "{trigger}"'))
        connection.execute(
            sa.update(audit_event).where(audit_event.c.kind == KIND).values(at=remote.ledger.now() - AGAIN_AFTER)
        )


# One feed cannot be used


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"layout": "broken.yaml"}, ["broken.yaml", "delimitr"]),
        ({"layout": "no_such_layout"}, ["no_such_layout"]),
        ({"layout": "suppliers_csv"}, ["exports.bad.layout", "suppliers_csv"]),
        ({"schedule": {"calendar": "close.yaml"}}, ["close.yaml", "time_zon"]),
        ({"schedule": {"calendar": "missing.yaml"}}, ["missing.yaml", "no such file"]),
    ],
    ids=["layout", "layout name", "layout of another source", "calendar", "calendar missing"],
)
def test_a_feed_that_cannot_be_used_keeps_no_other_waiting(
    remote: PartnerRehearsal, receiver: Receiver, change: dict[str, Any], named: list[str]
) -> None:
    """A typing error in one partner's file must not cost the others their delivery; it is told with its remedy."""
    (remote.folder / "broken.yaml").write_text("name: broken\nversion: '1'\nformat: csv\ndelimitr: ';'\n")
    (remote.folder / "close.yaml").write_text("time_zon: Europe/Berlin\n")
    feed = {"source": "journals", "ledgers": LEDGERS, "layout": "journals_csv", **change}
    remote.change_feed("bad", **feed)
    outcome = remote.run(due_only=True)
    assert [row["feed"] for row in outcome.sent] == ["journals"]
    [failure] = outcome.failures
    assert (failure.kind, failure.step, outcome.exit_code) == (FailureKind.CONFIGURATION, "sftp_exports/bad", 2)
    assert all(word in failure.text for word in named)
    assert len(receiver.received) == 1
    assert remote.run(due_only=True).exit_code == 2
    assert len(receiver.received) == 1


def test_a_feed_whose_source_was_changed_keeps_no_other_waiting(remote: PartnerRehearsal) -> None:
    """The ledger refuses it; the others have nothing to do with that."""
    remote.change_feed("other", source="journals", ledgers=LEDGERS, layout="journals_csv")
    remote.run()
    remote.change_feed("other", source="suppliers", layout="suppliers_csv", ledgers=[])
    post(remote, "B")
    remote.later()
    outcome = remote.run()
    assert [row["feed"] for row in outcome.sent] == ["journals"]
    assert outcome.exit_code == 2
    assert "give a feed of another source another name" in outcome.failures[0].text


def test_an_unknown_feed_is_named(remote: PartnerRehearsal) -> None:
    """A slip on the command line delivers nothing and says which names there are."""
    outcome = remote.run(feeds=["jurnals"])
    assert (outcome.exit_code, outcome.sent) == (2, [])
    assert "there are journals" in outcome.failures[0].text


# What people are told


def test_a_file_that_waits_is_told_once(remote: PartnerRehearsal, receiver: Receiver) -> None:
    """Cron calls every quarter of an hour; one mail a night is read, forty are filtered away."""
    down(remote)
    for _ in range(3):
        assert remote.run().exit_code == 3
    [title] = titles(receiver)
    assert "could not be delivered and waits" in title


def test_another_cause_is_told_at_once(remote: PartnerRehearsal, receiver: Receiver) -> None:
    """The server is back and now refuses the login: that is work for somebody else."""
    down(remote)
    remote.run()
    remote.sftp.faults.clear()
    (remote.folder / "partner_password").write_text("wrong")
    for _ in range(2):
        remote.run()
    first, second = receiver.received
    assert "connection failed" in first["message"]
    assert "refused 'partner' by password" in second["message"]


def test_what_lasts_is_told_again_after_a_day(remote: PartnerRehearsal, receiver: Receiver) -> None:
    """Nobody may have acted on the first mail."""
    down(remote)
    remote.run()
    a_day_passes(remote)
    remote.run()
    assert len(receiver.received) == 2


def test_what_was_told_to_nobody_is_told_again(remote: PartnerRehearsal, receiver: Receiver) -> None:
    """The mail server was down as well: the next call tries again, and only the first that gets through counts."""
    down(remote)
    receiver.status = 500
    remote.run()
    tried = len(receiver.received)
    receiver.status = 200
    for _ in range(2):
        remote.run()
    assert len(receiver.received) == tried + 1


def test_fusion_that_is_away_is_told_once(remote: PartnerRehearsal, receiver: Receiver) -> None:
    """No run begins then, so no run can fail: the call itself says it."""
    fusion = yaml.safe_load(remote.config.read_text())["fusion"]
    remote.change_config(fusion={**fusion, "token_url": f"{remote.fusion.base_url}/nowhere"})
    outcomes = [remote.run() for _ in range(2)]
    assert [outcome.exit_code for outcome in outcomes] == [3, 3]
    assert titles(receiver) == ["mlc-dagster: run of fusion_to_sftp failed"]


# Two calls at once


def test_two_calls_at_once_deliver_once(tmp_path: Path, postgres_url: str) -> None:
    """Cron's call overtakes the one before, or a person's call meets the daemon: one file, each record once."""
    with partner_rehearsal(tmp_path, ledger_url=postgres_url) as remote:
        remote.change_config(ledger={"url": postgres_url})
        remote.stand_still()
        for name in ("A", "B", "C"):
            post(remote, name)
        remote.later()

        def call(_: int) -> OutboundOutcome:
            with dg.DagsterInstance.ephemeral() as instance:
                return run_outbound(remote.settings, instance=instance, environ={})

        with ThreadPoolExecutor(3) as pool:
            outcomes = list(pool.map(call, range(3)))
        assert [outcome.failures for outcome in outcomes] == [[], [], []]
        remote.run()
        with remote.ledger.reading() as reading:
            files = reading.rows(sa.select(exported_file))
            records = reading.rows(sa.select(exported_record))
        assert [file["state"] for file in files] == ["SENT"]
        assert sorted(record["version"] for record in records) == [1, 1, 1]
        assert remote.delivered() == [files[0]["name"]]
        assert {outcome.exit_code for outcome in outcomes} == {0}


def test_a_file_in_another_runs_hands_does_not_count_as_waiting(remote: PartnerRehearsal) -> None:
    """Exit code 3 wakes whoever knows the remote side; nothing is wrong with it while another run delivers."""
    down(remote)
    assert remote.run().exit_code == 3
    with hold_feed(remote.ledger, "journals", "journals", owner=f"{process_name(os.getpid())}|other"):
        outcome = remote.run()
    assert (outcome.exit_code, outcome.pending, outcome.failures) == (0, [], [])
    assert any("is being worked on" in note for note in outcome.notes)


def test_a_command_that_is_killed_loses_and_doubles_nothing(tmp_path: Path, postgres_url: str) -> None:
    """SIGKILL once its file is frozen, on its way to the partner: the next call goes on, and waits for no lease."""
    with partner_rehearsal(tmp_path, ledger_url=postgres_url) as remote:
        remote.change_config(ledger={"url": postgres_url})
        remote.stand_still()
        post(remote, "A")
        remote.later()
        command = [sys.executable, "-m", "mlc_dagster.cli", "--config", str(remote.config), "run", "outbound"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not _files(remote):
                time.sleep(0.005)
            process.kill()
        [frozen] = _files(remote)
        outcome = remote.run()
        assert (outcome.exit_code, outcome.failures) == (0, [])
        [file] = _files(remote)
        assert (file["id"], file["sha256"], file["state"]) == (frozen["id"], frozen["sha256"], "SENT")
        assert remote.delivered() == [file["name"]]
        post(remote, "B")
        remote.later()
        assert [row["sequence"] for row in remote.run().sent] == [2]


def _files(remote: PartnerRehearsal) -> list[Row]:
    with remote.ledger.reading() as reading:
        return reading.rows(sa.select(exported_file))


# The daemon's tick


@pytest.fixture
def tick(remote: PartnerRehearsal) -> Callable[[], Any]:
    """One evaluation of ``fusion_export_sensor``."""

    def evaluate() -> Any:
        defs = build_defs(remote.settings, environ={})
        with dg.build_sensor_context(
            remote.instance,
            definitions=defs,
            sensor_name="fusion_export_sensor",
            resources={"outbound": (defs.resources or {})["outbound"]},
        ) as context:
            sensor = defs.get_repository_def().get_sensor_def("fusion_export_sensor")
            return sensor.evaluate_tick(context)

    return evaluate


def test_a_tick_asks_for_the_others_and_tells_of_the_one(
    remote: PartnerRehearsal, receiver: Receiver, tick: Callable[[], Any]
) -> None:
    """A calendar with a slip in it stops one feed; people hear of it once, though every tick finds it."""
    (remote.folder / "close.yaml").write_text("time_zon: Europe/Berlin\n")
    remote.change_feed(
        "bad", source="journals", ledgers=LEDGERS, layout="journals_csv", schedule={"calendar": "close.yaml"}
    )
    asked = [request.tags[FEED_TAG] for _ in range(2) for request in tick().run_requests or []]
    assert set(asked) == {"journals"}
    [told] = receiver.received
    assert "sftp_exports/bad" in told["message"]
    assert "time_zon" in told["message"]


def test_a_tick_loads_no_layout(remote: PartnerRehearsal, tick: Callable[[], Any]) -> None:
    """A layout that cannot be used fails its own feed's run, where everybody sees it, and no other feed's."""
    remote.change_feed("bad", source="journals", ledgers=LEDGERS, layout="no_such_layout")
    assert {request.tags[FEED_TAG] for request in tick().run_requests} == {"journals", "bad"}


def test_a_tick_that_fusion_refuses_is_told_once(
    remote: PartnerRehearsal, receiver: Receiver, tick: Callable[[], Any]
) -> None:
    """No run begins then, so no run's failure would be heard of."""
    (remote.folder / "fusion_secret").write_text("wrong")
    for _ in range(2):
        with pytest.raises(Exception, match=r"invalid_client|401|authori"):
            tick()
    assert len(receiver.received) == 1
