"""The declared shape of an invoice file: a YAML document, checked, versioned and hashed.

Belongs here: what a profile may say, and the questions that a file's name and its end answer. Does not: reading rows
(``rows``) and cells (``cells``, ``parse``). A new file shape is a new profile, never new code for one sender.
"""

import codecs
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, Self

import pydantic
import yaml
from pydantic import Field, field_validator, model_validator

from mlc_dagster.bounded_yaml import read_yaml, yaml_fault
from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.stampli.parsing.file_ends import end_fault
from mlc_dagster.stampli.parsing.profile_files import FileRules, Manifest, Marker, ProfileModel, Trailer, XmlEnd
from mlc_dagster.stampli.parsing.profile_rows import LINE_FIELDS, NOT_USED, FieldName, RowRules, Split, Typed, Xml

# Supersets of ASCII in which no byte of ASCII is part of another character, so that rows can be split as bytes.
_ENCODINGS = {
    codecs.lookup(name).name
    for name in ("utf-8", "ascii", *(f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 7, 9, 10, 13, 14, 15, 16)))
} | {f"cp{page}" for page in (1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258)}


class ProfileError(Expected):
    """A profile that cannot be used: which file, and one line per fault."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, source: str, problems: list[str]) -> None:
        self.source = source
        self.problems = problems
        super().__init__(f"profile {source}: " + "; ".join(problems))


class TextRules(ProfileModel):
    encoding: str = "utf-8"
    """A byte order mark is skipped when the encoding is utf-8."""
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    quote: str = Field(default='"', min_length=1, max_length=1)
    max_field_lines: int = Field(default=20, ge=1, le=1000)
    """Lines that one quoted field may span, and lines set aside together around a broken one."""
    max_field_bytes: int = Field(default=4096, ge=1)
    """Length of a quoted field that spans lines, in characters."""
    max_row_bytes: int = Field(default=1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    max_columns: int = Field(default=1000, ge=1, le=16_384)

    @field_validator("encoding")
    @classmethod
    def _superset_of_ascii(cls, value: str) -> str:
        try:
            name = codecs.lookup(value).name
        except LookupError:
            name = ""
        if name not in _ENCODINGS:
            msg = f"{value!r} is not one of {', '.join(sorted(_ENCODINGS))}"
            raise ValueError(msg)
        return name

    @model_validator(mode="after")
    def _marks_differ(self) -> Self:
        marks = self.delimiter + self.quote
        if len(set(marks)) != 2 or not marks.isascii() or any(mark in "\r\n\0" or mark.isalnum() for mark in marks):
            msg = f"delimiter {self.delimiter!r} and quote {self.quote!r} must be two different ASCII marks"
            raise ValueError(msg)
        return self


class ValueRules(ProfileModel):
    nulls: tuple[str, ...] = ("",)
    decimal_mark: Literal[".", ","] = "."
    excess_zeros: Literal["refuse", "accept"] = "refuse"
    """Whether 10.000 is 10.00 in a currency with two decimals, or refused as a possible ten thousand."""
    date: str = "YYYY-MM-DD"
    """Made of YYYY, MM and DD, once each, and marks between them. Never guessed."""
    timestamp: Literal["iso8601"] = "iso8601"
    """With seconds and zone: 2026-10-30T16:02:11Z."""

    @field_validator("date")
    @classmethod
    def _each_part_once(cls, value: str) -> str:
        rest = value
        for part in ("YYYY", "MM", "DD"):
            if rest.count(part) != 1:
                msg = f"{value!r} must hold YYYY, MM and DD once each"
                raise ValueError(msg)
            rest = rest.replace(part, "")
        if any(mark.isalnum() for mark in rest):
            msg = f"{value!r} holds {rest!r} besides YYYY, MM and DD"
            raise ValueError(msg)
        return value


class Column(ProfileModel):
    """One column: which canonical field it fills and what its cells must look like."""

    field: FieldName
    type: Literal["text", "code", "integer", "decimal", "date", "timestamp", "enum"]
    """``text`` is free and may hold line breaks; ``code`` is one line without invisible characters."""
    required: Literal["value", "column"] | None = None
    """``value``: the column is there and no cell is empty. ``column``: the column is there."""
    max_length: int | None = Field(default=None, ge=1)
    values: dict[str, str] | None = None
    """For enums: word in the file to canonical word."""
    other: Literal["refuse", "keep"] = "refuse"
    """For enums: what happens to a word that ``values`` does not hold."""
    aliases: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _enums_have_values(self) -> Self:
        if (self.type == "enum") != bool(self.values):
            msg = "values belong to columns of type enum, and those need them"
            raise ValueError(msg)
        return self


class DynamicColumns(ProfileModel):
    """Columns that share a prefix and are kept under the rest of their name."""

    target: Literal["dimensions", "custom"]
    level: Literal["line", "header"] = "line"
    max_length: int = Field(default=240, ge=1)

    @model_validator(mode="after")
    def _dimensions_belong_to_lines(self) -> Self:
        if self.target == "dimensions" and self.level == "header":
            msg = "dimensions belong to lines"
            raise ValueError(msg)
        return self


class Forbidden(ProfileModel):
    """Columns whose values must never travel: bank details. A filled cell parks its invoice and is not stored."""

    names: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    def matches(self, column: str) -> bool:
        return column in self.names or column.startswith(self.prefixes)


class Profile(ProfileModel):
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    version: int = Field(ge=1)
    description: str = ""
    file: FileRules
    text: TextRules = TextRules()
    rows: RowRules
    values: ValueRules = ValueRules()
    columns: dict[str, Column]
    prefixes: dict[str, DynamicColumns] = Field(default_factory=dict[str, DynamicColumns])
    forbidden: Forbidden = Forbidden()
    constants: dict[str, str] = Field(default_factory=dict[str, str])
    """Columns that no file has, by name, with the text that stands in all rows; read like any other cell."""
    unknown_columns: Literal["warn", "refuse"] = "warn"

    @model_validator(mode="after")
    def _columns_agree(self) -> Self:
        fields = [column.field for column in self.columns.values()]
        problems = [
            f"field {name!r} is filled by two columns" for name in sorted({f for f in fields if fields.count(f) > 1})
        ]
        needed: set[str] = {"company_id", "number", "invoice_type", "status", "vendor_id", "vendor_name"}
        needed |= {"invoice_date", "currency", "amount", "line_number", "line_type", "line_amount", *self.rows.key}
        required = {column.field for column in self.columns.values() if column.required == "value"}
        problems += [f"no column with required: value fills {name!r}" for name in sorted(needed - required)]
        names = [name for key, column in self.columns.items() for name in (key, *column.aliases)]
        problems += [
            f"{name!r} must be lower case, without blanks around it" for name in names if name != column_name(name)
        ]
        problems += [f"{name!r} names two columns" for name in sorted({n for n in names if names.count(n) > 1})]
        problems += [f"{name!r} is forbidden" for name in names if self.forbidden.matches(name)]
        if self.rows.key[0] != "company_id" or LINE_FIELDS.intersection(self.rows.key):
            problems.append("rows.key begins with company_id and holds no field of a line")
        problems += [f"constants: {name!r} is no column" for name in self.constants if name not in self.columns]
        problems += self._shape_problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _shape_problems(self) -> list[str]:
        """Where the way files end does not go with the way rows stand in them."""
        end, rows = self.file.end, self.rows
        problems: list[str] = []
        for rule, model in ((Manifest, Split), (Trailer, Typed), (XmlEnd, Xml)):
            if isinstance(end, rule) and not isinstance(rows, model):
                name, needed = end.rule, model.model_fields["model"].annotation
                problems.append(f"end rule {name} goes with another row model ({needed})")
        if isinstance(rows, Split) and not isinstance(end, Manifest):
            problems.append("rows.model split needs the end rule manifest: it names the files of a delivery")
        if isinstance(end, Manifest) and self.file.compression != "none":
            problems.append("files of a delivery are not packed: compression must be none")
        if isinstance(rows, Typed):
            problems += rows.problems(end if isinstance(end, Trailer) else None)
            problems += self._strangers(
                name for record in rows.written() for name in (*record.cells, *record.constants)
            )
            if rows.escape == self.text.delimiter:
                problems.append("rows.escape is the delimiter")
        if isinstance(rows, Xml):
            problems += self._strangers([*rows.cells.document, *rows.cells.invoice, *rows.cells.line])
        return problems

    def _strangers(self, names: Iterable[str]) -> list[str]:
        known = {name for key, column in self.columns.items() for name in (key, *column.aliases)} | {NOT_USED}
        return [
            f"rows: {name!r} is no column"
            for name in dict.fromkeys(names)
            if name not in known and not name.startswith(tuple(self.prefixes))
        ]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical content, in hex; comments and layout of the YAML do not count."""
        document = self.model_dump(mode="json")
        if not self.constants:
            # Profiles written before there were constants keep their digest.
            del document["constants"]
        content = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()

    def matches(self, file_name: str) -> bool:
        """Whether a file of this name is of this profile and is not being written."""
        return re.fullmatch(self.file.name, file_name) is not None and not self.in_flight(file_name)

    def part_of(self, file_name: str) -> str | None:
        """Which file of a delivery one of this name is: ``invoices`` or ``lines``; None where it is none."""
        if not isinstance(self.rows, Split) or self.in_flight(file_name):
            return None
        parts = (("invoices", self.rows.invoices), ("lines", self.rows.lines))
        return next((name for name, part in parts if re.fullmatch(part.file, file_name)), None)

    def in_flight(self, file_name: str) -> bool:
        """Whether the name says that the file is being written or belongs to a program."""
        rules = self.file.in_flight
        return file_name.startswith(rules.prefixes) or file_name.lower().endswith(rules.suffixes)

    def sequence(self, file_name: str) -> str | None:
        """The sequence in the file name as it stands there, or None; ordered by ``occurrences.sequence_order``."""
        match = re.fullmatch(self.file.name, file_name)
        return None if match is None else match.groupdict().get("sequence")

    def end_fault(self, path: Path) -> str | None:
        """Why the file does not end where the profile says it ends; None when it is whole.

        Raises:
            OSError: the file cannot be read.
        """
        return end_fault(path, self.file, self.rows, self.text.delimiter)

    @property
    def marker_of(self) -> Callable[[str], str] | None:
        """From a file's name to that of its done marker; None where nothing marks that a file is whole."""
        end = self.file.end
        return end.marker_of if isinstance(end, Marker) else None


