"""Whether the audit trail holds: a walk along the chain that names each row that was changed, removed or put in.

The chain is compared with itself, with the events, and with the checkpoints in the ledger and in the second place,
those of links that are documented as lost excepted (``audit_gaps``). Memory does not grow with the trail. Nothing here
writes.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import sqlalchemy as sa

from mlc_dagster.ledger.audit_gaps import (
    disagreements,
    forgeries,
    heads_of,
    standing,
    there_before,
    unsigned_after_signed,
)
from mlc_dagster.ledger.audit_rows import GENESIS, Link, RawEvent, events_around, link_hash, stream, walk
from mlc_dagster.ledger.checkpoints import Checkpoint, Checkpointing, Gap
from mlc_dagster.ledger.database import Ledger, Transaction
from mlc_dagster.ledger.schema import audit_chain, audit_checkpoint, audit_event

MOST_FAULTS = 20
"""Faults that are told; who changed more is found by the first."""
_OWN = "the ledger"
_NEAR = 200
"""How far from its place an event is looked for when a link was made to point to another."""


@dataclass(frozen=True)
class Checkpoints:
    """What the checkpoints say; ``signed`` are those with a good signature of a key that is believed."""

    count: int = 0
    signed: int = 0
    last: Checkpoint | None = None
    place: str | None = None
    """The second place; None where only the ledger's own checkpoints were compared."""


@dataclass(frozen=True)
class Verification:
    """What a walk along the chain found."""

    sealed: int
    """Links that hold, up to the first fault."""
    unsealed: int
    """Events that are in no link yet: not proven by anything."""
    faults: tuple[str, ...] = ()
    """The places where the trail does not hold, in words; empty when it holds."""
    head: str = GENESIS
    """Hash of the last link that holds. Kept elsewhere, it shows later that the chain up to here was not rebuilt."""
    checkpoints: Checkpoints = Checkpoints()
    notes: tuple[str, ...] = ()
    """What an auditor should know although it is no fault."""
    gaps: tuple[Gap, ...] = ()
    """Links that were lost by a restore, as two people documented it under the signing key: no fault either."""
    forged: tuple[str, ...] = ()
    """Those of ``faults`` that are events made up to look like a documented gap: they stand for themselves alone."""

    @property
    def fault(self) -> str | None:
        """The first fault."""
        return self.faults[0] if self.faults else None


class _Suspect(NamedTuple):
    """A link whose hash is not that of its event; the next link tells which of the two was changed."""

    seq: int
    previous: str
    stored: str
    computed: str
    event: RawEvent


def verify(ledger: Ledger, checkpointing: Checkpointing | None = None, *, expected: Gap | None = None) -> Verification:
    """Walk the whole chain, and compare it with the checkpoints.

    Args:
        ledger: whose trail.
        checkpointing: the second place and the keys that are believed; without it the ledger's own checkpoints are
            compared, which whoever changes the chain may have changed as well.
        expected: as if this gap were documented already.
    """
    with ledger.reading() as reading:
        marks = _Marks(reading, checkpointing, expected)
        trail = _Walk(reading, marks.compared)
        trail.go()
        forged = [] if checkpointing is None else list(forgeries(reading, checkpointing.ring))
        faults = (
            trail.faults
            + list(_inserted(reading))
            + list(_removed(reading))
            + marks.faults
            + marks.beyond(trail.last, checkpointing)
            # Last: whoever puts in many hides nothing behind them.
            + forged
        )
        total = int(reading.value(sa.select(sa.func.count()).select_from(audit_event)))
        if not trail.faults:
            trail.holds = (trail.last, trail.previous)
        notes = marks.notes + list(_late(reading, trail.last))
        return Verification(
            trail.holds[0], total - trail.joined, tuple(faults[:MOST_FAULTS]), trail.holds[1], marks.told,
            tuple(notes), marks.gaps, tuple(forged),
        )  # fmt: skip


