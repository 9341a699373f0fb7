"""How a generation ends: who may say so, and what stays open."""

import datetime as dt

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import files, schema
from mlc_dagster.ledger.database import Ledger, Row
from mlc_dagster.ledger.files import Seen
from mlc_dagster.ledger.window_ends import fail_generation, finish_generation
from mlc_dagster.ledger.window_hold import hold_generation
from mlc_dagster.ledger.windows import WindowBusy, WindowLost, runs_wanted, take_window
from mlc_dagster_tests.ledger.population import FEED, WINDOW, HandClock, add_file, add_window, events

LEASE = dt.timedelta(seconds=60)
FIRST, SECOND = "host-a|boot|1|1", "host-b|boot|2|2"


@pytest.fixture(autouse=True)
def window(ledger: Ledger) -> None:
    """A window with one open generation."""
    with ledger.transaction() as transaction:
        add_window(transaction)


def take(ledger: Ledger, generation: int | None = 1, owner: str = FIRST) -> int:
    with ledger.transaction() as transaction:
        return take_window(transaction, FEED, WINDOW, generation, owner=owner, run_id=owner, lease=LEASE)[0]


def run_row(ledger: Ledger, generation: int = 1) -> Row:
    with ledger.reading() as reading:
        row = reading.row(sa.select(schema.window_run).where(schema.window_run.c.generation == generation))
    assert row is not None
    return row


def keys(ledger: Ledger) -> list[str]:
    with ledger.transaction() as transaction:
        return [run.run_key for run in runs_wanted(transaction, FEED)]


@pytest.mark.parametrize("received", [False, True])
def test_a_generation_with_an_unread_file_stays_open(ledger: Ledger, clock: HandClock, received: bool) -> None:
    """Somebody executed its last step alone: DONE would mean that nobody ever asks for the file again."""
    keys(ledger)
    fence = take(ledger)
    with ledger.transaction() as transaction:
        if received:
            path = add_file(transaction)["path"]
        else:
            path = "/outbound/x.csv"
            files.assign(transaction, FEED, [Seen(path, 100, 1_700_000_000)], WINDOW, 1)
        finish_generation(transaction, FEED, WINDOW, 1, {}, fence=fence)
    row = run_row(ledger)
    assert (row["state"], row["finished_at"]) == ("OPEN", None)
    assert path in row["failure"]
    clock.advance(60)
    assert keys(ledger) == ["2026-03-02-09:00/g1/a2"]


def test_a_run_that_lost_the_window_does_not_end_the_others_generation(ledger: Ledger, clock: HandClock) -> None:
    """It slept through its lease; the work is not done while the run that took over is at it."""
    late = take(ledger)
    clock.advance(61)
    take(ledger, owner=SECOND)
    with ledger.transaction() as transaction, pytest.raises(WindowLost, match="taken over by another run"):
        finish_generation(transaction, FEED, WINDOW, 1, {}, fence=late)
    assert run_row(ledger)["state"] == "OPEN"
    assert events(ledger, "window.done") == []


def test_a_run_that_lost_the_window_does_not_put_off_the_others_generation(ledger: Ledger, clock: HandClock) -> None:
    """Its failure is told in the trail, and nowhere else."""
    late = take(ledger)
    clock.advance(61)
    fence = take(ledger, owner=SECOND)
    with ledger.transaction() as transaction:
        fail_generation(transaction, FEED, WINDOW, 1, "the server hung up", fence=late)
    row = run_row(ledger)
    assert (row["failure"], row["not_before"], row["run_id"]) == (None, None, SECOND)
    [event] = events(ledger, "window.attempt_failed")
    assert event["detail"] == {"generation": 1, "failure": "the server hung up"}
    with ledger.transaction() as transaction:
        finish_generation(transaction, FEED, WINDOW, 1, {}, fence=fence)
    assert run_row(ledger)["state"] == "DONE"


def test_a_step_that_wakes_after_its_lease_says_so(ledger: Ledger, clock: HandClock) -> None:
    """The whole hold: the run is told that another one goes on, and nothing is marked by it."""
    held = hold_generation(ledger, FEED, WINDOW, 1, owner=FIRST, run_id="A", last=True, wait=lambda _: True)

    def stand_still() -> None:
        clock.advance(61)
        take(ledger, owner=SECOND)

    with pytest.raises(WindowLost), held:
        stand_still()
    assert run_row(ledger)["state"] == "OPEN"
    with ledger.reading() as reading:
        assert reading.value(sa.select(schema.poll_window.c.lease_owner)) == SECOND


def test_who_found_the_window_busy_puts_off_nobody_elses_work(ledger: Ledger) -> None:
    """A second attempt at the same generation: the first one's pause and failure are not its to write."""
    take(ledger)
    busy = hold_generation(ledger, FEED, WINDOW, 1, owner=SECOND, run_id="B", last=True)
    with pytest.raises(WindowBusy), busy:
        pytest.fail("two runs hold one window")
    row = run_row(ledger)
    assert (row["failure"], row["not_before"], row["run_id"]) == (None, None, FIRST)


def test_who_found_the_window_busy_has_been_an_attempt(ledger: Ledger, clock: HandClock) -> None:
    """The holder works on another generation: this one is asked for again under a new key, after a pause."""
    keys(ledger)
    with ledger.transaction() as transaction:
        add_window(transaction)
    take(ledger, 2)
    busy = hold_generation(ledger, FEED, WINDOW, 1, owner=SECOND, run_id="B", last=True)
    with pytest.raises(WindowBusy), busy:
        pytest.fail("two runs hold one window")
    assert "is being worked on" in run_row(ledger)["failure"]
    clock.advance(61)
    assert "2026-03-02-09:00/g1/a2" in keys(ledger)


def test_a_reconciliation_that_fails_is_over(ledger: Ledger, clock: HandClock) -> None:
    """A person asked for it and is told; repeated by itself at every poll it would block its window for ever."""
    held = hold_generation(ledger, FEED, WINDOW, None, owner=FIRST, run_id="R", last=False, wait=lambda _: True)
    with pytest.raises(RuntimeError), held:
        raise RuntimeError("Fusion is down")
    row = run_row(ledger, 2)
    assert (row["state"], row["failure"], row["not_before"]) == ("FAILED", "RuntimeError: Fusion is down", None)
    assert row["finished_at"] == clock.now
    assert keys(ledger) == ["2026-03-02-09:00/g1/a1"]


def test_a_reconciliation_believed_dead_goes_on_when_its_next_step_comes(ledger: Ledger) -> None:
    """Its process stood still between two steps: what it does then counts."""
    take(ledger, None)
    with ledger.transaction() as transaction:
        transaction.execute(sa.update(schema.window_run).values(state="FAILED"))
    fence = take(ledger, None)
    assert run_row(ledger, 2)["state"] == "OPEN"
    with ledger.transaction() as transaction:
        finish_generation(transaction, FEED, WINDOW, 2, {}, fence=fence)
    assert run_row(ledger, 2)["state"] == "DONE"
