"""What became of files and invoices, for people: one line per file, the parked with their remedies, what changed since.

Counts are by appearance, as in the equation: an invoice that two files show is counted in both, once as a duplicate.
"""

import datetime as dt
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.equation import BUCKETS, bucket_of
from mlc_dagster.ledger.files import FileState
from mlc_dagster.ledger.schema import invoice, invoice_occurrence, source_file, submission
from mlc_dagster.ledger.states import IN_FLIGHT_STATES, InvoiceState, OccurrenceOutcome
from mlc_dagster.ledger.submissions import Phase

_LARGEST_IN = 400


@dataclass
class FileOutcome:
    """One version of a file and what became of the invoices in it."""

    key: int
    path: str
    version: int
    state: str
    reason: str | None
    window_start: dt.datetime | None
    generation: int | None
    size: int | None
    """Bytes."""
    rows: int | None
    quarantined: int | None
    invoices: int | None
    posted: int = 0
    """Created in Fusion since the instant that was asked for."""
    buckets: Counter[str] = field(default_factory=Counter[str])
    """Appearances by bucket of the equation: ``created``, ``duplicate``, ``parked`` …"""
    why: Counter[str] = field(default_factory=Counter[str])
    """Reasons of what is parked or rejected."""

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.rpartition("/")[2]


def file_outcomes(
    transaction: Transaction, files: Sequence[Row], *, since: dt.datetime | None = None
) -> list[FileOutcome]:
    """What became of ``files`` (rows of source_file), in their order."""
    found = {
        row["id"]: FileOutcome(
            key=row["id"],
            path=row["path"],
            version=row["version"],
            state=row["state"],
            reason=row["reason"],
            window_start=row["window_start"],
            generation=row["generation"],
            size=row["size"],
            rows=row["rows_total"],
            quarantined=row["rows_quarantined"],
            invoices=row["invoices"],
        )
        for row in files
    }
    keys = list(found)
    posted = _posted_since(since)
    for start in range(0, len(keys), _LARGEST_IN):
        statement = (
            sa.select(
                invoice_occurrence.c.file_id,
                invoice_occurrence.c.outcome,
                invoice.c.state,
                sa.case(
                    (invoice_occurrence.c.outcome == str(OccurrenceOutcome.CURRENT), invoice.c.reason),
                    else_=invoice_occurrence.c.reason,
                ).label("reason"),
                sa.func.count().label("count"),
                sa.func.sum(
                    sa.case(
                        (sa.and_(invoice_occurrence.c.outcome == str(OccurrenceOutcome.CURRENT), posted), 1), else_=0
                    )
                ).label("posted"),
            )
            .join(invoice, invoice.c.id == invoice_occurrence.c.invoice_pk)
            .where(invoice_occurrence.c.file_id.in_(keys[start : start + _LARGEST_IN]))
            .group_by(sa.text("1, 2, 3, 4"))
        )
        for row in transaction.rows(statement):
            outcome = found[row["file_id"]]
            bucket = bucket_of(OccurrenceOutcome(row["outcome"]), InvoiceState(row["state"]))
            outcome.buckets[bucket] += row["count"]
            outcome.posted += int(row["posted"])
            if row["reason"] and bucket in ("parked", "rejected"):
                outcome.why[row["reason"]] += row["count"]
    return list(found.values())


def _posted_since(since: dt.datetime | None) -> sa.ColumnElement[bool]:
    """The invoice was created in Fusion at or after ``since``."""
    if since is None:
        return sa.false()
    return sa.exists().where(
        submission.c.invoice_pk == invoice.c.id,
        submission.c.phase == str(Phase.CREATED),
        submission.c.ended_at >= since,
    )


def posted_since(
    transaction: Transaction, since: dt.datetime, windows: Collection[dt.datetime]
) -> tuple[int, dict[str, int]]:
    """(invoices created in Fusion at or after ``since`` in these windows, their minor units per currency)."""
    count, minor = 0, Counter[str]()
    starts = sorted(windows)
    for start in range(0, len(starts), _LARGEST_IN):
        statement = (
            sa.select(
                invoice.c.currency, sa.func.count().label("count"), sa.func.sum(invoice.c.amount_minor).label("minor")
            )
            .where(invoice.c.window_start.in_(starts[start : start + _LARGEST_IN]), _posted_since(since))
            .group_by(invoice.c.currency)
        )
        for row in transaction.rows(statement):
            count += row["count"]
            if row["currency"] is not None and row["minor"] is not None:
                minor[row["currency"]] += int(row["minor"])
    return count, dict(minor)


def parked_in_window(transaction: Transaction, window_start: dt.datetime, *, limit: int = 50) -> list[Row]:
    """Parked invoices of a window with where they stand in which file, oldest first."""
    return transaction.rows(
        sa.select(
            invoice.c.id,
            invoice.c.number,
            invoice.c.company_id,
            invoice.c.vendor_id,
            invoice.c.currency,
            invoice.c.amount_text,
            invoice.c.reason,
            invoice.c.problems,
            source_file.c.path.label("file_path"),
            invoice_occurrence.c.rows.label("file_rows"),
        )
        .join(invoice_occurrence, invoice_occurrence.c.id == invoice.c.occurrence_id)
        .join(source_file, source_file.c.id == invoice_occurrence.c.file_id)
        .where(invoice.c.window_start == window_start, invoice.c.state == str(InvoiceState.PARKED))
        .order_by(invoice.c.id)
        .limit(limit)
    )


@dataclass(frozen=True)
class NewTrouble:
    """What a person has to look at that was not there at an instant before; counts."""

    parked: int = 0
    """Invoices, or further appearances of invoices, that were parked."""
    unknown: int = 0
    """Invoices that were sent and whose outcome is not known, or that are refused and wait."""
    rejected_files: int = 0
    quarantined_rows: int = 0

    @property
    def any(self) -> bool:
        """True when there is something to look at."""
        return bool(self.parked or self.unknown or self.rejected_files or self.quarantined_rows)


def trouble_since(transaction: Transaction, since: dt.datetime) -> NewTrouble:
    """What was parked, became unknown or was rejected at or after ``since``."""

    def count(table: sa.FromClause, *where: sa.ColumnElement[bool]) -> int:
        return int(transaction.value(sa.select(sa.func.count()).select_from(table).where(*where)))

    parked = count(invoice, invoice.c.state == str(InvoiceState.PARKED), invoice.c.parked_at >= since)
    occurrences = invoice_occurrence.join(source_file, source_file.c.id == invoice_occurrence.c.file_id)
    aside = count(
        occurrences, invoice_occurrence.c.outcome == str(OccurrenceOutcome.PARKED), source_file.c.read_at >= since
    )
    quarantined = transaction.value(
        sa.select(sa.func.sum(source_file.c.rows_quarantined)).where(source_file.c.read_at >= since)
    )
    return NewTrouble(
        parked=parked + aside,
        unknown=count(
            invoice, invoice.c.state.in_([str(state) for state in IN_FLIGHT_STATES]), invoice.c.changed_at >= since
        ),
        rejected_files=count(
            source_file, source_file.c.state == str(FileState.REJECTED), source_file.c.assigned_at >= since
        ),
        quarantined_rows=int(quarantined or 0),
    )


__all__ = [
    "BUCKETS",
    "FileOutcome",
    "NewTrouble",
    "file_outcomes",
    "parked_in_window",
    "posted_since",
    "trouble_since",
]
