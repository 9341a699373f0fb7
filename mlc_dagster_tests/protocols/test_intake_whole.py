"""A3: a file is read whole or not at all, and one that cannot be read holds up no other."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlc_dagster.sftp.errors import SftpError
from mlc_dagster_tests.protocols.intake import (
    bill,
    drop,
    file_states,
    files,
    outcomes,
    prove_books,
    served_faultily,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.stampli.builders import file_name, invoice_csv


def _grow(extra: bytes) -> Callable[[Path, int], None]:
    """Appends once, when the file is first read."""
    left = [extra]

    def before_read(path: Path, offset: int) -> None:
        if left:
            with path.open("ab") as stream:
                stream.write(left.pop())

    return before_read


def test_a3_a_file_that_grows_while_it_is_read_waits_and_is_then_read_whole(flow: Rehearsal) -> None:
    """Half an export would look like a whole one: it ends with a line end."""
    head, tail = invoice_csv(bill("1", "10.00")), invoice_csv(bill("2", "20.00")).split(b"\n", 1)[1]
    flow.drop(file_name(1), head)
    drop(flow, 2, bill("3", "30.00"))
    with served_faultily(flow) as server:
        once = _grow(tail)
        server.faults.before_read = lambda path, offset: once(path, offset) if path.name == file_name(1) else None
        flow.process()
        prove_books(flow, "N-3")
        assert file_states(flow) == ["RELEASED", "READ"]
        flow.process()
    prove_books(flow, "N-1", "N-2", "N-3")
    assert file_states(flow) == ["READ", "READ"]


def test_a3_a_file_without_its_final_line_end_waits(flow: Rehearsal) -> None:
    """A writer that paused looks settled; the profile's end rule tells the difference."""
    content = invoice_csv(bill("1", "10.00") + bill("2", "20.00"))
    path = flow.drop(file_name(1), content[:-5])
    (received, _, _) = flow.process()[0]
    assert "FILE_PARTIAL" in received.receipts[0].text
    prove_books(flow)
    path.write_bytes(content)
    flow.process()
    prove_books(flow, "N-1", "N-2")


def test_a3_names_in_flight_and_what_is_no_ordinary_file_are_ignored(flow: Rehearsal) -> None:
    """A temporary name, a directory or a link must never be read, nor stop the rest."""
    content = invoice_csv(bill("1", "10.00"))
    for suffix in (".part", ".tmp", ".filepart"):
        flow.drop(file_name(1) + suffix, content)
    flow.drop(f".{file_name(2)}", content)
    flow.drop("notes.txt", "hello\n")
    (flow.outbound / file_name(3)).mkdir()
    (flow.outbound / file_name(4)).symlink_to("/etc/hostname")
    assert flow.poll().ignored == 7
    assert flow.process() == []
    (flow.outbound / f"{file_name(1)}.part").rename(flow.outbound / file_name(1))
    flow.process()
    prove_books(flow, "N-1")


def test_a3_a_file_that_vanished_is_no_error_and_is_taken_when_it_appears_again(flow: Rehearsal) -> None:
    """A partner who withdraws a file must not stop the others; one who puts it back wants it read."""
    name = drop(flow, 1, bill("1", "10.00"))
    content = (flow.outbound / name).read_bytes()
    seen = (flow.outbound / name).stat()
    drop(flow, 2, bill("2", "20.00"))
    poll = flow.poll_settled()
    (flow.outbound / name).unlink()
    flow.run(poll.runs[0])
    prove_books(flow, "N-2")
    assert [row["reason"] for row in files(flow) if row["state"] == "VANISHED"] == [
        "FILE_VANISHED: gone before it was read"
    ]
    path = flow.drop(name, content)
    os.utime(path, (seen.st_atime, seen.st_mtime))
    flow.process()
    prove_books(flow, "N-1", "N-2")


def test_a3_a_file_that_is_empty_at_first_is_read_when_it_is_full(flow: Rehearsal) -> None:
    """Some servers show a name long before its bytes."""
    path = flow.drop(file_name(1), b"")
    assert flow.process() == []
    path.write_bytes(invoice_csv(bill("1", "10.00")))
    flow.process()
    prove_books(flow, "N-1")


