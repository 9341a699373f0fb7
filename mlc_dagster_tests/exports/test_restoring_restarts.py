"""A feed that began anew after the backup was made: a restore of the ledger loses that neither way."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.exports import settling
from mlc_dagster.exports.delivery_journal import JournalDamaged
from mlc_dagster.exports.guarding import LedgerIsOlder, OtherLedger, RestartForgotten, guard_feed
from mlc_dagster.exports.places import place_of
from mlc_dagster.exports.relocating import moved, restart
from mlc_dagster.exports.restart_journal import RestartJournal
from mlc_dagster.exports.restoring import Restored, after_restore
from mlc_dagster.ledger import exported
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import LedgerError
from mlc_dagster.ledger.places import pinned_place
from mlc_dagster.ledger.restarts import restarts_of
from mlc_dagster.ledger.schema import audit_event, ledger_setting
from mlc_dagster.ledger.schema_outbound import exported_file
from mlc_dagster_tests.servers.backups import Backups
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_account, partner_rehearsal
from mlc_dagster_tests.servers.postgres import PostgresServer

FEED = "journals"
ANEW = Approval(by="Ann Lee", approved_by="Bo Ek", reason="the partner lost its books and wants everything")
WHY = Approval(by="Cy Roe", approved_by="Di Fox", reason="the backup of last night was restored")
DEBIT = "101-4410-61200-000-000-000"
CREDIT = "101-0000-22100-000-000-000"


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Backups[PartnerRehearsal]]:
    """Journal A was delivered."""
    with partner_rehearsal(tmp_path) as running:
        yield begun(running, None)


@pytest.fixture(params=["sqlite", "postgres"])
def backups(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backups[PartnerRehearsal]]:
    """The same on either database."""
    server: PostgresServer | None = None
    url: str | None = None
    if request.param == "postgres":
        server, url = request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_url")
    with partner_rehearsal(tmp_path, ledger_url=url) as running:
        yield begun(running, server)


def begun(running: PartnerRehearsal, server: PostgresServer | None) -> Backups[PartnerRehearsal]:
    running.stand_still()
    running.poll(FEED)
    post(running, "A")
    running.poll(FEED)
    return Backups(running, server)


def post(remote: PartnerRehearsal, name: str) -> None:
    remote.world.add_journal_batch(name, lines=[(DEBIT, "100.00", None), (CREDIT, None, "100.00")])


def begin_anew(remote: PartnerRehearsal) -> int:
    return restart(remote.outbound, remote.outbound.feeds[FEED], ANEW)


def told(remote: PartnerRehearsal) -> Restored:
    return after_restore(remote.outbound, WHY, feed=FEED)


def journal(remote: PartnerRehearsal) -> RestartJournal:
    return RestartJournal(remote.outbound, FEED)


def test_a_lost_restart_holds_again(kept: Backups[PartnerRehearsal]) -> None:
    """Two people promised the partner everything; a restore must not take that back in silence."""
    remote = kept.remote
    backup = kept.make()
    assert begin_anew(remote) == 1
    kept.restore(backup)
    remote.later()
    remote.read("journals")
    with pytest.raises(RestartForgotten, match=r"restart of the feed after file number 1 .*Ann Lee and Bo Ek"):
        remote.deliver(FEED)
    done = told(remote)
    assert [(each.restart.number, each.records, each.waits_for) for each in done.restarts] == [(1, 1, ())]
    assert len(remote.delivered()) == 1
    remote.poll(FEED)
    assert len(remote.delivered()) == 2
    remote.poll(FEED)
    assert len(remote.delivered()) == 2


def test_what_was_sent_since_the_restart_is_not_sent_a_third_time(backups: Backups[PartnerRehearsal]) -> None:
    """Entered between the files where it was said: those before it count no more, those after it do."""
    remote = backups.remote
    backup = backups.make()
    begin_anew(remote)
    remote.poll(FEED)
    post(remote, "B")
    remote.poll(FEED)
    there = remote.delivered()
    assert len(there) == 3
    backups.restore(backup)
    done = told(remote)
    assert [(file.sequence, file.state) for file in done.files] == [(2, "SENT"), (3, "SENT")]
    assert [each.records for each in done.restarts] == [1]
    remote.poll(FEED)
    remote.poll(FEED)
    assert remote.delivered() == there


def test_a_restart_for_another_place_takes_the_feed_there(kept: Backups[PartnerRehearsal]) -> None:
    """Else it would be asked whether it moved, and whoever says restart once more sends everything twice."""
    remote = kept.remote
    backup = kept.make()
    post(remote, "B")
    remote.poll(FEED)
    (remote.inbox.parent / "other").mkdir()
    remote.change_feed(FEED, sftp=partner_account(remote.sftp) | {"directory": "/other"})
    begin_anew(remote)
    remote.poll(FEED)
    there = sorted((remote.inbox.parent / "other").iterdir())
    kept.restore(backup)
    done = told(remote)
    assert {file.state for file in done.files} == {"SENT"}
    # The second went to the first place; how many files A and B then took is not the matter here.
    assert [file.sequence for file in done.files if "was not asked" in file.seen] == [2]
    now = place_of(remote.outbound.feeds[FEED].settings)
    with remote.ledger.transaction() as transaction:
        assert pinned_place(transaction, FEED, now) == now
    remote.poll(FEED)
    assert sorted((remote.inbox.parent / "other").iterdir()) == there


def test_a_restart_waits_for_the_files_before_it(kept: Backups[PartnerRehearsal]) -> None:
    """What went to the first partner must not be confirmed, or sent, as if it were the second one's."""
    remote = kept.remote
    backup = kept.make()
    post(remote, "B")
    remote.poll(FEED)
    begin_anew(remote)
    remote.poll(FEED)
    cut_the_end_off(remote, 2)
    remove_from_server(remote, 2)
    kept.restore(backup)
    done = told(remote)
    assert [(file.sequence, file.state) for file in done.files] == [(2, "UNKNOWN")]
    assert [each.waits_for for each in done.restarts] == [(done.files[0].name,)]
    with pytest.raises(LedgerIsOlder):
        guard_feed(remote.outbound, remote.outbound.feeds[FEED])
    with remote.ledger.reading() as reading:
        (file,) = exported.list_files(reading, FEED, [exported.FileState.UNKNOWN])
    # The restart waits for this word, so it must not be what refuses it.
    settling.confirm(remote.outbound, file["id"], WHY, arrived=True)
    again = told(remote)
    assert {file.state for file in again.files} == {"SENT"}
    assert again.files[0].sequence == 3
    assert [(each.records, each.waits_for) for each in again.restarts] == [(2, ())]
    there = remote.delivered()
    remote.poll(FEED)
    assert remote.delivered() == there