class _Walk:
    """The chain link by link; after a fault it goes on with what the chain itself says."""

    def __init__(self, reading: Transaction, marks: Mapping[int, list[tuple[str, Checkpoint]]]) -> None:
        self._reading = reading
        self._marks = marks
        self.faults: list[str] = []
        self.last = 0
        self.joined = 0
        self.previous = GENESIS
        self.holds: tuple[int, str] = (0, GENESIS)
        self._suspect: _Suspect | None = None

    def go(self) -> None:
        """Walk to the end, or to the first row that the database cannot read."""
        rows = walk(self._reading)
        try:
            self._links(rows)
        except sqlite3.Error as error:
            # SQLite keeps text that is no text: the error belongs to the row that comes next.
            self._say(f"link {self.last + 1} or its event cannot be read: {error}", self.last)
        if self._suspect is not None:
            self._resolve(None)

    def _links(self, rows: Iterable[tuple[Any, ...]]) -> None:
        marks = self._marks
        for row in rows:
            seq, _, follows, stored, event_id = row[:5]
            event = cast("RawEvent", row[4:])
            self.joined += event_id is not None
            if (
                seq == self.last + 1
                and follows == self.previous
                and event_id is not None
                and link_hash(follows, event) == stored
                and seq not in marks
                and self._suspect is None
            ):
                # All but a few links of a good chain end here.
                self.last, self.previous = seq, stored
            else:
                self._look(cast("Link", row[:4]), event, there=event_id is not None)

    def _look(self, link: Link, event: RawEvent, *, there: bool) -> None:
        """One link that may not hold, or that has a checkpoint; ``there`` is False when its event is gone."""
        seq, event_id, follows, stored = link
        if seq < 1:
            self._say(f"link {seq} was put in with event {event_id}: links are numbered from 1", 0)
            self.joined -= there
            return
        if self._suspect is not None:
            self._resolve(follows)
        if seq != self.last + 1:
            missing = f"link {self.last + 1} is" if seq == self.last + 2 else f"links {self.last + 1} to {seq - 1} are"
            self._say(f"{missing} missing: the chain goes on with {seq}", self.last)
            # Renumbered, it would follow the last one; else its own word is taken for what was before it.
            self.previous = self.previous if follows == self.previous else follows
        if not there:
            self._say(f"event {event_id} (link {seq}) was removed", seq - 1)
        elif follows != self.previous:
            fault, put_in = self._misplaced(link, event)
            self._say(fault, seq - 1)
            # A link that was put in is passed over: the next one follows the one before it.
            self.last, self.previous = seq, self.previous if put_in else stored
            return
        elif (computed := link_hash(follows, event)) != stored:
            self._suspect = _Suspect(seq, follows, stored, computed, event)
            self._remember(seq - 1)
        for place, checkpoint in self._marks.get(seq, ()):
            if checkpoint.hash != stored or checkpoint.event_id != event_id:
                self._say(
                    f"link {seq} is not what the checkpoint of {checkpoint.at} in {place} says: it sealed event "
                    f"{checkpoint.event_id} with hash {checkpoint.hash[:16]}…, the chain has event {event_id} with "
                    f"{stored[:16]}…: the chain was rebuilt, or the link changed",
                    seq - 1,
                )
        self.last, self.previous = seq, stored

    def _resolve(self, follows: str | None) -> None:
        """Say what is wrong with the suspect link; ``follows`` is the previous hash in the link after it."""
        assert self._suspect is not None  # noqa: S101 - asked by both callers
        suspect, self._suspect = self._suspect, None
        seq, event = suspect.seq, suspect.event
        if follows == suspect.computed:
            self._say(f"link {seq} was changed: its hash is not that of event {event[0]}, which holds", seq - 1)
            self.previous = suspect.computed
            return
        named = f"event {event[0]} (link {seq}, {event[3]} of {event[4]})"
        for other in events_around(self._reading, event[0], _NEAR):
            if link_hash(suspect.previous, other) == suspect.stored:
                points = f"it points to event {event[0]}, but sealed event {other[0]}"
                self._say(f"link {seq} was changed: {points}", seq - 1)
                return
        sealed = any(mark.hash == suspect.stored for _, mark in self._marks.get(seq, ()))
        certain = follows == suspect.stored or sealed
        self._say(f"{named} was changed" + ("" if certain else ", or its link, the last one"), seq - 1)

    def _misplaced(self, link: Link, event: RawEvent) -> tuple[str, bool]:
        """(what is wrong with a link that does not follow the one before it, True when it was put in)."""
        seq, event_id, follows, stored = link
        begins = f"link {seq} does not follow link {self.last}: "
        if link_hash(self.previous, event) == stored:
            return f"{begins}its previous hash was changed, its event and hash hold", False
        sound = link_hash(follows, event) == stored
        where = self._seq_of("hash", follows) if sound else None
        if where is not None:
            return f"{begins}it belongs after link {where}: links were reordered", False
        after = self._seq_of("previous_hash", self.previous)
        if after is not None:
            return f"{begins}it was put in with event {event_id}; what followed link {self.last} is link {after}", True
        if sound:
            return f"{begins}links between them were removed, or the chain before it was rebuilt", False
        return f"{begins}it was rewritten, its hash is not that of event {event_id}", False

    def _seq_of(self, column: str, value: str) -> int | None:
        # Rare, and a search through the chain: there is no index on hashes.
        return self._reading.value(sa.select(sa.func.min(audit_chain.c.seq)).where(audit_chain.c[column] == value))

    def _remember(self, good: int) -> None:
        if not self.faults and self.holds == (0, GENESIS):
            self.holds = (good, self.previous)

    def _say(self, fault: str, good: int) -> None:
        self._remember(good)
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(fault)


