"""What people were told, so that the same trouble is not told at every run.

The rule, for every alert about something that stays wrong: it has a subject (a file, a step of a job) and a cause. A
cause is told once, and once more for every day that it lasts; another cause is told at once. What was told stands in
the audit trail, so the rule holds across processes: commands and the daemon alike.
"""

import datetime as dt
import re

import sqlalchemy as sa

from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.schema import audit_event

AGAIN_AFTER = dt.timedelta(days=1)
KIND = "alert.told"

_VARYING = re.compile(r"\b[0-9a-f]{8}\b|[0-9]+")


def cause_of(text: str) -> str:
    """What of an error's text stays the same from attempt to attempt: numbers, times and temporary names do not."""
    return " ".join(_VARYING.sub("#", text).split())


def is_news(transaction: Transaction, subject: str, cause: str) -> bool:
    """Whether nobody was told of this cause within the last day."""
    told = transaction.rows(
        sa.select(audit_event.c.detail).where(
            audit_event.c.subject == subject,
            audit_event.c.kind == KIND,
            audit_event.c.at > transaction.now - AGAIN_AFTER,
        )
    )
    return all(event["detail"]["cause"] != cause for event in told)


def note_told(transaction: Transaction, subject: str, cause: str, title: str) -> None:
    """Somebody was reached: from now on it is no news for a day."""
    transaction.audit(KIND, subject, cause=cause, title=title)
