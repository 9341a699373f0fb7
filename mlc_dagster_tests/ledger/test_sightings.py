"""When a file counts as settled, and what a look at the folder costs."""

import sqlalchemy as sa
from sqlalchemy import event

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.ledger.files import (
    Seen,
    assign,
    baseline,
    contact,
    list_sightings,
    open_feed,
    record_sightings,
)
from mlc_dagster_tests.ledger.population import FEED, WINDOW, HandClock, add_window, events

FILE = Seen("/outbound/a.csv", 10, 1_700_000_000)


def look(ledger: Ledger, *listed: Seen, settle: float = 30, grace: float = 600) -> list[Seen]:
    with ledger.transaction() as transaction:
        return record_sightings(transaction, FEED, listed, settle_seconds=settle, zero_byte_grace=grace)


def test_one_sighting_settles_nothing(ledger: Ledger) -> None:
    """The upload may be under way; even a settle time of nothing needs a second look."""
    assert look(ledger, FILE, settle=0) == []


def test_two_equal_sightings_far_enough_apart_settle(ledger: Ledger, clock: HandClock) -> None:
    """The rule itself, to the second."""
    look(ledger, FILE)
    clock.advance(30)
    assert look(ledger, FILE) == [FILE]


def test_two_equal_sightings_too_close_do_not_settle(ledger: Ledger, clock: HandClock) -> None:
    """A sensor and a command that look one after the other must not settle a file between them."""
    look(ledger, FILE)
    clock.advance(29.999)
    assert look(ledger, FILE) == []


def test_sightings_in_between_do_not_begin_the_wait_anew(ledger: Ledger, clock: HandClock) -> None:
    """A sensor that looks every ten seconds must not keep a file waiting for ever."""
    for _ in range(3):
        assert look(ledger, FILE) == []
        clock.advance(10)
    assert look(ledger, FILE) == [FILE]


def test_a_sighting_outlives_the_process_that_made_it(ledger: Ledger, prepared_url: str, clock: HandClock) -> None:
    """A one-shot run settles what an earlier run saw."""
    look(ledger, FILE)
    ledger.close()
    clock.advance(31)
    again = open_ledger(prepared_url, clock=clock)
    assert look(again, FILE) == [FILE]
    again.close()


def test_a_file_that_grew_waits_from_the_start(ledger: Ledger, clock: HandClock) -> None:
    """An upload that stalled and goes on must not be taken in its middle."""
    grown = Seen(FILE.path, 11, FILE.mtime)
    look(ledger, FILE)
    clock.advance(31)
    assert look(ledger, grown) == []
    clock.advance(29)
    assert look(ledger, grown) == []
    clock.advance(1)
    assert look(ledger, grown) == [grown]


def test_a_file_touched_again_waits_from_the_start(ledger: Ledger, clock: HandClock) -> None:
    """The same size with another time may be other bytes."""
    look(ledger, FILE)
    clock.advance(31)
    assert look(ledger, Seen(FILE.path, FILE.size, 1_700_000_009)) == []


def test_a_file_that_went_away_is_forgotten(ledger: Ledger, clock: HandClock) -> None:
    """When it comes back it is a new upload, and its old sighting must not settle it."""
    look(ledger, FILE)
    look(ledger)
    with ledger.reading() as reading:
        assert list_sightings(reading, FEED) == []
    clock.advance(31)
    assert look(ledger, FILE) == []


def test_many_files_that_went_away_are_forgotten(ledger: Ledger) -> None:
    """A folder that is emptied leaves nothing behind, however many there were."""
    look(ledger, *(Seen(f"/outbound/{n}", 1, 1) for n in range(1201)))
    look(ledger)
    with ledger.reading() as reading:
        assert list_sightings(reading, FEED) == []


def test_an_empty_file_waits_longer(ledger: Ledger, clock: HandClock) -> None:
    """Some servers create the file first and write it much later; no bytes is what an upload begins with."""
    empty = Seen(FILE.path, 0, FILE.mtime)
    look(ledger, empty)
    clock.advance(599)
    assert look(ledger, empty) == []
    clock.advance(1)
    assert look(ledger, empty) == [empty]


def test_unknown_size_and_time_settle_like_any_other(ledger: Ledger, clock: HandClock) -> None:
    """A server that tells neither must not make its files invisible."""
    bare = Seen(FILE.path, None, None)
    look(ledger, bare)
    clock.advance(31)
    assert look(ledger, bare) == [bare]


def test_another_feed_has_its_own_sightings(ledger: Ledger, clock: HandClock) -> None:
    """Two folders may hold files of the same path."""
    look(ledger, FILE)
    clock.advance(31)
    with ledger.transaction() as transaction:
        assert record_sightings(transaction, "other", [FILE], settle_seconds=30, zero_byte_grace=0) == []