def cut_the_end_off(remote: PartnerRehearsal, sequence: int) -> None:
    path = remote.folder / "data" / "journal" / FEED / f"{sequence:08d}.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def remove_from_server(remote: PartnerRehearsal, sequence: int) -> None:
    with remote.ledger.reading() as reading:
        name = reading.value(sa.select(exported_file.c.name).where(exported_file.c.sequence == sequence))
    (remote.inbox / name).unlink()


@pytest.mark.parametrize("said", ["restart", "moved"])
def test_nothing_is_said_of_a_ledger_that_is_older(kept: Backups[PartnerRehearsal], said: str) -> None:
    """It would be said of what the ledger remembers, not of what was sent."""
    remote = kept.remote
    backup = kept.make()
    begin_anew(remote)
    kept.restore(backup)
    feed = remote.outbound.feeds[FEED]
    with pytest.raises(LedgerIsOlder, match="after-restore"):
        (restart if said == "restart" else moved)(remote.outbound, feed, ANEW)


def test_it_is_on_record(kept: Backups[PartnerRehearsal]) -> None:
    """Who said it first, and who entered it again."""
    remote = kept.remote
    backup = kept.make()
    begin_anew(remote)
    kept.restore(backup)
    told(remote)
    with remote.ledger.reading() as reading:
        rows = reading.rows(sa.select(audit_event).where(audit_event.c.kind == "export.restart_restored"))
        known = restarts_of(reading, FEED)
    (detail,) = (row["detail"] for row in rows)
    assert (detail["by"], detail["approved_by"]) == (WHY.by, WHY.approved_by)
    assert (detail["restart"]["by"], detail["restart"]["sequence"], detail["records"]) == (ANEW.by, 1, 1)
    assert [each.number for each in known] == [1]
    assert told(remote) == Restored()


