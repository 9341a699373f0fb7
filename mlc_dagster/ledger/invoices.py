"""Invoices and their appearances in files: registering, reading and listing them.

Which appearance counts is decided by ``stampli.occurrences``; which state follows which, by ``states``.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.prepared import Prepared
from mlc_dagster.ledger.schema import invoice, invoice_occurrence, quarantined_row, source_file
from mlc_dagster.ledger.standing import DECIDABLE, STANDING
from mlc_dagster.ledger.states import InvoiceState, OccurrenceOutcome, move

_LARGEST_IN = 400
_NAME_CURRENT = Prepared(
    sa.update(invoice)
    .where(invoice.c.id == sa.bindparam("key"))
    .values(occurrence_id=sa.bindparam("occurrence"), changed_at=sa.bindparam("now"))
)


@dataclass(frozen=True)
class Appearance:
    """An invoice as one file shows it; ``content`` is its canonical JSON (or its raw cells, when not readable)."""

    company_id: str
    source_key: str
    rows: tuple[int, ...]
    number: str
    vendor_id: str
    currency: str | None
    amount_minor: int | None
    amount_text: str | None
    revision: int
    approved_at: dt.datetime | None
    digest: str
    content: bytes
    readable: bool
    problems: tuple[Mapping[str, Any], ...]


def by_source(transaction: Transaction, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Row]:
    """Invoices by (company_id, source_key), each with its ``standing`` and what its current appearance says.

    The latter in columns ``current_…``.
    """
    wanted = sorted(set(keys))
    ids: list[int] = []
    for start in range(0, len(wanted), _LARGEST_IN):
        named = sa.tuple_(invoice.c.company_id, invoice.c.source_key).in_(wanted[start : start + _LARGEST_IN])
        ids += [row["id"] for row in transaction.rows(sa.select(invoice.c.id).where(named))]
    # Everybody locks in the same order, or two files with the same invoices would lock each other out.
    ids.sort()
    found, occurrence = dict[tuple[str, str], Row](), invoice_occurrence
    for start in range(0, len(ids), _LARGEST_IN):
        part = invoice.c.id.in_(ids[start : start + _LARGEST_IN])
        # Nobody may begin to send an invoice while it is decided whether a newer appearance replaces it. Locked before
        # it is read: a join that waits for the lock loses invoices whose appearance was replaced meanwhile.
        transaction.execute(sa.select(invoice.c.id).where(part).order_by(invoice.c.id).with_for_update())
        statement = (
            sa.select(
                invoice,
                STANDING.label("standing"),
                occurrence.c.digest.label("current_digest"),
                occurrence.c.revision.label("current_revision"),
                occurrence.c.approved_at.label("current_approved_at"),
                occurrence.c.file_id.label("current_file_id"),
                source_file.c.path.label("current_path"),
                source_file.c.version.label("current_version"),
            )
            .join(occurrence, occurrence.c.id == invoice.c.occurrence_id)
            .join(source_file, source_file.c.id == occurrence.c.file_id)
            .where(part)
        )
        for row in transaction.rows(statement):
            found[(row["company_id"], row["source_key"])] = row
    return found


def insert_new(transaction: Transaction, file: Row, appearances: Sequence[Appearance]) -> list[Appearance]:
    """First appearances: an invoice and its current occurrence each, RECEIVED; those another file was quicker with."""
    if not appearances:
        return []
    now = transaction.now
    rows = [
        {
            "company_id": a.company_id,
            "source_key": a.source_key,
            "window_start": file["window_start"],
            "number": a.number,
            "vendor_id": a.vendor_id,
            "currency": a.currency,
            "amount_minor": a.amount_minor,
            "amount_text": a.amount_text,
            "state": str(InvoiceState.RECEIVED),
            "created_at": now,
            "changed_at": now,
        }
        # In one order for everybody: an insert waits for another transaction's insert of the same invoice.
        for a in sorted(appearances, key=lambda a: (a.company_id, a.source_key))
    ]
    insert = (postgresql if transaction.connection.dialect.name == "postgresql" else sqlite).insert(invoice)
    ignoring = insert.on_conflict_do_nothing(index_elements=["company_id", "source_key"])
    inserted = transaction.connection.execute(
        ignoring.returning(invoice.c.id, invoice.c.company_id, invoice.c.source_key), rows
    )
    keys = {(company, source): int(key) for key, company, source in inserted}
    taken = [a for a in appearances if (a.company_id, a.source_key) not in keys]
    if not keys:
        return taken
    appearances = [a for a in appearances if (a.company_id, a.source_key) in keys]
    occurrences = [
        _occurrence_row(file, keys[(a.company_id, a.source_key)], a, OccurrenceOutcome.CURRENT, None)
        for a in appearances
    ]
    made = transaction.connection.execute(
        sa.insert(invoice_occurrence).returning(invoice_occurrence.c.id, invoice_occurrence.c.invoice_pk), occurrences
    )
    _NAME_CURRENT.run_many(
        transaction, [{"key": invoice_pk, "occurrence": occurrence, "now": now} for occurrence, invoice_pk in made]
    )
    for a in appearances:
        transaction.audit(
            "invoice.received", f"invoice:{keys[(a.company_id, a.source_key)]}",
            company=a.company_id, source_id=a.source_key, number=a.number, file=file["id"], rows=list(a.rows),
            amount=a.amount_text, currency=a.currency, digest=a.digest, revision=a.revision,
        )  # fmt: skip
    return taken


def _occurrence_row(
    file: Row, invoice_pk: int, a: Appearance, outcome: OccurrenceOutcome, reason: str | None
) -> dict[str, Any]:
    return {
        "invoice_pk": invoice_pk,
        "file_id": file["id"],
        "window_start": file["window_start"],
        "generation": file["generation"],
        "rows": list(a.rows),
        "revision": a.revision,
        "approved_at": a.approved_at,
        "digest": a.digest,
        "content": a.content,
        "readable": a.readable,
        "problems": [dict(problem) for problem in a.problems],
        "number": a.number,
        "vendor_id": a.vendor_id,
        "amount_text": a.amount_text,
        "currency": a.currency,
        "amount_minor": a.amount_minor,
        "outcome": str(outcome),
        "reason": reason,
    }


def add_occurrence(
    transaction: Transaction,
    file: Row,
    invoice_pk: int,
    appearance: Appearance,
    outcome: OccurrenceOutcome,
    reason: str | None,
) -> int | None:
    """A further appearance of a known invoice; its key, or None when this file's is registered already."""
    existing = transaction.value(
        sa.select(invoice_occurrence.c.id).where(
            invoice_occurrence.c.file_id == file["id"], invoice_occurrence.c.invoice_pk == invoice_pk
        )
    )
    if existing is not None:
        return None
    key = transaction.insert(invoice_occurrence, **_occurrence_row(file, invoice_pk, appearance, outcome, reason))
    transaction.audit(
        "invoice.seen_again", f"invoice:{invoice_pk}", outcome=str(outcome), reason=reason, file=file["id"],
        rows=list(appearance.rows), digest=appearance.digest, revision=appearance.revision,
    )  # fmt: skip
    return key


