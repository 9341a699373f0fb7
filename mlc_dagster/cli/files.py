"""``mlc files``: which files were seen, taken and read, and what a person says about those of the first contact."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlc_dagster.cli.approval import ByOption, ReasonOption, one_person
from mlc_dagster.cli.context import ConfigOption, JsonOption, Workplace, open_workplace, operator
from mlc_dagster.cli.errors import CommandError
from mlc_dagster.cli.output import add_rows, console, file_name, print_json, state_text, table, totals_text, when
from mlc_dagster.cli.recovering import recover
from mlc_dagster.ledger.database import Ledger, Row

if TYPE_CHECKING:
    from mlc_dagster.ledger.approval import Decision

app = typer.Typer(no_args_is_help=True, help="Files in Stampli's folder: seen, taken, read.")
app.command("recover")(recover)


@app.command("list")
def list_files(
    ctx: typer.Context,
    state: Annotated[
        list[str] | None, typer.Option("--state", help="Only files in this state; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many, newest first.")] = 500,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Files that were accepted, newest first, and those that still wait with the reason why."""
    from mlc_dagster.ledger import files as ledger_files
    from mlc_dagster.ledger.files import FileState
    from mlc_dagster.ledger.outcomes import file_outcomes
    from mlc_dagster.ledger.retention import erasures
    from mlc_dagster.ledger.retention import told as erasure_text
    from mlc_dagster.ledger.retention_items import Kind
    from mlc_dagster.stampli.inbound import FEED

    states = [named(FileState, text, "--state") for text in state or []]
    with open_workplace(ctx, config).ledger() as ledger, ledger.reading() as reading:
        accepted = ledger_files.list_files(reading, states=states, limit=limit)
        waiting = [] if states else ledger_files.list_sightings(reading, FEED)
        buckets = {each.key: each.buckets for each in file_outcomes(reading, accepted)}
        erased = {
            int(item): erasure_text(row)
            for item, row in erasures(reading, Kind.SOURCE_FILE, [row["id"] for row in accepted]).items()
        }
    if as_json:
        print_json(
            {
                "files": [_document(row) | {"erased": erased.get(row["id"])} for row in accepted],
                "waiting": [_waiting_document(row) for row in waiting],
            }
        )
        return
    rows = [
        (
            file_name(row["path"]),
            row["version"],
            state_text(row["state"]),
            _window(row),
            row["invoices"] if row["invoices"] is not None else "",
            totals_text(_amounts(row)),
            ", ".join(f"{count} {bucket.replace('_', ' ')}" for bucket, count in sorted(buckets[row["id"]].items())),
            "; ".join(text for text in (row["reason"], erased.get(row["id"])) if text),
        )
        for row in accepted
    ]
    columns = ("File", "Version", "State", "Window (UTC)", "Invoices", "Amount", "Became", "Reason")
    screen = console()
    screen.print(add_rows(table(*columns, title="Accepted", right=("Version", "Invoices", "Amount")), rows))
    if waiting:
        waits = [(file_name(row["path"]), row["size"], when(row["same_since"]), note_of(row)) for row in waiting]
        columns = ("File", "Bytes", "Unchanged since (UTC)", "Waits because")
        screen.print(add_rows(table(*columns, title="Waiting", right=("Bytes",)), waits))
    if not rows and not waiting:
        typer.echo("No files yet. `mlc run inbound` looks into the folder.")


@app.command("baseline")
def baseline(
    ctx: typer.Context, by: ByOption, reason: ReasonOption, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Say that all files in the folder were handled before go-live: they are known from now on and never posted."""
    decision = one_person(by, reason)
    _decide(open_workplace(ctx, config), frozenset(), decision, as_json=as_json)


@app.command("process")
def process(
    ctx: typer.Context,
    by: ByOption,
    reason: ReasonOption,
    names: Annotated[list[str] | None, typer.Argument(help="Files to post; all others count as handled.")] = None,
    all_files: Annotated[bool, typer.Option("--all", help="Post every file in the folder.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which files of the first contact are to be posted; all others become the go-live baseline."""
    if bool(names) == all_files:
        raise CommandError("name the files to process, or --all; `mlc files baseline` processes none of them")
    decision = one_person(by, reason)
    _decide(open_workplace(ctx, config), None if all_files else frozenset(names or []), decision, as_json=as_json)


def _decide(workplace: Workplace, process: frozenset[str] | None, decision: "Decision", *, as_json: bool) -> None:
    from mlc_dagster.stampli.intake.feed import decide_first_contact

    with workplace.inbound(actor=operator()) as inbound:
        _refuse_when_open(inbound.ledger)
        try:
            marked, kept = decide_first_contact(
                inbound.ledger, inbound.open_session, inbound.stampli, inbound.profile, process, decision
            )
        except LookupError as error:
            raise CommandError(str(error)) from None
    if as_json:
        print_json({"baseline": marked, "to_process": kept})
        return
    typer.echo(f"{_files(marked)} marked as handled before go-live: never posted, and on record as such.")
    if kept:
        typer.echo(f"{_files(kept)} to be processed by the next `mlc run inbound`.")


def _refuse_when_open(ledger: Ledger) -> None:
    """After the first contact a baseline would quietly take new files out of the flow."""
    import sqlalchemy as sa

    from mlc_dagster.ledger.schema import feed
    from mlc_dagster.stampli.inbound import FEED

    with ledger.reading() as reading:
        row = reading.row(sa.select(feed).where(feed.c.name == FEED))
    if row is not None and row["opened_at"] is not None:
        raise CommandError(
            f"the folder has been in use since {when(row['opened_at'])} UTC ({row['opened_how']}): baseline and "
            "process decide about the files of the first contact only; nothing was changed"
        )


def named(states: Any, text: str, option: str) -> Any:
    """The member of an enumeration of states that ``text`` names.

    Raises:
        CommandError: there is none.
    """
    try:
        return states(text.upper())
    except ValueError:
        raise CommandError(f"{option} {text}: is not one of {', '.join(states)}") from None


def note_of(row: Row) -> str:
    """Why a file that was seen is not taken yet."""
    return row["note"] or "seen; taken when a later look finds it unchanged"


def _files(count: int) -> str:
    return f"{count} {'file' if count == 1 else 'files'}"


def _window(row: Row) -> str:
    from mlc_dagster.ledger.windows import window_key

    return "" if row["window_start"] is None else f"{window_key(row['window_start'])} g{row['generation']}"


def _amounts(row: Row) -> dict[str, Any]:
    from mlc_dagster.stampli.steps import amounts

    return amounts(row["amounts_minor"] or {})


def _document(row: Row) -> dict[str, Any]:
    kept = (
        "id",
        "path",
        "version",
        "state",
        "reason",
        "size",
        "mtime",
        "sha256",
        "generation",
        "received_at",
        "read_at",
    )
    counts = ("rows_total", "rows_in_invoices", "rows_quarantined", "invoices")
    return {name: row[name] for name in (*kept, *counts)} | {
        "window": _window(row).partition(" ")[0] or None,
        "amounts": _amounts(row),
    }


def _waiting_document(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in ("path", "size", "mtime", "same_since", "seen_at")} | {"note": note_of(row)}
