"""What a person asks for once more: the identical bytes, and never more than was asked for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.exports.delivery import Delivered, Outcome
from mlc_dagster.exports.faults import NameTaken, ResendRefused
from mlc_dagster.exports.resending import resend
from mlc_dagster.ledger import exported
from mlc_dagster.ledger.approval import NotApproved
from mlc_dagster.sftp import SftpCredentials
from mlc_dagster_tests.servers.faulty_sftp import FaultySftp
from mlc_dagster_tests.servers.partner import FEED, Partner, partner
from mlc_dagster_tests.sftp.conftest import settings_for

CONTENT = bytes(range(256)) * 500


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultySftp]:
    with FaultySftp(tmp_path / "served") as running:
        yield running


@pytest.fixture
def acme(server: FaultySftp, tmp_path: Path) -> Iterator[Partner]:
    (server.root / "in").mkdir()
    sftp = settings_for(server.host, server.port, server.username, server.fingerprint)
    sftp = sftp.model_copy(update={"directory": "/in"})
    with partner(tmp_path, server.root / "in", sftp, SftpCredentials(password=server.password)) as found:
        yield found


def again(
    acme: Partner, key: int, *, again: bool = False, actor: str = "ann", reason: str = "the partner lost it"
) -> Delivered:
    outbound = acme.outbound
    return resend(outbound, outbound.feeds[FEED], key, actor=actor, reason=reason, again=again, approved_by="bob")


@pytest.mark.parametrize("mode", ["rename", "direct"])
def test_a_delivered_file_is_sent_again_as_it_was(acme: Partner, mode: str) -> None:
    """The partner lost it: same name, same bytes, its companions too; the ledger says who asked and why."""
    acme.upload(mode=mode)
    key = acme.freeze("A.csv", CONTENT, beside=("manifest", "trigger"))
    acme.deliver()
    for path in acme.root.iterdir():
        path.unlink()
    found = again(acme, key)
    assert (found.outcome, found.alert) == (Outcome.SENT, False)
    assert acme.there() == acme.contents
    assert acme.file(key)["state"] == "SENT"
    assert acme.file(key)["resent_at"] is not None


def test_what_lies_there_unchanged_is_left_alone(server: FaultySftp, acme: Partner) -> None:
    """The partner would read it twice."""
    key = acme.freeze("A.csv", CONTENT)
    acme.deliver()
    inode = (acme.root / "A.csv").stat().st_ino
    found = again(acme, key)
    assert (found.outcome, found.attempts) == (Outcome.SENT, 0)
    assert "unchanged" in found.text
    assert (acme.root / "A.csv").stat().st_ino == inode
    assert acme.file(key)["resent_at"] is None


def test_it_is_replaced_when_asked_for_twice(acme: Partner) -> None:
    """A partner whose pick-up goes by new files."""
    key = acme.freeze("A.csv", CONTENT)
    acme.deliver()
    (acme.root / "kept").hardlink_to(acme.root / "A.csv")
    again(acme, key, again=True)
    assert (acme.root / "A.csv").stat().st_ino != (acme.root / "kept").stat().st_ino
    assert (acme.root / "A.csv").read_bytes() == CONTENT


def test_other_bytes_under_the_name_stay(acme: Partner) -> None:
    """Not ours to replace, also when asked for twice."""
    key = acme.freeze("A.csv", CONTENT)
    acme.deliver()
    (acme.root / "A.csv").write_bytes(b"theirs")
    found = again(acme, key, again=True)
    assert found.outcome is Outcome.STOPPED
    assert found.stopped is not None
    assert isinstance(found.stopped.cause, NameTaken)
    assert acme.there() == {"A.csv": b"theirs"}


def test_a_waiting_file_is_delivered_in_its_turn(acme: Partner) -> None:
    """With those before it: a person in a hurry does not change the order."""
    acme.freeze("A.csv", b"first")
    key = acme.freeze("B.csv", b"second")
    assert again(acme, key).outcome is Outcome.SENT
    assert acme.there() == {"A.csv": b"first", "B.csv": b"second"}


def broken_off(server: FaultySftp, acme: Partner) -> int:
    """A file of unknown outcome, half of it on the server."""
    acme.upload(mode="direct")
    key = acme.freeze("A.csv", CONTENT)
    server.faults.fail_write_from = 65_536
    acme.deliver()
    server.faults.fail_write_from = None
    assert acme.states() == ["UNKNOWN"]
    return key


def test_an_unknown_one_that_is_gone_is_delivered(server: FaultySftp, acme: Partner) -> None:
    """The partner says that nothing came: the same bytes go, and the feed goes on."""
    key = broken_off(server, acme)
    (acme.root / "A.csv").unlink()
    assert again(acme, key).outcome is Outcome.SENT
    assert acme.there() == {"A.csv": CONTENT}
    acme.freeze("B.csv")
    assert [entry.outcome for entry in acme.deliver()] == [Outcome.SENT]


def test_an_unknown_one_that_is_whole_counts_as_sent(server: FaultySftp, acme: Partner) -> None:
    """A person completed it by hand: nothing is sent."""
    key = broken_off(server, acme)
    (acme.root / "A.csv").write_bytes(CONTENT)
    opened = len([name for name in server.opened if name.endswith("A.csv")])
    found = again(acme, key)
    assert (found.outcome, found.attempts, acme.states()) == (Outcome.SENT, 0, ["SENT"])
    # Opened once more, to be read.
    assert len([name for name in server.opened if name.endswith("A.csv")]) == opened + 1


def test_half_of_an_unknown_one_is_cleared_away_only_when_asked_for(server: FaultySftp, acme: Partner) -> None:
    """Our half must not be taken for the partner's own file, nor the other way round."""
    key = broken_off(server, acme)
    assert again(acme, key).outcome is Outcome.STOPPED
    assert acme.states() == ["UNKNOWN"]
    assert again(acme, key, again=True).outcome is Outcome.SENT
    assert acme.there() == {"A.csv": CONTENT}


