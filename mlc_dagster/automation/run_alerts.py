"""Tells people why a run failed, whoever started it: the daemon's sensor and ``mlc run`` say the same, by one rule.

What belongs here: which failures are worth an alert. What does not: files that wait (their feed's step tells of them),
and when something is told again (``ledger.tellings``).
"""

# ruff: noqa: PLC0415 - apprise and the ledger are imported by the call that tells.

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mlc_dagster.assets.failures import FailureKind
from mlc_dagster.automation.outcome import RunFailure

if TYPE_CHECKING:
    from mlc_dagster.alerts.sending import Alerts
    from mlc_dagster.ledger.database import Ledger


def worth_telling(failures: Sequence[RunFailure]) -> list[RunFailure]:
    """Those that a run's alert names: not that another run is at work, not a file with an alert of its own."""
    return [failure for failure in failures if failure.kind is not FailureKind.BUSY and not failure.about_file]


def tell_failures(
    ledger: "Ledger | None",
    alerts: "Alerts",
    failures: Sequence[RunFailure],
    *,
    job: str,
    run_id: str = "",
    tags: Mapping[str, str] | None = None,
) -> list[str]:
    """One alert that names what is news of the failures; one line per address that was not reached.

    Args:
        ledger: where it is kept what was told; None where it cannot be opened, and everything is told.
        alerts: who is told.
        failures: of one run, or of one call that made several.
        job: its job.
        run_id: the run; empty when no daemon started it.
        tags: the run's.
    """
    from mlc_dagster.alerts.messages import run_failed
    from mlc_dagster.alerts.telling import Trouble, is_news, send
    from mlc_dagster.ledger.tellings import Tellings, cause_of

    told = None if ledger is None else Tellings(ledger)
    about: list[Trouble] = []
    named: list[str] = []
    for failure in worth_telling(failures):
        # A remote side words the same trouble in another way each time; elsewhere the words are what differs.
        remote = failure.kind is FailureKind.REMOTE
        cause = failure.error or cause_of(failure.text) if remote else failure.text[:2000]
        trouble = Trouble(f"run:{job}/{failure.step}", cause)
        if trouble not in about and is_news(told, alerts, trouble):
            about.append(trouble)
            named.append(f"{failure.step}: {failure.text}")
    if not about:
        return []
    return send(told, alerts, about, run_failed(job=job, run_id=run_id, tags=tags or {}, failures=named))
