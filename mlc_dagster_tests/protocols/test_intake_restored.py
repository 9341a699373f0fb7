"""G6 for files: what was received since the backup, and is gone from the folder, is told of and read again."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.archive import LocalArchive, file_sha256
from mlc_dagster.ledger.files import Seen
from mlc_dagster.ledger.received_journal import Noted
from mlc_dagster.ledger.schema import feed
from mlc_dagster.ledger.schema_retention import erased_payload
from mlc_dagster.ledger.stranded import Unreferred, find_unreferred
from mlc_dagster.stampli.intake.recovering import NotRecovered, Recovered, recover_files
from mlc_dagster_tests.protocols.intake import (
    bill,
    deliver,
    drop,
    events,
    file_states,
    files,
    posted_numbers,
    verdict,
    whole_equation,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal
from mlc_dagster_tests.stampli.builders import file_name, invoice_csv
from mlc_dagster_tests.stampli.builders_shapes import manifest_name, manifest_of, split_parts

APPROVAL = Approval(by="Ada", approved_by="Grace", reason="restored from the backup of last night")
_HOURS = 7_200
"""Seconds until nothing that is in the archive counts as on its way."""


@pytest.fixture
def deleting(flow: Rehearsal) -> Rehearsal:
    """The flow, with files deleted from the folder once they are processed."""
    flow.change_config({"stampli": {"after_read": "delete"}})
    return flow


def backup(flow: Rehearsal) -> Callable[[], None]:
    """Keep the ledger as it is; what restores it."""
    path = flow.folder / "data" / "ledger.sqlite"
    kept = sqlite3.connect(":memory:")

    def copy(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
        source.backup(target)

    with sqlite3.connect(path) as source:
        copy(source, kept)

    def restore() -> None:
        with sqlite3.connect(path) as target:
            copy(kept, target)
        flow.clock.advance(_HOURS)

    return restore


def found_in(flow: Rehearsal) -> Unreferred:
    inbound = flow.inbound
    with flow.ledger.reading() as reading:
        return find_unreferred(reading, inbound.archive, inbound.received_journal)


def recover(flow: Rehearsal, *hashes: str, name: str | None = None) -> Recovered:
    return recover_files(flow.inbound, APPROVAL, hashes or None, name=name)


def named(flow: Rehearsal) -> list[str]:
    """Names of the files that are received and not known."""
    return [each.noted.seen.path.rpartition("/")[2] for each in found_in(flow).files]


def in_folder(flow: Rehearsal) -> list[str]:
    return sorted(path.name for path in flow.outbound.iterdir())


def prove_once(flow: Rehearsal, *numbers: str) -> None:
    """Fusion's books hold exactly these, each once, and the ledger accounts for all that it received.

    What was posted since the backup is found there: no intent is left that would make it ours.
    """
    assert sorted(posted_numbers(flow)) == sorted(numbers)
    assert flow.fusion.books.duplicates() == []
    found = whole_equation(flow)
    assert found.faults == []
    assert found.count("created") + found.count("already_in_fusion") == len(numbers)


def test_g6_files_put_away_since_the_backup_are_read_again(deleting: Rehearsal) -> None:
    """One invoice was posted, one parked: the first is found there, the second must not be in no book at all."""
    deliver(deleting, 1, bill("1", "10.00"))
    restore = backup(deleting)
    deliver(deleting, 2, bill("2", "20.00", vendor_id="99999"))
    deliver(deleting, 3, bill("3", "30.00"))
    assert in_folder(deleting) == []
    assert found_in(deleting) == Unreferred()
    restore()
    assert deleting.process() == []
    assert named(deleting) == [file_name(2), file_name(3)]
    done = recover(deleting)
    assert [path.rpartition("/")[2] for path in done.files] == [file_name(2), file_name(3)]
    assert len(events(deleting, "file.recovered")) == 2
    deleting.process()
    assert file_states(deleting) == ["READ", "READ", "READ"]
    assert verdict(deleting, "2") == "PARKED VENDOR_UNKNOWN"
    assert verdict(deleting, "3") == "ALREADY_IN_FUSION"
    assert whole_equation(deleting).count("parked") == 1
    prove_once(deleting, "N-1", "N-3")
    assert found_in(deleting) == Unreferred()


def test_g6_a_delivery_comes_back_with_its_files(deleting: Rehearsal) -> None:
    """The entry holds the whole delivery; files of it that still lie there must not wait for a manifest for ever."""
    deleting.change_config({"stampli": {"profile": "stampli_split_eu", "after_read": "leave"}})
    restore = backup(deleting)
    parts = split_parts(bill("1", "10.00", "5.50"))
    for name, content in parts.items():
        deleting.drop(name, content)
    manifest = deleting.drop(manifest_name(), manifest_of(parts))
    deleting.process()
    manifest.unlink()
    restore()
    assert len(recover(deleting).files) == 1
    deleting.process()
    assert sorted(file_states(deleting)) == ["PART", "PART", "READ"]
    assert deleting.poll().unready == ()
    prove_once(deleting, "N-1")


def test_g6_versions_of_one_name_come_back_in_their_order(deleting: Rehearsal) -> None:
    """The later version supersedes the earlier one, as it did before."""
    restore = backup(deleting)
    name = drop(deleting, 1, bill("1", "10.00", vendor_id="99999"))
    deleting.process()
    drop(deleting, 1, bill("1", "11.00", vendor_id="99998"), name=name)
    deleting.process()
    restore()
    assert len(recover(deleting).files) == 2
    deleting.process()
    assert [(row["version"], row["state"]) for row in files(deleting)] == [(1, "READ"), (2, "READ")]
    assert whole_equation(deleting).count("superseded") == 1
    prove_once(deleting)


def test_g6_an_older_version_does_not_overtake_one_that_was_received_since(deleting: Rehearsal) -> None:
    """Taken in again it would count as the latest version of its name; under a name of its own it may be read."""
    restore = backup(deleting)
    name = drop(deleting, 1, bill("1", "10.00", vendor_id="99999"))
    deleting.process()
    restore()
    drop(deleting, 1, bill("1", "12.00"), name=name)
    deleting.process()
    done = recover(deleting)
    assert done.files == ()
    assert "counts as newer" in done.left[0]
    (left,) = found_in(deleting).files
    assert recover(deleting, left.noted.sha256[:12], name=file_name(7)).files == (f"/outbound/{file_name(7)}",)
    deleting.process()
    prove_once(deleting, "N-1")


def test_g6_an_entry_that_nothing_names_is_listed_and_taken_under_a_name_that_is_given(deleting: Rehearsal) -> None:
    """Received before there was a journal, or its line was lost: the bytes are there, and no name is guessed."""
    restore = backup(deleting)
    deliver(deleting, 1, bill("1", "10.00", vendor_id="99999"))
    restore()
    deleting.inbound.received_journal.path.unlink()
    done = recover(deleting)
    ((sha256, _),) = done.nameless.items()
    assert done.files == ()
    with pytest.raises(NotRecovered, match="--as NAME"):
        recover(deleting, sha256)
    with pytest.raises(NotRecovered, match="no name of a file of profile"):
        recover(deleting, sha256, name="../invoices.csv")
    assert recover(deleting, sha256, name=file_name(1)).files == (f"/outbound/{file_name(1)}",)
    deleting.process()
    assert verdict(deleting, "1") == "PARKED VENDOR_UNKNOWN"


def test_g6_a_torn_line_of_the_journal_swallows_no_other(deleting: Rehearsal) -> None:
    """A power cut while a receipt was noted: that file was not received, the next ones are noted whole."""
    restore = backup(deleting)
    deliver(deleting, 1, bill("1", "10.00"))
    journal = deleting.inbound.received_journal.path
    with journal.open("ab") as stream:
        stream.write(b'{"sha256":"ab","path":"/outb')
    deliver(deleting, 2, bill("2", "20.00"))
    restore()
    assert named(deleting) == [file_name(1), file_name(2)]
    recover(deleting)
    deleting.process()
    prove_once(deleting, "N-1", "N-2")


def at_once(work: Callable[[], Recovered]) -> list[Recovered]:
    """What two threads get that begin together."""
    both = threading.Barrier(2)
    done: list[Recovered] = []

    def one() -> None:
        both.wait(30)
        done.append(work())

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 2
    return done


def test_g6_two_recoveries_at_once_take_each_file_in_once(deleting: Rehearsal) -> None:
    """Two people at two terminals after a bad night."""
    restore = backup(deleting)
    deliver(deleting, 1, bill("1", "10.00"))
    deliver(deleting, 2, bill("2", "20.00", vendor_id="99999"))
    restore()
    done = at_once(lambda: recover_files(deleting.inbound, APPROVAL))
    assert sorted(path for each in done for path in each.files) == [
        f"/outbound/{file_name(1)}",
        f"/outbound/{file_name(2)}",
    ]
    assert len(files(deleting)) == 2
    deleting.process()
    prove_once(deleting, "N-1")


def test_g6_two_recoveries_at_once_on_postgresql(postgres_url: str, tmp_path: Path) -> None:
    """There two transactions do not take turns by themselves."""
    with rehearsal(tmp_path, ledger_url=postgres_url) as flow:
        flow.open_feed()
        inbound = flow.inbound
        for sequence in range(1, 6):
            source = tmp_path / file_name(sequence)
            source.write_bytes(invoice_csv(bill(str(sequence), "10.00")))
            sha256 = file_sha256(source)
            inbound.archive.put(source, sha256)
            seen = Seen(f"/outbound/{source.name}", source.stat().st_size, 1_700_000_000)
            inbound.received_journal.note(Noted(sha256, seen, flow.clock()))
        flow.clock.advance(_HOURS)
        done = at_once(lambda: recover_files(inbound, APPROVAL))
        assert sorted(len(each.files) for each in done) == [0, 5]
        assert file_states(flow) == ["RECEIVED"] * 5


def test_g6_erased_files_are_not_offered(deleting: Rehearsal) -> None:
    """Neither one whose row the restored ledger has, nor one that was erased since: its bytes are gone by a rule."""
    deliver(deleting, 1, bill("1", "10.00"))
    (row,) = files(deleting)
    with deleting.ledger.transaction() as transaction:
        transaction.execute(
            sa.insert(erased_payload).values(
                kind="source_files", item=str(row["id"]), name=row["path"], sha256=row["sha256"], bytes=row["size"],
                rule="retention.source_files: 1y", erased_at=transaction.now,
            )
        )  # fmt: skip
    restore = backup(deleting)
    deliver(deleting, 2, bill("2", "20.00"))
    archive = deleting.inbound.archive
    restore()
    assert archive.erase(files_hash(deleting, 2), "erased by a rule", unused_since=deleting.clock())
    assert found_in(deleting) == Unreferred()
    assert recover(deleting).files == ()


def files_hash(flow: Rehearsal, sequence: int) -> str:
    """SHA-256 of the file with this number, as the journal has it."""
    (sha256,) = {n.sha256 for n in flow.inbound.received_journal.entries() if n.seen.path.endswith(file_name(sequence))}
    return sha256


def test_g6_bytes_that_are_gone_too_are_told(deleting: Rehearsal) -> None:
    """The archive was restored as well: only the partner has the file now."""
    restore = backup(deleting)
    deliver(deleting, 1, bill("1", "10.00"))
    deleting.inbound.archive.path(files_hash(deleting, 1)).unlink()
    restore()
    assert recover(deleting).lost == (f"/outbound/{file_name(1)}",)


def test_g6_what_may_be_on_its_way_is_left_and_told(deleting: Rehearsal) -> None:
    """Between archive and commit an entry looks the same; taken in twice it would be a version that never was."""
    restore = backup(deleting)
    deliver(deleting, 1, bill("1", "10.00"))
    restore()
    deleting.clock.advance(-_HOURS)
    done = recover(deleting)
    assert done.files == ()
    assert done.later is not None
    assert "ask again after" in done.later


def test_g6_a_damaged_entry_is_left_and_told(deleting: Rehearsal) -> None:
    """Half an invoice file must not be read for a whole one; the others go on."""
    restore = backup(deleting)
    deliver(deleting, 1, bill("1", "10.00"))
    deliver(deleting, 2, bill("2", "20.00"))
    place: Path = deleting.inbound.archive.path(files_hash(deleting, 1))
    place.chmod(0o640)
    place.write_bytes(b"other bytes")
    restore()
    done = recover(deleting)
    assert done.files == (f"/outbound/{file_name(2)}",)
    assert "holds other bytes" in done.left[0]


def test_g6_a_feed_that_nobody_opened_takes_nothing_in(deleting: Rehearsal) -> None:
    """With no backup at all nothing would run; and the first contact comes first."""
    restore = backup(deleting)
    deliver(deleting, 1, bill("1", "10.00"))
    restore()
    with deleting.ledger.transaction() as transaction:
        transaction.execute(sa.update(feed).values(opened_at=None))
    with pytest.raises(NotRecovered, match="mlc files baseline"):
        recover(deleting)


def test_g6_a_file_that_lies_there_again_is_not_read_twice(deleting: Rehearsal) -> None:
    """Somebody took it back from the partner's archive folder, and somebody else recovers it."""
    restore = backup(deleting)
    rows = bill("1", "10.00", vendor_id="99999")
    deliver(deleting, 1, rows)
    restore()
    recover(deleting)
    deleting.drop(file_name(1), invoice_csv(rows))
    deleting.process()
    deleting.process()
    assert sorted(file_states(deleting)) == ["READ", "SAME_BYTES"]
    assert whole_equation(deleting).count("parked") == 1
    assert posted_numbers(deleting) == []
    assert isinstance(deleting.inbound.archive, LocalArchive)
