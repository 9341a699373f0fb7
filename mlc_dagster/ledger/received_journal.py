"""The journal of receipts: which file the archive's bytes were, on our disk and outside the ledger's database.

One line of JSON per file that was put into the archive, durable before the ledger says that we have it, so that the
bytes can be read again when the ledger is restored from a backup that is older. Reading and writing only; see
``stranded`` for what it shows.
"""

import datetime as dt
import fcntl
import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mlc_dagster.ledger.archive import sync_folder
from mlc_dagster.ledger.files import Seen
from mlc_dagster.settings import Settings

_HEAD = b'{"sha256":"'


@dataclass(frozen=True)
class Noted:
    """One file as it was received."""

    sha256: str
    """Of its bytes in the archive."""
    seen: Seen
    """As it stood in the folder."""
    at: dt.datetime
    """When it was received, UTC."""
    parts: tuple[Seen, ...] = ()
    """Of a manifest: the files that it names, which are in the same entry."""


class ReceivedJournal:
    """A file of JSON lines that is only ever appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, noted: Noted) -> None:
        """Durably add a line; raises OSError."""
        if not self.path.parent.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            sync_folder(self.path.parent.parent)
        new = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            # Runs of several windows receive at once.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            # A line that a power cut left unfinished must not swallow the next one.
            cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            left = memoryview((b"\n" if cut else b"") + _line(noted))
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            sync_folder(self.path.parent)

    def entries(self, *, without: Collection[str] = ()) -> Iterator[Noted]:
        """All lines in their order but those of hashes ``without``; none without a file.

        A line that was cut short or changed counts for nothing.
        """
        try:
            stream = self.path.open("rb")
        except FileNotFoundError:
            return
        with stream:
            for line in stream:
                # Reading a line as JSON takes far longer than this, and nearly all are of known files.
                if line.startswith(_HEAD) and line[len(_HEAD) : len(_HEAD) + 64].decode(errors="replace") in without:
                    continue
                if (noted := _parsed(line)) is not None:
                    yield noted


def received_journal(settings: Settings) -> ReceivedJournal:
    """The journal of a configuration, beside those of deliveries."""
    return ReceivedJournal(settings.data_path / "journal" / "received.jsonl")


def _line(noted: Noted) -> bytes:
    said: dict[str, Any] = {
        "sha256": noted.sha256,
        "path": noted.seen.path,
        "size": noted.seen.size,
        "mtime": noted.seen.mtime,
        "at": noted.at.isoformat(),
    }
    if noted.parts:
        said["parts"] = [[part.path, part.size, part.mtime] for part in noted.parts]
    # Escaped, so that a name of whatever bytes is a line of its own and can be written.
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def _parsed(line: bytes) -> Noted | None:
    try:
        said = cast("dict[str, Any]", json.loads(line))
        return Noted(
            sha256=str(said["sha256"]),
            seen=Seen(str(said["path"]), said["size"], said["mtime"]),
            at=dt.datetime.fromisoformat(said["at"]).astimezone(dt.UTC),
            parts=tuple(Seen(str(path), size, mtime) for path, size, mtime in said.get("parts", ())),
        )
    except (ValueError, KeyError, TypeError):
        return None
