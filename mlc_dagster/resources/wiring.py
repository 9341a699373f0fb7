"""What the resources share and the UI does not show: the settings as read, the resolver of secrets, the progress."""

from dataclasses import dataclass, field
from typing import Protocol

from mlc_dagster.settings import Settings
from mlc_dagster.vault import SecretResolver


class Progress(Protocol):
    """Hears how a run gets on. Called from the run's own thread and from its event loop, never from two at once."""

    def waiting(self, seconds: float, files: int) -> None:
        """``files`` have not settled yet; the poll sleeps for ``seconds`` and looks again."""
        ...

    def window(self, key: str, generation: int | None, kind: str) -> None:
        """Work on a window begins; ``generation`` is None for one that is reconciled."""
        ...

    def advance(self, stage: str, count: int) -> None:
        """``count`` more files or invoices are through ``stage``: files, read, validate, post, confirm."""
        ...


class Silent:
    """Shows nothing."""

    def waiting(self, seconds: float, files: int) -> None:
        """Nothing is shown."""

    def window(self, key: str, generation: int | None, kind: str) -> None:
        """Nothing is shown."""

    def advance(self, stage: str, count: int) -> None:
        """Nothing is shown."""


@dataclass(frozen=True, repr=False)
class Wiring:
    """Settings and secrets of one code location."""

    settings: Settings
    secrets: SecretResolver
    progress: Progress = field(default_factory=Silent)

    def __repr__(self) -> str:
        """Names the configuration's folder; no value of it."""
        return f"Wiring({self.settings.root})"
