"""Which lines of the second place stand, when two people have documented that the ledger was restored.

A documented gap takes away what it names, line by line, and nothing else. One that is not signed, that names what is
not before it, or what another gap names, takes nothing away and is a fault: then the missing links are faults too.
"""

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import sqlalchemy as sa

from mlc_dagster.ledger.audit_rows import GENESIS
from mlc_dagster.ledger.checkpoints import (
    Checkpoint,
    Checkpointing,
    Gap,
    KeyRing,
    Line,
    line_sha256,
)
from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.schema import audit_chain, audit_event
from mlc_dagster.ledger.types import canonical_json, utc_text

SUBJECT = "audit:gaps"
"""Of the events that have the statements; there is an index on subjects."""
KIND = "audit.restored"
_REFUSED = "audit.gap_refused"


@dataclass(frozen=True)
class Standing:
    """What the second place says, without what documented gaps took away."""

    checkpoints: Sequence[Checkpoint]
    gaps: Sequence[Gap]
    lost: Mapping[int, Sequence[Line]]
    """What each gap took away, by its number."""
    faults: Sequence[str]
    ends_with_gap: bool
    """No checkpoint was made since the last gap, which is signed."""


def standing(lines: Sequence[Line], ring: KeyRing) -> Standing:
    """Sort the lines of the second place, in their order.

    Args:
        lines: of the file.
        ring: the keys that are believed.
    """
    if not any(isinstance(line, Gap) for line in lines):
        return Standing([line for line in lines if isinstance(line, Checkpoint)], [], {}, [], ends_with_gap=False)
    names = [line_sha256(line) for line in lines]
    faults: list[str] = []
    sound: dict[int, Gap] = {}
    for place, line in enumerate(lines):
        if not isinstance(line, Gap):
            continue
        fault = _fault(line, lines[:place], names[:place], ring, len([g for g in lines[:place] if isinstance(g, Gap)]))
        if fault is None:
            sound[place] = line
        else:
            faults.append(f"the documented gap {line.gap} (links {line.first} to {line.last}) {fault}")
    taken: dict[str, Gap] = {}
    stands: list[Gap] = []
    for place in sorted(sound, reverse=True):
        gap = sound[place]
        # One that was lost by a later restore is named there, with what it had taken away.
        if names[place] in taken:
            continue
        twice = next((taken[name] for name in gap.lines if name in taken), None)
        if twice is not None:
            faults.append(
                f"the documented gaps {gap.gap} and {twice.gap} name the same line: one of them was put in or copied"
            )
            continue
        stands.insert(0, gap)
        taken.update(dict.fromkeys(gap.lines, gap))
    checkpoints = [
        line for name, line in zip(names, lines, strict=True) if isinstance(line, Checkpoint) and name not in taken
    ]
    by_name = dict(zip(names, lines, strict=True))
    lost = {gap.gap: [by_name[name] for name in gap.lines] for gap in stands}
    ends_with_gap = bool(stands and lines and lines[-1] is stands[-1])
    return Standing(checkpoints, stands, lost, faults, ends_with_gap)


def _fault(gap: Gap, before: Sequence[Line], names: Sequence[str], ring: KeyRing, gaps: int) -> str | None:
    if gap.signature is None:
        return "has no signature: it was put in, for only the signing key makes one"
    if (fault := ring.fault(gap)) is not None:
        return fault
    signers = [line.key_id for line in before if line.signature is not None]
    if gap.key_id in signers and gap.key_id != signers[-1]:
        return f"is signed by {gap.key_id}, which was no longer in use: the lines before it have another key"
    if gap.gap != gaps + 1:
        return f"is number {gaps + 1} of the second place: lines were moved, removed or put in"
    by_name = dict(zip(names, before, strict=True))
    if any(name not in by_name for name in gap.lines):
        return "names lines that are not before it: lines were moved or removed"
    named = [by_name[name] for name in gap.lines]
    segments = after_what(named, gap.restored_seq)
    newest = next((line for line in reversed(named) if isinstance(line, Checkpoint)), None)
    if newest is None or asdict(newest) != dict(gap.checkpoint) or len(set(gap.lines)) != len(gap.lines):
        return "does not name the checkpoints that it is about"
    if not ring.vouches(newest):
        return "names a checkpoint whose signature is not good"
    if any(line.seq <= head for line, head in segments):
        return "names checkpoints of links that it says were restored"
    if (gap.first, gap.last) != range_of(segments):
        return "does not say which links were lost"
    if (gap.restored_seq == 0) != (gap.restored_hash == GENESIS) or gap.proven > gap.restored_seq:
        return "does not say what was restored"
    return None


