"""A feed's files onto its partner's server: first in first out, each once, for as long as it is worth trying.

What belongs here: the order of files and companions, attempts and pauses, and what is said about it. What does not: how
one file is placed (``placing``), and files that a person wants once more (``resending``).
"""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from mlc_dagster.exports import outbox
from mlc_dagster.exports.connecting import Connection
from mlc_dagster.exports.delivery_journal import DeliveryJournal
from mlc_dagster.exports.faults import BytesDiffer, DeliveryStopped, LeaseLost, OutcomeUnknown
from mlc_dagster.exports.journals import CompanionJournal, FileJournal
from mlc_dagster.exports.leftovers import Noted, clear_leftovers, forgotten
from mlc_dagster.exports.outbound import Feed, Outbound
from mlc_dagster.exports.placing import Conditions, Ending, Item, Journal, Placed, Placement
from mlc_dagster.ledger import arrivals, exported
from mlc_dagster.ledger.archive import ArchiveDamaged
from mlc_dagster.ledger.arrivals import ENDED_STEPS, CompanionStep
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.exported import DELIVERED_STATES, FileState
from mlc_dagster.sftp import ServerRefused, SftpError

__all__ = ["Delivered", "DeliveryStopped", "Outcome", "Seams", "deliver_pending"]

# Full jitter: after the n-th fault a draw between 0 and this, so that many feeds do not come back at one moment.
_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 60.0
_ENDED = (*DELIVERED_STATES, FileState.ABANDONED)
_MOST_ENDED = 10_000
# Faults that leave the connection as good as it was.
_ANSWERED = (ServerRefused, BytesDiffer)


class Outcome(StrEnum):
    SENT = "SENT"
    INFERRED = "INFERRED"
    """Taken by the partner, as far as can be concluded."""
    UNKNOWN = "UNKNOWN"
    """A person must find out; the feed waits."""
    STOPPED = "STOPPED"
    """It did not get through and waits for the next run."""
    WAITING = "WAITING"
    """Not tried, because an earlier file of the feed did not get through."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of one file."""

    file_id: int
    name: str
    outcome: Outcome
    attempts: int
    seconds: float
    text: str = ""
    alert: bool = False
    """A person should read the text."""
    stopped: DeliveryStopped | None = None


@dataclass(frozen=True, slots=True)
class Seams:
    """``before`` is called with the name of each step before it is taken; tests end or stop the process there."""

    before: Callable[[str], object] = str


@dataclass(frozen=True)
class _Trip:
    """What is the same for all files of one call."""

    outbound: Outbound
    feed: Feed
    connection: Connection
    conditions: Conditions
    sleep: Callable[[float], None]
    draw: Callable[[], float]
    clock: Callable[[], float]


def deliver_pending(
    outbound: Outbound,
    feed: Feed,
    *,
    still_ours: Callable[[], bool],
    sleep: Callable[[float], None] = time.sleep,
    draw: Callable[[], float] = random.random,
    clock: Callable[[], float] = time.monotonic,
    seams: Seams | None = None,
) -> list[Delivered]:
    """Delivers the feed's files that wait, oldest first, until one does not get through.

    Bytes are the archive's; names, hashes and numbers were fixed when the file was built. A file whose outcome is
    unknown holds back those after it until a person has settled it.

    Args:
        outbound: the wiring.
        feed: the feed; the caller holds its lease.
        still_ours: whether it still does; asked before everything that cannot be taken back.
        sleep: waits between attempts, in seconds.
        draw: a number in 0..1.
        clock: seconds that go on steadily.
        seams: for tests.

    Returns:
        One entry per file that waits, those of unknown outcome among them. Faults of server, connection and disk are
        told there, not raised.
    """
    with outbound.ledger.reading() as reading:
        pending = exported.pending_files(reading, feed.name)
        unknown = exported.list_files(reading, feed.name, [FileState.UNKNOWN], limit=1000)
    _lay_out(outbound, feed, pending, unknown)
    last = pending[-1]["sequence"] if pending else 0
    found: list[Delivered] = []
    stopped_by: str | None = None
    conditions = Conditions(feed.settings.upload, still_ours, (seams or Seams()).before)
    with Connection(feed.open_session, feed.settings.sftp.poll_deadline) as connection:
        clear_leftovers(outbound, feed.name, connection)
        trip = _Trip(outbound, feed, connection, conditions, sleep, draw, clock)
        for file in sorted([*pending, *unknown], key=lambda row: row["sequence"]):
            if stopped_by is not None and file["state"] != FileState.UNKNOWN:
                text = f"waits for {stopped_by}"
                found.append(Delivered(file["id"], file["name"], Outcome.WAITING, 0, 0.0, text))
                continue
            if file["state"] == FileState.UNKNOWN:
                found.append(_unsettled(feed, file, blocks=file["sequence"] < last))
            else:
                found.append(_deliver(trip, file))
            if found[-1].stopped is not None:
                stopped_by = stopped_by or file["name"]
    return found


