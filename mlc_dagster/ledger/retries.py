"""Which windows are taken up again by themselves: what is due, cured, decidable or left half way in them.

Belongs here: finding that out from the ledger's rows, and opening a RETRY for it. Does not: asking for the run
(``windows.runs_wanted``).
"""

import datetime as dt

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.schema import invoice, invoice_occurrence, source_file, submission, window_run
from mlc_dagster.ledger.standing import DECIDABLE
from mlc_dagster.ledger.states import IN_FLIGHT_STATES, InvoiceState
from mlc_dagster.ledger.window_ends import UNREAD, end_dead_reconciles
from mlc_dagster.ledger.windows import GenerationKind, open_generation


def plan_retries(transaction: Transaction, feed: str, *, begin_new: bool = True) -> list[int]:
    """Open a RETRY generation for each window that has something due and no open generation; their numbers.

    Due: submissions whose waiting time is over, parked invoices whose cause is cured, invoices left half way,
    appearances that waited for an outcome which is now known, files that nobody has read. With ``begin_new`` False
    nothing new may be sent, so invoices that only wait to be sent are no reason.
    """
    end_dead_reconciles(transaction, feed)
    now = transaction.now
    due_submission = sa.exists().where(
        submission.c.invoice_pk == invoice.c.id,
        submission.c.phase.in_(["INTENT", "REFUSED", "UNKNOWN"]),
        sa.func.coalesce(submission.c.not_before, submission.c.lease_until) <= now,
    )
    in_flight = invoice.c.state.in_([str(state) for state in IN_FLIGHT_STATES])
    unfinished = [InvoiceState.RECEIVED, InvoiceState.VALIDATED] if begin_new else [InvoiceState.RECEIVED]
    left = invoice.c.state.in_([str(state) for state in unfinished])
    cured = sa.and_(invoice.c.state == str(InvoiceState.PARKED), invoice.c.cured_at.is_not(None))
    unconfirmed = sa.and_(invoice.c.state == str(InvoiceState.CREATED), invoice.c.differences.is_(None))
    due = sa.select(invoice.c.window_start).where(
        sa.or_(sa.and_(in_flight, due_submission), left, cured, unconfirmed), ~_open(feed, invoice.c.window_start)
    )
    # An appearance that waited for an outcome is decided in its own window, which need not be the invoice's.
    decidable = (
        sa.select(invoice_occurrence.c.window_start)
        .join(invoice, invoice.c.id == invoice_occurrence.c.invoice_pk)
        .where(DECIDABLE, ~_open(feed, invoice_occurrence.c.window_start))
    )
    unread = sa.select(source_file.c.window_start).where(*_unread(feed), ~_open(feed, source_file.c.window_start))
    wanted = sa.union(due, decidable, unread).subquery()
    starts = transaction.rows(sa.select(wanted.c.window_start).order_by(wanted.c.window_start))
    return [open_generation(transaction, feed, row["window_start"], GenerationKind.RETRY) for row in starts]


def stranded_files(transaction: Transaction, feed: str, window_start: dt.datetime | None = None) -> list[Row]:
    """Files that were given to a window and not read, while no run of it is due that would; oldest first."""
    statement = sa.select(source_file).where(*_unread(feed), ~_open(feed, source_file.c.window_start))
    if window_start is not None:
        statement = statement.where(source_file.c.window_start == window_start)
    return transaction.rows(statement.order_by(source_file.c.id))


def left_files(transaction: Transaction, feed: str, window_start: dt.datetime) -> list[Row]:
    """Unread files of a window whose own generation is over, by path and version: the next run takes them.

    Those of a generation that is still open are left to it: what a run works on was frozen with its generation.
    """
    statement = sa.select(source_file).where(
        *_unread(feed),
        source_file.c.window_start == window_start,
        ~_open(feed, source_file.c.window_start, generation=source_file.c.generation),
    )
    return transaction.rows(statement.order_by(source_file.c.path, source_file.c.version))


def _unread(feed: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        source_file.c.feed == feed, source_file.c.state.in_(UNREAD), source_file.c.window_start.is_not(None),
    )  # fmt: skip


def _open(
    feed: str, start: sa.ColumnElement[dt.datetime], *, generation: sa.ColumnElement[int] | None = None
) -> sa.ColumnElement[bool]:
    """Whether the window (or this generation of it) is going to be worked on anyway."""
    named = sa.true() if generation is None else window_run.c.generation == generation
    return sa.exists().where(
        window_run.c.feed == feed, window_run.c.window_start == start, window_run.c.state == "OPEN", named
    )