def column_name(text: str) -> str:
    """A column's name as profiles write it: lower case, without blanks around it."""
    return text.strip().lower()


@lru_cache(maxsize=32)
def parse_profile(text: str, *, source: str) -> Profile:
    """A profile from YAML text.

    Raises:
        ProfileError: not YAML, an unknown key, a wrong value.
    """
    try:
        document = read_yaml(text)
    except yaml.YAMLError as error:
        raise ProfileError(source, [yaml_fault(error)]) from None
    try:
        return Profile.model_validate(document)
    except pydantic.ValidationError as error:
        faults = error.errors(include_url=False)
        raise ProfileError(
            source, [f"{'.'.join(map(str, fault['loc'])) or 'document'}: {fault['msg']}" for fault in faults]
        ) from None


def load_profile(name_or_path: str | Path) -> Profile:
    """A profile that ships with the product, by name, or one of the user's own, by path of a YAML file.

    Raises:
        ProfileError: no such profile, or it cannot be used.
    """
    text = str(name_or_path)
    shipped = files("mlc_dagster.stampli") / "profiles" / f"{text}.yaml"
    path = Path(text)
    if re.fullmatch(r"[A-Za-z0-9_-]+", text) and shipped.is_file():
        return parse_profile(shipped.read_text(encoding="utf-8"), source=text)
    try:
        return parse_profile(path.read_text(encoding="utf-8"), source=text)
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(text, [f"is neither a profile of the product nor a readable YAML file: {error}"]) from None


def shipped_profiles() -> list[str]:
    """Names of the profiles that come with the product."""
    return sorted(
        each.name.removesuffix(".yaml")
        for each in (files("mlc_dagster.stampli") / "profiles").iterdir()
        if each.name.endswith(".yaml")
    )