def _lay_out(outbound: Outbound, feed: Feed, pending: Sequence[Row], unknown: Sequence[Row]) -> None:
    """The outbox as it should be. For people alone: a disk of ours that is full is no reason not to deliver."""
    for file in pending:
        with suppress(OSError, ArchiveDamaged):
            outbox.put_out(outbound, feed.name, _contents(file))
    with suppress(OSError):
        waiting = {name for file in (*pending, *unknown) for name in _contents(file)}
        if left := outbox.names_in(outbound, feed.name) - waiting:
            # Delivered by a run that was killed, or given up or confirmed by a person: nobody may hand it over as well.
            with outbound.ledger.reading() as reading:
                ended = exported.list_files(reading, feed.name, _ENDED, limit=_MOST_ENDED)
            outbox.take_in(outbound, feed.name, left & {name for file in ended for name in _contents(file)})


def _unsettled(feed: Feed, file: Row, *, blocks: bool) -> Delivered:
    """``blocks``: others wait behind it. One that holds nothing up fails no run, and a person must hear of it still."""
    cause = OutcomeUnknown(file["reason"])
    stopped = DeliveryStopped(feed.name, file["name"], cause, transient=False) if blocks else None
    return Delivered(file["id"], file["name"], Outcome.UNKNOWN, 0, 0.0, str(cause), alert=True, stopped=stopped)


def _contents(file: Row) -> dict[str, str]:
    return {str(file["name"]): str(file["sha256"])} | {
        str(companion["name"]): str(companion["sha256"]) for companion in file["companions"]
    }


def _deliver(trip: _Trip, file: Row) -> Delivered:
    """One file and its companions, tried again while the fault may pass."""
    began = trip.clock()
    delivery = _FileDelivery(trip, file)
    failures = 0
    while True:
        trip.connection.refresh()
        try:
            placed = delivery.go_on()
        except (SftpError, LeaseLost, ArchiveDamaged) as error:
            failures += 1
            cause: SftpError | LeaseLost | ArchiveDamaged = error
            transient = isinstance(error, LeaseLost) or (isinstance(error, SftpError) and error.transient)
        else:
            outcome = Outcome.SENT if placed.ending is Ending.ARRIVED else Outcome(placed.ending)
            stopped = None
            if outcome is Outcome.UNKNOWN:
                stopped = DeliveryStopped(trip.feed.name, file["name"], OutcomeUnknown(placed.text), transient=False)
            else:
                outbox.take_in(trip.outbound, trip.feed.name, _contents(file))
            return Delivered(
                file["id"],
                file["name"],
                outcome,
                failures + 1,
                trip.clock() - began,
                placed.text,
                placed.alert,
                stopped,
            )
        lost = isinstance(cause, LeaseLost)
        if transient and not isinstance(cause, _ANSWERED):
            trip.connection.drop()
        if not lost:
            try:
                delivery.failed(f"{type(cause).__name__}: {cause}")
            except LeaseLost as error:
                cause, transient, lost = error, True, True
        pause = trip.draw() * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (failures - 1))
        if lost or not transient or trip.clock() - began + pause > trip.feed.settings.upload.retry_for:
            stopped = DeliveryStopped(trip.feed.name, file["name"], cause, transient=transient)
            text = f"{cause}{'' if lost else _left(trip, file)}"
            seconds = trip.clock() - began
            return Delivered(
                file["id"], file["name"], Outcome.STOPPED, failures, seconds, text, alert=not lost, stopped=stopped
            )
        trip.sleep(pause)


def _left(trip: _Trip, file: Row) -> str:
    place = outbox.waiting_place(trip.outbound, trip.feed.name, file["name"])
    return f" | the file waits at {place} (SHA-256 {file['sha256']})"


