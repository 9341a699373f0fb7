"""What the YAML of a CSV or fixed-width layout may say, with its defaults.

Belongs here: keys, types, and rules between keys of one layout. Does not: whether a field exists (``fields``), what X12
layouts say, and how anything is written.
"""

import codecs
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, cast, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mlc_dagster.exports.layouts.dates import check_pattern
from mlc_dagster.exports.layouts.encodings import SINGLE_BYTE
from mlc_dagster.settings.exports import SourceName


class LayoutModel(BaseModel):
    """Base of all: unknown keys are errors, nothing is converted, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _pattern_only(value: object) -> object:
    return {"pattern": value} if isinstance(value, str) else value


def _cells_only(value: object) -> object:
    return {"cells": cast("object", value)} if isinstance(value, list) else value


def _columns_only(value: object) -> object:
    return {"columns": cast("object", value)} if isinstance(value, list) else value


def _version_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _encoding(value: str) -> str:
    try:
        name = codecs.lookup(value).name
    except LookupError:
        raise ValueError(f"{value!r} is no encoding; such as utf-8, cp1252, cp037") from None
    if name in ("utf-8-sig", "utf-16", "utf-32"):
        plain = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}[name]
        raise ValueError(f"{value!r} brings a byte order mark of its own; write {plain} and bom: true")
    return name


def _one_character(value: str) -> str:
    if len(value) != 1:
        raise ValueError(f"{value!r} must be one character")
    return value


Encoding = Annotated[str, AfterValidator(_encoding)]
DatePattern = Annotated[str, AfterValidator(check_pattern)]
Character = Annotated[str, AfterValidator(_one_character)]
Word = Annotated[str, Field(min_length=1)]
Decimals = Annotated[int, Field(ge=0, le=20)] | Literal["as_is", "currency"]


class CrosswalkRules(LayoutModel):
    """``file`` (CSV, columns fusion and partner) or ``codes`` written here."""

    file: Word | None = None
    codes: dict[str, str] | None = None
    on_miss: Literal["hold", "keep", "default"] = "hold"
    default: str | None = None

    @model_validator(mode="after")
    def _one_table(self) -> Self:
        if (self.file is None) == (self.codes is None):
            raise ValueError("has either file or codes")
        if (self.on_miss == "default") != (self.default is not None):
            raise ValueError("default belongs to on_miss: default, and that needs it")
        return self


class CellFormat(LayoutModel):
    """How a value becomes text; a text alone is a date pattern."""

    pattern: DatePattern | None = None
    """Dates and times: %Y %y %m %d %b %B %j %H %M %S and other text."""
    decimals: Decimals | None = None
    """Numbers: so many places, as_is, or the currency's minor units (the default of amounts). Never rounded."""
    mark: Literal[".", ","] | None = None
    negative: Literal["leading", "trailing", "parentheses"] | None = None
    true: str | None = None
    false: str | None = None


class FixedFormat(CellFormat):
    """Fixed width: besides, where the sign stands and whether the decimal mark is written."""

    implied: bool | None = None
    """The decimal mark is not written: 10.50 is 1050."""
    sign: Literal["none", "leading", "trailing", "separate", "parentheses", "overpunch", "overpunch_ascii"] | None = (
        None
    )
    """none: negative amounts hold the document. separate: another column says it (``sign_of``)."""
    plus: Literal["", "+", " "] | None = None
    """What stands for a sign where the amount is not negative (leading, trailing)."""


class ColumnBase(LayoutModel):
    """One value of each row."""

    name: Word
    """What the partner calls it."""
    field: Word | None = None
    constant: str | None = None
    crosswalk: str | None = None
    required: bool = False
    """An absent or empty value holds the document."""
    max_length: Annotated[int, Field(ge=1)] | None = None
    """Characters; a longer value holds the document, nothing is ever cut."""
    case: Literal["upper", "lower"] | None = None
    default: str | None = None
    """Text instead of an absent or empty value."""
    null: str | None = None
    """Instead of the layout's null token."""


