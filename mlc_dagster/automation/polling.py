"""One poll, as the daemon's tick and ``mlc run inbound`` both do it: look, mark empty windows, put files away, tell.

Belongs here: the order, and what is told to people. Does not: how much time there is, and where the words go; the
sensor writes them to its tick's log, the command to its outcome.
"""

# ruff: noqa: PLC0415 - the domain and its connectors are imported by the poll, not by the definitions.

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from mlc_dagster.automation.overdue_alerts import tell_overdue, tell_stuck
from mlc_dagster.automation.windows import empty_events

if TYPE_CHECKING:
    from mlc_dagster.alerts.sending import Alerts
    from mlc_dagster.stampli.inbound import Inbound
    from mlc_dagster.stampli.intake.disposing import Retried
    from mlc_dagster.stampli.intake.feed import Poll

TimeLeft = Callable[[], float]
"""Seconds that are left for what comes next."""


@dataclass(frozen=True)
class Polling:
    """Polls one feed; ``resolve`` turns a reference to a secret into its value."""

    inbound: "Inbound"
    resolve: Callable[[str], str]
    windows: dg.TimeWindowPartitionsDefinition
    time_left: TimeLeft | None = None
    """None where nobody waits for the poll to end."""

    def look(self) -> "Looked":
        """One look at the folder.

        Raises:
            BeforeGoLive: poll.start is in the future.
            FirstContact: nobody decided on the folder's files yet.
            SftpError: the server cannot be used; the ledger is unchanged.
        """
        from mlc_dagster.stampli.intake.feed import poll_folder

        wired = self.inbound
        poll = poll_folder(wired.ledger, wired.open_session, wired.stampli, wired.settings.poll, wired.profile)
        unsent = self._tell(poll.overdue, lambda alerts: tell_overdue(wired.ledger, alerts, poll.overdue))
        return Looked(poll, tuple(empty_events(self.windows, poll.empty_windows)), unsent)

    def put_away(
        self, *, began: dt.datetime | None = None, connect: "Callable[[], Inbound] | None" = None
    ) -> "PutAway":
        """Processed files that earlier runs could not archive or delete; arguments as ``retry_disposal``."""
        from mlc_dagster.stampli.intake.disposing import retry_disposal

        retried = retry_disposal(self.inbound, began=began, connect=connect)
        unsent = self._tell(retried.stuck, lambda alerts: tell_stuck(self.inbound.ledger, alerts, retried.stuck))
        return PutAway(retried, unsent)

    def _tell(self, found: Sequence[object], tell: "Callable[[Alerts], list[str]]") -> tuple[str, ...]:
        """What could not be sent, in words for people."""
        if not found or not self.inbound.settings.alerts.to:
            return ()
        from mlc_dagster.alerts.sending import WITHIN, Alerts

        within = WITHIN if self.time_left is None else min(max(1.0, self.time_left()), WITHIN)
        faults = tell(Alerts(self.inbound.settings.alerts, self.resolve, within=within))
        return tuple(f"an alert could not be sent: {fault}" for fault in faults)


@dataclass(frozen=True)
class Looked:
    """What one look came to."""

    poll: "Poll"
    marks: tuple[dg.AssetMaterialization, ...]
    """For windows that ended without a file."""
    unsent: tuple[str, ...]
    """Alerts that did not reach somebody."""

    @property
    def news(self) -> tuple[str, ...]:
        """What no poll found within a day."""
        return (*self.poll.newly_refused, *(each.text for each in self.poll.newly_overdue))


@dataclass(frozen=True)
class PutAway:
    """What became of processed files that still lay there."""

    retried: "Retried"
    unsent: tuple[str, ...]

    @property
    def newly_stuck(self) -> tuple[str, ...]:
        """Files that cannot be put away for long, when no poll found that within a day."""
        return self.retried.stuck if self.retried.newly_stuck else ()
