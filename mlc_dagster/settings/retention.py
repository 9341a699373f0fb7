"""``retention:`` - how long each kind of content is kept, and how long Dagster keeps what it knows of runs and ticks.

What belongs here: the periods and their texts. What does not: which content is still needed, and legal holds; the
ledger knows both.
"""

import datetime as dt
import re
from typing import Annotated

from pydantic import AfterValidator

from mlc_dagster.settings.values import Model

FOREVER = "forever"
_PERIOD = re.compile(r"([1-9]\d{0,4})\s*(d|w|y)")
_LONGEST_YEARS = 200


def _period(value: str) -> str:
    text = value.strip().lower()
    found = _PERIOD.fullmatch(text)
    if text != FOREVER and (found is None or (found[2] == "y" and int(found[1]) > _LONGEST_YEARS)):
        msg = f"{value!r} is not a period; write days, weeks or years such as 90d, 26w, 7y, or forever"
        raise ValueError(msg)
    return text


Period = Annotated[str, AfterValidator(_period)]
"""``90d``, ``26w``, ``7y`` or ``forever``."""


def cutoff(period: Period, now: dt.datetime) -> dt.datetime | None:
    """What is older than this has been kept for the period; None for ``forever``. Years are those of the calendar."""
    found = _PERIOD.fullmatch(period)
    if found is None:
        return None
    count = int(found[1])
    if found[2] != "y":
        return now - dt.timedelta(days=count * (7 if found[2] == "w" else 1))
    try:
        return now.replace(year=now.year - count)
    except ValueError:  # 29 February of a year that has none.
        return now.replace(year=now.year - count, day=28)


class DagsterRetention(Model):
    runs: Period = "90d"
    """Ended runs, with their event logs and compute logs; the latest of each partition stays, whatever its age."""
    ticks: Period = "30d"
    """Ticks of sensors and schedules."""


class RetentionSettings(Model):
    """Nothing of ours is erased unless a period is given. Hashes, sizes, names and the audit trail always stay."""

    source_files: Period = FOREVER
    """Stampli's files in the archive, from when they were read."""
    invoices: Period = FOREVER
    """Content of invoices as it was read, and what was mapped of it, from the last change of the invoice's state."""
    requests: Period = FOREVER
    """Bodies of requests to Fusion, from the end of the attempt."""
    quarantined_rows: Period = FOREVER
    """Rows that could not be read, from when their file was read."""
    extracts: Period = FOREVER
    """What was read from Fusion, from the reading."""
    exported_files: Period = FOREVER
    """Files for partners and their companions, from their delivery."""
    record_contents: Period = FOREVER
    """Contents that the ledger keeps of purchase orders and held records, from when they were sent or overtaken."""
    dagster: DagsterRetention = DagsterRetention()