class Column(ColumnBase):
    """A field of the source, or a constant."""

    format: Annotated[CellFormat, BeforeValidator(_pattern_only)] = CellFormat()

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.field is None) == (self.constant is None):
            raise ValueError(f"column {self.name} has either field or constant")
        return self


class Total(LayoutModel):
    """A control total over the rows written."""

    field: Word
    method: Literal["sum", "hash"] = "sum"
    """hash: the digits of each value, read as one number, added up."""


class Common(LayoutModel):
    """What both formats say in the same words."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
    version: Annotated[Word, BeforeValidator(_version_text)]
    description: str | None = None
    source: SourceName
    row: Literal["header", "line", "schedule", "distribution", "installment", "site"]
    """What one row is of."""
    childless: Literal["row", "skip", "hold"] = "row"
    """A parent without children of that level: a row with their fields empty, none (counted), or the document waits."""
    chart: str | None = None
    """Chart of accounts behind segment fields of invoices and orders; journals' follows from their ledger."""
    file_name: Word
    extension: Annotated[str, Field(pattern=r"^\.[A-Za-z0-9.]+$")]
    crosswalks: dict[str, CrosswalkRules] = {}
    totals: dict[str, Total] = {}
    encoding: Encoding
    unencodable: Literal["hold", "replace"] = "hold"
    """replace: quotes and dashes by plain ones, others by ``replacement``; counted."""
    replacement: Character = "?"
    dates: DatePattern = "%Y-%m-%d"
    times: DatePattern = "%Y-%m-%dT%H:%M:%SZ"
    """UTC."""
    flags: Annotated[tuple[str, str], Field(strict=False)] = ("Y", "N")
    """Texts of true and false."""
    empty_file: Literal["none", "frame"] = "none"
    """frame: a poll without changes gives a file of header and trailer."""


class FrameRecord(LayoutModel):
    """A header or trailer record of a CSV file: a template per cell."""

    per: Literal["file", "currency"] = "file"
    """currency: one such record for each currency in the file, with its totals."""
    cells: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


CsvColumns = Annotated[tuple[Column, ...], Field(strict=False)]
CsvFrame = Annotated[tuple[Annotated[FrameRecord, BeforeValidator(_cells_only)], ...], Field(strict=False)]


class CsvLayout(Common):
    """Delimited text."""

    format: Literal["csv"]
    extension: Annotated[str, Field(pattern=r"^\.[A-Za-z0-9.]+$")] = ".csv"
    encoding: Encoding = "utf-8"
    bom: bool = False
    delimiter: Word = ","
    """One or several characters."""
    quote: Literal["minimal", "all", "text", "none"] = "minimal"
    quote_char: Character = '"'
    unquotable: Literal["hold", "replace"] = "hold"
    """With quote none: a value with a delimiter or a new line holds the document, or gets blanks instead; counted."""
    newlines: Literal["keep", "replace"] = "keep"
    """New lines in texts stay, quoted, or become a blank; counted."""
    line_ending: Literal["crlf", "lf", "cr"] = "crlf"
    null: str = ""
    column_names: bool = True
    formula_guard: Literal["off", "prefix", "reject"] = "off"
    """For people who open the file in a spreadsheet: texts that begin like a formula get a ', or hold the document."""
    mark: Literal[".", ","] = "."
    negative: Literal["leading", "trailing", "parentheses"] = "leading"
    columns: Annotated[tuple[Column, ...], Field(strict=False, min_length=1)]
    document_header: CsvColumns = ()
    """A record before the rows of each document."""
    document_trailer: CsvColumns = ()
    header: CsvFrame = ()
    trailer: CsvFrame = ()

    @model_validator(mode="after")
    def _delimiter_is_no_other_mark(self) -> Self:
        if any(mark in self.delimiter for mark in (self.quote_char, "\r", "\n")):
            raise ValueError(f"delimiter: {self.delimiter!r} has the quote character or a new line in it")
        if self.bom and not self.encoding.startswith(("utf-8", "utf-16", "utf-32")):
            raise ValueError(f"bom: {self.encoding} has no byte order mark")
        _distinct("column", [column.name for column in self.columns])
        return self


