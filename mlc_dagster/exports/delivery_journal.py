"""The delivery journal: what left for a partner, on our disk and outside the ledger's database.

One file of JSON lines per exported file, ``<data_dir>/journal/<feed>/<sequence>.jsonl``: first all that the ledger has
of it, durable before its first byte is sent, then each attempt and how it ended, appended. Each line follows the
ledger's own commit and precedes the act, so a journal that is ahead of the ledger means that the ledger was restored.
Reading and writing only; see ``guarding``.
"""

import datetime as dt
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mlc_dagster.exports.outbound import Outbound
from mlc_dagster.ledger import sent_files
from mlc_dagster.ledger.archive import sync_folder
from mlc_dagster.ledger.database import Ledger, LedgerError, Row
from mlc_dagster.ledger.exported import FileState
from mlc_dagster.ledger.identity import ledger_id

_TAIL = 32_768
"""Bytes at the end of a file among which its last attempt and state stand; their lines are far shorter."""
_RECORDS_END = b'{"records":'
_LONGEST_TEXT = 500
_ENDED = ("state", "ended_at", "reason", "server_size", "server_mtime", "verified_by", "server_key")


class JournalDamaged(LedgerError):
    """A file of the journal is not what was written."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        super().__init__(f"delivery journal {path}: {text}; restore the file from the backup of data_dir")


@dataclass(frozen=True)
class Attempt:
    """The latest attempt that is noted, and how far it came."""

    number: int
    """From 1, as the ledger counts them."""
    step: FileState
    """UPLOADING, or RENAMING from when it may have its name."""


@dataclass(frozen=True)
class Entry:
    """One exported file as the journal has it, without its records."""

    path: Path
    ledger: str
    """Id of the ledger that it was written beside."""
    feed: str
    source: str
    file: Mapping[str, Any]
    """Columns of the ledger; times as text."""
    serials: Mapping[str, list[int]]
    """Of its control numbers, by level."""
    extracts: Mapping[str, Mapping[str, Any]]
    """What its records were read in, by the ledger's number."""
    end: Mapping[str, Any] | None
    """The last state that was noted; None while there is none, and once an attempt was begun after it."""
    attempt: Attempt | None
    """None where none is noted: it was entered afterwards, or by an earlier version."""

    @property
    def sequence(self) -> int:
        return int(self.file["sequence"])

    @property
    def state(self) -> FileState | None:
        return None if self.end is None else FileState(self.end["state"])

    def temporaries(self) -> list[str]:
        """Temporary names that were noted before anything was written under them, in order."""
        return _temporaries_in(self.path)

    def records(self) -> Iterator[list[Any]]:
        """Its record versions, ``sent_files.RECORD_FIELDS`` each; raises JournalDamaged where they are not whole."""
        digest = hashlib.sha256()
        count = 0
        with self.path.open("rb") as stream:
            stream.readline()
            for line in stream:
                found = parsed_line(line)
                if isinstance(found, list):
                    digest.update(line)
                    count += 1
                    yield cast("list[Any]", found)
                    continue
                if not isinstance(found, dict) or found != {"records": count, "sha256": digest.hexdigest()}:
                    raise JournalDamaged(self.path, f"its records are not whole after line {count + 1}")
                return
        raise JournalDamaged(self.path, "it ends before its records do")


