"""A5 for deliveries: a file that another manifest needs, or may need, is never taken from it, nor hidden for good."""

import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from mlc_dagster.ledger.database import Row
from mlc_dagster.sftp.errors import Unreachable
from mlc_dagster.stampli.intake.disposing import dispose_files, retry_disposal
from mlc_dagster_tests.protocols.intake import bill, events, file_states, files, prove_books
from mlc_dagster_tests.protocols.test_intake_deliveries import names_in, send_delivery, split
from mlc_dagster_tests.protocols.test_intake_put_away_races import meddle
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.stampli.builders_shapes import manifest_name, manifest_of, split_parts

__all__ = ["split"]


class Looking:
    """A session with something happening just before it looks at the folder for the second time."""

    def __init__(self, session: Any, before_the_second: Callable[[], object]) -> None:
        self._session = session
        self._before_the_second = before_the_second
        self._looks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def list(self, directory: str) -> Any:
        self._looks += 1
        if self._looks == 2:
            self._before_the_second()
        return self._session.list(directory)


def at_the_second_look(flow: Rehearsal, rows: list[Row], happens: Callable[[], object]) -> list[str]:
    """Put ``rows`` away; ``happens`` when all are hidden and none is put away yet. The lines told."""
    inbound = flow.inbound

    @contextmanager
    def opened() -> Generator[Any]:
        with inbound.open_session() as session:
            yield Looking(session, happens)

    return dispose_files(replace(inbound, open_session=opened), rows)


def breaks() -> None:
    raise Unreachable("localhost", "listing", "the connection broke")


def processed_delivery(flow: Rehearsal, after_read: str = "delete") -> list[Row]:
    """One delivery that was read and posted, and is to be put away now: the row of its manifest."""
    (flow.outbound / "archive").mkdir()
    send_delivery(flow, 1, bill("1", "10.00"))
    flow.process()
    flow.change_config({"stampli": {"after_read": after_read}})
    return [row for row in files(flow) if row["state"] == "READ"]


def corrected(flow: Rehearsal) -> dict[str, bytes]:
    """The files of a delivery that names the first one's invoices, unchanged; its manifest is not there yet."""
    contents = {
        "1_headers.csv": (flow.outbound / "1_headers.csv").read_bytes(),
        "2_lines.csv": (flow.outbound / "1_lines.csv").read_bytes(),
    }
    flow.drop("2_lines.csv", contents["2_lines.csv"])
    return contents


@pytest.mark.parametrize("after_read", ["archive", "delete"])
def test_a5_a_part_that_a_broken_attempt_hid_is_given_to_the_manifest_that_names_it(
    split: Rehearsal, after_read: str
) -> None:
    """Under its hidden name nobody finds it: that delivery could never be whole, and nothing would say so."""
    rows = processed_delivery(split, after_read)
    contents = corrected(split)
    assert len(at_the_second_look(split, rows, breaks)) == 1
    assert [name for name in names_in(split) if name.endswith(".mlc")] != []
    split.drop(manifest_name(2), manifest_of(contents))
    assert dispose_files(split.inbound, rows) == []
    assert names_in(split) == ["1_headers.csv", "2_lines.csv", manifest_name(2)]
    split.process()
    assert names_in(split) == []
    prove_books(split, "N-1")


def test_a5_a_delivery_waits_while_a_manifest_cannot_be_read(split: Rehearsal) -> None:
    """It may name any of the files; those that lie hidden by then are put away once it can be read, or is gone."""
    rows = processed_delivery(split)
    at_the_second_look(split, rows, breaks)
    split.drop(manifest_name(2), b'{"fil')
    (told,) = dispose_files(split.inbound, rows)
    assert f"{manifest_name(2)} cannot be read yet" in told
    assert files(split)[0]["disposed_at"] is None
    (split.outbound / manifest_name(2)).unlink()
    assert dispose_files(split.inbound, rows) == []
    assert names_in(split) == []


