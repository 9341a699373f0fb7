"""Delimited text: quoting, new lines, encoding, formula guard, header and trailer records.

Documents are rendered column by column: what belongs to the document is made ready once and repeated, what belongs to
its rows is taken, formatted and quoted a column at a time. Which text a value becomes is said in ``cells``.
"""

import codecs
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, cast

from mlc_dagster.exports.layouts.cells import Cell, Make, RecordPlan, Texts
from mlc_dagster.exports.layouts.documents import Document
from mlc_dagster.exports.layouts.encodings import encodable, substitute
from mlc_dagster.exports.layouts.errors import LayoutError
from mlc_dagster.exports.layouts.frames import FileFacts, Template
from mlc_dagster.exports.layouts.model import CsvLayout, FrameRecord
from mlc_dagster.exports.layouts.numbers import quick_texts, styled
from mlc_dagster.exports.layouts.tabular import COPY_BYTES, Prepared, TabularWriter, each_currency
from mlc_dagster.exports.writing import ByteSink, Frame, Part

LINE_ENDINGS = {"crlf": "\r\n", "lf": "\n", "cr": "\r"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NEW_LINES = ("\r", "\n")
_BOMS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


def number_style(layout: CsvLayout) -> Callable[[Cell, Texts], Texts]:
    """Decimal mark and sign as the layout and the column say."""

    def style(cell: Cell, texts: Texts) -> Texts:
        own = cell.column.format
        return styled(texts, own.mark or layout.mark, own.negative or layout.negative)

    return style


class _Quoting:
    """From texts to what stands between two delimiters."""

    def __init__(self, layout: CsvLayout) -> None:
        self._layout = layout
        self._quote = layout.quote_char
        self._safe: dict[str, bool] = {}
        delimiter = layout.delimiter
        # A value that ends in the beginning of a delimiter of several characters would lengthen the one after it.
        self._marks = ("\r", "\n", delimiter[0], "\n" if layout.quote == "none" else self._quote)

    def make(self, cell: Cell) -> Make:
        """How the column's values become its texts in the file."""
        layout, field = self._layout, cell.field
        if (
            field is not None
            and cell.plain
            and layout.quote == "minimal"
            and layout.formula_guard == "off"
            and layout.newlines == "keep"
            and layout.unencodable == "hold"
        ):
            if field.kind == "text":
                return self._plain_texts(cell)
            if field.kind == "integer" and self._is_safe(cell) and not cell.column.required:
                return self._plain_integers(cell)
            if field.kind == "decimal" and self._is_safe(cell) and self._numbers_as_they_are(cell):
                return self._plain_numbers(cell)

        def general(values: Sequence[Any], document: Document, counts: Counter[str]) -> list[str]:
            return self.finish(cell, cell.texts(values, document), counts, document)

        return general

    def _is_safe(self, cell: Cell) -> bool:
        """No text of the number column can have a delimiter or a quote in it."""
        safe = self._safe.get(cell.name)
        if safe is None:
            own, layout = cell.column.format, self._layout
            negative = "()" if (own.negative or layout.negative) == "parentheses" else ""
            characters = {*"0123456789-", own.mark or layout.mark, *negative}
            safe = cell.column.default is None and not characters.intersection(layout.delimiter + self._quote)
            self._safe[cell.name] = safe
        return safe

    def _numbers_as_they_are(self, cell: Cell) -> bool:
        own, layout = cell.column.format, self._layout
        return (own.mark or layout.mark) == "." and (own.negative or layout.negative) == "leading"

    def _plain_texts(self, cell: Cell) -> Make:
        """The short way for texts that need nothing, which is nearly all of them."""

        def make(values: Sequence[Any], document: Document, counts: Counter[str]) -> Sequence[str]:
            try:
                joined = "\0".join(values)
            except TypeError:  # One of them is None.
                joined = ""
            # An empty one stands between two zeros, or at an end.
            empty = not joined or joined[0] == "\0" or joined[-1] == "\0" or "\0\0" in joined
            if not empty and not self._needs_quotes(joined):
                return values
            return self.finish(cell, cell.texts(values, document), counts, document)

        return make

    def _plain_integers(self, cell: Cell) -> Make:
        token = self._layout.null if cell.column.null is None else cell.column.null

        def make(values: Sequence[Any], document: Document, counts: Counter[str]) -> Sequence[str]:  # noqa: ARG001
            if None in values:
                return [token if value is None else str(value) for value in values]
            return list(map(str, values))

        return make

    def _plain_numbers(self, cell: Cell) -> Make:
        """The short way for numbers: exact, absent ones as the null token."""
        required = cell.column.required
        token = self._layout.null if cell.column.null is None else cell.column.null

        def make(values: Sequence[Any], document: Document, counts: Counter[str]) -> Sequence[str]:
            places = cell.places(values, document)
            if places != "mixed":
                texts = None if required and None in values else quick_texts(values, places, token)
                if texts is not None:
                    return texts
            return self.finish(cell, cell.texts(values, document), counts, document)

        return make

    def finish(self, cell: Cell, texts: Texts, counts: Counter[str], document: Document) -> list[str]:
        """One text per row, as it stands in the file. Raises DocumentHeld."""
        layout = self._layout
        token = layout.null if cell.column.null is None else cell.column.null
        if cell.numeric and layout.quote != "all" and self._is_safe(cell):
            return [token if text is None else text for text in texts]
        if not cell.numeric:
            texts = self._prepared(cell, texts, counts, document)
        if layout.quote == "all" or (layout.quote == "text" and not cell.numeric):
            return [
                (self._quoted(token) if layout.quote == "all" else token) if text is None else self._quoted(text)
                for text in texts
            ]
        absent = None in texts
        joined = "\0".join(filter(None, texts))
        if layout.quote == "none":
            return self._unquoted(cell, joined, texts, token, counts, document)
        if not self._needs_quotes(joined) and "" not in texts and (not token or token not in texts):
            return [token if text is None else text for text in texts] if absent else cast("list[str]", texts)
        quote, marks = self._quote, [mark for mark in self._marks if mark in joined]
        if len(marks) in (1, 2) and not absent and "" not in texts and (not token or token not in texts):
            # Written out: this is where the time goes, and mostly one or two marks are all there are.
            first, second, *_ = (*marks, marks[-1])
            return [
                quote + text.replace(quote, quote + quote) + quote if first in text or second in text else text
                for text in cast("list[str]", texts)
            ]
        return [
            token if text is None else self._quoted(text) if text in ("", token) or self._needs_quotes(text) else text
            for text in texts
        ]

    def _needs_quotes(self, text: str) -> bool:
        first, second, third, fourth = self._marks  # Written out: this is where the time goes.
        return first in text or second in text or third in text or fourth in text

    def _quoted(self, text: str) -> str:
        quote = self._quote
        return quote + text.replace(quote, quote + quote) + quote

    def of_frame(self, text: str) -> str:
        """A cell of the column names, the header or the trailer: quoted where it must be."""
        if self._layout.quote == "all" or (self._layout.quote != "none" and self._needs_quotes(text)):
            return self._quoted(text)
        return text

    def _unquoted(
        self, cell: Cell, joined: str, texts: Texts, token: str, counts: Counter[str], document: Document
    ) -> list[str]:
        if self._needs_quotes(joined):
            for index, text in enumerate(texts):
                if text is None or not self._needs_quotes(text):
                    continue
                if self._layout.unquotable == "hold":
                    raise cell.held(
                        "DELIMITER",
                        index,
                        document,
                        f"{text!r} has a delimiter or a new line in it and the layout quotes nothing; correct it in "
                        "Fusion, or write quote: minimal or unquotable: replace",
                    )
                texts[index] = self._blanked(text, counts)
        return [token if text is None else text for text in texts]

    def _blanked(self, text: str, counts: Counter[str]) -> str:
        text = _one_line(text, counts)
        counts["delimiters"] += text.count(self._layout.delimiter[0])
        return text.replace(self._layout.delimiter, " ").replace(self._layout.delimiter[0], " ")

    def _prepared(self, cell: Cell, texts: Texts, counts: Counter[str], document: Document) -> Texts:
        """New lines, characters and formulas of texts, as the layout wants them."""
        layout = self._layout
        if layout.newlines == "replace":
            texts = [_one_line(text, counts) if text else text for text in texts]
        if layout.unencodable == "replace" and not encodable("".join(filter(None, texts)), layout.encoding):

            def count(replaced: int) -> None:
                counts["characters"] += replaced

            texts = [text and substitute(text, layout.encoding, layout.replacement, count) for text in texts]
        if layout.formula_guard != "off" and cell.text_like:
            for index, text in enumerate(texts):
                if not text or not text.startswith(_FORMULA):
                    continue
                if layout.formula_guard == "reject":
                    raise cell.held(
                        "FORMULA",
                        index,
                        document,
                        f"{text!r} begins like a formula of a spreadsheet; correct it in Fusion",
                    )
                counts["formulas"] += 1
                texts[index] = "'" + text
        return texts


def _one_line(text: str, counts: Counter[str]) -> str:
    if "\n" not in text and "\r" not in text:
        return text
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    counts["newlines"] += text.count("\n")
    return text.replace("\n", " ")


class CsvWriter(TabularWriter):
    """Implements ``writing.Writer``."""

    def __init__(self, layout: CsvLayout, prepared: Prepared) -> None:
        """Raises LayoutError."""
        self._layout = layout
        self._quoting = _Quoting(layout)
        super().__init__(layout, prepared, self._quoting.make)
        self._line_end = LINE_ENDINGS[layout.line_ending]
        problems: list[str] = []
        self._header = self._templates("header", layout.header, problems)
        self._trailer = self._templates("trailer", layout.trailer, problems)
        problems += self._tokens_in_the_way()
        if problems:
            raise LayoutError(prepared.source_file, problems)

    def _tokens_in_the_way(self) -> list[str]:
        layout = self._layout
        problems: list[str] = []
        for key, text in (("null", layout.null), *((f"null of {c.name}", c.null or "") for c in layout.columns)):
            if layout.delimiter in text or any(mark in text for mark in (*_NEW_LINES, layout.quote_char)):
                problems.append(f"{key}: {text!r} has a delimiter, a quote or a new line in it; take another")
            elif not encodable(text, layout.encoding):
                problems.append(f"{key}: {text!r} does not exist in {layout.encoding}; take another")
        names = [column.name for column in layout.columns] if layout.column_names else []
        frames = [text for record in (*layout.header, *layout.trailer) for text in record.cells]
        problems.extend(
            f"{text!r}: does not exist in {layout.encoding}; write it otherwise, or take another encoding"
            for text in (*names, *frames)
            if not encodable(text, layout.encoding)
        )
        return problems

    def _templates(
        self, place: str, records: Sequence[FrameRecord], problems: list[str]
    ) -> list[tuple[bool, list[Template]]]:
        found: list[tuple[bool, list[Template]]] = []
        for index, record in enumerate(records):
            per_currency = record.per == "currency"
            templates: list[Template] = []
            for text in record.cells:
                try:
                    template = Template(text, totals=self._prepared.total_names, per_currency=per_currency)
                except ValueError as error:
                    problems.append(f"{place}.{index}: {error}")
                    continue
                templates.append(template)
                self._note_scales(template.scales)
            found.append((per_currency, templates))
        return found

    def _lines(self, plan: RecordPlan, document: Document, counts: Counter[str], rows: int) -> str:
        if not plan.cells or not rows:
            return ""
        delimiter, end = self._layout.delimiter, self._line_end
        columns = plan.columns(document, counts)
        merged: list[str | Sequence[str]] = []
        shared: list[str] = []
        for column in columns:
            if isinstance(column, str):
                shared.append(column)
                continue
            if shared:
                merged.append(delimiter.join(shared))
                shared = []
            merged.append(column)
        if shared:
            merged.append(delimiter.join(shared))
        if len(merged) == 1 and isinstance(merged[0], str):
            return (merged[0] + end) * rows
        stretches = (repeat(column, rows) if isinstance(column, str) else column for column in merged)
        return end.join([*map(delimiter.join, zip(*stretches, strict=True)), ""])

    def opening(self) -> bytes | None:
        return None if self._header else self._mark + self._names

    def close(self, parts: Sequence[Part], frame: Frame, target: ByteSink) -> None:
        if self._trailer:
            self._write_records(self._trailer, self._facts(parts, frame), target)

    def assemble(self, parts: Sequence[Part], frame: Frame, target: ByteSink) -> None:
        """Byte order mark, header, column names, bodies, trailer."""
        target.write(self._mark)
        self._write_records(self._header, self._facts(parts, frame), target)
        target.write(self._names)
        for part in parts:
            with part.body.open("rb") as body:
                shutil.copyfileobj(body, target, COPY_BYTES)
        self.close(parts, frame, target)

    @property
    def _mark(self) -> bytes:
        return _BOMS[self._layout.encoding] if self._layout.bom else b""

    @property
    def _names(self) -> bytes:
        return self._record([column.name for column in self._layout.columns]) if self._layout.column_names else b""

    def _write_records(
        self, records: Sequence[tuple[bool, list[Template]]], facts: FileFacts, target: ByteSink
    ) -> None:
        for per_currency, templates in records:
            for own in each_currency(facts, per_currency=per_currency):
                target.write(self._record([template.render(own) for template in templates]))

    def _record(self, cells: Sequence[str]) -> bytes:
        line = self._layout.delimiter.join(self._quoting.of_frame(cell) for cell in cells) + self._line_end
        return line.encode(self._layout.encoding)
