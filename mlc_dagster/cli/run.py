"""``mlc run``: one whole poll without the daemon, through the same assets; this module only presents it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlc_dagster.cli.context import ConfigOption, JsonOption, open_workplace
from mlc_dagster.cli.dagster_home import dagster_instance
from mlc_dagster.cli.output import add_rows, console, file_name, print_json, state_text, table, totals_text
from mlc_dagster.cli.progress import PollProgress
from mlc_dagster.visible import visible

if TYPE_CHECKING:
    from mlc_dagster.automation.outcome import InboundOutcome, WindowResult
    from mlc_dagster.ledger.outcomes import FileOutcome

app = typer.Typer(no_args_is_help=True, help="One poll, without the daemon.")


@app.callback()
def group() -> None:
    """One poll, without the daemon."""


@app.command("inbound")
def inbound(
    ctx: typer.Context,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="One look only, for cron: takes what an earlier look saw unchanged.")
    ] = False,
    window: Annotated[
        str | None, typer.Option("--window", help="Re-materialise this window, such as 2026-12-01-08:15 (UTC).")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look into Stampli's folder once, bring what is new there into Fusion, and read it back.

    Waits once until the files it just saw have settled, so that one call is one whole poll. Safe beside the daemon and
    beside itself. Exit code 0: all good. 1: something is newly parked or unknown, or the first contact needs a
    decision. 2: configuration. 3: a remote side is down or refuses us.
    """
    workplace = open_workplace(ctx, config)
    with (
        dagster_instance(workplace.settings.data_path) as instance,
        PollProgress(shown=not as_json) as progress,
    ):
        from mlc_dagster.automation.one_shot import run_inbound

        outcome = run_inbound(workplace.settings, instance=instance, wait=not no_wait, window=window, progress=progress)
    if as_json:
        print_json(outcome_document(outcome))
    else:
        print_outcome(outcome)
    for failure in outcome.failures:
        place = f"window {failure.window} UTC, {failure.step}: " if failure.window else ""
        typer.echo(f"mlc: {place}{visible(' '.join(failure.text.split()))}", err=True)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def print_outcome(outcome: "InboundOutcome") -> None:
    """What was done and found, for people."""
    files = [file for file in outcome.files if _worth_showing(file, outcome)]
    if files:
        made = table("File", "State", "Invoices", "Posted", "Duplicate", "Parked", "Why", right=_NUMBERS)
        console().print(add_rows(made, [_file_row(file) for file in files]))
    for waiting in outcome.waiting:
        typer.echo(
            visible(f"{file_name(waiting.path)} waits: {waiting.note or 'not settled yet; the next poll takes it'}")
        )
    for line in summary_lines(outcome):
        typer.echo(visible(line))


_NUMBERS = ("Invoices", "Posted", "Duplicate", "Parked")


def _file_row(file: "FileOutcome") -> tuple[Any, ...]:
    why = ", ".join(f"{count} × {reason}" if count > 1 else reason for reason, count in sorted(file.why.items()))
    aside = f"{file.quarantined} rows set aside" if file.quarantined else ""
    return (
        file.name if file.version == 1 else f"{file.name} (version {file.version})",
        state_text(file.state),
        "" if file.invoices is None else file.invoices,
        file.posted or "",
        file.buckets["duplicate"] or "",
        file.buckets["parked"] or "",
        "; ".join(part for part in (file.reason, why, aside) if part),
    )


def _worth_showing(file: "FileOutcome", outcome: "InboundOutcome") -> bool:
    """Files that this call read, or posted something of; a retry names its whole window, most of it long done."""
    from mlc_dagster.ledger.windows import GenerationKind, window_key

    if file.posted:
        return True
    if file.window_start is None:
        return False
    of_file = (window_key(file.window_start), file.generation)
    return any(
        (result.kind == GenerationKind.RECONCILE and result.window == of_file[0])
        or (result.kind == GenerationKind.FILES and (result.window, result.generation) == of_file)
        for result in outcome.windows
    )


def summary_lines(outcome: "InboundOutcome") -> Iterator[str]:
    """The poll in a few sentences."""
    if outcome.first_contact:
        yield outcome.first_contact
    yield from outcome.notes
    yield from outcome.overdue
    if outcome.dead_runs:
        yield f"{len(outcome.dead_runs)} runs whose process is gone were ended; their work is taken up again."
    for result in outcome.windows:
        yield _window_line(result)
    if outcome.posted:
        yield f"Posted {_count(outcome.posted, 'invoice')}: {totals_text(outcome.totals)}"
    trouble = outcome.trouble
    parts = [
        (trouble.parked, "parked"),
        (trouble.unknown, "with an unknown outcome"),
        (trouble.quarantined_rows, "rows set aside"),
        (trouble.rejected_files, "files refused"),
    ]
    if trouble.any:
        yield "New for a person: " + ", ".join(f"{n} {what}" for n, what in parts if n) + " (`mlc exceptions`)"
    elif not outcome.posted and not outcome.failures and not outcome.first_contact:
        yield "Nothing new."


