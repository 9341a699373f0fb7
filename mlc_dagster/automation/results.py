"""Reads a run that was executed in this process: what its assets reported, which controls held, why a step failed."""

from collections.abc import Iterable, Iterator

import dagster as dg

from mlc_dagster.assets.failures import ABOUT_FILE, KIND, FailureKind
from mlc_dagster.assets.posted_fusion_invoices import IN_THE_FOLDER
from mlc_dagster.assets.stampli_invoice_files import DIFFERING
from mlc_dagster.automation.jobs import INBOUND_JOB
from mlc_dagster.automation.outcome import RunFailure, WindowResult
from mlc_dagster.ledger.windows import GenerationKind

_DIFFERENCES = "table_of_differences"


def window_result(
    result: dg.ExecuteInProcessResult,
    key: str,
    generation: int | None,
    kind: GenerationKind,
    failures: Iterable[RunFailure] = (),
) -> WindowResult:
    """What the run said, as plain data."""
    said = {
        event.asset_key.to_user_string(): event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }
    posted = said.get("posted_fusion_invoices", {})
    outcome = posted.get("outcome")
    numbers = {name: value.value for name, value in posted.items() if isinstance(value, dg.IntMetadataValue)}
    differing = _texts(said.get("stampli_invoice_files", {}).get(DIFFERING))
    busy = any(failure.kind is FailureKind.BUSY for failure in failures)
    return WindowResult(
        window=key,
        generation=generation,
        kind=str(kind),
        run_id=result.run_id,
        success=result.success,
        outcome=str(outcome.value) if outcome is not None else "busy" if busy else "failed",
        numbers={name: value for name, value in numbers.items() if value is not None},
        differences=(*_differences(posted.get(_DIFFERENCES)), *differing),
        checks={check.check_name: check.passed for check in result.get_asset_check_evaluations()},
        in_the_folder=_texts(posted.get(IN_THE_FOLDER)),
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value.data)) if isinstance(value, dg.JsonMetadataValue) and value.data else ()


def _differences(value: object) -> Iterator[str]:
    if isinstance(value, dg.TableMetadataValue):
        for record in value.records:
            yield f"{record.data['what']}: {record.data['invoice']}"


def failures_of(result: dg.ExecuteInProcessResult, key: str | None) -> Iterator[RunFailure]:
    """Why steps of the run failed, and which controls did not hold."""
    told = False
    checks = result.get_asset_check_evaluations()
    at_fault = tuple(check.check_name for check in checks if not check.passed)
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        step = event.step_key or INBOUND_JOB
        if step.endswith(at_fault):
            # A blocking control that did not hold; it is told below, in its own words.
            continue
        told = True
        yield failure_of_step(event, key)
    for check in checks:
        if not check.passed:
            told = True
            severity = "" if check.severity is dg.AssetCheckSeverity.ERROR else " (warning)"
            text = f"{check.check_name}{severity}: {check.description}"
            about_file = ABOUT_FILE in check.metadata
            yield RunFailure(_kind(check.metadata.get(KIND)), text, check.check_name, key, about_file=about_file)
    if not result.success and not told:
        yield RunFailure(FailureKind.UNEXPECTED, f"run {result.run_id} failed; see its log", INBOUND_JOB, key)


def failure_of_step(event: dg.DagsterEvent, key: str | None) -> RunFailure:
    """Why a step failed; ``event`` is one that says so. ``key``: its window."""
    failure, step = event.step_failure_data, event.step_key or INBOUND_JOB
    said = failure.user_failure_data
    if said is not None:
        error = said.metadata.get("error")
        return RunFailure(
            _kind(said.metadata.get(KIND)),
            said.description or "failed",
            step,
            key,
            error=str(error.value) if isinstance(error, dg.TextMetadataValue) else "",
            about_file=ABOUT_FILE in said.metadata,
        )
    cause = None if failure.error is None else failure.error.cause or failure.error
    return RunFailure(FailureKind.UNEXPECTED, "failed" if cause is None else cause.message.strip(), step, key)


def _kind(value: object) -> FailureKind:
    return FailureKind(value.value) if isinstance(value, dg.TextMetadataValue) else FailureKind.UNEXPECTED
