"""From a file and its profile to invoices and rows set aside, in memory that does not grow with the file.

Belongs here: two passes over the file. The first notes which invoices there are; the second hands each one to
``assembly`` when its last row has been read. Does not: where rows begin (``rows``), what cells mean (``columns``).

Why two passes: rows of one invoice may lie anywhere in the file, and a broken row may name an invoice that was read
long before. Nothing may be handed out before both are known. Between the passes only the keys are kept; rows of the
few invoices that are not in one piece wait in a temporary file.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Self

import msgspec

from mlc_dagster.stampli.assembly import Assembler, Piece
from mlc_dagster.stampli.columnar import ColumnReader
from mlc_dagster.stampli.columns import Header, read_header
from mlc_dagster.stampli.naming import Key, KeyReader
from mlc_dagster.stampli.parsed import FileRejected, ParsedInvoice, QuarantinedRow
from mlc_dagster.stampli.profile import Profile
from mlc_dagster.stampli.row_sources import row_source
from mlc_dagster.stampli.rows import Block, Fault

__all__ = ["FileRejected", "InvoiceStream", "ParsedInvoice", "QuarantinedRow", "parse_file"]

_SPOOLED = 16 * 1024 * 1024
"""Bytes of waiting rows that are kept in memory."""
_FAULTS_TOLD = 20
"""Broken rows that one invoice tells of; all of them are quarantined."""


class _Index(msgspec.Struct):
    """What the first pass learns."""

    sources: dict[str, set[str]]
    """Source ids by company: the only thing that grows with the file, by some hundred bytes per invoice."""
    pieces: dict[Key, int]
    """For invoices in more than one piece: how many."""
    faults: dict[Key, list[tuple[int, str]]]
    """Broken rows by the invoice that they may name."""


class _Waiting:
    """Rows of invoices in several pieces, until the last piece has been read."""

    def __init__(self) -> None:
        self._file: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(max_size=_SPOOLED)  # noqa: SIM115 (closed by __exit__)
        self._places: dict[Key, list[tuple[int, int]]] = {}
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, key: Key, piece: Piece) -> int:
        """Store a piece; returns how many pieces of the invoice are stored."""
        # What was read ahead is read again: rows in pieces are rare.
        packed = msgspec.msgpack.encode(Piece(piece.lines, piece.rows, [], printable=piece.printable))
        self._file.seek(self._end)
        self._file.write(packed)
        places = self._places.setdefault(key, [])
        places.append((self._end, len(packed)))
        self._end += len(packed)
        return len(places)

    def take(self, key: Key) -> Piece:
        """All rows of an invoice, in the order of the file."""
        whole = Piece([], [], [], printable=True)
        for start, size in self._places.pop(key):
            self._file.seek(start)
            piece = msgspec.msgpack.decode(self._file.read(size), type=Piece)
            whole.lines.extend(piece.lines)
            whole.rows.extend(piece.rows)
            whole.printable = whole.printable and piece.printable
        return whole


class InvoiceStream(Iterator[ParsedInvoice | QuarantinedRow]):
    """What is in one file: iterate it once.

    ``warnings`` (columns that are not used) is known at once; ``rows`` counts the rows read so far: when the
    iteration is over, it is the rows of all invoices plus the quarantined ones.
    """

    def __init__(self, path: Path, profile: Profile, *, careful: bool = False) -> None:
        self._path = path
        self._profile = profile
        self._source = row_source(path, profile, careful=careful)
        self._header: Header = read_header(self._source.header(), profile, path.name)
        self._keys = KeyReader(self._header, profile)
        self.warnings: tuple[str, ...] = self._header.warnings
        self.rows = 0
        self._results = self._read()

    def __next__(self) -> ParsedInvoice | QuarantinedRow:
        return next(self._results)

    def place(self, line: int, column: str | None = None) -> str:
        """Where a row stands, for people: file and row, or the path of its element."""
        return self._source.place(line, column)

    def _blocks(self, *, leading: int | None = None) -> Iterator[Block]:
        return self._source.blocks(self._header.width, self._keys.plausible, leading=leading)

    def _index(self) -> _Index:
        sources: dict[str, set[str]] = {}
        pieces: dict[Key, int] = {}
        named: dict[Key, list[tuple[int, str]]] = {}
        key_of, usable = self._keys.key_of, self._keys.usable
        last: Key = ()
        run = broken = 0
        again: dict[Key, int] = {}
        for block in self._blocks(leading=max(self._header.key) + 1):
            for line, fault in block.faults:
                for key in self._keys.candidates(fault):
                    told = named.setdefault(key, [])
                    if len(told) < _FAULTS_TOLD:
                        told.append((line, fault.text))
            for key in map(key_of, block.rows):
                if key == last:
                    run += 1
                    continue
                if not usable(key):
                    broken += 1
                    continue
                self._refuse_endless(last, run)
                if last in pieces:
                    again[last] = again.get(last, 0) + run
                    self._refuse_endless(last, again[last])
                last, run = key, 1
                company = sources.setdefault(key[0], set())
                source_id = self._keys.source_id(key)
                if source_id in company:
                    pieces[key] = pieces.get(key, 1) + 1
                else:
                    company.add(source_id)
            self._refuse_endless(last, run)
            broken += len(block.faults)
            if broken > self._profile.rows.max_broken:
                text = (
                    f"{self._path.name}: more than {self._profile.rows.max_broken} rows (max_broken) cannot be read; "
                    "correct the export, or raise the limit in the profile"
                )
                raise FileRejected("FILE_SCHEMA", text)
        return _Index(sources, pieces, named)

    def _refuse_endless(self, key: Key, rows: int) -> None:
        most = self._profile.rows.max_per_invoice
        if rows > most:
            text = (
                f"{self._path.name}: invoice {self._keys.source_id(key)!r} has more than {most} rows "
                "(max_per_invoice); no invoice has, so the key columns are wrong, or raise the limit in the profile"
            )
            raise FileRejected("FILE_SCHEMA", text)

    def _read(self) -> Iterator[ParsedInvoice | QuarantinedRow]:
        index = self._index()
        assembler = Assembler(self._header, self._profile)
        with _Waiting() as waiting:
            for result in self._pieces(index, ColumnReader(self._header, self._profile, assembler.money)):
                if isinstance(result, QuarantinedRow):
                    yield result
                    continue
                key, piece = result
                expected = index.pieces.get(key)
                if expected is not None:
                    if waiting.add(key, piece) < expected:
                        continue
                    piece = waiting.take(key)
                yield assembler.assemble(self._keys.source_id(key), piece, index.faults.get(key, ()))

    def _pieces(self, index: _Index, columns: ColumnReader) -> Iterator[QuarantinedRow | tuple[Key, Piece]]:
        """Adjacent rows of one invoice, and rows set aside."""
        key_of, usable = self._keys.key_of, self._keys.usable
        last: Key = ()
        piece = Piece([], [], [], printable=True)
        for block in self._blocks():
            self.rows += len(block.rows) + len(block.faults)
            for line, fault in block.faults:
                yield self._quarantined(line, fault, index)
            ready = columns.lines(block)
            start = 0
            for at, key in enumerate(map(key_of, block.rows)):
                if key == last:
                    continue
                piece.extend(block, ready, start, at)
                start = at
                if not usable(key):
                    yield self._without_key(block.lines[at], block.rows[at])
                    start = at + 1
                    continue
                if piece.rows:
                    yield last, piece
                last, piece = key, Piece([], [], [], printable=True)
            piece.extend(block, ready, start, len(block.rows))
        if piece.rows:
            yield last, piece

    def _quarantined(self, line: int, fault: Fault, index: _Index) -> QuarantinedRow:
        candidates = self._keys.candidates(fault)
        named = [(key[0], self._keys.source_id(key)) for key in candidates]
        known = [(company, source) for company, source in named if source in index.sources.get(company, ())]
        company, source_id = next(iter(known or named), (None, None))
        return QuarantinedRow(line, fault.raw, "ROW_MALFORMED", f"row {line} {fault.text}", company, source_id)

    def _without_key(self, line: int, cells: list[str]) -> QuarantinedRow:
        raw = self._profile.text.delimiter.join(cells).encode(self._profile.text.encoding, "replace")
        text, company = self._keys.fault(cells)
        return QuarantinedRow(line, raw, "ROW_MALFORMED", f"row {line} {text}", company, None)


def parse_file(path: Path, profile: Profile) -> InvoiceStream:
    """Everything in one file, as a stream.

    Rows in the file = rows of the invoices + quarantined rows, always. An invoice comes out once, with all its rows.

    Raises:
        FileRejected: at the call: the header row is missing, is not text, lacks a column or has one twice.
        OSError: the file cannot be read; also while iterating.
    """
    return InvoiceStream(path, profile)
