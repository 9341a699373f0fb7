"""Dates and times as text, by a pattern that means the same in every locale.

``strftime`` writes month names in the process's language; files need the partner's, which is English.
"""

import datetime as dt
import re
from collections.abc import Callable

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip

_CODES: dict[str, Callable[[dt.datetime], str]] = {
    "Y": lambda at: f"{at.year:04}",
    "y": lambda at: f"{at.year % 100:02}",
    "m": lambda at: f"{at.month:02}",
    "d": lambda at: f"{at.day:02}",
    "b": lambda at: _MONTHS[at.month - 1][:3],
    "B": lambda at: _MONTHS[at.month - 1],
    "j": lambda at: f"{at.timetuple().tm_yday:03}",
    "H": lambda at: f"{at.hour:02}",
    "M": lambda at: f"{at.minute:02}",
    "S": lambda at: f"{at.second:02}",
    "%": lambda _: "%",
}

_CODE = re.compile(r"%(.?)", re.DOTALL)


def check_pattern(pattern: str) -> str:
    """The pattern itself; raises ValueError where it has a code that is not ours."""
    for code in _CODE.findall(pattern):
        if code not in _CODES:
            raise ValueError(f"{pattern!r}: %{code} is not one of {' '.join('%' + known for known in _CODES)}")
    return pattern


def date_text(value: dt.date | dt.datetime, pattern: str) -> str:
    """The date by the pattern; times are UTC."""
    at = value if isinstance(value, dt.datetime) else dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    if at.tzinfo is not None:
        at = at.astimezone(dt.UTC)
    return _CODE.sub(lambda match: _CODES[match[1]](at), pattern)
