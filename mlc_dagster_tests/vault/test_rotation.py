"""Keys change while everything goes on: no process ever misses a value, no secret stays behind with an old key."""

import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from mlc_dagster.vault import SecretError
from mlc_dagster.vault.keys import key_id, new_key
from mlc_dagster_tests.vault.rooms import AT, change_rows, opened, store_in

ROOT = Path(__file__).resolve().parents[2]


def started(stack: ExitStack, work: str, folder: Path, name: str) -> "subprocess.Popen[str]":
    """A busy process that has done its work once."""
    command = [sys.executable, "-m", "mlc_dagster_tests.vault.busy", work, str(folder), name]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    stack.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n", process.stderr and process.stderr.read()
    return process


def test_readers_and_writers_in_other_processes_never_miss_a_value(tmp_path: Path) -> None:
    """A run that posts invoices must not fail because somebody changed a key; nor may a new secret get lost."""
    names = [f"s{number:03}" for number in range(120)]  # More than one transaction of a rotation.
    store = opened(tmp_path, **{name: f"value-of-{name}" for name in names})
    with ExitStack() as stack:
        busy = [
            started(stack, "read", tmp_path, "s000"),
            started(stack, "read", tmp_path, "s119"),
            started(stack, "write", tmp_path, "s060"),
        ]
        rotations = [store.rotate(by="anna", at=AT, drop_old=True) for _ in range(12)]
        assert [done.unreadable for done in rotations] == [()] * 12
        for process in busy:
            output, errors = process.communicate("stop\n", timeout=60)
            assert (process.returncode, errors) == (0, "")
            assert int(output) > 1
    assert store.keys.read().ids == (rotations[-1].newest,)
    assert [store.get(name).startswith(f"value-of-{name}") for name in names] == [True] * 120


def test_two_rotations_at_once_leave_every_secret_readable(tmp_path: Path) -> None:
    """Two people, or a person and a schedule: neither may take away the key the other has just sealed with."""
    store = opened(tmp_path, **{f"s{number:03}": f"value-{number}" for number in range(150)})
    faults: list[BaseException] = []

    def rotate() -> None:
        try:
            for _ in range(4):
                store_in(tmp_path).rotate(by="anna", at=AT, drop_old=True)
        except SecretError as error:
            faults.append(error)

    threads = [threading.Thread(target=rotate) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert [entry.fault for entry in store.entries()] == [None] * 150


def test_old_keys_are_kept_unless_asked(tmp_path: Path) -> None:
    """Yesterday's backup of the store needs yesterday's key."""
    store = opened(tmp_path, secret="hunter2")
    first = store.keys.read().newest
    done = store.rotate(by="anna", at=AT)
    assert (done.moved, done.dropped, done.not_needed) == (1, (), (first,))
    assert store.keys.read().ids == (done.newest, first)
    assert [entry.key_id for entry in store.entries()] == [done.newest]


def test_every_row_moves_so_that_old_keys_can_go(tmp_path: Path) -> None:
    """The trap of other products: the key is replaced and the rows are not."""
    store = opened(tmp_path, **{f"s{number:03}": f"value-{number}" for number in range(250)})
    first = store.keys.read().newest
    done = store.rotate(by="anna", at=AT, drop_old=True)
    assert (done.moved, done.dropped) == (250, (first,))
    assert store.keys.read().ids == (done.added,)
    assert store.get("s249") == "value-249"


def test_row_that_lies_about_its_key_is_moved_too(tmp_path: Path) -> None:
    """The id beside a row is no proof; dropping by it alone would lose the value."""
    store = opened(tmp_path, secret="hunter2")
    added = store.keys.add(note="test")
    change_rows(store, "update secret set key_id = ?", added)
    store.rotate(by="anna", at=AT, drop_old=True)
    assert store.get("secret") == "hunter2"


def test_unreadable_row_keeps_its_key_and_stops_nothing(tmp_path: Path) -> None:
    """It may be mended from a backup, which needs the key that it names."""
    store = opened(tmp_path, bad="hunter-bad", good="hunter-good")
    first = store.keys.read().newest
    change_rows(store, "update secret set sealed = x'00' where name = 'bad'")
    done = store.rotate(by="anna", at=AT, drop_old=True)
    assert [(entry.name, entry.key_id) for entry in done.unreadable] == [("bad", first)]
    assert (done.moved, done.dropped) == (1, ())
    assert first in store.keys.read().ids
    assert store.get("good") == "hunter-good"


def test_rotation_is_on_record_and_keeps_who_set_what(tmp_path: Path) -> None:
    """The value is as old as it was; only its seal is new."""
    store = opened(tmp_path, secret="hunter2")
    done = store.rotate(by="ben", at=AT)
    assert [(change.kind, change.by, change.key_id) for change in store.changes()][-1] == (
        "secret.keys_rotated",
        "ben",
        done.newest,
    )
    assert [entry.changed_by for entry in store.entries()] == ["anna"]


def test_keys_in_the_environment_are_changed_by_people(tmp_path: Path) -> None:
    """The product cannot write there: it seals with the first key, and says which are not needed any more."""
    old, new = str(new_key()), str(new_key())
    store_in(tmp_path, {"MLC_SECRET_KEYS": old}).put("secret", "hunter2", by="anna", at=AT)
    store = store_in(tmp_path, {"MLC_SECRET_KEYS": f"{new},{old}"})
    done = store.rotate(by="anna", at=AT, drop_old=True)
    assert (done.added, done.newest, done.moved) == (None, key_id(new), 1)
    assert (done.dropped, done.not_needed) == ((), (key_id(old),))
    assert store_in(tmp_path, {"MLC_SECRET_KEYS": new}).get("secret") == "hunter2"
    assert not store.keys.path.exists()


def test_key_file_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    """Half a rotation would be the one thing worse than none."""
    store = opened(tmp_path, secret="hunter2")
    before = store.keys.read().ids
    store.keys.path.write_text(store.keys.path.read_text() + "nonsense\n")
    with pytest.raises(SecretError, match="line 4 is not 32 bytes"):
        store.rotate(by="anna", at=AT)
    store.keys.path.write_text(store.keys.path.read_text().removesuffix("nonsense\n"))
    assert store.keys.read().ids == before
    assert [change.kind for change in store.changes()] == ["secret.set"]
