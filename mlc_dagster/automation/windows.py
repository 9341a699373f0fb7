"""From what the ledger wants to what Dagster knows: partitions that exist, tags of a run, marks without a run."""

import datetime as dt
from collections.abc import Iterable, Iterator

import dagster as dg

from mlc_dagster.assets import WINDOWED
from mlc_dagster.assets.holding import GENERATION_TAG, KIND_TAG, WINDOW_TAG
from mlc_dagster.ledger.windows import GenerationKind, RunWanted, window_key


def run_tags(key: str, generation: int | None, kind: GenerationKind) -> dict[str, str]:
    """Tags that say what a run is for. Without a generation the run reconciles its window."""
    tags = {WINDOW_TAG: key, KIND_TAG: str(kind)}
    return tags if generation is None else {**tags, GENERATION_TAG: str(generation)}


def run_request(wanted: RunWanted) -> dg.RunRequest:
    """The request for one wanted run; asking twice for the same attempt gives one run."""
    return dg.RunRequest(
        run_key=wanted.run_key,
        partition_key=wanted.partition_key,
        tags=run_tags(wanted.partition_key, wanted.generation, wanted.kind),
    )


def ready(
    windows: dg.TimeWindowPartitionsDefinition, wanted: Iterable[RunWanted]
) -> tuple[list[RunWanted], list[RunWanted]]:
    """(runs whose partition exists, the others).

    The window is told by the database's clock and the partition by ours: where the database is ahead, the newest window
    is no partition for a moment. One before ``poll.start`` is none at all, when that was set to a later date.
    """
    there: list[RunWanted] = []
    not_there: list[RunWanted] = []
    for run in wanted:
        (there if windows.has_partition_key(run.partition_key) else not_there).append(run)
    return there, not_there


def empty_events(
    windows: dg.TimeWindowPartitionsDefinition, starts: Iterable[dt.datetime]
) -> Iterator[dg.AssetMaterialization]:
    """Marks for windows that ended without a file: they are complete, and no run is needed to say so."""
    for start in starts:
        key = window_key(start)
        if not windows.has_partition_key(key):
            continue
        for name in WINDOWED:
            yield dg.AssetMaterialization(
                asset_key=name,
                partition=key,
                description="no file arrived in this window",
                metadata={"outcome": "EMPTY", "files": 0, "invoices": 0},
            )
