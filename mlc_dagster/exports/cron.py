"""Cron expressions of five fields: which instants they name.

Only what a schedule in mlc.yaml needs: minute, hour, day of month, month, day of week, with lists, ranges, steps and
English names. No seconds, no ``@daily``, no ``L`` or ``#``. Both day fields restricted: either is enough, as in cron.
"""

import datetime as dt
import re
from dataclasses import dataclass
from functools import lru_cache

from mlc_dagster.expected import Expected, FailureKind

_PART = re.compile(r"(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/([0-9]+))?")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAYS_IN = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class CronError(Expected, ValueError):
    """Not a cron expression of five fields; the text names the field, the value and what is valid."""

    kind = FailureKind.CONFIGURATION


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    every_hour: bool
    """The hour field is ``*`` or ``*/n``: elapsed time is meant; the hour that comes twice in autumn counts twice."""
    either_day: bool
    """Both day fields are restricted; a day that fits one of them is enough."""

    def on(self, day: dt.date) -> bool:
        """Whether the expression names any instant of this day."""
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_month or by_week) if self.either_day else (by_month and by_week)

    def ticks(self, day: dt.date, zone: dt.tzinfo = dt.UTC) -> list[dt.datetime]:
        """Every instant of the local day, UTC, in order.

        A time that summer time leaves out comes as much later as the clock was put forward.
        """
        if not self.on(day):
            return []
        folds = (0, 1) if self.every_hour else (0,)
        return sorted(
            {
                dt.datetime.combine(day, dt.time(hour, minute, fold=fold), zone).astimezone(dt.UTC)
                for hour in self.hours
                for minute in self.minutes
                for fold in folds
            }
        )


@lru_cache(maxsize=256)
def parse_cron(text: str) -> Cron:
    """The expression; raises CronError, also for one that no day ever fits."""
    fields = text.lower().split()
    if len(fields) != 5:
        raise CronError(f"{text!r} is not a cron expression of five fields, such as '0 6 * * *' (daily at 06:00)")
    minute, hour, day, month, weekday = fields
    days, months = _values(text, "day of month", day, 1, 31), _values(text, "month", month, 1, 12, _MONTHS, first=1)
    by_month, by_week = not day.startswith("*"), not weekday.startswith("*")
    if by_month and not by_week and all(min(days) > _DAYS_IN[number - 1] for number in months):
        raise CronError(f"{text!r} never comes: no month that it names has a day {min(days)}")
    return Cron(
        text=text,
        minutes=_values(text, "minute", minute, 0, 59),
        hours=_values(text, "hour", hour, 0, 23),
        days=days,
        months=months,
        # 7 is Sunday too.
        weekdays=frozenset(number % 7 for number in _values(text, "day of week", weekday, 0, 7, _WEEKDAYS)),
        every_hour=hour.startswith("*"),
        either_day=by_month and by_week,
    )


def _values(
    text: str, field: str, written: str, low: int, high: int, names: tuple[str, ...] = (), *, first: int = 0
) -> frozenset[int]:
    def number(word: str) -> int:
        value = names.index(word) + first if word in names else int(word) if word.isdecimal() else -1
        if not low <= value <= high:
            known = f" or {names[0]} to {names[-1]}" if names else ""
            raise CronError(f"{text!r}: {field} {word!r} is not {low} to {high}{known}")
        return value

    found: set[int] = set()
    for part in written.split(","):
        match = _PART.fullmatch(part)
        if match is None or (match[1] == "*" and match[2]):
            raise CronError(
                f"{text!r}: {field} {part!r} is not a number, a range such as 1-5, a step such as */15 or *"
            )
        step = int(match[3] or 1)
        if step == 0:
            raise CronError(f"{text!r}: {field} {part!r} has a step of 0; write at least 1")
        start = low if match[1] == "*" else number(match[1])
        # `5/15` counts on to the end of the field, as cron does.
        end = number(match[2]) if match[2] else high if match[1] == "*" or match[3] else start
        if end < start:
            raise CronError(f"{text!r}: {field} {part!r} ends before it begins; write two ranges with a comma")
        found.update(range(start, end + 1, step))
    return frozenset(found)
