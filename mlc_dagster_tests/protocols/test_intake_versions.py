"""A4 and A5: what a file is, what a further version of it is, and when it may leave the server."""

import os
from pathlib import Path

import pytest

from mlc_dagster.fusion.errors import FusionError
from mlc_dagster.stampli.posting.sending import PostingStopped
from mlc_dagster_tests.protocols.intake import (
    bill,
    deliver,
    drop,
    events,
    file_states,
    files,
    invoice_row,
    outcomes,
    prove_books,
    stepwise,
    verdict,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.stampli.builders import file_name, invoice_csv


def test_a4_the_same_bytes_under_another_name_are_noted_and_not_posted_twice(flow: Rehearsal) -> None:
    """Partners send a file again under a new name when they doubt that it arrived."""
    name = drop(flow, 1, bill("1", "10.00"))
    flow.drop(file_name(2), (flow.outbound / name).read_bytes())
    flow.process()
    assert file_states(flow) == ["READ", "SAME_BYTES"]
    assert files(flow)[1]["reason"] == f"same bytes as /outbound/{name}"
    prove_books(flow, "N-1")


def test_a4_the_same_name_with_new_bytes_is_a_new_version(flow: Rehearsal) -> None:
    """Its new invoices are posted, its old ones are duplicates."""
    deliver(flow, 1, bill("1", "10.00"))
    deliver(flow, 1, bill("1", "10.00"), bill("2", "20.00"))
    assert [(row["path"], row["version"]) for row in files(flow)] == [(f"/outbound/{file_name(1)}", n) for n in (1, 2)]
    assert outcomes(flow, "1") == ["CURRENT", "DUPLICATE"]
    prove_books(flow, "N-1", "N-2")


def test_a4_a_file_that_goes_back_to_its_first_bytes_counts_again(flow: Rehearsal) -> None:
    """A wrong correction was taken back before anything was posted: what the folder shows last is what is meant."""
    for amount in ("10.00", "20.00", "10.00"):
        deliver(flow, 1, bill("1", amount, vendor_id="99999"))
    assert file_states(flow) == ["READ", "READ", "READ"]
    assert outcomes(flow, "1") == ["SUPERSEDED", "SUPERSEDED", "CURRENT"]
    assert (verdict(flow, "1"), invoice_row(flow, "1")["amount_minor"]) == ("PARKED VENDOR_UNKNOWN", 1000)
    prove_books(flow)


def test_a4_a_posted_file_that_goes_back_to_its_first_bytes_is_a_duplicate(flow: Rehearsal) -> None:
    """What Fusion holds is again what the folder shows; the revision in between stays with a person."""
    for amount in ("10.00", "20.00", "10.00"):
        deliver(flow, 1, bill("1", amount))
    assert file_states(flow) == ["READ", "READ", "READ"]
    assert outcomes(flow, "1") == ["CURRENT", "PARKED REVISION_AFTER_POST", "DUPLICATE"]
    prove_books(flow, "N-1")


def test_a4_a_file_that_stalled_and_grew_later_is_a_new_version(flow: Rehearsal) -> None:
    """A writer that paused at a line end for longer than the settling time: the rest must not be lost."""
    path = flow.outbound / drop(flow, 1, bill("1", "10.00"))
    flow.process()
    with path.open("ab") as stream:
        stream.write(invoice_csv(bill("2", "20.00")).split(b"\n", 1)[1])
    flow.process()
    prove_books(flow, "N-1", "N-2")


def test_a4_an_invoice_cut_in_two_by_a_stall_is_never_posted_in_part(flow: Rehearsal) -> None:
    """The first half of an invoice's lines does not add up to its header; the whole then takes its place."""
    content = invoice_csv(bill("1", "10.00", "20.00"))
    path = flow.drop(file_name(1), b"".join(content.splitlines(keepends=True)[:2]))
    flow.process()
    assert verdict(flow, "1") == "PARKED AMOUNT_MISMATCH"
    prove_books(flow)
    path.write_bytes(content)
    flow.process()
    assert outcomes(flow, "1") == ["SUPERSEDED", "CURRENT"]
    prove_books(flow, "N-1")


def test_a4_a_rejected_file_is_read_again_under_a_corrected_profile(flow: Rehearsal) -> None:
    """The remedy says: correct the profile and send the file again. The same bytes are then not "seen before"."""
    content = invoice_csv(bill("1", "10.00")).replace(b"invoice_amount", b"amount_due", 1)
    flow.drop(file_name(1), content)
    flow.process()
    assert file_states(flow) == ["REJECTED"]
    assert str(files(flow)[0]["reason"]).startswith("FILE_SCHEMA")
    shipped = Path(__file__).parents[2] / "mlc_dagster" / "stampli" / "profiles" / "stampli_lines_v1.yaml"
    own = shipped.read_text().replace("  invoice_amount: {field: amount", "  amount_due: {field: amount")
    (flow.folder / "own.yaml").write_text(own)
    flow.change_config({"stampli": {"profile": "./own.yaml"}})
    flow.drop(file_name(2), content)
    flow.process()
    assert file_states(flow) == ["REJECTED", "READ"]
    prove_books(flow, "N-1")


def test_a5_files_are_left_on_the_server_by_default(flow: Rehearsal) -> None:
    """Nobody's files are moved unless mlc.yaml says so."""
    name = drop(flow, 1, bill("1", "10.00"))
    flow.process()
    assert [path.name for path in flow.outbound.iterdir()] == [name]
    prove_books(flow, "N-1")


@pytest.mark.parametrize("after_read", ["archive", "delete"])
def test_a5_a_processed_file_is_put_away_only_after_the_commit(flow: Rehearsal, after_read: str) -> None:
    """While anything of its run is open the file must still be there."""
    flow.change_config({"stampli": {"after_read": after_read}})
    (flow.outbound / "archive").mkdir()
    name = drop(flow, 1, bill("1", "10.00"))
    content = (flow.outbound / name).read_bytes()
    flow.fusion.faults.add("revoked", method="POST", path="invoices", count=1)
    poll = flow.poll_settled()
    with pytest.raises((PostingStopped, FusionError)):
        flow.run(poll.runs[0])
    assert (flow.outbound / name).read_bytes() == content
    flow.clock.advance(61)
    for wanted in flow.poll().runs:
        flow.run(wanted)
    prove_books(flow, "N-1")
    assert [path.name for path in flow.outbound.iterdir()] == ["archive"]
    kept = [path.read_bytes() for path in (flow.outbound / "archive").iterdir()]
    assert kept == ([content] if after_read == "archive" else [])
    assert len(events(flow, "file.disposed")) == 1
    flow.clock.advance(61)
    assert flow.poll_settled().runs == ()


@pytest.mark.parametrize("after_read", ["archive", "delete"])
@pytest.mark.parametrize("same_look", [False, True], ids=["seen by size or time", "seen by its hash only"])
def test_a5_a_newer_version_that_arrives_in_between_is_not_lost(
    flow: Rehearsal, after_read: str, *, same_look: bool
) -> None:
    """Deleting what is there now is not deleting what was read."""
    flow.change_config({"stampli": {"after_read": after_read}})
    (flow.outbound / "archive").mkdir()
    path = flow.outbound / drop(flow, 1, bill("1", "10.00"))

    def replace() -> None:
        before = path.stat()
        path.write_bytes(path.read_bytes().replace(b"N-1", b"N-2").replace(b",1,N-2", b",2,N-2"))
        path.write_bytes(invoice_csv(bill("2", "10.00")))
        assert path.stat().st_size == before.st_size
        if same_look:
            os.utime(path, (before.st_atime, before.st_mtime))
        else:
            os.utime(path, (before.st_atime, before.st_mtime + 60))

    poll = flow.poll_settled()
    stepwise(flow, poll.runs[0], after_receive=replace)
    assert path.exists()
    flow.process()
    prove_books(flow, "N-1", "N-2")


def test_a5_a_missing_archive_folder_is_told_and_the_file_keeps_its_name(flow: Rehearsal) -> None:
    """A file under a hidden name would be lost to everybody."""
    flow.change_config({"stampli": {"after_read": "archive"}})
    name = drop(flow, 1, bill("1", "10.00"))
    (_, _, posted) = flow.process()[0]
    assert len(posted.disposal_problems) == 1
    assert "archive_directory" in posted.disposal_problems[0]
    assert [path.name for path in flow.outbound.iterdir()] == [name]
    (flow.outbound / "archive").mkdir()
    start = files(flow)[0]["window_start"]
    (_, _, again) = flow.run(start)
    assert again.disposal_problems == []
    assert [path.name for path in flow.outbound.iterdir()] == ["archive"]
    prove_books(flow, "N-1")


def test_a5_both_copies_of_a_file_are_put_away(flow: Rehearsal) -> None:
    """Also the one that was only noted; two of one content must not collide in the archive."""
    flow.change_config({"stampli": {"after_read": "archive"}})
    (flow.outbound / "archive").mkdir()
    name = drop(flow, 1, bill("1", "10.00"))
    flow.drop(file_name(2), (flow.outbound / name).read_bytes())
    flow.process()
    assert len(list((flow.outbound / "archive").iterdir())) == 2
    assert [path.name for path in flow.outbound.iterdir()] == ["archive"]
    prove_books(flow, "N-1")
