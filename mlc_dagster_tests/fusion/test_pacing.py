"""The pace must live with random 503s and with a hard limit of the server, and tell one from the other.

The server is simulated in virtual time with a fixed seed, so every run decides the same.
"""

import asyncio
import heapq
import random
from typing import NamedTuple

import pytest

from mlc_dagster.fusion.pacing import Limiter, Pace
from mlc_dagster_tests.fusion.raw_server import in_loop

LATENCY = 0.08


class FixedPace(Pace):
    """The yardstick: a limit that never moves."""

    def replied(self, epoch: int, in_flight: int, *, refused: bool) -> None:
        pass


class Course(NamedTuple):
    per_second: float
    refused_share: float


def post_all(
    pace: Pace, count: int, *, noise: float = 0.0, cap: int = 1000, refusal_takes: float = LATENCY, seed: int = 1
) -> Course:
    """Posts ``count`` invoices, each until accepted; more than ``cap`` at once are refused, others at random."""
    chance = random.Random(seed)
    now, served, in_flight, sent, refused, accepted, waiting = 0.0, 0, 0, 0, 0, 0, count
    events: list[tuple[float, int, str, int, int]] = []
    while accepted < count:
        while waiting and in_flight < pace.limit:
            waiting, in_flight, sent = waiting - 1, in_flight + 1, sent + 1
            turned_away = served >= cap or chance.random() < noise
            served += not turned_away
            takes = (refusal_takes if turned_away else LATENCY) * chance.uniform(0.9, 1.1)
            kind = "refused" if turned_away else "accepted"
            heapq.heappush(events, (now + takes, sent, kind, pace.epoch, in_flight))
        now, number, kind, epoch, started_with = heapq.heappop(events)
        if kind == "due again":
            waiting += 1
            continue
        in_flight -= 1
        pace.replied(epoch, started_with, refused=kind == "refused")
        if kind == "refused":
            refused += 1
            heapq.heappush(events, (now + chance.uniform(0, 2 * LATENCY), number, "due again", 0, 0))
        else:
            served -= 1
            accepted += 1
    return Course(count / now, refused / sent)


def fixed(limit: int) -> Pace:
    pace = FixedPace(64)
    pace.limit = limit
    return pace


@pytest.mark.parametrize("seed", range(5))
def test_random_refusals_cost_no_concurrency(seed: int) -> None:
    """Textbook back-off collapses to a third of the speed at 5 % noise, although slowing down cures nothing."""
    ours = post_all(Pace(16), 800, noise=0.05, seed=seed)
    yardstick = post_all(fixed(16), 800, noise=0.05, seed=seed)
    assert ours.per_second >= 0.95 * yardstick.per_second


@pytest.mark.parametrize("refusal_takes", [LATENCY, LATENCY / 16])
@pytest.mark.parametrize("seed", range(5))
def test_hard_limit_of_the_server_is_found_and_kept(seed: int, refusal_takes: float) -> None:
    """Going on at 16 against a limit of 8 wastes half of all requests, and each refusal costs a proof of absence."""
    ours = post_all(Pace(16), 800, cap=8, refusal_takes=refusal_takes, seed=seed)
    oracle = post_all(fixed(8), 800, cap=8, refusal_takes=refusal_takes, seed=seed)
    assert ours.per_second >= 0.70 * oracle.per_second
    assert ours.refused_share <= 0.10


def test_hard_limit_just_below_the_ceiling_is_found_too() -> None:
    """At 14 of 16 only one in eight is refused: too few for an alarm, too many to live with."""
    ours = post_all(Pace(16), 3000, cap=14)
    assert ours.per_second >= 0.9 * post_all(fixed(14), 3000, cap=14).per_second
    assert ours.refused_share <= 0.05


def test_both_at_once_settle_at_the_limit() -> None:
    """Noise must not hide a real limit, nor a real limit pass for noise."""
    pace = Pace(16)
    ours = post_all(pace, 3000, cap=8, noise=0.05)
    assert ours.per_second >= 0.70 * post_all(fixed(8), 3000, cap=8, noise=0.05).per_second
    assert 6 <= pace.limit <= 9


def test_limit_that_is_lifted_is_noticed() -> None:
    """A slow quarter of an hour in Fusion must not slow the rest of the night."""
    pace = Pace(16)
    post_all(pace, 1000, cap=6)
    assert pace.limit <= 7
    post_all(pace, 3000)
    assert pace.limit == 16


def test_start_below_a_high_ceiling_grows_to_it() -> None:
    """Nothing is refused: there is no reason to stay at the cautious start."""
    pace = Pace(64)
    assert pace.limit == 16
    post_all(pace, 1500)
    assert pace.limit == 64


def test_limit_is_not_raised_by_a_load_that_never_reaches_it() -> None:
    """A quiet hour proves nothing about a busy one: growing on it would greet the next rush with refusals."""
    pace = Pace(64)
    for _ in range(500):
        pace.replied(pace.epoch, 3, refused=False)
    assert pace.limit == 16


