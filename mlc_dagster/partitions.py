"""Poll windows as Dagster partitions.

What belongs here: the partitions objects, made from ``poll:`` in mlc.yaml. What does not: which file belongs to which
window; the ledger says that. Keys are equal to ``ledger.windows.window_key``, so that both are one thing.
"""

import dagster as dg

from mlc_dagster.ledger.windows import KEY_FORMAT
from mlc_dagster.settings import PollSettings


def inbound_windows(poll: PollSettings) -> dg.TimeWindowPartitionsDefinition:
    """The inbound poll windows; one object for all three assets, so that Dagster maps them one to one.

    ``end_offset=1``: the window that is open now is a partition already, since files are posted while it runs.
    """
    return dg.TimeWindowPartitionsDefinition(
        start=poll.start, cron_schedule=poll.cron, fmt=KEY_FORMAT, timezone="UTC", end_offset=1
    )


def outbound_windows(poll: PollSettings) -> dg.TimeWindowPartitionsDefinition:
    """The outbound poll windows: closed ones only, since a window is read once it is over."""
    return dg.TimeWindowPartitionsDefinition(start=poll.start, cron_schedule=poll.cron, fmt=KEY_FORMAT, timezone="UTC")