def test_a_restart_that_our_disk_refused_is_entered_before_anything_is_sent(
    kept: Backups[PartnerRehearsal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands in the ledger; the next run enters it first, and stops while it cannot."""
    remote = kept.remote
    with monkeypatch.context() as full:
        full.setattr(RestartJournal, "catch_up", _no_space)
        assert begin_anew(remote) == 1
        with pytest.raises(OSError, match="No space"):
            guard_feed(remote.outbound, remote.outbound.feeds[FEED])
    assert journal(remote).entered() == []
    remote.poll(FEED)
    assert [entered.restart.number for entered in journal(remote).entered()] == [1]


def _no_space(found: RestartJournal) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(found.path))


def test_a_line_that_was_cut_off_is_entered_again(kept: Backups[PartnerRehearsal]) -> None:
    """Power cut in the middle of it, after the ledger's commit."""
    remote = kept.remote
    begin_anew(remote)
    path = journal(remote).path
    path.write_bytes(path.read_bytes()[:-20])
    assert journal(remote).entered() == []
    guard_feed(remote.outbound, remote.outbound.feeds[FEED])
    assert [entered.restart.number for entered in journal(remote).entered()] == [1]


def test_a_line_that_lost_only_its_end_counts_once(kept: Backups[PartnerRehearsal]) -> None:
    """Power cut just before the newline: it is entered again, and the first one is whole from then on."""
    remote = kept.remote
    begin_anew(remote)
    path = journal(remote).path
    path.write_bytes(path.read_bytes()[:-1])
    guard_feed(remote.outbound, remote.outbound.feeds[FEED])
    assert len(path.read_bytes().splitlines()) == 2
    remote.poll(FEED)
    begin_anew(remote)
    assert [entered.restart.number for entered in journal(remote).entered()] == [1, 2]
    remote.poll(FEED)
    assert len(remote.delivered()) == 3


def test_a_restart_that_is_missing_is_found(kept: Backups[PartnerRehearsal]) -> None:
    """The second alone would be entered at the wrong place."""
    remote = kept.remote
    begin_anew(remote)
    remote.poll(FEED)
    begin_anew(remote)
    path = journal(remote).path
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(JournalDamaged, match="restart 1 is missing"):
        guard_feed(remote.outbound, remote.outbound.feeds[FEED])


def test_a_restart_of_another_installation_is_refused(kept: Backups[PartnerRehearsal]) -> None:
    """A wrong data_dir would send everything again."""
    remote = kept.remote
    backup = kept.make()
    begin_anew(remote)
    path = journal(remote).path
    line = json.loads(path.read_text())
    path.write_text(json.dumps(line | {"ledger": "another"}) + "\n")
    kept.restore(backup)
    with pytest.raises(OtherLedger):
        told(remote)


def test_a_ledger_that_began_anew_in_another_way_is_refused(kept: Backups[PartnerRehearsal]) -> None:
    """Two copies of one ledger that both went on: there is no order to enter them in."""
    remote = kept.remote
    begin_anew(remote)
    with remote.ledger.transaction() as transaction:
        value = json.loads(transaction.value(sa.select(ledger_setting.c.value).where(_its_row())))
        value[0]["by"] = "Somebody Else"
        transaction.execute(sa.update(ledger_setting).where(_its_row()).values(value=json.dumps(value)))
    with pytest.raises(LedgerError, match="Restore it once more"):
        guard_feed(remote.outbound, remote.outbound.feeds[FEED])


def _its_row() -> "sa.ColumnElement[bool]":
    return ledger_setting.c.name == f"restarts/{FEED}"
