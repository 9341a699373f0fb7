"""The outbox shows people what waits, nothing else; whatever is wrong with it changes nothing of what is delivered."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.exports.outbox import waiting_place
from mlc_dagster.ledger import exported
from mlc_dagster.sftp import SftpCredentials
from mlc_dagster_tests.servers.faulty_sftp import FaultySftp
from mlc_dagster_tests.servers.partner import FEED, Partner, partner
from mlc_dagster_tests.sftp.conftest import settings_for


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


@pytest.mark.parametrize("kind", ["a file in its place", "a folder under the file's name"])
def test_an_outbox_that_cannot_be_used_keeps_nothing_from_the_partner(acme: Partner, kind: str) -> None:
    """It is for people alone; a run that failed of it after the upload would leave its windows open."""
    place = waiting_place(acme.outbound, FEED, "A.csv")
    if kind == "a file in its place":
        place.parent.parent.mkdir(parents=True)
        place.parent.write_text("not a folder")
    else:
        place.mkdir(parents=True)
    acme.freeze("A.csv")
    assert [entry.outcome for entry in acme.deliver()] == ["SENT"]
    assert acme.states() == ["SENT"]


def test_what_a_killed_run_left_there_is_taken_away(acme: Partner) -> None:
    """It died between the delivery and its tidying: a person who hands the file over makes it two."""
    acme.freeze("A.csv", beside=("manifest",))
    acme.deliver()
    for name, content in acme.contents.items():
        waiting_place(acme.outbound, FEED, name).write_bytes(content)
    (waiting_place(acme.outbound, FEED, ".incoming-1234")).mkdir()
    assert acme.deliver() == []
    assert list(waiting_place(acme.outbound, FEED, "A.csv").parent.iterdir()) == []


def test_what_was_given_up_is_taken_away(acme: Partner, server: FaultySftp) -> None:
    """Its records go into another file; this one must not be handed over any more."""
    server.faults.fail_write_from = 0
    key = acme.freeze("A.csv")
    acme.deliver()
    assert set(acme.waiting()) == {"A.csv"}
    with acme.ledger.transaction() as transaction:
        exported.abandon(transaction, key, by="ann", approved_by="bob", reason="wrong layout")
    acme.deliver()
    assert acme.waiting() == {}


def test_what_people_put_there_stays(acme: Partner) -> None:
    """Only files that the ledger knows as ended are ours to remove."""
    acme.freeze("A.csv")
    acme.deliver()
    note = waiting_place(acme.outbound, FEED, "handed over by phone.txt")
    note.write_text("A.csv, 14:30")
    os.utime(note, (0, 0))
    acme.deliver()
    assert note.read_text() == "A.csv, 14:30"
