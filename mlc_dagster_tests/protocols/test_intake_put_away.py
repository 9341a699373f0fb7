"""A5: what could not be put away is tried again by later runs, and never the last copy is taken."""

import datetime as dt

import pytest

from mlc_dagster_tests.protocols.intake import bill, drop, files, prove_books
from mlc_dagster_tests.protocols.test_intake_deliveries import names_in, put_away
from mlc_dagster_tests.servers.rehearsal import Rehearsal


@pytest.mark.parametrize("after_read", ["archive", "delete"])
def test_a5_a_file_left_under_a_hidden_name_is_put_away_by_a_later_run(flow: Rehearsal, after_read: str) -> None:
    """Its window is done and never run again: whoever comes next is the only one who can."""
    (flow.outbound / "archive").mkdir()
    drop(flow, 1, bill("1", "10.00"))
    flow.process()
    flow.change_config({"stampli": {"after_read": after_read}})
    (row,) = files(flow)
    told, broke = put_away(flow, row, breaking=2)
    assert (len(told), broke) == (1, True)
    (hidden,) = names_in(flow)
    assert hidden.endswith(".mlc")
    flow.clock.advance(3600)
    drop(flow, 2, bill("2", "10.00"))
    (_, _, posted) = flow.process()[0]
    assert posted.disposal_problems == []
    assert names_in(flow) == []
    assert len(list((flow.outbound / "archive").iterdir())) == (2 if after_read == "archive" else 0)
    assert all(row["disposed_at"] for row in files(flow))
    prove_books(flow, "N-1", "N-2")


def test_a5_how_many_stay_is_told(flow: Rehearsal) -> None:
    """One line says that the folder is missing; how much has gathered there is another matter."""
    flow.change_config({"stampli": {"after_read": "archive"}})
    for sequence in (1, 2):
        drop(flow, sequence, bill(f"{sequence}", "10.00"))
        (_, _, posted) = flow.process()[0]
        flow.clock.advance(3600)
    assert len(names_in(flow)) == 2
    assert posted.disposal_problems[0].startswith("2 processed files are not put away")
    assert "archive_directory" in posted.disposal_problems[1]


def test_a5_the_last_copy_is_not_deleted(flow: Rehearsal) -> None:
    """The archive lost its bytes: what lies on the server is all that there is, and stays under its name."""
    name = drop(flow, 1, bill("1", "10.00"))
    flow.process()
    flow.change_config({"stampli": {"after_read": "delete"}})
    (row,) = files(flow)
    kept = flow.inbound.archive.path(row["sha256"])
    content = kept.read_bytes()
    for damaged in (content[:-1], None):
        kept.unlink()
        if damaged is not None:
            kept.write_bytes(damaged)
        told, _ = put_away(flow, row)
        assert len(told) == 1
        assert "restore the archive" in told[0]
        assert names_in(flow) == [name]
    kept.write_bytes(content)
    assert put_away(flow, row) == ([], False)
    assert names_in(flow) == []


def test_a5_what_was_erased_on_purpose_is_deleted(flow: Rehearsal) -> None:
    """Nobody is to keep it any longer; the copy on the server least of all."""
    drop(flow, 1, bill("1", "10.00"))
    flow.process()
    flow.change_config({"stampli": {"after_read": "delete"}})
    (row,) = files(flow)
    tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    assert flow.inbound.archive.erase(row["sha256"], "erased after ten years", unused_since=tomorrow)
    assert put_away(flow, row) == ([], False)
    assert names_in(flow) == []
