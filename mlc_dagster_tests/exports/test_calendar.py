"""When a feed is due: by cron, or often around the close; missed ticks are one tick."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest

from mlc_dagster.exports.calendar import (
    CalendarError,
    check_schedule,
    ends_soon,
    is_due,
    load_calendar,
    next_tick,
)
from mlc_dagster.exports.cron import CronError
from mlc_dagster.settings.exports import CalendarSchedule

CLOSE = CalendarSchedule(calendar="close.yaml")
TEXT = """
time_zone: America/Denver
periods:
  - {name: Oct-26, start: 2026-10-01, end: 2026-10-31}
  - {name: Nov-26, start: 2026-11-01, end: 2026-11-30}
holidays: [2026-11-26, 2026-12-03]
around_close: {from_working_day: -2, to_working_day: 5, cron: "0 * * * *"}
otherwise: {cron: "0 6 * * *"}
"""


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "close.yaml").write_text(TEXT)
    return tmp_path


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[str, str], str]:
    """The error of a calendar in which one text was exchanged."""

    def error_of(old: str, new: str) -> str:
        assert old in TEXT
        (tmp_path / "close.yaml").write_text(TEXT.replace(old, new))
        with pytest.raises(CalendarError) as raised:
            load_calendar(tmp_path / "close.yaml")
        return str(raised.value)

    return error_of


def test_a_feed_that_was_never_taken_up_is_due(tmp_path: Path) -> None:
    """A new feed starts with the next look, not with the next month."""
    assert is_due("0 6 1 * *", last=None, now=at("2026-11-21 08:00"), root=tmp_path)


def test_a_tick_after_the_last_time_makes_it_due(tmp_path: Path) -> None:
    """The moment of the tick itself counts, and only once."""
    due = "*/15 * * * *"
    assert not is_due(due, last=at("2026-11-21 08:00"), now=at("2026-11-21 08:14:59"), root=tmp_path)
    assert is_due(due, last=at("2026-11-21 08:00"), now=at("2026-11-21 08:15"), root=tmp_path)
    assert not is_due(due, last=at("2026-11-21 08:15"), now=at("2026-11-21 08:15"), root=tmp_path)


def test_missed_ticks_are_one(tmp_path: Path) -> None:
    """After three days down the feed catches up with one run, not with three hundred."""
    now = at("2026-11-21 08:07")
    assert is_due("*/15 * * * *", last=now - dt.timedelta(days=3), now=now, root=tmp_path)
    assert not is_due("*/15 * * * *", last=now, now=now + dt.timedelta(minutes=5), root=tmp_path)


def test_the_next_time_is_told(tmp_path: Path) -> None:
    """What ``mlc config check`` shows as next is what the sensor does."""
    now = at("2026-11-21 08:07")
    assert next_tick("0 6 * * *", now=now, root=tmp_path) == at("2026-11-22 06:00")
    assert next_tick("0 0 29 2 *", now=now, root=tmp_path) == at("2028-02-29 00:00")


def test_working_days_skip_weekends_and_holidays(root: Path) -> None:
    """Counted as controllers count: -1 is the period's last working day, 1 the first after it."""
    calendar = load_calendar(root / "close.yaml")
    november = dt.date(2026, 11, 30)  # A Monday; Thursday 26 November and 3 December are holidays.
    days = {number: calendar.working_day(november, number) for number in (-3, -2, -1, 1, 2, 3)}
    assert [days[number].isoformat() for number in (-3, -2, -1)] == ["2026-11-25", "2026-11-27", "2026-11-30"]
    assert [days[number].isoformat() for number in (1, 2, 3)] == ["2026-12-01", "2026-12-02", "2026-12-04"]


def test_a_period_that_ends_on_a_weekend_has_its_last_working_day_before(root: Path) -> None:
    """31 October 2026 is a Saturday."""
    calendar = load_calendar(root / "close.yaml")
    october = dt.date(2026, 10, 31)
    assert calendar.working_day(october, -1) == dt.date(2026, 10, 30)
    assert calendar.working_day(october, 1) == dt.date(2026, 11, 2)


