"""From a file and its profile to invoices and rows set aside, in memory that does not grow with the file.

Belongs here: two passes over the file. The first notes which invoices there are (``indexing``); in the second, invoices
that are plainly right are read by the block (``columnar``), each other one when its last row has been read
(``assembly``). Does not: where rows begin (``rows``), what cells mean (``columns``).

Why two passes: rows of one invoice may lie anywhere in the file, and a broken row may name an invoice that was read
long before. Nothing may be handed out before both are known. Between the passes the keys are kept, and the rows only
of a short file; rows of the few invoices that are not in one piece wait in a temporary file.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import compress, pairwise
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Self

import msgspec

from mlc_dagster.stampli.parsing.assembly import Assembler, Piece
from mlc_dagster.stampli.parsing.columnar import ColumnReader
from mlc_dagster.stampli.parsing.columns import Header, read_header
from mlc_dagster.stampli.parsing.indexing import FirstPass, Index, learn_all
from mlc_dagster.stampli.parsing.naming import Key, KeyReader
from mlc_dagster.stampli.parsing.parsed import ParsedInvoice, QuarantinedRow
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster.stampli.parsing.row_runs import Runs
from mlc_dagster.stampli.parsing.row_sources import row_source
from mlc_dagster.stampli.parsing.rows import Block, Fault
from mlc_dagster.stampli.parsing.split_rows import SplitRows

_SPOOLED = 16 * 1024 * 1024
"""Bytes of waiting rows that are kept in memory."""
_KEPT = 2 * 1024 * 1024
"""Bytes of a file whose rows are kept from the first pass for the second; a longer one is read twice."""


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
        packed = msgspec.msgpack.encode(piece)
        self._file.seek(self._end)
        self._file.write(packed)
        places = self._places.setdefault(key, [])
        places.append((self._end, len(packed)))
        self._end += len(packed)
        return len(places)

    def take(self, key: Key) -> Piece:
        """All rows of an invoice, in the order of the file."""
        whole = Piece([], [], printable=True)
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

    def __init__(self, path: Path, profile: Profile, *, name: str | None = None, careful: bool = False) -> None:
        self._path = path
        self._name = name or path.name
        self._profile = profile
        self._careful = careful
        self._source = row_source(path, profile, self._name, careful=careful)
        self._header: Header = read_header(self._source.header(), profile, self._name)
        self._keys = KeyReader(self._header, profile)
        self.warnings: tuple[str, ...] = self._header.warnings
        self.rows = 0
        self._results = self._read()

    def __iter__(self) -> Iterator[ParsedInvoice | QuarantinedRow]:  # noqa: PYI034 - a loop asks nobody in between
        return self._results

    def __next__(self) -> ParsedInvoice | QuarantinedRow:
        return next(self._results)

    def column_of(self, field: str) -> str | None:
        """What the file calls the column of a canonical field; None when it has none."""
        slots = (*self._header.header, *self._header.line)
        return next((slot.column for slot in slots if slot.field == field and slot.target == "field"), None)

    def row_of(self, line: int, column: str) -> int:
        """The row that holds a column of row ``line``; see ``row_sources.RowSource``."""
        return self._source.row_of(line, column)

    def place(self, line: int, column: str | None = None) -> str:
        """Where a row stands, for people: file and row, or the path of its element."""
        return self._source.place(line, column)

    @property
    def delivery(self) -> SplitRows | None:
        """Counts the rows of each file where there are several; see ``row_sources.RowSource``."""
        return self._source.delivery

    def _blocks(self, *, leading: int | None = None) -> Iterator[Block]:
        return self._source.blocks(self._header.width, self._keys.plausible, leading=leading)

    def _index(self) -> Index:
        # Of a long file only the keys are of interest now; how long a packed one is shows when it is read.
        short = self._path.stat().st_size <= _KEPT
        blocks = self._blocks(leading=None if short else max(self._header.key) + 1)
        first = FirstPass(self._name, self._keys, self._profile.rows)
        return learn_all(blocks, first, keep=_KEPT if short else -1)

    def _read(self) -> Iterator[ParsedInvoice | QuarantinedRow]:
        index = self._index()
        assembler = Assembler(self._header, self._profile)
        with _Waiting() as waiting:
            for result in self._pieces(index, ColumnReader(self._header, self._profile, assembler.money)):
                if isinstance(result, list):
                    yield from result
                    continue
                key, piece = result
                expected = index.pieces.get(key)
                if expected is not None:
                    if waiting.add(key, piece) < expected:
                        continue
                    piece = waiting.take(key)
                parsed = assembler.assemble(self._keys.source_id(key), piece, index.faults.get(key, ()))
                yield self._at_their_rows(parsed) if parsed.problems else parsed

    def _at_their_rows(self, parsed: ParsedInvoice) -> ParsedInvoice:
        """Faults name the row of the record that holds the value, which may be another one than the line's."""
        problems = [
            msgspec.structs.replace(found, row=self._source.row_of(found.row, found.field))
            if found.row is not None and found.field is not None
            else found
            for found in parsed.problems
        ]
        return msgspec.structs.replace(parsed, problems=tuple(problems))

    def _pieces(
        self, index: Index, columns: ColumnReader
    ) -> Iterator[list[ParsedInvoice | QuarantinedRow] | tuple[Key, Piece]]:
        """Invoices that are plainly right, adjacent rows of the others, and rows set aside."""
        last: Key = ()
        piece = Piece([], [], printable=True)
        waiting: list[ParsedInvoice | QuarantinedRow] | tuple[Key, Piece] | None = None
        for block in self._blocks() if index.kept is None else _taken(index.kept):
            self.rows += len(block.rows) + len(block.faults)
            if block.faults:
                yield [self._quarantined(line, fault, index) for line, fault in block.faults]
            if not len(block.rows):
                continue
            runs = columns.runs(block)
            of_keys = self._keys.columns(runs.heads)
            keys: list[Key] = list(zip(*of_keys, strict=True))
            sound = self._keys.usable_in_all(of_keys, printable=block.printable)
            named = [sound or self._keys.usable(key) for key in keys]
            # The first run may go on from the block before, and the last one in the next.
            begun, inner = (1 if keys[0] == last else 0), len(keys) - 1
            whole: Sequence[int] = range(begun, inner)
            if not (sound and index.new(keys)):
                whole = _whole(index, block, runs, list(compress(enumerate(keys), named)), last)
            source_ids = self._keys.source_ids(of_keys)
            ready = {} if self._careful else columns.invoices(block, runs, whole, [source_ids[run] for run in whole])
            ends = runs.ends()
            first = 0
            if ready and len(ready) == inner - begun:
                # The ordinary block: each run in between is an invoice.
                if begun:
                    piece.extend(block, 0, ends[0])
                if waiting is not None:
                    yield waiting
                yield list(ready.values())
                first, last, waiting = inner, keys[inner - 1], None
            for run in range(first, len(keys)):
                key, start, end = keys[run], runs.starts[run], ends[run]
                if key == last:
                    piece.extend(block, start, end)
                    continue
                if not named[run]:
                    yield [self._without_key(block.lines[at], block.rows[at]) for at in range(start, end)]
                    continue
                if waiting is not None:
                    yield waiting
                last = key
                if run in ready:
                    waiting = [ready[run]]
                else:
                    piece = Piece([], [], printable=True)
                    piece.extend(block, start, end)
                    waiting = key, piece
        if waiting is not None:
            yield waiting

    def _quarantined(self, line: int, fault: Fault, index: Index) -> QuarantinedRow:
        candidates = self._keys.candidates(fault)
        named = [(key[0], self._keys.source_id(key)) for key in candidates]
        known = [(company, source) for company, source in named if source in index.sources.get(company, ())]
        company, source_id = next(iter(known or named), (None, None))
        return QuarantinedRow(line, fault.raw, "ROW_MALFORMED", f"row {line} {fault.text}", company, source_id)

    def _without_key(self, line: int, cells: list[str]) -> QuarantinedRow:
        raw = self._profile.text.delimiter.join(cells).encode(self._profile.text.encoding, "replace")
        text, company = self._keys.fault(cells)
        return QuarantinedRow(line, raw, "ROW_MALFORMED", f"row {line} {text}", company, None)


