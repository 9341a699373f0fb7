"""The lease on a window: one run at a time, and a dead run stalls nobody."""

import datetime as dt
import os

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.windows import WindowBusy, release_window, renew_window, take_window
from mlc_dagster_tests.ledger.population import FEED, WINDOW, HandClock, add_window, race

LEASE = dt.timedelta(seconds=60)
ME = process_name(os.getpid())
ELSEWHERE = "otherhost|boot/ns|4242|99"


@pytest.fixture(autouse=True)
def window(ledger: Ledger) -> None:
    with ledger.transaction() as transaction:
        add_window(transaction)


def take(ledger: Ledger, owner: str) -> int:
    """The fence under which ``owner`` holds the window."""
    with ledger.transaction() as transaction:
        return take_window(transaction, FEED, WINDOW, 1, owner=owner, run_id=owner, lease=LEASE)[0]


def renew(ledger: Ledger, owner: str) -> bool:
    with ledger.transaction() as transaction:
        return renew_window(transaction, FEED, WINDOW, owner, LEASE)


def owner_of(ledger: Ledger) -> str | None:
    with ledger.reading() as reading:
        return reading.value(sa.select(schema.poll_window.c.lease_owner))


def test_a_second_owner_finds_the_window_busy(ledger: Ledger) -> None:
    """The text says who has it, until when, and that nothing needs to be done."""
    take(ledger, ELSEWHERE)
    with pytest.raises(WindowBusy) as busy:
        take(ledger, ME)
    assert (busy.value.owner, busy.value.until) == (ELSEWHERE, WINDOW + LEASE)
    assert "process 4242 on otherhost" in str(busy.value)
    assert owner_of(ledger) == ELSEWHERE


def test_of_many_at_once_one_gets_the_window(ledger: Ledger) -> None:
    """Daemon and command start in the same second; the database decides."""

    def attempt(owner: str) -> bool:
        try:
            take(ledger, owner)
        except WindowBusy:
            return False
        return True

    owners = [f"otherhost|boot/ns|{n}|1" for n in range(6)]
    results = race([lambda owner=owner: attempt(owner) for owner in owners])
    assert sorted(results) == [False] * 5 + [True]
    assert owner_of(ledger) == owners[results.index(True)]


def test_the_owner_may_take_it_again(ledger: Ledger) -> None:
    """The steps of one run take the window one after the other."""
    take(ledger, ELSEWHERE)
    assert take(ledger, ELSEWHERE) == 2


def test_a_renewed_lease_holds(ledger: Ledger, clock: HandClock) -> None:
    """A long window is not taken away from a run that is alive."""
    take(ledger, ELSEWHERE)
    clock.advance(50)
    assert renew(ledger, ELSEWHERE)
    clock.advance(50)
    with pytest.raises(WindowBusy):
        take(ledger, ME)


def test_an_expired_lease_is_taken(ledger: Ledger, clock: HandClock) -> None:
    """Of another host's process nothing is certain but the end of its lease."""
    take(ledger, ELSEWHERE)
    clock.advance(60)
    take(ledger, ME)
    assert owner_of(ledger) == ME


def test_the_one_that_lost_it_cannot_renew(ledger: Ledger, clock: HandClock) -> None:
    """A run that was stopped and wakes late learns that it must stop."""
    take(ledger, ELSEWHERE)
    clock.advance(60)
    take(ledger, ME)
    assert renew(ledger, ELSEWHERE) is False
    assert owner_of(ledger) == ME


def test_the_one_that_lost_it_cannot_release_it(ledger: Ledger, clock: HandClock) -> None:
    """Its tidying up must not open the window under the new owner's hands."""
    take(ledger, ELSEWHERE)
    clock.advance(60)
    take(ledger, ME)
    with ledger.transaction() as transaction:
        release_window(transaction, FEED, WINDOW, ELSEWHERE)
    assert owner_of(ledger) == ME


def test_a_released_window_is_free_at_once(ledger: Ledger) -> None:
    """The next generation need not wait for the lease's end."""
    take(ledger, ELSEWHERE)
    with ledger.transaction() as transaction:
        release_window(transaction, FEED, WINDOW, ELSEWHERE)
    take(ledger, ME)
    assert owner_of(ledger) == ME


def test_a_dead_processs_lease_is_taken_over_at_once(ledger: Ledger, dead_process: str) -> None:
    """Somebody killed the run and starts it again: it must not tell him to wait."""
    take(ledger, dead_process)
    take(ledger, ME)
    assert owner_of(ledger) == ME


def test_a_live_processs_lease_is_not(ledger: Ledger) -> None:
    """This very process holds it under another run."""
    take(ledger, f"{ME}|one run")
    with pytest.raises(WindowBusy):
        take(ledger, f"{ME}|another run")


def test_every_taking_has_a_higher_fence(ledger: Ledger, clock: HandClock) -> None:
    """What was written under an older one can be told apart."""
    fences = [take(ledger, ELSEWHERE)]
    clock.advance(60)
    fences += [take(ledger, ME), take(ledger, ME)]
    assert fences == [1, 2, 3]
