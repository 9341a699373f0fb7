"""The delivery journal: durable before the first byte, behind the ledger at most, whole or recognised as broken."""

import errno
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.exports.delivery_journal import Attempt, DeliveryJournal, JournalDamaged
from mlc_dagster.exports.guarding import JournalAhead, guard_feed
from mlc_dagster.exports.restoring import after_restore
from mlc_dagster.ledger import feeds
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import Row, open_ledger
from mlc_dagster.ledger.exported import FileState
from mlc_dagster.ledger.schema_outbound import exported_file, exported_record
from mlc_dagster.sftp import SftpCredentials
from mlc_dagster_tests.servers.backups import backup, restore
from mlc_dagster_tests.servers.faulty_sftp import FaultySftp
from mlc_dagster_tests.servers.partner import FEED, NOON, DeliveryProcess, Partner, partner
from mlc_dagster_tests.sftp.conftest import settings_for

WHY = Approval(by="Ann Lee", approved_by="Bo Ek", reason="the backup of last night was restored")


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


def journal(acme: Partner) -> DeliveryJournal:
    return DeliveryJournal(acme.outbound, FEED)


def guard(acme: Partner) -> None:
    guard_feed(acme.outbound, acme.outbound.feeds[FEED])


def states(acme: Partner) -> list[tuple[int, str | None]]:
    found = journal(acme)
    return [(sequence, found.entry(sequence).state) for sequence in found.sequences()]


def test_it_is_there_before_the_first_byte(acme: Partner) -> None:
    """A power cut in the middle of the upload leaves a trace outside the ledger."""
    acme.freeze("A.csv")
    seen: dict[str, list[int]] = {}

    def watch(step: str) -> None:
        seen[step] = journal(acme).sequences()

    acme.deliver(before=watch)
    assert (seen["commit uploading"], seen["upload"]) == ([], [1])
    assert states(acme) == [(1, "SENT")]


def test_each_step_is_there_before_it_is_taken(acme: Partner) -> None:
    """What tells a restored ledger that more was tried than it knows."""
    acme.freeze("A.csv")
    with DeliveryProcess(acme.place, at="upload") as process:
        process.wait_killed()
    seen: dict[str, Attempt | None] = {}

    def watch(step: str) -> None:
        seen[step] = journal(acme).entry(1).attempt

    acme.deliver(before=watch)
    assert seen["commit uploading"] == Attempt(1, FileState.UPLOADING)
    assert seen["upload"] == Attempt(2, FileState.UPLOADING)
    assert seen["rename"] == Attempt(2, FileState.RENAMING)


def test_a_disk_that_is_full_sends_nothing(acme: Partner) -> None:
    """What cannot be journalled does not leave: a restored ledger would not know of it."""
    acme.freeze("A.csv")
    blocked = acme.outbound.settings.data_path / "journal"
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("in the way")
    (found,) = acme.deliver()
    assert found.stopped is not None
    assert acme.there() == {}


@pytest.mark.parametrize(("at", "outcome"), [("upload", "UNKNOWN"), ("commit arrived", "SENT")])
def test_a_killed_run_and_a_restored_ledger(acme: Partner, at: str, outcome: str) -> None:
    """SIGKILL before the end was noted: the server is asked, and where it shows nothing, a person asks the partner."""
    acme.freeze("A.csv")
    acme.deliver()
    copy = backup(acme)
    acme.ledger = open_ledger(acme.place.ledger_url)
    acme.freeze("B.csv")
    with DeliveryProcess(acme.place, at=at) as process:
        process.wait_killed()
    restore(acme, copy)
    with pytest.raises(JournalAhead, match=r"B\.csv"):
        guard(acme)
    done = after_restore(acme.outbound, WHY)
    assert [(file.name, str(file.state)) for file in done.files] == [("B.csv", outcome)]
    assert acme.states() == ["SENT", outcome]
    guard(acme)


@pytest.mark.parametrize("at", ["commit uploading", "upload", "commit arrived"])
def test_a_killed_run_alone_is_no_restore(acme: Partner, at: str) -> None:
    """The ledger is never behind by itself: the next run goes on without a person."""
    acme.freeze("A.csv")
    with DeliveryProcess(acme.place, at=at) as process:
        process.wait_killed()
    guard(acme)
    acme.deliver()
    assert acme.states() == ["SENT"]
    assert states(acme) == [(1, "SENT")]


