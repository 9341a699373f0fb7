"""``mlc exports restart``, ``moved``, ``after-restore``: what they print, and how they end."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_dagster.ledger.database import open_ledger
from mlc_dagster_tests.cli.conftest import json_of, run_mlc
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_account, partner_rehearsal

ONE = ("--by", "Ann Lee", "--reason", "the partner said so on the phone")
BOTH = (*ONE, "--approved-by", "Bo Ek")
DEBIT = "101-4410-61200-000-000-000"
CREDIT = "101-0000-22100-000-000-000"


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[PartnerRehearsal]:
    """One journal was delivered; ``backup.sqlite`` is the ledger before that."""
    with partner_rehearsal(tmp_path) as running:
        running.stand_still()
        running.poll("journals")
        file = running.folder / "data" / "ledger.sqlite"
        running.ledger.close()
        shutil.copyfile(file, running.folder / "backup.sqlite")
        running.ledger = open_ledger(f"sqlite:///{file}")
        running.world.add_journal_batch("A", lines=[(DEBIT, "100.00", None), (CREDIT, None, "100.00")])
        running.poll("journals")
        yield running


def exports(remote: PartnerRehearsal, *arguments: str) -> Any:
    return run_mlc("--config", remote.config, "exports", *arguments)


def restore(remote: PartnerRehearsal) -> None:
    file = remote.folder / "data" / "ledger.sqlite"
    remote.ledger.close()
    for path in file.parent.glob("ledger.sqlite*"):
        path.unlink()
    shutil.copyfile(remote.folder / "backup.sqlite", file)
    remote.ledger = open_ledger(f"sqlite:///{file}")


def elsewhere(remote: PartnerRehearsal) -> None:
    (remote.inbox.parent / "other").mkdir()
    remote.change_feed("journals", sftp=partner_account(remote.sftp) | {"directory": "/other"})


def test_restart(remote: PartnerRehearsal) -> None:
    """Says how much the next run sends again."""
    elsewhere(remote)
    assert json_of(exports(remote, "restart", "journals", *BOTH, "--json")) == {"feed": "journals", "records": 1}
    remote.poll("journals")
    assert len(list((remote.inbox.parent / "other").iterdir())) == 1


def test_moved(remote: PartnerRehearsal) -> None:
    """Says from where to where."""
    elsewhere(remote)
    done = exports(remote, "moved", "journals", *ONE)
    assert done.exit_code == 0
    assert "directory /inbound → /other" in done.output
    again = exports(remote, "moved", "journals", *ONE)
    assert again.exit_code == 2
    assert "mlc.yaml names the place" in again.output


def test_after_restore(remote: PartnerRehearsal) -> None:
    """Shows each file with what lies on the server; asked again it says that there is nothing left to do."""
    restore(remote)
    done = exports(remote, "after-restore", *BOTH)
    assert done.exit_code == 0
    assert "In the ledger again: 1" in done.output
    again = exports(remote, "after-restore", "--feed", "journals", *BOTH)
    assert "nothing was changed" in again.output


def test_after_restore_tells_what_it_rests_on(remote: PartnerRehearsal) -> None:
    """Partners take files: that the journal alone speaks for one is said, and two people may want more."""
    for path in remote.inbox.iterdir():
        path.unlink()
    restore(remote)
    done = exports(remote, "after-restore", *BOTH)
    assert done.exit_code == 0
    assert "1 of them count as delivered by the delivery journal alone" in done.output
    restore(remote)
    asked = exports(remote, "after-restore", "--ask-partner", *BOTH, "--json")
    assert asked.exit_code == 1
    assert '"rests_on": "nothing yet: journal and server do not agree"' in asked.output


def test_after_restore_names_a_restart(remote: PartnerRehearsal) -> None:
    """Who said it, and what the next run does because of it."""
    exports(remote, "restart", "journals", *BOTH)
    restore(remote)
    done = exports(remote, "after-restore", *BOTH)
    assert done.exit_code == 0
    text = " ".join(done.output.split())
    assert "restart number 1, by Ann Lee and Bo Ek" in text
    assert "holds again: 1 records counted as delivered before it, and do no more" in text


def test_after_restore_with_an_open_end(remote: PartnerRehearsal) -> None:
    """Exit code 1: somebody must ask the partner what arrived."""
    restore(remote)
    (entry,) = (remote.folder / "data" / "journal" / "journals").glob("*.jsonl")
    lines = entry.read_bytes().splitlines(keepends=True)
    entry.write_bytes(b"".join(lines[:-1]))
    for path in remote.inbox.iterdir():
        path.unlink()
    done = exports(remote, "after-restore", *BOTH, "--json")
    assert done.exit_code == 1
    assert '"state": "UNKNOWN"' in done.output


@pytest.mark.parametrize("command", [("restart", "journals"), ("moved", "journals"), ("after-restore",)])
def test_a_reason_is_needed(remote: PartnerRehearsal, command: tuple[str, ...]) -> None:
    """It goes on record; nothing is changed without."""
    approved = () if command[0] == "moved" else ("--approved-by", "Bo Ek")
    done = exports(remote, *command, "--by", "Ann Lee", *approved, "--reason", " ")
    assert done.exit_code == 2
    assert "--reason" in done.output


def test_a_feed_without_a_journal(remote: PartnerRehearsal) -> None:
    """A slip of the pen is told from a feed that needs nothing."""
    done = exports(remote, "after-restore", "--feed", "journal", *BOTH)
    assert done.exit_code == 2
    assert "there are: journals" in done.output
