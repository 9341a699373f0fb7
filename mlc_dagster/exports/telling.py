"""Sends an alert when it is news; what is news is ``ledger.tellings``' rule.

What belongs here: asking, sending, noting. What does not: the words, and noticing that something is wrong.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mlc_dagster.alerts import Alerts, Message
from mlc_dagster.ledger import tellings
from mlc_dagster.ledger.database import Ledger


class Trouble(NamedTuple):
    """What an alert is about."""

    subject: str
    """``export:7`` (a file), ``run:fusion_to_sftp/fusion_journals`` (a step of a job)."""
    cause: str
    """Why, in words that stay the same while the trouble does."""


def is_news(ledger: Ledger | None, alerts: Alerts, trouble: Trouble) -> bool:
    """Whether it is to be told now: there is somebody, and nobody knows. Without a ledger nobody can know."""
    if not alerts or ledger is None:
        return bool(alerts)
    with ledger.reading() as reading:
        return tellings.is_news(reading, *trouble)


def send(ledger: Ledger | None, alerts: Alerts, about: Sequence[Trouble], message: Message) -> list[str]:
    """Tell everybody under ``alerts:``; one line per address that was not reached.

    An alert that reached nobody is no telling: the next run tries again.
    """
    failures = alerts.send(*message)
    if ledger is not None and len(failures) < len(alerts):
        with ledger.transaction() as transaction:
            for trouble in about:
                tellings.note_told(transaction, *trouble, title=message.title)
    return failures
