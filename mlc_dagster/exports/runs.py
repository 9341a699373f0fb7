"""A piece of outbound work, as the ledger counts it: one feed, over a range of windows."""

import datetime as dt
from dataclasses import dataclass

from mlc_dagster.ledger.windows import window_key


@dataclass(frozen=True)
class ExportRun:
    """A run that should exist: one feed, over a range of windows."""

    feed: str
    source: str
    home: dt.datetime
    """Window that the work is counted under."""
    generation: int
    attempt: int
    first: dt.datetime
    last: dt.datetime
    """Start of the first and of the last window of the range."""

    @property
    def run_key(self) -> str:
        return f"{self.feed}/{window_key(self.home)}/g{self.generation}/a{self.attempt}"


def work_name(feed: str) -> str:
    """The name under which a feed's windows and attempts stand in the ledger."""
    return f"exports/{feed}"
