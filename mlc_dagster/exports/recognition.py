"""Recognising what a record that was read is to a feed: new, changed, canceled, the same, or out of date.

Compared with the latest version only that is delivered or on its way: 100, 200, 100 are three versions. Nothing old
overtakes: what was read earlier than what the ledger has already is dropped. Decides, and writes nothing.
"""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from mlc_dagster.exports.writing import Change
from mlc_dagster.fusion.records import Content, Invoice, Journal, PurchaseOrder, Read, SupplierRecord
from mlc_dagster.ledger.exported import RecordState
from mlc_dagster.ledger.extracts import Reading
from mlc_dagster.ledger.known_versions import Known, Latest
from mlc_dagster.settings import ExportSettings

KEPT_SOURCES = frozenset({"purchase_orders"})
"""Sources whose contents are kept with each version: their writers tell what changed."""

_POSTED = "P"
_OPEN = (RecordState.HELD, RecordState.ABANDONED)


class Standing(StrEnum):
    """What a record was when it was sent, where it decides what its next version is."""

    POSTED = "POSTED"
    CANCELED = "CANCELED"


class Outcome(StrEnum):
    SEND = "SEND"
    UNCHANGED = "UNCHANGED"
    """The partner has it, or is about to get it."""
    STALE = "STALE"
    """Read earlier than what the partner has."""
    FILTERED = "FILTERED"
    """Not of this feed."""
    NEVER_SENT = "NEVER_SENT"
    """Canceled before it was ever sent: the partner need not know of it."""


class Stored(Protocol):
    """A record as its extract has it: content not decoded yet."""

    @property
    def record_id(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    def read(self, source: str) -> Read: ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Which extract a reading is of."""

    extract_id: int
    read_at: dt.datetime
    """When by Fusion's clock its reading began."""

    @property
    def order(self) -> tuple[dt.datetime, int]:
        return self.read_at, self.extract_id


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done with a reading."""

    outcome: Outcome
    read: Read | None = None
    change: Change = Change.NEW
    number: int = 0
    """Version number that it goes under."""
    standing: Standing | None = None
    row_id: int | None = None
    """The held version that it is, content for content."""
    delivered: Known | None = None
    """What the partner has, or is about to get."""
    superseded: tuple[int, ...] = ()
    """Keys of held or given-up versions that this reading makes pointless."""
    changed_posted: bool = False
    """A journal that was posted when it was sent has changed since."""


@dataclass(frozen=True)
class Selection:
    """Which records are a feed's."""

    source: str
    start: dt.datetime
    by_creation: bool
    ledgers: frozenset[str] = field(default_factory=frozenset[str])
    business_units: frozenset[str] = field(default_factory=frozenset[str])
    journal_sources: frozenset[str] = field(default_factory=frozenset[str])
    balance_types: frozenset[str] = field(default_factory=frozenset[str])
    include_unposted: bool = False

    @classmethod
    def of(cls, feed: ExportSettings, poll_start: dt.datetime) -> "Selection":
        """What mlc.yaml says of the feed."""
        return cls(
            source=feed.source,
            start=feed.start or poll_start,
            by_creation=feed.date == "creation",
            ledgers=frozenset(feed.ledgers),
            business_units=frozenset(feed.business_units),
            journal_sources=frozenset(feed.journal_sources),
            balance_types=frozenset(name.casefold() for name in feed.balance_types),
            include_unposted=feed.include_unposted,
        )

    def takes(self, read: Read, latest: Latest | None) -> bool:
        """Whether the record is the feed's; ``latest`` is what the ledger has of it."""
        if self.by_creation and latest is not None and latest.delivered is not None:
            return False
        if latest is None and not self._is_recent(read):
            return False
        return self._is_ours(read.content)

    def _is_recent(self, read: Read) -> bool:
        date = (read.creation_date or read.last_update_date) if self.by_creation else read.last_update_date
        # Without a date it was not the feed's beginning that kept it out.
        return date is None or date >= self.start

    def _is_ours(self, content: Content) -> bool:
        match content:
            case Journal():
                return (
                    _is_one_of(content.ledger, self.ledgers)
                    and _is_one_of(content.source, self.journal_sources)
                    and _is_one_of((content.balance_type or "").casefold(), self.balance_types)
                    and (self.include_unposted or content.status == _POSTED)
                )
            case Invoice() | PurchaseOrder():
                return _is_one_of(content.business_unit, self.business_units)
            case SupplierRecord():
                return True


def _is_one_of(value: str | None, wanted: Collection[str]) -> bool:
    return not wanted or value in wanted


def standing_of(content: Content) -> Standing | None:
    """What the ledger keeps about a version of this content."""
    match content:
        case Journal():
            return Standing.POSTED if content.status == _POSTED else None
        case Invoice() | PurchaseOrder():
            return Standing.CANCELED if content.canceled else None
        case SupplierRecord():
            return None


def recognise(
    stored: Stored,
    origin: Origin,
    latest: Latest | None,
    selection: Selection,
    newest: Reading | None = None,
) -> Decision:
    """What a reading is to the feed.

    Args:
        stored: the record as its extract has it; decoded only when it is not the same as before.
        origin: the extract that it is of.
        latest: what the ledger has of the record for the feed.
        selection: which records are the feed's.
        newest: for an extract that is looked through again by hand: the latest reading of the record. In the ordinary
            run the extracts come in order, and a later one is simply not there yet.
    """
    if newest is not None and newest.extract_id > origin.extract_id and newest.content_sha256 != stored.sha256:
        return Decision(Outcome.STALE)
    if latest is not None and origin.order < (latest.newest.read_at, latest.newest.extract_id):
        return Decision(Outcome.STALE)
    delivered = latest.delivered if latest is not None else None
    waiting = latest.newest if latest is not None and latest.newest.state in _OPEN else None
    pointless = (waiting.id,) if waiting is not None else ()
    if delivered is not None and delivered.content_sha256 == stored.sha256:
        return Decision(Outcome.UNCHANGED, superseded=pointless)
    read = stored.read(selection.source)
    if not selection.takes(read, latest):
        return Decision(Outcome.FILTERED, superseded=pointless)
    standing = standing_of(read.content)
    if standing is Standing.CANCELED and delivered is None:
        return Decision(Outcome.NEVER_SENT, superseded=pointless)
    decision = Decision(
        Outcome.SEND,
        read=read,
        change=_change(delivered, standing),
        number=latest.newest.version + 1 if latest is not None else 1,
        standing=standing,
        delivered=delivered,
        changed_posted=delivered is not None and delivered.standing == standing == Standing.POSTED,
    )
    if waiting is None or waiting.state is RecordState.ABANDONED:
        # What was given up keeps its number; sent again, it is a version of its own.
        return decision
    if waiting.content_sha256 == stored.sha256:
        return replace(decision, number=waiting.version, row_id=waiting.id)
    return replace(decision, superseded=pointless)


def _change(delivered: Known | None, standing: Standing | None) -> Change:
    if delivered is None:
        return Change.NEW
    if standing is Standing.CANCELED and delivered.standing != Standing.CANCELED:
        return Change.CANCEL
    return Change.CHANGE