def test_a_backup_made_before_the_delivery_is_found_out(acme: Partner) -> None:
    """The ledger has the file, frozen and untried; it was sent since, and the partner has taken it."""
    acme.freeze("A.csv")
    copy = backup(acme)
    acme.ledger = open_ledger(acme.place.ledger_url)
    acme.deliver()
    (acme.root / "A.csv").unlink()
    restore(acme, copy)
    with pytest.raises(JournalAhead, match="SENT there and PENDING"):
        guard(acme)
    after_restore(acme.outbound, WHY)
    assert acme.states() == ["SENT"]
    assert acme.deliver() == []
    assert acme.there() == {}


@pytest.mark.parametrize("at", ["upload", "rename", "commit arrived"])
def test_a_backup_made_between_two_attempts_is_found_out(acme: Partner, at: str) -> None:
    """The ledger has an attempt, the journal a later one without an end, and the partner took the file."""
    acme.freeze("A.csv")
    copy = backup_after_an_attempt(acme)
    with DeliveryProcess(acme.place, at=at) as process:
        process.wait_killed()
    (acme.root / "A.csv").unlink(missing_ok=True)
    restore(acme, copy)
    with pytest.raises(JournalAhead, match="attempt 2, and the ledger knows of 1"):
        guard(acme)
    after_restore(acme.outbound, WHY)
    assert acme.states() == ["UNKNOWN"]
    guard(acme)
    acme.deliver()
    assert "A.csv" not in acme.there()


def test_a_backup_made_during_the_upload_is_found_out(acme: Partner) -> None:
    """Of the same attempt the journal has the rename: its end may be anywhere, and it is not uploaded again."""
    acme.freeze("A.csv")
    copies: list[Path] = []

    def copy(step: str) -> None:
        if step == "verify":
            copies.append(backup(acme))

    acme.deliver(before=copy)
    (path,) = (acme.outbound.settings.data_path / "journal" / FEED).glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    restore(acme, copies[0])
    with pytest.raises(JournalAhead, match="RENAMING there and UPLOADING"):
        guard(acme)


def test_an_end_that_our_disk_refused_is_found_out_too(acme: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk at the wrong moment is no reason to send twice after a restore."""
    acme.freeze("A.csv")
    copy = backup_after_an_attempt(acme)
    with monkeypatch.context() as full:
        full.setattr(DeliveryJournal, "end", _no_space)
        acme.deliver()
    assert states(acme) == [(1, None)]
    (acme.root / "A.csv").unlink()
    restore(acme, copy)
    with pytest.raises(JournalAhead):
        guard(acme)


def test_an_end_that_our_disk_refused_is_noted_before_anything_is_sent(
    acme: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run enters it first, and stops while it cannot."""
    acme.freeze("A.csv")
    with monkeypatch.context() as full:
        full.setattr(DeliveryJournal, "end", _no_space)
        acme.deliver()
        assert acme.states() == ["SENT"]
        with pytest.raises(OSError, match="No space"):
            guard(acme)
    guard(acme)
    assert states(acme) == [(1, "SENT")]


def test_an_end_is_tried_a_second_time(acme: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes in a moment leaves nothing for the next run."""
    acme.freeze("A.csv")
    end, refused = DeliveryJournal.end, [1]

    def once(found: DeliveryJournal, file: Row) -> None:
        if refused:
            refused.clear()
            _no_space(found, file)
        end(found, file)

    monkeypatch.setattr(DeliveryJournal, "end", once)
    acme.deliver()
    assert states(acme) == [(1, "SENT")]


def test_a_step_that_our_disk_refuses_is_not_taken(acme: Partner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the first byte of a later attempt nor the rename leaves without a line."""
    acme.freeze("A.csv")
    with DeliveryProcess(acme.place, at="commit uploading") as process:
        process.wait_killed()
    with monkeypatch.context() as full:
        full.setattr(DeliveryJournal, "step", _no_space)
        (found,) = acme.deliver()
    assert found.stopped is not None
    assert acme.there() == {}
    acme.deliver()
    assert acme.states() == ["SENT"]


@pytest.mark.parametrize("end", ["SENT", "INFERRED"])
def test_a_line_in_a_file_does_not_make_a_begun_file_sent(acme: Partner, end: str) -> None:
    """Two people say of a begun file that it arrived; who can write to data_dir does not say it in their place."""
    acme.freeze("A.csv")
    with DeliveryProcess(acme.place, at="upload") as process:
        process.wait_killed()
    forged = dict.fromkeys(("reason", "server_size", "server_mtime", "verified_by", "server_key"))
    with journal(acme).entry(1).path.open("a") as stream:
        stream.write(json.dumps({"state": end, "ended_at": NOON.isoformat(), **forged}) + "\n")
    with pytest.raises(JournalAhead):
        guard(acme)
    (done,) = after_restore(acme.outbound, WHY).files
    assert (done.state, "does not lie there" in done.seen) == ("UNKNOWN", True)
    assert states(acme) == [(1, "UNKNOWN")]
    guard(acme)


def test_other_bytes_on_the_server_speak_against_the_journal(acme: Partner) -> None:
    """Whatever lies there, it is not what the journal says was sent."""
    acme.freeze("A.csv")
    copy = backup(acme)
    acme.ledger = open_ledger(acme.place.ledger_url)
    acme.deliver()
    (acme.root / "A.csv").write_bytes(b"half")
    restore(acme, copy)
    (done,) = after_restore(acme.outbound, WHY).files
    assert (done.state, "with other bytes" in done.seen) == ("UNKNOWN", True)
    assert acme.states() == ["UNKNOWN"]
    guard(acme)


def backup_after_an_attempt(acme: Partner) -> Path:
    """Of a ledger that has the first attempt, whose run was killed."""
    with DeliveryProcess(acme.place, at="upload") as process:
        process.wait_killed()
    copy = backup(acme)
    acme.ledger = open_ledger(acme.place.ledger_url)
    return copy


def _no_space(found: DeliveryJournal, file: Row) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(found.folder / file["name"]))


def test_an_end_that_was_cut_off_is_noted_again(acme: Partner) -> None:
    """Power cut in the middle of the line, after the ledger's commit."""
    acme.freeze("A.csv")
    acme.deliver()
    (path,) = (acme.outbound.settings.data_path / "journal" / FEED).glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-20])
    assert states(acme) == [(1, None)]
    guard(acme)
    assert states(acme) == [(1, "SENT")]


