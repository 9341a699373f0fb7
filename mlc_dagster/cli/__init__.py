"""The command ``mlc``: one module per group of commands; this one puts them together.

What belongs here: the order of the commands in ``mlc --help`` and the options of ``mlc`` itself. Commands present what
the domain packages do; they decide nothing about money.
"""

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from mlc_dagster.cli import (
    audit,
    config,
    demo,
    dev,
    doctor,
    exceptions,
    export_places,
    exports,
    files,
    invoices,
    layout,
    profile,
    retention,
    run,
    sandbox,
    secrets,
)
from mlc_dagster.cli.errors import EXIT_CODES, Exit, MlcGroup
from mlc_dagster.vault.redaction import mask

app = typer.Typer(
    cls=MlcGroup,
    no_args_is_help=True,
    # Tracebacks with local variables show what is in them.
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Approved Stampli invoices into Oracle Fusion, and Fusion's journals, invoices and purchase orders "
    "to partners as files: each exactly once, and provably.",
    epilog=EXIT_CODES,
)


@app.callback()
def options(
    ctx: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="mlc.yaml to use; else MLC_CONFIG, else mlc.yaml in this folder.", show_default=False
        ),
    ] = None,
) -> None:
    """Options of every command."""
    ctx.obj = {"config": config}


app.command("demo")(demo.demo)
app.add_typer(sandbox.app, name="sandbox")
app.command("dev")(dev.dev)
app.command("init")(config.init)
app.add_typer(config.app, name="config")
app.command("doctor")(doctor.doctor)
app.add_typer(run.app, name="run")
app.add_typer(files.app, name="files")
app.add_typer(invoices.app, name="invoices")
export_places.add_to(exports.app)
app.add_typer(exports.app, name="exports")
app.add_typer(layout.app, name="layout")
app.add_typer(profile.app, name="profile")
app.command("exceptions")(exceptions.exceptions)
app.add_typer(audit.app, name="audit")
app.add_typer(secrets.app, name="secrets")
app.add_typer(retention.app, name="retention")


def main() -> None:
    """The entry point ``mlc``."""
    try:
        app(prog_name="mlc")
    except Exception:  # noqa: BLE001 - the last word on a fault of the product: its trace, and a code of its own
        typer.echo(mask(traceback.format_exc()), err=True)
        typer.echo("mlc: the product itself failed; please report the lines above", err=True)
        sys.exit(Exit.FAILED)
