"""The part of the delivery journal that says when a feed began anew: ``<data_dir>/journal/<feed>/restarts.jsonl``.

One line per restart, after the ledger's commit and before anything is sent by it. A line that the ledger does not have
means that the ledger was restored. Reading and writing only; see ``guarding`` and ``restoring``.
"""

import datetime as dt
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

from mlc_dagster.exports.delivery_journal import JournalDamaged, append_line, journal_folder, parsed_line
from mlc_dagster.exports.outbound import Outbound
from mlc_dagster.ledger.archive import sync_folder
from mlc_dagster.ledger.feeds import feed_row
from mlc_dagster.ledger.identity import ledger_id
from mlc_dagster.ledger.places import Place
from mlc_dagster.ledger.restarts import Restart, restarts_of

_FILE = "restarts.jsonl"
_FIELDS = frozenset(field.name for field in fields(Restart))


@dataclass(frozen=True)
class EnteredRestart:
    """A restart as the journal has it."""

    ledger: str
    """Id of the ledger that it was written beside."""
    source: str
    """What the feed's records are of."""
    restart: Restart


class RestartJournal:
    """One feed's restarts. Written by whoever holds the feed."""

    def __init__(self, outbound: Outbound, feed: str) -> None:
        self.feed = feed
        self.path: Path = journal_folder(outbound) / feed / _FILE
        self._ledger = outbound.ledger

    def entered(self) -> list[EnteredRestart]:
        """All restarts, in order; raises JournalDamaged where one is missing or is none."""
        if not self.path.exists():
            return []
        found: list[EnteredRestart] = []
        before: object = None
        for raw in self.path.read_bytes().splitlines(keepends=True):
            # One that a power cut left unfinished was entered once more after it.
            said = parsed_line(raw) if raw.endswith(b"\n") else None
            # Cut off just before its end, it is whole once the next line was begun, and stands there twice.
            if said is not None and said != before:
                found.append(self._read(said, len(found) + 1))
                before = said
        return found

    def _read(self, said: object, number: int) -> EnteredRestart:
        known = cast("dict[str, Any]", said) if isinstance(said, dict) else {}
        try:
            restart = Restart(**{name: known[name] for name in _FIELDS})
            entry = EnteredRestart(str(known["ledger"]), str(known["source"]), restart)
            dt.datetime.fromisoformat(restart.at)
            Place(**restart.after)
        except (KeyError, TypeError, ValueError):
            raise JournalDamaged(self.path, f"line {number} is no restart") from None
        if restart.number != number:
            raise JournalDamaged(self.path, f"restart {number} is missing")
        return entry

    def catch_up(self) -> None:
        """Durably enter what the ledger has and the journal lacks.

        Raises:
            JournalDamaged: it cannot be read.
            OSError: our disk refused.
        """
        with self._ledger.reading() as reading:
            known = restarts_of(reading, self.feed)
        if not known:
            return
        missing = known[len(self.entered()) :]
        if not missing:
            return
        with self._ledger.transaction() as transaction:
            identity = ledger_id(transaction)
            source = str(feed_row(transaction, self.feed)["source"])
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("xb") as stream:
                os.fsync(stream.fileno())
            sync_folder(self.path.parent)
        for restart in missing:
            append_line(self.path, {"ledger": identity, "source": source, **asdict(restart)})
