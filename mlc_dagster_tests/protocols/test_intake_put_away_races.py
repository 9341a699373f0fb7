"""A5: what happens in the folder while files are put away; each race is made to happen at the worst moment."""

import datetime as dt
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlc_dagster.fusion.errors import FusionError
from mlc_dagster.ledger import disposal
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.process import process_name
from mlc_dagster.sftp.errors import Unreachable
from mlc_dagster.stampli.inbound import FEED
from mlc_dagster.stampli.intake.disposing import dispose_files
from mlc_dagster.stampli.posting.sending import PostingStopped
from mlc_dagster_tests.protocols.intake import bill, drop, files, invoice_row, outcomes, prove_books
from mlc_dagster_tests.protocols.test_intake_deliveries import mark, marked, names_in, put_away, send_delivery, split
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.stampli.builders import file_name, invoice_csv
from mlc_dagster_tests.stampli.builders_shapes import manifest_name, manifest_of

__all__ = ["marked", "split"]


class Meddled:
    """A session with something happening just before or after its n-th change of the folder."""

    def __init__(self, session: Any, changes: dict[int, Callable[[], object]], *, after: bool) -> None:
        self._session = session
        self._changes = changes
        self._after = after
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def _change(self, change: Callable[[], None]) -> None:
        self._count += 1
        happens = self._changes.get(self._count, lambda: None)
        if not self._after:
            happens()
        change()
        if self._after:
            happens()

    def rename(self, old: str, new: str) -> None:
        self._change(lambda: self._session.rename(old, new))

    def remove(self, path: str) -> None:
        self._change(lambda: self._session.remove(path))


def meddle(
    flow: Rehearsal, rows: list[Row], changes: dict[int, Callable[[], object]], *, after: bool = False
) -> list[str]:
    """Put ``rows`` away while ``changes`` happen; the lines told."""
    inbound = flow.inbound

    @contextmanager
    def opened() -> Generator[Any]:
        with inbound.open_session() as session:
            yield Meddled(session, changes, after=after)

    return dispose_files(replace(inbound, open_session=opened), rows)


def processed(flow: Rehearsal, after_read: str = "archive", **cells: str) -> Row:
    """One file that was read and posted, and is to be put away now."""
    (flow.outbound / "archive").mkdir(exist_ok=True)
    drop(flow, 1, bill("1", "10.00", **cells))
    flow.process()
    flow.change_config({"stampli": {"after_read": after_read}})
    (row,) = files(flow)
    return row


def look_alike(flow: Rehearsal, source_id: str, **cells: str) -> None:
    """Another file with the name, size and time of the first one."""
    path = flow.outbound / file_name(1)
    (row,) = [row for row in files(flow) if row["version"] == 1]
    path.write_bytes(invoice_csv(bill(source_id, "10.00", **cells)))
    assert path.stat().st_size == row["size"]
    os.utime(path, (row["mtime"], row["mtime"]))


@pytest.mark.parametrize("after_read", ["archive", "delete"])
@pytest.mark.parametrize("overwrites", [False, True], ids=["refuses", "overwrites"])
def test_a5_a_newer_version_whose_name_is_taken_is_taken_in_from_where_it_lies(
    flow: Rehearsal, monkeypatch: pytest.MonkeyPatch, after_read: str, *, overwrites: bool
) -> None:
    """Two versions within the moment in which the first is put away: all three files' invoices are posted, once."""
    if overwrites:
        # Some servers rename over what is there, against the standard.
        monkeypatch.setattr("mlc_dagster.sandbox.sftp._rename_to_free_name", Path.replace)
    row = processed(flow, after_read)
    (told,) = meddle(flow, [row], {1: lambda: look_alike(flow, "2"), 2: lambda: drop(flow, 1, bill("3", "30.00"))})
    assert "was replaced twice" in told
    assert "taken in as version 2" in told
    flow.process()
    flow.clock.advance(61)
    flow.process()
    prove_books(flow, "N-1", "N-2", "N-3")
    assert [(row["version"], row["state"]) for row in files(flow)] == [(1, "READ"), (2, "READ"), (3, "READ")]
    assert all(row["disposed_at"] for row in files(flow))
    assert names_in(flow) == []
    assert len(list((flow.outbound / "archive").iterdir())) == (2 if after_read == "archive" else 0)


def test_a5_what_was_taken_in_does_not_overtake_what_came_after_it(flow: Rehearsal) -> None:
    """The same invoice in both: what stands under the name is what the sender means."""
    row = processed(flow, vendor_id="99999")
    meddle(
        flow,
        [row],
        {
            1: lambda: look_alike(flow, "2", vendor_id="99999"),
            2: lambda: drop(flow, 1, bill("2", "25.00", vendor_id="99999")),
        },
    )
    flow.process()
    assert outcomes(flow, "2") == ["SUPERSEDED", "CURRENT"]
    assert invoice_row(flow, "2")["amount_minor"] == 2500


