"""Versions of files: from settled to read, and every other way that a file can go."""

import hashlib

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import files, invoices, schema
from mlc_dagster.ledger.database import Ledger, Row
from mlc_dagster.ledger.files import FileState, Seen
from mlc_dagster_tests.ledger.population import FEED, WINDOW, HandClock, add_file, add_window, events, file_row

OLD = int(WINDOW.timestamp()) - 3600
PATH = "/outbound/a.csv"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def settle(ledger: Ledger, clock: HandClock, seen: Seen) -> list[Seen]:
    """Two looks, far enough apart; what settled."""
    settled: list[Seen] = []
    for _ in range(2):
        with ledger.transaction() as transaction:
            settled = files.record_sightings(transaction, FEED, [seen], settle_seconds=30, zero_byte_grace=0)
        clock.advance(31)
    return settled


def assign(ledger: Ledger, seen: Seen) -> Row:
    with ledger.transaction() as transaction:
        generation = add_window(transaction)
        [key] = files.assign(transaction, FEED, [seen], WINDOW, generation)
        return file_row(transaction, key)


def receive(ledger: Ledger, row: Row, text: str) -> tuple[FileState, int | None]:
    with ledger.transaction() as transaction:
        return files.received(transaction, row, sha256=sha(text), size=row["size"] or len(text), profile="p@1")


def current(ledger: Ledger, row: Row) -> Row:
    with ledger.reading() as reading:
        return file_row(reading, row["id"])


def rows(ledger: Ledger) -> list[Row]:
    with ledger.reading() as reading:
        return reading.rows(sa.select(schema.source_file).order_by(schema.source_file.c.id))


def test_an_assigned_file_belongs_to_its_window_and_generation(ledger: Ledger) -> None:
    """The run downstream reads exactly the set that was frozen here."""
    row = assign(ledger, Seen(PATH, 10, OLD))
    assert (row["state"], row["version"], row["window_start"], row["generation"]) == ("ASSIGNED", 1, WINDOW, 1)
    [event] = events(ledger, "file.assigned")
    assert event["detail"]["file"] == row["id"]


def test_window_files_gives_a_generation_its_own_files(ledger: Ledger) -> None:
    """A later file of the same window must not slip into work that is under way."""
    first = assign(ledger, Seen("/outbound/b.csv", 10, OLD))
    second = assign(ledger, Seen("/outbound/a.csv", 10, OLD))
    with ledger.reading() as reading:
        frozen = [row["id"] for row in files.window_files(reading, FEED, WINDOW, 1)]
        whole = [row["id"] for row in files.window_files(reading, FEED, WINDOW)]
    assert (frozen, whole) == ([first["id"]], [second["id"], first["id"]])


def test_received_bytes_are_noted_with_their_hash(ledger: Ledger) -> None:
    """From here on the archive, not the server, is where the file is read."""
    row = assign(ledger, Seen(PATH, 10, OLD))
    assert receive(ledger, row, "bytes") == (FileState.RECEIVED, None)
    found = current(ledger, row)
    assert (found["state"], found["sha256"], found["received_at"]) == ("RECEIVED", sha("bytes"), WINDOW)
    assert len(events(ledger, "file.received")) == 1


def test_a_file_read_carries_the_readers_counts(ledger: Ledger) -> None:
    """They are the left side of the equation, counted apart from the rows that they check."""
    with ledger.transaction() as transaction:
        row = add_file(transaction)
        invoices.file_was_read(
            transaction, row, rows_total=5, rows_in_invoices=4, rows_quarantined=1, invoices=2,
            amounts_minor={"USD": 9_007_199_254_740_993},
        )  # fmt: skip
    found = current(ledger, row)
    assert (found["state"], found["rows_total"], found["invoices"]) == ("READ", 5, 2)
    assert found["amounts_minor"] == {"USD": 9_007_199_254_740_993}
    assert len(events(ledger, "file.read")) == 1


def test_the_same_bytes_under_another_name_are_not_new(ledger: Ledger) -> None:
    """A file sent twice must not bring its invoices twice; both names stay on record."""
    first = assign(ledger, Seen("/outbound/a.csv", 10, OLD))
    receive(ledger, first, "bytes")
    second = assign(ledger, Seen("/outbound/b.csv", 10, OLD))
    assert receive(ledger, second, "bytes") == (FileState.SAME_BYTES, first["id"])
    found = current(ledger, second)
    assert (found["state"], found["same_bytes_as"]) == ("SAME_BYTES", first["id"])
    assert "/outbound/a.csv" in found["reason"]


