"""What people were told, so that the same trouble is not told at every run.

The rule, for every alert about something that stays wrong: it has a subject (a file, a step of a job) and a cause. A
cause is told once, and once more for every day that it lasts; another cause is told at once. What was told stands in
the audit trail, so the rule holds across processes: commands and the daemon alike. What stands in a log, or ends a
command with another exit code, follows the same rule under an event of its own: nobody need have read it.
"""

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from mlc_dagster.ledger.database import Ledger, Transaction
from mlc_dagster.ledger.schema import audit_event

AGAIN_AFTER = dt.timedelta(days=1)
KIND = "alert.told"
NOTICED = "trouble.noticed"

_VARYING = re.compile(r"\b[0-9a-f]{8}\b|[0-9]+")


def cause_of(text: str) -> str:
    """What of an error's text stays the same from attempt to attempt: numbers, times and temporary names do not."""
    return " ".join(_VARYING.sub("#", text).split())


def is_news(transaction: Transaction, subject: str, cause: str) -> bool:
    """Whether nobody was told of this cause within the last day."""
    return _is_new(transaction, KIND, subject, cause)


def notice(transaction: Transaction, subject: str, cause: str) -> bool:
    """Whether this cause was not noticed within the last day; from now on it is."""
    new = _is_new(transaction, NOTICED, subject, cause)
    if new:
        transaction.audit(NOTICED, subject, cause=cause)
    return new


def _is_new(transaction: Transaction, kind: str, subject: str, cause: str) -> bool:
    events = transaction.rows(
        sa.select(audit_event.c.detail).where(
            audit_event.c.subject == subject,
            audit_event.c.kind == kind,
            audit_event.c.at > transaction.now - AGAIN_AFTER,
        )
    )
    return all(event["detail"]["cause"] != cause for event in events)


def note_told(transaction: Transaction, subject: str, cause: str, title: str) -> None:
    """Somebody was reached: from now on it is no news for a day."""
    transaction.audit(KIND, subject, cause=cause, title=title)


@dataclass(frozen=True)
class Tellings:
    """What people were told, each question and each note in a transaction of its own."""

    ledger: Ledger

    def is_news(self, subject: str, cause: str) -> bool:
        """As the function of this name."""
        with self.ledger.reading() as reading:
            return is_news(reading, subject, cause)

    def note(self, troubles: Sequence[tuple[str, str]], title: str) -> None:
        """As ``note_told``, for each (subject, cause)."""
        with self.ledger.transaction() as transaction:
            for subject, cause in troubles:
                note_told(transaction, subject, cause, title=title)
