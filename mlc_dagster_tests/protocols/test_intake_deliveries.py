"""A3 for files that belong together: a marker beside the file, and a manifest that names the files of a delivery."""

import hashlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from mlc_dagster.ledger.archive import LocalArchive
from mlc_dagster.ledger.controls import file_controls
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.files import list_sightings
from mlc_dagster.ledger.schema import feed, source_file
from mlc_dagster.sftp.errors import Unreachable
from mlc_dagster.stampli.inbound import FEED
from mlc_dagster.stampli.intake.disposing import dispose_files
from mlc_dagster.stampli.intake.feed import FirstContact
from mlc_dagster.stampli.parsing.profile import load_profile
from mlc_dagster_tests.protocols.intake import (
    bill,
    drop,
    events,
    file_states,
    files,
    prove_books,
    stepwise,
)
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.stampli.builders import file_name
from mlc_dagster_tests.stampli.builders_shapes import manifest_name, manifest_of, split_parts


@pytest.fixture
def split(flow: Rehearsal) -> Rehearsal:
    """The flow reading deliveries of two files and a manifest."""
    flow.change_config({"stampli": {"profile": "stampli_split_eu"}})
    return flow


def test_a3_a_delivery_is_posted_when_all_of_it_is_there(split: Rehearsal) -> None:
    """Headers without their lines, or half of the lines, would look like whole files."""
    parts = split_parts(bill("1", "10.00", "5.50") + bill("2", "20.00"))
    manifest = manifest_of(parts)
    split.drop(manifest_name(), manifest)
    split.drop("x_headers.csv", parts["x_headers.csv"])
    split.process()
    assert file_states(split) == ["RELEASED"]
    split.drop("x_lines.csv", parts["x_lines.csv"][:-30])
    (received, _, _) = split.process()[0]
    assert "the manifest says" in received.receipts[0].text
    prove_books(split)
    split.drop("x_lines.csv", parts["x_lines.csv"])
    split.process()
    prove_books(split, "N-1", "N-2")
    assert file_states(split) == ["READ", "PART", "PART"]


def test_a3_the_archive_holds_the_whole_delivery_under_one_hash(split: Rehearsal) -> None:
    """What was posted is proven by what was read; all of it is erased together when its time has come."""
    parts = split_parts(bill("1", "10.00"))
    for name, content in {**parts, manifest_name(): manifest_of(parts)}.items():
        split.drop(name, content)
    split.process()
    (row,) = [row for row in files(split) if row["state"] == "READ"]
    bundle = split.inbound.archive.path(row["sha256"])
    content = bundle.read_bytes()
    assert all(part in content for part in [*parts.values(), manifest_of(parts)])
    assert isinstance(split.inbound.archive, LocalArchive)
    assert len(list(split.inbound.archive.entries())) == 1


def test_a6_rows_add_up_in_each_file_of_a_delivery(split: Rehearsal) -> None:
    """Shown per physical file: the invoices' file has rows that no row of the ledger is made of."""
    parts = split_parts(bill("1", "10.00", "5.50") + bill("2", "20.00"))
    parts["x_headers.csv"] += split_parts(bill("3", "7.00"))["x_headers.csv"].split(b"\r\n", 1)[1]
    for name, content in {**parts, manifest_name(): manifest_of(parts)}.items():
        split.drop(name, content)
    split.process()
    with split.ledger.reading() as reading:
        (control,) = file_controls(reading, FEED)
    assert control.faults == ()
    assert (control.rows, control.rows_in_invoices, control.rows_quarantined) == (4, 3, 1)
    assert [(each.path, each.rows, each.rows_in_invoices, each.rows_quarantined) for each in control.parts] == [
        ("/outbound/x_headers.csv", 3, 2, 1),
        ("/outbound/x_lines.csv", 3, 3, 0),
    ]
    (event,) = events(split, "file.parts_read")
    assert [part["sha256"] for part in event["detail"]["parts"]] == [
        hashlib.sha256(parts[name]).hexdigest() for name in ("x_headers.csv", "x_lines.csv")
    ]
    with split.ledger.transaction() as transaction:
        lost = sa.update(source_file).where(source_file.c.path.like("%x_headers.csv")).values(rows_in_invoices=1)
        transaction.execute(lost)
        assert "3 rows in the file, 1 in invoices and 1 quarantined" in file_controls(transaction, FEED)[0].faults[0]


def test_a3_a_manifest_that_is_none_is_rejected_and_the_next_one_is_read(split: Rehearsal) -> None:
    """A JSON document of another kind waits for nothing."""
    split.drop(manifest_name(1), b'{"files": []}')
    parts = split_parts(bill("1", "10.00"))
    for name, content in {**parts, manifest_name(2): manifest_of(parts)}.items():
        split.drop(name, content)
    split.process()
    prove_books(split, "N-1")
    assert sorted(file_states(split)) == ["PART", "PART", "READ", "REJECTED"]


