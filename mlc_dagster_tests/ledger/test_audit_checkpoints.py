"""Checkpoints: that the chain's newest part is gone, or was made anew, is what the second place shows."""

import json
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from sqlalchemy.exc import DBAPIError

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.audit import seal, verify
from mlc_dagster.ledger.audit_sealing import make_checkpoints, seal_and_checkpoint
from mlc_dagster.ledger.checkpoints import (
    Checkpoint,
    CheckpointFile,
    Checkpointing,
    CheckpointRefused,
    KeyRing,
    SigningKey,
    SigningKeyUnusable,
)
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.settings import Settings
from mlc_dagster.settings_file import parse_settings
from mlc_dagster.vault import SecretResolver
from mlc_dagster_tests.ledger.checkpointed import checkpointing, give_numbers_back, seal_with, tamper, write
from mlc_dagster_tests.ledger.population import events, race


@pytest.fixture
def place(tmp_path: Path) -> Checkpointing:
    """A second place that takes a signed checkpoint every three events."""
    return checkpointing(tmp_path)


def kept(place: Checkpointing) -> list[int]:
    return [checkpoint.seq for checkpoint in place.file.read()[0]]


def test_a_checkpoint_every_n_events_and_at_the_end_of_the_sealing(ledger: Ledger, place: Checkpointing) -> None:
    """A sealing that crossed a mark ends with one, so that its whole work is covered."""
    assert seal_with(ledger, place, *"ab") == 0
    assert seal_with(ledger, place, *"cdefg") == 3
    assert kept(place) == [3, 6, 7]
    assert seal_with(ledger, place, "h") == 0
    assert seal_with(ledger, place, "i") == 1
    assert kept(place) == [3, 6, 7, 9]
    found = verify(ledger, place)
    assert (found.faults, found.notes) == ((), ())
    assert (found.checkpoints.count, found.checkpoints.signed) == (4, 4)