def test_often_around_the_close_and_daily_otherwise(root: Path) -> None:
    """Hourly from working day -2 (Friday 27 November) to +5 (Tuesday 8 December), the weekend in between included."""
    calendar = load_calendar(root / "close.yaml")
    near = [day for day in range(20, 31) if calendar.near_close(dt.date(2026, 11, day))]
    assert near == [27, 28, 29, 30]
    assert [day for day in range(1, 15) if calendar.near_close(dt.date(2026, 12, day))] == list(range(1, 9))
    last = at("2026-12-02 15:00")
    assert is_due(CLOSE, last=last, now=at("2026-12-02 16:00"), root=root)
    last = at("2026-12-10 15:00")
    assert not is_due(CLOSE, last=last, now=at("2026-12-10 16:00"), root=root)
    assert next_tick(CLOSE, now=last, root=root) == at("2026-12-11 13:00")  # 06:00 in Denver.


def test_the_calendars_own_zone_decides_the_day(root: Path) -> None:
    """06:00 UTC on 9 December is still the evening of working day 5 in Denver."""
    last = at("2026-12-09 05:00")
    assert is_due(CLOSE, last=last, now=at("2026-12-09 06:00"), root=root)
    assert not is_due(CLOSE, last=at("2026-12-09 07:00"), now=at("2026-12-09 08:00"), root=root)


def test_after_its_last_period_a_calendar_falls_back_and_says_so(root: Path) -> None:
    """Nobody notices otherwise that the next close has no hourly files."""
    assert ends_soon(CLOSE, today=dt.date(2026, 9, 1), root=root) is None
    assert ends_soon(CLOSE, today=dt.date(2026, 11, 1), root=root) == dt.date(2026, 11, 30)
    assert next_tick(CLOSE, now=at("2027-03-01 14:00"), root=root) == at("2027-03-02 13:00")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("around_close:", "around_closes:", "line 7: around_closes: unknown key; did you mean 'around_close'?"),
        ("start: 2026-11-01", "begin: 2026-11-01", "line 5: periods.1.begin: unknown key"),
        ("America/Denver", "Denver", "line 2: time_zone: 'Denver' is not a time zone"),
        ("2026-11-26", "2026-11-31", "line 6: holidays.0: "),
        ('"0 6 * * *"', '"0 26 * * *"', "line 8: otherwise.cron: '0 26 * * *': hour '26' is not 0 to 23"),
        ("from_working_day: -2", "from_working_day: 0", "there is no working day 0"),
        ("from_working_day: -2", "from_working_day: 6", "to_working_day 5 is before from_working_day 6"),
        ("end: 2026-10-31", "end: 2026-09-30", "period Oct-26 ends on 2026-09-30, before it starts"),
        ("name: Nov-26", "name: Oct-26", "'Oct-26' is there twice"),
        ("holidays:", "working_week: []\nholidays:", "without working days there is no close"),
        ("time_zone: America/Denver", "- x", "is not YAML"),
    ],
)
def test_a_fault_names_file_line_and_key(broken: Callable[[str, str], str], old: str, new: str, told: str) -> None:
    """A controller keeps the calendar, once a year; the text must be enough to correct it."""
    error = broken(old, new)
    assert "close.yaml: " in error
    assert told in error


def test_a_calendar_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A path that was meant from another folder is the usual mistake."""
    with pytest.raises(CalendarError, match=r"no such file; a path is relative to mlc\.yaml"):
        check_schedule(CLOSE, root=tmp_path)


def test_a_schedule_is_checked_as_a_run_reads_it(root: Path) -> None:
    """``mlc config check`` finds it, not the first run at night."""
    check_schedule(CLOSE, root=root)
    with pytest.raises(CronError, match="minute '99'"):
        check_schedule("99 * * * *", root=root)
