"""Builds the same invoices in each shape that a profile can describe: split files, typed records, XML.

Rows are those of ``builders.invoice_rows``: what is read from any shape must be what the plain CSV says.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree as ET

from mlc_dagster.stampli.parsing.parse import parse_file
from mlc_dagster.stampli.parsing.parsed import ParsedInvoice, QuarantinedRow
from mlc_dagster.stampli.parsing.profile import Profile, load_profile
from mlc_dagster.stampli.parsing.profile_rows import Typed, Xml

SPLIT = load_profile("stampli_split_eu")
TYPED = load_profile("stampli_typed_pipe")
XML = load_profile("stampli_xml")

Rows = Iterable[Mapping[str, str]]
Entry = dict[str, str | int]

HEADER_COLUMNS = (
    "company_id", "invoice_id", "invoice_revision", "invoice_number", "invoice_type", "vendor_id", "vendor_name",
    "invoice_date", "due_date", "posting_date", "currency", "invoice_amount",
)  # fmt: skip
LINE_COLUMNS = ("invoice_id", "line_number", "line_type", "line_description", "line_amount", "gl_account",
                "dim_cost_center")  # fmt: skip


def _european(column: str, cell: str) -> str:
    if column.endswith("_date") and cell:
        year, month, day = cell.split("-")
        return f"{day}.{month}.{year}"
    return cell.replace(".", ",") if column.endswith("_amount") else cell


def _csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    quoted = (";".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' if ";" in cell or '"' in cell else cell
                       for cell in row) for row in [columns, *rows])  # fmt: skip
    return "".join(f"{line}\r\n" for line in quoted).encode("cp1252")


def first_rows(rows: Rows) -> dict[str, Mapping[str, str]]:
    """The first row of each invoice."""
    found: dict[str, Mapping[str, str]] = {}
    for row in rows:
        found.setdefault(row["invoice_id"], row)
    return found


def split_parts(rows: Rows) -> dict[str, bytes]:
    """The two files, by name."""
    rows = list(rows)
    heads = [[_european(name, row.get(name, "")) for name in HEADER_COLUMNS] for row in first_rows(rows).values()]
    lines = [[_european(name, row.get(name, "")) for name in LINE_COLUMNS] for row in rows]
    return {"x_headers.csv": _csv(HEADER_COLUMNS, heads), "x_lines.csv": _csv(LINE_COLUMNS, lines)}


def manifest_of(parts: Mapping[str, bytes], **wrong: Mapping[str, str | int]) -> bytes:
    """A manifest that is true of these files; ``wrong``: keys of the entry ``headers`` or ``lines`` to replace."""
    entries: list[Entry] = []
    for name, content in parts.items():
        part = "headers" if "headers" in name else "lines"
        rows = list(csv.reader(content.decode("cp1252").splitlines(), delimiter=";"))
        at = rows[0].index("invoice_amount" if part == "headers" else "line_amount")
        amounts = (Decimal(row[at].replace(",", ".")) for row in rows[1:] if _is_number(row, at))
        entry: Entry = {
            "name": name,
            "bytes": len(content),
            "records": len(rows) - 1,
            "sha256": hashlib.sha256(content).hexdigest(),
            "total": str(sum(amounts, Decimal(0))).replace(".", ","),
        }
        entries.append({**entry, **wrong.get(part, {})})
    return json.dumps({"created_at": "2026-10-30T16:02:11Z", "files": entries}).encode()


def _is_number(row: Sequence[str], at: int) -> bool:
    return len(row) > at and row[at].replace(",", "").lstrip("-").isdigit()


def manifest_name(sequence: int = 1) -> str:
    return f"stampli_C100_20261030T170000Z_{sequence:06d}_manifest.json"


def write_split(folder: Path, parts: Mapping[str, bytes], manifest: bytes | None = None) -> Path:
    """The files and their manifest; returns the manifest's path."""
    for name, content in parts.items():
        (folder / name).write_bytes(content)
    path = folder / manifest_name()
    path.write_bytes(manifest_of(parts) if manifest is None else manifest)
    return path


def typed_records(rows: Rows) -> list[str]:
    """The records of a file without its trailer, in its order."""
    rules = TYPED.rows
    assert isinstance(rules, Typed)
    rows = list(rows)
    records = ["FH|C100|7|2026-10-30T17:00:00Z|000001"]
    for invoice_id, head in first_rows(rows).items():
        records.append(_record("H", rules.records["H"].cells, head))
        own = [row for row in rows if row["invoice_id"] == invoice_id]
        for row in own:
            kind = "T" if row["line_type"] == "TAX" else "L"
            records.append(_record(kind, rules.records[kind].cells, row))
    return records


def _record(kind: str, columns: Sequence[str], row: Mapping[str, str]) -> str:
    cells = (row.get(name, "").replace("\\", "\\\\").replace("|", "\\|") for name in columns)
    return "|".join([kind, *cells])


def typed_file(records: Sequence[str], trailer: str | None = None, *, end: str = "\n") -> bytes:
    """The file of these records with a trailer that is true of them."""
    body = "".join(f"{record}{end}" for record in records).encode()
    if trailer is None:
        kinds = [record.split("|")[0] for record in records]
        # An escaped mark is text: taken out before the record is split.
        heads = [re.sub(r"\\.", "", record).split("|") for record in records if record.startswith("H|")]
        amounts = [Decimal(cells[13]) for cells in heads]
        lines = kinds.count("L") + kinds.count("T")
        total = sum(amounts, Decimal(0))
        trailer = f"FT|{kinds.count('H')}|{lines}|{total}|{hashlib.sha256(body).hexdigest()}"
    return body + f"{trailer}{end}".encode()


def xml_file(rows: Rows, *, head: str = '<?xml version="1.0" encoding="UTF-8"?>\n') -> bytes:
    """The document of these rows."""
    rules = XML.rows
    assert isinstance(rules, Xml)
    rows = list(rows)
    root = ET.Element("InvoiceExport", {"xmlns": "urn:export", "company": "C100"})
    invoices = ET.SubElement(root, "Invoices")
    for invoice_id, first in first_rows(rows).items():
        invoice = ET.SubElement(invoices, "Invoice")
        _fill(invoice, rules.cells.invoice, first)
        lines = ET.SubElement(invoice, "Lines")
        for row in rows:
            if row["invoice_id"] == invoice_id:
                _fill(ET.SubElement(lines, "Line"), rules.cells.line, row)
    ET.indent(root)
    return (head + ET.tostring(root, encoding="unicode") + "\n").encode()


def _fill(element: ET.Element, paths: Mapping[str, str], row: Mapping[str, str]) -> None:
    for column, path in paths.items():
        *inner, last = path.split("/")
        if not (cell := row.get(column, "")):
            continue
        place = element
        for name in (*inner, *([] if last.startswith("@") else [last])):
            found = place.find(name)
            place = ET.SubElement(place, name) if found is None else found
        if last.startswith("@"):
            place.set(last[1:], cell)
        else:
            place.text = cell


def read(path: Path, profile: Profile) -> tuple[list[ParsedInvoice], list[QuarantinedRow]]:
    """Everything in the file; proves on the way that its rows add up."""
    stream = parse_file(path, profile)
    found = list(stream)
    invoices = [each for each in found if isinstance(each, ParsedInvoice)]
    aside = [each for each in found if isinstance(each, QuarantinedRow)]
    numbers = [*(line for each in invoices for line in each.rows), *(each.line for each in aside)]
    assert len(set(numbers)) == len(numbers) == stream.rows
    return invoices, aside
