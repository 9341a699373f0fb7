"""The file of an extract: one line of JSON per record, as it was read.

The content stands in its line exactly as its canonical bytes, with their SHA-256 beside it: recognising a record takes
neither decoding nor encoding, and a damaged line is found by hashing it. Lines are read one at a time.
"""

import datetime as dt
import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.fusion.records import (
    Content,
    Invoice,
    Journal,
    PurchaseOrder,
    Read,
    SupplierRecord,
    content_of,
    digest,
    status_of,
    told_status,
    write_canonical,
)
from mlc_dagster.ledger.archive import HashingFile, file_sha256


class ExtractDamaged(Expected):
    """A line of an extract is not what was written."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, path: Path, line: int, text: str) -> None:
        self.path = path
        self.line = line
        super().__init__(f"extract {path}, line {line}: {text}; restore the archive folder from its backup")


class StoredRead(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line: a record as it was read, its content still canonical bytes."""

    record_id: str
    fusion_id: int
    sha256: str
    last_update_date: dt.datetime | None = None
    creation_date: dt.datetime | None = None
    status: dict[str, Any] | None = None
    """``records.told_status``."""
    content: msgspec.Raw

    @property
    def canonical(self) -> bytes:
        return bytes(self.content)

    def read(self, source: str) -> Read:
        """The record, decoded."""
        return Read(
            source=source,
            record_id=self.record_id,
            fusion_id=self.fusion_id,
            content=content_of(source, self.content),
            last_update_date=self.last_update_date,
            creation_date=self.creation_date,
            status=status_of(source, self.status),
        )


_ENCODER = msgspec.json.Encoder(decimal_format="string")
_DECODER = msgspec.json.Decoder(StoredRead, strict=False)
_EMPTY = b"{}"
_BLOCK = 64 * 1024
"""Bytes read at once: a line may have megabytes."""
_NO_CONTENT = msgspec.Raw(_EMPTY)


def lines_of(content: Content) -> int:
    """How many lines a document has; a supplier's are its sites."""
    match content:
        case Journal() | Invoice() | PurchaseOrder():
            return len(content.lines)
        case SupplierRecord():
            return len(content.sites)


def fusion_id_of(content: Content) -> int:
    """Id of the record's top-level row in Fusion."""
    match content:
        case Journal():
            return content.batch_id
        case Invoice():
            return content.invoice_id
        case PurchaseOrder():
            return content.header_id
        case SupplierRecord():
            return content.supplier_id


class ExtractWriter:
    """Writes an extract's file; of a record that is added twice, the later reading stays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream = HashingFile(path)
        self._content = bytearray()
        """The record that is being written; its room is used again."""
        self._places: dict[str, tuple[int, str, int]] = {}
        """Line, hash and number of lines of each record."""
        self._dropped: set[int] = set()
        self._line = 0
        self._closed = False
        self.records = 0
        self.lines = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._stream.close()

    @property
    def sha256(self) -> str:
        """Of the finished file, hex."""
        return self._stream.sha256 if not self._dropped else file_sha256(self._path)

    def add(self, read: Read) -> str:
        """Append a record; SHA-256 of its canonical content."""
        content = self._content
        write_canonical(read.content, content)
        sha256 = digest(content)
        lines = lines_of(read.content)
        before = self._places.get(read.record_id)
        if before is not None:
            if before[1] == sha256:
                return sha256
            # Updated while it was being paged: it came again. Only what it is now may be recognised.
            self._dropped.add(before[0])
            self.records -= 1
            self.lines -= before[2]
        # The last member is the content, which is not copied once more for being framed.
        head = _ENCODER.encode(
            StoredRead(
                record_id=read.record_id,
                fusion_id=read.fusion_id,
                sha256=sha256,
                last_update_date=read.last_update_date,
                creation_date=read.creation_date,
                status=told_status(read.status),
                content=_NO_CONTENT,
            )
        )
        self._stream.write(head[: -len(_EMPTY) - 1])
        self._stream.write(content)
        self._stream.write(b"}\n")
        self._places[read.record_id] = (self._line, sha256, lines)
        self._line += 1
        self.records += 1
        self.lines += lines
        return sha256

    def close(self) -> tuple[int, int]:
        """Finish the file; its records and their lines. The bytes are durable once the archive has taken them."""
        if not self._closed:
            self._closed = True
            self._stream.close()
            if self._dropped:
                self._leave_out_dropped()
        return self.records, self.lines

    def _leave_out_dropped(self) -> None:
        shorter = self._path.with_name(f"{self._path.name}.shorter")
        with self._path.open("rb") as whole, shorter.open("wb") as target:
            for number, line in enumerate(whole):
                if number not in self._dropped:
                    target.write(line)
        shorter.replace(self._path)


def iter_stored(path: Path) -> Iterator[StoredRead]:
    """The lines of an extract, each checked against its hash; one is in memory at a time. Raises ExtractDamaged."""
    with path.open("rb", buffering=_BLOCK) as stream:
        for number, line in enumerate(stream, 1):
            try:
                stored = _DECODER.decode(line)
            except msgspec.DecodeError as error:
                raise ExtractDamaged(path, number, str(error)) from error
            if hashlib.sha256(memoryview(stored.content)).hexdigest() != stored.sha256:
                raise ExtractDamaged(path, number, f"the content of {stored.record_id} does not have its hash")
            yield stored


def iter_whole(path: Path, sha256: str) -> Iterator[StoredRead]:
    """``iter_stored`` for those who use nothing before the end: checked is the file's hash, while it is read.

    Raises:
        ExtractDamaged: at the latest when the last line has been taken; names the damaged line.
    """
    whole = hashlib.sha256()
    with path.open("rb", buffering=_BLOCK) as stream:
        for number, line in enumerate(stream, 1):
            whole.update(line)
            try:
                stored = _DECODER.decode(line)
            except msgspec.DecodeError as error:
                raise ExtractDamaged(path, number, str(error)) from error
            yield stored
    if whole.hexdigest() != sha256:
        raise damage_of(path)


def damage_of(path: Path) -> ExtractDamaged:
    """What is wrong with a file that is not what was written."""
    try:
        lines = sum(1 for _ in iter_stored(path))
    except ExtractDamaged as damaged:
        return damaged
    return ExtractDamaged(path, lines, "what stands beside the contents is not what was written")


def iter_reads(path: Path, source: str) -> Iterator[Read]:
    """The records of an extract, decoded one at a time. Raises ExtractDamaged."""
    for stored in iter_stored(path):
        yield stored.read(source)


def find_stored(path: Path, record_ids: Collection[str]) -> dict[str, StoredRead]:
    """These records of an extract; those that are not in it are absent. Raises ExtractDamaged."""
    wanted = set(record_ids)
    found: dict[str, StoredRead] = {}
    for stored in iter_stored(path):
        if stored.record_id in wanted:
            # A copy: the line that the content lies in may go.
            found[stored.record_id] = msgspec.structs.replace(stored, content=msgspec.Raw(bytes(stored.content)))
            if len(found) == len(wanted):
                break
    return found