def test_a5_an_older_version_is_not_taken_in_after_a_newer_one_and_is_told(flow: Rehearsal) -> None:
    """As the latest version it would supersede what the sender wrote after it; a person says what it is."""
    row = processed(flow)
    told = meddle(flow, [row], {1: lambda: look_alike(flow, "2"), 2: broken})
    assert len(told) == 1
    drop(flow, 1, bill("3", "30.00"))
    flow.change_config({"stampli": {"after_read": "leave"}})
    flow.process()
    flow.change_config({"stampli": {"after_read": "archive"}})
    (again,) = meddle(flow, [row], {})
    assert "it is older than version 2" in again
    assert "rename it to a name of its own" in again
    assert len(names_in(flow)) == 2
    prove_books(flow, "N-1", "N-3")


def broken() -> None:
    """The connection breaks."""
    raise Unreachable("localhost", "a change", "the connection broke")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2])
def test_a5_a_newer_version_survives_a_connection_that_breaks(flow: Rehearsal, *, at: int, after: bool) -> None:
    """While it is hidden, or while it is given its name back: the next attempt goes on."""
    row = processed(flow)
    look_alike(flow, "2")
    assert len(meddle(flow, [row], {at: broken}, after=after)) == 1
    assert len(meddle(flow, [row], {})) == 1
    flow.process()
    prove_books(flow, "N-1", "N-2")
    assert names_in(flow) == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a5_a_version_that_is_being_taken_in_survives_a_connection_that_breaks(flow: Rehearsal, *, after: bool) -> None:
    """It is in the ledger and still under the name of its predecessor: the next attempt knows it again."""
    row = processed(flow)
    look_alike(flow, "2")
    put_away(flow, row, breaking=1, after=True)
    drop(flow, 1, bill("3", "30.00"))
    # The first change is the attempt to give the name back, which is taken.
    assert len(meddle(flow, [row], {2: broken}, after=after)) == 1
    assert [each["state"] for each in files(flow)] == ["READ", "RECEIVED"]
    assert len(meddle(flow, [row], {})) <= 1
    flow.process()
    flow.clock.advance(61)
    flow.process()
    prove_books(flow, "N-1", "N-2", "N-3")
    assert names_in(flow) == []


def test_a5_two_runs_do_not_put_away_at_once(flow: Rehearsal) -> None:
    """The other one would find the name gone, note the file as such, and nobody would look under its hidden name."""
    row = processed(flow)
    second: list[list[str]] = []

    def other_run_then_broken() -> None:
        second.append(dispose_files(flow.inbound, [row]))
        broken()

    assert len(meddle(flow, [row], {1: other_run_then_broken}, after=True)) == 1
    assert second == [[]]
    (left,) = files(flow)
    assert left["disposed_at"] is None
    assert dispose_files(flow.inbound, [row]) == []
    assert names_in(flow) == []
    assert len(list((flow.outbound / "archive").iterdir())) == 1


def test_a5_the_turn_of_a_process_that_is_gone_is_taken_over(flow: Rehearsal) -> None:
    """A run that was killed while it put files away must not stop all others for minutes."""
    row = processed(flow)
    host, place, pid, _ = process_name(os.getpid()).split("|")
    with flow.ledger.transaction() as transaction:
        dead = f"{host}|{place}|{pid}|1|x"
        assert disposal.take_turn(transaction, FEED, dead, dt.timedelta(hours=1)) is not None
    assert dispose_files(flow.inbound, [row]) == []
    assert names_in(flow) == []


def test_a5_a_process_that_overslept_its_turn_moves_nothing(flow: Rehearsal) -> None:
    """It was stopped, its lease ran out, and another one may be at the same names."""
    row = processed(flow)
    inbound = flow.inbound

    @contextmanager
    def slow() -> Generator[Any]:
        flow.clock.advance(3600)
        with inbound.open_session() as session:
            yield session

    dispose_files(replace(inbound, open_session=slow), [row])
    assert names_in(flow) == [file_name(1)]
    assert files(flow)[0]["disposed_at"] is None


def test_a5_another_file_in_the_archive_folder_is_no_proof(flow: Rehearsal) -> None:
    """The folder is the partner's: something of that name with other bytes must not cost the last copy there."""
    row = processed(flow)
    target = flow.outbound / "archive" / f"{file_name(1)}.{row['sha256'][:12]}.v1"
    target.write_bytes(b"cut off")
    (told,) = dispose_files(flow.inbound, [row])
    assert "exists already" in told
    assert len(names_in(flow)) == 1
    target.unlink()
    assert dispose_files(flow.inbound, [row]) == []
    assert names_in(flow) == []


