"""A3: a file that was received, whose bytes the archive lost before they were read, and that the server has no more."""

import os
from typing import Any

import pytest

from mlc_dagster.stampli import steps
from mlc_dagster_tests.protocols.intake import bill, drop, file_states, files, prove_books
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.stampli.builders import file_name


@pytest.fixture
def lost(flow: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> Rehearsal:
    """One file was received; a damaged disk took its bytes, and its sender took the file away."""
    drop(flow, 1, bill("1", "10.00"))
    read_files = steps.read_files

    def after_the_loss(*given: Any, **how: Any) -> Any:
        (row,) = files(flow)
        flow.inbound.archive.path(row["sha256"]).unlink()
        (flow.outbound / file_name(1)).unlink()
        return read_files(*given, **how)

    with monkeypatch.context() as patched:
        patched.setattr(steps, "read_files", after_the_loss)
        flow.process()
    assert file_states(flow) == ["RELEASED"]
    return flow


def test_a3_a_lost_file_that_is_not_on_the_server_any_more_is_told(lost: Rehearsal) -> None:
    """Its window ended well and nothing waits in the folder: nobody else would ever speak of it."""
    lost.clock.advance(86_400)
    (told,) = lost.poll().newly_overdue
    assert told.path == f"/outbound/{file_name(1)}"
    assert "its bytes are lost and it is no longer on the server" in told.text
    again = lost.poll()
    assert (len(again.overdue), again.newly_overdue) == (1, ())


@pytest.mark.parametrize("name", [file_name(1), file_name(2)])
def test_a3_a_lost_file_that_is_sent_again_is_read_and_told_no_longer(lost: Rehearsal, name: str) -> None:
    """Under its own name or another one: what counts are its bytes."""
    drop(lost, 1, bill("1", "10.00"), name=name)
    lost.process()
    prove_books(lost, "N-1")
    assert lost.poll().overdue == ()


def test_a3_a_file_too_large_says_that_it_must_be_sent_again(flow: Rehearsal) -> None:
    """It is known as refused: a higher limit alone reads nothing that is there already."""
    flow.change_config({"stampli": {"max_file_bytes": 100}})
    drop(flow, 1, bill("1", "10.00"))
    flow.process()
    (row,) = files(flow)
    assert row["state"] == "REJECTED"
    assert "raise the limit and have it sent again" in row["reason"]
    flow.change_config({"stampli": {"max_file_bytes": 1_000_000}})
    flow.clock.advance(3600)
    drop(flow, 1, bill("1", "10.00"))
    later = row["mtime"] + 60
    os.utime(flow.outbound / file_name(1), (later, later))
    flow.process()
    prove_books(flow, "N-1")
