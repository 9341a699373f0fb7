"""Runs whose process is gone: found by host, pid and start time, and failed so that nobody waits for them.

A run of the daemon is watched by Dagster's run monitoring. One that a command started in its own process is not: after
a kill -9 it would stay STARTED for ever. It carries its process in a tag; daemon and command look for such runs first.
"""

import dagster as dg

from mlc_dagster.assets.holding import PROCESS_TAG
from mlc_dagster.ledger.process import process_is_gone

_UNFINISHED = (
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def fail_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """End every run that a command started and whose process runs no more; their ids."""
    ended: list[str] = []
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=list(_UNFINISHED))):
        process = run.tags.get(PROCESS_TAG)
        if process is None or not process_is_gone(process):
            continue
        pid = process.split("|")[2]
        message = f"the process that ran it (pid {pid}) is gone; what it left undone is taken up by the next poll"
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message)
        else:
            instance.report_run_failed(run, message)
        ended.append(run.run_id)
    return ended
