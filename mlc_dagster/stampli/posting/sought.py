"""What is looked for in Fusion, of an invoice or of an earlier attempt, and what holds only while that is the same.

Another run may put a newer appearance of an invoice in the place of the one that was looked up.
"""

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.prepared import Prepared
from mlc_dagster.ledger.releases import DUP_UNREADABLE
from mlc_dagster.ledger.schema import invoice as invoice_table
from mlc_dagster.ledger.states import InvoiceState, park
from mlc_dagster.stampli.posting.absence import Sought
from mlc_dagster.stampli.reasons import Problem, problem_rows
from mlc_dagster.stampli.validation.body import body_keys

_LOOKED_UP = ("occurrence_id", "window_start", "mapping")
_CURRENT = Prepared(
    sa.select(*(invoice_table.c[name] for name in _LOOKED_UP))
    .where(invoice_table.c.id == sa.bindparam("key"))
    .with_for_update()
)


def sought_for(row: Row) -> Sought:
    """What to look for in Fusion for an invoice row with a mapping."""
    return Sought(
        key=row["id"],
        business_unit=row["business_unit"],
        supplier_number=row["supplier_number"],
        number=row["fusion_number"],
        invoice_date=body_keys(row["mapping"]).invoice_date,
        exact=_exact(row),
    )


def sought_for_attempt(attempt: Row) -> Sought:
    """What to look for in Fusion for the frozen body of an attempt; the key is the attempt's."""
    keys = body_keys(attempt["body"])
    return Sought(
        key=attempt["id"],
        business_unit=keys.business_unit,
        supplier_number=keys.supplier_number,
        number=keys.invoice_number,
        invoice_date=keys.invoice_date,
        exact=_exact(attempt),
    )


def _exact(row: Row) -> bool:
    # An attempt need not be read with what people said of its invoice.
    return DUP_UNREADABLE in (row.get("released_reasons") or [])


def is_unchanged(transaction: Transaction, row: Row) -> bool:
    """True while the invoice is what was looked up: another run may have put a newer appearance in its place."""
    now = _CURRENT.row(transaction, {"key": row["id"]})
    return now is not None and all(now[name] == row[name] for name in _LOOKED_UP)


def park_unsent(transaction: Transaction, row: Row, found: Problem) -> bool:
    """Set an invoice aside that was looked up and not sent; False when it is not any more what was looked up."""
    return is_unchanged(transaction, row) and park(
        transaction, row["id"], problem_rows([found]), expected=(InvoiceState.VALIDATED,)
    )