class DeliveryJournal:
    """One feed's journal. Written by the run that holds the feed."""

    def __init__(self, outbound: Outbound, feed: str) -> None:
        self.feed = feed
        self.folder = journal_folder(outbound) / feed
        self._ledger: Ledger = outbound.ledger

    def begin(self, file_id: int) -> None:
        """Durably enter a file that the ledger has as begun; one that is there stays.

        Raises:
            OSError: our disk refused.
        """
        with self._ledger.transaction() as transaction:
            identity = ledger_id(transaction)
        with self._ledger.reading() as reading:
            row = sent_files.file_of(reading, file_id)
            place = self._place(row["sequence"])
            if place.exists():
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=".incoming-")
            temporary = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as target:
                    head = {"journal": 1, "ledger": identity, **sent_files.description(reading, row)}
                    target.write(_line(head))
                    digest = hashlib.sha256()
                    count = 0
                    for record in sent_files.iter_records(reading, file_id):
                        line = _line(record)
                        digest.update(line)
                        count += 1
                        target.write(line)
                    target.write(_line({"records": count, "sha256": digest.hexdigest()}))
                    target.flush()
                    os.fsync(target.fileno())
                temporary.replace(place)
            finally:
                temporary.unlink(missing_ok=True)
        sync_folder(self.folder)

    def step(self, file: Row) -> None:
        """Durably note the attempt that the ledger has the file in, before it is acted on.

        Args:
            file: as the ledger has it, UPLOADING or RENAMING; it is entered.

        Raises:
            OSError: our disk refused.
        """
        place = self._place(file["sequence"])
        now = Attempt(int(file["attempts"]), FileState(file["state"]))
        if _tail_of(place)[0] != now:
            append_line(place, {"attempt": now.number, "step": str(now.step), "temp_name": file["temp_name"]})

    def end(self, file: Row) -> None:
        """Durably note the state that the ledger has the file in; nothing where it is the last that was noted.

        Raises:
            OSError: our disk refused.
        """
        place = self._place(file["sequence"])
        noted = _tail_of(place)[1]
        if noted is None or noted["state"] != file["state"]:
            append_line(place, {name: _plain(file[name]) for name in _ENDED})

    def temporary(self, sequence: int, path: str) -> None:
        """Durably note a temporary name of one of its companions, or of a file that is sent once more.

        Nothing of a file that is not entered: what is not noted is never taken for ours.

        Raises:
            OSError: our disk refused.
        """
        place = self._place(sequence)
        if not place.exists():
            return
        attempt, end = _tail_of(place)
        if attempt is None or end is not None:
            append_line(place, {"temporary": path})
            return
        # The attempt stays the last that is noted, however many companions there are.
        append_line(place, {"attempt": attempt.number, "step": str(attempt.step), "temp_name": path})

    def temporaries(self, sequence: int) -> list[str]:
        """Temporary names that are noted of a file and its companions, in order; none where it is not entered."""
        return _temporaries_in(self._place(sequence)) if self.has(sequence) else []

    def last(self) -> int:
        """The highest sequence number that is entered; 0 for none."""
        return max(self.sequences(), default=0)

    def first(self) -> Entry | None:
        """The earliest file that is entered; None for none."""
        return next((self.entry(sequence) for sequence in self.sequences()), None)

    def sequences(self) -> list[int]:
        """Sequence numbers that are entered, in order."""
        return sorted(self._numbers())

    def _numbers(self) -> Iterator[int]:
        with suppress(FileNotFoundError), os.scandir(self.folder) as found:
            for entry in found:
                number, dot, ending = entry.name.partition(".")
                if (dot, ending) == (".", "jsonl") and number.isdigit():
                    yield int(number)

    def has(self, sequence: int) -> bool:
        """Whether the file is entered."""
        return self._place(sequence).exists()

    def entry(self, sequence: int) -> Entry:
        """What is entered of a file; raises JournalDamaged."""
        path = self._place(sequence)
        with path.open("rb") as stream:
            head = parsed_line(stream.readline())
        known = cast("dict[str, Any]", head) if isinstance(head, dict) else {}
        if known.get("journal") != 1:
            raise JournalDamaged(path, "its first line is not that of a delivery journal")
        attempt, end = _tail_of(path)
        return Entry(
            path=path,
            ledger=known["ledger"],
            feed=known["feed"],
            source=known["source"],
            file=known["file"],
            serials=known["serials"],
            extracts=known["extracts"],
            end=end,
            attempt=attempt,
        )

    def _place(self, sequence: int) -> Path:
        return self.folder / f"{sequence:08d}.jsonl"


def journal_folder(outbound: Outbound) -> Path:
    """Where the journals of all feeds are."""
    return outbound.settings.data_path / "journal"


def journalled_feeds(outbound: Outbound) -> list[str]:
    """Feeds that have a journal, also those that mlc.yaml no longer has."""
    root = journal_folder(outbound)
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def append_line(path: Path, said: Mapping[str, Any]) -> None:
    """Durably add a line to a file of the journal that is there; raises OSError."""
    with path.open("r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 1))
        # After a power cut in the middle of a line: that one counts for nothing.
        broken = stream.read(1) not in (b"\n", b"")
        stream.write((b"\n" if broken else b"") + _line(said))
        stream.flush()
        os.fsync(stream.fileno())


def _tail_of(path: Path) -> tuple[Attempt | None, dict[str, Any] | None]:
    """The last attempt, and the last state that was noted since it was begun."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _TAIL))
        lines = stream.read().splitlines(keepends=True)
    end: dict[str, Any] | None = None
    for line in reversed(lines):
        found = parsed_line(line) if line.endswith(b"\n") else None
        if isinstance(found, list) or (isinstance(found, dict) and "records" in found):
            break
        if not isinstance(found, dict):
            continue
        said = cast("dict[str, Any]", found)
        if "attempt" in said:
            return Attempt(int(said["attempt"]), FileState(said["step"])), end
        if "state" in said and end is None:
            end = said
    return None, end


def _temporaries_in(path: Path) -> list[str]:
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        back = _TAIL
        while True:
            # From the end, for its records may be many.
            stream.seek(max(0, size - back))
            tail = stream.read()
            at = tail.find(b"\n" + _RECORDS_END)
            if at >= 0 or back >= size:
                break
            back *= 4
    found: dict[str, None] = {}
    for line in tail[at + 1 :].splitlines(keepends=True):
        said = parsed_line(line) if line.endswith(b"\n") else None
        if isinstance(said, dict):
            known = cast("dict[str, Any]", said)
            name = known.get("temporary", known.get("temp_name"))
            if isinstance(name, str):
                found[name] = None
    return list(found)


def parsed_line(line: bytes) -> object:
    """What a line says; None for one that was cut short."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return value[:_LONGEST_TEXT] if isinstance(value, str) else value
