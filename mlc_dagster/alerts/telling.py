"""Sends an alert when it is news, for every flow alike; what is news, the ledger keeps and its rule says.

What belongs here: asking, sending, noting. What does not: the words, and noticing that something is wrong.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from mlc_dagster.alerts.messages import Message
from mlc_dagster.alerts.sending import Alerts


class Trouble(NamedTuple):
    """What an alert is about."""

    subject: str
    """``export:7`` (a file), ``run:fusion_to_sftp/fusion_journals`` (a step of a job)."""
    cause: str
    """Why, in words that stay the same while the trouble does."""


class Told(Protocol):
    """What people were told, whichever process told them."""

    def is_news(self, subject: str, cause: str) -> bool:
        """Whether nobody was told of this cause of late."""
        ...

    def note(self, troubles: Sequence[tuple[str, str]], title: str) -> None:
        """Somebody was reached: these subjects and causes are no news for a while."""
        ...


def is_news(told: Told | None, alerts: Alerts, trouble: Trouble) -> bool:
    """Whether it is to be told now: there is somebody, and nobody knows. Without a ledger nobody can know."""
    if not alerts or told is None:
        return bool(alerts)
    return told.is_news(*trouble)


def send(told: Told | None, alerts: Alerts, about: Sequence[Trouble], message: Message) -> list[str]:
    """Tell everybody under ``alerts:``; one line per address that was not reached.

    An alert that reached nobody is no telling: the next run tries again.
    """
    failures = alerts.send(*message)
    if told is not None and len(failures) < len(alerts):
        told.note(about, message.title)
    return failures
