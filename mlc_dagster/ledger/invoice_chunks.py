"""Chunks of a window's invoices by key, for those who walk through all of them.

What belongs here: reading. ``invoices`` is where invoices and their appearances are written.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from functools import lru_cache

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.prepared import Prepared
from mlc_dagster.ledger.schema import invoice, invoice_occurrence, source_file
from mlc_dagster.ledger.states import InvoiceState


def window_invoices(
    transaction: Transaction,
    window_start: dt.datetime,
    states: Collection[InvoiceState],
    *,
    after: int = 0,
    limit: int = 500,
) -> list[Row]:
    """A chunk of a window's invoices with the content of their current appearance, by key (``id > after``)."""
    given = {"window": window_start, "after": after, "most": limit}
    return _with_content(tuple(states)).rows(transaction, given)


def window_rows(
    transaction: Transaction,
    window_start: dt.datetime,
    states: Collection[InvoiceState],
    columns: Sequence[str],
    *,
    after: int = 0,
    limit: int = 500,
) -> list[Row]:
    """The same with nothing but these columns of ``invoice``: reading all of them takes four times as long."""
    given = {"window": window_start, "after": after, "most": limit}
    return _bare(tuple(states), tuple(columns)).rows(transaction, given)


@lru_cache(maxsize=16)
def _with_content(states: tuple[InvoiceState, ...]) -> Prepared:
    return Prepared(
        sa.select(
            invoice,
            invoice_occurrence.c.content,
            invoice_occurrence.c.readable,
            invoice_occurrence.c.approved_at,
            invoice_occurrence.c.problems.label("reading_problems"),
            source_file.c.path.label("file_path"),
            invoice_occurrence.c.rows.label("file_rows"),
        )
        .join(invoice_occurrence, invoice_occurrence.c.id == invoice.c.occurrence_id)
        .join(source_file, source_file.c.id == invoice_occurrence.c.file_id)
        .where(*_chunk(states))
        .order_by(invoice.c.id)
        .limit(sa.bindparam("most"))
    )


@lru_cache(maxsize=16)
def _bare(states: tuple[InvoiceState, ...], columns: tuple[str, ...]) -> Prepared:
    return Prepared(
        sa.select(*(invoice.c[name] for name in columns))
        .where(*_chunk(states))
        .order_by(invoice.c.id)
        .limit(sa.bindparam("most"))
    )


def _chunk(states: tuple[InvoiceState, ...]) -> tuple[sa.ColumnElement[bool], ...]:
    named: list[sa.ColumnElement[str]] = [sa.literal_column(f"'{state}'", sa.Text()) for state in states]
    return (
        invoice.c.window_start == sa.bindparam("window"),
        invoice.c.state.in_(named),
        invoice.c.id > sa.bindparam("after"),
    )