@pytest.fixture
def marked(flow: Rehearsal, tmp_path: Path) -> Rehearsal:
    """The flow reading files that wait for a marker beside them."""
    document = load_profile("stampli_lines_v1").model_dump(mode="json", exclude_unset=True)
    document["file"]["end"] = {"rule": "marker", "name": "{stem}.done"}
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(document))
    flow.change_config({"stampli": {"profile": str(mine)}})
    return flow


def mark(flow: Rehearsal, sequence: int) -> Path:
    """The marker of ``file_name(sequence)``."""
    return flow.drop(file_name(sequence).replace(".csv", ".done"), b"")


def send_delivery(flow: Rehearsal, sequence: int, *bills: list[dict[str, str]]) -> None:
    """A whole delivery, with names of its own."""
    parts = split_parts([row for rows in bills for row in rows])
    renamed = {name.replace("x_", f"{sequence}_"): content for name, content in parts.items()}
    for name, content in {**renamed, manifest_name(sequence): manifest_of(renamed)}.items():
        flow.drop(name, content)


def names_in(flow: Rehearsal) -> list[str]:
    return sorted(path.name for path in flow.outbound.iterdir() if path.is_file())


def test_a3_a_file_waits_for_its_marker(marked: Rehearsal) -> None:
    """A sender that writes a marker last says more than any look at size and time."""
    flow = marked
    drop(flow, 1, bill("1", "10.00"))
    flow.process()
    assert file_states(flow) == []
    mark(flow, 1)
    flow.process()
    prove_books(flow, "N-1")


def test_a3_a_file_without_its_marker_is_told_as_waiting_and_after_an_hour_as_overdue(marked: Rehearsal) -> None:
    """To a person who asks where the file is, "ignored" is no answer; a marker that never comes is told unasked."""
    flow = marked
    name = drop(flow, 1, bill("1", "10.00"))
    flow.drop("notes.txt", b"x")
    poll = flow.poll_settled()
    assert (poll.ignored, poll.assigned, poll.overdue) == (1, (), ())
    note = f"waits for its marker {name.replace('.csv', '.done')}"
    assert poll.unready == (f"/outbound/{name} {note}",)
    with flow.ledger.reading() as reading:
        assert [row["note"] for row in list_sightings(reading, FEED)] == [note]
    flow.clock.advance(3600)
    late = flow.poll()
    assert [each.path for each in late.newly_overdue] == [f"/outbound/{name}"]
    assert note in late.newly_overdue[0].text
    again = flow.poll()
    assert (len(again.overdue), again.newly_overdue) == (1, ())
    mark(flow, 1)
    flow.process()
    assert flow.poll().unready == flow.poll().overdue == ()
    prove_books(flow, "N-1")


def test_a3_the_time_that_a_file_waited_for_its_marker_counts_as_settling(marked: Rehearsal) -> None:
    """Its size and time were compared all the while; the marker says the rest."""
    drop(marked, 1, bill("1", "10.00"))
    marked.poll_settled()
    mark(marked, 1)
    assert len(marked.poll().assigned) == 1


def test_a2_files_without_their_marker_are_old_files_too(marked: Rehearsal) -> None:
    """A marker that comes later would post what a person never decided about."""
    with marked.ledger.transaction() as transaction:
        transaction.execute(sa.delete(feed))
    drop(marked, 1, bill("1", "10.00"))
    with pytest.raises(FirstContact):
        marked.poll()
    marked.open_feed()
    mark(marked, 1)
    assert marked.process() == []
    assert file_states(marked) == ["BASELINE"]


def test_a3_files_of_a_delivery_wait_for_their_manifest_and_then_for_nothing(split: Rehearsal) -> None:
    """Also after it was read, when they are still there: the folder is left as it is."""
    parts = split_parts(bill("1", "10.00"))
    for name, content in parts.items():
        split.drop(name, content)
    poll = split.poll_settled()
    assert poll.unready == tuple(f"/outbound/{name} waits for a manifest that names it" for name in sorted(parts))
    split.clock.advance(3600)
    assert [each.path for each in split.poll().newly_overdue] == [f"/outbound/{name}" for name in sorted(parts)]
    split.drop(manifest_name(), manifest_of(parts))
    split.process()
    assert sorted(file_states(split)) == ["PART", "PART", "READ"]
    split.clock.advance(3600)
    later = split.poll()
    assert later.unready == later.overdue == later.waiting == ()
    prove_books(split, "N-1")


