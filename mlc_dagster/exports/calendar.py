"""When a feed is due: a cron expression, or a close calendar that is often around each period's close.

What belongs here: reading a calendar's YAML and answering "is it due". What does not: starting runs. Nothing is kept:
ticks missed while nobody looked are one tick, so that a feed catches up by itself, once.
"""

import datetime as dt
import difflib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

import pydantic
from pydantic import AfterValidator, Field, field_validator, model_validator

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.exports.cron import Cron, parse_cron
from mlc_dagster.exports.layouts.errors import LayoutError
from mlc_dagster.exports.layouts.yaml_text import YamlText
from mlc_dagster.settings.exports import CalendarSchedule
from mlc_dagster.settings.values import TimeZone

_FAR = 366 * 9
"""Days looked through for a tick: 29 February may be eight years away."""
_WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class CalendarError(Expected, ValueError):
    """A calendar that cannot be used. ``problems`` holds one line per fault: key, value, what to do."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, source_file: str, problems: Sequence[str]) -> None:
        self.source_file = source_file
        self.problems = tuple(problems)
        super().__init__(f"calendar {source_file}: " + "; ".join(self.problems))


def _is_cron(value: str) -> str:
    parse_cron(value)
    return value


CronText = Annotated[str, AfterValidator(_is_cron)]


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Period(_Model):
    """An accounting period, as Fusion names it; both days belong to it."""

    name: str = Field(min_length=1)
    start: dt.date
    end: dt.date

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.end < self.start:
            msg = f"period {self.name} ends on {self.end}, before it starts on {self.start}"
            raise ValueError(msg)
        return self


class AroundClose(_Model):
    """The days around a period's end. Working day 1 is the first after it, -1 the last of the period; there is no 0."""

    from_working_day: int = Field(ge=-25, le=25)
    to_working_day: int = Field(ge=-25, le=25)
    cron: CronText

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if 0 in (self.from_working_day, self.to_working_day):
            msg = "there is no working day 0: 1 is the first after the period's end, -1 the last of the period"
            raise ValueError(msg)
        if self.to_working_day < self.from_working_day:
            msg = f"to_working_day {self.to_working_day} is before from_working_day {self.from_working_day}"
            raise ValueError(msg)
        return self


class Otherwise(_Model):
    """All other days."""

    cron: CronText


class Calendar(_Model):
    """A close calendar. Its cron expressions are in its own time zone."""

    time_zone: TimeZone
    periods: list[Period] = Field(min_length=1)
    holidays: list[dt.date] = []
    working_week: list[Weekday] = ["mon", "tue", "wed", "thu", "fri"]
    around_close: AroundClose
    otherwise: Otherwise

    @field_validator("working_week")
    @classmethod
    def _somebody_works(cls, value: list[Weekday]) -> list[Weekday]:
        if not value:
            msg = "names no day; without working days there is no close"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [period.name for period in self.periods]
        for name in names:
            if names.count(name) > 1:
                msg = f"periods: {name!r} is there twice"
                raise ValueError(msg)
        return self

    @property
    def last_day(self) -> dt.date:
        """End of the last period; later closes are not known."""
        return max(period.end for period in self.periods)

    def is_working_day(self, day: dt.date) -> bool:
        """Neither a weekend nor a holiday."""
        return _WEEK[day.weekday()] in self.working_week and day not in self.holidays

    def working_day(self, end: dt.date, number: int) -> dt.date:
        """The day with this number, counted from the end of a period."""
        step = dt.timedelta(days=1 if number > 0 else -1)
        day = end + step if number > 0 else end
        left = abs(number)
        # Holidays are finitely many, so this ends.
        while True:
            left -= self.is_working_day(day)
            if left == 0:
                return day
            day += step

    def near_close(self, day: dt.date) -> bool:
        """Whether the day is one of ``around_close``; weekends and holidays in between are."""
        return any(first <= day <= last for first, last in self.closes)

    @cached_property
    def closes(self) -> tuple[tuple[dt.date, dt.date], ...]:
        """First and last day of ``around_close`` of each period."""
        around = self.around_close
        return tuple(
            (self.working_day(period.end, around.from_working_day), self.working_day(period.end, around.to_working_day))
            for period in self.periods
        )

    def cron_of(self, day: dt.date) -> Cron:
        """What holds on this local day."""
        return parse_cron(self.around_close.cron if self.near_close(day) else self.otherwise.cron)


