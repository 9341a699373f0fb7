"""Tells people of files that wait too long, or cannot be put away: the daemon's sensor and ``mlc run`` say the same.

What belongs here: handing the feed's findings to the alerts. What does not: which files those are (``intake.feed``,
``stampli.disposing``), and when something is told again (``ledger.tellings``).
"""

# ruff: noqa: PLC0415 - the domain and apprise are imported by the call that tells.

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlc_dagster.alerts.sending import Alerts
    from mlc_dagster.ledger.database import Ledger
    from mlc_dagster.stampli.intake.feed import Overdue


def tell_overdue(ledger: "Ledger", alerts: "Alerts", overdue: "Sequence[Overdue]") -> list[str]:
    """One alert that names what is news; one line per address that was not reached."""
    from mlc_dagster.alerts.messages import files_overdue
    from mlc_dagster.alerts.telling import Trouble, is_news, send
    from mlc_dagster.ledger.tellings import Tellings, cause_of
    from mlc_dagster.stampli.inbound import FEED

    about: list[Trouble] = []
    named: list[str] = []
    for each in overdue:
        trouble = Trouble(f"file:{FEED}:{each.path}", cause_of(each.text))
        if is_news(Tellings(ledger), alerts, trouble):
            about.append(trouble)
            named.append(each.text)
    return send(Tellings(ledger), alerts, about, files_overdue(feed=FEED, waiting=named)) if about else []


def tell_stuck(ledger: "Ledger", alerts: "Alerts", stuck: "Sequence[str]") -> list[str]:
    """One alert for all files that could not be put away for long; one line per address that was not reached."""
    from mlc_dagster.alerts.messages import files_not_put_away
    from mlc_dagster.alerts.telling import Trouble, is_news, send
    from mlc_dagster.ledger.tellings import Tellings
    from mlc_dagster.stampli.inbound import FEED

    # One trouble, whichever files have it: a second one that fails like the first is no news.
    trouble = Trouble(f"disposal:{FEED}", "processed files cannot be put away")
    if not is_news(Tellings(ledger), alerts, trouble):
        return []
    return send(Tellings(ledger), alerts, [trouble], files_not_put_away(feed=FEED, stuck=stuck))
