"""After the ledger was restored from a backup: the trail goes on, and what was lost is documented for good.

Two people, under the signing key. What a checkpoint outside says of a link that is no longer there is named line by
line. Nothing that was changed passes for lost: the links that are left must hold, and all that is named must have been
made after the newest of them that was in the backup.
"""

import datetime as dt
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import sqlalchemy as sa

from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.audit import seal, sealer_alone, verify
from mlc_dagster.ledger.audit_gaps import KIND, SUBJECT, after_what, enter_gaps, gaps_in, range_of, statement_of
from mlc_dagster.ledger.audit_rows import GENESIS
from mlc_dagster.ledger.audit_sealing import make_checkpoints
from mlc_dagster.ledger.checkpoints import (
    Checkpoint,
    Checkpointing,
    CheckpointRefused,
    Gap,
    KeyRing,
    Line,
    SigningKey,
    line_sha256,
)
from mlc_dagster.ledger.database import Ledger, Transaction
from mlc_dagster.ledger.schema import audit_chain, audit_event
from mlc_dagster.ledger.types import utc_text

_AT_ONCE = 500


@dataclass(frozen=True)
class Documented:
    """A gap that is on record now, and how many signed checkpoints follow it."""

    gap: Gap
    checkpoints: int


class NotConfirmed(Exception):
    """Who was shown what would be documented said no; nothing is."""


def document_restore(
    ledger: Ledger,
    checkpointing: Checkpointing,
    approval: Approval,
    *,
    confirm: Callable[[Gap, str], bool] | None = None,
) -> Documented:
    """Begin a new signed segment of the trail behind the restored head.

    Args:
        ledger: that was restored.
        checkpointing: the second place, and the key.
        approval: of two people.
        confirm: is shown the gap, and the time (UTC text, "" without one) of the last event that was restored, before
            anything is written; False: nothing is.

    Raises:
        NotConfirmed: ``confirm`` said no.
        CheckpointRefused: there is no key, nothing is lost, or what is left of the trail does not hold.
        NotApproved: mlc.yaml lists who may approve, and one of the two is not on it.
        OSError: the second place cannot be read or written to; written or not, ask again.
    """
    if checkpointing.key is None:
        raise CheckpointRefused(
            "audit.signing_key names no key: a gap that nobody signed would be a way to hide what was removed"
        )
    # What the backup had unsealed was not lost.
    seal(ledger)
    with ledger.transaction() as transaction:
        _refuse_beside_another(transaction)
        entered = enter_gaps(transaction, checkpointing)
        lines, before = checkpointing.file.lines()[0], gaps_in(transaction)
        # What an earlier call could not write ends here.
        planned = None if entered else _gap(transaction, lines, checkpointing.ring, checkpointing.key, approval)
    if planned is None:
        return Documented(entered[-1], make_checkpoints(ledger, checkpointing, now=True))
    gap, restored_at = planned
    # A checkpoint that is overdue is none: none could be made since.
    found = verify(ledger, replace(checkpointing, every=sys.maxsize), expected=gap)
    # Events that were made up to look like documented gaps are on record, and excuse nothing.
    fault = next((each for each in found.faults if each not in found.forged), None)
    if fault is not None:
        raise CheckpointRefused(f"nothing is documented, as what is left of the trail does not hold: {fault}")
    if confirm is not None and not confirm(gap, restored_at):
        raise NotConfirmed("nothing is documented")
    with ledger.transaction() as transaction:
        _refuse_beside_another(transaction)
        if gaps_in(transaction) != before or checkpointing.file.lines()[0] != lines:
            raise CheckpointRefused("somebody else has documented it just now; see `mlc audit verify`")
        approval.record(
            transaction, KIND, SUBJECT,
            before={"checkpoint": dict(gap.checkpoint)},
            after={"seq": gap.restored_seq, "event_id": gap.restored_event_id, "hash": gap.restored_hash},
            statement=statement_of(gap),
        )  # fmt: skip
    seal(ledger)
    return Documented(gap, make_checkpoints(ledger, checkpointing, now=True))


def _refuse_beside_another(transaction: Transaction) -> None:
    if not sealer_alone(transaction):
        raise CheckpointRefused("a run is sealing the trail at this moment; ask again")


