"""How a poll gets on, while it runs: one line per stage, on a terminal only."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

_STAGES = {
    "files": "files received",
    "read": "invoices read",
    "validate": "invoices judged",
    "post": "invoices posted",
    "confirm": "invoices read back",
}


class PollProgress:
    """Shows the stages of a poll on standard error; silent where that is no terminal. A context manager."""

    def __init__(self, *, shown: bool = True) -> None:
        self._bars = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description:<40}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:>7,.0f}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not (shown and sys.stderr.isatty()),
        )
        self._tasks: dict[str, TaskID] = {}
        self._read = 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def waiting(self, seconds: float, files: int) -> None:
        """``files`` have not settled yet; the poll looks again in ``seconds``."""
        noun = "file settles" if files == 1 else "files settle"
        self._tasks["waiting"] = self._bars.add_task(f"{files} {noun}, next look in {seconds:.0f} s", total=None)

    def window(self, key: str, generation: int | None, kind: str) -> None:
        """Work on a window begins."""
        for task in self._tasks.values():
            self._bars.remove_task(task)
        self._tasks, self._read = {}, 0
        what = "read again" if generation is None else f"generation {generation}, {kind.lower()}"
        self._tasks["window"] = self._bars.add_task(f"window {key} UTC, {what}", total=None)

    def advance(self, stage: str, count: int) -> None:
        """``count`` more files or invoices are through ``stage``."""
        if stage == "read":
            self._read += count
        if stage not in self._tasks:
            # Invoices read are the most that the later stages can have to do; how many files there are is not told.
            total = self._read or None if stage not in ("files", "read") else None
            self._tasks[stage] = self._bars.add_task(_STAGES.get(stage, stage), total=total)
        self._bars.advance(self._tasks[stage], count)
