"""Evidence packs: an auditor checks one with a bare Python, and whatever was changed in it is found."""

import base64
import csv
import datetime as dt
import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import invoices
from mlc_dagster.ledger.audit import seal
from mlc_dagster.ledger.audit_sealing import make_checkpoints, take_new_key
from mlc_dagster.ledger.checkpoints import Checkpointing, SigningKey
from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.ledger.evidence import ControlResult, EvidenceRefused, Pack, Request, write_pack
from mlc_dagster.ledger.evidence_verifier import main as verifier
from mlc_dagster.ledger.references import keep_crosswalk_version
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.types import canonical_json
from mlc_dagster_tests.ledger.checkpointed import APPROVAL, checkpointing, seal_with, tamper, write
from mlc_dagster_tests.ledger.exporting import commit, new_file, new_version, open_feed
from mlc_dagster_tests.ledger.population import WINDOW, HandClock, add_file, add_invoice, events
from mlc_dagster_tests.servers.ledgers import new_file as new_ledger

DAY = (dt.datetime(2026, 3, 2, tzinfo=dt.UTC), dt.datetime(2026, 3, 3, tzinfo=dt.UTC))
CROSSWALKS = "c" * 16


def populate(ledger: Ledger) -> None:
    """A file with two invoices, one of them parked and released by two people, and a file for a partner."""
    with ledger.transaction() as transaction:
        file = add_file(transaction, "/outbound/=cmd.csv")
        mapped = {"profile": "p@1", "crosswalks": CROSSWALKS}
        add_invoice(transaction, InvoiceState.CONFIRMED, file=file, mapped_with=mapped, fusion_invoice_id=300)
        held = add_invoice(transaction, InvoiceState.PARKED, file=file, reason="DUP_OTHER_BU")
        invoices.file_was_read(
            transaction, file, rows_total=4, rows_in_invoices=4, rows_quarantined=0, invoices=2,
            amounts_minor={"USD": 24690},
        )  # fmt: skip
        keep_crosswalk_version(transaction, CROSSWALKS, {"vendors": b"stampli,fusion\nV1,100\n"})
        transaction.audit_action(
            "invoice.released", f"invoice:{held}", by="Ada", approved_by="Grace", reason="two sites",
            before={"state": "PARKED"}, after={"state": "RECEIVED"},
        )  # fmt: skip
    commit(ledger, open_feed(ledger), new_file(1, [new_version("301"), new_version("302", position=2)]))


def request(**changes: Any) -> Request:
    fields: dict[str, Any] = {
        "period": DAY,
        "by": "Ada",
        "reason": "quarterly review",
        "configuration": {"settings": {"client_secret": "store:fusion/client_secret"}},
        "controls": [ControlResult("delivered_bytes_match", "feed partner", None, text="not asked")],
    }
    return Request(**(fields | changes))


def make_pack(ledger: Ledger, place: Checkpointing, out: Path, **changes: Any) -> Pack:
    seal(ledger)
    make_checkpoints(ledger, place, now=True)
    return write_pack(ledger, place, request(**changes), out)


