"""``poll:`` and ``ledger:``, the windows of time and where everything is recorded."""

import datetime as dt

import pytest

from mlc_dagster.settings import LedgerSettings
from mlc_dagster_tests.settings.configuration import problems, settings


@pytest.mark.parametrize(
    "written", [dt.date(2026, 1, 1), "2026-01-01", "2026-01-01T00:00", "2026-01-01T02:00:00+02:00"]
)
def test_start_becomes_an_instant_in_utc(written: object) -> None:
    """YAML reads a date, and Dagster refuses one; windows are counted in UTC everywhere."""
    assert settings({"poll.start": written}).poll.start == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert settings({"poll.start": written}).poll.start.tzinfo is dt.UTC


@pytest.mark.parametrize("written", ["first of May", 5, None])
def test_start_that_is_no_date_shows_one(written: object) -> None:
    """5 would otherwise be five seconds into 1970, and every window since then a missed one."""
    [problem] = problems({"poll.start": written})
    assert problem.endswith("is not a date; write one such as 2026-01-01")


@pytest.mark.parametrize("start", ["2026-01-01T00:07", "2026-01-01T00:05", "2026-01-01T00:00:01"])
def test_start_falls_on_a_window_boundary(start: str) -> None:
    """Dagster would shift the first partition and the ledger would not: files between them belong to no window."""
    [problem] = problems({"poll.start": start})
    assert "must fall on a window boundary of '*/15 * * * *'" in problem


def test_other_schedules_than_even_ones_are_refused() -> None:
    """Windows are computed by minutes within the hour; 7 does not divide it."""
    [problem] = problems({"poll.cron": "*/7 * * * *"})
    assert "'*/7 * * * *' must be one of '*/5 * * * *'" in problem


@pytest.mark.parametrize(
    ("cron", "start"),
    [
        ("*/5 * * * *", (9, 40)),
        ("*/10 * * * *", (9, 40)),
        ("*/15 * * * *", (9, 30)),
        ("*/30 * * * *", (9, 30)),
        ("0 * * * *", (9, 0)),
    ],
)
def test_window_of_an_instant(cron: str, start: tuple[int, int]) -> None:
    """A file belongs to exactly one window: the one open when it was accepted, in UTC whatever the zone."""
    instant = dt.datetime(2026, 3, 1, 10, 44, 59, 999999, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    assert settings({"poll.cron": cron}).poll.window_start(instant) == dt.datetime(2026, 3, 1, *start, tzinfo=dt.UTC)


def test_password_of_a_wrong_ledger_address_is_not_echoed() -> None:
    """The most common mistake there is postgresql:// without the driver, and it carries a password."""
    [problem] = problems({"ledger.url": "postgresql://mlc:hunter2@db/mlc"})
    assert problem == "ledger.url: 'db/mlc' must begin with sqlite:/// or postgresql+psycopg://"


def test_ledger_takes_one_address() -> None:
    """With two, the invoices of one process could be in another ledger than those of the next."""
    assert problems({"ledger": {"url": "sqlite:///x", "url_secret": "env:X"}}) == [
        "ledger: give either url or url_secret"
    ]


@pytest.mark.parametrize(
    "address",
    [
        "mlc:hunter2@db/mlc",
        "mlc:hunt?er2@db/mlc",
        "mlc@db/mlc?password=hunter2",
        "/mlc?user=mlc&password=hunter2",
        "mlc@db/mlc?sslmode=verify-full&sslpassword=hunter2",
        "mlc@db/mlc?pass%77ord=hunter2",
        "mlc@db/mlc?PASSWORD=hunter2",
    ],
)
def test_a_ledger_address_with_a_password_is_refused_without_showing_it(address: str) -> None:
    """Settings are shown in the UI, by the check and in the evidence pack; the driver takes it as a parameter too."""
    [problem] = problems({"ledger.url": f"postgresql+psycopg://{address}"})
    assert problem.startswith("ledger.url: has a password in it; put the whole address into a secret")
    assert "hunt" not in problem
    with pytest.raises(ValueError, match="has a password in it") as caught:
        LedgerSettings(url=f"postgresql+psycopg://{address}")
    assert "hunt" not in str(caught.value)


@pytest.mark.parametrize("address", ["mlc@db/mlc?sslmode=verify-full", "/mlc?host=db&passfile=/run/secrets/pgpass"])
def test_a_ledger_address_without_a_password_is_taken(address: str) -> None:
    """What names where the password is, is none."""
    assert settings({"ledger.url": f"postgresql+psycopg://{address}"}).ledger.url is not None


def test_the_parameters_of_a_wrong_ledger_address_are_not_echoed() -> None:
    """One of them may be the password."""
    [problem] = problems({"ledger.url": "postgresql://db/mlc?password=hunter2"})
    assert problem == "ledger.url: 'postgresql://db/mlc' must begin with sqlite:/// or postgresql+psycopg://"
