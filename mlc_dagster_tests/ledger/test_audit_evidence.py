"""Evidence packs: an auditor checks one with a bare Python, and whatever was changed in it is found."""

import base64
import csv
import datetime as dt
import json
import shutil
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import invoices
from mlc_dagster.ledger.audit import seal
from mlc_dagster.ledger.audit_sealing import make_checkpoints, take_new_key
from mlc_dagster.ledger.checkpoints import Checkpointing
from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.ledger.evidence import EvidenceRefused, Pack, write_pack
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.types import canonical_json
from mlc_dagster_tests.ledger.checkpointed import APPROVAL, checkpointing, seal_with, tamper, write
from mlc_dagster_tests.ledger.packs import CROSSWALKS, DAY, check, make_pack, populate, request, rewritten
from mlc_dagster_tests.ledger.population import WINDOW, HandClock, add_file, add_invoice, events
from mlc_dagster_tests.servers.ledgers import new_file as new_ledger


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
