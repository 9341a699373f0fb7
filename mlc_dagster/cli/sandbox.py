"""``mlc sandbox``: an embedded Oracle Fusion and a Stampli folder behind SFTP, to rehearse without credentials."""

import datetime as dt
import signal
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from mlc_dagster.cli.context import JsonOption
from mlc_dagster.cli.errors import CommandError
from mlc_dagster.cli.output import print_json

app = typer.Typer(invoke_without_command=True, help="Serve an embedded Fusion and Stampli folder until Ctrl-C.")

FOLDER = Path(".mlc-sandbox")
DirOption = Annotated[Path, typer.Option("--dir", help="Folder that keeps the sandbox: books, keys, mlc.yaml.")]


@app.callback()
def serve(
    ctx: typer.Context,
    folder: DirOption = FOLDER,
    suppliers: Annotated[int, typer.Option(min=14, help="How many suppliers Fusion has, such as 20 or 50000.")] = 20,
    fusion_port: Annotated[
        int | None, typer.Option(help="Port of Fusion; else that of the last start, or a free one.", show_default=False)
    ] = None,
    sftp_port: Annotated[
        int | None, typer.Option(help="Port of SFTP; else that of the last start, or a free one.", show_default=False)
    ] = None,
    faults: Annotated[
        Path | None, typer.Option(help="YAML file with faults: latency, refusals, lost answers.", show_default=False)
    ] = None,
) -> None:
    """Serve both sides in the foreground, with durable books, and write an mlc.yaml that points at them."""
    if ctx.invoked_subcommand is not None:
        return
    from mlc_dagster.sandbox.run import serve as serve_both

    # Ended by a supervisor it goes the same way as by Ctrl-C: the books are flushed and closed.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with suppress(KeyboardInterrupt):
            serve_both(
                folder,
                suppliers=suppliers,
                fusion_port=fusion_port,
                sftp_port=sftp_port,
                faults=faults,
                announce=lambda addresses: typer.echo(_welcome(folder, addresses)),
            )
    except OSError as error:
        if error.errno is None or not error.strerror:
            raise
        raise CommandError(
            f"{folder}: {error.strerror.lower()}: is this sandbox running already? Name other ports with "
            "--fusion-port 0 --sftp-port 0, or another --dir"
        ) from None
    except ValueError as error:
        raise CommandError(f"{faults or folder}: {error}") from None
    typer.echo("Sandbox stopped; its books are kept.")


@app.command("drop")
def drop(
    folder: DirOption = FOLDER,
    invoices: Annotated[int, typer.Option(min=1, max=100_000, help="How many invoices the file holds.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Play Stampli: put a file of ordinary invoices into the sandbox's outbound folder."""
    from mlc_dagster.sandbox.exports import StampliExport
    from mlc_dagster.sandbox.samples import Samples

    sample = Samples(dt.datetime.now(dt.UTC)).ordinary(invoices)
    path = StampliExport(outbound_of(folder)).send(sample.content)
    if as_json:
        print_json({"file": path, "invoices": invoices})
    else:
        typer.echo(f"{path} written with {invoices} {'invoice' if invoices == 1 else 'invoices'}.")


def outbound_of(folder: Path) -> Path:
    """The outbound folder of a sandbox that was started before.

    Raises:
        CommandError: there is none.
    """
    from mlc_dagster.sandbox.run import SandboxFolder

    place = SandboxFolder(folder.resolve())
    if not place.outbound.is_dir():
        raise CommandError(f"{folder}: holds no sandbox; start one with `mlc sandbox --dir {folder}`")
    return place.outbound


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _welcome(folder: Path, addresses: dict[str, Any]) -> str:
    return f"""\
Sandbox ready; Ctrl-C stops it.
  Oracle Fusion    {addresses["base_url"]}   its books: {addresses["admin_url"]}/books
  Stampli SFTP     {addresses["sftp_host"]}:{addresses["sftp_port"]}   host key {addresses["sftp_host_key"]}
  outbound folder  {addresses["outbound"]}
  configuration    {addresses["config"]}

Try it from another terminal:
  mlc sandbox drop --dir {folder}                      Stampli writes a file
  mlc --config {addresses["config"]} run inbound       one poll: files, validation, posting, read-back
  mlc --config {addresses["config"]} exceptions        what needs a person
"""