def test_an_abandoned_file_is_refused(acme: Partner) -> None:
    """Its records went into a later file: it would bring them twice."""
    key = acme.freeze("A.csv")
    with acme.ledger.transaction() as transaction:
        exported.abandon(transaction, key, by="ann", approved_by="bob", reason="wrong layout")
    with pytest.raises(ResendRefused, match="abandoned"):
        again(acme, key)
    assert acme.there() == {}


@pytest.mark.parametrize("approved_by", [None, "", "Ann@corp"])
def test_replacing_what_lies_there_takes_two_people(acme: Partner, approved_by: str | None) -> None:
    """The partner reads it a second time, as if it were new; nothing is touched before both are named."""
    key = acme.freeze("A.csv", CONTENT)
    acme.deliver()
    inode = (acme.root / "A.csv").stat().st_ino
    feed = acme.outbound.feeds[FEED]
    with pytest.raises(NotApproved):
        resend(acme.outbound, feed, key, actor="ann", reason="they lost it all", again=True, approved_by=approved_by)
    assert (acme.root / "A.csv").stat().st_ino == inode


def test_an_unknown_outcome_takes_two_people(server: FaultySftp, acme: Partner) -> None:
    """The partner may have it, whole or in part."""
    key = broken_off(server, acme)
    with pytest.raises(NotApproved):
        resend(acme.outbound, acme.outbound.feeds[FEED], key, actor="ann", reason="they say it never came")
    assert acme.states() == ["UNKNOWN"]


def test_a_resend_names_who_and_why(acme: Partner) -> None:
    """An auditor asks for both."""
    key = acme.freeze("A.csv")
    acme.deliver()
    with pytest.raises(ResendRefused, match="why"):
        again(acme, key, reason=" ")
    with pytest.raises(ResendRefused, match="no such file"):
        again(acme, key + 1)
