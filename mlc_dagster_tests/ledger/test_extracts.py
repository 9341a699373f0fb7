"""Extracts: in which order feeds take them, and what is known of each record."""

import datetime as dt
from typing import Any

from mlc_dagster.ledger import extracts
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.extracts import Reading
from mlc_dagster_tests.ledger.population import WINDOW

QUARTER = dt.timedelta(minutes=15)


def record(ledger: Ledger, number: int, **changes: Any) -> int:
    """The extract of the ``number``-th window."""
    fields: dict[str, Any] = {
        "source": "invoices",
        "kind": "WINDOWS",
        "window_start": WINDOW + number * QUARTER,
        "window_end": WINDOW + (number + 1) * QUARTER,
        "read_from": WINDOW,
        "read_at": WINDOW + (number + 2) * QUARTER,
        "sha256": "0" * 64,
        "bytes_": 1,
        "records": 1,
        "lines": 1,
        "requests": 1,
        "run_id": "run",
    }
    with ledger.transaction() as transaction:
        return extracts.record_extract(transaction, **(fields | changes))


def test_a_source_is_read_until_the_end_of_its_last_window(ledger: Ledger) -> None:
    """Looking back reaches the present too, but closes no window."""
    with ledger.reading() as reading:
        assert extracts.read_until(reading, "invoices") is None
    record(ledger, 0)
    record(ledger, 5, kind="LOOK_BACK")
    record(ledger, 7, source="journals")
    with ledger.reading() as reading:
        assert extracts.read_until(reading, "invoices") == WINDOW + QUARTER


def test_extracts_come_in_the_order_of_reading(ledger: Ledger) -> None:
    """Of the feed's own source, after its position."""
    first, second = record(ledger, 0), record(ledger, 1)
    record(ledger, 1, source="journals")
    third = record(ledger, 0, kind="SWEEP")
    with ledger.reading() as reading:
        assert [row["id"] for row in extracts.extracts_after(reading, "invoices", 0, until=None)] == [
            first, second, third,
        ]  # fmt: skip
        assert [row["id"] for row in extracts.extracts_after(reading, "invoices", first, until=None)] == [second, third]


def test_none_is_skipped_for_reaching_too_far(ledger: Ledger) -> None:
    """The position is one number: what lies behind it would never be looked at again."""
    first = record(ledger, 0)
    record(ledger, 3)
    record(ledger, 0, kind="SWEEP")
    with ledger.reading() as reading:
        found = extracts.extracts_after(reading, "invoices", 0, until=WINDOW + QUARTER)
    assert [row["id"] for row in found] == [first]


def test_a_window_finds_the_extracts_that_closed_it(ledger: Ledger) -> None:
    """One read may have closed many windows."""
    wide = record(ledger, 0, window_end=WINDOW + 4 * QUARTER)
    record(ledger, 4)
    record(ledger, 1, kind="SWEEP")
    with ledger.reading() as reading:
        found = extracts.extracts_covering(reading, "invoices", WINDOW + QUARTER, WINDOW + 2 * QUARTER)
        after = extracts.extracts_covering(reading, "invoices", WINDOW + 5 * QUARTER, WINDOW + 6 * QUARTER)
    assert ([row["id"] for row in found], after) == ([wide], [])


def test_the_first_and_the_last_of_a_kind(ledger: Ledger) -> None:
    """They say when to look back again."""
    first = record(ledger, 0)
    sweep = record(ledger, 1, kind="SWEEP")
    record(ledger, 2)
    with ledger.reading() as reading:
        last = extracts.last_of_kind(reading, "invoices", "SWEEP")
        start = extracts.first_extract(reading, "invoices")
        assert extracts.last_of_kind(reading, "invoices", "LOOK_BACK") is None
    assert (last and last["id"], start and start["id"]) == (sweep, first)


def test_the_latest_reading_of_a_record_is_what_is_known(ledger: Ledger) -> None:
    """The sweep compares Fusion's ids with it; a batch of several journals is as fresh as its freshest."""
    first, second = record(ledger, 0), record(ledger, 1)
    with ledger.transaction() as transaction:
        rows = [("1/a", 1, "aa", WINDOW), ("1/b", 1, "bb", WINDOW), ("2", 2, "cc", None)]
        extracts.remember_records(transaction, "invoices", first, rows)
        extracts.remember_records(transaction, "invoices", second, [("1/a", 1, "dd", WINDOW + QUARTER)])
    with ledger.reading() as reading:
        assert extracts.known_since(reading, "invoices", [1, 2, 3]) == {1: WINDOW + QUARTER, 2: None}
        assert extracts.known_digests(reading, "invoices", ["1/a", "x"]) == {"1/a": "dd"}
        assert extracts.latest_readings(reading, "invoices", ["1/b"]) == {"1/b": Reading("bb", first)}
        assert [row["id"] for row in extracts.newest_extracts(reading, "invoices")] == [second, first]


def test_many_records_are_asked_for_in_lists(ledger: Ledger) -> None:
    """SQLite takes no IN list of any length, and a window may change thousands."""
    key = record(ledger, 0)
    with ledger.transaction() as transaction:
        extracts.remember_records(transaction, "invoices", key, [(str(n), n, "aa", WINDOW) for n in range(3000)])
    with ledger.reading() as reading:
        assert len(extracts.known_since(reading, "invoices", range(4000))) == 3000
