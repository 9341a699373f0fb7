"""Records of fixed length: padding, implied decimals, signs, overpunch, header and trailer records.

Rendered column by column like CSV. Lengths are bytes: only encodings of one byte per character are taken (or lengths
are declared to be characters), so that a column's length in characters is its length in the file. Nothing is ever cut.
"""

import shutil
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from itertools import repeat
from typing import Any, cast

from mlc_dagster.exports.balance import STATISTICAL
from mlc_dagster.exports.layouts.cells import Cell, Make, RecordPlan, Texts
from mlc_dagster.exports.layouts.documents import Document
from mlc_dagster.exports.layouts.encodings import encodable, encoder, extends_ascii, substitute
from mlc_dagster.exports.layouts.errors import LayoutError
from mlc_dagster.exports.layouts.fields import Field
from mlc_dagster.exports.layouts.fixed_numbers import NegativeAmount, NumberShape, place, place_all
from mlc_dagster.exports.layouts.frames import FileFacts, Template
from mlc_dagster.exports.layouts.model import FixedColumn, FixedFrameRecord, FixedWidthLayout
from mlc_dagster.exports.layouts.numbers import number_texts, quick_implied
from mlc_dagster.exports.layouts.tabular import COPY_BYTES, Prepared, TabularWriter, each_currency, unencodable
from mlc_dagster.exports.writing import ByteSink, Frame, Part

SEPARATORS = {"crlf": "\r\n", "lf": "\n", "nel": "\x85", "none": ""}
_NEW_LINES = ("\r", "\n", "\x85", "\x0b", "\x0c", "\u2028", "\u2029")


def number_style(cell: Cell, texts: Texts) -> Texts:  # noqa: ARG001
    """Numbers stay as they are: signs and padding are given when the column is placed."""
    return texts


def end_of(columns: Sequence[FixedColumn]) -> int:
    """Where the last column ends; 0 without any."""
    end = 0
    for column in columns:
        end = (column.start or end + 1) + column.length - 1
    return end


