"""What people hear of runs that the daemon started and that failed: once, with what to do, and without a secret."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from mlc_dagster.ledger import exported
from mlc_dagster_tests.alerts.receiver import Receiver, receiving
from mlc_dagster_tests.automation.daemon import Daemon, daemon
from mlc_dagster_tests.automation.purchase_orders import pause_passes
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal

FEED = "journals"
DEBIT = "101-4410-61200-000-000-000"
CREDIT = "101-0000-22100-000-000-000"
TOKEN = "t0kenT0ken"
FAILURE = dg.DagsterRunStatus.FAILURE


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Where alerts go."""
    with receiving() as server:
        yield server


@pytest.fixture
def remote(tmp_path: Path, receiver: Receiver) -> Iterator[PartnerRehearsal]:
    """A partner that is down, a journal for it, and somebody to tell."""
    with partner_rehearsal(tmp_path) as running:
        running.stand_still()
        running.change_feed(FEED, upload={"retry_for": 0})
        running.change_config(alerts={"to": [f"json://127.0.0.1:{receiver.port}/{TOKEN}"]})
        running.world.add_journal_batch("A", lines=[(DEBIT, "100.00", None), (CREDIT, None, "100.00")])
        running.later()
        running.sftp.faults.add("down", count=None, username="partner")
        yield running


@pytest.fixture
def running(remote: PartnerRehearsal) -> Iterator[Daemon]:
    """A daemon that has been up for a while: a sensor of failures tells of what fails from its first tick on."""
    with daemon(remote) as started:
        yield started


def test_a_partner_that_is_down_is_told_once(remote: PartnerRehearsal, receiver: Receiver, running: Daemon) -> None:
    """Every further tick and every further attempt fails the same way; people stop reading the fortieth message."""
    runs = running.round()
    pause_passes(remote)
    runs += running.round()
    # The sensor of failures hears of a run in the round after it.
    running.round()
    assert [run.status for run in runs] == [FAILURE] * 2
    assert len(receiver.received) == 1


def test_the_alert_says_what_to_do_and_shows_no_secret(
    remote: PartnerRehearsal, receiver: Receiver, running: Daemon
) -> None:
    """It is read on a telephone at night: which feed, which file, where its bytes are, and what to do."""
    running.round()
    running.round()
    with remote.ledger.reading() as reading:
        [pending] = exported.pending_files(reading, FEED)
    [sent] = receiver.received
    said = f"{sent['title']}\n{sent['message']}"
    for named in (FEED, pending["name"], pending["sha256"], str(remote.outbound.outbox / FEED / pending["name"])):
        assert named in said
    assert "mlc exports resend" in said
    for secret in (TOKEN, "partner-password", remote.fusion.client_secret):
        assert secret not in said
