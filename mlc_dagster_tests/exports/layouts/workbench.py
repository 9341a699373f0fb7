"""A bench for layouts: documents by hand, a layout as text, the file that comes out."""

import datetime as dt
import io
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlc_dagster.exports.layouts.loading import Layout, load_layout, open_writer
from mlc_dagster.exports.writing import Change, Frame, Part, Rendered, Version, Writer
from mlc_dagster.fusion.journal_lines import JournalLine, JournalLines
from mlc_dagster.fusion.records import Content, Journal, Read
from mlc_dagster.settings.exports import ExportSettings
from mlc_dagster.settings.fusion import ChartSettings
from mlc_dagster.settings.sftp import SftpSettings

AT = dt.datetime(2026, 11, 21, 12, 30, 5, tzinfo=dt.UTC)
CHART = ChartSettings(
    ledgers=["US Primary Ledger"],
    segments=["entity", "department", "account", "subAccount"],
    natural_account="account",
    cost_center="department",
)
CHARTS = {"US1": CHART}
ACCOUNT = "101-200-60540-000"


def line(number: int, debit: str | None = None, credit: str | None = None, **more: Any) -> JournalLine:
    """A journal line whose accounted amounts are its entered ones."""
    amounts = {
        name: None if text is None else Decimal(text)
        for name, text in (
            ("entered_dr", debit),
            ("accounted_dr", debit),
            ("entered_cr", credit),
            ("accounted_cr", credit),
        )
    }
    return JournalLine(**{"line_number": number, "account_combination": ACCOUNT, **amounts, **more})


def journal(*lines: JournalLine, **more: Any) -> Journal:
    """A journal of US Primary Ledger in USD; two lines of 10.50 unless others are given."""
    values: dict[str, Any] = {
        "batch_id": 4711,
        "batch_name": "Batch",
        "name": "Journal",
        "ledger": "US Primary Ledger",
        "ledger_currency": "USD",
        "currency": "USD",
        "period": "Nov-26",
        "effective_date": dt.date(2026, 11, 3),
        "lines": lines or (line(1, "10.50"), line(2, None, "10.50")),
    }
    values |= more
    return Journal(**{**values, "lines": JournalLines.of(values["lines"])})


def version_of(content: Content, source: str = "journals", **more: Any) -> Version:
    return Version(
        Read(source=source, record_id=content.record_id, fusion_id=4711, content=content, **more), 1, Change.NEW
    )


def feed_of(source: str = "journals", **more: Any) -> ExportSettings:
    sftp = SftpSettings.model_construct()
    values: dict[str, Any] = {"name": "partner", "source": source, "layout": "x", "partner": None, "sftp": sftp}
    return ExportSettings.model_construct(**{**values, **more})


def loaded(text: str, **files: str) -> Layout:
    """The layout, with the crosswalk files beside it."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "layout.yaml").write_text(text, encoding="utf-8")
        for name, content in files.items():
            (Path(folder) / f"{name}.csv").write_text(content, encoding="utf-8")
        return load_layout("layout.yaml", root=Path(folder))


def csv_layout(columns: str, *rules: str, row: str = "line", source: str = "journals") -> str:
    """A CSV layout's text: ``columns`` as a YAML list in one line or more, ``rules`` as further keys."""
    head = f"format: csv\nname: test\nversion: '1'\nsource: {source}\nrow: {row}\nfile_name: '{{feed}}'\n"
    return head + "\n".join(rules) + f"\ncolumns: {columns}\n"


def fixed_layout(columns: str, *rules: str) -> str:
    head = "format: fixed_width\nname: test\nversion: '1'\nsource: journals\nrow: line\nfile_name: '{feed}'\n"
    return head + "\n".join(rules) + f"\ncolumns: {columns}\n"


def writer_of(text: str, charts: Mapping[str, ChartSettings] | None = None, **files: str) -> Writer:
    layout = loaded(text, **files)
    return open_writer(layout, feed_of(layout.source), CHARTS if charts is None else charts)


def rendered(text: str, content: Content, source: str = "journals") -> Rendered:
    return writer_of(text).render(version_of(content, source), 1)


def body(text: str, content: Content, source: str = "journals") -> bytes:
    return rendered(text, content, source).body


def assembled(writer: Writer, versions: Sequence[Version], *, sequence: int = 7) -> bytes:
    """The whole file of these versions."""
    bodies = [writer.render(version, position) for position, version in enumerate(versions, start=1)]
    totals: dict[str, Decimal] = {}
    for each in bodies:
        for name, amount in each.totals.items():
            totals[name] = totals.get(name, Decimal(0)) + amount
    target = io.BytesIO()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "body"
        path.write_bytes(b"".join(each.body for each in bodies))
        parts = [Part("", path, len(bodies), sum(each.rows for each in bodies), totals)] if bodies else []
        writer.assemble(parts, Frame("partner", sequence, AT, AT, AT), target)
    return target.getvalue()


def file_of(text: str, *contents: Content, source: str = "journals") -> bytes:
    return assembled(writer_of(text), [version_of(content, source) for content in contents])
