"""What a check judges: the window of its run, or everything."""

import datetime as dt

import dagster as dg

from mlc_dagster.ledger.windows import window_start


def window_of(context: dg.AssetCheckExecutionContext) -> dt.datetime | None:
    """Start of the run's window; None in a run without partition, which judges all windows together."""
    return window_start(context.partition_key) if context.has_partition_key else None


def verdict(faults: list[str]) -> str:
    """What is wrong, in one text; a word of relief when nothing is."""
    if not faults:
        return "holds"
    shown = "; ".join(faults[:5])
    return shown if len(faults) <= 5 else f"{shown}; and {len(faults) - 5} more"
