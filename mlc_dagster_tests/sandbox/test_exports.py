"""The Stampli side of the sandbox: files named, written and shaped as an export is."""

import csv
import dataclasses
import datetime as dt
import io
import re
import time
from decimal import Decimal
from pathlib import Path

from mlc_dagster.sandbox.exports import COLUMNS, ExportInvoice, ExportLine, StampliExport, render
from mlc_dagster.sandbox.samples import Samples

NOW = dt.datetime(2026, 11, 21, 8, 30, tzinfo=dt.UTC)
INVOICE = ExportInvoice(
    invoice_id="88121",
    number="INV-00417",
    vendor_id="30012",
    vendor_name='Acme, "Inc."',
    invoice_date=dt.date(2026, 11, 20),
    approved_at=NOW,
    lines=(ExportLine(Decimal("1000.00")), ExportLine(Decimal("82.50"), line_type="TAX", account="22100")),
)


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def test_one_row_per_line_with_the_header_repeated() -> None:
    """The shape of the export: what differs between the rows of an invoice is its lines alone."""
    rows = rows_of(render([INVOICE]))
    lines = {"line_number", "line_type", "line_description", "line_amount", "gl_account", "dim_cost_center"}
    assert len(rows) == 2
    assert list(rows[0]) == list(COLUMNS)
    assert {name for name in rows[0] if rows[0][name] != rows[1][name]} <= lines
    assert [row["invoice_amount"] for row in rows] == ["1082.50", "1082.50"]
    assert rows[0]["vendor_name"] == 'Acme, "Inc."'
    assert rows[0]["approved_at"] == "2026-11-21T08:30:00Z"


def test_a_header_may_contradict_its_lines() -> None:
    """A simulator that cannot err cannot show what happens when Stampli does."""
    wrong = dataclasses.replace(INVOICE, amount=Decimal("1100.00"))
    assert rows_of(render([wrong]))[0]["invoice_amount"] == "1100.00"


def test_names_count_up_over_the_folder(tmp_path: Path) -> None:
    """Two exports within one second, or after a restart, must not take one name."""
    names = [StampliExport(tmp_path, clock=lambda: NOW).send(b"a\r\n").name for _ in range(3)]
    assert names == [f"stampli_invoices_C100_20261121T083000Z_{place:06d}.csv" for place in (1, 2, 3)]


def test_a_sent_file_is_whole_under_its_name(tmp_path: Path) -> None:
    """Nothing is left of the temporary name, and the age is what was asked for."""
    path = StampliExport(tmp_path).send(b"whole\r\n", age=dt.timedelta(days=40))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"whole\r\n"
    assert 39.9 < (time.time() - path.stat().st_mtime) / 86400 < 40.1


def test_a_begun_file_grows_in_place(tmp_path: Path) -> None:
    """The sender without temporary names, for whom the settle time exists."""
    export = StampliExport(tmp_path)
    path = export.begin(b"one\r\n")
    export.more(path, b"two\r\n")
    assert path.read_bytes() == b"one\r\ntwo\r\n"


def test_samples_are_new_every_time() -> None:
    """Dropping files twice must not look like sending the same invoices twice."""
    first = rows_of(Samples(NOW).ordinary(20).content)
    later = rows_of(Samples(NOW + dt.timedelta(seconds=1)).ordinary(20).content)
    numbers = [{row["invoice_number"] for row in rows} for rows in (first, later)]
    ids = [{row["invoice_id"] for row in rows} for rows in (first, later)]
    assert len(numbers[0]) == len(ids[0]) == 20
    assert not numbers[0] & numbers[1]
    assert not ids[0] & ids[1]
    assert all(re.fullmatch(r"[A-Za-z0-9-]{1,50}", number) for number in numbers[0])