def test_try_that_runs_out_of_work_is_given_up_and_refusals_count_again() -> None:
    """Waiting for ever for a busier moment, the pace would be blind for refusals at the load there is."""
    pace = Pace(64)
    pace.replied(pace.epoch, 16, refused=False)
    assert pace.limit > 16
    limits = [pace.limit]
    for number in range(400):
        pace.replied(pace.epoch, 10, refused=number % 4 == 0)
        limits.append(pace.limit)
    assert min(limits) < 10


def test_outage_leaves_one_request_at_a_time() -> None:
    """When everything is refused the pace falls to single requests and never to none."""
    pace = Pace(16)
    for _ in range(200):
        pace.replied(pace.epoch, pace.limit, refused=True)
    assert pace.limit == 1


def test_replies_from_before_a_change_are_ignored() -> None:
    """They were caused by the old limit; counted for the new one, one overload would be punished twice."""
    pace = Pace(16)
    while pace.limit == 16:
        pace.replied(pace.epoch, 16, refused=True)
    limit = pace.limit
    for _ in range(100):
        pace.replied(pace.epoch - 1, 16, refused=True)
    assert pace.limit == limit


@in_loop
async def test_slots_are_handed_out_in_order_and_never_too_many() -> None:
    """First come, first served: a read must not starve behind a stream of writes."""
    limiter = Limiter(2)
    order: list[int] = []
    release = [asyncio.Event() for _ in range(5)]

    async def work(number: int) -> None:
        async with limiter.slot():
            order.append(number)
            await release[number].wait()

    tasks = [asyncio.create_task(work(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert (order, limiter.in_flight, limiter.free_slots) == ([0, 1], 2, 0)
    for event in release:
        event.set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert (limiter.peak, limiter.in_flight, limiter.free_slots) == (2, 0, 2)


@in_loop
async def test_room_counts_those_that_wait_already() -> None:
    """Who may come ahead of a free slot is told by those that wait: their number must not grow from asking again."""
    limiter = Limiter(2)
    go_on = asyncio.Event()

    async def work() -> None:
        async with limiter.slot():
            await go_on.wait()

    assert limiter.room(ahead=1) == 3
    tasks = [asyncio.create_task(work()) for _ in range(4)]
    await asyncio.sleep(0)
    assert (limiter.room(ahead=3), limiter.room(ahead=1), limiter.free_slots) == (1, -1, 0)
    limiter.pause(0.01)
    assert limiter.room(ahead=3) == 0
    go_on.set()
    await asyncio.gather(*tasks)


@in_loop
async def test_cancelled_waiters_lose_no_slot() -> None:
    """A slot lost at every cancelled run would end in a connector that waits for ever."""
    limiter = Limiter(1)

    async def hold(event: asyncio.Event) -> None:
        async with limiter.slot():
            await event.wait()

    done = asyncio.Event()
    holder = asyncio.create_task(hold(done))
    await asyncio.sleep(0)
    waiters = [asyncio.create_task(hold(done)) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    done.set()
    holder_result = await asyncio.gather(holder, *waiters, return_exceptions=True)
    assert isinstance(holder_result[1], asyncio.CancelledError)
    # Cancelled in the very moment in which its slot was granted.
    done.clear()
    holder = asyncio.create_task(hold(done))
    await asyncio.sleep(0)
    late = asyncio.create_task(hold(done))
    await asyncio.sleep(0)
    holder.cancel()
    await asyncio.sleep(0)
    late.cancel()
    await asyncio.gather(holder, late, return_exceptions=True)
    assert (limiter.in_flight, limiter.free_slots) == (0, 1)


@in_loop
async def test_pause_holds_everyone_for_as_long_as_asked() -> None:
    """A rate limit counts for all requests; sending on through it only collects refusals."""
    now = 100.0
    limiter = Limiter(4, clock=lambda: now)
    limiter.pause(0.01)
    assert limiter.free_slots == 0
    entered = asyncio.Event()

    async def work() -> None:
        async with limiter.slot():
            entered.set()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    assert not entered.is_set()
    now = 100.02
    await asyncio.wait_for(task, 5)
    assert entered.is_set()


@in_loop
async def test_limiter_under_asyncio_finds_the_servers_limit() -> None:
    """The same decisions hold with real tasks in a real loop."""
    limiter = Limiter(16)
    served = 0
    refused = 0

    async def post() -> None:
        nonlocal served, refused
        while True:
            async with limiter.slot() as slot:
                turned_away = served >= 4
                served += not turned_away
                for _ in range(5):
                    await asyncio.sleep(0)
                served -= not turned_away
                slot.answered(refused=turned_away)
            if not turned_away:
                return
            refused += 1

    await asyncio.gather(*(post() for _ in range(600)))
    assert limiter.pace.limit <= 5
    assert refused <= 60
    assert limiter.in_flight == 0
