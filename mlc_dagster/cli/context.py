"""What a command works with: the configuration it was pointed at, the ledger, the wiring of the inbound flow.

What belongs here: finding mlc.yaml, and opening things late, so that a command pays only for what it uses.
"""

import getpass
import os
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlc_dagster.cli.errors import CommandError
from mlc_dagster.settings import Settings
from mlc_dagster.settings_file import find_settings_file, load_settings
from mlc_dagster.vault import SecretResolver, guard_process

if TYPE_CHECKING:
    from mlc_dagster.ledger.database import Ledger
    from mlc_dagster.stampli.inbound import Inbound

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="mlc.yaml to use; else MLC_CONFIG, else mlc.yaml in this folder.", show_default=False
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def config_path(ctx: typer.Context, config: Path | None, environ: Mapping[str, str] | None = None) -> Path:
    """The mlc.yaml that a command uses: its own ``--config``, that of ``mlc``, MLC_CONFIG, or the folder's.

    Raises:
        CommandError: there is none.
    """
    environ = os.environ if environ is None else environ
    named: Path | None = config or (ctx.find_root().obj or {}).get("config")
    path = named or find_settings_file(environ, Path.cwd())
    if path is None:
        raise CommandError(
            f"no mlc.yaml in {Path.cwd()} and MLC_CONFIG is not set; name one with --config, write one with "
            "`mlc init`, or see it work without one: `mlc demo`"
        )
    return path


class Workplace:
    """One configuration and what is opened from it."""

    def __init__(self, settings: Settings, path: Path, environ: Mapping[str, str] | None = None) -> None:
        self.settings = settings
        self.path = path
        self.environ = os.environ if environ is None else environ
        self.secrets = SecretResolver.of(settings, self.environ)
        guard_process(self.secrets)

    @contextmanager
    def ledger(self, *, actor: str | None = None) -> "Generator[Ledger]":
        """The ledger, closed at the end. ``actor`` is who acts; the process when absent.

        Raises:
            LedgerError: it cannot be opened.
        """
        from mlc_dagster.ledger.opening import open_settings_ledger

        ledger = open_settings_ledger(self.settings, self.secrets, actor=actor)
        try:
            yield ledger
        finally:
            ledger.close()

    @contextmanager
    def inbound(self, *, actor: str | None = None) -> "Generator[Inbound]":
        """The inbound flow's wiring; nothing is connected yet."""
        from mlc_dagster.stampli.wiring import connect_inbound

        with self.ledger(actor=actor) as ledger:
            yield connect_inbound(self.settings, self.secrets, ledger)


def open_workplace(ctx: typer.Context, config: Path | None) -> Workplace:
    """The workplace of a command.

    Raises:
        CommandError: no mlc.yaml.
        SettingsError: it cannot be used.
    """
    path = config_path(ctx, config)
    return Workplace(load_settings(path), path)


def operator() -> str:
    """Who runs this command, for the audit trail: the operating system's user and the host, as ``ann@host (mlc)``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()} (mlc)"
