"""A ledger that was really restored: the links it lost are documented by two people, and nothing hides behind that."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.approval import NotApproved
from mlc_dagster.ledger.audit import seal, verify
from mlc_dagster.ledger.audit_sealing import make_checkpoints, take_new_key
from mlc_dagster.ledger.checkpoints import (
    Checkpoint,
    CheckpointFile,
    CheckpointRefused,
    Gap,
    line_sha256,
)
from mlc_dagster.ledger.schema import audit_event
from mlc_dagster_tests.ledger.checkpointed import APPROVAL, checkpointing, tamper, write
from mlc_dagster_tests.ledger.population import race
from mlc_dagster_tests.ledger.restored import WHY, Site, kinds, lose, reopen, site_with_backups
from mlc_dagster_tests.servers.backups import Backups


@pytest.fixture(params=["sqlite", "postgres"])
def backups(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backups[Site]]:
    """On either database."""
    server = request.getfixturevalue("postgres_server") if request.param == "postgres" else None
    url = None if server is None else request.getfixturevalue("postgres_url")
    with site_with_backups(tmp_path, server, url) as found:
        yield found


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


def test_a_gap_that_nobody_documented_is_a_fault(backups: Backups[Site]) -> None:
    """As before: whoever deletes the newest events looks just like a restore, until two people say otherwise."""
    lose(backups)
    (fault,) = backups.remote.verify()
    assert fault.startswith("links 5 to 10 were removed from the end")
    with pytest.raises(CheckpointRefused, match="`mlc audit after-restore`"):
        backups.remote.seal(*"xyz")


def test_a_documented_gap_is_told_and_is_none(backups: Backups[Site]) -> None:
    """The trail goes on behind what was in the backup; checkpoints are made again, and hold."""
    lose(backups)
    site = backups.remote
    gap = site.document()
    assert (gap.restored_seq, gap.proven, gap.first, gap.last, gap.links) == (4, 3, 5, 10, 6)
    assert gap.checkpoint["seq"] == 10
    found = verify(site.ledger, site.place)
    assert (found.faults, found.notes, found.gaps) == ((), (), (gap,))
    assert kinds(site)[4:] == [(5, "audit.restored")]
    for subject in "klmnop":
        site.seal(subject)
    found = verify(site.ledger, site.place)
    assert (found.faults, found.gaps) == ((), (gap,))
    assert found.checkpoints.signed == found.checkpoints.count == 4


def test_what_was_sealed_since_the_restore_is_no_part_of_it(backups: Backups[Site]) -> None:
    """Runs go on by themselves before anybody reads the fault; also past the numbers of the lost links."""
    lose(backups)
    site = backups.remote
    write(site.ledger, *"klmnopqr")
    seal(site.ledger)
    assert len(site.verify()) > 0
    gap = site.document()
    assert (gap.restored_seq, gap.first, gap.last) == (4, 5, 10)
    found = verify(site.ledger, site.place)
    assert (found.faults, found.gaps, found.sealed) == ((), (gap,), 13)


def test_what_the_backup_had_not_sealed_is_not_lost(backups: Backups[Site]) -> None:
    """It is sealed first, to the same links as before: the lost ones begin behind it."""
    site = backups.remote
    site.seal(*"abc")
    write(site.ledger, *"de")
    backup = backups.make()
    reopen(site)
    site.seal(*"fghi")
    backups.restore(backup)
    gap = site.document()
    assert (gap.restored_seq, gap.first, gap.last) == (5, 6, 9)
    assert site.verify() == ()


def test_two_calls_at_once_make_one_gap(backups: Backups[Site]) -> None:
    """Two statements of one loss would overlap for ever."""
    lose(backups)
    site = backups.remote

    def call() -> str:
        try:
            return str(site.document().gap)
        except CheckpointRefused as refusal:
            return str(refusal)

    told = race([call] * 4)
    assert "1" in told
    assert len([line for line in site.place.file.lines()[0] if isinstance(line, Gap)]) == 1
    assert site.verify() == ()


def test_it_is_on_record_in_both_places(restored: Site) -> None:
    """Who, why, the last checkpoint outside, the restored head; the same statement, under the signature."""
    gap = restored.document()
    with restored.ledger.reading() as reading:
        detail: dict[str, Any] = reading.value(
            sa.select(audit_event.c.detail).where(audit_event.c.kind == "audit.restored")
        )
    assert (detail["by"], detail["approved_by"], detail["reason"]) == (WHY.by, WHY.approved_by, WHY.reason)
    assert detail["after"] == {"seq": 4, "event_id": 4, "hash": gap.restored_hash}
    assert detail["before"]["checkpoint"]["seq"] == 10
    assert Gap.parse(json.dumps(detail["statement"])) == gap
    assert gap in restored.place.file.lines()[0]
    assert restored.place.ring.fault(gap) is None


def test_a_ledger_that_was_begun_anew(kept: Backups[Site]) -> None:
    """Nothing was left: the gap begins with the first link."""
    site = kept.remote
    backup = kept.make()
    reopen(site)
    site.seal(*"abcd")
    kept.restore(backup)
    gap = site.document()
    assert (gap.restored_seq, gap.first, gap.last) == (0, 1, 4)
    assert site.verify() == ()


def test_without_the_key_nothing_is_documented(restored: Site) -> None:
    """Else it would be a way to hide what was removed."""
    restored.place = replace(restored.place, key=None)
    before = restored.lines()
    with pytest.raises(CheckpointRefused, match="nobody signed"):
        restored.document()
    assert restored.lines() == before


def test_nothing_lost_nothing_documented(kept: Backups[Site]) -> None:
    """Nor a second time."""
    site = kept.remote
    site.seal(*"abcd")
    with pytest.raises(CheckpointRefused, match="nothing is lost that can be shown"):
        site.document()


def test_a_second_time_there_is_nothing_to_document(restored: Site) -> None:
    """What is named already cannot be named again."""
    restored.document()
    restored.seal(*"klm")
    with pytest.raises(CheckpointRefused, match="nothing is lost that can be shown"):
        restored.document()


def test_an_approver_who_is_not_listed_is_refused(restored: Site) -> None:
    """The list in mlc.yaml holds here too."""
    restored.ledger.approvers = ("Ada Lovelace", "Grace Hopper")
    with pytest.raises(NotApproved):
        restored.document()
    assert not any(isinstance(line, Gap) for line in restored.place.file.lines()[0])


def test_what_was_changed_does_not_pass_for_lost(restored: Site) -> None:
    """Whoever restores a backup and changes an event in it wants exactly this signature."""
    tamper(restored.ledger, "update audit_event set actor = 'nobody' where id = 2")
    with pytest.raises(CheckpointRefused, match="does not hold: event 2"):
        restored.document()


def test_a_chain_built_anew_does_not_pass_for_restored(kept: Backups[Site]) -> None:
    """Its links are of events that are older than the checkpoint which says otherwise."""
    site = kept.remote
    site.seal(*"abc")
    site.seal(*"defghi")
    tamper(
        site.ledger,
        "delete from audit_checkpoint where seq > 3",
        "delete from audit_chain where seq > 4",
        "update audit_event set actor = 'nobody' where id = 6",
    )
    seal(site.ledger)
    with pytest.raises(CheckpointRefused, match="they were changed, not restored"):
        site.document()


def test_a_line_that_was_put_in_is_not_documented_away(restored: Site) -> None:
    """A checkpoint that nobody signed is not one of a lost link; it stays a fault."""
    line = Checkpoint(20, 20, "0" * 64, "2026-11-21T12:00:00.000000Z").line()
    restored.rewrite([*restored.lines(), f"{line}\n"])
    with pytest.raises(CheckpointRefused, match="link 20 has no signature"):
        restored.document()


def test_more_that_goes_missing_is_a_fault_still(restored: Site) -> None:
    """A gap excuses the lines that it names, and no other."""
    restored.document()
    restored.seal(*"klmnop")
    tamper(
        restored.ledger,
        "delete from audit_checkpoint where seq > 9",
        "delete from audit_chain where seq > 9",
        "delete from audit_event where id > 9",
    )
    assert any("were removed from the end" in fault for fault in restored.verify())


def test_a_process_that_died_before_the_second_place_is_caught_up(
    restored: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger has it; the next call writes what is missing, and no second statement."""
    with monkeypatch.context() as failing:
        failing.setattr(CheckpointFile, "append", _no_space)
        with pytest.raises(OSError, match="full"):
            restored.document()
    assert len(restored.verify()) > 0
    gap = restored.document()
    assert (gap.gap, restored.verify()) == (1, ())
    assert [kind for _, kind in kinds(restored)].count("audit.restored") == 1