def test_a3_a_delivery_that_stays_incomplete_is_told(split: Rehearsal) -> None:
    """The manifest is there and one of its files never comes: nothing else in the folder says so."""
    parts = split_parts(bill("1", "10.00"))
    split.drop(manifest_name(), manifest_of(parts))
    split.process()
    split.clock.advance(3600)
    (told,) = split.poll().newly_overdue
    assert told.path == f"/outbound/{manifest_name()}"
    assert "x_headers.csv is named by" in told.text


@pytest.mark.parametrize("after_read", ["archive", "delete"])
def test_a5_a_delivery_is_put_away_with_its_files(split: Rehearsal, after_read: str) -> None:
    """To move the manifest alone would leave its files behind as nobody's."""
    split.change_config({"stampli": {"after_read": after_read}})
    (split.outbound / "archive").mkdir()
    send_delivery(split, 1, bill("1", "10.00"))
    contents = sorted(path.read_bytes() for path in split.outbound.iterdir() if path.is_file())
    split.drop("2_lines.csv", b"of another delivery")
    split.process()
    prove_books(split, "N-1")
    assert names_in(split) == ["2_lines.csv"]
    kept = sorted(path.read_bytes() for path in (split.outbound / "archive").iterdir())
    assert kept == (contents if after_read == "archive" else [])
    assert len(events(split, "file.disposed")) == 1


@pytest.mark.parametrize("after_read", ["archive", "delete"])
def test_a5_a_file_is_put_away_with_its_marker(marked: Rehearsal, after_read: str) -> None:
    """A marker left behind would call the next file of that name whole while it is being written."""
    marked.change_config({"stampli": {"after_read": after_read}})
    (marked.outbound / "archive").mkdir()
    drop(marked, 1, bill("1", "10.00"))
    mark(marked, 1)
    marked.process()
    prove_books(marked, "N-1")
    assert names_in(marked) == []
    assert len(list((marked.outbound / "archive").iterdir())) == (2 if after_read == "archive" else 0)


def test_a5_a_newer_version_of_a_part_is_left(split: Rehearsal) -> None:
    """Its manifest is still to come."""
    split.change_config({"stampli": {"after_read": "delete"}})
    send_delivery(split, 1, bill("1", "10.00"))
    newer = split_parts(bill("2", "10.00"))["x_lines.csv"]

    def replace_lines() -> None:
        assert len(newer) == len(split.drop("1_lines.csv", newer).read_bytes())

    poll = split.poll_settled()
    stepwise(split, poll.runs[0], after_receive=replace_lines)
    assert names_in(split) == ["1_lines.csv"]
    assert (split.outbound / "1_lines.csv").read_bytes() == newer


def test_a5_a_part_that_another_manifest_names_stays_until_that_one_is_read(split: Rehearsal) -> None:
    """A corrected delivery may name an unchanged file of the one before; taken away, it could never be whole."""
    split.change_config({"stampli": {"after_read": "delete"}})
    send_delivery(split, 1, bill("1", "10.00"))
    poll = split.poll_settled()
    first = {name: (split.outbound / name).read_bytes() for name in ("1_headers.csv", "1_lines.csv")}
    corrected = {"1_headers.csv": first["1_headers.csv"], "2_lines.csv": first["1_lines.csv"]}
    split.drop("2_lines.csv", corrected["2_lines.csv"])
    split.drop(manifest_name(2), manifest_of(corrected))
    split.run(poll.runs[0])
    assert names_in(split) == ["1_headers.csv", "2_lines.csv", manifest_name(2)]
    split.process()
    assert names_in(split) == []
    prove_books(split, "N-1")


def test_a5_a_manifest_that_was_rejected_is_put_away_without_files(split: Rehearsal) -> None:
    """It named none that anybody could read; those that lie beside it may be another one's."""
    split.change_config({"stampli": {"after_read": "archive"}})
    (split.outbound / "archive").mkdir()
    split.drop(manifest_name(), b'{"files": []}')
    split.drop("1_lines.csv", b"of another delivery")
    split.process()
    assert file_states(split) == ["REJECTED"]
    assert names_in(split) == ["1_lines.csv"]
    assert [path.read_bytes() for path in (split.outbound / "archive").iterdir()] == [b'{"files": []}']


def test_a5_a_delivery_whose_bytes_the_archive_lost_stays_and_is_told(split: Rehearsal) -> None:
    """Without them nobody knows which files were read; deleting what is there would be a guess."""
    send_delivery(split, 1, bill("1", "10.00"))
    split.process()
    split.change_config({"stampli": {"after_read": "delete"}})
    (row,) = [row for row in files(split) if row["state"] == "READ"]
    split.inbound.archive.path(row["sha256"]).unlink()
    told, _ = put_away(split, row)
    assert len(told) == 1
    assert "is missing" in told[0]
    assert len(names_in(split)) == 3


