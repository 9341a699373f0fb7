"""Holds that a person may overrule, and the overruling.

Which checks hold an invoice is decided in ``stampli``; whoever judges it again passes over the reasons released here.
"""

import sqlalchemy as sa

from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.schema import invoice
from mlc_dagster.ledger.states import InvoiceState

RELEASABLE = frozenset({"DUP_NORMALISED", "DUP_OTHER_BU", "BEFORE_GO_LIVE", "FUSION_REJECTED"})
"""Holds that a person may overrule. An exact duplicate is none: Fusion's number has one owner."""


class NotReleasable(Exception):
    """The invoice is not parked for this reason, or nobody may overrule it; nothing was changed."""

    def __init__(self, invoice_pk: int, reason: str, state: str | None, found: str | None) -> None:
        self.invoice_pk = invoice_pk
        self.reason = reason
        said = f"it is {state or 'unknown'}{f' for {found}' if found else ''}"
        super().__init__(
            f"invoice {invoice_pk} cannot be released from {reason}: {said}; released are invoices parked for "
            f"{', '.join(sorted(RELEASABLE))}"
        )


def release_hold(transaction: Transaction, invoice_pk: int, reason: str, *, why: str) -> None:
    """A person overrules the hold for which the invoice is parked; the next poll takes it up in its home window.

    Raises:
        NotReleasable: it is not parked for ``reason``, or nobody may overrule that.
    """
    row = transaction.row(
        sa.select(invoice.c.state, invoice.c.reason, invoice.c.released_reasons)
        .where(invoice.c.id == invoice_pk)
        .with_for_update()
    )
    state, found = (row["state"], row["reason"]) if row else (None, None)
    if (
        row is None
        or state != str(InvoiceState.PARKED)
        or found != reason
        or reason.partition("(")[0] not in RELEASABLE
    ):
        raise NotReleasable(invoice_pk, reason, state, found)
    released: list[str] = row["released_reasons"] or []
    transaction.execute(
        sa.update(invoice)
        .where(invoice.c.id == invoice_pk)
        .values(released_reasons=sorted({*released, reason}), cured_at=transaction.now)
    )
    transaction.audit("invoice.released", f"invoice:{invoice_pk}", reason=reason, why=why)
