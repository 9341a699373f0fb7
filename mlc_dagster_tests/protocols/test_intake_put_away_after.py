"""A5: what comes after a file was put away, or after an attempt that broke off or that our own side could not make."""

import datetime as dt
import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from mlc_dagster.ledger import disposal
from mlc_dagster.ledger.schema_retention import erased_payload
from mlc_dagster.stampli import transit
from mlc_dagster.stampli.inbound import FEED
from mlc_dagster.stampli.intake import disposing
from mlc_dagster.stampli.intake.disposing import Retried, dispose_files, retry_disposal
from mlc_dagster.stampli.parsing.profile import load_profile
from mlc_dagster_tests.protocols.intake import bill, drop, file_states, files, prove_books
from mlc_dagster_tests.protocols.test_intake_deliveries import (
    mark,
    marked,
    names_in,
    put_away,
    send_delivery,
    split,
)
from mlc_dagster_tests.protocols.test_intake_put_away_again import offline, stuck
from mlc_dagster_tests.protocols.test_intake_put_away_races import look_alike, processed
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.stampli.builders import file_name

__all__ = ["marked", "split", "stuck"]


def refusing(*_: object, **__: object) -> Any:
    """Our own disk, as it is full."""
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a5_a_full_disk_of_our_own_counts_as_a_failure(split: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The poll that tidies up goes on, and tries again when it is due, not at once."""
    send_delivery(split, 1, bill("1", "10.00"))
    split.process()
    split.change_config({"stampli": {"after_read": "delete"}})
    split.drop("stampli_1_20261121T100000Z_000002_manifest.json", b"{}")
    with monkeypatch.context() as patched:
        patched.setattr(transit.tempfile, "TemporaryDirectory", refusing)
        (told,) = retry_disposal(split.inbound).told
    assert "No space left" in told
    with split.ledger.reading() as reading:
        (failing,) = disposal.disposal_state(reading, FEED).failing.values()
    assert "No space left" in failing.text


def test_a5_a_process_killed_after_it_put_a_file_away_leaves_no_complaint(
    stuck: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is gone and noted as gone; only the note that it no longer fails is missing, and would be for good."""
    (stuck.outbound / "archive").mkdir()
    stuck.clock.advance(disposing.AGAIN_AFTER.total_seconds())

    def killed() -> None:
        monkeypatch.setattr(disposal, "end_turn", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        retry_disposal(stuck.inbound)

    assert in_a_child(killed) == signal.SIGKILL
    assert names_in(stuck) == []
    stuck.clock.advance(2 * disposing.TELL_AFTER.total_seconds())
    assert retry_disposal(stuck.inbound) == Retried()


def in_a_child(work: Any) -> int | None:
    """The signal that ended a process of its own which did ``work``; None where it ended by itself."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            sys.stderr.flush()
            os._exit(7)
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


def test_a5_a_file_that_looks_like_one_put_away_is_read(flow: Rehearsal) -> None:
    """The same name, size and time with other invoices: what was there before is gone, so this one is new."""
    row = processed(flow, "delete")
    assert dispose_files(flow.inbound, [row]) == []
    look_alike(flow, "2")
    flow.process()
    prove_books(flow, "N-1", "N-2")
    assert names_in(flow) == []


def test_a5_a_file_that_comes_back_is_put_away_again_and_read_once(flow: Rehearsal) -> None:
    """A folder restored by its owner: known by its bytes, one version, and gone once more."""
    path = flow.outbound / file_name(1)
    row = processed(flow, "delete")
    content = path.read_bytes()
    assert dispose_files(flow.inbound, [row]) == []
    path.write_bytes(content)
    os.utime(path, (row["mtime"], row["mtime"]))
    flow.process()
    assert (file_states(flow), names_in(flow)) == (["READ"], [])
    assert files(flow)[0]["disposed_at"] is not None
    prove_books(flow, "N-1")


def test_a5_an_erased_delivery_that_is_left_where_it_is_stays_known(split: Rehearsal) -> None:
    """Nobody knows which files it named, so it stays; read as a new one its bytes would be stored again."""
    send_delivery(split, 1, bill("1", "10.00"))
    split.process()
    split.change_config({"stampli": {"after_read": "delete"}})
    (row,) = [row for row in files(split) if row["state"] == "READ"]
    now = split.ledger.now()
    with split.ledger.transaction() as transaction:
        said = {"name": row["path"], "sha256": row["sha256"], "bytes": 1, "rule": "retention.source_files: 1d"}
        item = {"kind": "source_files", "item": str(row["id"]), "erased_at": now}
        transaction.execute(sa.insert(erased_payload), {**item, **said})
    tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    assert split.inbound.archive.erase(row["sha256"], "erased after a day", unused_since=tomorrow)
    assert dispose_files(split.inbound, [row]) == []
    assert len(names_in(split)) == 3
    assert split.poll_settled().assigned == ()
    assert split.inbound.archive.stat(row["sha256"]) is None


def test_a5_a_hidden_file_is_no_new_one_whatever_the_profile_says(flow: Rehearsal, tmp_path: Path) -> None:
    """A profile that takes every name would read it as a file of its own while it is put away."""
    document = load_profile("stampli_lines_v1").model_dump(mode="json", exclude_unset=True)
    document["file"] |= {"name": ".*", "in_flight": {"prefixes": [], "suffixes": [".new"]}}
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(document))
    flow.change_config({"stampli": {"profile": str(mine)}})
    row = processed(flow)
    put_away(flow, row, breaking=1, after=True)
    assert names_in(flow)[0].endswith(".mlc")
    assert flow.poll_settled().assigned == ()
    assert dispose_files(flow.inbound, [row]) == []
    assert names_in(flow) == []


def test_a5_a_marker_that_a_broken_attempt_took_is_given_to_the_newer_file(marked: Rehearsal) -> None:
    """It was written before its file, whose predecessor the sender had removed; the file would wait for ever."""
    drop(marked, 1, bill("1", "10.00"))
    mark(marked, 1)
    marked.process()
    marked.change_config({"stampli": {"after_read": "delete"}})
    (row,) = files(marked)
    (marked.outbound / file_name(1)).unlink()
    put_away(marked, row, breaking=1, after=True)
    drop(marked, 1, bill("2", "20.00"))
    assert put_away(marked, row) == ([], False)
    marked.process()
    prove_books(marked, "N-1", "N-2")
    assert names_in(marked) == []


@pytest.mark.parametrize("shape", ["flow", "split", "marked"])
def test_a5_what_a_broken_attempt_hid_gets_its_name_back_where_files_are_left_by_now(
    request: pytest.FixtureRequest, shape: str
) -> None:
    """Whoever changes mlc.yaml to ``leave`` after trouble expects the folder as the sender filled it."""
    flow: Rehearsal = request.getfixturevalue(shape)
    if shape == "split":
        send_delivery(flow, 1, bill("1", "10.00"))
    else:
        drop(flow, 1, bill("1", "10.00"))
    if shape == "marked":
        mark(flow, 1)
    before = names_in(flow)
    flow.process()
    flow.change_config({"stampli": {"after_read": "delete"}})
    row = next(row for row in files(flow) if row["state"] == "READ")
    put_away(flow, row, breaking=len(before), after=shape == "flow")
    assert [name for name in names_in(flow) if name.endswith(".mlc")] != []
    flow.change_config({"stampli": {"after_read": "leave"}})
    flow.clock.advance(disposing.AGAIN_AFTER.total_seconds())
    assert retry_disposal(flow.inbound) == Retried()
    assert names_in(flow) == before
    assert flow.poll_settled().assigned == ()
    assert retry_disposal(offline(flow.inbound)) == Retried()


def test_a5_a_newer_version_that_was_hidden_is_read_where_files_are_left_by_now(flow: Rehearsal) -> None:
    """It looked like its predecessor and was hidden in its stead: under its name again it must not pass for known."""
    row = processed(flow, "delete")
    look_alike(flow, "2")
    put_away(flow, row, breaking=1, after=True)
    flow.change_config({"stampli": {"after_read": "leave"}})
    flow.clock.advance(disposing.AGAIN_AFTER.total_seconds())
    (told,) = retry_disposal(flow.inbound).told
    assert "the next poll reads them" in told
    flow.process()
    prove_books(flow, "N-1", "N-2")


def test_a5_a_hidden_file_whose_name_is_taken_is_told_where_files_are_left_by_now(flow: Rehearsal) -> None:
    """It was processed, and it is the partner's: a person takes it away."""
    row = processed(flow, "delete")
    put_away(flow, row, breaking=1, after=True)
    (hidden,) = names_in(flow)
    drop(flow, 1, bill("2", "20.00"))
    flow.change_config({"stampli": {"after_read": "leave"}})
    flow.clock.advance(disposing.TELL_AFTER.total_seconds())
    (told,) = retry_disposal(flow.inbound).stuck
    assert hidden in told
    assert "another file has its name now" in told
    assert hidden in names_in(flow)
    (flow.outbound / hidden).unlink()
    flow.clock.advance(disposing.AGAIN_AFTER.total_seconds())
    assert retry_disposal(flow.inbound) == Retried()