def unsigned_after_signed(lines: Sequence[Line], ring: KeyRing) -> frozenset[Checkpoint]:
    """Checkpoints without a signature that follow a good one in the second place: the key was in use when they came."""
    first = next((at for at, line in enumerate(lines) if ring.vouches(line)), len(lines))
    return frozenset(line for line in lines[first:] if isinstance(line, Checkpoint) and line.signature is None)


def after_what(named: Sequence[Line], restored_seq: int) -> list[tuple[Checkpoint, int]]:
    """Each checkpoint that a gap names, with the link that its part of the lost chain followed.

    That is the restored head; or, where a restore is undone by a newer backup, the head of the gap that is lost by it.
    """
    found: list[tuple[Checkpoint, int]] = []
    head = restored_seq
    for line in named:
        if isinstance(line, Gap):
            head = min(head, line.restored_seq)
        else:
            found.append((line, head))
    return found


def range_of(segments: Sequence[tuple[Checkpoint, int]]) -> tuple[int, int]:
    """First and last number of the links that are lost."""
    return min(head for _, head in segments) + 1, max(line.seq for line, _ in segments)


def gaps_in(transaction: Transaction) -> list[tuple[int, Gap | None]]:
    """(event, statement) of each documented gap in the ledger, in order; None for one that is none, whatever it is."""
    # Not as JSON, nor even as text, which SQLite does not ask for: who puts an event in need not write either.
    sqlite = transaction.connection.dialect.name == "sqlite"
    detail = sa.cast(audit_event.c.detail, sa.LargeBinary) if sqlite else sa.type_coerce(audit_event.c.detail, sa.Text)
    statement = (
        sa.select(audit_event.c.id, detail.label("detail"))
        .where(audit_event.c.subject == SUBJECT, audit_event.c.kind == KIND)
        .order_by(audit_event.c.id)
    )
    rows = transaction.rows(statement)
    return [(int(row["id"]), _statement(row["detail"])) for row in rows]


def _statement(detail: Any) -> Gap | None:
    try:
        read = json.loads(detail)
        found = cast("dict[str, Any]", read).get("statement") if isinstance(read, dict) else None
        return None if found is None else Gap.parse(canonical_json(found))
    except (ValueError, TypeError, RecursionError):
        return None


def enter_gaps(transaction: Transaction, checkpointing: Checkpointing) -> list[Gap]:
    """Add to the second place what the ledger has and it lacks, as after a process that died in between; what that was.

    Nothing that would be a fault there: whoever may append an event must not spoil what can never be taken back, nor
    keep anything from being sealed. What is not entered excuses nothing; it goes on record, once for each event.

    Raises:
        OSError: it cannot be written to.
    """
    file, ring = checkpointing.file, checkpointing.ring
    known = gaps_in(transaction)
    if not known:
        return []
    lines = file.lines()[0]
    there = {line_sha256(line) for line in lines}
    missing: list[Gap] = []
    for event_id, gap in known:
        fault = made_up(gap, ring)
        if fault is None and gap is not None:
            if line_sha256(gap) in there:
                continue
            fault = _misfit(gap, [*lines, *missing], ring)
            if fault is None:
                missing.append(gap)
                continue
        _note_refused(transaction, event_id, fault or "")
    if missing:
        file.append(missing)
    return missing


def made_up(gap: Gap | None, ring: KeyRing) -> str | None:
    """Why an event that documents a gap was put in, whatever the second place says; None for one under a good key."""
    if gap is None:
        return "documents a gap in words that are not those of the product"
    fault = "has no signature, and only the signing key makes one" if gap.signature is None else ring.fault(gap)
    return None if fault is None else f"documents a gap {gap.gap} that {fault}"


