"""How an outbound poll is shown: a table of delivered files, what waits, what is held; and the same as JSON."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from mlc_dagster.cli.output import add_rows, console, table
from mlc_dagster.visible import visible

if TYPE_CHECKING:
    from mlc_dagster.automation.export_outcome import FeedResult, OutboundOutcome

_RIGHT = ("Documents", "Rows", "Bytes")
_MOST_HELD = 20


def print_export_outcome(outcome: "OutboundOutcome") -> None:
    """What was delivered, what waits and what is held, for people."""
    if outcome.sent:
        made = table("Feed", "File", "State", "Documents", "Rows", "Bytes", "Totals", right=_RIGHT)
        rows = [
            (row["feed"], row["name"], row["state"], row["documents"], row["rows"], row["bytes"], _totals_of(row))
            for row in outcome.sent
        ]
        console().print(add_rows(made, rows))
    for line in summary_lines(outcome):
        typer.echo(visible(line))


def _totals_of(row: dict[str, Any]) -> str:
    """A file's control totals as counted by its writer: ``entered_dr 1100.00 USD, …``."""
    parts: list[str] = []
    for name, text in sorted(row["totals"].items()):
        what, _, currency = name.rpartition(" ")
        parts.append(f"{what} {text} {currency}" if what else f"{name} {text}")
    return ", ".join(parts)


def summary_lines(outcome: "OutboundOutcome") -> Iterator[str]:
    """The poll in a few sentences."""
    yield from outcome.notes
    if outcome.dead_runs:
        yield f"{len(outcome.dead_runs)} runs whose process is gone were ended; their work is taken up again."
    for result in outcome.feeds:
        yield _feed_line(result)
    for row in outcome.pending:
        yield (
            f"WAITS: {row['name']} of {row['feed']} ({row['state']}, {row['attempts']} attempts): "
            f"{row['last_error'] or 'not tried yet'} (`mlc exports show {row['id']}`)"
        )
    for row in outcome.held[:_MOST_HELD]:
        yield f"HELD: {row['record_id']} for {row['feed']}: {row['reason']}: {row['text']}"
    if len(outcome.held) > _MOST_HELD:
        yield f"and {len(outcome.held) - _MOST_HELD} more held documents (`mlc exports held`)"
    if not outcome.sent and not outcome.failures and not outcome.pending:
        clock = f" (windows are over up to {outcome.closed_until:%Y-%m-%d %H:%M} UTC)" if outcome.closed_until else ""
        yield f"Nothing new to deliver{clock}."


def _feed_line(result: "FeedResult") -> str:
    windows = result.first if result.first == result.last else f"{result.first} to {result.last}"
    counted = [f"{count} {name}" for name, count in result.numbers.items() if count and not name.startswith("files")]
    told = [name for name, holds in result.checks.items() if not holds]
    fault = f"; does NOT hold: {', '.join(told)}" if told else ""
    return f"{result.feed}, {windows} UTC: {result.outcome}{': ' if counted else ''}{', '.join(counted)}{fault}"


def export_document(outcome: "OutboundOutcome") -> dict[str, Any]:
    """The poll as JSON: everything, not only what the table shows."""
    return {
        "exit_code": outcome.exit_code,
        "began": outcome.began,
        "fusion_now": outcome.fusion_now,
        "closed_until": outcome.closed_until,
        "feeds": [
            {
                "feed": result.feed,
                "first_window": result.first,
                "last_window": result.last,
                "run_id": result.run_id,
                "success": result.success,
                "outcome": result.outcome,
                "records_read": result.records_read,
                "numbers": dict(result.numbers),
                "checks": dict(result.checks),
            }
            for result in outcome.feeds
        ],
        "sent": [_file(row) for row in outcome.sent],
        "pending": [_file(row) for row in outcome.pending],
        "held": [
            {name: row[name] for name in ("feed", "record_id", "version", "change", "reason", "text")}
            for row in outcome.held
        ],
        "newly_held": outcome.newly_held,
        "notes": outcome.notes,
        "failures": [
            {"kind": str(failure.kind), "text": failure.text, "step": failure.step, "window": failure.window}
            for failure in outcome.failures
        ],
    }


def _file(row: dict[str, Any]) -> dict[str, Any]:
    names = ("id", "feed", "sequence", "name", "state", "sha256", "bytes", "documents", "rows", "totals", "last_error")
    return {name: row[name] for name in names}