class _Marks:
    """All checkpoints, by the link they are of, with what is wrong with them by themselves."""

    def __init__(self, reading: Transaction, checkpointing: Checkpointing | None, expected: Gap | None) -> None:
        self.by_seq: dict[int, list[tuple[str, Checkpoint]]] = {}
        self.faults: list[str] = []
        self.notes: list[str] = []
        self.gaps: tuple[Gap, ...] = ()
        self._after_signed: frozenset[Checkpoint] = frozenset()
        rows = reading.rows(sa.select(audit_checkpoint).order_by(audit_checkpoint.c.seq))
        kept = [Checkpoint.of(row) for row in rows]
        for checkpoint in kept:
            self.by_seq.setdefault(checkpoint.seq, []).append((_OWN, checkpoint))
        apart: list[Checkpoint] = []
        if checkpointing is not None:
            apart = self._second_place(reading, checkpointing, kept, expected)
        signed = self._signatures(checkpointing) if checkpointing is not None else 0
        newest = max([*kept, *apart], key=lambda found: found.seq, default=None)
        place = None if checkpointing is None else str(checkpointing.file.path)
        self.told = Checkpoints(len(self.by_seq), signed, newest, place)
        heads = heads_of(self.gaps)
        self.compared = {seq: self.by_seq.get(seq, []) + heads.get(seq, []) for seq in (*self.by_seq, *heads)}
        """With what documented gaps say of the links that they follow."""

    def _second_place(
        self, reading: Transaction, checkpointing: Checkpointing, kept: list[Checkpoint], expected: Gap | None
    ) -> list[Checkpoint]:
        place = str(checkpointing.file.path)
        try:
            lines, unreadable = checkpointing.file.lines()
        except OSError as error:
            self.faults.append(f"the second place cannot be read: {error}")
            return []
        found = standing([*lines, *([expected] if expected is not None else [])], checkpointing.ring)
        disagree = disagreements(reading, found, checkpointing.ring, expected=expected)
        self.faults += [*found.faults, *disagree, *there_before(reading, found)]
        self._after_signed = unsigned_after_signed(lines, checkpointing.ring)
        self.faults += [
            f"the checkpoint of link {line.seq} in {place} has no signature, as lines before it there have: it was put "
            "in, replaced, or made without the signing key"
            for line in sorted(self._after_signed, key=lambda line: line.seq)
        ]
        self.gaps = tuple(found.gaps)
        apart = list(found.checkpoints)
        for checkpoint in apart:
            self.by_seq.setdefault(checkpoint.seq, []).append((place, checkpoint))
        cut = [str(line.number) for line in unreadable if not line.whole]
        if cut:
            self.notes.append(f"{place}: line {', '.join(cut[:10])} is no checkpoint (cut short?)")
        odd = [str(line.number) for line in unreadable if line.whole]
        if odd:
            self.faults.append(f"{place}: line {', '.join(odd[:10])} is not as the product writes any: it was put in")
        there = {checkpoint.seq for checkpoint in apart}
        gone = [checkpoint for checkpoint in kept if checkpoint.seq not in there]
        if gone:
            self.faults.append(
                f"{place} lacks {len(gone)} of {len(kept)} checkpoints that the ledger keeps, the first of link "
                f"{gone[0].seq} ({gone[0].at}): they were removed there, or the file was moved: bring it back"
            )
        return apart

    def _signatures(self, checkpointing: Checkpointing) -> int:
        """How many have a good signature. Those before the first signed one may have none: the key came later."""
        good: set[int] = set()
        unsigned: list[tuple[int, str]] = []
        for seq in sorted(self.by_seq):
            for place, checkpoint in self.by_seq[seq]:
                fault = checkpointing.ring.fault(checkpoint)
                if fault is not None:
                    self.faults.append(f"the checkpoint of link {seq} in {place} {fault}")
                elif checkpoint.signature is not None:
                    good.add(seq)
                elif place == _OWN or checkpoint not in self._after_signed:
                    unsigned.append((seq, place))
        # A documented gap is signed too: what was made since it is.
        first_signed = min([*good, *(gap.restored_seq + 1 for gap in self.gaps)], default=None)
        if first_signed is not None:
            for seq, place in unsigned:
                if seq >= first_signed:
                    self.faults.append(
                        f"the checkpoint of link {seq} in {place} has no signature, as each has from link "
                        f"{first_signed} on: it was replaced, or made without the signing key"
                    )
        elif unsigned and checkpointing.ring.public_keys:
            self.faults.append(
                f"no checkpoint is signed, the newest is of link {unsigned[-1][0]}, although a key is configured: the "
                "signatures were taken away, or the key is new; only in that case `mlc audit new-key`"
            )
        return len(good)

    def beyond(self, last: int, checkpointing: Checkpointing | None) -> list[str]:
        """Checkpoints of links after the last one, and links that should have a checkpoint by now."""
        ahead = [seq for seq in self.compared if seq > last]
        if ahead:
            place, checkpoint = self.compared[max(ahead)][-1]
            gone = (
                f"links {last + 1} to {max(ahead)} were removed from the end: the checkpoint of {checkpoint.at} in "
                f"{place} says that link {checkpoint.seq} sealed event {checkpoint.event_id}"
            )
            return [gone]
        newest = max(self.by_seq, default=0)
        if checkpointing is not None and last // checkpointing.every > newest // checkpointing.every:
            due = (
                f"links {newest + 1} to {last} have no checkpoint, which is due every {checkpointing.every}: it was "
                "removed, or could not be made (see events audit.checkpoint_failed); `mlc audit seal` makes it"
            )
            return [due]
        return []


