"""Columns made ready for one feed: from the values of a document's rows to their texts, column by column.

Belongs here: which values, number and date formats, crosswalks, case, defaults, required values, lengths in characters.
Does not: quoting, padding, encoding; those are the writers'.
"""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import attrgetter
from typing import Any, Literal, cast

from mlc_dagster.exports.layouts.crosswalk import CodeUnknown, Crosswalk
from mlc_dagster.exports.layouts.dates import date_text
from mlc_dagster.exports.layouts.documents import Document, derived, places_of
from mlc_dagster.exports.layouts.fields import Field
from mlc_dagster.exports.layouts.model import Column, Common, FixedColumn
from mlc_dagster.exports.layouts.numbers import ScaleExceeded, number_texts
from mlc_dagster.exports.writing import DocumentHeld

_MEMO = 50_000
"""Finished texts kept per column: most values of a document repeat from one to the next."""

Texts = list[str | None]


@dataclass(frozen=True, slots=True)
class Rules:
    """What all columns of a layout share."""

    layout: Common
    crosswalks: Mapping[str, Crosswalk]
    style: Callable[["Cell", Texts], Texts]
    """The look of numbers: decimal mark and sign."""


class Cell:
    """One column of one layout."""

    def __init__(self, column: Column | FixedColumn, field: Field | None, rules: Rules) -> None:
        self.column = column
        self.field = field
        self.name = column.name
        self.numeric = field is not None and field.kind in ("decimal", "integer") and column.crosswalk is None
        self.text_like = field is not None and (field.kind == "text" or column.crosswalk is not None)
        self._rules = rules
        self._pattern = column.format.pattern or (
            rules.layout.times if field is not None and field.kind == "time" else rules.layout.dates
        )
        yes, no = rules.layout.flags
        self._flags = {True: column.format.true or yes, False: column.format.false or no}
        self._dates: dict[dt.date, str] = {}
        self._crosswalk = rules.crosswalks[column.crosswalk] if column.crosswalk else None
        self._finishing = bool(
            self._crosswalk or column.case or column.required or column.max_length or column.default is not None
        )

    def held(self, reason: str, index: int, document: Document, text: str) -> DocumentHeld:
        """The reason why the document waits, naming column, row and field."""
        field = self.field.name if self.field else None
        at_row = (
            ""
            if self.field is None or self.field.level == "document"
            else f", row {document.first_row + index + 1} of {document.rows}"
        )
        origin = f" ({field})" if field else ""
        return DocumentHeld(reason, f"column {self.name}{origin}{at_row}: {text}", field=field, target=self.name)

    @property
    def plain(self) -> bool:
        """Nothing is done to texts that are there beyond their format."""
        column = self.column
        return not (self._crosswalk or column.case or column.max_length or column.default is not None)

    def places(self, values: Sequence[Decimal | None], document: Document) -> int | Literal["mixed"] | None:
        """Decimals of an amount column; mixed where its rows differ. Raises DocumentHeld."""
        field = cast("Field", self.field)
        decimals = self.column.format.decimals
        if decimals is None:
            decimals = "currency" if field.money else "as_is"
        if decimals != "currency":
            return None if decimals == "as_is" else decimals
        currencies = document.currencies(field)
        if isinstance(currencies, list):
            return "mixed"
        try:
            return self._places(currencies, values)
        except DocumentHeld as error:
            raise self.held(error.reason, 0, document, error.text) from None

    def texts(self, values: Sequence[Any], document: Document) -> Texts:
        """The values as texts; None where there is none. Raises DocumentHeld."""
        texts = self._formatted(values, document)
        return self._finished(texts, document) if self._finishing else texts

    def _formatted(self, values: Sequence[Any], document: Document) -> Texts:
        kind = self.field.kind if self.field else "text"
        if kind == "text":
            return list(values)
        if kind == "decimal":
            return self._rules.style(self, self._numbers(values, document))
        if kind == "integer":
            return [None if value is None else str(value) for value in values]
        if kind == "flag":
            return [None if value is None else self._flags[value] for value in values]
        return [None if value is None else self._date(value) for value in values]

    def _date(self, value: dt.date) -> str:
        text = self._dates.get(value)
        if text is None:
            if len(self._dates) >= _MEMO:
                self._dates.clear()
            text = self._dates[value] = date_text(value, self._pattern)
        return text

    def _numbers(self, values: Sequence[Decimal | None], document: Document) -> Texts:
        try:
            places = self.places(values, document)
            if places != "mixed":
                return number_texts(values, places)
            currencies = cast("list[str | None]", document.currencies(cast("Field", self.field)))
            texts: Texts = [None] * len(values)
            for currency in set(currencies):
                rows = [index for index, own in enumerate(currencies) if own == currency]
                own_values = [values[index] for index in rows]
                for index, text in zip(rows, self._of_rows(own_values, currency, rows, document), strict=True):
                    texts[index] = text
            return texts
        except ScaleExceeded as error:
            remedy = "nothing is rounded: correct the amount, or write more decimals in the layout"
            raise self.held("AMOUNT_SCALE", error.index, document, f"{error}; {remedy}") from None

    def _of_rows(
        self, values: Sequence[Decimal | None], currency: str | None, rows: Sequence[int], document: Document
    ) -> Texts:
        try:
            return number_texts(values, self._places(currency, values))
        except ScaleExceeded as error:
            raise ScaleExceeded(rows[error.index], error.value, error.places) from None
        except DocumentHeld as error:
            raise self.held(error.reason, rows[0], document, error.text) from None

    def _places(self, currency: str | None, values: Sequence[Decimal | None]) -> int | None:
        if currency is None and all(value is None for value in values):
            return None
        return places_of(currency)

    def _finished(self, texts: Texts, document: Document) -> Texts:
        column = self.column
        if self._crosswalk is not None:
            texts = self._translated(texts, self._crosswalk, document)
        if column.case == "upper":
            texts = [text and text.upper() for text in texts]
        elif column.case == "lower":
            texts = [text and text.lower() for text in texts]
        if column.default is not None:
            texts = [text or column.default for text in texts]
        if column.required and not all(texts):
            index = next(index for index, text in enumerate(texts) if not text)
            raise self.held(
                "FIELD_MISSING",
                index,
                document,
                "is empty and the layout requires it; fill it in Fusion, or give a default",
            )
        if column.max_length is not None and max((len(text) for text in texts if text), default=0) > column.max_length:
            index, text = next((i, t) for i, t in enumerate(texts) if t and len(t) > column.max_length)
            raise self.held(
                "TOO_LONG",
                index,
                document,
                f"{text!r} has {len(text)} characters and the partner takes {column.max_length}; nothing is cut: "
                "shorten it in Fusion, or agree on more",
            )
        return texts

    def _translated(self, texts: Texts, crosswalk: Crosswalk, document: Document) -> Texts:
        translated: Texts = []
        for index, text in enumerate(texts):
            try:
                translated.append(text and crosswalk.translate(text))
            except CodeUnknown as error:
                raise self.held("CODE_UNKNOWN", index, document, str(error)) from None
        return translated