def set_outcome(
    transaction: Transaction, occurrence_id: int, outcome: OccurrenceOutcome, reason: str | None = None
) -> None:
    """What became of an appearance, decided after it was registered."""
    invoice_pk = transaction.value(
        sa.select(invoice_occurrence.c.invoice_pk).where(invoice_occurrence.c.id == occurrence_id)
    )
    transaction.execute(
        sa.update(invoice_occurrence)
        .where(invoice_occurrence.c.id == occurrence_id)
        .values(outcome=str(outcome), reason=reason)
    )
    transaction.audit(
        "invoice.occurrence", f"invoice:{invoice_pk}", occurrence=occurrence_id, outcome=str(outcome), reason=reason
    )


def make_current(transaction: Transaction, row: Row, occurrence_id: int, a: Appearance) -> None:
    """A newer appearance takes the place of the current one: the invoice is RECEIVED again, in the newer's window.

    ``row`` is the invoice as ``by_source`` gave it; nothing of it has been sent.
    """
    if row["occurrence_id"] != occurrence_id:
        given_up = "ABANDONED" if row["reason"] == "ABANDONED" else None
        set_outcome(transaction, row["occurrence_id"], OccurrenceOutcome.SUPERSEDED, given_up)
    key = invoice_occurrence.c.id
    window = transaction.value(sa.select(invoice_occurrence.c.window_start).where(key == occurrence_id))
    for conflicting in transaction.rows(
        sa.select(invoice_occurrence.c.id).where(
            invoice_occurrence.c.invoice_pk == row["id"],
            key != occurrence_id,
            invoice_occurrence.c.reason == "REVISION_CONFLICT",
        )
    ):
        # What it was in conflict with is overtaken, and so is it.
        set_outcome(transaction, conflicting["id"], OccurrenceOutcome.SUPERSEDED)
    set_outcome(transaction, occurrence_id, OccurrenceOutcome.CURRENT)
    move(
        transaction,
        row["id"],
        InvoiceState.RECEIVED,
        expected=(InvoiceState.RECEIVED, InvoiceState.VALIDATED, InvoiceState.PARKED, InvoiceState.REJECTED),
        event="invoice.superseded",
        detail={"occurrence": occurrence_id, "before": row["occurrence_id"]},
        occurrence_id=occurrence_id,
        window_start=window,
        number=a.number,
        vendor_id=a.vendor_id,
        currency=a.currency,
        amount_minor=a.amount_minor,
        amount_text=a.amount_text,
        mapping=None,
        released_reasons=None,
        # The newer content may have another supplier and number: the old ones must hold up nobody meanwhile.
        business_unit=None,
        supplier_id=None,
        supplier_number=None,
        fusion_number=None,
        number_key=None,
        normalised_key=None,
    )


