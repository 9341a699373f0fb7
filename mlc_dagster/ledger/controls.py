"""What an auditor asks of the ledger: do a file's numbers add up, was anything sent again without proof, what stands.

Questions only; nothing here changes a row. Both sides of each comparison come from different places: the reader's own
counts beside a file against the rows that were entered, an attempt against the end of the one before it.
"""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from mlc_dagster.ledger.database import Query, Row, Transaction
from mlc_dagster.ledger.files import FileState
from mlc_dagster.ledger.parts import parts_of
from mlc_dagster.ledger.schema import invoice, invoice_occurrence, quarantined_row, source_file, submission
from mlc_dagster.ledger.states import CREATED_STATES
from mlc_dagster.ledger.submissions import Phase


@dataclass(frozen=True)
class PartControl:
    """The rows of one file of a delivery."""

    path: str
    version: int
    rows: int
    rows_in_invoices: int
    rows_quarantined: int


@dataclass(frozen=True)
class FileControl:
    """The control totals of one file that was read; ``faults`` says where its two sides differ.

    Those of a manifest are of its delivery: its rows are the lines, and rows of invoices that were set aside alone.
    """

    path: str
    version: int
    rows: int
    rows_in_invoices: int
    rows_quarantined: int
    invoices: int
    faults: tuple[str, ...]
    parts: tuple[PartControl, ...] = ()
    """The files of its delivery, each by itself; one that a later delivery names as well is with that one."""


def file_controls(transaction: Transaction, feed: str, window_start: dt.datetime | None = None) -> list[FileControl]:
    """Control totals of each file read, of a window or of all, by path and version."""
    chosen = [source_file.c.feed == feed, source_file.c.state == str(FileState.READ)]
    if window_start is not None:
        chosen.append(source_file.c.window_start == window_start)
    files = transaction.rows(sa.select(source_file).where(*chosen).order_by(source_file.c.path, source_file.c.version))
    entered = _entered(transaction, chosen)
    aside = _counts(
        transaction,
        sa.select(quarantined_row.c.file_id, sa.func.count())
        .join(source_file, source_file.c.id == quarantined_row.c.file_id)
        .where(*chosen)
        .group_by(quarantined_row.c.file_id),
    )
    parts = parts_of(transaction, [row["id"] for row in files])
    return [
        FileControl(
            path=row["path"],
            version=row["version"],
            rows=row["rows_total"],
            rows_in_invoices=row["rows_in_invoices"],
            rows_quarantined=row["rows_quarantined"],
            invoices=row["invoices"],
            faults=(
                *_faults(row, entered[row["id"]], aside.get(row["id"], 0)),
                *_part_faults(row, parts.get(row["id"], [])),
            ),
            parts=tuple(
                PartControl(
                    part["path"],
                    part["version"],
                    part["rows_total"],
                    part["rows_in_invoices"],
                    part["rows_quarantined"],
                )
                for part in parts.get(row["id"], [])
            ),
        )
        for row in files
    ]


class _Entered:
    """What the ledger holds of one file's invoices."""

    def __init__(self) -> None:
        self.invoices = 0
        self.rows = 0
        self.minor: Counter[str] = Counter()


def _entered(transaction: Transaction, chosen: list[sa.ColumnElement[bool]]) -> defaultdict[int, _Entered]:
    found: defaultdict[int, _Entered] = defaultdict(_Entered)
    statement = (
        sa.select(
            invoice_occurrence.c.file_id,
            invoice_occurrence.c.rows,
            invoice_occurrence.c.currency,
            invoice_occurrence.c.amount_minor,
        )
        .join(source_file, source_file.c.id == invoice_occurrence.c.file_id)
        .where(*chosen)
        .execution_options(yield_per=5_000)
    )
    for file_id, rows, currency, minor in transaction.connection.execute(statement):
        entered = found[file_id]
        entered.invoices += 1
        entered.rows += len(rows)
        if currency is not None and minor is not None:
            entered.minor[currency] += minor
    return found


def _counts(transaction: Transaction, statement: Query) -> dict[int, int]:
    return {int(key): int(count) for key, count in transaction.connection.execute(statement)}


def _faults(row: Row, entered: _Entered, aside: int) -> Iterator[str]:
    total, in_invoices, quarantined = row["rows_total"], row["rows_in_invoices"], row["rows_quarantined"]
    if total != in_invoices + quarantined:
        yield f"{total} rows in the file, {in_invoices} in invoices and {quarantined} quarantined"
    for what, read, held in (
        ("rows in invoices", in_invoices, entered.rows),
        ("rows quarantined", quarantined, aside),
        ("invoices", row["invoices"], entered.invoices),
    ):
        if read != held:
            yield f"{what}: the reader counted {read}, the ledger holds {held}"
    read_minor: dict[str, int] = row["amounts_minor"] or {}
    for currency in sorted({*read_minor, *entered.minor}):
        read, held = read_minor.get(currency, 0), entered.minor[currency]
        if read != held:
            yield f"{currency}: the reader added up {read} minor units, the ledger holds {held}"


