"""``retention:`` in mlc.yaml: periods that cannot be misread, and nothing erased unless somebody says so."""

import datetime as dt

import pytest
from pydantic import ValidationError

from mlc_dagster.settings import RetentionSettings
from mlc_dagster.settings.retention import FOREVER, cutoff

NOW = dt.datetime(2028, 2, 29, 12, tzinfo=dt.UTC)


def test_everything_of_ours_is_kept_for_ever_by_default() -> None:
    """An installation that says nothing must never lose a document."""
    kept = RetentionSettings().model_dump()
    assert kept.pop("dagster") == {"runs": "90d", "ticks": "30d"}
    assert set(kept.values()) == {FOREVER}


@pytest.mark.parametrize(
    ("period", "before"),
    [
        ("90d", dt.datetime(2027, 12, 1, 12, tzinfo=dt.UTC)),
        ("2w", dt.datetime(2028, 2, 15, 12, tzinfo=dt.UTC)),
        ("4y", dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)),
        ("7y", dt.datetime(2021, 2, 28, 12, tzinfo=dt.UTC)),
        ("forever", None),
    ],
)
def test_a_period_ends_on_the_calendars_day(period: str, before: dt.datetime | None) -> None:
    """Seven years of 365 days would end two days early."""
    assert cutoff(period, NOW) == before


@pytest.mark.parametrize("period", ["0d", "7", "90 minutes", "-1y", "6m", "", "never", "900y"])
def test_what_is_no_period_is_refused(period: str) -> None:
    """``6m`` may be minutes or months, and a wrong guess erases."""
    with pytest.raises(ValidationError, match="is not a period; write days, weeks or years"):
        RetentionSettings(invoices=period)


def test_blanks_and_capitals_do_not_matter() -> None:
    """People type them."""
    assert RetentionSettings(extracts=" 7Y ").extracts == "7y"
