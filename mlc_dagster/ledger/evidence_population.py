"""The population of an evidence pack: every file and invoice of a period with its outcome, and the totals of them.

A file belongs to the period of the poll window it was assigned to, an exported file to that in which its bytes were
frozen. Totals come from the file reader's own counts on one side and from the ledger's rows on the other.
"""

import csv
import datetime as dt
import io
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, cast

import sqlalchemy as sa

from mlc_dagster.ledger.database import Query, Row, Transaction
from mlc_dagster.ledger.equation import BUCKETS, Equation, Tally, bucket_of
from mlc_dagster.ledger.schema import (
    crosswalk_version,
    fusion_observation,
    invoice,
    invoice_occurrence,
    quarantined_row,
    source_file,
)
from mlc_dagster.ledger.schema_outbound import exported_file, exported_record
from mlc_dagster.ledger.states import InvoiceState, OccurrenceOutcome
from mlc_dagster.ledger.types import canonical_json, utc_text
from mlc_dagster.money import amount_of

Period = tuple[dt.datetime, dt.datetime]
"""From and to, UTC; the second is not part of it."""

_AT_ONCE = 2_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_line(cells: Sequence[Any]) -> bytes:
    """A line of CSV in UTF-8. Text that a spreadsheet would run as a formula gets an apostrophe in front."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(_cell(cell) for cell in cells)
    return text.getvalue().encode("utf-8", errors="backslashreplace")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return utc_text(value.astimezone(dt.UTC))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        # One line per row: whoever greps the population finds whole rows.
        text = value.replace("\r", " ").replace("\n", " ")
        return f"'{text}" if text.startswith(_FORMULA) else text
    return canonical_json(value)


def _streamed(reading: Transaction, statement: Query) -> Iterator[Row]:
    rows = reading.connection.execute(statement.execution_options(yield_per=_AT_ONCE)).mappings()
    return (cast("Row", row) for row in rows)


class Population:
    """The rows of a period, counted while they are read."""

    def __init__(self, reading: Transaction, period: Period) -> None:
        self._reading = reading
        self._of_files = (source_file.c.window_start >= period[0], source_file.c.window_start < period[1])
        self._of_exports = (exported_file.c.created_at >= period[0], exported_file.c.created_at < period[1])
        self._received = Tally()
        self._buckets = {name: Tally() for name in BUCKETS}
        self._exported = {"files": 0, "documents": 0, "rows": 0, "bytes": 0}

    def source_files(self) -> Iterator[bytes]:
        """Files that were read or refused, with what went into them and what came out."""
        names = (
            "id", "feed", "path", "version", "state", "reason", "sha256", "size", "window_start", "generation",
            "received_at", "read_at", "profile", "rows_total", "rows_in_invoices", "rows_quarantined", "invoices",
        )  # fmt: skip
        aside = (
            sa.select(sa.func.count())
            .where(quarantined_row.c.file_id == source_file.c.id)
            .correlate(source_file)
            .scalar_subquery()
        )
        statement = sa.select(source_file, aside.label("quarantined")).where(*self._of_files).order_by(source_file.c.id)
        yield csv_line(["file_id", *names[1:], "quarantined_in_ledger", "amounts", "rows_in_equal_rows_out"])
        for row in _streamed(self._reading, statement):
            amounts: dict[str, int] = row["amounts_minor"] or {}
            self._received.add(row["invoices"] or 0, None, None)
            for currency, minor in amounts.items():
                self._received.add(0, currency, minor)
            whole = None
            if row["rows_total"] is not None:
                out = row["rows_in_invoices"] + row["rows_quarantined"]
                whole = row["rows_total"] == out and row["quarantined"] == row["rows_quarantined"]
            told = {currency: format(_amount(minor, currency), "f") for currency, minor in sorted(amounts.items())}
            yield csv_line([*(row[name] for name in names), row["quarantined"], told, whole])

    def invoices(self) -> Iterator[bytes]:
        """Every appearance of an invoice in a file, with what became of it."""
        current = ("company_id", "source_key", "business_unit", "supplier_id", "fusion_invoice_id", "mapped_with")
        own = ("file_id", "number", "vendor_id", "currency", "revision", "approved_at", "digest", "outcome")
        statement = (
            sa.select(
                *(invoice_occurrence.c[name] for name in ("id", *own, "rows", "amount_minor", "amount_text")),
                *(invoice.c[name] for name in (*current, "state")),
                sa.func.coalesce(invoice_occurrence.c.reason, invoice.c.reason).label("reason"),
                fusion_observation.c.accounting_status,
                fusion_observation.c.observed_at,
            )
            .join(invoice, invoice.c.id == invoice_occurrence.c.invoice_pk)
            .join(source_file, source_file.c.id == invoice_occurrence.c.file_id)
            .outerjoin(fusion_observation, fusion_observation.c.invoice_pk == invoice.c.id)
            .where(*self._of_files)
            .order_by(invoice_occurrence.c.id)
        )
        told = ("state", "reason", "accounting_status", "observed_at")
        yield csv_line(["occurrence_id", *own, "rows", "amount", "amount_as_read", "bucket", *current, *told])
        for row in _streamed(self._reading, statement):
            bucket = bucket_of(OccurrenceOutcome(row["outcome"]), InvoiceState(row["state"]))
            minor, currency = row["amount_minor"], row["currency"]
            self._buckets[bucket].add(1, currency, minor, unpriced=minor is None)
            amount = None if minor is None or currency is None else _amount(minor, currency)
            yield csv_line(
                [
                    row["id"], *(row[name] for name in own), len(row["rows"]), amount, row["amount_text"], bucket,
                    *(row[name] for name in (*current, *told)),
                ]
            )  # fmt: skip

    def exported_files(self) -> Iterator[bytes]:
        """Files for partners, with their totals and how they were delivered."""
        names = (
            "id", "feed", "sequence", "name", "state", "reason", "sha256", "bytes", "documents", "rows", "totals",
            "layout", "layout_version", "layout_sha256", "partner", "controls", "window_start", "window_end",
            "created_at", "ended_at", "resent_at", "server_size", "verified_by",
        )  # fmt: skip
        held = (
            sa.select(sa.func.count())
            .where(exported_record.c.file_id == exported_file.c.id)
            .correlate(exported_file)
            .scalar_subquery()
        )
        statement = (
            sa.select(exported_file, held.label("records")).where(*self._of_exports).order_by(exported_file.c.id)
        )
        yield csv_line([*names, "records_in_ledger"])
        for row in _streamed(self._reading, statement):
            self._exported["files"] += 1
            for name in ("documents", "rows", "bytes"):
                self._exported[name] += row[name]
            yield csv_line([*(row[name] for name in names), row["records"]])

    @property
    def equation(self) -> Equation:
        """Both sides over the period; complete once the files and the invoices were written."""
        return Equation(self._received, self._buckets)

    @property
    def totals(self) -> dict[str, Any]:
        """Counts and control totals; amounts as exact text per currency, never added up over currencies."""
        return {
            "received": _told(self._received),
            "accounted_for": {name: _told(tally) for name, tally in self._buckets.items()},
            "equation_faults": self.equation.faults,
            "exported": self._exported,
        }

    def versions(self) -> dict[str, Any]:
        """Profiles, crosswalks and layouts that the period's rows were made with."""
        profiles = sa.select(source_file.c.profile).where(*self._of_files, source_file.c.profile.is_not(None))
        mapped = (
            sa.select(invoice.c.mapped_with)
            .join(invoice_occurrence, invoice_occurrence.c.invoice_pk == invoice.c.id)
            .join(source_file, source_file.c.id == invoice_occurrence.c.file_id)
            .where(*self._of_files, invoice.c.mapped_with.is_not(None))
        )
        layout = [exported_file.c[name] for name in ("feed", "layout", "layout_version", "layout_sha256")]
        return {
            "profiles": sorted(row["profile"] for row in self._reading.rows(profiles.distinct())),
            "mapped_with": [row["mapped_with"] for row in self._reading.rows(mapped.distinct())],
            "layouts": self._reading.rows(sa.select(*layout).where(*self._of_exports).distinct()),
        }

    def crosswalks(self, used: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any], bytes]]:
        """(file name, what it is, its bytes) of each crosswalk file of the versions used."""
        for version in sorted({str(mapping["crosswalks"]) for mapping in used if "crosswalks" in mapping}):
            rows = self._reading.rows(
                sa.select(crosswalk_version)
                .where(crosswalk_version.c.digest.startswith(f"{version}:", autoescape=True))
                .order_by(crosswalk_version.c.kind)
            )
            for row in rows:
                said = {"version": version, "kind": row["kind"], "first_used_at": _cell(row["first_used_at"])}
                yield f"{version}-{row['kind']}.csv", said, row["content"]


def _amount(minor: int, currency: str) -> Decimal:
    return amount_of(minor, currency)


def _told(tally: Tally) -> dict[str, Any]:
    amounts = {currency: format(_amount(minor, currency), "f") for currency, minor in sorted(tally.minor.items())}
    return {"count": tally.count, "amounts": amounts, "unpriced": tally.unpriced}
