"""The archive: bytes kept by their SHA-256, written once and durable before the ledger says that we have them.

A small port (``Archive``) with a local folder behind it, so that several hosts can share another store later.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class ArchiveDamaged(Exception):
    """Stored bytes no longer have their hash, or are gone; restore the archive from its backup."""

    def __init__(self, sha256: str, text: str) -> None:
        self.sha256 = sha256
        super().__init__(f"archive entry {sha256}: {text}; restore the archive folder from its backup")


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

    def path(self, sha256: str) -> Path:
        """A local file with these bytes, verified; raises ArchiveDamaged."""
        ...

    def stat(self, sha256: str) -> Stored | None: ...

    def entries(self) -> Iterator[Stored]: ...


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
        # A damaged entry is healed by the next file that brings its bytes.
        if not place.exists() or file_sha256(place) != sha256:
            place.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=place.parent, prefix=".incoming-")
            temporary = Path(name)
            try:
                digest = hashlib.sha256()
                with os.fdopen(descriptor, "wb") as target, source.open("rb") as stream:
                    while block := stream.read(1 << 20):
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
        # Also for known bytes: whoever stored them may have died before this.
        sync_folder(place.parent)
        sync_folder(self.root)
        return Stored(sha256, place.stat().st_size)

    def path(self, sha256: str) -> Path:
        place = self._place(sha256)
        if not place.exists():
            raise ArchiveDamaged(sha256, f"{place} is missing")
        if file_sha256(place) != sha256:
            raise ArchiveDamaged(sha256, f"{place} holds other bytes")
        return place

    def stat(self, sha256: str) -> Stored | None:
        place = self._place(sha256)
        return Stored(sha256, place.stat().st_size) if place.exists() else None

    def entries(self) -> Iterator[Stored]:
        for place in sorted(self.root.glob("??/[0-9a-f]*")):
            yield Stored(place.parent.name + place.name, place.stat().st_size)