def test_a3_a_file_that_stays_empty_waits_and_nothing_is_posted(flow: Rehearsal) -> None:
    """After its longer grace an empty file is looked at; it is not whole, so it waits."""
    flow.drop(file_name(1), b"")
    flow.poll()
    flow.clock.advance(601)
    for wanted in flow.poll().runs:
        flow.run(wanted)
    assert file_states(flow) == ["RELEASED"]
    prove_books(flow)


def test_a3_a_young_file_is_hashed_again_and_a_change_within_the_second_is_found(flow: Rehearsal) -> None:
    """SFTP times are whole seconds: a file may change once more without showing it."""
    flow.change_config({"stampli": {"settle_seconds": 0}})
    path = flow.outbound / drop(flow, 1, bill("1", "10.00"))
    poll = [flow.poll(), flow.poll()][1]
    flow.run(poll.runs[0])
    seen = path.stat()
    path.write_bytes(path.read_bytes().replace(b"10.00", b"90.00"))
    os.utime(path, (seen.st_atime, seen.st_mtime))
    assert path.stat().st_size == seen.st_size
    flow.clock.advance(5)
    flow.process()
    assert outcomes(flow, "1") == ["CURRENT", "PARKED REVISION_AFTER_POST"]
    prove_books(flow, "N-1")
    flow.clock.advance(60)
    assert flow.poll_settled().assigned == ()


def test_a3_a_young_file_that_did_not_change_is_hashed_again_once(flow: Rehearsal) -> None:
    """Also the second copy of a file, and also under a server clock that runs ahead: no version per poll for ever."""
    flow.change_config({"stampli": {"settle_seconds": 0}})
    ahead = time.time() + 86_400
    first = flow.outbound / drop(flow, 1, bill("1", "10.00"))
    second = flow.drop(file_name(2), first.read_bytes())
    for path in (first, second):
        os.utime(path, (ahead, ahead))
    for _ in range(4):
        flow.process()
        flow.clock.advance(60)
    assert file_states(flow) == ["READ", "SAME_BYTES"]
    assert flow.poll().assigned == ()
    prove_books(flow, "N-1")


def test_a3_a_name_that_is_not_utf8_does_not_stop_the_others(flow: Rehearsal) -> None:
    """One file named by an old Windows program used to end listings of every other file."""
    raw = os.fsencode(flow.outbound) + b"/stampli_invoices_C100_20261030T170000Z_00000\xe9.csv"
    Path(os.fsdecode(raw)).write_bytes(b"x\n")
    drop(flow, 1, bill("1", "10.00"))
    flow.process()
    prove_books(flow, "N-1")


def test_a3_a_file_that_may_not_be_read_holds_up_no_other(flow: Rehearsal) -> None:
    """One file with wrong rights on the server must not stop its window at every attempt."""

    def refuse(path: Path, offset: int) -> None:
        if path.name == file_name(1):
            raise PermissionError(13, "Permission denied", str(path))

    drop(flow, 1, bill("1", "10.00"))
    drop(flow, 2, bill("2", "20.00"))
    with served_faultily(flow) as server:
        server.faults.before_read = refuse
        (received, _, _) = flow.process()[0]
        assert "permission" in received.receipts[0].text
        prove_books(flow, "N-2")
        server.faults.before_read = lambda path, offset: None
        flow.process()
    prove_books(flow, "N-1", "N-2")


def test_a3_a_lost_connection_keeps_what_was_received_and_the_rest_follows(flow: Rehearsal) -> None:
    """The connection may end between two files: the first is not read twice, the second not lost."""
    drop(flow, 1, bill("1", "10.00"))
    drop(flow, 2, bill("2", "20.00"))
    with served_faultily(flow) as server:

        def cut(path: Path, offset: int) -> None:
            if path.name == file_name(2):
                server.faults.drop_on_read = 0

        server.faults.before_read = cut
        (wanted,) = flow.poll_settled().runs
        with pytest.raises(SftpError):
            flow.run(wanted)
        assert file_states(flow) == ["RECEIVED", "ASSIGNED"]
        server.faults.before_read = lambda path, offset: None
        server.faults.drop_on_read = None
        flow.clock.advance(61)
        (again,) = flow.poll().runs
        assert again.attempt == 2
        flow.run(again)
        assert len([path for path in server.opened if path.endswith(file_name(1))]) == 1
    prove_books(flow, "N-1", "N-2")
