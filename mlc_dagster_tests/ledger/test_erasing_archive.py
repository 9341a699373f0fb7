"""Erasing an archive entry: its bytes are gone and it says why, unless somebody needs them in that moment."""

import datetime as dt
import hashlib
import os
from pathlib import Path

import pytest

from mlc_dagster.ledger.archive import ArchiveDamaged, LocalArchive, PayloadErased

BYTES = b"company,amount\n"
SHA = hashlib.sha256(BYTES).hexdigest()
TOLD = "erased on 2033-01-02 by the rule retention.source_files: 7y"


@pytest.fixture
def archive(archive_root: Path) -> LocalArchive:
    return LocalArchive(archive_root)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_bytes(BYTES)
    return path


def later() -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=5)


def test_an_erased_entry_says_when_and_why(archive: LocalArchive, source: Path) -> None:
    """Told as damaged, somebody would bring it back from a backup."""
    archive.put(source, SHA)
    assert archive.erase(SHA, TOLD, unused_since=later())
    with pytest.raises(PayloadErased, match=r"erased on 2033-01-02 by the rule.*nothing is damaged") as gone:
        archive.path(SHA)
    assert isinstance(gone.value, ArchiveDamaged)
    assert "backup" not in str(gone.value)
    assert archive.stat(SHA) is None
    assert list(archive.entries()) == []


def test_one_that_was_just_used_stays(archive: LocalArchive, source: Path) -> None:
    """Its bytes came again, and the ledger may learn of it only after they were removed."""
    archive.put(source, SHA)
    old = dt.datetime.now(dt.UTC) - dt.timedelta(days=400)
    os.utime(archive.path(SHA), (old.timestamp(), old.timestamp()))
    archive.put(source, SHA)
    assert not archive.erase(SHA, TOLD, unused_since=dt.datetime.now(dt.UTC) - dt.timedelta(days=1))
    assert archive.path(SHA).read_bytes() == BYTES


def test_bytes_that_come_again_are_there_again(archive: LocalArchive, source: Path) -> None:
    """A file that is sent once more after it was erased is a new one, with a period of its own."""
    archive.put(source, SHA)
    archive.erase(SHA, TOLD, unused_since=later())
    archive.put(source, SHA)
    assert archive.path(SHA).read_bytes() == BYTES
    archive.path(SHA).unlink()
    with pytest.raises(ArchiveDamaged, match="is missing"):
        archive.path(SHA)


def test_an_erasure_that_died_in_between_is_ended_by_the_next(archive: LocalArchive, source: Path) -> None:
    """Killed after the entry was put aside, and before it was known that nobody uses it."""
    archive.put(source, SHA)
    place = archive.path(SHA)
    place.rename(place.with_name(f".leaving-{place.name}"))
    assert not archive.erase(SHA, TOLD, unused_since=dt.datetime.now(dt.UTC) - dt.timedelta(days=1))
    assert archive.path(SHA).read_bytes() == BYTES
    assert archive.erase(SHA, TOLD, unused_since=later())
    assert [path.name for path in place.parent.iterdir()] == [f".erased-{place.name}"]
