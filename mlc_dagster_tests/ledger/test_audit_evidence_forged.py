"""Packs that somebody changed or made up: whatever was done to them, an auditor finds it."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.checkpoints import SigningKey
from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.ledger.evidence import Pack, write_pack
from mlc_dagster.ledger.evidence_verifier import main as verifier
from mlc_dagster.ledger.schema import audit_chain, audit_event
from mlc_dagster.ledger.types import CanonicalText
from mlc_dagster_tests.ledger.checkpointed import checkpointing, seal_with, tamper
from mlc_dagster_tests.ledger.packs import check, make_pack, populate, request, rewritten
from mlc_dagster_tests.ledger.population import HandClock
from mlc_dagster_tests.servers.ledgers import new_file as new_ledger


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pack]:
    """One pack, to be copied by tests that change it."""
    root = tmp_path_factory.mktemp("evidence")
    ledger = open_ledger(new_ledger(root / "ledger.sqlite"), actor="test", clock=HandClock())
    populate(ledger)
    pack = make_pack(ledger, checkpointing(root), root / "pack")
    ledger.close()
    return root / "pack", pack


@pytest.fixture
def pack(made: tuple[Path, Pack], tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "pack")
    return tmp_path / "pack"


def test_every_event_that_was_tampered_with_is_found_by_the_chain(
    pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when every hash of a file was made to fit: each event, changed, removed and put in twice."""
    path = pack / "trail/events.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) >= 8
    for number, line in enumerate(lines):
        event = json.loads(line)
        other = line.replace(f'"subject":"{event["subject"]}"', '"subject":"x"')
        assert other != line
        for changed in ([other], [], [line, line]):
            path.write_text("".join([*lines[:number], *changed, *lines[number + 1 :]]), encoding="utf-8")
            rewritten(pack)
            assert verifier([str(pack)]) == 1
            told = capsys.readouterr().out
            assert f"event {event['id']} (link {number + 1}, {event['kind']}) was changed" in told or changed != [other]
            assert re.search("FAULT: (event|link|trail)", told)


def test_a_chain_made_anew_is_found_by_the_checkpoints(pack: Path) -> None:
    """All links fit the changed events, all hashes fit the files; the signed checkpoint is of another link."""
    events_file, chain_file = pack / "trail/events.jsonl", pack / "trail/chain.jsonl"
    lines = events_file.read_text(encoding="utf-8").replace("Grace", "Mallory").splitlines()
    previous, links = "0" * 64, []
    for seq, line in enumerate(lines, 1):
        link = hashlib.sha256((previous + line).encode()).hexdigest()
        said = {"event_id": json.loads(line)["id"], "hash": link, "previous_hash": previous, "seq": seq}
        links.append(json.dumps(said, sort_keys=True, separators=(",", ":")))
        previous = link
    events_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    chain_file.write_text("\n".join(links) + "\n", encoding="utf-8")
    actions = pack / "operator_actions.jsonl"
    actions.write_text(actions.read_text(encoding="utf-8").replace("Grace", "Mallory"), encoding="utf-8")
    rewritten(pack)
    done = check(pack)
    assert done.returncode == 1
    assert "is not what the checkpoint of" in done.stdout
    assert "manifest.sig is not a signature of manifest.json" in done.stdout


def test_an_amount_that_was_changed_does_not_add_up(pack: Path) -> None:
    """The verifier counts again instead of believing the totals."""
    path = pack / "population/invoices.csv"
    path.write_text(path.read_text().replace("123.45", "923.45", 1))
    rewritten(pack)
    assert "the amounts of the population are not the totals that the file reader counted" in check(pack).stdout


def test_a_row_left_out_does_not_add_up(pack: Path) -> None:
    """Rows in = rows out, file by file."""
    path = pack / "population/invoices.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    rewritten(pack)
    told = check(pack).stdout
    assert "the reader counted 4 rows in 2 invoices, the population has 2 in 1" in told
    assert "2 invoices were received, 1 are accounted for" in told


def test_an_operator_action_that_is_no_event_is_found(pack: Path) -> None:
    """The list is for reading; what counts is the chain."""
    path = pack / "operator_actions.jsonl"
    path.write_text(path.read_text().replace("two sites", "no reason"))
    rewritten(pack)
    assert "1 lines of operator_actions.jsonl are no events of the chain" in check(pack).stdout


