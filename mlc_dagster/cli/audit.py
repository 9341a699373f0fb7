"""``mlc audit``: sealing the audit trail into its hash chain, and proving that nobody changed it since."""

import dataclasses

import typer

from mlc_dagster.cli.context import ConfigOption, JsonOption, open_workplace
from mlc_dagster.cli.errors import Exit
from mlc_dagster.cli.output import print_json

app = typer.Typer(no_args_is_help=True, help="Seal and verify the audit trail.")


@app.command("verify")
def verify(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Walk the whole chain; exit code 1 when an event was changed, removed, inserted or reordered."""
    from mlc_dagster.ledger import audit

    with open_workplace(ctx, config).ledger() as ledger:
        found = audit.verify(ledger)
    if as_json:
        print_json(dataclasses.asdict(found))
    elif found.fault is None:
        typer.echo(f"The audit trail holds: {found.sealed} events sealed, {found.unsealed} not sealed yet.")
        typer.echo(f"Head of the chain: {found.head}")
        typer.echo("Kept elsewhere, the head shows later that the chain up to here was not rebuilt.")
    else:
        typer.echo(
            f"mlc: the audit trail does NOT hold: {found.fault}; {found.sealed} events before it hold. "
            "Keep the ledger as it is and tell the controller and the auditor",
            err=True,
        )
    if found.fault is not None:
        raise typer.Exit(Exit.ATTENTION)


@app.command("seal")
def seal(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Append all events so far to the chain; every run does the same at its end."""
    from mlc_dagster.ledger import audit

    with open_workplace(ctx, config).ledger() as ledger:
        sealed = audit.seal(ledger)
    if as_json:
        print_json({"sealed": sealed})
    else:
        typer.echo(f"{sealed} {'event' if sealed == 1 else 'events'} sealed.")
