"""Tells people of files that wait too long: the daemon's sensor and ``mlc run`` say the same, by one rule.

What belongs here: handing the feed's finding to the alerts. What does not: which files wait too long
(``stampli.feed``), and when something is told again (``ledger.tellings``).
"""

# ruff: noqa: PLC0415 - the domain and apprise are imported by the call that tells.

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlc_dagster.alerts.sending import Alerts
    from mlc_dagster.ledger.database import Ledger
    from mlc_dagster.stampli.feed import Overdue


def tell_overdue(ledger: "Ledger", alerts: "Alerts", overdue: "Sequence[Overdue]") -> list[str]:
    """One alert that names what is news; one line per address that was not reached."""
    from mlc_dagster.alerts.messages import files_overdue
    from mlc_dagster.exports.telling import Trouble, is_news, send
    from mlc_dagster.ledger.tellings import cause_of
    from mlc_dagster.stampli.feed import FEED

    about: list[Trouble] = []
    named: list[str] = []
    for each in overdue:
        trouble = Trouble(f"file:{FEED}:{each.path}", cause_of(each.text))
        if is_news(ledger, alerts, trouble):
            about.append(trouble)
            named.append(each.text)
    return send(ledger, alerts, about, files_overdue(feed=FEED, waiting=named)) if about else []
