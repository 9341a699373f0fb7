"""Poll windows and the frozen pieces of work on them: what must run, and how it is asked for."""

import datetime as dt
import os
from itertools import chain

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.database import Ledger, LedgerError
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.window_ends import fail_generation, finish_generation
from mlc_dagster.ledger.windows import (
    GenerationKind,
    RunWanted,
    close_windows,
    ensure_window,
    open_generation,
    pin_cron,
    release_window,
    runs_wanted,
    take_window,
    window_key,
    window_start,
)
from mlc_dagster_tests.ledger.population import FEED, MINUTES, WINDOW, HandClock, add_window, events, race

STEP = dt.timedelta(minutes=MINUTES)
LEASE = dt.timedelta(seconds=60)
ME = process_name(os.getpid())


def wanted(ledger: Ledger) -> list[RunWanted]:
    with ledger.transaction() as transaction:
        return runs_wanted(transaction, FEED)


def keys(ledger: Ledger) -> list[str]:
    return [run.run_key for run in wanted(ledger)]


def take(ledger: Ledger, generation: int | None = 1, owner: str = ME) -> tuple[int, int, GenerationKind]:
    with ledger.transaction() as transaction:
        return take_window(transaction, FEED, WINDOW, generation, owner=owner, run_id="run", lease=LEASE)


def close(ledger: Ledger, before: dt.datetime, *, first: dt.datetime = WINDOW, most: int = 500) -> list[dt.datetime]:
    with ledger.transaction() as transaction:
        return close_windows(transaction, FEED, first=first, before=before, minutes=MINUTES, most=most)