_UNCHAINED = (
    "select e.id, e.kind, e.subject from audit_event e "
    "where e.id > 0 and e.id < (select max(c.event_id) from audit_chain c) "
    "and not exists (select 1 from audit_chain c where c.event_id = e.id) order by e.id limit ?"
)


def _inserted(reading: Transaction) -> Iterator[str]:
    """Events that were put before or between sealed ones; an honest one may commit late on PostgreSQL."""
    below = "select e.id, e.kind, e.subject from audit_event e where e.id < 1 order by e.id limit ?"
    for event_id, kind, subject in stream(reading, below, (MOST_FAULTS,)):
        yield f"event {event_id} was inserted: events are numbered from 1 ({kind} of {subject})"
    if reading.connection.dialect.name != "postgresql":
        for event_id, kind, subject in stream(reading, _UNCHAINED, (MOST_FAULTS,)):
            yield f"event {event_id} was inserted among sealed ones, or its link was removed ({kind} of {subject})"


_GAPS = (
    "select before + 1, id - 1 from (select id, lag(id, 1, 0) over (order by id) as before from audit_event "
    "where id > 0) where id > before + 1 "
    "union all select coalesce(max(id), 0) + 1, ? from audit_event having coalesce(max(id), 0) < ? limit ?"
)


def _removed(reading: Transaction) -> Iterator[str]:
    """Events that are gone before a link named them. Only SQLite can tell: what is undone there gives its id back."""
    if reading.connection.dialect.name == "postgresql":
        return
    given = "select coalesce(max(seq), 0) from sqlite_sequence where name = 'audit_event'"
    there = "select count(*), coalesce(max(id), 0) from audit_event where id > 0"
    (last,), (count, newest) = next(stream(reading, given)), next(stream(reading, there))
    if count == max(last, newest):
        return
    for first, end in list(stream(reading, _GAPS, (last, last, MOST_FAULTS))):
        linked = "select count(*) from audit_chain where event_id between ? and ?"
        if next(stream(reading, linked, (first, end)))[0] < end - first + 1:
            named = f"event {first} is" if first == end else f"events {first} to {end} are"
            yield f"{named} missing, and in no link: removed before it was sealed, or a later one was put in"


def _late(reading: Transaction, last: int) -> Iterator[str]:
    if reading.connection.dialect.name == "postgresql" and last:
        late = [str(row[0]) for row in stream(reading, _UNCHAINED, (MOST_FAULTS,))]
        if late:
            yield (
                f"event {', '.join(late)}: in no link, though later ones are. The next sealing takes it when its "
                "transaction was only slow; it is no proof of anything until then"
            )
