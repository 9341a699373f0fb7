"""What a lost attempt left on a partner's OpenSSH server is cleared away, and nothing else ever is."""

import dataclasses
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.exports.delivery_journal import DeliveryJournal
from mlc_dagster.exports.leftovers import Leftover
from mlc_dagster.exports.placing import Placement
from mlc_dagster.exports.resending import resend
from mlc_dagster.exports.restoring import after_restore
from mlc_dagster.exports.temporary_names import is_temporary_of, temporary_of
from mlc_dagster.ledger import exported
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.ledger.leftovers import leftovers_of
from mlc_dagster.ledger.schema import audit_event
from mlc_dagster.ledger.schema_outbound import exported_file
from mlc_dagster.sftp import SftpCredentials
from mlc_dagster_tests.servers.backups import backup, restore
from mlc_dagster_tests.servers.partner import FEED, DeliveryProcess, Partner
from mlc_dagster_tests.servers.sshd import RealSshd

WHY = Approval(by="Ann Lee", approved_by="Bo Ek", reason="the backup of last night was restored")


def hidden(acme: Partner) -> list[str]:
    return [name for name in acme.there() if name.startswith(".")]


def killed(acme: Partner, at: str) -> None:
    with DeliveryProcess(acme.place, at=at) as process:
        process.wait_killed()


def restored_after(acme: Partner, at: str) -> list[Leftover]:
    """The ledger is from before an attempt that was killed; it was told."""
    acme.freeze("A.csv")
    copy = backup(acme)
    acme.ledger = open_ledger(acme.place.ledger_url)
    killed(acme, at)
    restore(acme, copy)
    return after_restore(acme.outbound, WHY).leftovers


def settle(acme: Partner, *, arrived: bool) -> None:
    with acme.ledger.transaction() as transaction:
        (file,) = exported.list_files(transaction, FEED, [exported.FileState.UNKNOWN])
        exported.settle_unknown(transaction, file["id"], arrived=arrived, **WHY.said)


@pytest.mark.parametrize("arrived", [True, False])
def test_it_stays_until_the_outcome_is_known(acme: Partner, arrived: bool) -> None:
    """Until then it tells a person how far the file came; afterwards nobody else would remove it."""
    (left,) = restored_after(acme, "rename")
    assert (left.removed, "stays until it is known" in left.text) == (False, True)
    assert hidden(acme) == [Path(left.path).name]
    acme.deliver()
    assert hidden(acme) == [Path(left.path).name]
    settle(acme, arrived=arrived)
    acme.deliver()
    assert list(acme.there()) == ([] if arrived else ["A.csv"])
    with acme.ledger.reading() as reading:
        assert leftovers_of(reading, FEED) == []
        removed = reading.rows(sa.select(audit_event).where(audit_event.c.kind == "export.leftovers_removed"))
    assert [row["detail"]["removed"] for row in removed] == [[left.path]]


def test_a_person_reads_that_all_its_bytes_lie_there(acme: Partner) -> None:
    """Complete and without its name: the best sign that it did not arrive."""
    acme.freeze("A.csv")
    copy = backup(acme)
    acme.ledger = open_ledger(acme.place.ledger_url)
    killed(acme, "rename")
    restore(acme, copy)
    (done,) = after_restore(acme.outbound, WHY).files
    assert "temporary file of ours lies there with all its bytes" in done.seen


def test_of_a_file_that_arrived_it_goes_at_once(acme: Partner) -> None:
    """An attempt was killed, a later one arrived; the ledger is from before both."""
    acme.freeze("A.csv")
    copy = backup(acme)
    acme.ledger = open_ledger(acme.place.ledger_url)
    killed(acme, "verify")
    (stale,) = hidden(acme)
    content = (acme.root / stale).read_bytes()
    acme.deliver()
    assert hidden(acme) == []
    # As after a removal that was refused at the time.
    (acme.root / stale).write_bytes(content)
    restore(acme, copy)
    (left,) = after_restore(acme.outbound, WHY).leftovers
    assert (Path(left.path).name, left.removed) == (stale, True)
    assert list(acme.there()) == ["A.csv"]


def test_what_is_not_in_the_journal_is_never_touched(acme: Partner) -> None:
    """Even under a name such as we make: another installation's, or another customer's of that partner."""
    alien = temporary_of("A.csv")
    (acme.root / alien).write_bytes(b"half")
    (left,) = restored_after(acme, "rename")
    settle(acme, arrived=False)
    acme.deliver()
    assert list(acme.there()) == [alien, "A.csv"]
    assert Path(left.path).name != alien


def test_the_ledger_alone_is_not_enough_to_delete_by(acme: Partner) -> None:
    """A journal that was lost, or put from another place, proves nothing of what lies there."""
    (left,) = restored_after(acme, "rename")
    settle(acme, arrived=True)
    entry = DeliveryJournal(acme.outbound, FEED).entry(1).path
    lines = entry.read_text().splitlines(keepends=True)
    entry.write_text("".join(line for line in lines if Path(left.path).name not in line))
    acme.deliver()
    assert hidden(acme) == [Path(left.path).name]


def test_a_folder_in_its_place_is_left(acme: Partner) -> None:
    """Only a file can be what we left."""
    acme.freeze("A.csv")
    copy = backup(acme)
    acme.ledger = open_ledger(acme.place.ledger_url)
    killed(acme, "rename")
    (stale,) = hidden(acme)
    (acme.root / stale).unlink()
    (acme.root / stale).mkdir()
    restore(acme, copy)
    assert after_restore(acme.outbound, WHY).leftovers == []
    assert (acme.root / stale).is_dir()