def test_checkpoints_are_in_the_ledger_and_in_the_second_place(ledger: Ledger, place: Checkpointing) -> None:
    """The same lines; what is missing in one is seen by the other."""
    seal_with(ledger, place, *"abc")
    with ledger.reading() as reading:
        [row] = reading.rows(sa.select(schema.audit_checkpoint))
    assert [Checkpoint.of(row)] == place.file.read()[0]
    assert stat.S_IMODE(place.file.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("verb", ["update", "delete"])
def test_the_database_refuses_to_change_a_checkpoint(ledger: Ledger, place: Checkpointing, verb: str) -> None:
    """As append-only as the events."""
    seal_with(ledger, place, *"abc")
    statement = "delete from audit_checkpoint" if verb == "delete" else "update audit_checkpoint set hash = 'x'"
    with pytest.raises(DBAPIError, match="append-only"), ledger.engine.begin() as connection:
        connection.execute(sa.text(statement))


def test_truncating_the_checkpoints_is_refused(ledger: Ledger, place: Checkpointing) -> None:
    """On PostgreSQL, where there is TRUNCATE."""
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no TRUNCATE")
    with pytest.raises(DBAPIError, match="append-only"), ledger.engine.begin() as connection:
        connection.execute(sa.text("truncate audit_checkpoint"))
    assert verify(ledger, place).faults == ()


def test_events_removed_from_the_end_are_found(ledger: Ledger, place: Checkpointing) -> None:
    """With their links and the ledger's own checkpoints: only the second place still knows of them."""
    seal_with(ledger, place, *"abcdefg")
    tamper(
        ledger,
        "delete from audit_checkpoint where seq > 3",
        "delete from audit_chain where seq > 4",
        "delete from audit_event where id > 4",
    )
    give_numbers_back(ledger)
    assert verify(ledger).faults == ()
    [fault] = verify(ledger, place).faults
    assert fault.startswith("links 5 to 7 were removed from the end: the checkpoint of ")
    assert fault.endswith("says that link 7 sealed event 7")


def test_the_newest_checkpoints_removed_in_both_places_are_not_found(ledger: Ledger, place: Checkpointing) -> None:
    """What this does not stop: the second place must be where lines can only be added."""
    seal_with(ledger, place, *"abc")
    lines = place.file.path.read_text()
    seal_with(ledger, place, *"def")
    place.file.path.write_text(lines)
    tamper(
        ledger,
        "delete from audit_checkpoint where seq > 3",
        "delete from audit_chain where seq > 3",
        "delete from audit_event where id > 3",
    )
    give_numbers_back(ledger)
    assert verify(ledger, place).faults == ()


def test_a_chain_built_anew_is_found(ledger: Ledger, place: Checkpointing) -> None:
    """Every link of it is good; it is another chain than the one that was signed."""
    seal_with(ledger, place, *"abcdef")
    tamper(
        ledger,
        "delete from audit_checkpoint",
        "delete from audit_chain",
        "update audit_event set actor = 'nobody' where id = 2",
    )
    seal(ledger)
    assert verify(ledger).faults == ()
    faults = verify(ledger, place).faults
    assert len(faults) == 2
    assert faults[0].startswith("link 3 is not what the checkpoint of ")


def test_a_rebuilt_chain_gets_no_signature(ledger: Ledger, place: Checkpointing) -> None:
    """The next run would otherwise sign what somebody made up, and the signature would speak for it."""
    seal_with(ledger, place, *"abc")
    tamper(
        ledger,
        "delete from audit_checkpoint",
        "delete from audit_chain",
        "update audit_event set actor = 'nobody' where id = 2",
    )
    before = place.file.path.read_bytes()
    with pytest.raises(CheckpointRefused, match=r"link 3 .* has another hash; run `mlc audit verify`"):
        seal_with(ledger, place, *"def")
    assert place.file.path.read_bytes() == before


@pytest.mark.parametrize("name", ["seq", "event_id", "hash", "at"])
def test_a_changed_checkpoint_is_found(ledger: Ledger, place: Checkpointing, name: str) -> None:
    """Every field is under the signature."""
    seal_with(ledger, place, *"abc")
    line = json.loads(place.file.path.read_text())
    line[name] = {"seq": 2, "event_id": 2, "hash": "0" * 64, "at": "2026-03-02T08:00:00.000000Z"}[name]
    place.file.path.write_text(json.dumps(line) + "\n")
    assert any("has a signature that is not of SHA256:" in fault for fault in verify(ledger, place).faults)


def test_a_checkpoint_of_another_key_is_found(ledger: Ledger, place: Checkpointing, tmp_path: Path) -> None:
    """Whoever rebuilds everything can sign it too, but not with our key."""
    seal_with(ledger, checkpointing(tmp_path), *"abc")
    faults = verify(ledger, place).faults
    assert len(faults) == 2
    assert "neither the signing key nor among audit.public_keys" in faults[0]


def test_old_keys_are_believed_while_they_are_listed(ledger: Ledger, place: Checkpointing, tmp_path: Path) -> None:
    """After a rotation the old checkpoints must still hold."""
    seal_with(ledger, place, *"abc")
    new = checkpointing(tmp_path)
    assert new.key is not None
    assert place.key is not None
    both = Checkpointing(new.file, new.every, new.key, KeyRing([place.key.public_key, new.key.public_key]))
    seal_with(ledger, both, *"def")
    assert verify(ledger, both).faults == ()


def test_unsigned_checkpoints_hold_and_are_counted_as_such(ledger: Ledger, tmp_path: Path) -> None:
    """Better than none; the report tells how many are signed."""
    place = checkpointing(tmp_path, signed=False)
    seal_with(ledger, place, *"abc")
    found = verify(ledger, place)
    assert (found.faults, found.checkpoints.count, found.checkpoints.signed) == ((), 1, 0)


def test_an_unsigned_checkpoint_after_signed_ones_is_found(ledger: Ledger, place: Checkpointing) -> None:
    """Otherwise leaving the signature away would be the way around it."""
    seal_with(ledger, place, *"abc")
    seal_with(ledger, Checkpointing(place.file, place.every), *"def")
    faults = verify(ledger, place).faults
    assert len(faults) == 2
    assert "the checkpoint of link 6" in faults[0]
    assert "has no signature" in faults[0]


def test_checkpoints_missing_in_the_second_place_are_found(ledger: Ledger, place: Checkpointing) -> None:
    """The ledger's own copy shows what was deleted there."""
    seal_with(ledger, place, *"abcdef")
    lines = place.file.path.read_text().splitlines(keepends=True)
    place.file.path.write_text(lines[0])
    [fault] = verify(ledger, place).faults
    assert "lacks 1 of 2 checkpoints that the ledger keeps, the first of link 6" in fault


def test_an_overdue_checkpoint_is_found(ledger: Ledger, place: Checkpointing) -> None:
    """Deleting all checkpoints everywhere must not look like a ledger that never had any."""
    write(ledger, *"abcd")
    seal(ledger)
    [fault] = verify(ledger, place).faults
    assert fault.startswith("links 1 to 4 have no checkpoint, which is due every 3")
    assert make_checkpoints(ledger, place) == 2
    assert verify(ledger, place).faults == ()


def test_a_line_cut_short_by_a_power_cut_swallows_nothing(ledger: Ledger, place: Checkpointing) -> None:
    """The next checkpoint begins on a line of its own; the torn one is noted."""
    seal_with(ledger, place, *"abc")
    with place.file.path.open("a") as stream:
        stream.write('{"at":"2026-03')
    seal_with(ledger, place, *"def")
    found = verify(ledger, place)
    assert found.faults == ()
    assert found.notes == (f"{place.file.path}: line 2 is no checkpoint (cut short?)",)


def test_a_process_that_dies_between_file_and_ledger_leaves_nothing_wrong(
    ledger: Ledger, place: Checkpointing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is first: a line too much is repeated by the next sealing, a line too few would look like tampering."""

    class Died(BaseException): ...

    def die(file: CheckpointFile, made: object) -> None:
        append(file, made)  # type: ignore[arg-type]
        raise Died

    append = CheckpointFile.append
    monkeypatch.setattr(CheckpointFile, "append", die)
    with pytest.raises(Died):
        seal_with(ledger, place, *"abc")
    monkeypatch.setattr(CheckpointFile, "append", append)
    assert seal_with(ledger, place, "d") == 2
    assert kept(place) == [3, 3, 4]
    assert verify(ledger, place).faults == ()


def test_sealers_at_once_make_each_checkpoint_once(ledger: Ledger, place: Checkpointing) -> None:
    """Runs that end together must not argue about it."""
    write(ledger, *(str(n) for n in range(40)))
    seal(ledger)
    made = race([lambda: make_checkpoints(ledger, place)] * 5)
    assert max(made) == sum(made) == 14
    assert kept(place) == [*range(3, 40, 3), 40]
    assert verify(ledger, place).faults == ()


def test_a_symbolic_link_is_not_followed(ledger: Ledger, place: Checkpointing, tmp_path: Path) -> None:
    """The second place is written to by a process that may write elsewhere too."""
    place.file.folder.mkdir()
    place.file.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        seal_with(ledger, place, *"abc")
    assert not (tmp_path / "elsewhere").exists()


SETTINGS = """
fusion:
  base_url: http://127.0.0.1:1
  token_url: http://127.0.0.1:1/token
  client_id: client
  client_secret: env:MLC_TEST_SECRET
  scope: scope
  charts: {US1: {ledgers: [US], delimiter: "-", segments: [entity, account], natural_account: account}}
poll: {start: 2026-01-01}
data_dir: data
"""


def settings_of(root: Path, audit: str) -> Settings:
    return parse_settings(f"{SETTINGS}audit: {audit}\n", source="mlc.yaml", root=root, environ={})


def test_a_key_that_is_missing_stops_no_run_and_is_on_record(ledger: Ledger, tmp_path: Path) -> None:
    """The invoices are posted already; the trail says why there is no checkpoint, and the next sealing catches up."""
    settings = settings_of(tmp_path, '{signing_key: "env:MLC_TEST_SIGNING", checkpoint_every: 2}')
    write(ledger, *"abc")
    sealed = seal_and_checkpoint(ledger, settings, SecretResolver({}, tmp_path))
    assert (sealed.events, sealed.checkpoints) == (3, 0)
    assert sealed.problem is not None
    assert "MLC_TEST_SIGNING" in sealed.problem
    assert events(ledger)[-1]["kind"] == "audit.checkpoint_failed"
    key = SigningKey.generate()
    again = seal_and_checkpoint(ledger, settings, SecretResolver({"MLC_TEST_SIGNING": key.private_text()}, tmp_path))
    assert (again.events, again.checkpoints, again.problem) == (1, 2, None)
    assert (tmp_path / "data-checkpoints" / "audit-checkpoints.jsonl").exists()


def test_the_second_place_may_not_lie_in_the_data_folder(tmp_path: Path) -> None:
    """It would go with it, or be changed with it."""
    with pytest.raises(Exception, match=r"audit\.checkpoints: .*inside data_dir"):
        settings_of(tmp_path, "{checkpoints: data/checkpoints}")


def test_keys_are_read_as_base64_and_as_pem() -> None:
    """Ours, and those that openssl makes; nothing of a wrong one is shown."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    of_pem = SigningKey.from_text(pem)
    assert SigningKey.from_text(of_pem.private_text() + "\n").key_id == of_pem.key_id
    assert of_pem.private_text() not in repr(of_pem)
    rsa = generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for wrong in ("sesame", "c2VzYW1l", rsa.decode(), "-----BEGIN PRIVATE KEY-----\nsesame\n"):
        with pytest.raises(SigningKeyUnusable, match=r"audit\.signing_key") as refusal:
            SigningKey.from_text(wrong)
        assert "sesame" not in str(refusal.value)


def test_a_second_place_that_cannot_be_read_is_a_fault(ledger: Ledger, place: Checkpointing) -> None:
    """Not being able to compare is no agreement."""
    seal_with(ledger, place, *"abc")
    place.file.path.rename(place.file.path.with_suffix(".old"))
    place.file.path.mkdir()
    assert "the second place cannot be read" in verify(ledger, place).faults[0]