class FixedColumn(ColumnBase):
    """One stretch of a record."""

    format: Annotated[FixedFormat, BeforeValidator(_pattern_only)] = FixedFormat()
    start: Annotated[int, Field(ge=1)] | None = None
    """From 1; right after the column before when absent. Gaps are blanks."""
    length: Annotated[int, Field(ge=1)]
    """Bytes (characters with ``length_mode: characters``)."""
    align: Literal["left", "right"] | None = None
    """Numbers right and texts left when absent."""
    pad: Character | None = None
    """Numbers 0 and texts a blank when absent."""
    template: str | None = None
    """Header and trailer only, such as ``{rows}``."""
    total: str | None = None
    """Header and trailer only: a control total, as a number."""
    sign_of: str | None = None
    """The sign of the amount in that column."""
    signs: Annotated[tuple[str, str], Field(strict=False)] = ("+", "-")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = (self.field, self.constant, self.template, self.total, self.sign_of)
        if sum(origin is not None for origin in origins) != 1:
            raise ValueError(f"column {self.name} has exactly one of field, constant, template, total, sign_of")
        return self


class FixedFrameRecord(LayoutModel):
    """A header or trailer record."""

    per: Literal["file", "currency"] = "file"
    columns: Annotated[tuple[FixedColumn, ...], Field(strict=False, min_length=1)]


FixedColumns = Annotated[tuple[FixedColumn, ...], Field(strict=False)]
FixedFrame = Annotated[tuple[Annotated[FixedFrameRecord, BeforeValidator(_columns_only)], ...], Field(strict=False)]


class FixedWidthLayout(Common):
    """Records of one length."""

    format: Literal["fixed_width"]
    extension: Annotated[str, Field(pattern=r"^\.[A-Za-z0-9.]+$")] = ".txt"
    encoding: Encoding = "cp1252"
    length_mode: Literal["bytes", "characters"] = "bytes"
    record_length: Annotated[int, Field(ge=1)] | None = None
    """Of every record; the longest one's when absent."""
    record_separator: Literal["crlf", "lf", "nel", "none"] = "crlf"
    """none: records follow one another, as mainframe FB files do; nel: EBCDIC's new line."""
    mark: Literal[".", ","] = "."
    implied: bool = False
    sign: Literal["none", "leading", "trailing", "separate", "parentheses", "overpunch", "overpunch_ascii"] = "leading"
    columns: Annotated[tuple[FixedColumn, ...], Field(strict=False, min_length=1)]
    document_header: FixedColumns = ()
    document_trailer: FixedColumns = ()
    header: FixedFrame = ()
    trailer: FixedFrame = ()

    @model_validator(mode="after")
    def _lengths_can_be_kept(self) -> Self:
        if self.length_mode == "bytes" and self.encoding not in SINGLE_BYTE:
            raise ValueError(
                f"encoding: {self.encoding} has characters of several bytes, which shift the columns after them; "
                "take an encoding of one byte per character, or write length_mode: characters"
            )
        frames = [record.columns for record in (*self.header, *self.trailer)]
        for columns in (self.columns, self.document_header, self.document_trailer, *frames):
            _distinct("column", [column.name for column in columns])
            end = 0
            for column in columns:
                start = column.start or end + 1
                if start <= end:
                    raise ValueError(f"column {column.name} starts at {start}, inside the one before (ends at {end})")
                end = start + column.length - 1
            if self.record_length is not None and end > self.record_length:
                raise ValueError(f"record_length: {self.record_length} is less than {end}, where the columns end")
        return self


def _distinct(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what} {name!r} is there twice; give each its own name")


Tabular = CsvLayout | FixedWidthLayout

MODELS: dict[str, type[CsvLayout] | type[FixedWidthLayout]] = {"csv": CsvLayout, "fixed_width": FixedWidthLayout}


def keys_at(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """Keys that are valid where an unknown key stood, for the error's hint."""
    current = model
    for part in location[:-1]:
        field = current.model_fields.get(part) if isinstance(part, str) else None
        if field is not None:
            current = _model_within(field.annotation) or current
    return list(current.model_fields)


def _model_within(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_within(part) for part in get_args(annotation))
    return next((model for model in found if model is not None), None)
