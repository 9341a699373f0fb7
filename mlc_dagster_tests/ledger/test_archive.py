"""The archive: bytes kept by their hash, whole or not at all."""

import datetime as dt
import errno
import hashlib
import os
from pathlib import Path

import pytest

from mlc_dagster.ledger import archive as archive_module
from mlc_dagster.ledger.archive import ArchiveDamaged, HashingFile, LocalArchive, Stored, file_sha256

BYTES = b"invoice,amount\n1,2.00\n"
SHA = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_bytes(BYTES)
    return path


@pytest.fixture
def archive(archive_root: Path) -> LocalArchive:
    return LocalArchive(archive_root)


def stored_files(archive: LocalArchive) -> list[Path]:
    return [path for path in archive.root.rglob("*") if path.is_file()]


def test_what_is_put_in_comes_out(archive: LocalArchive, source: Path) -> None:
    """The ledger's promise that a window is re-read from exactly those bytes rests on it."""
    assert archive.put(source, SHA) == Stored(SHA, len(BYTES))
    assert archive.path(SHA).read_bytes() == BYTES
    assert archive.stat(SHA) == Stored(SHA, len(BYTES))
    assert source.exists()


def test_the_same_bytes_are_kept_once(archive: LocalArchive, source: Path) -> None:
    """A run that died between the archive and the ledger puts them in again."""
    archive.put(source, SHA)
    before = archive.path(SHA).stat().st_ino
    assert archive.put(source, SHA) == Stored(SHA, len(BYTES))
    assert archive.path(SHA).stat().st_ino == before
    assert len(stored_files(archive)) == 1


