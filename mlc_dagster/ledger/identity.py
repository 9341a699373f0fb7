"""Which ledger this is: an id of its own, which a copy of it shares and another installation's ledger does not."""

import uuid

import sqlalchemy as sa

from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.schema import ledger_setting

_NAME = "ledger.id"


def known_ledger_id(transaction: Transaction) -> str | None:
    """The ledger's id; None while it was never asked for, as in a ledger of an earlier version."""
    found: str | None = transaction.value(sa.select(ledger_setting.c.value).where(ledger_setting.c.name == _NAME))
    return found


def ledger_id(transaction: Transaction, *, first: str | None = None) -> str:
    """The ledger's id, given to it at first use: ``first``, or a new one."""
    transaction.insert_ignoring(ledger_setting, {"name": _NAME, "value": first or uuid.uuid4().hex})
    return str(known_ledger_id(transaction))


def take_ledger_id(transaction: Transaction, value: str, approval: Approval) -> None:
    """The ledger takes the place of the one with this id, because two people say it is the same installation's."""
    before = ledger_id(transaction)
    if before == value:
        return
    transaction.execute(sa.update(ledger_setting).where(ledger_setting.c.name == _NAME).values(value=value))
    approval.record(transaction, "ledger.id_taken", "ledger", before={"id": before}, after={"id": value})
