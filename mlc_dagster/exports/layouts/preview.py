"""What a layout makes of some records, before anything is sent: the file, every column with its source, every problem.

Works for every format through ``writing.Writer``; nothing is written to the ledger and no control number is taken.
"""

import datetime as dt
import io
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from mlc_dagster import money
from mlc_dagster.exports.layouts.errors import LayoutError
from mlc_dagster.exports.layouts.fixed_writer import end_of
from mlc_dagster.exports.layouts.loading import Layout, open_writer
from mlc_dagster.exports.layouts.model import Column, CsvLayout, FixedColumn, FixedWidthLayout
from mlc_dagster.exports.writing import Change, DocumentHeld, Frame, Part, Rendered, Version, Writer
from mlc_dagster.exports.x12.checks import Inspection, check_interchange, check_segments
from mlc_dagster.exports.x12.envelope import ENVELOPE
from mlc_dagster.exports.x12.layout import X12Layout
from mlc_dagster.exports.x12.writer import X12Writer
from mlc_dagster.fusion.records import Read
from mlc_dagster.settings.exports import ExportSettings
from mlc_dagster.settings.fusion import ChartSettings

_SAMPLE_NUMBER = 1
"""Sequence and control numbers of a preview."""


@dataclass(frozen=True)
class Preview:
    """The file as it would be, and what was checked."""

    content: bytes
    text: str
    """The content decoded for people; EBCDIC files without separators are shown a record per line."""
    checks: tuple[str, ...]
    """One line per check that passed, with how often it was made: ``SE01 counts the segments: 2``."""
    mapping: tuple[str, ...]
    """One line per column or element: source field, target, form."""
    problems: tuple[str, ...]
    """One line per record that would be held, with its reason; and of the file as a whole."""


@dataclass
class _Group:
    bodies: list[Rendered] = field(default_factory=list[Rendered])


def preview(
    layout: Layout, feed: ExportSettings, reads: Sequence[Read], charts: Mapping[str, ChartSettings]
) -> Preview:
    """Render the records as new ones into one file with sample numbers.

    Raises:
        LayoutError: the layout does not fit the feed.
    """
    writer = open_writer(layout, feed, charts)
    identity = layout.identity
    about = f"{identity.name} version {identity.version} ({layout.format}, {layout.source})"
    checks = [f"layout {about}, sha256 {identity.sha256[:12]}: read and checked"]
    problems: list[str] = []
    groups: dict[str, _Group] = {}
    counts: Counter[str] = Counter()
    sure: Counter[str] = Counter()
    latest = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for read in reads:
        latest = max(latest, read.last_update_date or latest)
        version = Version(read, 1, Change.NEW)
        try:
            group = groups.setdefault(writer.group_of(version), _Group())
            rendered = writer.render(version, len(group.bodies) + 1)
        except DocumentHeld as held:
            places = ", ".join(place for place in (held.field, held.target) if place)
            problems.append(
                f"record {read.record_id}: HELD {held.reason}{f' ({places})' if places else ''}: {held.text}"
            )
            continue
        group.bodies.append(rendered)
        counts.update(rendered.counts)
        totals = ", ".join(f"{name} {amount:f}" for name, amount in rendered.totals.items())
        checks.append(f"record {read.record_id}: {rendered.rows} rows{f'; {totals}' if totals else ''}")
        if isinstance(writer, X12Writer):
            name, made_sure_of = writer.checks(version)
            sure.update(f"{name}: {check}" for check in made_sure_of)
    checks += [f"{check}: {count}" for check, count in sure.items()]
    checks += [f"replaced {what}: {count}" for what, count in sorted(counts.items())]
    content = b""
    try:
        content = _assembled(writer, {name: group for name, group in groups.items() if group.bodies}, feed.name, latest)
    except LayoutError as error:
        problems += error.problems
    if isinstance(layout.document, X12Layout) and content:
        for inspection in _inspections(layout.document, content):
            checks += inspection.passed
            problems += inspection.problems
    text = _for_people(layout, content)
    return Preview(content, text, tuple(checks), tuple(_mapping(layout, writer)), tuple(problems))