def load_calendar(path: Path) -> Calendar:
    """The calendar in a YAML file.

    Raises:
        CalendarError: it cannot be read, is not YAML, has an unknown key (the nearest is named) or a wrong value.
    """
    try:
        written = YamlText(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise CalendarError(str(path), ["no such file; a path is relative to mlc.yaml"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CalendarError(str(path), [f"cannot be read: {error}"]) from None
    except LayoutError as error:
        raise CalendarError(str(path), error.problems) from None
    try:
        return Calendar.model_validate(written.document)
    except pydantic.ValidationError as error:
        faults = error.errors(include_url=False)
        problems = [f"line {written.line_of(fault['loc'])}: {_explain(fault)}" for fault in faults]
        raise CalendarError(str(path), problems) from None


_PARTS: dict[str, type[_Model]] = {"periods": Period, "around_close": AroundClose, "otherwise": Otherwise}


def _explain(fault: Any) -> str:
    location = [str(part) for part in fault["loc"]]
    key = ".".join(location)
    if fault["type"] == "extra_forbidden":
        valid = list(_PARTS.get(location[0], Calendar).model_fields if len(location) > 1 else Calendar.model_fields)
        near = difflib.get_close_matches(location[-1], valid, n=1, cutoff=0.5)
        return f"{key}: unknown key; " + (f"did you mean {near[0]!r}?" if near else f"valid here: {', '.join(valid)}")
    if fault["type"] == "missing":
        return f"{key}: is required and absent"
    text = fault["msg"].removeprefix("Value error, ")
    shown = "" if fault["type"] == "value_error" else f" (found {fault['input']!r})"
    return f"{key}: {text}{shown}" if key else text


def is_due(schedule: str | CalendarSchedule, *, last: dt.datetime | None, now: dt.datetime, root: Path) -> bool:
    """Whether a tick lies in ``(last, now]``; however many were missed, it is due once. Never done before: due.

    Args:
        schedule: of the feed; a cron expression is in UTC.
        last: when the feed was last taken up, UTC.
        now: UTC.
        root: folder that a calendar's path is relative to.

    Raises:
        CalendarError, CronError: the schedule cannot be used.
    """
    times = _Times(schedule, root)
    if last is None:
        return True
    tick = times.at_or_before(now)
    return tick is not None and tick > last


def next_tick(schedule: str | CalendarSchedule, *, now: dt.datetime, root: Path) -> dt.datetime | None:
    """When the schedule comes next after ``now``, UTC; None when it does not within nine years.

    Raises:
        CalendarError, CronError: the schedule cannot be used.
    """
    return _Times(schedule, root).after(now)


def check_schedule(schedule: str | CalendarSchedule, *, root: Path) -> None:
    """Read the schedule as a run would; raises CalendarError or CronError (both ValueError)."""
    _Times(schedule, root)


def ends_soon(schedule: str | CalendarSchedule, *, today: dt.date, root: Path, days: int = 45) -> dt.date | None:
    """Last day that the calendar knows, when it is less than ``days`` away: after it every day is an ordinary one."""
    if isinstance(schedule, str):
        return None
    last = load_calendar(root / schedule.calendar).last_day
    return last if last < today + dt.timedelta(days=days) else None


class _Times:
    """The instants of a schedule."""

    def __init__(self, schedule: str | CalendarSchedule, root: Path) -> None:
        self._cron = parse_cron(schedule) if isinstance(schedule, str) else None
        self._calendar = None if isinstance(schedule, str) else load_calendar(root / schedule.calendar)
        self._zone = dt.UTC if self._calendar is None else ZoneInfo(self._calendar.time_zone)

    def _ticks(self, day: dt.date) -> list[dt.datetime]:
        cron = self._cron if self._calendar is None else self._calendar.cron_of(day)
        return [] if cron is None else cron.ticks(day, self._zone)

    def at_or_before(self, now: dt.datetime) -> dt.datetime | None:
        # From tomorrow: a time that summer time leaves out lies after its own day's other times.
        day = now.astimezone(self._zone).date() + dt.timedelta(days=1)
        for back in range(_FAR):
            ticks = [tick for tick in self._ticks(day - dt.timedelta(days=back)) if tick <= now]
            if ticks:
                return ticks[-1]
        return None

    def after(self, now: dt.datetime) -> dt.datetime | None:
        day = now.astimezone(self._zone).date() - dt.timedelta(days=1)
        for ahead in range(_FAR):
            ticks = [tick for tick in self._ticks(day + dt.timedelta(days=ahead)) if tick > now]
            if ticks:
                return ticks[0]
        return None