class _Placing:
    """From texts to stretches of a record."""

    def __init__(self, layout: FixedWidthLayout) -> None:
        self._layout = layout
        self._shapes: dict[str, NumberShape] = {}
        self.transcodes = extends_ascii(layout.encoding) and layout.length_mode == "bytes"
        """Stretches with other characters than ASCII are handed on as the characters of Latin-1 that have their bytes:
        the records are then Latin-1 as a whole, which costs a copy instead of a look-up per character."""

    def shape(self, column: FixedColumn) -> NumberShape:
        """Sign, mark and padding of a number column."""
        layout, own = self._layout, column.format
        return NumberShape(
            length=column.length,
            implied=layout.implied if own.implied is None else own.implied,
            mark=own.mark or layout.mark,
            sign=own.sign or layout.sign,
            plus=own.plus or "",
            pad="0" if column.pad is None else column.pad,
            left=column.align == "left",
        )

    def make(self, cell: Cell) -> Make:
        """How the column's values become its stretches."""
        column, field = cast("FixedColumn", cell.column), cell.field

        without_mark = field is not None and field.kind == "decimal" and self.shape(column).implied

        def general(values: Sequence[Any], document: Document, counts: Counter[str]) -> list[str]:
            if without_mark:
                _check_scale(cell, values, document)
            return self.finish(cell, cell.texts(values, document), counts, document)

        touched = column.crosswalk or column.case or column.max_length or column.default or column.sign_of
        if field is None or touched:
            return general
        if field.kind == "text" and column.align != "right" and self._layout.unencodable == "hold":
            return self._plain_texts(cell, column, general)
        if field.kind == "decimal" and not column.required and column.null is None:
            shape = self.shape(column)
            if shape.implied and shape.simple:
                return self._plain_numbers(cell, shape, general)
        return general

    def _plain_texts(self, cell: Cell, column: FixedColumn, general: Make) -> Make:
        """The short way for texts that are there, fit, and are of one line: nearly all of them."""
        length, pad = column.length, column.pad or " "

        def make(values: Sequence[Any], document: Document, counts: Counter[str]) -> Sequence[str]:
            if None in values or (column.required and "" in values):
                return general(values, document, counts)
            placed = list(map(str.ljust, values, repeat(length), repeat(pad)))
            joined = "".join(placed)
            if len(joined) != length * len(placed) or any(mark in joined for mark in _NEW_LINES):
                return general(values, document, counts)
            return placed if joined.isascii() else self._transcoded(cell, placed, joined, document)

        return make

    def _plain_numbers(self, cell: Cell, shape: NumberShape, general: Make) -> Make:
        """The short way for amounts without a sign: exact, and absent ones as zero."""
        zero = shape.pad * (shape.length - 1) + "0"

        def make(values: Sequence[Any], document: Document, counts: Counter[str]) -> Sequence[str]:
            places = cell.places(values, document)
            if places is None or places == "mixed" or (shape.pad != "0" and None in values):
                return general(values, document, counts)
            placed = quick_implied(values, places, shape.length, shape.pad, zero)
            return general(values, document, counts) if placed is None else placed

        return make

    def finish(self, cell: Cell, texts: Texts, counts: Counter[str], document: Document) -> list[str]:
        """One stretch per row, all of the column's length. Raises DocumentHeld (OVERFLOW, NEGATIVE)."""
        column = cast("FixedColumn", cell.column)
        if column.sign_of is not None:
            positive, negative = column.signs
            return [
                (negative if text is not None and text.startswith("-") else positive).ljust(column.length)
                for text in texts
            ]
        if not (cell.numeric and cell.field is not None and cell.field.kind in ("decimal", "integer")):
            return self._placed_texts(cell, column, texts, counts, document)
        shape = self._shapes.get(cell.name)
        if shape is None or shape.length != column.length:
            shape = self._shapes[cell.name] = self.shape(column)
        blank = None if column.null is None else column.null.ljust(column.length)
        zero = "0" if shape.implied or cell.field.kind == "integer" else "0.0"
        try:
            placed = place_all(texts, shape, zero=self._zero(cell, texts, zero), blank=blank)
        except NegativeAmount as error:
            raise cell.held(
                "NEGATIVE",
                error.index,
                document,
                f"{error.text} is negative and the column has no sign; write sign: leading, trailing or overpunch",
            ) from None
        return self._fitting(cell, column, texts, placed, document)

    def _zero(self, cell: Cell, texts: Texts, otherwise: str) -> str:
        """What an absent number becomes: zero with as many decimals as its neighbours."""
        if cell.field is not None and cell.field.kind == "integer":
            return "0"
        sample = next((text for text in texts if text is not None), None)
        if sample is None:
            decimals = cell.column.format.decimals
            return number_texts([Decimal(0)], decimals if isinstance(decimals, int) else None)[0] or otherwise
        fraction = sample.partition(".")[2]
        return "0." + "0" * len(fraction) if fraction else "0"

    def _placed_texts(
        self, cell: Cell, column: FixedColumn, texts: Texts, counts: Counter[str], document: Document
    ) -> list[str]:
        joined = "".join(filter(None, texts))
        if any(mark in joined for mark in _NEW_LINES):
            texts = [text and _one_line(text, counts) for text in texts]
        if self._layout.unencodable == "replace" and not encodable(joined, self._layout.encoding):

            def count(replaced: int) -> None:
                counts["characters"] += replaced

            texts = [
                text and substitute(text, self._layout.encoding, self._layout.replacement, count) for text in texts
            ]
        pad, null = column.pad or " ", column.null or ""
        move = str.rjust if column.align == "right" else str.ljust
        if None in texts:
            blank = null.ljust(column.length)
            placed = [blank if text is None else move(text, column.length, pad) for text in texts]
        else:
            placed = list(map(move, cast("list[str]", texts), repeat(column.length), repeat(pad)))
        return self._fitting(cell, column, texts, placed, document)

    def _fitting(
        self, cell: Cell, column: FixedColumn, texts: Texts, placed: list[str], document: Document
    ) -> list[str]:
        if max(map(len, placed), default=0) > column.length:
            index = next(index for index, text in enumerate(placed) if len(text) > column.length)
            unit = "bytes" if self._layout.length_mode == "bytes" else "characters"
            raise cell.held(
                "OVERFLOW",
                index,
                document,
                f"{texts[index]!r} needs {len(placed[index])} {unit} and the column has {column.length}; "
                "nothing is cut: shorten it in Fusion, or agree on a longer column",
            )
        joined = "".join(placed)
        return placed if joined.isascii() else self._transcoded(cell, placed, joined, document)

    def _transcoded(self, cell: Cell, placed: list[str], joined: str, document: Document) -> list[str]:
        """See ``transcodes``. Raises DocumentHeld (ENCODING)."""
        encoding = self._layout.encoding
        if not self.transcodes:
            return placed
        try:
            text = joined.encode(encoding).decode("latin-1")
        except UnicodeEncodeError as error:
            index = error.start // len(placed[0])
            raise unencodable(cell, index, placed[index], encoding, document) from None
        length = len(placed[0])
        return [text[start : start + length] for start in range(0, len(text), length)]


