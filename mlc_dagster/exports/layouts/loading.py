"""Layouts from YAML: found, read, checked, hashed; and writers made of them for one feed.

Belongs here: names and paths, crosswalk files, errors in the words of the file. Does not: what keys mean (``model``).
"""

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pydantic

from mlc_dagster.exports.layouts import csv_writer, fixed_writer
from mlc_dagster.exports.layouts.cells import Cell, Rules
from mlc_dagster.exports.layouts.crosswalk import Crosswalk, read_codes
from mlc_dagster.exports.layouts.csv_writer import CsvWriter
from mlc_dagster.exports.layouts.documents import Charts
from mlc_dagster.exports.layouts.errors import LayoutError
from mlc_dagster.exports.layouts.fields import ROWS, Field, FieldUnknown, find_field
from mlc_dagster.exports.layouts.fixed_writer import FixedWidthWriter
from mlc_dagster.exports.layouts.frames import DeclaredTotal, total_names
from mlc_dagster.exports.layouts.model import (
    MODELS,
    Column,
    CrosswalkRules,
    CsvLayout,
    FixedColumn,
    FixedWidthLayout,
    Tabular,
    keys_at,
)
from mlc_dagster.exports.layouts.tabular import Prepared
from mlc_dagster.exports.layouts.yaml_text import YamlText
from mlc_dagster.exports.writing import LayoutIdentity, Writer
from mlc_dagster.exports.x12.layout import X12Layout, parse_x12_layout
from mlc_dagster.exports.x12.writer import X12Writer
from mlc_dagster.settings.exports import ExportSettings
from mlc_dagster.settings.fusion import ChartSettings

_NUMBER = re.compile(r"(-?[0-9]+(\.[0-9]+)?)?")
FORMATS = ("csv", "fixed_width", "x12")


@dataclass(frozen=True)
class Layout:
    """A layout that was read and checked, with what identifies it."""

    document: CsvLayout | FixedWidthLayout | X12Layout
    crosswalks: Mapping[str, Crosswalk]
    identity: LayoutIdentity
    source: str
    source_file: str

    @property
    def format(self) -> str:
        return self.identity.format