def test_a5_all_get_their_names_back_when_an_unreadable_manifest_comes_meanwhile(split: Rehearsal) -> None:
    """Written in full a moment later it is read with the files that it names, not a quarter of an hour later."""
    rows = processed_delivery(split)
    before = names_in(split)
    (told,) = at_the_second_look(split, rows, lambda: split.drop(manifest_name(2), b'{"fil'))
    assert "cannot be read yet" in told
    assert names_in(split) == sorted([*before, manifest_name(2)])
    (split.outbound / manifest_name(2)).unlink()
    assert dispose_files(split.inbound, rows) == []
    assert names_in(split) == []


@pytest.mark.parametrize("name", ["{}.part", "{}.TMP", ".{}", ".{}.tmp"])
def test_a5_a_delivery_waits_while_a_manifest_is_being_uploaded(split: Rehearsal, name: str) -> None:
    """Its sender has looked at the files that lie there, and names them under another name until it is whole."""
    rows = processed_delivery(split)
    contents = corrected(split)
    written = split.drop(name.format(manifest_name(2)), manifest_of(contents))
    (told,) = dispose_files(split.inbound, rows)
    assert f"{written.name} is being written" in told
    assert "take it away" in told
    assert "1_headers.csv" in names_in(split)
    written.rename(split.outbound / manifest_name(2))
    assert dispose_files(split.inbound, rows) == []
    split.process()
    assert names_in(split) == []
    assert sorted(file_states(split)) == ["PART", "PART", "PART", "READ", "READ"]
    prove_books(split, "N-1")


def test_a5_a_part_sent_again_before_its_manifest_is_left(split: Rehearsal) -> None:
    """The same bytes with another time: a sender that writes a delivery anew writes its manifest last."""
    rows = processed_delivery(split)
    contents = corrected(split)
    split.clock.advance(3600)
    again = split.drop("1_headers.csv", contents["1_headers.csv"])
    later = rows[0]["mtime"] + 3600
    os.utime(again, (later, later))
    assert dispose_files(split.inbound, rows) == []
    assert names_in(split) == ["1_headers.csv", "2_lines.csv"]
    assert "was sent again" in events(split, "file.disposed")[0]["detail"]["how"]
    split.drop(manifest_name(2), manifest_of(contents))
    split.process()
    assert "RELEASED" not in file_states(split)
    assert names_in(split) == []


def test_a5_a_part_sent_again_in_that_moment_gets_its_name_back(split: Rehearsal) -> None:
    """Between the look at it and the rename; what was hidden tells by its time."""
    rows = processed_delivery(split)
    headers = split.outbound / "1_headers.csv"
    later = rows[0]["mtime"] + 3600
    # The first change hides the manifest, the second one this file.
    assert meddle(split, rows, {2: lambda: os.utime(headers, (later, later))}) == []
    assert names_in(split) == ["1_headers.csv"]


def test_a5_a_rejected_manifest_leaves_its_files(split: Rehearsal) -> None:
    """Only a number in it was wrong: whoever corrects it sends it alone."""
    split.change_config({"stampli": {"after_read": "delete"}})
    parts = {name.replace("x_", "1_"): content for name, content in split_parts(bill("1", "10.00")).items()}
    wrong = json.loads(manifest_of(parts))
    for each in wrong["files"]:
        each["records"] = 99
    for name, content in {**parts, manifest_name(1): json.dumps(wrong).encode()}.items():
        split.drop(name, content)
    split.process()
    assert sorted(file_states(split)) == ["PART", "PART", "REJECTED"]
    assert names_in(split) == sorted(parts)
    split.clock.advance(600)
    split.drop(manifest_name(1), manifest_of(parts))
    split.process()
    prove_books(split, "N-1")
    assert names_in(split) == []


def test_a5_a_poll_tries_a_waiting_delivery_again(split: Rehearsal) -> None:
    """It counts as failed until then, so people hear of an upload that was given up."""
    processed_delivery(split)
    given_up = split.drop(manifest_name(2) + ".part", b"")
    told: list[bool] = []
    for _ in range(3):
        told.append(bool(retry_disposal(split.inbound).stuck))
        split.clock.advance(13 * 3600)
    assert told == [False, False, True]
    given_up.unlink()
    assert retry_disposal(split.inbound).stuck == ()
    assert names_in(split) == []
