"""``mlc files recover``, and how files are told that were received and that a restored ledger does not know.

What belongs here: options and words. What does not: finding them (``ledger.stranded``) and taking them in
(``stampli.intake.recovering``).
"""

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from mlc_dagster.cli.approval import ApprovedByOption, ByOption, ReasonOption, two_people
from mlc_dagster.cli.context import ConfigOption, JsonOption, Workplace, open_workplace, operator
from mlc_dagster.cli.errors import CommandError, Exit
from mlc_dagster.cli.output import print_json
from mlc_dagster.visible import visible

if TYPE_CHECKING:
    from mlc_dagster.ledger.database import Ledger
    from mlc_dagster.stampli.intake.recovering import Recovered

_SHOWN = 20
"""Entries without a name that are listed; an outbound flow may have left many more."""
_LEAST = 8
"""Characters of a hash that name an entry."""


def recover(
    ctx: typer.Context,
    by: ByOption,
    approved_by: ApprovedByOption,
    reason: ReasonOption,
    hashes: Annotated[
        list[str] | None, typer.Argument(help="SHA-256 of entries of the archive, or how they begin.")
    ] = None,
    all_files: Annotated[bool, typer.Option("--all", help="All files that were received and are not known.")] = False,
    name: Annotated[
        str | None, typer.Option("--as", help="Name of the file that one entry was, where nothing tells.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """After a restore of the ledger: read files again that were received since its backup and are only in our archive.

    They are given to the window that is open now and read by the next run; invoices that Fusion has are found there, as
    always. Exit code 1: something is left that needs a person.
    """
    approval = two_people(by, approved_by, reason)
    if bool(hashes) == all_files or (name is not None and len(hashes or ()) != 1):
        raise CommandError("name entries by their hash, or --all; --as goes with one hash")
    for text in hashes or ():
        if len(text) < _LEAST:
            raise CommandError(f"{text}: write at least {_LEAST} characters of the hash")
    workplace = open_workplace(ctx, config)
    from mlc_dagster.ledger.approval import NotApproved
    from mlc_dagster.ledger.archive import ArchiveDamaged
    from mlc_dagster.stampli.intake.recovering import NotRecovered, recover_files

    with workplace.inbound(actor=operator()) as inbound:
        try:
            done = recover_files(inbound, approval, hashes or None, name=name)
        except (NotRecovered, NotApproved, ArchiveDamaged) as error:
            raise CommandError(str(error)) from None
    if as_json:
        print_json(dataclasses.asdict(done))
    else:
        _tell(done)
    if done.left or done.lost or done.later:
        raise typer.Exit(Exit.ATTENTION)


def _tell(done: "Recovered") -> None:
    for path in done.files:
        typer.echo(f"{visible(path)}: taken in")
    if done.files:
        typer.echo(f"{len(done.files)} to be read in window {done.window}: run `mlc run inbound`.")
    elif not (done.left or done.lost or done.later):
        typer.echo("The ledger knows every file that was received; nothing was changed.")
    for text in done.left:
        typer.echo(f"mlc: {visible(text)}", err=True)
    for path in done.lost:
        typer.echo(
            f"mlc: {visible(path)}: was received, and its bytes are gone from the archive too; have it put back into "
            "the folder from the partner's archive folder",
            err=True,
        )
    if done.later:
        typer.echo(f"mlc: {done.later}", err=True)
    if done.nameless:
        typer.echo(
            f"{len(done.nameless)} entries of the archive are in no row of the ledger, and nothing tells what they "
            "were: of the outbound flow, or received before receipts were noted (then: HASH --as NAME)."
        )
    for sha256, size in list(done.nameless.items())[:_SHOWN]:
        typer.echo(f"  {sha256}  {size} bytes")


def tell_unknown_files(workplace: Workplace, ledger: "Ledger") -> list[str]:
    """Say on stderr which files were received and are not in the ledger; the sentences."""
    from mlc_dagster.ledger.archive import LocalArchive
    from mlc_dagster.ledger.received_journal import received_journal
    from mlc_dagster.ledger.stranded import REMEDY, find_unreferred, told, told_of_young

    archive = LocalArchive(workplace.settings.data_path / "archive")
    with ledger.reading() as reading:
        found = find_unreferred(reading, archive, received_journal(workplace.settings))
    texts = told(found)
    for text in texts:
        typer.echo(f"mlc: {visible(text)}", err=True)
    if texts:
        typer.echo(f"mlc: {REMEDY}", err=True)
    if (later := told_of_young(found)) is not None:
        typer.echo(f"mlc: {later} (`mlc doctor`)", err=True)
    return texts
