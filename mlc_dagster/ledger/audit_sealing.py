"""Sealing as a configuration wants it: the chain first, then the checkpoints that are due.

What belongs here: when a checkpoint is made, and what happens when it cannot be. A run that posted invoices is not
failed by it: the trail says so, `mlc audit verify` reports the checkpoint that is overdue, the next sealing catches up.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.audit import seal, sealer_alone, verify
from mlc_dagster.ledger.audit_gaps import enter_gaps, standing
from mlc_dagster.ledger.audit_rows import last_link
from mlc_dagster.ledger.checkpoints import (
    Checkpoint,
    CheckpointFile,
    Checkpointing,
    CheckpointRefused,
    KeyRing,
    SigningKey,
    SigningKeyUnusable,
)
from mlc_dagster.ledger.database import Ledger, Transaction
from mlc_dagster.ledger.schema import audit_chain, audit_checkpoint
from mlc_dagster.ledger.types import utc_text
from mlc_dagster.settings import Settings
from mlc_dagster.vault import SecretError, SecretResolver


@dataclass(frozen=True)
class Sealed:
    """What one sealing did."""

    events: int
    checkpoints: int
    problem: str | None = None
    """Why no checkpoint could be made; the events are sealed all the same."""


def checkpointing_of(settings: Settings, secrets: SecretResolver, *, signing: bool = True) -> Checkpointing:
    """As mlc.yaml says; where nothing is signed, the private key is not asked for if the public ones are given.

    Raises:
        SecretError, SigningKeyUnusable: the signing key cannot be had.
    """
    reference = settings.audit.signing_key
    if not signing and settings.audit.public_keys:
        reference = None
    key = None if reference is None else SigningKey.from_text(secrets.resolve(reference))
    public = [*settings.audit.public_keys, *([key.public_key] if key is not None else [])]
    return Checkpointing(
        CheckpointFile(settings.checkpoints_path), settings.audit.checkpoint_every, key, KeyRing(public)
    )


def seal_and_checkpoint(ledger: Ledger, settings: Settings, secrets: SecretResolver, *, now: bool = False) -> Sealed:
    """Seal what is new and make the checkpoints that are due; with ``now`` one of the last link in any case."""
    events = seal(ledger)
    try:
        made = make_checkpoints(ledger, checkpointing_of(settings, secrets), now=now, just_sealed=events)
    except (SecretError, SigningKeyUnusable, CheckpointRefused, OSError) as error:
        with ledger.transaction() as transaction:
            transaction.audit("audit.checkpoint_failed", "audit", text=str(error)[:2000])
        return Sealed(events, 0, str(error))
    return Sealed(events, made)


def take_new_key(ledger: Ledger, checkpointing: Checkpointing, approval: Approval) -> int:
    """Sign from now on, although there are checkpoints that nobody signed; on record, with who says so; how many.

    Raises:
        CheckpointRefused: there is no key, the trail does not hold, or it has signed checkpoints already.
        OSError: the second place cannot be written to.
    """
    if checkpointing.key is None:
        raise CheckpointRefused("audit.signing_key names no key to sign with; make one with `mlc audit keygen`")
    # As it looked before the key came: any signature is one of a key that was in use, and is a fault here,
    # while a checkpoint that is overdue since then is none.
    found = verify(ledger, replace(checkpointing, ring=KeyRing(), every=sys.maxsize))
    if found.fault is not None:
        raise CheckpointRefused(f"nothing is signed, as the trail does not hold without the key: {found.fault}")
    with ledger.transaction() as transaction:
        before = {"unsigned_checkpoints": found.checkpoints.count}
        approval.record(
            transaction, "audit.key_taken", "audit", before=before, after={"key_id": checkpointing.key.key_id}
        )
    seal(ledger)
    return make_checkpoints(ledger, checkpointing, now=True, new_key=True)


def make_checkpoints(
    ledger: Ledger,
    checkpointing: Checkpointing,
    *,
    now: bool = False,
    new_key: bool = False,
    just_sealed: int | None = None,
) -> int:
    """Checkpoints of every Nth link that has none, and of the last link when there was one; how many.

    The file is written before the ledger: a process that dies in between leaves a line too much, never one too few.

    With a key, the newest checkpoint so far must have a good signature, unless people say that the key is new; and
    there must be one, if the chain was long before the ``just_sealed`` events.

    Raises:
        CheckpointRefused: the newest checkpoint is of a link that the chain does not hold, or its signature is
            missing or wrong: nothing is signed then.
        OSError: the second place cannot be written to.
    """
    with ledger.transaction() as transaction:
        if not sealer_alone(transaction):
            return 0
        last = last_link(transaction)
        if last is None:
            return 0
        end = last[0]
        enter_gaps(transaction, checkpointing)
        kept = standing(checkpointing.file.lines()[0], checkpointing.ring)
        if kept.faults:
            raise CheckpointRefused(f"no checkpoint is made: {kept.faults[0]}; run `mlc audit verify`")
        since = _newest(transaction, kept.checkpoints)
        marks = transaction.rows(
            sa.select(audit_chain)
            .where(
                audit_chain.c.seq > since,
                audit_chain.c.seq <= end,
                sa.or_(audit_chain.c.seq % checkpointing.every == 0, audit_chain.c.seq == end),
            )
            .order_by(audit_chain.c.seq)
        )
        if not marks or (len(marks) == 1 and marks[0]["seq"] % checkpointing.every != 0 and not now):
            return 0
        if not new_key and not kept.ends_with_gap:
            _signing_goes_on(
                transaction, checkpointing, kept.checkpoints, None if just_sealed is None else end - just_sealed
            )
        at = utc_text(transaction.now)
        made = [Checkpoint(row["seq"], row["event_id"], row["hash"], at) for row in marks]
        if checkpointing.key is not None:
            made = [checkpoint.signed(checkpointing.key) for checkpoint in made]
        checkpointing.file.append(made)
        transaction.execute(
            sa.insert(audit_checkpoint),
            [
                {
                    "seq": checkpoint.seq, "event_id": checkpoint.event_id, "hash": checkpoint.hash,
                    "at": transaction.now, "key_id": checkpoint.key_id, "signature": checkpoint.signature,
                }
                for checkpoint in made
            ],
        )  # fmt: skip
        return len(made)


def _signing_goes_on(
    transaction: Transaction, checkpointing: Checkpointing, kept: Sequence[Checkpoint], before: int | None
) -> None:
    # A signature put on a chain whose signatures were taken away would speak for what somebody made up. ``before`` is
    # the chain's last link when this sealing began: two checkpoints or more were due by then. One that could not be
    # made is caught up.
    if checkpointing.key is None:
        return
    row = transaction.row(sa.select(audit_checkpoint).order_by(audit_checkpoint.c.seq.desc()).limit(1))
    if row is None and not kept and before is not None and before >= 2 * checkpointing.every:
        raise CheckpointRefused(
            f"no checkpoint is made: links 1 to {before} should have one by now and have none; they were removed, or "
            "audit.signing_key is new; only in that case two people say so with `mlc audit new-key`"
        )
    for checkpoint in [*kept[-1:], *([Checkpoint.of(row)] if row else [])]:
        fault = checkpointing.ring.fault(checkpoint)
        if fault is None and checkpoint.signature is None:
            fault = (
                "has no signature: it was taken away, or audit.signing_key is new; only in that case two people "
                "say so with `mlc audit new-key`"
            )
        if fault is not None:
            raise CheckpointRefused(f"no checkpoint is made: the newest, of link {checkpoint.seq}, {fault}")


def _newest(transaction: Transaction, kept: Sequence[Checkpoint]) -> int:
    """Seq of the newest checkpoint in the ledger, 0 without one; what the second place says must be in the chain."""
    row = transaction.row(sa.select(audit_checkpoint).order_by(audit_checkpoint.c.seq.desc()).limit(1))
    for checkpoint in [*kept[-1:], *([Checkpoint.of(row)] if row else [])]:
        link = transaction.row(sa.select(audit_chain).where(audit_chain.c.seq == checkpoint.seq))
        if link is None or link["hash"] != checkpoint.hash:
            raise CheckpointRefused(
                f"no checkpoint is made: link {checkpoint.seq} of the chain, of which there is one of {checkpoint.at}, "
                f"{'is gone' if link is None else 'has another hash'}; run `mlc audit verify`. If the ledger was "
                "restored from a backup, two people say so with `mlc audit after-restore`"
            )
    return int(row["seq"]) if row else 0
