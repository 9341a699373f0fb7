"""The journal of receipts: durable, private, whole line by line whoever writes at once."""

import datetime as dt
import multiprocessing
import os
from pathlib import Path

import pytest

from mlc_dagster.ledger import received_journal as journal_module
from mlc_dagster.ledger.files import Seen
from mlc_dagster.ledger.received_journal import Noted, ReceivedJournal

AT = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)


def noted(number: int, path: str = "/outbound/a.csv", *parts: Seen) -> Noted:
    return Noted(f"{number:064x}", Seen(path, number, 1_700_000_000), AT, parts)


@pytest.fixture
def journal(tmp_path: Path) -> ReceivedJournal:
    return ReceivedJournal(tmp_path / "data" / "journal" / "received.jsonl")


def test_what_is_noted_is_read_back(journal: ReceivedJournal) -> None:
    """Also names and times that are unknown or odd, and the files of a delivery."""
    said = [
        noted(1),
        noted(2, '/out "bound"/Ünïcode 请\udc80.csv'),
        noted(3, "/outbound/m.xml", Seen("/outbound/x.csv", None, None), Seen("/outbound/y.csv", 5, 6)),
    ]
    for each in said:
        journal.note(each)
    assert list(journal.entries()) == said


def test_lines_of_known_files_are_left_out(journal: ReceivedJournal) -> None:
    """After a restore a few of very many are looked for."""
    for number in range(4):
        journal.note(noted(number))
    assert list(journal.entries(without={noted(0).sha256, noted(2).sha256})) == [noted(1), noted(3)]


def test_a_journal_that_is_not_there_is_empty(journal: ReceivedJournal) -> None:
    """Before the first file."""
    assert list(journal.entries()) == []


def test_only_its_owner_reads_it(journal: ReceivedJournal) -> None:
    """Names of suppliers stand in names of files."""
    journal.note(noted(1))
    assert journal.path.stat().st_mode & 0o777 == 0o600
    assert journal.path.parent.stat().st_mode & 0o077 == 0


def test_a_link_in_its_place_is_not_followed(journal: ReceivedJournal, tmp_path: Path) -> None:
    """Whoever may write to the folder must not have another file of ours appended to."""
    journal.path.parent.mkdir(parents=True)
    journal.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        journal.note(noted(1))


@pytest.mark.parametrize(
    "torn", [b'{"sha256":"ab","pa', b"\xff\xfe\x00", b"[]", b'"text"', b'{"sha256":"ab"}', b"null"]
)
def test_a_line_that_is_none_counts_for_nothing(journal: ReceivedJournal, torn: bytes) -> None:
    """After a power cut; what is noted before and behind it stays."""
    journal.note(noted(1))
    with journal.path.open("ab") as stream:
        stream.write(torn)
    journal.note(noted(2))
    assert list(journal.entries()) == [noted(1), noted(2)]


def test_a_line_is_on_the_disk_before_it_is_said_to_be(
    journal: ReceivedJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file leaves the sender's folder soon after: line first, then the folder that holds the file's name."""
    order: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        order.append("folder" if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir() else "file")
        real(descriptor)

    monkeypatch.setattr(journal_module.os, "fsync", fsync)
    journal.path.parent.mkdir(parents=True)
    journal.note(noted(1))
    journal.note(noted(2))
    assert order == ["file", "folder", "file"]


def _write(path: Path, first: int) -> None:
    journal = ReceivedJournal(path)
    for number in range(first, first + 100):
        journal.note(noted(number))


def test_processes_that_write_at_once_tear_no_line(journal: ReceivedJournal) -> None:
    """Several windows are received at the same time."""
    spawned = multiprocessing.get_context("spawn")
    writers = [spawned.Process(target=_write, args=(journal.path, first)) for first in (0, 100, 200)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert sorted(each.seen.size or 0 for each in journal.entries()) == list(range(300))
