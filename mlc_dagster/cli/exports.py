"""``mlc exports``: what was made for partners, where it is, and what a person may say about it."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mlc_dagster.cli.approval import ApprovedByOption, ByOption, ReasonOption, one_person, two_people
from mlc_dagster.cli.context import ConfigOption, JsonOption, Workplace, open_workplace, operator
from mlc_dagster.cli.errors import CommandError, Exit
from mlc_dagster.cli.export_sheet import (
    REMEDIES,
    acknowledged,
    document,
    find_file,
    place_of,
    print_sheet,
    print_unreadable,
    sheet,
    unreadable,
)
from mlc_dagster.cli.files import named
from mlc_dagster.cli.output import add_rows, age, console, print_json, state_text, table
from mlc_dagster.ledger.database import Row

if TYPE_CHECKING:
    from mlc_dagster.exports.delivery import Delivered
    from mlc_dagster.exports.outbound import Outbound

app = typer.Typer(no_args_is_help=True, help="Files for partners: list, show, resend, abandon, rebase.")

FeedOption = Annotated[str | None, typer.Option("--feed", help="Only this feed.")]
FileArgument = Annotated[str, typer.Argument(help="ID of `mlc exports list`, or the file's name.")]


@app.command("list")
def list_exports(
    ctx: typer.Context,
    feed: FeedOption = None,
    state: Annotated[list[str] | None, typer.Option("--state", help="Only this state; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, newest first.")] = 200,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Files, newest first, with what became of them; of those that wait also the place and hash of their bytes."""
    from mlc_dagster.ledger import exported
    from mlc_dagster.ledger.exported import OPEN_STATES, FileState
    from mlc_dagster.ledger.unreadable import unreadable_documents

    states = [named(FileState, text, "--state") for text in state or []]
    workplace = open_workplace(ctx, config)
    _refuse_unknown_feed(workplace, feed)
    with workplace.ledger() as ledger, ledger.reading() as reading:
        rows = exported.list_files(reading, feed, states or None, limit)
        statuses = acknowledged(reading, workplace.settings, rows)
        source = next((entry.source for entry in workplace.settings.exports if entry.name == feed), None)
        aside = unreadable_documents(reading, source)
        now = reading.now
    if as_json:
        documents = [document(workplace.settings, row) for row in rows]
        files = [each | {"acknowledgement": statuses[each["id"]]} for each in documents]
        print_json({"files": files, "unreadable": [unreadable(row) for row in aside]})
        return
    if not rows:
        typer.echo("No such files. `mlc run outbound` reads Fusion and makes them.")
        print_unreadable(aside, now)
        return
    lines = [
        (
            row["id"],
            row["feed"],
            row["sequence"],
            row["name"],
            state_text(row["state"]),
            row["documents"],
            row["bytes"],
            "" if statuses[row["id"]] == "none" else statuses[row["id"]],
            row["ended_at"] or f"for {age(row['created_at'], now)}",
            row["last_error"] or row["reason"] or "",
        )
        for row in rows
    ]
    columns = ("ID", "Feed", "No.", "Name", "State", "Documents", "Bytes", "Acknowledged", "Ended (UTC)", "Says")
    console().print(add_rows(table(*columns, right=("ID", "No.", "Documents", "Bytes")), lines))
    for row in rows:
        if FileState(row["state"]) in OPEN_STATES:
            typer.echo(f"{row['id']} waits: {place_of(workplace.settings, row)} SHA-256 {row['sha256']}")
    print_unreadable(aside, now)


