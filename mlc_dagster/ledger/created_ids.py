"""Up to which InvoiceId Fusion was asked whether the ledger knows all that was created in its name.

A restored ledger is older than Fusion, and so is this mark: what was created since is above it. See
``stampli.forgotten``.
"""

import sqlalchemy as sa

from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.schema import invoice, ledger_setting, submission
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.submissions import WAITING_PHASES, Phase


def asked_up_to(transaction: Transaction, pod: str) -> int | None:
    """The mark; before the first question the highest InvoiceId that was created, None where none was."""
    noted = transaction.value(sa.select(ledger_setting.c.value).where(ledger_setting.c.name == _name(pod)))
    if noted is not None:
        return int(noted)
    highest = transaction.value(
        sa.select(sa.func.max(submission.c.fusion_invoice_id)).where(
            submission.c.pod == pod, submission.c.phase == str(Phase.CREATED)
        )
    )
    return None if highest is None else int(highest)


def note_asked(transaction: Transaction, pod: str, invoice_id: int) -> None:
    """All up to this InvoiceId are known, or were told."""
    transaction.upsert(ledger_setting, [{"name": _name(pod), "value": str(invoice_id)}])


def _name(pod: str) -> str:
    return f"created_ids/{pod}"


def unsettled_groups(transaction: Transaction, pod: str) -> set[str]:
    """Groups with an attempt of which it is not known what it created: what is found in them may be that."""
    rows = transaction.rows(
        sa.select(submission.c.invoice_group)
        .join(invoice, invoice.c.id == submission.c.invoice_pk)
        .where(
            submission.c.pod == pod,
            sa.or_(
                submission.c.phase == str(Phase.UNKNOWN),
                sa.and_(submission.c.phase.in_([str(Phase.INTENT), *WAITING_PHASES]), submission.c.ended_at.is_(None)),
                sa.and_(invoice.c.state == str(InvoiceState.PARKED), invoice.c.reason == "SUBMIT_UNKNOWN"),
            ),
        )
        .distinct()
    )
    return {row["invoice_group"] for row in rows}