class _FileDelivery:
    """The way of one file and of what belongs to it; ``go_on`` may be called again after a fault."""

    def __init__(self, trip: _Trip, file: Row) -> None:
        self._trip = trip
        self._file = file
        self._on_disk = DeliveryJournal(trip.outbound, trip.feed.name)
        self._journal = FileJournal(trip.outbound.ledger, file, trip.conditions.still_ours, self._on_disk)
        self._placement: Placement | None = None
        self._companion: tuple[CompanionJournal, Placement] | None = None
        self._arrived: Placed | None = None
        if file["verified_by"] == arrivals.INFERRED:
            self._arrived = Placed(Ending.INFERRED, arrivals.INFERRED, text=file["reason"], alert=True)
        elif arrivals.has_arrived(file):
            self._arrived = Placed(Ending.ARRIVED, file["verified_by"])

    def go_on(self) -> Placed:
        """Everything that is left to do; raises SftpError, LeaseLost or ArchiveDamaged."""
        companions = cast("list[dict[str, Any]]", self._file["companions"])
        if self._arrived is None:
            placed = self._place()
            if placed.ending is Ending.ARRIVED:
                self._trip.conditions.before("commit arrived")
                self._journal.arrived(placed, self._trip.connection.server_key, whole=not companions)
            elif placed.ending is Ending.INFERRED:
                # A partner that waits for its trigger has not read it, whatever it has done with it.
                self._journal.inferred(placed.text, self._trip.connection.server_key, whole=not companions)
            else:
                self._journal.unknown(placed.text)
            if placed.ending is Ending.UNKNOWN or not companions:
                return placed
            self._arrived = placed
        notes = [self._arrived.text] if self._arrived.text else []
        alert = self._arrived.alert
        for companion in companions:
            ended = self._place_companion(companion)
            if ended is not None and ended.ending is not Ending.ARRIVED:
                notes.append(f"{companion['kind']} {companion['name']}: {ended.text}")
                alert = True
        self._trip.conditions.before("commit sent")
        self._journal.complete(self._reread())
        return Placed(self._arrived.ending, self._arrived.verified_by, self._arrived.found, "; ".join(notes), alert)

    def _place(self) -> Placed:
        if self._placement is None:
            self._placement = self._placing(
                self._file["name"], self._file["bytes"], self._file["sha256"], self._journal
            )
        return self._placement.place()

    def _place_companion(self, companion: dict[str, Any]) -> Placed | None:
        """None when it is there already."""
        if self._companion is None or self._companion[0].name != companion["name"]:
            file = self._reread()
            (now,) = (entry for entry in file["companions"] if entry["name"] == companion["name"])
            if now.get("step") in ENDED_STEPS:
                return None
            journal = CompanionJournal(
                self._trip.outbound.ledger, file, companion["name"], self._trip.conditions.still_ours
            )
            noted = Noted(journal, lambda path: self._on_disk.temporary(self._file["sequence"], path))
            placement = self._placing(companion["name"], companion["bytes"], companion["sha256"], noted)
            self._companion = journal, placement
        journal, placement = self._companion
        placed = placement.place()
        self._trip.conditions.before("commit companion")
        journal.note(CompanionStep.SENT if placed.ending is Ending.ARRIVED else CompanionStep(placed.ending))
        self._companion = None
        return placed

    def _placing(self, name: str, size: int, sha256: str, journal: Journal) -> Placement:
        source = self._trip.outbound.archive.path(sha256)
        item = Item(name, self._file["directory"], size, sha256, source)
        # A ledger that was restored, or was told that a file did not arrive, has lost the name of what lies there.
        stale = forgotten(self._on_disk, self._file["sequence"], name) if journal.temporary is None else []
        return Placement(item, journal, self._trip.connection, self._trip.conditions, stale=stale)

    def _reread(self) -> Row:
        with self._trip.outbound.ledger.reading() as reading:
            file = exported.file_row(reading, self._file["id"])
        return self._file if file is None else file

    def failed(self, text: str) -> None:
        """Records the fault; raises LeaseLost."""
        if self._companion is not None:
            journal, placement = self._companion
            journal.failed(open_end=placement.open_end)
        open_end = self._arrived is None and self._placement is not None and self._placement.open_end
        self._journal.failed(text, open_end=open_end)
