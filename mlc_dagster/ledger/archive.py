"""The archive: bytes kept by their SHA-256, written once and durable before the ledger says that we have them.

A small port (``Archive``) with a local folder behind it, so that several hosts can share another store later.
"""

import datetime as dt
import errno
import hashlib
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from mlc_dagster.expected import Expected, FailureKind


class ArchiveDamaged(Expected):
    """Stored bytes no longer have their hash, or are gone; restore the archive from its backup."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, sha256: str, text: str) -> None:
        self.sha256 = sha256
        super().__init__(f"archive entry {sha256}: {text}; restore the archive folder from its backup")


class PayloadErased(ArchiveDamaged):
    """The bytes were erased as the retention rules say. Nothing is damaged; whoever needs them cannot go on either."""

    def __init__(self, sha256: str, told: str) -> None:
        self.sha256 = sha256
        self.told = told
        Exception.__init__(
            self,
            f"archive entry {sha256} was {told}; its bytes are gone for good, and nothing is damaged: hash, size and "
            "name stay on record",
        )


@dataclass(frozen=True)
class Stored:
    sha256: str
    size: int
    """Bytes."""


class Archive(Protocol):
    """Content-addressed storage of whole files."""

    def put(self, source: Path, sha256: str) -> Stored:
        """Take the file's bytes in, durably; ``source`` stays. Known bytes are not stored twice."""
        ...

    def take(self, source: Path, sha256: str) -> Stored:
        """As ``put``, for a file of our own making that was hashed while it was written: ``source`` is gone after."""
        ...

    def path(self, sha256: str) -> Path:
        """A local file with these bytes, verified; raises ArchiveDamaged, of which PayloadErased is one."""
        ...

    def unverified(self, sha256: str) -> Path:
        """The same for those who hash all that they read; raises as ``path`` for one that is not there."""
        ...

    def stat(self, sha256: str) -> Stored | None: ...

    def entries(self) -> Iterator[Stored]: ...

    def unreferred(self, known: Collection[str], *, unused_since: dt.datetime) -> Iterator[Stored]:
        """Entries whose hash is not among ``known``, without those that somebody stored or used after the moment."""
        ...

    def erase(self, sha256: str, told: str, *, unused_since: dt.datetime) -> bool:
        """Remove the bytes for good; False, and they stay, when somebody stored or used them after ``unused_since``.

        ``told`` is what ``path`` says from then on. Bytes that are stored again later are there again.
        """
        ...


_BLOCK = 64 * 1024
"""Bytes copied at once; larger pieces cost page faults."""