def test_a_window_is_named_by_its_start_in_utc() -> None:
    """The name is the partition key; a start given in another zone is the same window."""
    start = dt.datetime(2026, 3, 2, 10, 0, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    assert window_key(start) == "2026-03-02-09:00"
    assert window_start("2026-03-02-09:00") == WINDOW


def test_generations_count_from_one_per_window(ledger: Ledger) -> None:
    """Many pieces of work on one window are normal; each has its own number for ever."""
    with ledger.transaction() as transaction:
        numbers = [
            add_window(transaction),
            add_window(transaction, kind="RETRY"),
            add_window(transaction, WINDOW + STEP),
        ]
    assert numbers == [1, 2, 1]
    assert [event["detail"]["work"] for event in events(ledger, "window.opened")] == ["FILES", "RETRY", "FILES"]


def test_generations_opened_at_once_get_different_numbers(ledger: Ledger) -> None:
    """The sensor and a command may decide at the same moment; neither may fail for it."""
    with ledger.transaction() as transaction:
        ensure_window(transaction, FEED, WINDOW, MINUTES)

    def open_one() -> int:
        with ledger.transaction() as transaction:
            return open_generation(transaction, FEED, WINDOW, GenerationKind.RETRY)

    assert sorted(race([open_one] * 6)) == [1, 2, 3, 4, 5, 6]


def test_an_open_generation_is_wanted_oldest_window_first(ledger: Ledger) -> None:
    """After a pause the backlog is caught up in the order in which it arose."""
    with ledger.transaction() as transaction:
        add_window(transaction, WINDOW + STEP)
        add_window(transaction)
        add_window(transaction)
    assert keys(ledger) == ["2026-03-02-09:00/g1/a1", "2026-03-02-09:00/g2/a1", "2026-03-02-09:15/g1/a1"]


def test_the_same_attempt_has_the_same_run_key(ledger: Ledger, clock: HandClock) -> None:
    """Dagster takes a run key once: a tick that is repeated asks for nothing new."""
    with ledger.transaction() as transaction:
        add_window(transaction)
    first = keys(ledger)
    clock.advance(60)
    assert keys(ledger) == first == ["2026-03-02-09:00/g1/a1"]


def test_a_lost_request_is_asked_for_again_under_a_new_key(ledger: Ledger, clock: HandClock) -> None:
    """A crash between the decision and the launch, or a run that was deleted from the queue, loses nothing."""
    with ledger.transaction() as transaction:
        add_window(transaction)
    wanted(ledger)
    clock.advance(15 * 60)
    assert keys(ledger) == ["2026-03-02-09:00/g1/a1"]
    clock.advance(1)
    assert keys(ledger) == ["2026-03-02-09:00/g1/a2"]
    clock.advance(60)
    assert keys(ledger) == ["2026-03-02-09:00/g1/a2"]


def test_a_generation_under_way_is_not_wanted(ledger: Ledger) -> None:
    """A second run would only find the window busy."""
    with ledger.transaction() as transaction:
        add_window(transaction)
    wanted(ledger)
    take(ledger)
    assert wanted(ledger) == []


def test_while_a_window_is_worked_on_its_other_generations_wait(ledger: Ledger) -> None:
    """One run per window at a time: the next generation's turn comes when the lease is given back."""
    with ledger.transaction() as transaction:
        add_window(transaction)
    wanted(ledger)
    take(ledger)
    with ledger.transaction() as transaction:
        add_window(transaction)
    assert wanted(ledger) == []
    with ledger.transaction() as transaction:
        finish_generation(transaction, FEED, WINDOW, 1, {}, fence=1)
        release_window(transaction, FEED, WINDOW, ME)
    assert keys(ledger) == ["2026-03-02-09:00/g2/a1"]


def test_a_run_whose_lease_ran_out_counts_as_dead(ledger: Ledger, clock: HandClock) -> None:
    """Its work is asked for again, under a key that Dagster has not seen."""
    with ledger.transaction() as transaction:
        add_window(transaction)
    wanted(ledger)
    take(ledger, owner="elsewhere|boot|1|2")
    clock.advance(59)
    assert wanted(ledger) == []
    clock.advance(1)
    assert keys(ledger) == ["2026-03-02-09:00/g1/a2"]


def test_a_run_whose_process_is_gone_is_asked_for_at_once(ledger: Ledger, dead_process: str) -> None:
    """A killed run must not hold its window until the lease ends."""
    with ledger.transaction() as transaction:
        add_window(transaction)
    wanted(ledger)
    take(ledger, owner=dead_process)
    assert keys(ledger) == ["2026-03-02-09:00/g1/a2"]


def test_a_failed_attempt_is_asked_for_again_after_a_pause(ledger: Ledger, clock: HandClock) -> None:
    """A Fusion that is down must not be asked every few seconds, and not be forgotten."""
    with ledger.transaction() as transaction:
        add_window(transaction)
    wanted(ledger)
    take(ledger)
    with ledger.transaction() as transaction:
        fail_generation(transaction, FEED, WINDOW, 1, "Fusion is down", fence=1)
        release_window(transaction, FEED, WINDOW, ME)
    clock.advance(14)
    assert wanted(ledger) == []
    clock.advance(1)
    assert keys(ledger) == ["2026-03-02-09:00/g1/a2"]
    assert [event["detail"]["failure"] for event in events(ledger, "window.failed")] == ["Fusion is down"]


def test_the_pause_doubles_up_to_a_quarter_of_an_hour(ledger: Ledger, clock: HandClock) -> None:
    """Long enough to spare a system that is down, short enough to notice that it is up again."""
    pauses: list[float] = []
    with ledger.transaction() as transaction:
        add_window(transaction)
    for attempt in range(1, 9):
        assert keys(ledger) == [f"2026-03-02-09:00/g1/a{attempt}"]
        take(ledger)
        with ledger.transaction() as transaction:
            fail_generation(transaction, FEED, WINDOW, 1, "down", fence=attempt)
            release_window(transaction, FEED, WINDOW, ME)
        with ledger.reading() as reading:
            pause = (reading.value(sa.select(schema.window_run.c.not_before)) - clock.now).total_seconds()
        pauses.append(pause)
        clock.advance(pause)
    assert pauses == [15, 30, 60, 120, 240, 480, 900, 900]


def test_a_run_that_failed_before_it_got_the_window_has_been_an_attempt(ledger: Ledger, clock: HandClock) -> None:
    """Asked for under its old key, Dagster would say that it ran already and never run it."""
    with ledger.transaction() as transaction:
        add_window(transaction)
    wanted(ledger)
    with ledger.transaction() as transaction:
        fail_generation(transaction, FEED, WINDOW, 1, "window busy")
    clock.advance(15)
    assert keys(ledger) == ["2026-03-02-09:00/g1/a2"]


def test_a_finished_generation_is_never_wanted_again(ledger: Ledger, clock: HandClock) -> None:
    """Done is done; what waits for later gets a generation of its own."""
    with ledger.transaction() as transaction:
        add_window(transaction)
    wanted(ledger)
    take(ledger)
    with ledger.transaction() as transaction:
        finish_generation(transaction, FEED, WINDOW, 1, {"created": 3}, fence=1)
        release_window(transaction, FEED, WINDOW, ME)
    clock.advance(86_400)
    assert wanted(ledger) == []
    [event] = events(ledger, "window.done")
    assert event["detail"] == {"generation": 1, "created": 3}


def test_a_run_by_hand_opens_a_reconciliation(ledger: Ledger) -> None:
    """Re-materialising a window takes the whole of it, as a piece of work of its own."""
    with ledger.transaction() as transaction:
        add_window(transaction)
    assert take(ledger, None)[1:] == (2, GenerationKind.RECONCILE)


def test_a_window_nobody_polled_cannot_be_worked_on(ledger: Ledger) -> None:
    """A partition of the future or before go-live has nothing in it; the run says so."""
    with pytest.raises(LedgerError, match="2026-03-02-09:00"):
        take(ledger, None)


def test_a_generation_that_does_not_exist_is_refused(ledger: Ledger) -> None:
    """A mistyped tag must not run as something else; the text says what to leave away."""
    with ledger.transaction() as transaction:
        add_window(transaction)
    with pytest.raises(LedgerError, match=r"generation 7.*mlc/generation"):
        take(ledger, 7)


def test_every_window_gets_one_outcome_without_a_gap(ledger: Ledger) -> None:
    """A quiet night is provably empty, window by window, not merely without news."""
    with ledger.transaction() as transaction:
        add_window(transaction, WINDOW + STEP)
    assert close(ledger, WINDOW + 4 * STEP) == [WINDOW, WINDOW + 2 * STEP, WINDOW + 3 * STEP]
    with ledger.reading() as reading:
        rows = reading.rows(sa.select(schema.poll_window).order_by(schema.poll_window.c.window_start))
    assert [row["outcome"] for row in rows] == ["EMPTY", "FILES", "EMPTY", "EMPTY"]
    assert [row["window_end"] for row in rows] == [WINDOW + n * STEP for n in range(1, 5)]


def test_an_empty_window_is_reported_once(ledger: Ledger) -> None:
    """It is marked green in Dagster by one event, not by one per tick."""
    assert close(ledger, WINDOW + STEP) == [WINDOW]
    assert close(ledger, WINDOW + STEP) == []
    assert close(ledger, WINDOW + 2 * STEP) == [WINDOW + STEP]


def test_two_polls_at_once_report_an_empty_window_once(ledger: Ledger) -> None:
    """The sensor and a command may close windows at the same moment."""
    reports = race([lambda: close(ledger, WINDOW + 8 * STEP)] * 4)
    assert sorted(start for report in reports for start in report) == [WINDOW + n * STEP for n in range(8)]


def test_the_window_that_is_open_is_not_closed(ledger: Ledger) -> None:
    """Files may still come into it."""
    assert close(ledger, WINDOW + STEP - dt.timedelta(seconds=1)) == []


def test_a_long_pause_is_closed_in_portions(ledger: Ledger) -> None:
    """A month of downtime must not become one tick that never ends; nothing is skipped between portions."""
    end = WINDOW + 7 * STEP
    portions = [close(ledger, end, most=3) for _ in range(4)]
    assert [len(portion) for portion in portions] == [3, 3, 1, 0]
    assert list(chain.from_iterable(portions)) == [WINDOW + n * STEP for n in range(7)]


def test_windows_go_on_from_the_last_one_whatever_the_start_says(ledger: Ledger) -> None:
    """A changed poll.start may neither repeat windows nor leave a hole."""
    close(ledger, WINDOW + 2 * STEP)
    assert close(ledger, WINDOW + 4 * STEP, first=WINDOW + 3 * STEP) == [WINDOW + 2 * STEP, WINDOW + 3 * STEP]


def test_the_first_use_pins_the_length_of_windows(ledger: Ledger) -> None:
    """The same setting passes for ever; another one would cut through windows that exist."""
    for _ in range(2):
        with ledger.transaction() as transaction:
            pin_cron(transaction, "*/15 * * * *")
    with ledger.transaction() as transaction, pytest.raises(LedgerError) as refusal:
        pin_cron(transaction, "*/5 * * * *")
    assert "'*/5 * * * *'" in str(refusal.value)
    assert "'*/15 * * * *'" in str(refusal.value)