def test_an_abandoned_file_is_noted(acme: Partner) -> None:
    """A restored ledger must not send what two people gave up."""
    key = acme.freeze("A.csv")
    with acme.ledger.transaction() as transaction:
        transaction.execute(
            sa.update(exported_file)
            .where(exported_file.c.id == key)
            .values(state="ABANDONED", reason="twice", ended_at=NOON)
        )
    guard(acme)
    assert states(acme) == [(1, "ABANDONED")]


def test_damaged_records_are_not_entered(acme: Partner) -> None:
    """Half of a file's records would make the other half new again."""
    key = acme.freeze("A.csv")
    _add_records(acme, key, 3)
    acme.deliver()
    entry = journal(acme).entry(1)
    lines = entry.path.read_bytes().splitlines(keepends=True)
    entry.path.write_bytes(b"".join([lines[0], *lines[2:]]))
    with pytest.raises(JournalDamaged, match="not whole"):
        list(entry.records())


def test_a_large_file_takes_no_memory(acme: Partner) -> None:
    """100,000 records are written, and entered again, some at a time."""
    key = acme.freeze("A.csv")
    copy = backup(acme)
    acme.ledger = open_ledger(acme.place.ledger_url)
    _add_records(acme, key, 100_000)
    tracemalloc.start()
    acme.deliver()
    written = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    restore(acme, copy)
    tracemalloc.start()
    after_restore(acme.outbound, WHY)
    entered = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with acme.ledger.reading() as reading:
        assert reading.value(sa.select(sa.func.count()).where(exported_record.c.state == "SENT")) == 100_000
    assert max(written, entered) < 24 * 1024 * 1024
    size = journal(acme).entry(1).path.stat().st_size
    assert size / 100_000 < 250


def test_lines_are_json(acme: Partner) -> None:
    """A person can read it when nothing else is left."""
    acme.freeze("A.csv", beside=("manifest", "trigger"))
    acme.deliver()
    lines = [json.loads(line) for line in journal(acme).entry(1).path.read_text().splitlines()]
    assert lines[0]["file"]["name"] == "A.csv"
    assert [part["name"] for part in lines[0]["file"]["companions"]] == ["A.csv.manifest.json", "A.csv.trg"]
    assert lines[-1]["state"] == "SENT"


def _add_records(acme: Partner, file_id: int, count: int) -> None:
    with acme.ledger.transaction() as transaction:
        feeds.feed_row(transaction, FEED)
        for start in range(0, count, 5000):
            transaction.execute(
                sa.insert(exported_record),
                [
                    {
                        "feed": FEED, "record_id": f"{300_000_000_000_000 + number}", "version": 1, "change": "NEW",
                        "state": "PENDING", "content_sha256": f"{number:064x}", "extract_id": 1, "read_at": NOON,
                        "file_id": file_id, "position": number, "created_at": NOON,
                    }
                    for number in range(start, min(count, start + 5000))
                ],
            )  # fmt: skip
