"""``mlc files recover`` and who tells that it is needed: `mlc doctor`, `mlc audit after-restore`."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster_tests.cli.conftest import BOTH, json_of, run_mlc
from mlc_dagster_tests.protocols.intake import bill, deliver
from mlc_dagster_tests.servers.rehearsal import Rehearsal, rehearsal
from mlc_dagster_tests.stampli.builders import file_name


@pytest.fixture
def restored(tmp_path: Path) -> Iterator[Rehearsal]:
    """A ledger from before a file that was read and deleted since; its entry is two hours old."""
    with rehearsal(tmp_path) as flow:
        flow.open_feed()
        flow.change_config({"stampli": {"after_read": "delete"}, "audit": {"checkpoint_every": 2}})
        place = flow.folder / "data" / "ledger.sqlite"
        flow.ledger.engine.dispose()
        shutil.copy(place, tmp_path / "backup.sqlite")
        deliver(flow, 1, bill("1", "10.00", vendor_id="99999"))
        flow.ledger.engine.dispose()
        for path in place.parent.glob("ledger.sqlite*"):
            path.unlink()
        shutil.copy(tmp_path / "backup.sqlite", place)
        age(flow, 7_200)
        yield flow


def age(flow: Rehearsal, seconds: float) -> None:
    """Let the archive's entries be so old."""
    then = time.time() - seconds
    for path in (flow.folder / "data" / "archive").rglob("*"):
        os.utime(path, (then, then))


def hashes(flow: Rehearsal) -> list[str]:
    return [stored.sha256 for stored in flow.inbound.archive.entries()]


def recover(flow: Rehearsal, *arguments: str) -> list[str]:
    return ["--config", str(flow.config), "files", "recover", *arguments, *BOTH]


def test_files_are_taken_in_and_said_to_be(restored: Rehearsal) -> None:
    """Who did it, on whose word and why is on record; a second time there is nothing to do."""
    done = run_mlc(*recover(restored, "--all"))
    assert done.exit_code == 0, done.stderr
    assert f"/outbound/{file_name(1)}: taken in" in done.stdout
    assert "run `mlc run inbound`" in done.stdout
    again = run_mlc(*recover(restored, "--all"))
    assert (again.exit_code, again.stdout) == (
        0,
        "The ledger knows every file that was received; nothing was changed.\n",
    )
    [file] = json_of(run_mlc("--config", restored.config, "files", "list", "--json"))["files"]
    assert (file["state"], file["sha256"]) == ("RECEIVED", hashes(restored)[0])


def test_one_is_named_by_how_its_hash_begins(restored: Rehearsal) -> None:
    """As `mlc doctor` shows it."""
    done = json_of(run_mlc(*recover(restored, hashes(restored)[0][:12], "--json")))
    assert done["files"] == [f"/outbound/{file_name(1)}"]
    assert (done["left"], done["nameless"], done["lost"], done["later"]) == ([], {}, [], None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name entries by their hash, or --all"),
        (["--all", "0123456789ab"], "name entries by their hash, or --all"),
        (["--all", "--as", "a.csv"], "--as goes with one hash"),
        (["01234567", "89abcdef", "--as", "a.csv"], "--as goes with one hash"),
        (["0123"], "write at least 8 characters"),
        (["0123456789ab"], "no such entry that the ledger does not know"),
    ],
)
def test_what_is_not_clear_changes_nothing(restored: Rehearsal, arguments: list[str], said: str) -> None:
    """It is about money: no guess."""
    done = run_mlc(*recover(restored, *arguments))
    assert done.exit_code == 2
    assert said in done.stderr
    assert json_of(run_mlc("--config", restored.config, "files", "list", "--json"))["files"] == []


def test_what_is_young_is_left_and_asked_for_again(restored: Rehearsal) -> None:
    """Directly after a restore "nothing to do" would be wrong."""
    age(restored, 600)
    done = run_mlc(*recover(restored, "--all"))
    assert done.exit_code == 1
    assert "ask again after" in done.stderr
    assert done.stdout == ""


def test_an_entry_that_nothing_names_is_listed(restored: Rehearsal) -> None:
    """With its hash, to be taken in under a name that a person knows."""
    restored.inbound.received_journal.path.unlink()
    done = run_mlc(*recover(restored, "--all"))
    assert done.exit_code == 0
    assert hashes(restored)[0] in done.stdout
    assert "HASH --as NAME" in done.stdout
    named = run_mlc(*recover(restored, hashes(restored)[0], "--as", file_name(1)))
    assert f"/outbound/{file_name(1)}: taken in" in named.stdout


def test_after_restore_tells_of_them(restored: Rehearsal) -> None:
    """Also where the trail itself has nothing to document: who restores a ledger runs it in any case."""
    made = run_mlc("audit", "keygen", "--out", restored.folder / "signing.key")
    assert made.exit_code == 0
    restored.change_config({"audit": {"signing_key": "file:signing.key"}})
    done = run_mlc("--config", restored.config, "audit", "after-restore", "--yes", *BOTH)
    assert done.exit_code == 2
    assert f"/outbound/{file_name(1)} (received " in done.stderr
    assert "mlc files recover --all" in done.stderr
    assert "nothing is lost that can be shown" in done.stderr
