"""What the three window assets have in common: which window and generation, the hold on it, and errors as Failures.

A generation comes with the run's tag ``mlc/generation``. A run without it was started by hand: it reconciles the whole
window. Nothing is retried by Dagster: what can be tried again is asked for by a later poll, from the ledger.
"""

# ruff: noqa: PLC0415 - the domain and its connectors are imported by the run that uses them.

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from mlc_dagster.assets.failures import as_failure
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.windows import window_start
from mlc_dagster.resources import InboundResource

if TYPE_CHECKING:
    from mlc_dagster.stampli.inbound import Inbound
    from mlc_dagster.stampli.window import HeldWindow

GENERATION_TAG = "mlc/generation"
WINDOW_TAG = "mlc/window"
KIND_TAG = "mlc/kind"
PROCESS_TAG = "mlc/process"
"""Host, pid and start time of the process of a run that a command started: see ``automation.dead_runs``."""


@dataclass(frozen=True)
class WindowStep:
    """What a window asset works with."""

    inbound: "Inbound"
    held: "HeldWindow"
    key: str

    @property
    def title(self) -> str:
        """The window for headlines: ``2026-01-01-00:15 UTC, generation 2 (RETRY)``."""
        return f"{self.key} UTC, generation {self.held.work.generation} ({self.held.kind})"


def generation_of(tags: Mapping[str, str]) -> int | None:
    """The generation that a run was started for; None for a run started by hand."""
    text = tags.get(GENERATION_TAG)
    return int(text) if text else None


@contextmanager
def held_window(
    context: dg.AssetExecutionContext, resource: InboundResource, *, followed_by: tuple[str, ...] = ()
) -> Generator[WindowStep]:
    """Hold the run's window for one asset; the last asset of the run closes the generation.

    Args:
        context: of a partitioned run.
        resource: the wiring.
        followed_by: assets of the same window that come after this one, when they are part of the run.

    Raises:
        Failure: everything that is expected to go wrong, in one sentence; the cause is chained.
    """
    from mlc_dagster.stampli.window import hold_window

    start = window_start(context.partition_key)
    run = context.run
    selected = run.asset_selection or context.job_def.asset_layer.executable_asset_keys
    last = not any(dg.AssetKey(name) in selected for name in followed_by)
    try:
        inbound = resource.connect()
        with hold_window(
            inbound.ledger,
            start,
            generation_of(run.tags),
            owner=f"{process_name(os.getpid())}|{run.run_id}",
            run_id=run.run_id,
            last=last,
        ) as held:
            yield WindowStep(inbound, held, context.partition_key)
    except Exception as error:
        failure = as_failure(error)
        if failure is None:
            raise
        raise failure from error