def test_the_same_bytes_in_another_feed_are_new(ledger: Ledger) -> None:
    """Hashes are compared per feed: two folders are two sources."""
    row = assign(ledger, Seen(PATH, 10, OLD))
    receive(ledger, row, "bytes")
    with ledger.transaction() as transaction:
        [key] = files.assign(transaction, "other", [Seen(PATH, 10, OLD)], WINDOW, 1)
        other = file_row(transaction, key)
    assert receive(ledger, other, "bytes") == (FileState.RECEIVED, None)


def test_the_same_name_with_new_bytes_is_a_new_version(ledger: Ledger, clock: HandClock) -> None:
    """A corrected file under its old name must be read, and the first version stays as it was."""
    first = assign(ledger, Seen(PATH, 10, OLD))
    receive(ledger, first, "bytes")
    changed = Seen(PATH, 12, OLD + 60)
    assert settle(ledger, clock, changed) == [changed]
    second = assign(ledger, changed)
    assert receive(ledger, second, "other bytes") == (FileState.RECEIVED, None)
    assert [(row["version"], row["state"]) for row in rows(ledger)] == [(1, "RECEIVED"), (2, "RECEIVED")]


def test_a_path_that_goes_back_to_its_first_bytes_is_received_again(ledger: Ledger) -> None:
    """A, B, A under one name: what the folder shows last is what is meant, although its bytes are known."""
    first = assign(ledger, Seen(PATH, 10, OLD))
    receive(ledger, first, "A")
    receive(ledger, assign(ledger, Seen(PATH, 10, OLD + 1)), "B")
    third = assign(ledger, Seen(PATH, 10, OLD + 2))
    assert receive(ledger, third, "A") == (FileState.RECEIVED, None)


def young_file(ledger: Ledger, clock: HandClock) -> tuple[Seen, Row]:
    """A file whose second of change was not over at its last sighting."""
    seen = Seen(PATH, 10, int(clock.now.timestamp()) + 30)
    assert settle(ledger, clock, seen) == [seen]
    row = assign(ledger, seen)
    assert row["young"]
    return seen, row


def test_an_old_file_is_not_hashed_again(ledger: Ledger, clock: HandClock) -> None:
    """Hashing every file twice would double the reading for nothing."""
    seen = Seen(PATH, 10, OLD)
    settle(ledger, clock, seen)
    assert assign(ledger, seen)["young"] is False
    assert settle(ledger, clock, seen) == []


def test_a_young_file_is_seen_again(ledger: Ledger, clock: HandClock) -> None:
    """Times are whole seconds: it may have changed within the second of its last sighting and look the same."""
    seen, row = young_file(ledger, clock)
    receive(ledger, row, "bytes")
    assert settle(ledger, clock, seen) == [seen]


def test_a_young_file_that_is_unchanged_leaves_one_version(ledger: Ledger, clock: HandClock) -> None:
    """Hashing it again is bookkeeping, not a second file; and it is done once."""
    seen, row = young_file(ledger, clock)
    receive(ledger, row, "bytes")
    assert settle(ledger, clock, seen) == [seen]
    again = assign(ledger, seen)
    assert receive(ledger, again, "bytes") == (FileState.SAME_BYTES, row["id"])
    assert [(found["id"], found["version"], found["young"]) for found in rows(ledger)] == [(row["id"], 1, False)]
    assert len(events(ledger, "file.hashed_again")) == 1
    assert settle(ledger, clock, seen) == []


def test_a_young_file_hashed_again_too_early_is_hashed_once_more(ledger: Ledger, clock: HandClock) -> None:
    """Within the same second the second hash proves as little as the first: the change may come after both."""
    seen, row = young_file(ledger, clock)
    receive(ledger, row, "bytes")
    early = Seen(PATH, 10, seen.mtime)
    clock.now = WINDOW
    with ledger.transaction() as transaction:
        files.record_sightings(transaction, FEED, [early], settle_seconds=0, zero_byte_grace=0)
    again = assign(ledger, early)
    assert again["young"]
    receive(ledger, again, "bytes")
    assert [found["young"] for found in rows(ledger)] == [True]
    assert settle(ledger, clock, seen) == [seen]


def test_a_young_file_that_did_change_is_a_new_version(ledger: Ledger, clock: HandClock) -> None:
    """The case that the second hashing is for: same size, same second, other bytes."""
    seen, row = young_file(ledger, clock)
    receive(ledger, row, "bytes")
    settle(ledger, clock, seen)
    again = assign(ledger, seen)
    assert receive(ledger, again, "BYTES") == (FileState.RECEIVED, None)
    assert [(found["version"], found["sha256"]) for found in rows(ledger)] == [(1, sha("bytes")), (2, sha("BYTES"))]