class HashingFile:
    """A new file that knows the SHA-256 and the number of the bytes written to it; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = path.open("wb")
        self._digest = hashlib.sha256()
        self._marked = self._digest.copy()
        self.size = self._marked_size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stream.close()

    def write(self, block: bytes | bytearray | memoryview) -> int:
        """Append; the bytes are durable once an archive has taken the file."""
        self._digest.update(block)
        self.size += len(block)
        return self._stream.write(block)

    @property
    def sha256(self) -> str:
        """Of what was written so far, hex."""
        return self._digest.hexdigest()

    def close(self) -> None:
        self._stream.close()

    def mark(self) -> None:
        """Remember this place for ``resume``."""
        self._marked, self._marked_size = self._digest.copy(), self.size

    def resume(self) -> None:
        """Open the closed file at the marked place; what was written behind it is gone. Raises FileNotFoundError."""
        self._stream = self.path.open("r+b")
        self._stream.truncate(self._marked_size)
        self._stream.seek(self._marked_size)
        self._digest, self.size = self._marked.copy(), self._marked_size


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable (a rename is not, until its folder is)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LocalArchive:
    """An ``Archive`` in a folder: ``ab/cdef…`` by hash, files read-only."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _place(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256[2:]

    def put(self, source: Path, sha256: str) -> Stored:
        place = self._place(sha256)
        if not self._holds(place, sha256):
            place.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=place.parent, prefix=".incoming-")
            temporary = Path(name)
            try:
                digest = hashlib.sha256()
                with os.fdopen(descriptor, "wb") as target, source.open("rb") as stream:
                    while block := stream.read(_BLOCK):
                        digest.update(block)
                        target.write(block)
                    target.flush()
                    os.fsync(target.fileno())
                if digest.hexdigest() != sha256:
                    raise ArchiveDamaged(sha256, f"{source.name} changed while it was being archived")
                temporary.chmod(0o440)
                temporary.replace(place)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return self._kept(place, sha256)

    def take(self, source: Path, sha256: str) -> Stored:
        place = self._place(sha256)
        if not self._holds(place, sha256):
            place.parent.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as stream:
                os.fsync(stream.fileno())
            source.chmod(0o440)
            try:
                source.replace(place)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                # The archive lies on another file system.
                return self._moved(source, sha256)
        else:
            source.unlink()
        return self._kept(place, sha256)

    def _moved(self, source: Path, sha256: str) -> Stored:
        stored = self.put(source, sha256)
        source.unlink()
        return stored

    def _holds(self, place: Path, sha256: str) -> bool:
        """Whether the entry is there and whole: a damaged one is healed by the next file that brings its bytes."""
        if not place.exists() or file_sha256(place) != sha256:
            return False
        # Used again: an erasure that is under way sees it, or this sees that the entry is gone.
        try:
            os.utime(place)
        except OSError:
            return False
        return True

    def _kept(self, place: Path, sha256: str) -> Stored:
        _note_of(place).unlink(missing_ok=True)
        # Also for known bytes: whoever stored them may have died before this.
        sync_folder(place.parent)
        sync_folder(self.root)
        return Stored(sha256, place.stat().st_size)

    def path(self, sha256: str) -> Path:
        place = self.unverified(sha256)
        if file_sha256(place) != sha256:
            raise ArchiveDamaged(sha256, f"{place} holds other bytes")
        return place

    def unverified(self, sha256: str) -> Path:
        place = self._place(sha256)
        if not place.exists():
            with suppress(FileNotFoundError):
                raise PayloadErased(sha256, _note_of(place).read_text(encoding="utf-8"))
            raise ArchiveDamaged(sha256, f"{place} is missing")
        return place

    def stat(self, sha256: str) -> Stored | None:
        place = self._place(sha256)
        return Stored(sha256, place.stat().st_size) if place.exists() else None

    def entries(self) -> Iterator[Stored]:
        for place in sorted(self.root.glob("??/[0-9a-f]*")):
            yield Stored(place.parent.name + place.name, place.stat().st_size)

    def unreferred(self, known: Collection[str], *, unused_since: dt.datetime) -> Iterator[Stored]:
        # Names alone for those that are known: an archive of years has entries by the hundred thousand.
        for folder in sorted(self.root.glob("??")):
            with os.scandir(folder) as found:
                names = sorted(entry.name for entry in found if not entry.name.startswith("."))
            for name in names:
                place = folder / name
                if (sha256 := folder.name + name) not in known:
                    with suppress(FileNotFoundError):  # Erased meanwhile.
                        if place.stat().st_mtime < unused_since.timestamp():
                            yield Stored(sha256, place.stat().st_size)

    def erase(self, sha256: str, told: str, *, unused_since: dt.datetime) -> bool:
        place = self._place(sha256)
        aside = place.with_name(f".leaving-{place.name}")
        if aside.exists():
            # A process died while it looked once more.
            aside.replace(place)
        if not _older(place, unused_since):
            return False
        self._leave_note(place, told)
        with suppress(FileNotFoundError):
            place.replace(aside)
            # Once more, now that nobody can use it any longer without storing it anew.
            if not _older(aside, unused_since):
                aside.replace(place)
                _note_of(place).unlink(missing_ok=True)
                return False
            aside.unlink()
        sync_folder(place.parent)
        return True

    def _leave_note(self, place: Path, told: str) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=place.parent, prefix=".incoming-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as target:
            target.write(told)
            target.flush()
            os.fsync(target.fileno())
        Path(name).replace(_note_of(place))


def _note_of(place: Path) -> Path:
    """The file that says why an entry is not there."""
    return place.with_name(f".erased-{place.name}")


def _older(place: Path, moment: dt.datetime) -> bool:
    """True for an entry that was last stored or used before; also for one that is not there."""
    try:
        return place.stat().st_mtime < moment.timestamp()
    except FileNotFoundError:
        return True
