"""A run's hold on an inbound window: the files and invoices it works on."""

import datetime as dt
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.window_hold import HeldGeneration, hold_generation
from mlc_dagster.ledger.windows import GenerationKind
from mlc_dagster.stampli.inbound import FEED, WindowWork


@dataclass
class HeldWindow:
    """A window held by this run; ``summary`` is kept with the generation when the work is done."""

    work: WindowWork
    held: HeldGeneration

    @property
    def kind(self) -> GenerationKind:
        return self.held.kind

    @property
    def summary(self) -> dict[str, Any]:
        return self.held.summary

    @property
    def reconciling(self) -> bool:
        """True for a run started by hand: everything of the window is looked at again."""
        return self.kind is GenerationKind.RECONCILE


@contextmanager
def hold_window(
    ledger: Ledger,
    start: dt.datetime,
    generation: int | None,
    *,
    owner: str,
    run_id: str,
    last: bool,
    wait: Callable[[float], bool] | None = None,
) -> Generator[HeldWindow]:
    """Hold the window for one step of a run; arguments and errors as ``hold_generation``."""
    with hold_generation(ledger, FEED, start, generation, owner=owner, run_id=run_id, last=last, wait=wait) as held:
        yield HeldWindow(WindowWork(start, held.generation, owner, held.fence), held)