def quarantine(transaction: Transaction, file: Row, rows: Iterable[Mapping[str, Any]]) -> None:
    """Keep rows that could not be read, with their line numbers; known ones are left as they are."""
    for row in rows:
        if transaction.insert_ignoring(quarantined_row, {"file_id": file["id"], **row}):
            transaction.audit(
                "row.quarantined", f"file:{file['feed']}:{file['path']}", file=file["id"], line=row["line"],
                reason=row["reason"], text=row["text"],
            )  # fmt: skip


def file_was_read(
    transaction: Transaction,
    file: Row,
    *,
    rows_total: int,
    rows_in_invoices: int,
    rows_quarantined: int,
    invoices: int,
    amounts_minor: Mapping[str, int],
) -> None:
    """The reader's own counts, kept apart from the rows they count so that one can check the other."""
    transaction.execute(
        sa.update(source_file)
        .where(source_file.c.id == file["id"])
        .values(
            state="READ", read_at=transaction.now, rows_total=rows_total, rows_in_invoices=rows_in_invoices,
            rows_quarantined=rows_quarantined, invoices=invoices, amounts_minor=dict(amounts_minor),
        )
    )  # fmt: skip
    transaction.audit(
        "file.read", f"file:{file['feed']}:{file['path']}", file=file["id"], rows=rows_total,
        rows_in_invoices=rows_in_invoices, rows_quarantined=rows_quarantined, invoices=invoices,
        amounts_minor=dict(amounts_minor),
    )  # fmt: skip


def parked_invoices(
    transaction: Transaction, reasons: Collection[str], *, after: int = 0, limit: int = 500
) -> list[Row]:
    """Parked for one of ``reasons`` and not known to be cured, over all windows, by key."""
    return transaction.rows(
        sa.select(
            invoice,
            invoice_occurrence.c.content,
            invoice_occurrence.c.readable,
            invoice_occurrence.c.problems.label("reading_problems"),
        )
        .join(invoice_occurrence, invoice_occurrence.c.id == invoice.c.occurrence_id)
        .where(
            invoice.c.state == str(InvoiceState.PARKED),
            invoice.c.reason.in_(list(reasons)),
            invoice.c.cured_at.is_(None),
            invoice.c.id > after,
        )
        .order_by(invoice.c.id)
        .limit(limit)
    )


def mark_cured(transaction: Transaction, invoice_pk: int, detail: Mapping[str, Any]) -> None:
    """The cause of parking is gone; the next poll takes the invoice up in its home window."""
    marked = transaction.execute(
        sa.update(invoice)
        .where(invoice.c.id == invoice_pk, invoice.c.state == str(InvoiceState.PARKED))
        .values(cured_at=transaction.now)
    )
    if marked.rowcount == 1:
        transaction.audit("invoice.cured", f"invoice:{invoice_pk}", **detail)


def waiting_occurrences(transaction: Transaction) -> list[Row]:
    """Appearances that waited for an outcome which is now known, oldest first."""
    return transaction.rows(
        sa.select(invoice_occurrence)
        .join(invoice, invoice.c.id == invoice_occurrence.c.invoice_pk)
        .where(DECIDABLE)
        .order_by(invoice_occurrence.c.id)
    )


def reload(transaction: Transaction, occurrence: Row) -> tuple[Row, Row, Appearance]:
    """(invoice as ``by_source`` gives it, its file's row, the appearance) of a stored occurrence."""
    base = transaction.row(sa.select(invoice).where(invoice.c.id == occurrence["invoice_pk"]))
    file = transaction.row(sa.select(source_file).where(source_file.c.id == occurrence["file_id"]))
    assert base is not None and file is not None  # noqa: S101, PT018 - held by foreign keys
    key = (base["company_id"], base["source_key"])
    row = by_source(transaction, [key])[key]
    appearance = Appearance(
        company_id=base["company_id"],
        source_key=base["source_key"],
        rows=tuple(occurrence["rows"]),
        number=occurrence["number"],
        vendor_id=occurrence["vendor_id"],
        currency=occurrence["currency"],
        amount_minor=occurrence["amount_minor"],
        amount_text=occurrence["amount_text"],
        revision=occurrence["revision"],
        approved_at=occurrence["approved_at"],
        digest=occurrence["digest"],
        content=occurrence["content"],
        readable=occurrence["readable"],
        problems=tuple(occurrence["problems"]),
    )
    return row, file, appearance


def digests_of_file(transaction: Transaction, file_id: int) -> dict[tuple[str, str], str]:
    """Digest of each invoice a file showed, by (company_id, source_key)."""
    rows = transaction.rows(
        sa.select(invoice.c.company_id, invoice.c.source_key, invoice_occurrence.c.digest)
        .join(invoice, invoice.c.id == invoice_occurrence.c.invoice_pk)
        .where(invoice_occurrence.c.file_id == file_id)
    )
    return {(row["company_id"], row["source_key"]): row["digest"] for row in rows}