def check(pack: Path, *options: str, program: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The verifier as an auditor runs it, alone; without options with the hash the manifest has."""
    path = program or pack / "verify_evidence.py"
    if not options and (pack / "manifest.json").is_file():
        options = ("--manifest-sha256", hashlib.sha256((pack / "manifest.json").read_bytes()).hexdigest())
    return subprocess.run(
        [sys.executable, "-I", "-S", str(path), str(pack), *options],
        capture_output=True, text=True, check=False, env={}, cwd="/",
    )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Checkpointing:
    return checkpointing(tmp_path)


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


def test_a_pack_proves_itself_with_a_bare_python(ledger: Ledger, place: Checkpointing, tmp_path: Path) -> None:
    """On both databases; what is told is what an auditor writes down."""
    populate(ledger)
    pack = make_pack(ledger, place, tmp_path / "pack")
    done = check(pack.place)
    assert (done.returncode, done.stderr) == (0, "")
    for line in (
        f"Manifest: SHA-256 {pack.manifest_sha256}, signed by {pack.signed_by}",
        f"Chain: {pack.events} events, links 1 to {pack.events}, head ",
        "Invoices: 1 created, 1 parked",
        "Amounts: 246.90 USD",
        "Exported: 1 files, 2 documents, 10 bytes",
        "Controls that could not be compared: delivered_bytes_match (feed partner)",
        "The evidence holds.",
    ):
        assert line in done.stdout
    assert "Note:" not in done.stdout
    assert "did NOT hold: none" in done.stdout


def test_an_export_is_itself_on_record(ledger: Ledger, place: Checkpointing, tmp_path: Path) -> None:
    """Who took the data out, what for, and the hash of what was taken."""
    pack = make_pack(ledger, place, tmp_path / "pack")
    event = events(ledger)[-1]
    assert (event["kind"], event["detail"]["by"], event["detail"]["reason"]) == (
        "audit.exported", "Ada", "quarterly review",
    )  # fmt: skip
    assert event["detail"]["after"]["manifest_sha256"] == pack.manifest_sha256


def test_a_zip_is_checked_without_being_unpacked(
    ledger: Ledger, place: Checkpointing, tmp_path: Path, pack: Path
) -> None:
    """One file to hand over; only its owner may read it here."""
    populate(ledger)
    made = make_pack(ledger, place, tmp_path / "pack.zip")
    assert (tmp_path / "pack.zip").stat().st_mode & 0o777 == 0o600
    told = "--manifest-sha256", made.manifest_sha256
    done = check(tmp_path / "pack.zip", *told, program=pack / "verify_evidence.py")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "The evidence holds.")


def test_nothing_is_overwritten_and_nothing_is_left_behind(
    ledger: Ledger, place: Checkpointing, tmp_path: Path
) -> None:
    """A pack that is there may be somebody's evidence."""
    (tmp_path / "pack").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(EvidenceRefused, match="not overwritten"):
        write_pack(ledger, place, request(), tmp_path / "pack")
    assert sorted(tmp_path.iterdir()) == before


def test_the_population_is_complete_and_safe_to_open(pack: Path) -> None:
    """Amounts with their currency; a name that a spreadsheet would run is text; rows in = rows out."""
    with (pack / "population/source_files.csv").open(newline="") as stream:
        [file] = csv.DictReader(stream)
    assert (file["rows_total"], file["rows_in_equal_rows_out"], file["path"]) == ("4", "yes", "/outbound/=cmd.csv")
    with (pack / "population/invoices.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["amount"], row["currency"], row["bucket"]) for row in rows] == [
        ("123.45", "USD", "created"), ("123.45", "USD", "parked"),
    ]  # fmt: skip
    totals = json.loads((pack / "population/totals.json").read_text())
    assert totals["received"] == {"count": 2, "amounts": {"USD": "246.90"}, "unpriced": 0}
    assert totals["equation_faults"] == []


def test_formulas_in_names_are_text(ledger: Ledger, place: Checkpointing, tmp_path: Path) -> None:
    """The auditor opens the population in a spreadsheet."""
    with ledger.transaction() as transaction:
        file = add_file(transaction)
        add_invoice(transaction, InvoiceState.PARKED, file=file, reason="@SUM(1)", business_unit="=1+1")
    make_pack(ledger, place, tmp_path / "pack")
    text = (tmp_path / "pack/population/invoices.csv").read_text()
    assert "'=1+1" in text
    assert "'@SUM(1)" in text


def test_versions_and_operator_actions_are_in_it(pack: Path) -> None:
    """What the mapping was made with, and what people had done: who, why, before, after."""
    versions = json.loads((pack / "configuration/versions.json").read_text())
    assert versions["mapped_with"] == [{"crosswalks": CROSSWALKS, "profile": "p@1"}]
    [crosswalk] = versions["crosswalks"]
    assert (pack / crosswalk["file"]).read_bytes() == b"stampli,fusion\nV1,100\n"
    assert versions["layouts"][0]["layout"] == "plain"
    [line] = (pack / "operator_actions.jsonl").read_text().splitlines()
    detail = json.loads(line)["detail"]
    assert [detail[name] for name in ("by", "approved_by", "reason")] == ["Ada", "Grace", "two sites"]
    assert (detail["before"], detail["after"]) == ({"state": "PARKED"}, {"state": "RECEIVED"})


FILES = (
    "README.txt", "manifest.json", "manifest.sha256", "manifest.sig", "control_results.json", "operator_actions.jsonl",
    "population/source_files.csv", "population/invoices.csv", "population/exported_files.csv",
    "population/totals.json", "configuration/settings.json", "configuration/versions.json",
    f"configuration/crosswalks/{CROSSWALKS}-vendors.csv", "trail/events.jsonl", "trail/chain.jsonl",
    "trail/checkpoints.jsonl", "verify_evidence.py",
)  # fmt: skip


def test_every_file_is_among_those_that_are_tampered_with(pack: Path) -> None:
    """The next test must not forget one."""
    assert sorted(FILES) == sorted(path.relative_to(pack).as_posix() for path in pack.rglob("*") if path.is_file())


@pytest.mark.parametrize("how", ["changed", "removed", "longer"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_tampered_with_is_found(made: tuple[Path, Pack], pack: Path, name: str, how: str) -> None:
    """By the auditor's own copy of the verifier."""
    path = pack / name
    content = path.read_bytes()
    if how == "removed":
        path.unlink()
    else:
        middle = len(content) // 2
        turned = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes(turned if how == "changed" else content + b"\n")
    done = check(pack, program=made[0] / "verify_evidence.py")
    expected = 2 if name == "manifest.json" and how == "removed" else 1
    assert done.returncode in {expected, 2 if name == "manifest.json" else 1}
    assert "The evidence holds" not in done.stdout


def test_a_file_that_was_put_in_is_found(pack: Path) -> None:
    """Whatever it says, it is no part of the evidence."""
    (pack / "population/more.csv").write_text("x\n")
    done = check(pack)
    assert done.returncode == 1
    assert "population/more.csv is not in the manifest: it was put in" in done.stdout


def rewritten(pack: Path) -> None:
    """The manifest made to fit what is there, as somebody does who knows how packs are made but has no key."""
    manifest = json.loads((pack / "manifest.json").read_text())
    for name in manifest["files"]:
        raw = (pack / name).read_bytes()
        manifest["files"][name] = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    raw = (json.dumps(manifest, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode()
    (pack / "manifest.json").write_bytes(raw)
    (pack / "manifest.sha256").write_text(f"{hashlib.sha256(raw).hexdigest()}  manifest.json\n")


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


@pytest.mark.parametrize("days", [(0, 3), (0, 1)])
def test_checkpoints_from_before_the_key_are_no_fault(
    ledger: Ledger, clock: HandClock, place: Checkpointing, tmp_path: Path, days: tuple[int, int]
) -> None:
    """A genuine pack of the months before there was a key: a later signed checkpoint proves them."""
    assert place.key is not None
    seal_with(ledger, checkpointing(tmp_path, signed=False), *"abcd")
    clock.now = WINDOW + dt.timedelta(days=2)
    take_new_key(ledger, place, APPROVAL)
    period = WINDOW - dt.timedelta(days=1), WINDOW + dt.timedelta(days=days[1])
    pack = write_pack(ledger, place, request(period=period), tmp_path / "pack")
    done = check(pack.place, "--key", place.key.key_id)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "checkpoints are not signed" in done.stdout


def test_a_pack_without_its_signatures_does_not_hold(pack: Path) -> None:
    """Checkpoints of a chain made anew cannot be signed; leaving all signatures away must not help."""
    path = pack / "trail/checkpoints.jsonl"
    lines = [json.loads(line) | {"key_id": None, "signature": None} for line in path.read_text().splitlines()]
    path.write_text("".join(canonical_json(line) + "\n" for line in lines))
    rewritten(pack)
    assert "has a signature although a key is in use" in check(pack).stdout


def test_a_pack_without_a_key_says_so(ledger: Ledger, tmp_path: Path) -> None:
    """It holds, and names what the auditor has to compare by hand."""
    populate(ledger)
    make_pack(ledger, checkpointing(tmp_path, signed=False), tmp_path / "pack")
    done = check(tmp_path / "pack")
    assert done.returncode == 0
    assert "Note: the manifest is not signed" in done.stdout
    assert "checkpoints are not signed" in done.stdout


def test_a_period_in_the_middle_is_tied_to_the_checkpoint_before_it(
    ledger: Ledger, clock: HandClock, place: Checkpointing, tmp_path: Path
) -> None:
    """The links in front are not in the pack; the signed checkpoint says what the first one follows."""
    for number in range(3):
        clock.now = WINDOW + dt.timedelta(days=number)
        write(ledger, *(f"day {number}, {n}" for n in range(5)))
        seal(ledger)
        make_checkpoints(ledger, place)
    period = (WINDOW + dt.timedelta(hours=20), WINDOW + dt.timedelta(hours=28))
    pack = write_pack(ledger, place, request(period=period), tmp_path / "pack")
    assert pack.links == (6, 10)
    assert check(pack.place).returncode == 0
    checkpoints = pack.place / "trail/checkpoints.jsonl"
    lines = checkpoints.read_text().splitlines(keepends=True)
    checkpoints.write_text("".join(line for line in lines if '"seq":5,' not in line))
    rewritten(pack.place)
    assert "no checkpoint says what link 5 was" in check(pack.place).stdout


def test_a_period_without_events_makes_a_pack_that_holds(ledger: Ledger, place: Checkpointing, tmp_path: Path) -> None:
    """Nothing happened is an answer too."""
    write(ledger, "a")
    early = (DAY[0] - dt.timedelta(days=9), DAY[0] - dt.timedelta(days=8))
    pack = make_pack(ledger, place, tmp_path / "pack", period=early)
    assert pack.events == 0
    done = check(pack.place)
    assert done.returncode == 0
    assert "Invoices: none" in done.stdout


def test_a_ledger_that_was_changed_makes_a_pack_that_does_not_hold(
    ledger: Ledger, place: Checkpointing, tmp_path: Path
) -> None:
    """The pack shows what is in the ledger; the proof fails where the ledger's does."""
    populate(ledger)
    seal(ledger)
    tamper(ledger, "update audit_event set actor = 'nobody' where id = 2")
    make_pack(ledger, place, tmp_path / "pack")
    done = check(tmp_path / "pack")
    assert done.returncode == 1
    assert "event 2 (link 2, " in done.stdout


def test_something_else_is_no_pack(tmp_path: Path, pack: Path) -> None:
    """Exit code 2, so that a wrong path is not taken for a broken proof."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/manifest.json").write_text("{}")
    for target in (tmp_path, tmp_path / "other", tmp_path / "absent"):
        done = check(target, program=pack / "verify_evidence.py")
        assert (done.returncode, done.stdout) == (2, "")


def test_two_files_of_one_name_in_a_zip_are_refused(pack: Path, tmp_path: Path) -> None:
    """One would be checked and the other shown."""
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.write(pack / "manifest.json", "manifest.json")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.write(pack / "README.txt", "manifest.json")
    assert check(tmp_path / "two.zip", program=pack / "verify_evidence.py").returncode == 2


def test_secrets_are_not_in_it(made: tuple[Path, Pack]) -> None:
    """References only, and public keys; the private key signs and stays away."""
    manifest = json.loads((made[0] / "manifest.json").read_text())
    [public] = manifest["keys"]
    assert len(base64.b64decode(public)) == 32
    assert "store:fusion/client_secret" in (made[0] / "configuration/settings.json").read_text()


def test_large_sums_are_exact(ledger: Ledger, place: Checkpointing, tmp_path: Path) -> None:
    """Nothing is a float on the way, on neither side."""
    minor = 9_007_199_254_740_993
    with ledger.transaction() as transaction:
        file = add_file(transaction)
        key = add_invoice(transaction, file=file)
        transaction.execute(
            sa.text("update invoice_occurrence set amount_minor = :minor where invoice_pk = :key"),
            [{"minor": minor, "key": key}],
        )
        invoices.file_was_read(
            transaction, file, rows_total=2, rows_in_invoices=2, rows_quarantined=0, invoices=1,
            amounts_minor={"USD": minor},
        )  # fmt: skip
    make_pack(ledger, place, tmp_path / "pack")
    done = check(tmp_path / "pack")
    assert f"Amounts: {Decimal(minor).scaleb(-2)} USD" in done.stdout
    assert done.returncode == 0