def test_a4_a_delivery_that_is_sent_again_is_noted_once(split: Rehearsal) -> None:
    """The same files under another manifest: nothing new is read, and its files are not counted again."""
    send_delivery(split, 1, bill("1", "10.00"))
    split.process()
    split.drop(manifest_name(2), (split.outbound / manifest_name(1)).read_bytes())
    split.process()
    assert sorted(file_states(split)) == ["PART", "PART", "READ", "SAME_BYTES"]
    prove_books(split, "N-1")


class Broken:
    """A session whose connection breaks before or after its n-th change of the folder."""

    def __init__(self, session: Any, at: int, *, after: bool) -> None:
        self._session = session
        self._left = at
        self._after = after
        self.broke = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def _change(self, change: Callable[[], None]) -> None:
        self._left -= 1
        self.broke = self._left == 0
        if not self.broke or self._after:
            change()
        if self.broke:
            raise Unreachable("localhost", "a change", "the connection broke")

    def rename(self, old: str, new: str) -> None:
        self._change(lambda: self._session.rename(old, new))

    def remove(self, path: str) -> None:
        self._change(lambda: self._session.remove(path))


def put_away(flow: Rehearsal, row: Row, *, breaking: int = 0, after: bool = False) -> tuple[list[str], bool]:
    """(what could not be put away, whether the connection broke)."""
    inbound = flow.inbound
    sessions: list[Broken] = []

    @contextmanager
    def opened() -> Generator[Any]:
        with inbound.open_session() as session:
            sessions.append(Broken(session, breaking, after=after))
            yield sessions[-1]

    told = dispose_files(replace(inbound, open_session=opened), [row])
    return told, sessions[-1].broke


@pytest.mark.parametrize("after_read", ["archive", "delete"])
@pytest.mark.parametrize("shape", ["split", "marked"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a5_what_was_put_away_in_part_is_put_away_by_the_next_attempt(
    request: pytest.FixtureRequest, shape: str, after_read: str, *, after: bool
) -> None:
    """A connection may break between any two steps: nothing is left under a hidden name, nothing is lost."""
    flow: Rehearsal = request.getfixturevalue(shape)
    (flow.outbound / "archive").mkdir()
    sent = 7
    for sequence in range(1, sent + 1):
        if shape == "split":
            send_delivery(flow, sequence, bill(f"{sequence}", "10.00"))
        else:
            drop(flow, sequence, bill(f"{sequence}", "10.00"))
            mark(flow, sequence)
    contents = sorted(path.read_bytes() for path in flow.outbound.iterdir() if path.is_file())
    flow.process()
    flow.change_config({"stampli": {"after_read": after_read}})
    rows = [row for row in files(flow) if row["state"] == "READ"]
    broken = 0
    for at, row in enumerate(rows, start=1):
        told, broke = put_away(flow, row, breaking=at, after=after)
        broken += broke
        assert bool(told) == broke
        if broke:
            assert put_away(flow, row) == ([], False)
    assert broken == (6 if shape == "split" else 4)
    assert names_in(flow) == []
    kept = sorted(path.read_bytes() for path in (flow.outbound / "archive").iterdir())
    assert kept == (contents if after_read == "archive" else [])
    prove_books(flow, *(f"N-{sequence}" for sequence in range(1, sent + 1)))


def test_a5_the_marker_of_a_newer_version_is_given_back(marked: Rehearsal) -> None:
    """It may be put there in the moment in which its file is put away; without it the newer version waits for ever."""
    flow = marked
    drop(flow, 1, bill("1", "10.00"))
    mark(flow, 1)
    flow.process()
    flow.change_config({"stampli": {"after_read": "delete"}})
    (row,) = files(flow)
    told, broke = put_away(flow, row, breaking=1, after=True)
    assert (len(told), broke) == (1, True)
    drop(flow, 1, bill("2", "20.00"))
    mark(flow, 1)
    assert put_away(flow, row) == ([], False)
    assert names_in(flow) == [file_name(1), file_name(1).replace(".csv", ".done")]
    flow.process()
    prove_books(flow, "N-1", "N-2")


def test_a5_the_marker_of_a_file_that_the_sender_removed_goes_too(marked: Rehearsal) -> None:
    """It would call the next file of that name whole while it is being written."""
    marked.change_config({"stampli": {"after_read": "delete"}})
    name = drop(marked, 1, bill("1", "10.00"))
    mark(marked, 1)
    stepwise(marked, marked.poll_settled().runs[0], after_receive=(marked.outbound / name).unlink)
    assert names_in(marked) == []
    prove_books(marked, "N-1")
