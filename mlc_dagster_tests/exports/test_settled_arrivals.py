"""Files whose arrival was concluded or told by people: what belongs to them still goes, they themselves never again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.exports.delivery import Outcome
from mlc_dagster.exports.faults import NameTaken
from mlc_dagster.exports.resending import resend
from mlc_dagster.ledger import exported
from mlc_dagster.ledger.schema import audit_event
from mlc_dagster.sftp import SftpCredentials
from mlc_dagster_tests.servers.faulty_sftp import FaultySftp
from mlc_dagster_tests.servers.partner import FEED, Partner, partner
from mlc_dagster_tests.sftp.conftest import settings_for

CONTENT = bytes(range(256)) * 500
PEOPLE = {"by": "Ann Lee", "approved_by": "Bob Stone", "reason": "the partner has seen it"}


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


def broken_off(server: FaultySftp, acme: Partner) -> int:
    """A file of unknown outcome, with a manifest and a trigger."""
    acme.upload(mode="direct")
    key = acme.freeze("A.csv", CONTENT, beside=("manifest", "trigger"))
    server.faults.fail_write_from = 65_536
    acme.deliver()
    server.faults.fail_write_from = None
    assert acme.states() == ["UNKNOWN"]
    return key


def kinds(acme: Partner) -> list[str]:
    with acme.ledger.reading() as reading:
        rows = reading.rows(sa.select(audit_event).order_by(audit_event.c.id))
    return [row["kind"] for row in rows]


def test_a_confirmed_file_gets_its_trigger(server: FaultySftp, acme: Partner) -> None:
    """A partner that waits for the trigger never imports it, while the ledger says that it was sent."""
    key = broken_off(server, acme)
    (acme.root / "A.csv").unlink()
    with acme.ledger.transaction() as transaction:
        exported.settle_unknown(transaction, key, arrived=True, **PEOPLE)
    assert acme.states() == ["RENAMING"]
    (found,) = acme.deliver()
    assert found.outcome is Outcome.SENT
    assert sorted(acme.there()) == ["A.csv.manifest.json", "A.csv.trg"]
    assert (acme.states(), acme.file(key)["verified_by"]) == (["SENT"], "person")


def test_a_resend_that_finds_it_whole_places_the_rest(server: FaultySftp, acme: Partner) -> None:
    """The same where the server itself shows that it arrived."""
    key = broken_off(server, acme)
    (acme.root / "A.csv").write_bytes(CONTENT)
    inode = (acme.root / "A.csv").stat().st_ino
    found = resend(
        acme.outbound, acme.outbound.feeds[FEED], key, actor="Ann Lee", approved_by="Bob Stone", reason="asked them"
    )
    assert found.outcome is Outcome.SENT
    assert acme.there() == acme.contents
    assert (acme.root / "A.csv").stat().st_ino == inode


def test_an_inferred_file_gets_its_trigger(acme: Partner) -> None:
    """The partner moves files to its work folder and begins with the trigger; the file is never put there twice."""
    key = acme.freeze("A.csv", CONTENT, beside=("trigger",))
    with acme.ledger.transaction() as transaction:
        exported.begin_upload(transaction, key, "/in/.A.csv.12345678.part")
        exported.begin_rename(transaction, key)
    (found,) = acme.deliver()
    assert (found.outcome, found.alert) == (Outcome.INFERRED, True)
    assert sorted(acme.there()) == ["A.csv.trg"]
    assert acme.states() == ["INFERRED"]
    assert acme.deliver() == []


def test_an_inferred_file_stays_inferred_over_a_fault(server: FaultySftp, acme: Partner) -> None:
    """The line breaks before the trigger: the next run goes on with it, and does not look for the file again."""
    key = acme.freeze("A.csv", CONTENT, beside=("manifest", "trigger"))
    with acme.ledger.transaction() as transaction:
        exported.begin_upload(transaction, key, "/in/.A.csv.12345678.part")
        exported.begin_rename(transaction, key)
    (acme.root / "A.csv.trg").write_bytes(b"theirs")
    (first,) = acme.deliver()
    assert (first.outcome, acme.states()) == (Outcome.STOPPED, ["RENAMING"])
    (acme.root / "A.csv.trg").unlink()
    (second,) = acme.deliver()
    assert (second.outcome, acme.states()) == (Outcome.INFERRED, ["INFERRED"])
    assert sorted(acme.there()) == ["A.csv.manifest.json", "A.csv.trg"]


@pytest.mark.parametrize("upload", [{"verify": "size"}, {"verify_at_most": 10}, {"mode": "direct"}])
def test_a_file_of_the_same_size_is_not_ours(acme: Partner, upload: dict[str, object]) -> None:
    """Somebody else's file under the name: counted as ours, the partner would never get its records."""
    acme.upload(**upload)
    acme.freeze("A.csv", CONTENT)
    (acme.root / "A.csv").write_bytes(b"X" * len(CONTENT))
    (found,) = acme.deliver()
    assert found.stopped is not None
    assert isinstance(found.stopped.cause, NameTaken)
    assert acme.there() == {"A.csv": b"X" * len(CONTENT)}


def test_an_unknown_file_is_reported_at_every_run(server: FaultySftp, acme: Partner) -> None:
    """It holds nothing up and is easily forgotten; a run that says nothing says that all is well."""
    broken_off(server, acme)
    for _ in range(2):
        (found,) = acme.deliver()
        assert (found.outcome, found.alert, found.stopped) == (Outcome.UNKNOWN, True, None)


def test_a_resend_that_breaks_off_is_on_record(acme: Partner) -> None:
    """The file went, its trigger could not: who asked, and what was sent all the same."""
    key = acme.freeze("A.csv", CONTENT, beside=("trigger",))
    acme.deliver()
    (acme.root / "A.csv").unlink()
    (acme.root / "A.csv.trg").write_bytes(b"theirs")
    found = resend(acme.outbound, acme.outbound.feeds[FEED], key, actor="Ann Lee", reason="the partner lost it")
    assert found.outcome is Outcome.STOPPED
    # In between, its temporary file waited for its end, and did no more.
    assert [kind for kind in kinds(acme) if "leftovers" not in kind][-2:] == ["export.resend_begun", "export.resent"]
    with acme.ledger.reading() as reading:
        event = reading.rows(sa.select(audit_event).order_by(audit_event.c.id.desc()))[0]
    assert event["detail"]["sent"] == ["A.csv"]
    assert "NameTaken" in event["detail"]["fault"]
    assert acme.file(key)["resent_at"] is not None
