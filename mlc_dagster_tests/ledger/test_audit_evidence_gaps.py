"""Packs of a ledger that was restored: the one-file verifier tells the documented gap, and finds a made-up one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mlc_dagster.ledger.audit_restoring import document_restore
from mlc_dagster.ledger.checkpoints import Checkpointing, Gap, SigningKey
from mlc_dagster.ledger.database import open_ledger
from mlc_dagster.ledger.evidence import Pack
from mlc_dagster_tests.ledger.checkpointed import checkpointing, seal_with
from mlc_dagster_tests.ledger.packs import DAY, check, make_pack, populate, rewritten
from mlc_dagster_tests.ledger.population import WINDOW, HandClock
from mlc_dagster_tests.ledger.restored import WHY
from mlc_dagster_tests.servers.ledgers import new_file

TOLD = "links 10 to 15 were lost when the ledger was restored to link 9"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pack, Checkpointing]:
    """A pack of the day on which a ledger was lost, restored, and went on."""
    root = tmp_path_factory.mktemp("evidence")
    clock = HandClock()
    url = new_file(root / "ledger.sqlite")
    place = checkpointing(root)
    ledger = open_ledger(url, actor="test", clock=clock)
    populate(ledger)
    seal_with(ledger, place)
    ledger.close()
    shutil.copyfile(root / "ledger.sqlite", root / "backup.sqlite")
    ledger = open_ledger(url, actor="test", clock=clock)
    clock.advance(60)
    seal_with(ledger, place, *"abcdef")
    ledger.close()
    for path in root.glob("ledger.sqlite*"):
        path.unlink()
    shutil.copyfile(root / "backup.sqlite", root / "ledger.sqlite")
    clock.advance(60)
    ledger = open_ledger(url, actor="test", clock=clock)
    document_restore(ledger, place, WHY)
    pack = make_pack(ledger, place, root / "pack")
    ledger.close()
    return root / "pack", pack, place


@pytest.fixture
def pack(made: tuple[Path, Pack, Checkpointing], tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "pack")
    return tmp_path / "pack"


def change(pack: Path, name: str, old: str, new: str) -> None:
    path = pack / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_documented_gap_is_told_and_the_pack_holds(made: tuple[Path, Pack, Checkpointing]) -> None:
    """By a bare Python, with the key that was told: which links, who, why. Exit code 0."""
    done = check(made[0], "--key", str(made[1].signed_by))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"GAP, documented: {TOLD}" in done.stdout
    assert "by Ann Lee, approved by Bo Ek" in done.stdout
    assert done.stdout.splitlines()[-1] == "The evidence holds, with a documented gap from link 10 to 15."
    told = json.loads(check(made[0], "--key", str(made[1].signed_by), "--json").stdout)
    assert [(gap["first"], gap["last"]) for gap in told["gaps"]] == [(10, 15)]


def test_another_period_tells_it_too(made: tuple[Path, Pack, Checkpointing], tmp_path: Path) -> None:
    """What was lost may have been of any period."""
    ledger = open_ledger(f"sqlite:///{made[0].parent / 'ledger.sqlite'}", actor="test", clock=HandClock(WINDOW))
    early = (DAY[0].replace(day=1), DAY[0])
    pack = make_pack(ledger, made[2], tmp_path / "early", period=early)
    ledger.close()
    done = check(pack.place)
    assert done.returncode == 0
    assert TOLD in done.stdout
    assert "Note: the event of gap 1 is not among the links of this pack" in done.stdout


def test_a_gap_that_was_changed_is_found(pack: Path) -> None:
    """Its words are under the signature."""
    change(pack, "trail/gaps.jsonl", '"last":15', '"last":16')
    rewritten(pack)
    assert "the documented gap 1 has no good signature" in check(pack).stdout


def test_a_gap_of_another_key_is_found(pack: Path) -> None:
    """Whoever cuts links out of a pack has no key to say so with."""
    gap = Gap.parse((pack / "trail/gaps.jsonl").read_text())
    assert gap is not None
    forged = replace(gap, reason="cut out").signed(SigningKey.generate())
    (pack / "trail/gaps.jsonl").write_text(f"{forged.line()}\n")
    rewritten(pack)
    assert "has no good signature" in check(pack).stdout


def test_a_gap_that_was_left_out_is_found(pack: Path) -> None:
    """The chain has its event."""
    for name in ("gaps.jsonl", "lost.jsonl"):
        (pack / "trail" / name).unlink()
    manifest = json.loads((pack / "manifest.json").read_text())
    for name in ("trail/gaps.jsonl", "trail/lost.jsonl"):
        del manifest["files"][name]
    (pack / "manifest.json").write_text(json.dumps(manifest))
    rewritten(pack)
    assert "documents a gap that trail/gaps.jsonl does not have" in check(pack).stdout


def test_a_gap_twice_is_found(pack: Path) -> None:
    """Overlapping itself, or a copy of it."""
    path = pack / "trail/gaps.jsonl"
    path.write_text(path.read_text() * 2)
    rewritten(pack)
    assert "that another gap names" in check(pack).stdout


def test_a_gap_that_overlaps_another_is_found(made: tuple[Path, Pack, Checkpointing], pack: Path) -> None:
    """Even under the key."""
    assert made[2].key is not None
    path = pack / "trail/gaps.jsonl"
    gap = Gap.parse(path.read_text())
    assert gap is not None
    path.write_text(path.read_text() + replace(gap, gap=2).signed(made[2].key).line() + "\n")
    rewritten(pack)
    assert "that another gap names" in check(pack).stdout


def test_a_gap_that_was_moved_is_found(made: tuple[Path, Pack, Checkpointing], pack: Path) -> None:
    """Signed for another head than that of the chain in the pack."""
    assert made[2].key is not None
    path = pack / "trail/gaps.jsonl"
    gap = Gap.parse(path.read_text())
    assert gap is not None
    path.write_text(replace(gap, restored_hash="1" * 64).signed(made[2].key).line() + "\n")
    rewritten(pack)
    told = check(pack).stdout
    assert "link 9 is not what the checkpoint of" in told


def test_gaps_that_were_numbered_anew_are_found(made: tuple[Path, Pack, Checkpointing], pack: Path) -> None:
    """Even under the key: one that is left out shows by the numbers of the others."""
    key = made[2].key
    assert key is not None
    path = pack / "trail/gaps.jsonl"
    gap = Gap.parse(path.read_text().strip())
    assert gap is not None
    path.write_text(f"{replace(gap, gap=0).signed(key).line()}\n")
    rewritten(pack)
    assert "the documented gap 0 comes after gap 0" in check(pack).stdout


def test_lines_that_no_gap_names_are_found(pack: Path) -> None:
    """A checkpoint that was hidden among the lost ones."""
    path = pack / "trail/lost.jsonl"
    first = (pack / "trail/checkpoints.jsonl").read_text().splitlines(keepends=True)[0]
    path.write_text(path.read_text() + first)
    rewritten(pack)
    assert "1 lines are named by no documented gap" in check(pack).stdout
