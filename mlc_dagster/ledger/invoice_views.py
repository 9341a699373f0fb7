"""Invoices as people look at them: lists with file and status, and everything that is known of one."""

import datetime as dt
from collections.abc import Collection

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.schema import (
    audit_event,
    fusion_observation,
    invoice,
    invoice_occurrence,
    source_file,
    submission,
)
from mlc_dagster.ledger.states import InvoiceState


def list_invoices(
    transaction: Transaction,
    *,
    states: Collection[InvoiceState] = (),
    number: str | None = None,
    window_start: dt.datetime | None = None,
    limit: int = 500,
) -> list[Row]:
    """Invoices with file and Fusion's last known statuses, for people; oldest first."""
    statement = (
        sa.select(
            invoice,
            source_file.c.path.label("file_path"),
            invoice_occurrence.c.rows.label("file_rows"),
            fusion_observation.c.validation_status,
            fusion_observation.c.approval_status,
            fusion_observation.c.paid_status,
            fusion_observation.c.accounting_status,
            fusion_observation.c.holds,
            fusion_observation.c.observed_at,
        )
        .join(invoice_occurrence, invoice_occurrence.c.id == invoice.c.occurrence_id)
        .join(source_file, source_file.c.id == invoice_occurrence.c.file_id)
        .outerjoin(fusion_observation, fusion_observation.c.invoice_pk == invoice.c.id)
        .order_by(invoice.c.id)
        .limit(limit)
    )
    if states:
        statement = statement.where(invoice.c.state.in_([str(state) for state in states]))
    if number is not None:
        statement = statement.where(sa.or_(invoice.c.number == number, invoice.c.source_key == number))
    if window_start is not None:
        statement = statement.where(invoice.c.window_start == window_start)
    return transaction.rows(statement)


def history(transaction: Transaction, invoice_pk: int) -> dict[str, list[Row]]:
    """Everything the ledger holds of one invoice: appearances, attempts, audit events."""
    return {
        "occurrences": transaction.rows(
            sa.select(invoice_occurrence, source_file.c.path, source_file.c.version)
            .join(source_file, source_file.c.id == invoice_occurrence.c.file_id)
            .where(invoice_occurrence.c.invoice_pk == invoice_pk)
            .order_by(invoice_occurrence.c.id)
        ),
        "submissions": transaction.rows(
            sa.select(submission).where(submission.c.invoice_pk == invoice_pk).order_by(submission.c.attempt)
        ),
        "events": transaction.rows(
            sa.select(audit_event).where(audit_event.c.subject == f"invoice:{invoice_pk}").order_by(audit_event.c.id)
        ),
    }
