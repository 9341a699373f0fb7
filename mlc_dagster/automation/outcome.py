"""What one poll by command came to: per window, per file, in all, and as an exit code. Plain data for ``mlc run``."""

import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal

from mlc_dagster.assets.failures import FailureKind
from mlc_dagster.ledger.outcomes import FileOutcome, NewTrouble
from mlc_dagster.ledger.windows import GenerationKind

EXIT_GOOD = 0
EXIT_ATTENTION = 1
"""Something is newly parked, unknown, rejected or quarantined, a file waits too long, a window that was read again
differs, or a person has to decide on first contact."""
EXIT_CONFIGURATION = 2
EXIT_REMOTE = 3


@dataclass(frozen=True)
class RunFailure:
    """Why something did not end well: one sentence, and what kind of thing it is."""

    kind: FailureKind
    text: str
    step: str
    """The asset or check, or ``poll`` for what came before any run."""
    window: str | None = None
    error: str = ""
    """Name of the error's type, where one is known."""
    about_file: bool = False
    """True when a file waits: people hear of it by the file's own alert."""


@dataclass(frozen=True)
class WindowResult:
    """One run over one window."""

    window: str
    """Partition key: the start of the window, UTC."""
    generation: int | None
    """None for a window that was reconciled."""
    kind: str
    """FILES, RETRY or RECONCILE."""
    run_id: str
    success: bool
    outcome: str
    """What ``posted_fusion_invoices`` said: posted, settled, waiting, differs, unchanged.

    Without it ``failed``, or ``busy`` where another run holds the window."""
    numbers: dict[str, int] = field(default_factory=dict[str, int])
    """posted, confirmed, adopted, already_in_fusion, parked, refused, unknown, left_waiting, requests …"""
    differences: tuple[str, ...] = ()
    """Where Fusion or the archived files differ from the ledger (at most fifty of each)."""
    checks: dict[str, bool] = field(default_factory=dict[str, bool])
    """Name of each control to whether it held."""
    in_the_folder: tuple[str, ...] = ()
    """Processed files that stay there, and newer versions that were met while files were put away."""

    @property
    def unchanged(self) -> bool:
        """True when the run found everything done and equal."""
        return self.success and self.outcome == "unchanged" and not self.differences


@dataclass(frozen=True)
class WaitingFile:
    """A file that is in the folder and not taken yet."""

    path: str
    note: str | None
    """Why, where it was tried before; None while it merely has to settle."""


@dataclass
class InboundOutcome:
    """Everything that one call did and found."""

    began: dt.datetime | None = None
    """The database's time, UTC; None when the ledger could not be opened."""
    windows: list[WindowResult] = field(default_factory=list[WindowResult])
    files: list[FileOutcome] = field(default_factory=list[FileOutcome])
    """Files of the generations that ran; of the whole window where it was reconciled or retried."""
    waiting: list[WaitingFile] = field(default_factory=list[WaitingFile])
    posted: int = 0
    totals: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    """Amount of the invoices created by this call, by currency."""
    trouble: NewTrouble = field(default_factory=NewTrouble)
    cured: int = 0
    """Parked invoices whose cause was found gone."""
    empty_windows: int = 0
    dead_runs: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    """What a person should know and nothing is wrong with: poll.start is in the future, another run is at work."""
    overdue: list[str] = field(default_factory=list[str])
    """Files that wait too long and that nobody was told of within a day, one sentence each."""
    first_contact: str | None = None
    """Set when the folder was not empty when it was first seen: the sentence that names the two commands."""
    failures: list[RunFailure] = field(default_factory=list[RunFailure])

    @property
    def newly_parked(self) -> int:
        """Invoices parked by this call."""
        return self.trouble.parked

    @property
    def newly_unknown(self) -> int:
        """Invoices whose outcome this call left unknown or refused."""
        return self.trouble.unknown

    @property
    def exit_code(self) -> int:
        """0 all good, 1 something for a person, 2 configuration, 3 a remote side is down or refuses us."""
        kinds = {failure.kind for failure in self.failures}
        if FailureKind.CONFIGURATION in kinds:
            return EXIT_CONFIGURATION
        if FailureKind.REMOTE in kinds:
            return EXIT_REMOTE
        if FailureKind.UNEXPECTED in kinds or self.trouble.any or self.first_contact or self.overdue:
            return EXIT_ATTENTION
        failed = any(not holds for window in self.windows for holds in window.checks.values())
        # Whoever has a window read again wants to hear what is not as it was.
        differs = any(window.differences for window in self.windows if window.kind == GenerationKind.RECONCILE)
        return EXIT_ATTENTION if failed or differs else EXIT_GOOD
