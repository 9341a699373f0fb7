"""How often a feed began anew, and after which of its files: what a restored ledger has forgotten of it.

What belongs here: remembering it, so that the copy outside the database can be compared. What does not: beginning anew
(``beginning``), and that copy, which is ``exports.restart_journal``'s.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.database import LedgerError, Transaction
from mlc_dagster.ledger.feeds import feed_row
from mlc_dagster.ledger.schema import ledger_setting


@dataclass(frozen=True)
class Restart:
    """A feed that began anew: what it had delivered up to its file ``sequence`` counted as delivered no more."""

    number: int
    """From 1, counted by feed."""
    sequence: int
    """The feed's last file then; each had ended."""
    at: str
    """UTC, by the database's clock."""
    by: str
    approved_by: str
    reason: str
    before: Mapping[str, Any]
    """Where its files went."""
    after: Mapping[str, Any]
    records: int
    """So many were to be sent again."""

    @property
    def elsewhere(self) -> bool:
        """Whether its files went to another place from then on."""
        return self.before != self.after

    @property
    def told(self) -> str:
        """For people."""
        return f"number {self.number}, by {self.by} and {self.approved_by} at {self.at} ({self.reason})"


def restarts_of(transaction: Transaction, feed: str) -> list[Restart]:
    """The feed's restarts that the ledger knows of, in order."""
    name = _name(feed)
    found: str | None = transaction.value(sa.select(ledger_setting.c.value).where(ledger_setting.c.name == name))
    return [Restart(**each) for each in json.loads(found or "[]")]


def enter_restart(transaction: Transaction, feed: str, restart: Restart) -> None:
    """Remember one; raises LedgerError when it is not the next."""
    # Two at once: one of both waits here, and finds the other.
    feed_row(transaction, feed, lock=True)
    known = restarts_of(transaction, feed)
    if restart.number != len(known) + 1:
        raise LedgerError(f"feed {feed}: restart {restart.number} cannot follow restart {len(known)}")
    value = json.dumps([asdict(each) for each in (*known, restart)], sort_keys=True, ensure_ascii=False)
    transaction.upsert(ledger_setting, [{"name": _name(feed), "value": value}])


def _name(feed: str) -> str:
    return f"restarts/{feed}"