@pytest.mark.parametrize("way", ["put", "take"])
def test_bytes_reach_the_disk_before_they_are_said_to_be_kept(
    archive: LocalArchive, source: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The ledger says "received" after it: file first, then its name, then the folders that hold the name."""
    order: list[str] = []
    real_fsync, real_replace = archive_module.os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        order.append("folder" if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir() else "file")
        real_fsync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        order.append("name")
        return real_replace(self, target)

    monkeypatch.setattr(archive_module.os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    getattr(archive, way)(source, SHA)
    assert order == ["file", "name", "folder", "folder"]


def test_bytes_that_changed_on_the_way_are_refused(archive: LocalArchive, source: Path) -> None:
    """The hash was taken at the download; other bytes must not be kept under it."""
    source.write_bytes(BYTES + b"more")
    with pytest.raises(ArchiveDamaged, match=r"in\.csv changed"):
        archive.put(source, SHA)
    assert archive.stat(SHA) is None
    assert stored_files(archive) == []


def test_a_full_disk_leaves_nothing_behind(
    archive: LocalArchive, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a file under the right name would be worse than none; half a file under another fills the disk for good."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archive_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        archive.put(source, SHA)
    assert stored_files(archive) == []


def test_damaged_bytes_are_detected(archive: LocalArchive, source: Path) -> None:
    """A window must never be re-read from something else than it was read from."""
    archive.put(source, SHA)
    place = archive.path(SHA)
    place.chmod(0o640)
    place.write_bytes(BYTES.replace(b"2.00", b"9.00"))
    with pytest.raises(ArchiveDamaged, match="other bytes") as damage:
        archive.path(SHA)
    assert damage.value.sha256 == SHA
    assert "backup" in str(damage.value)


def test_missing_bytes_are_detected(archive: LocalArchive) -> None:
    """The text names the place and the remedy."""
    with pytest.raises(ArchiveDamaged, match="is missing"):
        archive.path(SHA)
    assert archive.stat(SHA) is None


def test_good_bytes_heal_a_damaged_entry(archive: LocalArchive, source: Path) -> None:
    """Whoever brings the bytes again must not be told that they are safe when they are not."""
    archive.put(source, SHA)
    place = archive.path(SHA)
    place.chmod(0o640)
    place.write_bytes(b"")
    archive.put(source, SHA)
    assert archive.path(SHA).read_bytes() == BYTES


def test_stored_files_are_read_only(archive: LocalArchive, source: Path) -> None:
    """A slip of the hand in the data folder should not change evidence."""
    archive.put(source, SHA)
    assert archive.path(SHA).stat().st_mode & 0o777 == 0o440


def test_entries_lists_all_of_it(archive: LocalArchive, tmp_path: Path) -> None:
    """A check of the whole archive, and a copy of it, begin here; remains of a killed run are not part of it."""
    expected: set[str] = set()
    for n in range(5):
        path = tmp_path / f"{n}"
        path.write_bytes(bytes([n]))
        expected.add(archive.put(path, file_sha256(path)).sha256)
    (archive.root / SHA[:2]).mkdir(exist_ok=True)
    (archive.root / SHA[:2] / ".incoming-left").write_bytes(b"half")
    assert {entry.sha256 for entry in archive.entries()} == expected


def test_an_empty_file_can_be_kept(archive: LocalArchive, tmp_path: Path) -> None:
    """Zero bytes are bytes too."""
    path = tmp_path / "empty"
    path.touch()
    assert archive.put(path, file_sha256(path)).size == 0


def test_a_file_of_our_own_is_taken_not_copied(archive: LocalArchive, source: Path) -> None:
    """An extract of gigabytes is written once; the folder it was made in is left empty."""
    assert archive.take(source, SHA) == Stored(SHA, len(BYTES))
    assert archive.path(SHA).read_bytes() == BYTES
    assert archive.path(SHA).stat().st_mode & 0o777 == 0o440
    assert not source.exists()


def test_taking_known_bytes_keeps_the_entry_and_takes_the_file_away(archive: LocalArchive, source: Path) -> None:
    """A build that is repeated makes the same bytes again."""
    archive.put(source, SHA)
    before = archive.path(SHA).stat().st_ino
    assert archive.take(source, SHA) == Stored(SHA, len(BYTES))
    assert archive.path(SHA).stat().st_ino == before
    assert not source.exists()
    assert len(stored_files(archive)) == 1


def test_a_file_from_another_file_system_is_copied(
    archive: LocalArchive, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive may be a mounted share, and the scratch folder not."""
    real_replace = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if self == source:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return real_replace(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    assert archive.take(source, SHA) == Stored(SHA, len(BYTES))
    assert archive.path(SHA).read_bytes() == BYTES
    assert not source.exists()


def test_a_hashing_file_knows_what_was_written(tmp_path: Path) -> None:
    """Its hash and size go into the ledger without the file being read again."""
    with HashingFile(tmp_path / "made") as target:
        target.write(BYTES[:5])
        target.write(memoryview(BYTES)[5:])
    assert (target.sha256, target.size) == (SHA, len(BYTES))
    assert file_sha256(tmp_path / "made") == SHA


def test_entries_that_are_not_known_are_found_and_young_ones_left(archive: LocalArchive, tmp_path: Path) -> None:
    """What was stored or used lately may be on its way into the ledger; notes of erased entries are none."""
    hashes: list[str] = []
    for number in range(4):
        content = f"{number}".encode()
        path = tmp_path / f"{number}"
        path.write_bytes(content)
        hashes.append(hashlib.sha256(content).hexdigest())
        archive.put(path, hashes[-1])
    known, old, young, erased = hashes
    now = dt.datetime.now(dt.UTC)
    assert archive.erase(erased, "erased", unused_since=now + dt.timedelta(days=1))
    for sha256 in (known, old):
        os.utime(archive.path(sha256), (0, 0))
    assert list(archive.unreferred({known}, unused_since=now - dt.timedelta(minutes=1))) == [Stored(old, 1)]
    later = archive.unreferred({known}, unused_since=now + dt.timedelta(minutes=1))
    assert {stored.sha256 for stored in later} == {old, young}