def _misfit(gap: Gap, lines: Sequence[Line], ring: KeyRing) -> str | None:
    """Why a gap must not be added to the lines of the second place."""
    before, after = standing(lines, ring), standing([*lines, gap], ring)
    fault = next((each for each in after.faults if each not in before.faults), None)
    if fault is None and gap not in after.gaps:
        fault = f"the documented gap {gap.gap} does not fit the lines that are there"
    return fault and f"is not entered in the second place: {fault}"


def _note_refused(transaction: Transaction, event_id: int, fault: str) -> None:
    subject = f"audit:event:{event_id}"
    there = sa.select(audit_event.c.id).where(audit_event.c.subject == subject, audit_event.c.kind == _REFUSED)
    if transaction.value(there.limit(1)) is None:
        transaction.audit(_REFUSED, subject, event=event_id, text=f"event {event_id} {fault}; run `mlc audit verify`")


def there_before(transaction: Transaction, found: Standing) -> Iterator[str]:
    """Events behind a restored head that are no later than what was lost: such a link was rewritten, not lost.

    Also where a documented gap has a good signature: whoever has the key cannot have a changed event pass for lost.
    """
    for gap in found.gaps:
        at = max(line.at for line in found.lost[gap.gap] if isinstance(line, Checkpoint))
        row = transaction.row(
            sa.select(audit_chain.c.seq, audit_event.c.id, audit_event.c.at)
            .join(audit_event, audit_event.c.id == audit_chain.c.event_id)
            .where(audit_chain.c.seq > gap.restored_seq, audit_event.c.at <= dt.datetime.fromisoformat(at))
            .order_by(audit_chain.c.seq)
            .limit(1)
        )
        if row is not None:
            yield (
                f"the documented gap {gap.gap} says that links {gap.first} to {gap.last} were lost by {at}, but event "
                f"{row['id']} (link {row['seq']}) is of {utc_text(row['at'])}: it was rewritten, or the clock went back"
            )


def forgeries(transaction: Transaction, ring: KeyRing) -> Iterator[str]:
    """Events that were put in to look like a documented gap; they excuse nothing, and hold nothing up."""
    for event_id, gap in gaps_in(transaction):
        if (fault := made_up(gap, ring)) is not None:
            yield f"event {event_id} {fault}: it was put in"


def disagreements(
    transaction: Transaction, found: Standing, ring: KeyRing, *, expected: Gap | None = None
) -> Iterator[str]:
    """Where ledger and second place do not have the same documented gaps, forgeries apart.

    ``expected`` is one that is about to be written to both.
    """
    entered: dict[str, int] = {}
    outside = {line_sha256(gap) for gap in found.gaps}
    for event_id, gap in gaps_in(transaction):
        if gap is None or made_up(gap, ring) is not None:
            continue
        name = line_sha256(gap)
        if name in entered:
            yield f"event {event_id} documents gap {gap.gap} once more, which event {entered[name]} does: it was put in"
        elif name not in outside:
            yield (
                f"event {event_id} documents gap {gap.gap}, which the second place does not have, or not as one that "
                "stands: it was removed or changed there; `mlc audit seal` enters one that could not be written"
            )
        else:
            link = transaction.value(sa.select(audit_chain.c.seq).where(audit_chain.c.event_id == event_id))
            if link is not None and link <= gap.restored_seq:
                yield f"event {event_id} documents gap {gap.gap} from within what it says was restored: it was moved"
        entered.setdefault(name, event_id)
    for gap in found.gaps:
        if gap != expected and line_sha256(gap) not in entered:
            yield (
                f"the second place documents gap {gap.gap} (links {gap.first} to {gap.last}), of which the ledger has "
                "no event: it was removed there, or the ledger was restored once more"
            )


def heads_of(gaps: Sequence[Gap]) -> dict[int, list[tuple[str, Checkpoint]]]:
    """What documented gaps say of restored heads, to be compared with the chain as checkpoints are."""
    found: dict[int, list[tuple[str, Checkpoint]]] = {}
    for gap in gaps:
        if gap.restored_seq:
            head = Checkpoint(gap.restored_seq, gap.restored_event_id, gap.restored_hash, gap.at)
            found.setdefault(gap.restored_seq, []).append((f"the documented gap {gap.gap}", head))
    return found


def statement_of(gap: Gap) -> dict[str, Any]:
    """As the event has it."""
    return asdict(gap)