def test_an_assigned_file_is_not_settled_again(ledger: Ledger, clock: HandClock) -> None:
    """What has a window already must not get a second one at the next look."""
    look(ledger, FILE)
    clock.advance(31)
    look(ledger, FILE)
    with ledger.transaction() as transaction:
        assign(transaction, FEED, [FILE], WINDOW, add_window(transaction))
    clock.advance(31)
    assert look(ledger, FILE) == []
    with ledger.reading() as reading:
        assert list_sightings(reading, FEED) == []


def test_ten_thousand_known_files_cost_no_write(ledger: Ledger) -> None:
    """Nobody tidies an outbound folder; the poll every few seconds must stay a read."""
    known = [Seen(f"/outbound/{n}", n, n) for n in range(10_000)]
    with ledger.transaction() as transaction:
        assert baseline(transaction, FEED, known) == 10_000
    statements: list[str] = []
    event.listen(
        ledger.engine, "before_cursor_execute", lambda c, cursor, statement, *rest: statements.append(statement.upper())
    )
    assert look(ledger, *known) == []
    written = [s for s in statements if s.lstrip().startswith(("INSERT", "UPDATE", "DELETE"))]
    assert written == []
    assert len(statements) < 10


def test_a_folder_empty_at_first_contact_is_open(ledger: Ledger) -> None:
    """Nothing old can be in it, so nobody has to decide anything."""
    with ledger.transaction() as transaction:
        assert contact(transaction, FEED, empty=True).opened


def test_a_folder_with_files_at_first_contact_stays_closed(ledger: Ledger) -> None:
    """Ten thousand old files are not new invoices, also at the second look."""
    for _ in range(2):
        with ledger.transaction() as transaction:
            assert not contact(transaction, FEED, empty=False).opened


def test_a_closed_folder_that_is_emptied_stays_closed(ledger: Ledger) -> None:
    """A moment without files, such as a mount that blinks, is not a person's decision."""
    with ledger.transaction() as transaction:
        contact(transaction, FEED, empty=False)
    with ledger.transaction() as transaction:
        assert not contact(transaction, FEED, empty=True).opened


def test_first_contact_is_audited_once(ledger: Ledger, clock: HandClock) -> None:
    """The trail says when the folder was first seen and what it looked like; later looks are no first contact."""
    for _ in range(2):
        with ledger.transaction() as transaction:
            assert contact(transaction, FEED, empty=False).first_seen_at == WINDOW
        clock.advance(60)
    [found] = events(ledger, "feed.first_contact")
    assert found["detail"] == {"empty": False}


def test_a_person_opens_the_folder_once(ledger: Ledger, clock: HandClock) -> None:
    """Who decided, when and how stays as it was; a second decision changes nothing and claims nothing."""
    with ledger.transaction() as transaction:
        contact(transaction, FEED, empty=False)
        open_feed(transaction, FEED, "baseline")
    clock.advance(60)
    with ledger.transaction() as transaction:
        open_feed(transaction, FEED, "process")
        assert contact(transaction, FEED, empty=False).opened
    with ledger.reading() as reading:
        assert reading.value(sa.select(schema.feed.c.opened_how)) == "baseline"
    assert [found["detail"] for found in events(ledger, "feed.opened")] == [{"how": "baseline"}]


def test_a_folder_may_be_opened_before_it_was_seen(ledger: Ledger) -> None:
    """The command that decides may be the first to look."""
    with ledger.transaction() as transaction:
        open_feed(transaction, FEED, "process")
    with ledger.transaction() as transaction:
        assert contact(transaction, FEED, empty=False).opened


def test_baseline_makes_files_known_and_audits_each(ledger: Ledger, clock: HandClock) -> None:
    """Files that were handled before go-live are never posted, and the trail names every one of them."""
    with ledger.transaction() as transaction:
        assert baseline(transaction, FEED, [FILE]) == 1
        assert baseline(transaction, FEED, [FILE]) == 0
    look(ledger, FILE)
    clock.advance(31)
    assert look(ledger, FILE) == []
    [found] = events(ledger, "file.baseline")
    assert found["subject"] == f"file:{FEED}:{FILE.path}"


def test_a_baselined_file_that_changes_is_new(ledger: Ledger, clock: HandClock) -> None:
    """A name that was used before go-live may carry new invoices after it."""
    with ledger.transaction() as transaction:
        baseline(transaction, FEED, [FILE])
    changed = Seen(FILE.path, 99, 1_800_000_000)
    look(ledger, changed)
    clock.advance(31)
    assert look(ledger, changed) == [changed]