@app.command("show")
def show(
    ctx: typer.Context,
    file: FileArgument,
    records: Annotated[bool, typer.Option("--records", help="Also every record in it.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything the ledger holds of a file: bytes, totals, numbers, delivery, acknowledgements, events."""
    workplace = open_workplace(ctx, config)
    with workplace.ledger() as ledger, ledger.reading() as reading:
        page = sheet(reading, workplace.settings, find_file(reading, file), records=records)
    if as_json:
        print_json(page)
        return
    print_sheet(page)


@app.command("held")
def held(ctx: typer.Context, feed: FeedOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Documents that cannot be written as the layout demands, with what to do; every run tries them again."""
    from mlc_dagster.ledger import exported

    workplace = open_workplace(ctx, config)
    _refuse_unknown_feed(workplace, feed)
    with workplace.ledger() as ledger, ledger.reading() as reading:
        rows = exported.held_records(reading, feed)
        now = reading.now
    if as_json:
        names = (
            "feed",
            "record_id",
            "version",
            "change",
            "reason",
            "text",
            "read_at",
            "last_update_date",
            "created_at",
        )
        print_json({"held": [{name: row[name] for name in names} | {"remedy": _remedy(row)} for row in rows]})
        return
    if not rows:
        typer.echo("No document is held.")
        return
    lines = [
        (
            row["feed"], row["record_id"], row["version"], row["change"], row["reason"], row["text"],
            _remedy(row), age(row["created_at"], now),
        )
        for row in rows
    ]  # fmt: skip
    columns = ("Feed", "Record", "Version", "Change", "Reason", "What does not fit", "What to do", "Age")
    console().print(add_rows(table(*columns, right=("Version", "Age")), lines))


@app.command("resend")
def resend(
    ctx: typer.Context,
    file: FileArgument,
    by: ByOption,
    reason: ReasonOption,
    again: Annotated[
        bool, typer.Option("--again", help="Also when it lies on the server: it is replaced. Takes two people.")
    ] = False,
    approved_by: Annotated[
        str, typer.Option("--approved-by", help="With --again, or when its outcome is unknown: who else approves it.")
    ] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a file's identical bytes under its own name and numbers: one that waits now, a delivered one once more."""
    from mlc_dagster.exports.faults import ResendRefused
    from mlc_dagster.exports.resending import resend as send_again
    from mlc_dagster.ledger.exported import FileState

    decision = two_people(by, approved_by, reason) if again or approved_by else one_person(by, reason)
    workplace = open_workplace(ctx, config)
    with workplace.ledger() as ledger, ledger.reading() as reading:
        row = find_file(reading, file)
    if row["state"] == FileState.UNKNOWN:
        # The partner may have it.
        decision = two_people(by, approved_by, reason)
    with _outbound(workplace, row["feed"]) as outbound, _refusals():
        try:
            done = send_again(
                outbound,
                outbound.feeds[row["feed"]],
                row["id"],
                actor=decision.by,
                reason=decision.reason,
                again=again,
                approved_by=approved_by or None,
            )
        except ResendRefused as error:
            raise CommandError(str(error)) from None
    _print_delivered(row, done, as_json=as_json)


def _print_delivered(row: Row, done: "Delivered", *, as_json: bool) -> None:
    codes = {"SENT": Exit.GOOD, "INFERRED": Exit.ATTENTION, "UNKNOWN": Exit.ATTENTION}
    code = codes.get(str(done.outcome), Exit.REMOTE_DOWN)
    if as_json:
        print_json(
            {
                "id": row["id"],
                "name": row["name"],
                "outcome": done.outcome,
                "attempts": done.attempts,
                "text": done.text,
                "sha256": row["sha256"],
            }
        )
    else:
        typer.echo(
            f"{row['name']} ({row['id']}): {done.outcome}{f', {done.text}' if done.text else ''}", err=bool(code)
        )
    if code:
        raise typer.Exit(code)


@app.command("abandon")
def abandon(
    ctx: typer.Context,
    file: FileArgument,
    by: ByOption,
    approved_by: ApprovedByOption,
    reason: ReasonOption,
    config: ConfigOption = None,
) -> None:
    """Give up a file that was not delivered: its records go into a later file, its control numbers are void."""
    from mlc_dagster.exports import settling

    approval = two_people(by, approved_by, reason)
    with _outbound(open_workplace(ctx, config)) as outbound, _refusals():
        with outbound.ledger.reading() as reading:
            row = find_file(reading, file)
        settling.abandon(outbound, row["id"], approval)
    typer.echo(
        f"{row['name']} ({row['id']}) abandoned: its {row['documents']} documents go into the next file of "
        f"{row['feed']}; its control numbers are void and on record."
    )


@app.command("confirm")
def confirm(
    ctx: typer.Context,
    file: FileArgument,
    answer: Annotated[Literal["arrived", "not-arrived"], typer.Argument(help="What the partner says.")],
    by: ByOption,
    approved_by: ApprovedByOption,
    reason: ReasonOption,
    config: ConfigOption = None,
) -> None:
    """Say of a file of unknown outcome what the partner said: arrived counts as sent, not-arrived is sent again."""
    from mlc_dagster.exports import settling

    approval = two_people(by, approved_by, reason)
    with _outbound(open_workplace(ctx, config)) as outbound, _refusals():
        with outbound.ledger.reading() as reading:
            row = find_file(reading, file)
        settling.confirm(outbound, row["id"], approval, arrived=answer == "arrived")
    if answer == "arrived":
        typer.echo(f"{row['name']} ({row['id']}) counts as sent. The feed {row['feed']} goes on with the next run.")
    else:
        typer.echo(f"{row['name']} ({row['id']}) waits again: the next run sends the same bytes first.")


@app.command("rebase")
def rebase(
    ctx: typer.Context,
    feed: Annotated[str, typer.Argument(help="Name of the feed in mlc.yaml.")],
    by: ByOption,
    approved_by: ApprovedByOption,
    reason: ReasonOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """After the product reads records otherwise: what the partner has counts as it is read today; nothing is sent."""
    from mlc_dagster.exports.rebasing import rebase as enter_as_delivered

    approval = two_people(by, approved_by, reason)
    workplace = open_workplace(ctx, config)
    _refuse_unknown_feed(workplace, feed)
    with _outbound(workplace, feed) as outbound, _refusals():
        count = enter_as_delivered(outbound, feed, approval)
    if as_json:
        print_json({"feed": feed, "records": count})
        return
    typer.echo(f"{feed}: {count} records count as delivered under today's reading. Nothing was sent.")


@contextmanager
def _outbound(workplace: Workplace, *feeds: str) -> "Generator[Outbound]":
    """The wiring of these feeds; another feed's layout that cannot be used is no hindrance."""
    from mlc_dagster.exports.wiring import connect_outbound

    with workplace.ledger(actor=operator()) as ledger:
        yield connect_outbound(workplace.settings, workplace.secrets, ledger, only=feeds)


@contextmanager
def _refusals() -> Generator[None]:
    """What the ledger refuses, as one line; nothing was changed then."""
    from mlc_dagster.ledger.approval import NotApproved
    from mlc_dagster.ledger.database import LedgerError
    from mlc_dagster.ledger.exported import LaterVersionWaits, WrongFileState
    from mlc_dagster.ledger.feeds import FeedBusy

    try:
        yield
    except FeedBusy as error:
        raise CommandError(str(error), Exit.ATTENTION) from None
    except (WrongFileState, NotApproved, LaterVersionWaits, LedgerError) as error:
        raise CommandError(f"{error}; nothing was changed") from None


def _refuse_unknown_feed(workplace: Workplace, feed: str | None) -> None:
    known = [entry.name for entry in workplace.settings.exports]
    if feed is not None and feed not in known:
        there = f"there are {', '.join(known)}" if known else "exports: is absent in mlc.yaml"
        raise CommandError(f"feed {feed}: is not in mlc.yaml; {there}")


def _remedy(row: Row) -> str:
    return REMEDIES.get(row["reason"] or "", "Correct the document in Fusion, or the layout.")


@app.command("numbers")
def numbers(
    ctx: typer.Context,
    partner: Annotated[str | None, typer.Option("--partner", help="Only this partner, as the list names it.")] = None,
    jump: Annotated[
        int | None, typer.Option("--jump", help="After a restore: leave out so many numbers of each level.")
    ] = None,
    by: Annotated[str, typer.Option("--by", help="With --jump: who asks for it.")] = "",
    approved_by: Annotated[str, typer.Option("--approved-by", help="With --jump: who else approves it.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="With --jump: why.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """X12 control numbers per partner and level: the last one, voided ones, and gaps that nobody can explain."""
    from mlc_dagster.cli.control_numbers import jump_ahead, numbers_of, print_numbers

    approval = two_people(by, approved_by, reason) if jump is not None else None
    workplace = open_workplace(ctx, config)
    keys = {entry.partner.key for entry in workplace.settings.exports if entry.partner is not None}
    if jump is not None and approval is not None:
        if partner is None:
            raise CommandError(f"--partner: say whose numbers jump: {', '.join(sorted(keys)) or 'mlc.yaml names none'}")
        with workplace.ledger(actor=operator()) as ledger, _refusals(), ledger.transaction() as writing:
            jump_ahead(writing, partner, keys, jump, approval)
    with workplace.ledger() as ledger, ledger.reading() as reading:
        found = numbers_of(reading, partner)
    gaps: list[Any] = found["gaps"]
    if as_json:
        print_json(found)
    else:
        print_numbers(found)
    if gaps:
        raise typer.Exit(Exit.ATTENTION)