def _inspections(layout: X12Layout, content: bytes) -> list[Inspection]:
    """What the finished bytes say: the writer's own rules once more, without the writer."""
    envelopes = check_interchange(content)
    if envelopes.problems:
        return [envelopes]
    return [envelopes, check_segments(content, layout.rules.standard, layout.style.characters.allowed)]


def _assembled(writer: Writer, groups: Mapping[str, _Group], feed: str, at: dt.datetime) -> bytes:
    if not groups and not writer.empty_file:
        return b""
    numbers = {
        level: list(range(_SAMPLE_NUMBER, _SAMPLE_NUMBER + count)) for level, count in writer.levels([*groups]).items()
    }
    with tempfile.TemporaryDirectory() as folder:
        parts: list[Part] = []
        for index, (name, group) in enumerate(groups.items()):
            body = Path(folder) / str(index)
            body.write_bytes(b"".join(rendered.body for rendered in group.bodies))
            totals: dict[str, Decimal] = {}
            for rendered in group.bodies:
                for key, amount in rendered.totals.items():
                    totals[key] = money.total((totals.get(key, Decimal(0)), amount))
            rows = sum(rendered.rows for rendered in group.bodies)
            parts.append(Part(name, body, len(group.bodies), rows, totals))
        target = io.BytesIO()
        writer.assemble(parts, Frame(feed, _SAMPLE_NUMBER, at, at, at, numbers), target)
        return target.getvalue()


def _for_people(layout: Layout, content: bytes) -> str:
    document = layout.document
    if isinstance(document, CsvLayout):
        return content.decode(document.encoding).removeprefix("\ufeff")
    if not isinstance(document, FixedWidthLayout):
        return content.decode("latin-1")
    text = content.decode(document.encoding)
    if document.record_separator != "none":
        return text.replace("\x85", "\n")
    frames = [record.columns for record in (*document.header, *document.trailer)]
    ends = map(end_of, (document.columns, document.document_header, document.document_trailer, *frames))
    length = document.record_length or max(ends)
    return "\n".join(text[start : start + length] for start in range(0, len(text), length))


def _mapping(layout: Layout, writer: Writer) -> list[str]:
    document = layout.document
    if isinstance(document, X12Layout):
        return _x12_mapping(document, writer) if isinstance(writer, X12Writer) else []
    lines: list[str] = []
    for place, columns in (
        ("document_header", document.document_header),
        ("columns", document.columns),
        ("document_trailer", document.document_trailer),
    ):
        end = 0
        for column in columns:
            where = ""
            if isinstance(column, FixedColumn):
                start = column.start or end + 1
                end = start + column.length - 1
                where = f" [{start}-{end}]"
            lines.append(
                f"{_origin(column)} -> {'' if place == 'columns' else place + ' '}{column.name}{where}{_form(column)}"
            )
    return lines


def _x12_mapping(layout: X12Layout, writer: X12Writer) -> list[str]:
    """Every element: of the envelope, of the product's own segments and of the layout's."""
    lines = [f"{change.value} -> {name}" for change, name in layout.sets.items()]
    lines += [f"{source} -> {target}" for source, target in ENVELOPE]
    for name, elements in writer.filled().items():
        for filled in elements:
            element = filled.element
            marks = [element.form, *(["required"] if element.mandatory else []), *(["text"] if element.text else [])]
            of = f" of {filled.of}" if "*" in filled.of else ""
            lines.append(f"{name}: {filled.source} -> {filled.target}{of} ({', '.join(marks)})")
    return lines


def _origin(column: Column | FixedColumn) -> str:
    if isinstance(column, FixedColumn) and column.sign_of is not None:
        return f"sign of {column.sign_of}"
    return column.field if column.field is not None else repr(column.constant)


def _form(column: Column | FixedColumn) -> str:
    said = [f"{key} {value}" for key, value in column.format.model_dump(exclude_none=True).items()]
    said += [f"crosswalk {column.crosswalk}"] if column.crosswalk else []
    said += ["required"] if column.required else []
    said += [f"at most {column.max_length}"] if column.max_length else []
    return f" ({', '.join(said)})" if said else ""
