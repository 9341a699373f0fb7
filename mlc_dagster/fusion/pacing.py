"""How many requests may be under way at once.

Fusion publishes no limit. A 503 may be noise, in which case slowing down only costs time, or it may mean that we are
too many, in which case every request above the limit is wasted. ``Pace`` tells the two apart by experiment: noise
does not care how many requests are under way. ``Limiter`` hands out slots in the order they were asked for.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto

START = 16
"""Slots to begin with, where the ceiling allows more."""

NOISE = 0.05
"""Share of refused requests that is never worth slowing down for."""

ALARM = 8.5
"""Evidence (log likelihood ratio) for "refused more often than noise explains" at which concurrency is cut.

At 5 % noise chance reaches this about once in ten thousand replies; at 50 % refused it takes some sixteen.
"""

VERDICT = 2.5
"""Evidence at which an experiment, lower or higher concurrency, is decided."""

FIRST_HOLD = 60
LONGEST_HOLD = 960
"""Accepted requests between two tries of more concurrency; doubled after every try that failed."""

DOUBTFUL = 0.075
"""Share of refused requests that is looked into even without an alarm."""

FIRST_PATIENCE = 300
LONGEST_PATIENCE = 4800
"""Replies after which a doubtful share is looked into; doubled whenever that showed nothing but noise."""

LONGEST_IDLE = 50
"""Replies of a try of more concurrency that never reached it, after which the try is given up."""

LONGEST_PAUSE = 10.0
"""Seconds a 429 with Retry-After may silence all requests; the row that was refused waits longer by itself."""


class _Phase(Enum):
    STEADY = auto()
    TRIAL = auto()
    """Concurrency was cut; do the refusals go down with it?"""
    PROBE = auto()
    """Concurrency was raised; do the refusals go up with it?"""


class Pace:
    """Decides ``limit`` from the stream of replies. Knows neither clock nor chance: same replies, same decisions."""

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.limit = min(START, ceiling)
        self.epoch = 0
        """Counts changes of the limit; a reply to a request started under an older limit proves nothing about this."""
        self._phase = _Phase.STEADY
        self._noise = NOISE
        self._hold = 0
        self._patience = FIRST_PATIENCE
        self._step = max(1, self.limit // 2)
        self._previous_limit = self.limit
        self._previous_rate = 0.0
        self._reset()

    def replied(self, epoch: int, in_flight: int, *, refused: bool) -> None:
        """Takes in one reply; ``epoch`` and ``in_flight`` (itself included) are those of when it was sent."""
        if epoch != self.epoch:
            return
        match self._phase:
            case _Phase.STEADY:
                self._steady(in_flight, refused=refused)
            case _Phase.TRIAL:
                self._trial(in_flight, refused=refused)
            case _Phase.PROBE:
                self._probe(in_flight, refused=refused)

    def _reset(self) -> None:
        self._idle = 0
        self._replies = 0
        self._refused = 0
        self._score = 0.0
        self._run_replies = 0
        self._run_refused = 0
        self._run_in_flight = 0

    def _count(self, in_flight: int, *, refused: bool) -> None:
        self._replies += 1
        self._refused += refused
        self._run_replies += 1
        self._run_refused += refused
        self._run_in_flight += in_flight

    def _steady(self, in_flight: int, *, refused: bool) -> None:
        self._count(in_flight, refused=refused)
        self._noise = max(NOISE, self._noise + (refused - self._noise) * 0.002)
        self._score += _evidence(self._noise, min(0.9, 4 * self._noise), refused=refused)
        if self._score <= 0:
            self._score = 0.0
            self._run_replies = self._run_refused = self._run_in_flight = 0
        elif self._score >= ALARM and self._run_replies >= self.limit:
            # Not before a whole round of replies: a handful in a row would give a wild estimate of the rate.
            self._cut(self._run_refused / self._run_replies)
            return
        if self._replies % self._patience == 0:
            recent = self._refused / self._replies
            if recent > DOUBTFUL:
                # Too few for an alarm, too many to live with: worth an experiment now and then.
                self._run_replies, self._run_in_flight = 1, in_flight
                self._cut(recent)
                return
        if self.limit < self.ceiling and in_flight >= self.limit and self._replies - self._refused >= self._hold:
            self._previous_rate = self._refused / max(1, self._replies)
            self._raise()

    def _trial(self, in_flight: int, *, refused: bool) -> None:
        self._count(in_flight, refused=refused)
        if self._run_replies >= 12 and self._run_refused * 2 >= self._run_replies:
            # Most are refused even now: whatever the reason, this is no time to go on asking.
            self._cut(self._run_refused / self._run_replies)
            return
        self._score += _evidence(self._previous_rate, self._previous_rate / 4, refused=refused)
        if self._score >= VERDICT:
            self._settle(FIRST_HOLD, step=max(1, (self._previous_limit - self.limit) // 2))
        elif self._score <= -VERDICT:
            self._patience = min(LONGEST_PATIENCE, self._patience * 2)
            self._noise = min(0.5, max(self._noise, self._refused / self._replies))
            self._move(self._previous_limit, _Phase.STEADY)

    def _probe(self, in_flight: int, *, refused: bool) -> None:
        if in_flight <= self._previous_limit:
            # Says nothing about the higher limit. When there is no more work to fill it, the experiment ends undecided.
            self._idle += 1
            if refused or self._idle > LONGEST_IDLE:
                self._move(self._previous_limit, _Phase.STEADY)
            return
        self._replies += 1
        self._refused += refused
        added = (self.limit - self._previous_limit) / self.limit
        base = max(0.01, self._previous_rate)
        self._score += _evidence(base, min(0.95, base + added), refused=refused)
        if self._score >= VERDICT:
            self._step = 1
            self._move(self._previous_limit, _Phase.STEADY)
            self._hold = min(LONGEST_HOLD, max(FIRST_HOLD, self._hold * 2))
        elif self._score <= -VERDICT:
            self._step *= 2
            if self.limit < self.ceiling:
                self._raise()
            else:
                self._move(self.limit, _Phase.STEADY)

    def _cut(self, rate: float) -> None:
        # What was really under way counts; the limit may never have been reached.
        level = min(self.limit, max(1, round(self._run_in_flight / self._run_replies)))
        lower = max(1, math.floor(level * min(0.85, max(0.25, 1 - rate))))
        if lower >= self.limit:
            self._settle(self._hold, step=1)
            return
        self._previous_limit = self.limit
        self._previous_rate = rate
        if rate < 0.5:
            self._move(lower, _Phase.TRIAL)
        else:
            self._move(lower, _Phase.STEADY)
            self._settle(FIRST_HOLD, step=1)

    def _settle(self, hold: int, *, step: int) -> None:
        self._hold = hold
        self._step = step
        self._phase = _Phase.STEADY
        self._reset()

    def _raise(self) -> None:
        self._previous_limit = self.limit
        self._move(min(self.ceiling, self.limit + self._step), _Phase.PROBE)

    def _move(self, limit: int, phase: _Phase) -> None:
        self.limit = limit
        self.epoch += 1
        self._phase = phase
        self._reset()


def _evidence(expected: float, suspected: float, *, refused: bool) -> float:
    """Log likelihood ratio of one reply for ``suspected`` against ``expected``, two rates of refusal."""
    expected = min(0.99, max(0.001, expected))
    suspected = min(0.99, max(0.001, suspected))
    return math.log(suspected / expected) if refused else math.log((1 - suspected) / (1 - expected))


class Slot:
    """Permission for one request. Not telling ``answered`` leaves the pace as it is."""

    def __init__(self, pace: Pace, in_flight: int) -> None:
        self._pace = pace
        self._epoch = pace.epoch
        self._in_flight = in_flight

    def answered(self, *, refused: bool) -> None:
        """``refused``: Fusion was too busy for this one."""
        self._pace.replied(self._epoch, self._in_flight, refused=refused)


class Limiter:
    """Slots for requests, first come first served, at most ``pace.limit`` taken."""

    def __init__(self, ceiling: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.pace = Pace(ceiling)
        self.in_flight = 0
        self.peak = 0
        """Most slots ever taken at once."""
        self._clock = clock
        self._paused_until = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def free_slots(self) -> int:
        """How many more requests could start right now; 0 during a pause."""
        return max(0, self.room(ahead=0))

    def room(self, *, ahead: int) -> int:
        """How many more requests may come for a slot, so that no more than ``ahead`` wait for one; 0 during a pause.

        Below 0 when more are waiting already.
        """
        if self._clock() < self._paused_until:
            return 0
        return self.pace.limit + ahead - self.in_flight - len(self._waiting)

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[Slot]:
        """Waits for a slot and holds it."""
        await self._take()
        self.peak = max(self.peak, self.in_flight)
        try:
            yield Slot(self.pace, self.in_flight)
        finally:
            self.in_flight -= 1
            self._wake()

    def pause(self, seconds: float) -> None:
        """Starts no request for ``seconds``, at most LONGEST_PAUSE; those under way go on."""
        seconds = min(seconds, LONGEST_PAUSE)
        self._paused_until = max(self._paused_until, self._clock() + seconds)
        self._wake_after(seconds)

    def _wake_after(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._wake)

    async def _take(self) -> None:
        if self.free_slots > 0:
            self.in_flight += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # The slot was granted in the same moment; the next in line gets it.
                self.in_flight -= 1
            elif turn in self._waiting:
                self._waiting.remove(turn)
            self._wake()
            raise

    def _wake(self) -> None:
        if self._waiting and (pause_left := self._paused_until - self._clock()) > 0:
            # The loop's timer may come a moment before the clock says so; nobody else would wake them.
            self._wake_after(pause_left + 0.001)
            return
        while self._waiting and self.in_flight < self.pace.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)
