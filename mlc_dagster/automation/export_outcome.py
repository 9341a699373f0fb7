"""What one outbound poll did and found, as plain data for the command line."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import dagster as dg

from mlc_dagster.assets.failures import FailureKind
from mlc_dagster.automation.outcome import (
    EXIT_ATTENTION,
    EXIT_CONFIGURATION,
    EXIT_GOOD,
    EXIT_REMOTE,
    RunFailure,
)
from mlc_dagster.ledger.exported import FileState

_UNKNOWN_OUTCOME = "OutcomeUnknown"
"""Type of the error by which a feed's run ends behind such a file."""
_COUNTED = ("new", "change", "cancel", "unchanged", "stale", "filtered", "held", "files_built", "files_delivered")


@dataclass(frozen=True)
class FeedResult:
    """One run over one feed's range of windows."""

    feed: str
    first: str
    last: str
    """Partition keys: starts of the first and of the last window, UTC."""
    run_id: str
    success: bool
    outcome: str
    """delivered, held or unchanged; ``failed`` where the feed's step did not end well."""
    records_read: int
    numbers: Mapping[str, int]
    checks: Mapping[str, bool]

    @classmethod
    def of(cls, result: dg.ExecuteInProcessResult, feed: str, windows: tuple[str, str]) -> Self:
        """What the run's assets reported. A run over a range reports once per window, each time the same."""
        said: dict[str, Mapping[str, Any]] = {
            event.asset_key.to_user_string(): event.materialization.metadata
            for event in result.get_asset_materialization_events()
            if event.asset_key is not None
        }
        own = next((metadata for name, metadata in said.items() if name.endswith(f"/{feed}")), {})
        source = next((metadata for name, metadata in said.items() if name.startswith("fusion_")), {})
        outcome = own.get("outcome")
        return cls(
            feed=feed,
            first=windows[0],
            last=windows[1],
            run_id=result.run_id,
            success=result.success,
            outcome="failed" if outcome is None else str(outcome.value),
            records_read=_number(source, "records"),
            numbers={name: _number(own, name) for name in _COUNTED},
            checks={check.check_name: check.passed for check in result.get_asset_check_evaluations()},
        )


def _number(metadata: Mapping[str, Any], name: str) -> int:
    value = metadata.get(name)
    return int(value.value or 0) if isinstance(value, dg.IntMetadataValue) else 0


@dataclass
class OutboundOutcome:
    """Everything that one call did and found."""

    began: dt.datetime | None = None
    """The database's time, UTC; None when the ledger could not be opened."""
    fusion_now: dt.datetime | None = None
    closed_until: dt.datetime | None = None
    """End of the last window that is over by Fusion's clock."""
    feeds: list[FeedResult] = field(default_factory=list[FeedResult])
    sent: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Files delivered by this call, as rows of the ledger."""
    pending: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """Files that wait for their partner's server, and those of unknown outcome, which wait for a person."""
    held: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    newly_held: int = 0
    dead_runs: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    failures: list[RunFailure] = field(default_factory=list[RunFailure])

    @property
    def exit_code(self) -> int:
        """0 all delivered, 1 something for a person, 2 configuration, 3 a remote side is down or refuses us.

        A file of unknown outcome is for a person, at every call until it is settled: the server is not what is missing.
        """
        kinds = {failure.kind for failure in self.failures if failure.error != _UNKNOWN_OUTCOME}
        if FailureKind.CONFIGURATION in kinds:
            return EXIT_CONFIGURATION
        if FailureKind.REMOTE in kinds:
            return EXIT_REMOTE
        if FailureKind.UNEXPECTED in kinds or self.newly_held:
            return EXIT_ATTENTION
        if any(not holds for result in self.feeds for holds in result.checks.values()):
            return EXIT_ATTENTION
        if any(row["state"] == FileState.UNKNOWN for row in self.pending):
            return EXIT_ATTENTION
        return EXIT_REMOTE if self.pending else EXIT_GOOD