def _window_line(result: "WindowResult") -> str:
    what = "read again" if result.generation is None else f"generation {result.generation}"
    said = "nothing to change, nothing posted" if result.unchanged else result.outcome
    checks = [name for name, holds in result.checks.items() if not holds]
    told = f"; does NOT hold: {', '.join(checks)}" if checks else ""
    differences = f"; {_count(len(result.differences), 'difference')}" if result.differences else ""
    return f"Window {result.window} UTC, {what}: {said}{differences}{told}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def outcome_document(outcome: "InboundOutcome") -> dict[str, Any]:
    """The poll as JSON: everything, not only what the table shows."""
    trouble = outcome.trouble
    return {
        "exit_code": outcome.exit_code,
        "began": outcome.began,
        "posted": outcome.posted,
        "totals": outcome.totals,
        "newly_parked": trouble.parked,
        "newly_unknown": trouble.unknown,
        "rows_set_aside": trouble.quarantined_rows,
        "files_refused": trouble.rejected_files,
        "cured": outcome.cured,
        "first_contact": outcome.first_contact,
        "windows": [
            {
                "window": result.window,
                "generation": result.generation,
                "kind": result.kind,
                "run_id": result.run_id,
                "success": result.success,
                "outcome": result.outcome,
                "unchanged": result.unchanged,
                "numbers": result.numbers,
                "differences": result.differences,
                "checks": result.checks,
            }
            for result in outcome.windows
        ],
        "files": [
            {
                "path": file.path,
                "version": file.version,
                "state": file.state,
                "reason": file.reason,
                "rows": file.rows,
                "rows_set_aside": file.quarantined,
                "invoices": file.invoices,
                "posted": file.posted,
                "buckets": dict(file.buckets),
                "why": dict(file.why),
            }
            for file in outcome.files
        ],
        "waiting": [{"path": waiting.path, "note": waiting.note} for waiting in outcome.waiting],
        "overdue": outcome.overdue,
        "notes": outcome.notes,
        "failures": [
            {"kind": str(failure.kind), "text": failure.text, "step": failure.step, "window": failure.window}
            for failure in outcome.failures
        ],
    }


@app.command("outbound")
def outbound(
    ctx: typer.Context,
    feed: Annotated[list[str] | None, typer.Option("--feed", help="Only this feed; may be given again.")] = None,
    window: Annotated[
        str | None, typer.Option("--window", help="Go through this window again, such as 2026-12-01-08:15 (UTC).")
    ] = None,
    first: Annotated[str | None, typer.Option("--from", help="First window of a range to go through again.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last window of the range.")] = None,
    due: Annotated[bool, typer.Option("--due", help="Keep to the feeds' schedules, for cron.")] = False,
    look_back: Annotated[bool, typer.Option("--look-back", help="Read outbound.look_back again in full.")] = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Compare ids with Fusion's and fetch what is missing.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read what changed in Fusion, write it in the partners' layouts, and deliver it.

    Takes all windows that are over by Fusion's clock. Files that wait go first. Safe beside the daemon and beside
    itself. Exit code 0: all is delivered. 1: a document is newly held, or a control does not hold. 2: configuration.
    3: a file is pending because a remote side is down or refuses us.
    """
    from mlc_dagster.cli.errors import CommandError

    if (window is not None and (first or last)) or (first is None) != (last is None):
        raise CommandError("give --window W, or both --from and --to")
    windows = (window, window) if window is not None else (first, last) if first and last else None
    workplace = open_workplace(ctx, config)
    with (
        dagster_instance(workplace.settings.data_path) as instance,
        PollProgress(shown=not as_json) as progress,
    ):
        from mlc_dagster.automation.one_shot_outbound import run_outbound

        outcome = run_outbound(
            workplace.settings,
            instance=instance,
            feeds=feed,
            windows=windows,
            due_only=due,
            look_back=look_back,
            sweep=sweep,
            progress=progress,
        )
    from mlc_dagster.cli.outbound_sheet import export_document, print_export_outcome

    if as_json:
        print_json(export_document(outcome))
    else:
        print_export_outcome(outcome)
    for failure in outcome.failures:
        place = f"window {failure.window} UTC, {failure.step}: " if failure.window else ""
        typer.echo(f"mlc: {place}{visible(' '.join(failure.text.split()))}", err=True)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)