def shipped_layouts() -> list[str]:
    """Names of the layouts that come with the product."""
    folder = files("mlc_dagster.exports.layouts") / "shipped"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_layout(name_or_path: str, *, root: Path) -> Layout:
    """A layout by the name of a shipped one, or by the path of a YAML file (relative to ``root``).

    Raises:
        LayoutError: no such layout, not YAML, an unknown key or field (with the nearest), or a wrong value.
    """
    if "/" not in name_or_path and not name_or_path.endswith((".yaml", ".yml")):
        known = shipped_layouts()
        if name_or_path not in known:
            near = difflib.get_close_matches(name_or_path, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise LayoutError(name_or_path, [f"no layout of this name comes with the product; {hint}"])
        data = (files("mlc_dagster.exports.layouts") / "shipped" / f"{name_or_path}.yaml").read_bytes()
        return _parsed(data, source_file=f"{name_or_path}.yaml", folder=None)
    path = root / name_or_path
    return _parsed(_bytes(path, str(path)), source_file=str(path), folder=path.parent)


def _bytes(path: Path, source_file: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise LayoutError(
            source_file, [f"{path}: no such file; paths start at the folder of the file that names it"]
        ) from None
    except OSError as error:
        raise LayoutError(source_file, [f"{path}: cannot be read: {error.strerror}"]) from None


def _text(data: bytes, source_file: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise LayoutError(source_file, [f"line {line}: is not UTF-8; save the file as UTF-8"]) from None


def _parsed(data: bytes, *, source_file: str, folder: Path | None) -> Layout:
    yaml_text = YamlText(_text(data, source_file), source_file)
    document = yaml_text.document
    format_ = document.get("format")
    if format_ not in FORMATS:
        raise LayoutError(source_file, [f"format: is {format_!r}; write one of {', '.join(FORMATS)}"])
    sha256 = hashlib.sha256(data)
    crosswalks = _crosswalks(document, yaml_text, source_file=source_file, folder=folder, sha256=sha256)
    if format_ == "x12":
        try:
            parsed = parse_x12_layout(document, source_file=source_file, crosswalks=crosswalks)
        except LayoutError as error:
            raise LayoutError(source_file, [_with_line(problem, yaml_text) for problem in error.problems]) from None
        rules = parsed.rules
        identity = LayoutIdentity(rules.name, rules.version, sha256.hexdigest(), "x12", rules.extension)
        return Layout(parsed, crosswalks, identity, rules.source, source_file)
    try:
        layout = MODELS[format_].model_validate(document)
    except pydantic.ValidationError as error:
        raise LayoutError(source_file, explain(error, MODELS[format_], yaml_text)) from None
    problems = _unknown_fields(layout, yaml_text)
    if problems:
        raise LayoutError(source_file, problems)
    identity = LayoutIdentity(layout.name, layout.version, sha256.hexdigest(), layout.format, layout.extension)
    return Layout(layout, crosswalks, identity, layout.source, source_file)


def _with_line(problem: str, yaml_text: YamlText) -> str:
    """A problem that begins with its key, with the line in front."""
    key = problem.partition(":")[0]
    path = [int(part) if part.isdecimal() else part for part in key.split(".")]
    return f"line {yaml_text.line_of(path)}: {problem}"


def _crosswalks(
    document: Mapping[str, Any], yaml_text: YamlText, *, source_file: str, folder: Path | None, sha256: Any
) -> dict[str, Crosswalk]:
    declared = document.get("crosswalks", {})
    try:
        rules = pydantic.TypeAdapter(dict[str, CrosswalkRules]).validate_python(declared)
    except pydantic.ValidationError as error:
        problems = explain(error, CrosswalkRules, yaml_text, above=("crosswalks",))
        raise LayoutError(source_file, problems) from None
    crosswalks: dict[str, Crosswalk] = {}
    for name, rule in rules.items():
        codes: Mapping[str, str] = rule.codes or {}
        if rule.file is not None:
            if folder is None:
                raise LayoutError(source_file, [f"crosswalks.{name}.file: a shipped layout has its codes within"])
            path = folder / rule.file
            data = _bytes(path, f"{source_file}: line {yaml_text.line_of(('crosswalks', name, 'file'))}")
            sha256.update(b"\0" + name.encode() + b"\0" + data)
            codes = read_codes(_text(data, str(path)), source_file=str(path))
        crosswalks[name] = Crosswalk(name, codes, rule.on_miss, rule.default)
    return crosswalks


def explain(
    error: pydantic.ValidationError,
    model: type[pydantic.BaseModel],
    yaml_text: YamlText,
    *,
    above: tuple[str, ...] = (),
) -> list[str]:
    """The faults as lines: place in the file, key, value, what is valid."""
    problems: list[str] = []
    for fault in error.errors(include_url=False):
        location = (*above, *fault["loc"])
        key = ".".join(str(part) for part in location)
        place = f"line {yaml_text.line_of(location)}: {key}" if key else "line 1"
        if fault["type"] == "extra_forbidden":
            known = keys_at(model, fault["loc"])
            near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
            problems.append(
                f"{place}: unknown key; {f'did you mean {near[0]!r}?' if near else 'valid: ' + ', '.join(known)}"
            )
        elif fault["type"] == "missing":
            problems.append(f"{place}: is required and absent")
        elif fault["type"] == "value_error":
            problems.append(f"{place}: {fault['msg'].removeprefix('Value error, ')}")
        else:
            hint = "; put it in quotes" if fault["type"] == "string_type" else ""
            problems.append(f"{place}: {fault['msg']} (found {fault['input']!r}){hint}")
    return problems


def _groups(layout: Tabular) -> list[tuple[str, str, Sequence[Column] | Sequence[FixedColumn]]]:
    """Places with columns, the row level of each, and the columns."""
    return [
        ("columns", layout.row, layout.columns),
        ("document_header", "header", layout.document_header),
        ("document_trailer", "header", layout.document_trailer),
    ]


def _unknown_fields(layout: Tabular, yaml_text: YamlText) -> list[str]:
    if layout.row not in ROWS[layout.source]:
        line = yaml_text.line_of(("row",))
        return [f"line {line}: row: {layout.row!r}: {layout.source} have rows of {', '.join(ROWS[layout.source])}"]
    problems: list[str] = []
    for place, row, columns in _groups(layout):
        for index, column in enumerate(columns):
            at = f"line {yaml_text.line_of((place, index))}: {place}.{index} ({column.name})"
            problems += [f"{at}: {text}" for text in _column_problems(layout, row, column, columns)]
    for name, total in layout.totals.items():
        at = f"line {yaml_text.line_of(('totals', name))}: totals.{name}"
        try:
            field = find_field(total.field, source=layout.source, row=layout.row)
        except FieldUnknown as error:
            problems.append(f"{at}: {error}")
        else:
            if total.method == "sum" and field.kind != "decimal":
                problems.append(f"{at}: {total.field} is no number; write method: hash")
    return problems


def _column_problems(
    layout: Tabular, row: str, column: Column | FixedColumn, columns: Sequence[Column] | Sequence[FixedColumn]
) -> list[str]:
    problems: list[str] = []
    if column.crosswalk is not None and column.crosswalk not in layout.crosswalks:
        known = ", ".join(layout.crosswalks) or "none"
        problems.append(f"crosswalk {column.crosswalk!r} is not declared under crosswalks ({known})")
    name = column.field
    if isinstance(column, FixedColumn):
        if column.template is not None or column.total is not None:
            problems.append("template and total belong to header and trailer")
        if column.sign_of is not None:
            signed = next((other for other in columns if other.name == column.sign_of), None)
            if signed is None or signed.field is None:
                problems.append(f"sign_of: {column.sign_of!r} is no column with a field of this record")
            else:
                name = signed.field
    if name is None:
        return problems
    try:
        field = find_field(name, source=layout.source, row=row)
    except FieldUnknown as error:
        return [*problems, f"field {error}"]
    number = isinstance(column, FixedColumn) and field.kind in ("decimal", "integer") and column.crosswalk is None
    if number and not _NUMBER.fullmatch(column.default or ""):
        problems.append(f"default: {column.default!r} is no number, and {field.name} is; write null for other texts")
    return [*problems, *_format_problems(column, field)]


def _format_problems(column: Column | FixedColumn, field: Field) -> list[str]:
    said = column.format.model_dump(exclude_none=True)
    belongs = {
        "decimal": {"decimals", "mark", "negative", "implied", "sign", "plus"},
        "integer": {"implied", "sign", "plus"},
        "date": {"pattern"},
        "time": {"pattern"},
        "flag": {"true", "false"},
        "text": set[str](),
    }[field.kind]
    wrong = [key for key in said if key not in belongs]
    problems = [f"format {key} is not for {field.name}, which is {field.kind}" for key in wrong]
    if said.get("decimals") == "currency" and field.money is None:
        problems.append(
            f"format decimals: currency is for amounts; {field.name} has no currency: write a number or as_is"
        )
    return problems


def open_writer(layout: Layout, feed: ExportSettings, charts: Mapping[str, ChartSettings]) -> Writer:
    """The layout's writer for one feed.

    Raises:
        LayoutError: the layout is for another source, a segment or chart is not there, or X12 has no partner.
    """
    if layout.source != feed.source:
        raise LayoutError(
            layout.source_file,
            [f"source: is {layout.source!r} and feed {feed.name!r} is of {feed.source}; take another"],
        )
    document = layout.document
    if isinstance(document, X12Layout):
        if feed.partner is None:
            raise LayoutError(layout.source_file, [f"feed {feed.name!r}: X12 needs partner: with sender and receiver"])
        return X12Writer(document, layout.identity, feed.partner, charts)
    if document.chart is not None and document.chart not in charts:
        raise LayoutError(layout.source_file, [f"chart: {document.chart!r} is not one of {', '.join(charts)}"])
    known_charts = Charts.of(charts, document.chart)
    style = csv_writer.number_style(document) if isinstance(document, CsvLayout) else fixed_writer.number_style
    rules = Rules(document, layout.crosswalks, style)
    groups = {place: (row, columns) for place, row, columns in _groups(document)}

    def cells(place: str) -> list[Cell]:
        row, columns = groups[place]
        return [_cell(column, columns, row, layout, document, known_charts, rules) for column in columns]

    totals = [
        DeclaredTotal(name, _field(total.field, document.row, layout, document, known_charts), total.method == "hash")
        for name, total in document.totals.items()
    ]
    prepared = Prepared(
        identity=layout.identity,
        feed=feed.name,
        charts=known_charts,
        cells=cells,
        totals=totals,
        total_names=total_names(document.source, document.totals, layout.source_file),
        source_file=layout.source_file,
    )
    if isinstance(document, CsvLayout):
        return CsvWriter(document, prepared)
    return FixedWidthWriter(document, prepared)


def _cell(
    column: Column | FixedColumn,
    columns: Sequence[Column] | Sequence[FixedColumn],
    row: str,
    layout: Layout,
    document: Tabular,
    charts: Charts,
    rules: Rules,
) -> Cell:
    name = column.field
    if isinstance(column, FixedColumn) and column.sign_of is not None:
        name = next(other.field for other in columns if other.name == column.sign_of)
    field = None if name is None else _field(name, row, layout, document, charts)
    return Cell(column, field, rules)


def _field(name: str, row: str, layout: Layout, document: Tabular, charts: Charts) -> Field:
    try:
        return find_field(name, source=document.source, row=row, segments=charts.segments)
    except FieldUnknown as error:
        raise LayoutError(layout.source_file, [f"field {error}"]) from None
