"""``mlc exports restart``, ``moved`` and ``after-restore``: what a person says before a feed sends on.

What belongs here: presenting it. When a feed stops for it, and what it means, is decided in ``exports``.
"""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from mlc_dagster.cli.approval import ApprovedByOption, ByOption, ReasonOption, one_person, two_people
from mlc_dagster.cli.context import ConfigOption, JsonOption, open_workplace, operator
from mlc_dagster.cli.errors import CommandError, Exit
from mlc_dagster.cli.output import add_rows, console, print_json, state_text, table

if TYPE_CHECKING:
    from mlc_dagster.exports.restoring import Restored

FeedArgument = Annotated[str, typer.Argument(help="Name of the feed in mlc.yaml.")]


def add_to(app: typer.Typer) -> None:
    """Make them commands of ``mlc exports``."""
    app.command("restart")(restart)
    app.command("moved")(moved)
    app.command("after-restore")(after_restore)


def restart(
    ctx: typer.Context,
    feed: FeedArgument,
    by: ByOption,
    approved_by: ApprovedByOption,
    reason: ReasonOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a feed anew, for another partner or for production after test: everything is new again, numbers go on."""
    from mlc_dagster.exports.relocating import restart as begin_anew
    from mlc_dagster.exports.wiring import connect_outbound

    approval = two_people(by, approved_by, reason)
    workplace = open_workplace(ctx, config)
    with workplace.ledger(actor=operator()) as ledger:
        outbound = connect_outbound(workplace.settings, workplace.secrets, ledger, only=[feed])
        count = begin_anew(outbound, outbound.feeds[feed], approval)
    if as_json:
        print_json({"feed": feed, "records": count})
        return
    typer.echo(f"{feed}: {count} records are sent again as new by the next run. Numbers go on.")


def moved(
    ctx: typer.Context,
    feed: FeedArgument,
    by: ByOption,
    reason: ReasonOption,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that the same partner is reached at another address now: what it has stays delivered, nothing goes again."""
    from mlc_dagster.exports.places import place_of as place_in_settings
    from mlc_dagster.exports.relocating import moved as note_move
    from mlc_dagster.exports.wiring import connect_outbound

    decision = one_person(by, reason)
    workplace = open_workplace(ctx, config)
    with workplace.ledger(actor=operator()) as ledger:
        outbound = connect_outbound(workplace.settings, workplace.secrets, ledger, only=[feed])
        before = note_move(outbound, outbound.feeds[feed], decision)
        change = before.differences(place_in_settings(outbound.feeds[feed].settings))
    if as_json:
        print_json({"feed": feed, "change": change})
        return
    typer.echo(f"{feed}: {change}. Nothing is sent again; what is new goes to the new place.")


def after_restore(
    ctx: typer.Context,
    by: ByOption,
    approved_by: ApprovedByOption,
    reason: ReasonOption,
    feed: Annotated[str | None, typer.Option("--feed", help="Only this feed; all that have a journal.")] = None,
    same_installation: Annotated[
        bool,
        typer.Option(
            "--same-installation", help="This ledger takes the place of the one that the journal was written beside."
        ),
    ] = False,
    ask_partner: Annotated[
        bool,
        typer.Option(
            "--ask-partner",
            help="The journal's word is not enough: what a server does not show is UNKNOWN, for the partner to say.",
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """After a restore of the ledger: enter again what was sent since its backup, and let numbers go on behind it.

    Reads the delivery journal below data_dir and looks at the partners' servers. Sends nothing. A file that partners
    took since counts as sent by what the journal has of its arrival; each line tells what it rests on. Restarts of a
    feed are entered again too. Exit code 1: a file's outcome is unknown, ask the partner (`mlc exports confirm`).
    """
    from mlc_dagster.exports import restoring
    from mlc_dagster.exports.delivery_journal import journalled_feeds
    from mlc_dagster.exports.wiring import connect_outbound

    approval = two_people(by, approved_by, reason)
    workplace = open_workplace(ctx, config)
    known = [entry.name for entry in workplace.settings.exports]
    with workplace.ledger(actor=operator()) as ledger:
        outbound = connect_outbound(workplace.settings, workplace.secrets, ledger, only=[])
        journalled = journalled_feeds(outbound)
        if feed is not None and feed not in journalled:
            raise CommandError(f"--feed {feed}: has no delivery journal; there are: {', '.join(journalled) or 'none'}")
        wanted = [name for name in (journalled if feed is None else [feed]) if name in known]
        outbound = connect_outbound(workplace.settings, workplace.secrets, ledger, only=wanted)
        done = restoring.after_restore(
            outbound, approval, feed=feed, same_installation=same_installation, ask_partner=ask_partner
        )
    unknown = [file for file in done.files if file.state == "UNKNOWN"]
    if as_json:
        print_json(dataclasses.asdict(done))
    else:
        _print(done)
    if unknown or any(each.waits_for for each in done.restarts):
        raise typer.Exit(Exit.ATTENTION)


def _print(done: "Restored") -> None:
    if not done.files and not done.restarts:
        typer.echo("The ledger knows everything that the delivery journal has; nothing was changed.")
        return
    if done.files:
        _print_files(done)
    for each in done.restarts:
        began = f"{each.feed}: restart {each.restart.told}, after file number {each.restart.sequence}"
        if each.waits_for:
            typer.echo(
                f"{began}, is NOT entered: first settle {', '.join(each.waits_for)} (mlc exports confirm, abandon), "
                "then run this once more. Until then nothing is sent."
            )
        else:
            typer.echo(f"{began}, holds again: {each.records} records counted as delivered before it, and do no more.")
    for each in done.leftovers:
        typer.echo(f"{each.feed}: temporary file of {each.name}: {each.path}: {each.text}.")
    if done.left_out:
        typer.echo(f"{done.left_out} control numbers are left out: their files were lost before they were sent.")


def _print_files(done: "Restored") -> None:
    rows = [
        (each.feed, each.sequence, each.name, state_text(each.state), each.seen, each.rests_on) for each in done.files
    ]
    columns = ("Feed", "No.", "Name", "State", "On the server", "Rests on")
    console().print(add_rows(table(*columns, right=("No.",)), rows))
    typer.echo(f"In the ledger again: {len(done.files)}. The next run sends what is really new.")
    alone = sum(each.journal_alone for each in done.files)
    if alone:
        typer.echo(
            f"{alone} of them count as delivered by the delivery journal alone, as it was written when they arrived: "
            "the server does not show them, for partners take files away. Where that is not enough, ask the partner; "
            "mlc exports resend sends the same bytes again."
        )
