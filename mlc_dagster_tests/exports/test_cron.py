"""Cron expressions: the instants are those that people who write cron expect, and nonsense is refused by name."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.exports.cron import CronError, parse_cron

DENVER = ZoneInfo("America/Denver")


def times(text: str, day: dt.date, zone: dt.tzinfo = dt.UTC) -> list[str]:
    return [f"{tick:%d %H:%M}" for tick in parse_cron(text).ticks(day, zone)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 6 * * *", ["21 06:00"]),
        ("*/20 7 * * *", ["21 07:00", "21 07:20", "21 07:40"]),
        ("5/25 8 * * *", ["21 08:05", "21 08:30", "21 08:55"]),
        ("0 9-17/4 * * mon-sat", ["21 09:00", "21 13:00", "21 17:00"]),
        ("15,45 0 * nov 6", ["21 00:15", "21 00:45"]),
        ("0 0 * * 0", []),
        ("0 0 * * 7", []),
        ("0 0 1 * *", []),
    ],
)
def test_the_fields_mean_what_they_mean_in_cron(text: str, expected: list[str]) -> None:
    """Feeds would otherwise run at times that nobody asked for. 21 November 2026 is a Saturday."""
    assert times(text, dt.date(2026, 11, 21)) == expected


def test_either_day_field_is_enough_when_both_are_restricted() -> None:
    """Cron's own rule, by which "the 1st and every Monday" is written."""
    cron = parse_cron("0 0 1 * mon")
    assert [day for day in range(1, 12) if cron.on(dt.date(2026, 12, day))] == [1, 7]


def test_an_hour_that_does_not_exist_still_comes() -> None:
    """02:30 is left out on 8 March 2026 in Denver; the day's file must not be."""
    assert times("30 2 * * *", dt.date(2026, 3, 8), DENVER) == ["08 09:30"]


def test_an_hour_that_comes_twice_is_one_tick_of_a_daily_time_and_two_of_an_hourly_one() -> None:
    """A daily file is wanted once; hourly ones every hour. 1 November 2026 has 25 hours in Denver."""
    assert len(times("30 1 * * *", dt.date(2026, 11, 1), DENVER)) == 1
    assert len(times("0 * * * *", dt.date(2026, 11, 1), DENVER)) == 25
    assert len(times("0 * * * *", dt.date(2026, 3, 8), DENVER)) == 23


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("60 * * * *", "minute '60' is not 0 to 59"),
        ("0 24 * * *", "hour '24' is not 0 to 23"),
        ("0 0 0 * *", "day of month '0' is not 1 to 31"),
        ("0 0 * 13 *", "month '13' is not 1 to 12 or jan to dec"),
        ("0 0 * * funday", "day of week 'funday' is not 0 to 7 or sun to sat"),
        ("*/0 * * * *", "a step of 0"),
        ("0 17-9 * * *", "ends before it begins"),
        ("a-b-c * * * *", "is not a number, a range"),
        ("0 0 31 2 *", "never comes"),
        ("@daily", "five fields"),
        ("0 0 * * * *", "five fields"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, told: str) -> None:
    """A schedule that never comes, or comes at other times, is found out weeks later."""
    with pytest.raises(CronError, match=told):
        parse_cron(text)


@given(minute=st.integers(0, 59), hour=st.integers(0, 23), day=st.dates(dt.date(2020, 1, 1), dt.date(2040, 1, 1)))
def test_a_daily_time_is_on_every_day_once(minute: int, hour: int, day: dt.date) -> None:
    """Whatever the day, in a zone with summer time too: one tick, on that local day."""
    [tick] = parse_cron(f"{minute} {hour} * * *").ticks(day, DENVER)
    assert tick.astimezone(DENVER).date() == day
