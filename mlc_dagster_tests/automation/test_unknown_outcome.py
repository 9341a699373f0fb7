"""A file of unknown outcome is for a person at every poll: exit code, summary, one alert, a control that fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.exports.steps import delivery_summary
from mlc_dagster.ledger import exported
from mlc_dagster_tests.alerts.receiver import Receiver, receiving
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal

DEBIT = "101-4410-61200-000-000-000"
CREDIT = "101-0000-22100-000-000-000"


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[PartnerRehearsal]:
    """The first file of the feed has ended as unknown."""
    with partner_rehearsal(tmp_path) as running:
        running.stand_still()
        post(running, "A")
        running.sftp.faults.add("down", count=1, username="partner")
        running.change_feed("journals", upload={"retry_for": 0})
        running.poll("journals")
        with running.ledger.transaction() as transaction:
            exported.mark_unknown(transaction, 1, "the line broke in the middle")
        yield running


@pytest.fixture
def receiver(remote: PartnerRehearsal) -> Iterator[Receiver]:
    """Where alerts go."""
    with receiving() as server:
        remote.change_config(alerts={"to": [f"json://127.0.0.1:{server.port}"]})
        yield server


def post(remote: PartnerRehearsal, name: str) -> None:
    remote.world.add_journal_batch(name, lines=[(DEBIT, "100.00", None), (CREDIT, None, "100.00")])


def test_every_poll_says_so(remote: PartnerRehearsal, receiver: Receiver) -> None:
    """Exit code 0 and green controls over a file that the partner may not have is a delivery that nobody misses."""
    for _ in range(3):
        remote.later()
        outcome = remote.run()
        assert outcome.exit_code == 1
        assert [row["state"] for row in outcome.pending] == ["UNKNOWN"]
        assert [feed.checks["delivered_bytes_match"] for feed in outcome.feeds] == [False]
    about_file = [sent for sent in receiver.received if "the line broke in the middle" in sent["message"]]
    assert len([sent for sent in about_file if "delivered_bytes_match" not in sent["message"]]) == 1


def test_a_poll_with_nothing_to_do_says_so_too(remote: PartnerRehearsal) -> None:
    """No window is over, no run is made: the file waits all the same."""
    remote.later()
    remote.run()
    outcome = remote.run()
    assert not outcome.feeds
    assert outcome.exit_code == 1


def test_with_others_waiting_behind_it(remote: PartnerRehearsal) -> None:
    """The server is not what is missing: 1, not 3, which a person might wait out."""
    post(remote, "B")
    remote.later()
    outcome = remote.run()
    assert outcome.exit_code == 1
    assert sorted(row["state"] for row in outcome.pending) == ["PENDING", "UNKNOWN"]


def test_the_summary_counts_it_as_waiting(remote: PartnerRehearsal) -> None:
    """The asset over all feeds shows what has not arrived."""
    until = remote.later()
    (row,) = delivery_summary(remote.outbound, ["journals"], until, until)
    assert row.waiting == 1


def test_settled_it_is_quiet(remote: PartnerRehearsal) -> None:
    """Two people have said that it arrived."""
    with remote.ledger.transaction() as transaction:
        exported.settle_unknown(
            transaction, 1, arrived=True, by="Ann Lee", approved_by="Bob Stone", reason="the partner has it"
        )
    remote.later()
    assert remote.run().exit_code == 0