@pytest.mark.parametrize("state", [FileState.VANISHED, FileState.REJECTED, FileState.RELEASED])
def test_a_file_that_cannot_be_read_says_why(ledger: Ledger, state: FileState) -> None:
    """Each way out of ASSIGNED has a reason that a person can act on, and an event."""
    row = assign(ledger, Seen(PATH, 10, OLD))
    with ledger.transaction() as transaction:
        files.set_file_state(transaction, row, state, "because")
    found = current(ledger, row)
    assert (found["state"], found["reason"]) == (state, "because")
    [event] = events(ledger, f"file.{state.lower()}")
    assert event["detail"] == {"file": row["id"], "reason": "because"}


def test_a_released_file_leaves_its_window(ledger: Ledger) -> None:
    """It was not whole: the window's work goes on without it."""
    row = assign(ledger, Seen(PATH, 10, OLD))
    with ledger.transaction() as transaction:
        files.set_file_state(transaction, row, FileState.RELEASED, "FILE_PARTIAL")
    with ledger.reading() as reading:
        assert files.window_files(reading, FEED, WINDOW) == []


def test_a_released_file_is_assigned_again_as_the_same_version(ledger: Ledger, clock: HandClock) -> None:
    """Nothing of it was ever read, so there is no version to keep beside it."""
    seen = Seen(PATH, 10, OLD)
    row = assign(ledger, seen)
    with ledger.transaction() as transaction:
        files.set_file_state(transaction, row, FileState.RELEASED, "FILE_PARTIAL")
    grown = Seen(PATH, 20, OLD + 5)
    assert settle(ledger, clock, grown) == [grown]
    again = assign(ledger, grown)
    assert (again["id"], again["version"], again["size"], again["state"]) == (row["id"], 1, 20, "ASSIGNED")
    assert again["reason"] is None
    assert receive(ledger, again, "whole") == (FileState.RECEIVED, None)


def test_a_vanished_file_that_comes_back_is_taken(ledger: Ledger, clock: HandClock) -> None:
    """A mount that blinked or a rename undone brings it back as it was: nothing may be lost by that."""
    seen = Seen(PATH, 10, OLD)
    row = assign(ledger, seen)
    with ledger.transaction() as transaction:
        files.set_file_state(transaction, row, FileState.VANISHED, "FILE_VANISHED")
    assert settle(ledger, clock, seen) == [seen]
    again = assign(ledger, seen)
    assert receive(ledger, again, "bytes") == (FileState.RECEIVED, None)
    assert [found["state"] for found in rows(ledger)] == ["VANISHED", "RECEIVED"]


@pytest.mark.parametrize("state", [FileState.REJECTED, FileState.BASELINE, FileState.READ, FileState.SAME_BYTES])
def test_a_file_in_a_final_state_is_known(ledger: Ledger, clock: HandClock, state: FileState) -> None:
    """Nothing in the folder is taken up again for having been there all the time."""
    seen = Seen(PATH, 10, OLD)
    row = assign(ledger, seen)
    with ledger.transaction() as transaction:
        files.set_file_state(transaction, row, state, "because")
    assert settle(ledger, clock, seen) == []


def test_a_rejected_file_sent_again_unchanged_is_the_same_bytes(ledger: Ledger) -> None:
    """The same wrong file under a new name has one cause, and one entry in the list of exceptions."""
    row = assign(ledger, Seen(PATH, 10, OLD))
    receive(ledger, row, "bytes")
    with ledger.transaction() as transaction:
        files.set_file_state(transaction, row, FileState.REJECTED, "FILE_SCHEMA")
    again = assign(ledger, Seen("/outbound/b.csv", 10, OLD))
    assert receive(ledger, again, "bytes") == (FileState.SAME_BYTES, row["id"])


def test_a_released_files_old_hash_makes_nobody_a_duplicate(ledger: Ledger) -> None:
    """Bytes that were given back were not processed; whoever brings them whole must be read."""
    row = assign(ledger, Seen(PATH, 10, OLD))
    receive(ledger, row, "bytes")
    with ledger.transaction() as transaction:
        files.set_file_state(transaction, row, FileState.RELEASED, "FILE_PARTIAL")
    other = assign(ledger, Seen("/outbound/b.csv", 10, OLD))
    assert receive(ledger, other, "bytes") == (FileState.RECEIVED, None)


def test_list_files_is_newest_first_and_by_state(ledger: Ledger) -> None:
    """A person looks for what came last."""
    a = assign(ledger, Seen("/outbound/a.csv", 10, OLD))
    b = assign(ledger, Seen("/outbound/b.csv", 10, OLD))
    receive(ledger, a, "a")
    with ledger.reading() as reading:
        assert [row["id"] for row in files.list_files(reading)] == [b["id"], a["id"]]
        assert [row["id"] for row in files.list_files(reading, states=[FileState.RECEIVED])] == [a["id"]]