def _gap(
    transaction: Transaction, lines: Sequence[Line], ring: KeyRing, key: SigningKey, approval: Approval
) -> tuple[Gap, str]:
    """(the gap, signed; the time of the last event that was restored)."""
    lost, proven = _compared(transaction, lines, ring)
    of_links = [line for line in lost if isinstance(line, Checkpoint)]
    if not of_links:
        raise CheckpointRefused(
            "nothing is lost that can be shown: the ledger has every link that a checkpoint speaks of"
        )
    _refuse_unsigned(lines, lost, ring)
    seq, event_id, link, at = _restored_head(transaction, proven, max(line.at for line in of_links))
    segments = after_what(lost, seq)
    changed = next((line for line, head in segments if line.seq <= head), None)
    if changed is None and any(isinstance(line, Gap) and line.restored_seq < seq and at > line.at for line in lost):
        # What is younger than a gap that is lost was not in a backup from before it.
        changed = of_links[-1]
    if changed is not None:
        raise CheckpointRefused(
            f"the checkpoint of link {changed.seq}, of {changed.at}, does not agree with links whose events are older: "
            "they were changed, not restored; run `mlc audit verify`"
        )
    first, last = range_of(segments)
    gap = Gap(
        gap=sum(isinstance(line, Gap) for line in lines) + 1,
        at=utc_text(transaction.now),
        restored_seq=seq,
        restored_event_id=event_id,
        restored_hash=link,
        proven=proven,
        first=first,
        last=last,
        checkpoint=asdict(of_links[-1]),
        # A line may be there twice, after a process that died between file and ledger.
        lines=list(dict.fromkeys(line_sha256(line) for line in lost)),
        **approval.said,
    )
    return gap.signed(key), at


def _compared(transaction: Transaction, lines: Sequence[Line], ring: KeyRing) -> tuple[list[Line], int]:
    """(lines of what the ledger no longer has, the newest link that a signed checkpoint shows as the chain has it).

    Not those that a gap in the ledger names already.
    """
    known = {line_sha256(gap) for _, gap in gaps_in(transaction) if gap is not None}
    named = {
        name
        for line in lines
        if isinstance(line, Gap) and line_sha256(line) in known and ring.vouches(line)
        for name in line.lines
    }
    seqs = sorted({line.seq for line in lines if isinstance(line, Checkpoint)})
    chain: dict[int, str] = {}
    for start in range(0, len(seqs), _AT_ONCE):
        rows = transaction.rows(
            sa.select(audit_chain.c.seq, audit_chain.c.hash).where(
                audit_chain.c.seq.in_(seqs[start : start + _AT_ONCE])
            )
        )
        chain.update((int(row["seq"]), str(row["hash"])) for row in rows)
    lost: list[Line] = []
    proven = 0
    for line in lines:
        name = line_sha256(line)
        if isinstance(line, Checkpoint) and chain.get(line.seq) == line.hash:
            # Anybody who may append there can write a line without a signature.
            if ring.vouches(line):
                proven = max(proven, line.seq)
        elif name not in named and not (isinstance(line, Gap) and name in known):
            lost.append(line)
    return lost, proven


def _refuse_unsigned(lines: Sequence[Line], lost: Sequence[Line], ring: KeyRing) -> None:
    """What is documented as lost must have been ours: a line that was put in stays a fault."""
    before_the_key = True
    for line in lines:
        fault = ring.fault(line)
        signed = fault is None and line.signature is not None
        before_the_key = before_the_key and not signed
        if line in lost and not signed and not (before_the_key and fault is None and isinstance(line, Checkpoint)):
            what = f"checkpoint of link {line.seq}" if isinstance(line, Checkpoint) else f"documented gap {line.gap}"
            raise CheckpointRefused(f"the {what} {fault or 'has no signature: it was replaced or put in'}")
    if lost[-1].signature is None:
        raise CheckpointRefused(
            "the last line outside that speaks of a lost link is not signed: nothing tells whether it was made or put "
            "in; if the signing key is newer than it, there is nothing to document the loss with"
        )


def _restored_head(transaction: Transaction, proven: int, at: str) -> tuple[int, int, str, str]:
    """(seq, event, hash, time of its event) of the last link that was in the backup; (0, 0, genesis, "") for none.

    Its event is older than the last checkpoint outside; what was sealed since the restore is younger. Links up to one
    that a checkpoint proves were in it in any case.

    Raises:
        CheckpointRefused: an event is dated after now: times then tell nothing.
    """
    behind = sa.select(audit_chain.c.seq, audit_event.c.id, audit_event.c.at).join(
        audit_event, audit_event.c.id == audit_chain.c.event_id
    )
    ahead = transaction.row(
        behind.where(audit_chain.c.seq > proven, audit_event.c.at > transaction.now)
        .order_by(audit_chain.c.seq)
        .limit(1)
    )
    if ahead is not None:
        raise CheckpointRefused(
            f"event {ahead['id']} (link {ahead['seq']}) is dated {utc_text(ahead['at'])}, which is still to come: it "
            "was changed, or a clock is wrong. By their times alone are restored events told from later ones"
        )
    events = sa.select(audit_chain, audit_event.c.at).join(audit_event, audit_event.c.id == audit_chain.c.event_id)
    younger = transaction.value(
        sa.select(sa.func.min(audit_chain.c.seq))
        .join(audit_event, audit_event.c.id == audit_chain.c.event_id)
        .where(audit_chain.c.seq > proven, audit_event.c.at > dt.datetime.fromisoformat(at))
    )
    if younger is not None:
        events = events.where(audit_chain.c.seq < int(younger))
    row = transaction.row(events.order_by(audit_chain.c.seq.desc()).limit(1))
    if row is None:
        return 0, 0, GENESIS, ""
    return int(row["seq"]), int(row["event_id"]), str(row["hash"]), utc_text(row["at"])
