"""Which lines of the second place stand, when two people have documented that the ledger was restored.

A documented gap takes away what it names, line by line, and nothing else. One that is not signed, that names what is
not before it, or what another gap names, takes nothing away and is a fault: then the missing links are faults too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.audit_rows import GENESIS
from mlc_dagster.ledger.checkpoints import Checkpoint, CheckpointFile, Gap, KeyRing, Line, line_sha256
from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.schema import audit_chain, audit_event
from mlc_dagster.ledger.types import canonical_json

SUBJECT = "audit:gaps"
"""Of the events that have the statements; there is an index on subjects."""
KIND = "audit.restored"


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
    if newest.signature is None or ring.fault(newest) is not None:
        return "names a checkpoint whose signature is not good"
    if any(line.seq <= head for line, head in segments):
        return "names checkpoints of links that it says were restored"
    if (gap.first, gap.last) != range_of(segments):
        return "does not say which links were lost"
    if (gap.restored_seq == 0) != (gap.restored_hash == GENESIS) or gap.proven > gap.restored_seq:
        return "does not say what was restored"
    return None


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
    """(event, statement) of each documented gap in the ledger, in order; None for one that is none."""
    statement = (
        sa.select(audit_event.c.id, audit_event.c.detail)
        .where(audit_event.c.subject == SUBJECT, audit_event.c.kind == KIND)
        .order_by(audit_event.c.id)
    )
    rows = transaction.rows(statement)
    return [(int(row["id"]), Gap.parse(canonical_json(row["detail"].get("statement")))) for row in rows]


def enter_gaps(transaction: Transaction, file: CheckpointFile) -> list[Gap]:
    """Add to the second place what the ledger has and it lacks, as after a process that died in between; what that was.

    Raises:
        OSError: it cannot be written to.
    """
    known = [gap for _, gap in gaps_in(transaction) if gap is not None]
    if not known:
        return []
    there = {line_sha256(line) for line in file.lines()[0]}
    missing = [gap for gap in known if line_sha256(gap) not in there]
    if missing:
        file.append(missing)
    return missing


def disagreements(transaction: Transaction, found: Standing, *, expected: Gap | None = None) -> Iterator[str]:
    """Where ledger and second place do not have the same documented gaps.

    ``expected`` is one that is about to be written to both.
    """
    entered: dict[str, int] = {}
    outside = {line_sha256(gap) for gap in found.gaps}
    for event_id, gap in gaps_in(transaction):
        name = "" if gap is None else line_sha256(gap)
        if gap is None:
            yield f"event {event_id} documents a gap in words that are not those of the product"
        elif name in entered:
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