def _taken(blocks: deque[Block]) -> Iterator[Block]:
    """Each block, and nobody else keeps it."""
    while blocks:
        yield blocks.popleft()


def _whole(index: Index, block: Block, runs: Runs, keys: Sequence[tuple[int, Key]], last: Key) -> list[int]:
    """Runs that are all the rows of an invoice and may be read by column.

    Args:
        index: what the first pass learnt.
        block: where the runs stand.
        runs: of the block.
        keys: runs that name an invoice.
        last: the key before them.
    """
    ends = runs.ends()
    whole: list[int] = []
    for (run, key), (_, following) in pairwise(keys):
        # The last run is not among them: it may go on in the next block.
        alone = key not in (last, following) and key not in index.pieces and key not in index.faults
        if alone and (block.printable or all("".join(row).isprintable() for row in runs[runs.starts[run] : ends[run]])):
            whole.append(run)
        last = key
    return whole


def parse_file(path: Path, profile: Profile, *, name: str | None = None) -> InvoiceStream:
    """Everything in one file, as a stream; ``name`` is what people call it, where the path is another's.

    Rows in the file = rows of the invoices + quarantined rows, always. An invoice comes out once, with all its rows.

    Raises:
        FileRejected: at the call: the header row is missing, is not text, lacks a column or has one twice.
        OSError: the file cannot be read; also while iterating.
    """
    return InvoiceStream(path, profile, name=name)