@pytest.mark.parametrize("after_read", ["archive", "delete"])
def test_a5_a_manifest_that_comes_while_files_are_hidden_gets_its_files(split: Rehearsal, after_read: str) -> None:
    """It names a file that stood there when it was written; taken away, that delivery could never be whole."""
    (split.outbound / "archive").mkdir()
    send_delivery(split, 1, bill("1", "10.00"))
    split.process()
    split.change_config({"stampli": {"after_read": after_read}})
    rows = [row for row in files(split) if row["state"] == "READ"]
    first = {name: (split.outbound / name).read_bytes() for name in ("1_headers.csv", "1_lines.csv")}
    corrected = {"1_headers.csv": first["1_headers.csv"], "2_lines.csv": first["1_lines.csv"]}

    def next_delivery() -> None:
        split.drop("2_lines.csv", corrected["2_lines.csv"])
        split.drop(manifest_name(2), manifest_of(corrected))

    assert meddle(split, rows, {2: next_delivery}) == []
    assert names_in(split) == ["1_headers.csv", "2_lines.csv", manifest_name(2)]
    split.process()
    assert names_in(split) == []
    prove_books(split, "N-1")


def test_a5_a_look_alike_of_a_marked_file_keeps_its_marker(marked: Rehearsal) -> None:
    """Without it the newer version would wait for ever."""
    flow = marked
    drop(flow, 1, bill("1", "10.00"))
    mark(flow, 1)
    flow.process()
    flow.change_config({"stampli": {"after_read": "delete"}})
    (row,) = files(flow)
    look_alike(flow, "2")
    assert len(dispose_files(flow.inbound, [row])) == 1
    flow.process()
    prove_books(flow, "N-1", "N-2")
    assert names_in(flow) == []


def test_a5_files_of_a_run_that_has_not_ended_are_not_put_away_by_another(flow: Rehearsal) -> None:
    """Until its invoices are posted, people look for the file where the sender put it."""
    (flow.outbound / "archive").mkdir()
    flow.change_config({"stampli": {"after_read": "archive"}})
    drop(flow, 1, bill("1", "10.00"))
    flow.fusion.faults.add("revoked", method="POST", path="invoices", count=1)
    (wanted,) = flow.poll_settled().runs
    with pytest.raises((PostingStopped, FusionError)):
        flow.run(wanted)
    with flow.ledger.reading() as reading:
        assert disposal.undisposed_files(reading, FEED, limit=10) == []
        assert disposal.count_undisposed(reading, FEED) == 1
    flow.clock.advance(3600)
    for again in flow.poll().runs:
        flow.run(again)
    assert names_in(flow) == []


def test_a5_a_file_that_the_sender_removes_in_that_moment_is_gone(flow: Rehearsal) -> None:
    """Nothing is left to put away, and nobody needs to hear of it."""
    row = processed(flow)
    assert meddle(flow, [row], {1: (flow.outbound / file_name(1)).unlink}) == []
    assert files(flow)[0]["disposed_at"] is not None


def test_a5_without_its_marker_a_newer_version_is_not_taken_in_and_is_told(marked: Rehearsal) -> None:
    """Nobody says that it was whole; the marker in the folder belongs to the file that has the name now."""
    drop(marked, 1, bill("1", "10.00"))
    mark(marked, 1)
    marked.process()
    marked.change_config({"stampli": {"after_read": "delete"}})
    (row,) = files(marked)
    (told,) = meddle(
        marked, [row], {1: lambda: look_alike(marked, "2"), 2: lambda: drop(marked, 1, bill("3", "30.00"))}
    )
    assert "its marker cannot be told" in told
    assert "rename it to a name of its own" in told
    marked.process()
    prove_books(marked, "N-1", "N-3")
    assert [name for name in names_in(marked) if name.endswith(".mlc")] != []


def test_a5_a_manifest_whose_name_is_taken_is_taken_in_with_its_files(split: Rehearsal) -> None:
    """Its files lie beside it under their names; the delivery is read whole, from where the manifest lies."""
    send_delivery(split, 1, bill("1", "10.00"))
    split.process()
    split.change_config({"stampli": {"after_read": "delete"}})
    (row,) = [row for row in files(split) if row["state"] == "READ"]
    before = (split.outbound / manifest_name(1)).stat()

    def another(sequence: int) -> None:
        send_delivery(split, sequence, bill(f"{sequence}", "10.00"))
        (split.outbound / manifest_name(sequence)).replace(split.outbound / manifest_name(1))

    def look_alike_manifest() -> None:
        another(2)
        os.utime(split.outbound / manifest_name(1), (before.st_mtime, before.st_mtime))
        assert (split.outbound / manifest_name(1)).stat().st_size == before.st_size

    (told,) = meddle(split, [row], {1: look_alike_manifest, 2: lambda: another(3)})
    assert "taken in as version 2" in told
    split.process()
    split.clock.advance(61)
    split.process()
    prove_books(split, "N-1", "N-2", "N-3")
    assert [name for name in names_in(split) if name.endswith((".mlc", ".json"))] == []
