"""Documented gaps that were made up, changed, moved, copied or overlap: each is a fault, and excuses nothing."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.audit import seal
from mlc_dagster.ledger.audit_sealing import make_checkpoints
from mlc_dagster.ledger.checkpoints import (
    Checkpoint,
    Gap,
    SigningKey,
    line_sha256,
)
from mlc_dagster.ledger.schema import audit_event
from mlc_dagster_tests.ledger.checkpointed import tamper
from mlc_dagster_tests.ledger.restored import Site, lose, site_with_backups
from mlc_dagster_tests.servers.backups import Backups


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Backups[Site]]:
    """In a file, for what does not depend on the database."""
    with site_with_backups(tmp_path) as found:
        yield found


@pytest.fixture
def restored(kept: Backups[Site]) -> Site:
    """Links 5 to 10 are lost."""
    lose(kept)
    return kept.remote


Change = Callable[[Gap, SigningKey], Gap]
FORGERIES: dict[str, Change] = {
    "no signature": lambda gap, key: replace(gap, signature=None, key_id=None),
    "another key": lambda gap, key: gap.signed(SigningKey.generate()),
    "another reason": lambda gap, key: replace(gap, reason="all is well"),
    "another head": lambda gap, key: replace(gap, restored_hash="1" * 64),
    "a longer range": lambda gap, key: replace(gap, last=99),
    "another approver": lambda gap, key: replace(gap, approved_by="Cy Roe"),
    "our key's name alone": lambda gap, key: replace(
        gap.signed(SigningKey.generate()), key_id=key.key_id, signature=base64.b64encode(bytes(64)).decode()
    ),
}


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_gap_takes_nothing_away(restored: Site, change: Change) -> None:
    """Whoever can write to both places still has no key: the missing links stay missing."""
    assert restored.place.key is not None
    backup = restored.lines()
    gap = change(restored.document(), restored.place.key)
    restored.rewrite([*backup, f"{gap.line()}\n"])
    tamper(
        restored.ledger,
        "delete from audit_checkpoint where seq > 4",
        "delete from audit_chain where seq > 4",
    )
    with restored.ledger.engine.begin() as connection:
        detail = json.dumps({"statement": json.loads(gap.line())}, sort_keys=True)
        connection.execute(sa.text("update audit_event set detail = :d where id = 5"), {"d": detail})
    seal(restored.ledger)
    faults = restored.verify()
    assert any("documented gap 1" in fault for fault in faults)
    assert any("removed from the end" in fault or "is not what the checkpoint" in fault for fault in faults)


def test_a_gap_that_was_moved_is_found(restored: Site) -> None:
    """Before the lines that it names it would excuse what came after it."""
    restored.document()
    *lines, gap, checkpoint = restored.lines()
    assert "restored_hash" in gap
    restored.rewrite([gap, *lines, checkpoint])
    assert any("names lines that are not before it" in fault for fault in restored.verify())


def test_a_copy_of_a_gap_is_found(restored: Site) -> None:
    """Replayed after another loss, in the second place or in the ledger."""
    restored.document()
    lines = restored.lines()
    restored.rewrite([*lines, lines[-2]])
    assert any("is number 2 of the second place" in fault for fault in restored.verify())
    restored.rewrite(lines)
    with restored.ledger.transaction() as transaction:
        detail = transaction.value(sa.select(audit_event.c.detail).where(audit_event.c.kind == "audit.restored"))
        transaction.audit("audit.restored", "audit:gaps", **detail)
    seal(restored.ledger)
    assert any("once more" in fault for fault in restored.verify())


def test_a_gap_of_what_another_names_is_found(restored: Site) -> None:
    """Even under the key: two gaps that overlap are one too many."""
    assert restored.place.key is not None
    gap = restored.document()
    again = replace(gap, gap=2, reason="once more, under the key").signed(restored.place.key)
    restored.place.file.append([again])
    assert any("name the same line" in fault for fault in restored.verify())


def test_a_gap_that_names_a_link_that_was_restored_is_found(restored: Site) -> None:
    """The checkpoint of link 3 stands: to take it away as well would free links 1 to 3."""
    assert restored.place.key is not None
    lines = [line for line in restored.place.file.lines()[0] if isinstance(line, Checkpoint)]
    wide = replace(restored.document(), lines=[line_sha256(line) for line in lines]).signed(restored.place.key)
    restored.rewrite([*(f"{line.line()}\n" for line in lines), f"{wide.line()}\n"])
    assert any("that it says were restored" in fault for fault in restored.verify())


def test_a_head_that_was_changed_since_is_found(restored: Site) -> None:
    """The statement speaks for the link that it follows, as a checkpoint does."""
    restored.document()
    tamper(restored.ledger, "update audit_chain set hash = 'x' where seq = 4")
    assert any("the documented gap 1 says" in fault for fault in restored.verify())


@pytest.mark.parametrize("where", ["second place", "ledger"])
def test_a_gap_in_one_place_alone_is_a_fault(restored: Site, where: str) -> None:
    """Both have it, or it was removed from one."""
    gap = restored.document()
    if where == "ledger":
        tamper(restored.ledger, "update audit_event set kind = 'x' where kind = 'audit.restored'")
    else:
        restored.rewrite([line for line in restored.lines() if line != f"{gap.line()}\n"])
    assert any("gap 1" in fault for fault in restored.verify())


def test_a_chain_built_anew_behind_a_gap_is_found(restored: Site) -> None:
    """The gap is signed, and so is every checkpoint since: without their signatures they prove nothing."""
    restored.document()
    restored.seal(*"klmnop")
    tamper(
        restored.ledger,
        "delete from audit_checkpoint where seq > 3",
        "delete from audit_chain where seq > 5",
        "update audit_event set actor = 'nobody' where id = 7",
    )
    seal(restored.ledger)
    lines = restored.lines()
    gap = next(number for number, line in enumerate(lines) if "restored_hash" in line)
    restored.rewrite(lines[: gap + 1])
    make_checkpoints(restored.ledger, replace(restored.place, key=None), now=True)
    assert any("has no signature" in fault for fault in restored.verify())