def _no_space(file: CheckpointFile, lines: object) -> None:
    raise OSError(28, "the disk is full", str(file.path))


def test_the_next_sealing_catches_up_as_well(restored: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to think of it."""
    with monkeypatch.context() as failing:
        failing.setattr(CheckpointFile, "append", _no_space)
        with pytest.raises(OSError, match="full"):
            restored.document()
    make_checkpoints(restored.ledger, restored.place, now=True)
    assert restored.verify() == ()


def test_a_restore_to_before_the_gap(backups: Backups[Site]) -> None:
    """The gap's own event is lost too: a new one names all of it, and the old one is told no more."""
    site = backups.remote
    site.seal(*"abc")
    oldest = backups.make()
    reopen(site)
    lose(backups)
    first = site.document()
    site.seal(*"klmnop")
    backups.restore(oldest)
    second = site.document()
    assert (second.gap, second.restored_seq, second.first, second.last) == (2, 3, 4, 14)
    assert line_sha256(first) in second.lines
    found = verify(site.ledger, site.place)
    assert (found.faults, found.gaps) == ((), (second,))


def test_a_restore_to_a_newer_backup_than_the_first_one(backups: Backups[Site]) -> None:
    """The wrong backup was taken first: what is there again must stand again."""
    site = backups.remote
    site.seal(*"abc")
    older = backups.make()
    reopen(site)
    site.seal(*"def")
    newer = backups.make()
    reopen(site)
    site.seal(*"ghi")
    backups.restore(older)
    assert site.document().first == 4
    site.seal(*"xyz")
    backups.restore(newer)
    second = site.document()
    assert (second.gap, second.restored_seq, second.proven, second.first, second.last) == (2, 6, 6, 4, 9)
    found = verify(site.ledger, site.place)
    assert (found.faults, found.gaps) == ((), (second,))


def test_a_chain_built_anew_without_its_gap_does_not_pass_for_restored(restored: Site) -> None:
    """With the gap's event taken out, all that followed it would be free to be rewritten."""
    restored.document()
    restored.seal(*"klmnop")
    tamper(
        restored.ledger,
        "delete from audit_checkpoint where seq > 3",
        "delete from audit_chain where seq > 4",
        "delete from audit_event where kind = 'audit.restored'",
        "update audit_event set actor = 'nobody' where id = 8",
    )
    seal(restored.ledger)
    with pytest.raises(CheckpointRefused, match="they were changed, not restored"):
        restored.document()


def test_a_second_restore_after_the_gap(kept: Backups[Site]) -> None:
    """Two losses, two gaps: each names its own."""
    site = kept.remote
    lose(kept)
    first = site.document()
    site.seal(*"klm")
    backup = kept.make()
    reopen(site)
    site.seal(*"nopqrs")
    kept.restore(backup)
    second = site.document()
    assert (second.gap, second.first, set(second.lines) & set(first.lines)) == (2, second.restored_seq + 1, set())
    found = verify(site.ledger, site.place)
    assert (found.faults, found.gaps) == ((), (first, second))


def test_a_backup_from_before_the_key(kept: Backups[Site], tmp_path: Path) -> None:
    """The key was taken into use since: the gap is signed, and speaks for what is older."""
    site = kept.remote
    signed, site.place = site.place, checkpointing(tmp_path, signed=False)
    site.seal(*"abc")
    backup = kept.make()
    reopen(site)
    site.place = signed
    take_new_key(site.ledger, signed, APPROVAL)
    site.seal(*"def")
    kept.restore(backup)
    site.document()
    assert site.verify() == ()
    site.seal(*"klmn")
    assert site.verify() == ()


def test_lines_are_named_by_their_own_hash(restored: Site) -> None:
    """So that an auditor can say for each line what became of it."""
    before = [line.rstrip("\n") for line in restored.lines()]
    gap = restored.document()
    assert list(gap.lines) == [hashlib.sha256(line.encode()).hexdigest() for line in before if '"seq":3,' not in line]