def test_a_pack_of_another_key_is_found_by_the_fingerprint(
    made: tuple[Path, Pack], ledger: Ledger, tmp_path: Path
) -> None:
    """A pack made up and signed with a key of one's own holds by itself; the fingerprint that was told is another."""
    populate(ledger)
    forged = make_pack(ledger, checkpointing(tmp_path, key=SigningKey.generate()), tmp_path / "forged")
    honest = str(made[1].signed_by)
    assert check(forged.place).returncode == 0
    done = check(forged.place, "--key", honest)
    assert done.returncode == 1
    assert f"not {honest} that you trust" in done.stdout
    assert check(made[0], "--key", honest).returncode == 0
    assert check(forged.place, "--manifest-sha256", made[1].manifest_sha256).returncode == 1


def test_a_pack_that_was_compared_with_nothing_proves_nothing(made: tuple[Path, Pack]) -> None:
    """A forger's pack is as consistent; exit code 0 would let a script take it for proof."""
    done = check(made[0], "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["holds"] is False
    path = [sys.executable, "-I", "-S", str(made[0] / "verify_evidence.py")]
    told = subprocess.run(path, capture_output=True, text=True, check=False)
    assert told.returncode == 3
    assert "consistent with itself only; nothing you trust was compared" in told.stdout
    assert "The evidence holds." not in told.stdout


def test_an_operator_action_that_was_left_out_is_found(pack: Path) -> None:
    """The list must be whole as well as true: who reads it alone must not miss an override."""
    path = pack / "operator_actions.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    rewritten(pack)
    assert "(invoice.released) says who had it done, and is not in operator_actions.jsonl" in check(pack).stdout


def test_an_operator_action_twice_is_found(pack: Path) -> None:
    """Two overrides where there was one."""
    path = pack / "operator_actions.jsonl"
    path.write_text(path.read_text() * 2)
    rewritten(pack)
    assert "operator_actions.jsonl has a line twice" in check(pack).stdout


def test_an_event_of_nobody_is_no_operator_action(pack: Path) -> None:
    """What the product did by itself is not to be told as a person's."""
    path, events_file = pack / "operator_actions.jsonl", pack / "trail/events.jsonl"
    other = next(line for line in events_file.read_text().splitlines(keepends=True) if '"by":' not in line)
    path.write_text(path.read_text() + other)
    rewritten(pack)
    assert "1 lines of operator_actions.jsonl are no events of the chain, or not of people" in check(pack).stdout


@pytest.mark.parametrize("held", [False, None, "missing"])
def test_a_trail_that_did_not_hold_is_a_fault(pack: Path, held: object) -> None:
    """The maker saw more of the trail than the pack has; what he found must not be told in passing."""
    path = pack / "control_results.json"
    controls = json.loads(path.read_text())
    for control in controls:
        if control["control"] == "audit_chain_holds":
            control["holds"], control["faults"] = held, ["links 6 to 9 were removed"]
    kept = [control for control in controls if control["holds"] != "missing"]
    path.write_text(json.dumps(kept))
    rewritten(pack)
    done = check(pack)
    assert done.returncode == 1
    assert ("does not say whether" if held == "missing" else "did not hold when the pack was made") in done.stdout


PARTS = [
    "configuration/settings.json", "configuration/versions.json", "control_results.json", "operator_actions.jsonl",
    "population/exported_files.csv", "population/invoices.csv", "population/source_files.csv", "population/totals.json",
    "trail/chain.jsonl", "trail/checkpoints.jsonl", "trail/events.jsonl",
]  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_the_manifest_passes_over_is_missed(pack: Path, name: str) -> None:
    """Left out of the manifest too, no hash speaks of it: without its checkpoints a chain made anew would pass."""
    (pack / name).unlink()
    manifest = json.loads((pack / "manifest.json").read_text())
    del manifest["files"][name]
    (pack / "manifest.json").write_text(json.dumps(manifest))
    rewritten(pack)
    done = check(pack)
    assert done.returncode == 1
    assert f"{name} is not in the manifest: every pack has one, it was left out" in done.stdout + done.stderr


def test_a_folder_that_is_elsewhere_is_found(pack: Path, tmp_path: Path) -> None:
    """What a link shows to whoever reads the pack is covered by no hash."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/approvals.csv").write_text("all is well")
    (pack / "approvals").symlink_to(tmp_path / "elsewhere")
    assert "approvals is not in the manifest: it was put in" in check(pack).stdout


def test_amounts_of_an_outcome_that_were_changed_do_not_add_up(pack: Path) -> None:
    """What is received can be right while what became of it is not."""
    path = pack / "population/totals.json"
    totals = json.loads(path.read_text())
    bucket = totals["accounted_for"]["created"]
    bucket["amounts"] = {currency: f"1{amount}" for currency, amount in bucket["amounts"].items()}
    assert bucket["amounts"]
    path.write_text(json.dumps(totals))
    rewritten(pack)
    assert "the amounts of the invoices that are created are not those in totals.json" in check(pack).stdout


def test_an_appearance_twice_in_place_of_another_is_found(pack: Path) -> None:
    """Of the same file and amount, so that every sum is right: one invoice is told twice, one not at all."""
    path = pack / "population/invoices.csv"
    head, one, other = path.read_text().splitlines(keepends=True)
    path.write_text(head + one + other.replace(other.split(",")[0], one.split(",")[0], 1))
    rewritten(pack)
    assert "has appearance 1 twice" in check(pack).stdout


def test_events_that_nothing_proves_are_told(ledger: Ledger, tmp_path: Path) -> None:
    """Of the period, and not in the chain: they may still be changed by anybody."""
    place = checkpointing(tmp_path)
    populate(ledger)
    seal_with(ledger, place)
    with ledger.transaction() as transaction:
        transaction.audit("test.late", "x")
    write_pack(ledger, place, request(), tmp_path / "pack")
    done = check(tmp_path / "pack")
    assert done.returncode == 0
    assert "1 events of the period were in no link yet: nothing proves them" in done.stdout


@pytest.mark.parametrize("detail", ["no JSON", '{"by":', '{"text":"\\ud800"}', "[" * 5_000])
def test_an_event_that_was_put_in_with_any_detail_leaves_the_others_checked(
    ledger: Ledger, tmp_path: Path, detail: str
) -> None:
    """Whoever may append would else choose where the auditor's check ends, or that no pack is made at all."""
    place = checkpointing(tmp_path)
    populate(ledger)
    with ledger.transaction() as transaction:
        transaction.audit_text("test.odd", "x", CanonicalText(detail))
        last = transaction.value(sa.select(sa.func.max(audit_event.c.id))) + 1
    seal_with(ledger, place, *"abc")
    write_pack(ledger, place, request(), tmp_path / "pack")
    done = check(tmp_path / "pack")
    odd = f"event {last} (link {last}) is not as the product writes any"
    assert ("Traceback" in done.stderr, odd in done.stdout) == (False, "ud800" not in detail)
    path = tmp_path / "pack/trail/events.jsonl"
    path.write_text(path.read_text().replace('"subject":"c"', '"subject":"d"'))
    rewritten(tmp_path / "pack")
    assert f"event {last + 3} (link {last + 3}, test.happened) was changed" in check(tmp_path / "pack").stdout


def test_what_no_screen_shows_ends_no_check(pack: Path) -> None:
    """Half of a surrogate pair in a reason: the verifier must say what it found, not end by saying it."""
    manifest = json.loads((pack / "manifest.json").read_text())
    manifest["reason"] = "half \ud800"
    raw = (json.dumps(manifest) + "\n").encode()
    (pack / "manifest.json").write_bytes(raw)
    (pack / "manifest.sha256").write_text(f"{hashlib.sha256(raw).hexdigest()}  manifest.json\n")
    done = check(pack)
    assert done.returncode == 1
    assert "manifest.sig is not a signature of manifest.json" in done.stdout


def test_a_tail_that_was_cut_off_is_found(ledger: Ledger, tmp_path: Path) -> None:
    """Checkpoints outside of links that are gone come with the pack, although the period's links end before them."""
    place = checkpointing(tmp_path)
    populate(ledger)
    seal_with(ledger, place)
    with ledger.reading() as reading:
        last = reading.value(sa.select(sa.func.max(audit_chain.c.seq)))
    seal_with(ledger, place, *"abcdef")
    tamper(
        ledger,
        f"delete from audit_checkpoint where seq > {last}",
        f"delete from audit_event where id in (select event_id from audit_chain where seq > {last})",
        f"delete from audit_chain where seq > {last}",
    )
    write_pack(ledger, place, request(), tmp_path / "cut")
    done = check(tmp_path / "cut")
    assert done.returncode == 1
    assert f"the pack ends at {last}: links were removed" in done.stdout