def _check_scale(cell: Cell, values: Sequence[Decimal | None], document: Document) -> None:
    """Without a decimal mark the digits mean nothing unless all have as many decimals. Raises DocumentHeld."""
    if isinstance(cell.column.format.decimals, int):
        return
    field = cast("Field", cell.field)
    by_currency = field.money is not None and cell.column.format.decimals != "as_is"
    own = document.currencies(field) if by_currency else None
    currencies = own if isinstance(own, list) else repeat(own, len(values))
    for index, (value, currency) in enumerate(zip(values, currencies, strict=True)):
        if value is None or (value == value.to_integral_value() if not by_currency else currency != STATISTICAL):
            continue
        what = "is a quantity" if by_currency else "has decimals"
        raise cell.held(
            "AMOUNT_SCALE",
            index,
            document,
            f"{value} {what}, and the column shows no decimal mark and has no number of decimals; write decimals in "
            "its format, or implied: false",
        )


def _one_line(text: str, counts: Counter[str]) -> str:
    text = text.replace("\r\n", "\n")
    for mark in _NEW_LINES:
        counts["newlines"] += text.count(mark)
        text = text.replace(mark, " ")
    return text


class FixedWidthWriter(TabularWriter):
    """Implements ``writing.Writer``."""

    def __init__(self, layout: FixedWidthLayout, prepared: Prepared) -> None:
        """Raises LayoutError."""
        self._layout = layout
        self._placing = _Placing(layout)
        super().__init__(layout, prepared, self._placing.make)
        if self._placing.transcodes:
            self._encode = encoder("iso8859-1")
        self._hashes = frozenset(total.name for total in prepared.totals if total.hashed)
        self._columns = {
            id(self._before): layout.document_header,
            id(self._row): layout.columns,
            id(self._after): layout.document_trailer,
        }
        frames = [record.columns for record in (*layout.header, *layout.trailer)]
        records = (layout.columns, layout.document_header, layout.document_trailer, *frames)
        self._length = layout.record_length or max(map(end_of, records))
        self._separator = SEPARATORS[layout.record_separator]
        self._templates: dict[str, Template] = {}
        problems = [*self._frame_problems(), *self._texts_in_the_way(records)]
        if problems:
            raise LayoutError(prepared.source_file, problems)

    def _texts_in_the_way(self, records: Sequence[Sequence[FixedColumn]]) -> list[str]:
        encoding = self._layout.encoding
        problems: list[str] = []
        for column in (column for columns in records for column in columns):
            null = column.null or ""
            problems.extend(
                f"column {column.name}: {text!r} does not exist in {encoding}; take another"
                for text in (column.pad or "", null)
                if not encodable(text, encoding)
            )
            if len(null) > column.length:
                problems.append(f"column {column.name}: null {null!r} is longer than the column; shorten it")
        if not encodable(self._separator, encoding):
            problems.append(f"record_separator: {self._layout.record_separator} does not exist in {encoding}")
        return problems

    def _frame_problems(self) -> list[str]:
        problems: list[str] = []
        for place_, records in (("header", self._layout.header), ("trailer", self._layout.trailer)):
            for record in records:
                for column in record.columns:
                    try:
                        self._check_frame_column(column, per_currency=record.per == "currency")
                    except ValueError as error:
                        problems.append(f"{place_}, column {column.name}: {error}")
        return problems

    def _check_frame_column(self, column: FixedColumn, *, per_currency: bool) -> None:
        names = self._prepared.total_names
        if column.field is not None or column.sign_of is not None:
            raise ValueError("a record of the file has no field; write template, total or constant")
        if column.total is not None:
            if column.total not in names:
                raise ValueError(f"total {column.total!r} is not one of {', '.join(names)}")
            if isinstance(column.format.decimals, int):
                self._note_scales({column.total: column.format.decimals})
            elif self._placing.shape(column).implied and column.total not in self._hashes:
                raise ValueError("a total with an implied decimal mark needs format decimals, such as 2")
        if column.template is not None:
            template = Template(column.template, totals=names, per_currency=per_currency)
            self._templates[column.template] = template
            self._note_scales(template.scales)
        if not encodable(text := column.template or column.constant or "", self._layout.encoding):
            raise ValueError(f"{text!r} does not exist in {self._layout.encoding}; write it otherwise")

    def _lines(self, plan: RecordPlan, document: Document, counts: Counter[str], rows: int) -> str:
        if not plan.cells or not rows:
            return ""
        merged: list[str | Sequence[str]] = [""]
        end = 0

        def add(text: str) -> None:
            last = merged[-1]
            if isinstance(last, str):
                merged[-1] = last + text
            else:
                merged.append(text)

        for column, texts in zip(self._columns[id(plan)], plan.columns(document, counts), strict=True):
            start = column.start or end + 1
            if start > end + 1:
                add(" " * (start - end - 1))
            end = start + column.length - 1
            if isinstance(texts, str):
                add(texts)
            else:
                merged.append(texts)
        add(" " * (self._length - end) + self._separator)
        if len(merged) == 1:
            return str(merged[0]) * rows
        stretches = (repeat(texts, rows) if isinstance(texts, str) else texts for texts in merged if texts != "")
        return "".join(map("".join, zip(*stretches, strict=True)))

    def opening(self) -> bytes | None:
        return None if self._layout.header else b""

    def close(self, parts: Sequence[Part], frame: Frame, target: ByteSink) -> None:
        """Raises LayoutError where a total or count is longer than its column."""
        if self._layout.trailer:
            self._write_frame(self._layout.trailer, self._facts(parts, frame), target)

    def assemble(self, parts: Sequence[Part], frame: Frame, target: ByteSink) -> None:
        """Header, bodies, trailer. Raises LayoutError where a total or count is longer than its column."""
        self._write_frame(self._layout.header, self._facts(parts, frame), target)
        for part in parts:
            with part.body.open("rb") as body:
                shutil.copyfileobj(body, target, COPY_BYTES)
        self.close(parts, frame, target)

    def _write_frame(self, records: Sequence[FixedFrameRecord], facts: FileFacts, target: ByteSink) -> None:
        for record in records:
            for own in each_currency(facts, per_currency=record.per == "currency"):
                text = ""
                for column in record.columns:
                    start = column.start or len(text) + 1
                    text = text.ljust(start - 1) + self._frame_text(column, own)
                target.write((text.ljust(self._length) + self._separator).encode(self._layout.encoding))

    def _frame_text(self, column: FixedColumn, facts: FileFacts) -> str:
        if column.total is not None:
            decimals = column.format.decimals
            number = facts.total_text(column.total, decimals if isinstance(decimals, int) else None)
            if column.total in self._hashes:
                number = number[-column.length :]  # By definition: the rightmost digits.
            text = place(number, self._placing.shape(column))
        else:
            template = self._templates.get(column.template or "")
            value = template.render(facts) if template else column.constant or ""
            text = (value.rjust if column.align == "right" else value.ljust)(column.length, column.pad or " ")
        if len(text) > column.length:
            problem = (
                f"column {column.name}: {text.strip()!r} needs {len(text)} places in header or trailer and has "
                f"{column.length}; lengthen it, or send fewer documents per file (max_documents)"
            )
            raise LayoutError(self._prepared.source_file, [problem])
        return text
