"""What CSV and fixed-width writers have in common: a document's records, its totals, what is said of characters.

The writers add how a record is joined (``_lines``) and what stands around the bodies (``assemble``).
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mlc_dagster.exports.layouts.cells import Cell, Make, RecordPlan
from mlc_dagster.exports.layouts.documents import Charts, Document
from mlc_dagster.exports.layouts.encodings import encoder, first_unencodable
from mlc_dagster.exports.layouts.frames import DeclaredTotal, FileFacts, check_scales, document_totals
from mlc_dagster.exports.layouts.model import Tabular
from mlc_dagster.exports.writing import ByteSink, DocumentHeld, Frame, LayoutIdentity, Part, Rendered, Version

COPY_BYTES = 64 * 1024
"""Copied at once from a body to the file; larger pieces cost page faults."""
_CHUNK = 512
"""Rows that are rendered together: as many as stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A layout's columns and totals, looked up for one feed."""

    identity: LayoutIdentity
    feed: str
    charts: Charts
    cells: Callable[[str], Sequence[Cell]]
    """Those of ``columns``, ``document_header`` or ``document_trailer``."""
    totals: Sequence[DeclaredTotal]
    total_names: Sequence[str]
    source_file: str


class TabularWriter(ABC):
    """Implements ``writing.Writer`` but for what the formats differ in."""

    def __init__(self, layout: Tabular, prepared: Prepared, make: Callable[[Cell], Make]) -> None:
        self._layout_rules = layout
        self._prepared = prepared
        self._before, self._row, self._after = (
            RecordPlan(prepared.cells(place), make) for place in ("document_header", "columns", "document_trailer")
        )
        self._encode = encoder(layout.encoding)
        self._scales: dict[str, int] = {}
        """Decimals that header and trailer have for a total."""

    @property
    def identity(self) -> LayoutIdentity:
        return self._prepared.identity

    @property
    def file_name(self) -> str:
        return self._layout_rules.file_name

    @property
    def empty_file(self) -> bool:
        return self._layout_rules.empty_file == "frame"

    def group_of(self, version: Version) -> str:  # noqa: ARG002
        """These formats have no groups."""
        return ""

    def levels(self, groups: Sequence[str]) -> Mapping[str, int]:  # noqa: ARG002
        """These formats have no control numbers but the file's sequence."""
        return {}

    @abstractmethod
    def opening(self) -> bytes | None:
        """What stands before the bodies, unless that depends on them."""

    @abstractmethod
    def close(self, parts: Sequence[Part], frame: Frame, target: ByteSink) -> None:
        """Write what stands behind the bodies."""

    @abstractmethod
    def assemble(self, parts: Sequence[Part], frame: Frame, target: ByteSink) -> None:
        """Write the whole file: header, bodies, trailer."""

    @abstractmethod
    def _lines(self, plan: RecordPlan, document: Document, counts: Counter[str], rows: int) -> str:
        """The plan's records, each with its line end."""

    def render(self, version: Version, position: int) -> Rendered:
        """The document's records. Raises DocumentHeld."""
        layout = self._layout_rules
        document = Document(
            version,
            row=layout.row,
            charts=self._prepared.charts,
            childless=layout.childless,
            about=(position, self._prepared.feed, layout.name, layout.version),
        )
        totals = document_totals(document, self._prepared.totals)
        check_scales(totals, self._scales)
        counts: Counter[str] = Counter()
        if document.skipped:
            counts["childless"] = document.skipped
        body = self._encoded(self._row, document, counts)
        if self._before.cells or self._after.cells:
            body = b"".join(
                (
                    self._encoded(self._before, document, counts),
                    body,
                    self._encoded(self._after, document, counts),
                )
            )
        return Rendered(body, document.rows, totals, {name: count for name, count in counts.items() if count})

    def _encoded(self, plan: RecordPlan, document: Document, counts: Counter[str]) -> bytes:
        """The plan's records of the document; long ones in chunks, for their texts take many times their room."""
        rows = document.rows if plan is self._row else 1
        if rows <= _CHUNK:
            return self._bytes(plan, document, counts, rows)
        starts = range(0, rows, _CHUNK)
        return b"".join(
            self._bytes(plan, document.chunk(start, start + _CHUNK), counts, min(_CHUNK, rows - start))
            for start in starts
        )

    def _bytes(self, plan: RecordPlan, document: Document, counts: Counter[str], rows: int) -> bytes:
        text = self._lines(plan, document, counts, rows)
        try:
            return self._encode(text)
        except UnicodeEncodeError:
            raise self._unencodable(plan, document, text) from None

    def _unencodable(self, plan: RecordPlan, document: Document, text: str) -> DocumentHeld:
        """Names the value with the character that the encoding lacks."""
        encoding = self._layout_rules.encoding
        for cell, column in zip(plan.cells, plan.columns(document, Counter()), strict=True):
            for index, value in enumerate([column] if isinstance(column, str) else column):
                if first_unencodable(value, encoding):
                    return unencodable(cell, index, value, encoding, document)
        character = first_unencodable(text, encoding)
        return DocumentHeld("ENCODING", f"{character!r} does not exist in {encoding}; take another encoding")

    def _facts(self, parts: Sequence[Part], frame: Frame) -> FileFacts:
        """What header and trailer may say of the file."""
        layout = self._layout_rules
        facts = FileFacts.of(parts, frame, layout=layout.name, version=layout.version)
        around = bool(layout.document_header) + bool(layout.document_trailer)
        frames = sum(
            len(facts.currencies) if record.per == "currency" else 1 for record in (*layout.header, *layout.trailer)
        )
        return replace(facts, records=facts.rows + facts.documents * around + frames)

    def _note_scales(self, scales: Mapping[str, int]) -> None:
        for name, places in scales.items():
            self._scales[name] = min(places, self._scales.get(name, places))


def unencodable(cell: Cell, index: int, value: str, encoding: str, document: Document) -> DocumentHeld:
    """Why a document waits whose value has a character that the encoding lacks."""
    remedy = "correct it in Fusion, or write unencodable: replace, or another encoding"
    character = first_unencodable(value, encoding)
    shown = value.strip(' "')
    told = f"{character!r} in {shown!r} does not exist in {encoding}; {remedy}"
    return cell.held("ENCODING", index, document, told)


def each_currency(facts: FileFacts, *, per_currency: bool) -> list[FileFacts]:
    """The facts once, or once per currency of the file."""
    return [replace(facts, currency=currency) for currency in facts.currencies] if per_currency else [facts]