def _part_faults(row: Row, parts: list[Row]) -> Iterator[str]:
    for part in parts:
        total, in_invoices, aside = part["rows_total"], part["rows_in_invoices"], part["rows_quarantined"]
        if total != in_invoices + aside:
            yield f"{part['path']}: {total} rows in the file, {in_invoices} in invoices and {aside} quarantined"
    if len(parts) > 1 and row["rows_in_invoices"] not in [part["rows_in_invoices"] for part in parts]:
        yield f"{row['rows_in_invoices']} rows in invoices, which no file of the delivery has"


@dataclass(frozen=True)
class Repost:
    """A further attempt to create an invoice; ``fault`` says what proof it lacks, None when it has it."""

    number: str
    attempt: int
    after: str
    """Phase in which the attempt before it ended."""
    absences: int
    fault: str | None


_PROOFS = {Phase.ABSENT: 2, Phase.REFUSED: 1, Phase.REJECTED: 0, Phase.RELEASED: 0}
"""Proofs of absence that the end of an attempt needs before the next one. The last two are certain by themselves:
Fusion said no to the content, or nothing was sent."""


def reposts(transaction: Transaction, window_start: dt.datetime | None = None) -> list[Repost]:
    """Every attempt after an invoice's first, with the proof that preceded it; and invoices that were created twice."""
    later, before = submission.alias("later"), submission.alias("before")
    statement = (
        sa.select(
            invoice.c.number, later.c.attempt, before.c.phase, before.c.absences, before.c.ended_at, later.c.created_at
        )
        .select_from(later)
        .join(invoice, invoice.c.id == later.c.invoice_pk)
        .outerjoin(before, sa.and_(before.c.invoice_pk == later.c.invoice_pk, before.c.attempt == later.c.attempt - 1))
        .where(later.c.attempt > 1)
        .order_by(later.c.invoice_pk, later.c.attempt)
    )
    if window_start is not None:
        statement = statement.where(later.c.window_start == window_start)
    found = [
        Repost(row["number"], row["attempt"], row["phase"] or "", row["absences"] or 0, _unproven(row))
        for row in transaction.rows(statement)
    ]
    return found + _created_twice(transaction, window_start)


def _unproven(row: Row) -> str | None:
    if row["phase"] is None:
        return "the attempt before it is not in the ledger"
    needed = _PROOFS.get(Phase(row["phase"]))
    if needed is None:
        return f"the attempt before it ended as {row['phase']}"
    if row["absences"] < needed:
        return f"{row['absences']} of {needed} proofs of absence after {row['phase']}"
    if row["ended_at"] is None or row["ended_at"] > row["created_at"]:
        return "the attempt before it was not over"
    return None


def _created_twice(transaction: Transaction, window_start: dt.datetime | None) -> list[Repost]:
    statement = (
        sa.select(invoice.c.number, sa.func.max(submission.c.attempt).label("attempt"))
        .join(invoice, invoice.c.id == submission.c.invoice_pk)
        .where(submission.c.phase == str(Phase.CREATED))
        .group_by(invoice.c.id, invoice.c.number)
        .having(sa.func.count(sa.distinct(submission.c.fusion_invoice_id)) > 1)
        .order_by(invoice.c.id)
    )
    if window_start is not None:
        statement = statement.where(submission.c.window_start == window_start)
    return [
        Repost(row["number"], row["attempt"], str(Phase.CREATED), 0, "two attempts were stored in Fusion")
        for row in transaction.rows(statement)
    ]


def created_invoices(transaction: Transaction, window_start: dt.datetime | None = None) -> list[Row]:
    """What we created in Fusion: key, number, InvoiceId, business unit, currency, minor units and state, by key."""
    statement = (
        sa.select(
            invoice.c.id,
            invoice.c.number,
            invoice.c.fusion_invoice_id,
            invoice.c.business_unit,
            invoice.c.currency,
            invoice.c.amount_minor,
            invoice.c.state,
        )
        .where(invoice.c.state.in_([str(state) for state in CREATED_STATES]))
        .order_by(invoice.c.id)
    )
    if window_start is not None:
        statement = statement.where(invoice.c.window_start == window_start)
    return transaction.rows(statement)
