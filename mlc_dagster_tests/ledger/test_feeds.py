"""The lease on a feed: one writer at a time, and a dead one stalls nobody."""

import os

import pytest

from mlc_dagster.ledger import feeds
from mlc_dagster.ledger.database import Ledger, LedgerError
from mlc_dagster.ledger.feeds import FeedBusy
from mlc_dagster.ledger.process import process_name
from mlc_dagster_tests.ledger.exporting import FEED, LEASE, open_feed
from mlc_dagster_tests.ledger.population import WINDOW, HandClock, race

ME = process_name(os.getpid())
ELSEWHERE = "otherhost|boot/ns|4242|99"


def owner_of(ledger: Ledger) -> str | None:
    with ledger.reading() as reading:
        return feeds.feed_row(reading, FEED)["lease_owner"]


def test_a_second_run_finds_the_feed_busy(ledger: Ledger) -> None:
    """The text says who has it, and until when."""
    open_feed(ledger, ELSEWHERE)
    with pytest.raises(FeedBusy, match="process 4242 on otherhost") as busy:
        open_feed(ledger, ME)
    assert (busy.value.feed, busy.value.until) == (FEED, WINDOW + LEASE)
    assert owner_of(ledger) == ELSEWHERE


def test_of_many_at_once_one_gets_the_feed(ledger: Ledger) -> None:
    """Daemon and command start in the same second."""
    with ledger.transaction() as transaction:
        feeds.ensure_feed(transaction, FEED, "invoices")

    def attempt(owner: str) -> bool:
        try:
            open_feed(ledger, owner)
        except FeedBusy:
            return False
        return True

    results = race([lambda n=n: attempt(f"otherhost|boot/ns|{n}|1") for n in range(6)])
    assert sorted(results) == [False] * 5 + [True]


def test_a_dead_runs_lease_is_taken_over_at_once(ledger: Ledger, dead_process: str) -> None:
    """Somebody killed it and starts it again."""
    open_feed(ledger, dead_process)
    assert open_feed(ledger, ME) == 2
    assert owner_of(ledger) == ME


def test_an_expired_lease_is_taken(ledger: Ledger, clock: HandClock) -> None:
    """Of another host's process nothing is certain but the end of its lease."""
    first = open_feed(ledger, ELSEWHERE)
    clock.advance(60)
    second = open_feed(ledger, ME)
    with ledger.transaction() as transaction:
        assert not feeds.renew_feed(transaction, FEED, first, LEASE)
        assert not feeds.feed_held(transaction, FEED, first)
        feeds.release_feed(transaction, FEED, first)
        assert feeds.feed_held(transaction, FEED, second)


def test_a_renewed_lease_holds(ledger: Ledger, clock: HandClock) -> None:
    """A long upload is not taken away from a run that is alive."""
    fence = open_feed(ledger, ELSEWHERE)
    clock.advance(50)
    with ledger.transaction() as transaction:
        assert feeds.renew_feed(transaction, FEED, fence, LEASE)
    clock.advance(50)
    with pytest.raises(FeedBusy):
        open_feed(ledger, ME)


def test_a_released_feed_is_not_held(ledger: Ledger) -> None:
    """Nor does a late heartbeat take it back."""
    fence = open_feed(ledger, ELSEWHERE)
    with ledger.transaction() as transaction:
        feeds.release_feed(transaction, FEED, fence)
        assert not feeds.feed_held(transaction, FEED, fence)
        assert not feeds.renew_feed(transaction, FEED, fence, LEASE)
    assert open_feed(ledger, ME) == fence + 1


def test_a_feed_keeps_its_source(ledger: Ledger) -> None:
    """Renamed in mlc.yaml, an invoice feed would go on under the journals' position."""
    open_feed(ledger)
    with ledger.transaction() as transaction, pytest.raises(LedgerError, match="another name"):
        feeds.ensure_feed(transaction, FEED, "journals")
    with ledger.transaction() as transaction:
        assert feeds.ensure_feed(transaction, FEED, "invoices")["source"] == "invoices"


def test_an_unknown_feed_is_named(ledger: Ledger) -> None:
    """Before its first run a feed has no position."""
    with ledger.reading() as reading, pytest.raises(LedgerError, match="feed nobody is not in the ledger"):
        feeds.feed_row(reading, "nobody")
