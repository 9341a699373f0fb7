"""Legal holds: what they name is not erased, whatever its age, until two people release them.

A hold names a company, a supplier, an invoice, a file, a period, or several of these, which narrow each other. Where
the ledger cannot tell whether content belongs to what is named, it is held: extracts, exported files and unread rows
are not divided by company.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.approval import Approval, Decision
from mlc_dagster.ledger.database import LedgerError, Row, Transaction
from mlc_dagster.ledger.schema import invoice, source_file
from mlc_dagster.ledger.schema_outbound import exported_file
from mlc_dagster.ledger.schema_retention import retention_hold
from mlc_dagster.ledger.types import UtcDateTime

Clause = sa.ColumnElement[bool]
RETENTION_LOCK = "retention"
"""Holds are placed and items erased one after the other."""


@dataclass(frozen=True)
class HoldTerms:
    """What a hold names; absent ones do not narrow it.

    Raises:
        LedgerError: it names nothing, or its period ends before it begins.
    """

    company: str | None = None
    """Company's id in Stampli's files."""
    supplier: str | None = None
    """Vendor's id in Stampli, or the supplier's number or id in Fusion."""
    invoice: str | None = None
    """Number, id in Stampli or id in the ledger."""
    file: str | None = None
    """Name, path or SHA-256 of a file received or exported."""
    begins: dt.datetime | None = None
    ends: dt.datetime | None = None
    """No longer part of the period."""

    def __post_init__(self) -> None:
        if not any(asdict(self).values()):
            raise LedgerError("a legal hold that names nothing; give a company, supplier, invoice, file or period")
        if self.begins is not None and self.ends is not None and self.begins >= self.ends:
            raise LedgerError("a legal hold whose period ends before it begins")

    @property
    def unclear_of_whom(self) -> bool:
        """Names what only invoices that were read say of themselves."""
        return self.company is not None or self.supplier is not None or self.invoice is not None

    @property
    def said(self) -> dict[str, Any]:
        """As the audit trail has it."""
        return {
            name: value.astimezone(dt.UTC).isoformat() if isinstance(value, dt.datetime) else value
            for name, value in asdict(self).items()
            if value is not None
        }


def place_hold(transaction: Transaction, terms: HoldTerms, decision: Decision) -> int:
    """From now on nothing that the hold names is erased; its number. One person may do it."""
    # An erasure that is under way commits first, the next one sees the hold.
    transaction.lock_name(RETENTION_LOCK)
    key = transaction.insert(
        retention_hold,
        **asdict(terms),
        placed_by=decision.by,
        reason=decision.reason,
        placed_at=transaction.now,
    )
    decision.record(transaction, "hold.placed", f"hold:{key}", before={}, after=terms.said)
    return key


def release_hold(transaction: Transaction, number: int, approval: Approval) -> None:
    """What the hold names may be erased again.

    Raises:
        LedgerError: there is no such hold, or it was released before.
    """
    row = transaction.row(sa.select(retention_hold).where(retention_hold.c.id == number))
    if row is None or row["released_at"] is not None:
        what = "there is none of this number" if row is None else "it was released before"
        raise LedgerError(f"hold {number}: {what}; `mlc retention hold list` shows those that stand")
    transaction.execute(
        sa.update(retention_hold)
        .where(retention_hold.c.id == number, retention_hold.c.released_at.is_(None))
        .values(released_at=transaction.now, released_by=approval.by, release_reason=approval.told)
    )
    approval.record(
        transaction, "hold.released", f"hold:{number}", before=_terms(row).said, after={},
        placed_at=row["placed_at"].isoformat(),
    )  # fmt: skip


def list_holds(transaction: Transaction, *, released: bool = False) -> list[Row]:
    """Holds that stand, oldest first; with ``released`` also those that do not."""
    statement = sa.select(retention_hold).order_by(retention_hold.c.id)
    return transaction.rows(statement if released else statement.where(retention_hold.c.released_at.is_(None)))


def standing_holds(transaction: Transaction) -> list[tuple[int, HoldTerms]]:
    """Holds that stand, by number."""
    return [(int(row["id"]), _terms(row)) for row in list_holds(transaction)]


def _terms(row: Row) -> HoldTerms:
    return HoldTerms(**{name: row[name] for name in ("company", "supplier", "invoice", "file", "begins", "ends")})


def names_invoice(terms: HoldTerms) -> Clause:
    """Whether the row of ``invoice`` is named; everything is where the hold names no such thing."""
    clauses: list[Clause] = []
    if terms.company is not None:
        clauses.append(invoice.c.company_id == terms.company)
    if terms.supplier is not None:
        named = terms.supplier
        clauses.append(
            sa.or_(
                invoice.c.vendor_id == named,
                invoice.c.supplier_number == named,
                sa.cast(invoice.c.supplier_id, sa.Text) == named,
            )
        )
    if terms.invoice is not None:
        named = terms.invoice
        clauses.append(
            sa.or_(
                invoice.c.number == named,
                invoice.c.fusion_number == named,
                invoice.c.source_key == named,
                sa.cast(invoice.c.id, sa.Text) == named,
            )
        )
    return sa.and_(sa.true(), *clauses)


def names_source_file(terms: HoldTerms) -> Clause:
    """Whether the row of ``source_file`` is named by file and period; one that is not known (absent) is."""
    received = sa.func.coalesce(source_file.c.received_at, source_file.c.assigned_at)
    clauses = [_in_period(terms, received, received)]
    if terms.file is not None:
        clauses.append(_is_file(terms.file, source_file.c.path, source_file.c.sha256))
    return sa.or_(source_file.c.id.is_(None), sa.and_(*clauses))


def names_exported_file(terms: HoldTerms) -> Clause:
    """Whether the row of ``exported_file`` is named by file; everything is where the hold names none."""
    if terms.file is None:
        return sa.true()
    return sa.or_(
        _is_file(terms.file, exported_file.c.name, exported_file.c.sha256),
        # Its companions' names.
        sa.cast(exported_file.c.companions, sa.Text).contains(f'"{terms.file}"', autoescape=True),
    )


def in_period(terms: HoldTerms, begins: "sa.Column[Any]", ends: "sa.Column[Any]") -> Clause:
    """Whether a span of time reaches into the hold's period."""
    return _in_period(terms, begins, ends)


def _in_period(terms: HoldTerms, begins: "sa.ColumnElement[Any]", ends: "sa.ColumnElement[Any]") -> Clause:
    clauses: list[Clause] = [sa.true()]
    if terms.begins is not None:
        clauses.append(ends >= sa.literal(terms.begins, UtcDateTime))
    if terms.ends is not None:
        clauses.append(begins < sa.literal(terms.ends, UtcDateTime))
    return sa.and_(*clauses)


def _is_file(named: str, path: "sa.Column[Any]", sha256: "sa.Column[Any]") -> Clause:
    return sa.or_(path == named, path.endswith(f"/{named}", autoescape=True), sha256 == named)


def any_of(clauses: Sequence[tuple[int, Clause]]) -> list[tuple[Clause, str]]:
    """For ``sa.case``: which hold keeps a row."""
    return [(clause, f"legal hold {number}") for number, clause in clauses]
