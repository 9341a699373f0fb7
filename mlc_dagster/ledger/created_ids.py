"""Up to which InvoiceId Fusion was asked whether the ledger knows all that was created in its name.

A restored ledger is older than Fusion, and so is this mark: what was created since is above it. What people were told
of, and have decided on, is kept beside it. See ``stampli.forgotten``.
"""

import json

import sqlalchemy as sa

from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.schema import ledger_setting, submission
from mlc_dagster.ledger.submissions import OPEN_PHASES, Phase


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


def note_held(transaction: Transaction, invoice_pk: int, pod: str, invoice_id: int) -> None:
    """An invoice is held because it may be this one of Fusion's: whoever decides on it has seen that one."""
    transaction.upsert(ledger_setting, [{"name": _held(invoice_pk), "value": json.dumps([pod, invoice_id])}])


def note_told(transaction: Transaction, invoice_pk: int) -> int | None:
    """Two people have decided on an invoice that was held: the InvoiceId that it was held for holds nobody any more.

    None when it is not known which that was.
    """
    kept = transaction.value(sa.select(ledger_setting.c.value).where(ledger_setting.c.name == _held(invoice_pk)))
    if kept is None:
        return None
    pod, invoice_id = json.loads(kept)
    transaction.insert_ignoring(ledger_setting, {"name": f"{_told(pod)}{invoice_id}", "value": str(invoice_pk)})
    return int(invoice_id)


def told(transaction: Transaction, pod: str) -> set[int]:
    """InvoiceIds that the ledger does not know and on which people have decided."""
    names = sa.select(ledger_setting.c.name).where(ledger_setting.c.name.startswith(_told(pod), autoescape=True))
    return {int(row["name"].rpartition("/")[2]) for row in transaction.rows(names)}


def unsettled_groups(transaction: Transaction, pod: str) -> set[str]:
    """Groups with an attempt that is still to be settled by itself: what is found in them may be what it created.

    One that was given up is for people: it keeps nobody from being held.
    """
    rows = transaction.rows(
        sa.select(submission.c.invoice_group)
        .where(
            submission.c.pod == pod,
            submission.c.phase.in_(OPEN_PHASES),
            submission.c.ended_at.is_(None),
        )
        .distinct()
    )
    return {row["invoice_group"] for row in rows}


def _name(pod: str) -> str:
    return f"created_ids/{pod}"


def _held(invoice_pk: int) -> str:
    return f"held_for/{invoice_pk}"


def _told(pod: str) -> str:
    return f"told_ids/{pod}/"