def values_of(field: Field, document: Document) -> Sequence[Any]:
    """Values of one field: per row, or once where the field is the document's."""
    if field.level == "document":
        return (attrgetter(field.attribute)(document),)
    if field.family == "segment":
        return document.segments(field.attribute)
    if field.family == "status":
        return document.statuses(field.level)
    if field.family == "derived":
        return derived(document, field.attribute)
    return document.column(field.level, field.attribute)


Make = Callable[[Sequence[Any], Document, "Counter[str]"], Sequence[str]]
"""From a column's values to its texts in the file (quoted or padded), one per value; counts what it replaced."""


class RecordPlan:
    """One record type: its columns in order, read together per level."""

    def __init__(self, cells: Sequence[Cell], make: Callable[[Cell], Make]) -> None:
        self.cells = cells
        self._makes = [make(cell) for cell in cells]
        self._constants = [(index, cell.column.constant) for index, cell in enumerate(cells) if cell.field is None]
        shared = [
            (index, cell.field) for index, cell in enumerate(cells) if cell.field and cell.field.level == "document"
        ]
        self._memos: list[tuple[int, dict[Any, str], bool]] = [
            (index, {}, field.money is None) for index, field in shared
        ]
        self._read_shared = _reader([field.attribute for _, field in shared])
        self._by_row = [
            (index, cell.field) for index, cell in enumerate(cells) if cell.field and cell.field.level != "document"
        ]
        self._fixed: dict[int, str] = {}

    def columns(self, document: Document, counts: Counter[str]) -> list[str | Sequence[str]]:
        """Per column one text for all rows, or one per row. Raises DocumentHeld."""
        result: list[str | Sequence[str]] = [""] * len(self.cells)
        makes = self._makes
        for index, constant in self._constants:
            if index not in self._fixed:
                self._fixed[index] = makes[index]((constant,), document, counts)[0]
            result[index] = self._fixed[index]
        for (index, memo, lasting), value in zip(self._memos, self._read_shared(document), strict=True):
            text = memo.get(value) if lasting else None
            result[index] = self._once(index, memo, value, document, counts) if text is None else text
        for index, field in self._by_row:
            result[index] = makes[index](values_of(field, document), document, counts)
        return result

    def _once(self, index: int, memo: dict[Any, str], value: Any, document: Document, counts: Counter[str]) -> str:
        """A value that all rows share; remembered, for most come again, unless something was replaced in it."""
        before = counts.total()
        text = self._makes[index]((value,), document, counts)[0]
        if counts.total() == before:
            if len(memo) >= _MEMO:
                memo.clear()
            memo[value] = text
        return text


def _reader(attributes: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """All attributes of an object at once, always as a tuple."""
    if not attributes:
        return lambda _: ()
    if len(attributes) == 1:
        one = attrgetter(attributes[0])
        return lambda entry: (one(entry),)
    return attrgetter(*attributes)