def test_an_account_that_may_not_remove_is_told(acme: Partner, tmp_path: Path) -> None:
    """Whoever reads it asks the partner; the command does what else there is to do."""
    acme.freeze("A.csv")
    copy = backup(acme)
    acme.ledger = open_ledger(acme.place.ledger_url)
    killed(acme, "verify")
    (stale,) = hidden(acme)
    content = (acme.root / stale).read_bytes()
    acme.deliver()
    (acme.root / stale).write_bytes(content)
    restore(acme, copy)
    with RealSshd(tmp_path / "strict", options=("ForceCommand internal-sftp -P remove",)) as strict:
        acme.account(port=strict.port, host_key=[strict.fingerprint], username=strict.username)
        acme.place = dataclasses.replace(acme.place, credentials=SftpCredentials(private_key=strict.private_key))
        found = after_restore(acme.outbound, WHY).leftovers
    assert [(left.removed, "ask the partner" in left.text) for left in found] == [(False, True)]
    assert acme.states() == ["SENT"]


def test_a_companion_of_a_lost_attempt_is_replaced(acme: Partner) -> None:
    """The ledger has the file's own attempt and none of its manifest's; no person is asked for that."""
    acme.freeze("A.csv", beside=("manifest",))
    copies: list[Path] = []

    def keep(step: str) -> None:
        if step == "look" and "A.csv" in acme.there():
            copies.append(backup(acme))

    acme.deliver(before=keep)
    restore(acme, copies[0])
    journal = DeliveryJournal(acme.outbound, FEED)
    (stale,) = [path for path in journal.temporaries(1) if is_temporary_of("A.csv.manifest.json", path)]
    # As if the run had died before the manifest got its name.
    Path(stale).write_bytes((acme.root / "A.csv.manifest.json").read_bytes())
    (acme.root / "A.csv.manifest.json").unlink()
    _cut_after(journal.entry(1).path, Path(stale).name)
    acme.deliver()
    assert list(acme.there()) == ["A.csv", "A.csv.manifest.json"]
    assert acme.states() == ["SENT"]


def _cut_after(path: Path, text: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    last = next(number for number, line in enumerate(lines) if text in line)
    path.write_text("".join(lines[: last + 1]))


def test_a_resend_that_died_is_known_for_ours(acme: Partner) -> None:
    """No row of the ledger has its temporary name; the journal has, and keeps the file's end beside it."""
    key = acme.freeze("A.csv")
    acme.deliver()
    (acme.root / "A.csv").unlink()
    outbound = acme.outbound
    resend(outbound, outbound.feeds[FEED], key, actor="Ann Lee", reason="the partner lost it yesterday")
    journal = DeliveryJournal(outbound, FEED)
    assert [is_temporary_of("A.csv", path) for path in journal.temporaries(1)] == [True, True]
    assert journal.entry(1).state == "SENT"


class Killed(BaseException):
    """As a signal that nothing catches."""


def resent(acme: Partner, key: int) -> None:
    resend(acme.outbound, acme.outbound.feeds[FEED], key, actor="Ann Lee", reason="the partner lost it yesterday")


@pytest.mark.parametrize("then", ["resend", "deliver"])
def test_what_a_resend_that_died_left_is_removed(acme: Partner, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    """By whoever comes next: another resend of it, or the next file of the feed."""
    key = acme.freeze("A.csv")
    acme.deliver()
    (acme.root / "A.csv").unlink()

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(Placement, "_rename", die)
        with pytest.raises(Killed):
            resent(acme, key)
    (stale,) = hidden(acme)
    assert is_temporary_of("A.csv", stale)
    if then == "resend":
        resent(acme, key)
        assert list(acme.there()) == ["A.csv"]
    acme.freeze("B.csv")
    acme.deliver()
    assert hidden(acme) == []
    with acme.ledger.reading() as reading:
        assert leftovers_of(reading, FEED) == []


def test_a_resend_that_arrived_leaves_nothing_to_wait_for(acme: Partner) -> None:
    """Its temporary name is gone; a later delivery has nothing to ask for."""
    key = acme.freeze("A.csv")
    acme.deliver()
    (acme.root / "A.csv").unlink()
    resent(acme, key)
    with acme.ledger.reading() as reading:
        assert leftovers_of(reading, FEED) == []


def test_names_are_told_apart() -> None:
    """A manifest's temporary file is not its file's, though its name begins with it."""
    assert is_temporary_of("A.csv", f"/in/{temporary_of('A.csv')}")
    assert not is_temporary_of("A.csv", temporary_of("A.csv.trg"))
    assert not is_temporary_of("A.csv", ".A_csv.0123abcd.part")


@pytest.mark.parametrize("attempts", [1, 200])
def test_many_attempts_are_read_from_the_end(acme: Partner, attempts: int) -> None:
    """A file may have a hundred thousand records before them, and weeks of attempts."""
    key = acme.freeze("A.csv")
    acme.deliver()
    journal = DeliveryJournal(acme.outbound, FEED)
    for number in range(attempts):
        journal.temporary(1, f"/in/.A.csv.{number:08x}.part" + "x" * 300)
    assert len(journal.temporaries(1)) == attempts + 1
    assert acme.file(key)["state"] == "SENT"
    with acme.ledger.reading() as reading:
        assert reading.value(sa.select(exported_file.c.attempts)) == 1
