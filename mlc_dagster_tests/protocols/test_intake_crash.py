"""A run killed at any moment of intake: the next one finishes it, and every row and invoice is entered exactly once."""

import signal
import subprocess
import sys

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger.schema import invoice, invoice_occurrence
from mlc_dagster.ledger.windows import RunWanted
from mlc_dagster.stampli.intake.receiving import receive_files
from mlc_dagster_tests.protocols.intake import Rows, bill, drop, file_states, files, prove_books
from mlc_dagster_tests.servers.rehearsal import Rehearsal


def _killed(flow: Rehearsal, wanted: RunWanted, place: str) -> None:
    arguments = (str(flow.config), str(flow.clock.offset.total_seconds()), wanted.partition_key)
    ended = subprocess.run(
        [sys.executable, "-m", "mlc_dagster_tests.protocols.dying_run", *arguments, str(wanted.generation), place],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def _appearances(flow: Rehearsal) -> tuple[int, int]:
    with flow.ledger.reading() as reading:
        invoices = reading.value(sa.select(sa.func.count()).select_from(invoice))
        occurrences = reading.value(sa.select(sa.func.count()).select_from(invoice_occurrence))
    return invoices, occurrences


@pytest.mark.parametrize(
    ("place", "state"),
    [("after download", "ASSIGNED"), ("after archive", "ASSIGNED")],
)
def test_a3_a_kill_between_download_and_ledger_loses_nothing(flow: Rehearsal, place: str, state: str) -> None:
    """Bytes before the ledger's word: whatever was not said is done again, once."""
    drop(flow, 1, bill("1", "10.00"))
    drop(flow, 2, bill("2", "20.00"))
    (wanted,) = flow.poll_settled().runs
    _killed(flow, wanted, place)
    assert file_states(flow) == [state, state]
    # The process is gone, so nobody waits for its lease.
    (again,) = flow.poll().runs
    assert (again.generation, again.attempt) == (wanted.generation, wanted.attempt + 1)
    flow.run(again)
    assert file_states(flow) == ["READ", "READ"]
    assert _appearances(flow) == (2, 2)
    prove_books(flow, "N-1", "N-2")
    assert len(list(flow.inbound.archive.entries())) == 2
    flow.clock.advance(60)
    assert flow.poll_settled().runs == ()
    # What the killed run had in transit is swept away by a later one.
    flow.clock.advance(2 * 86_400)
    drop(flow, 3, bill("3", "30.00"))
    flow.process()
    assert list(flow.inbound.scratch.iterdir()) == []


def test_a3_a_file_that_the_archive_lost_is_fetched_again_and_holds_up_no_other(flow: Rehearsal) -> None:
    """A damaged disk between receiving and reading: one file waits on the server, the rest of the window is posted."""
    drop(flow, 1, bill("1", "10.00"))
    drop(flow, 2, bill("2", "20.00"))
    drop(flow, 3, bill("3", "30.00"))
    (wanted,) = flow.poll_settled().runs
    inbound = flow.inbound
    receive_files(
        inbound.ledger, inbound.open_session, inbound.archive, inbound.stampli, inbound.profile, files(flow),
        journal=inbound.received_journal, scratch=inbound.scratch, progress=lambda count: None,
    )  # fmt: skip
    lost, damaged, _ = (flow.inbound.archive.path(str(row["sha256"])) for row in files(flow))
    lost.unlink()
    damaged.chmod(0o640)
    damaged.write_bytes(b"other bytes")
    (received, _, _) = flow.run(wanted)
    assert [reading.released is not None for reading in received.readings] == [True, True, False]
    assert file_states(flow) == ["RELEASED", "RELEASED", "READ"]
    assert "is missing" in files(flow)[0]["reason"]
    assert "holds other bytes" in files(flow)[1]["reason"]
    prove_books(flow, "N-3")
    flow.process()
    assert file_states(flow) == ["READ", "READ", "READ"]
    prove_books(flow, "N-1", "N-2", "N-3")


def test_a6_a_kill_in_the_middle_of_a_large_file_enters_each_invoice_once(flow: Rehearsal) -> None:
    """The first 500 invoices are committed, the rest is not; a quarantined row is on either side."""
    foreign: list[Rows] = [bill(f"9{n:04}", "1.00", company_id="C999") for n in range(1_100)]
    name = drop(flow, 1, bill("1", "10.00"), *foreign, bill("2", "20.00"))
    path = flow.outbound / name
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"ragged,row\n", *lines[3:900], b"ragged,too\n", *lines[900:]]))
    (wanted,) = flow.poll_settled().runs
    _killed(flow, wanted, "in reading")
    entered, _ = _appearances(flow)
    assert 0 < entered < 1_102
    assert file_states(flow) == ["RECEIVED"]
    for again in flow.poll().runs:
        flow.run(again)
    row = files(flow)[0]
    assert (row["rows_total"], row["rows_in_invoices"], row["rows_quarantined"]) == (1_104, 1_102, 2)
    assert _appearances(flow) == (1_102, 1_102)
    prove_books(flow, "N-1", "N-2")
