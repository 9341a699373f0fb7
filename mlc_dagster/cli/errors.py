"""What the command's exit codes mean, and how every foreseen error becomes one line: what, where, what to do.

What belongs here: the mapping from error types to exit codes. What does not: the texts; each error carries its own.
"""

from enum import IntEnum
from typing import Any

import typer
from typer.core import TyperGroup

from mlc_dagster.vault.redaction import mask
from mlc_dagster.visible import visible

EXIT_CODES = (
    "Exit codes: 0 all good · 1 something needs a person: newly parked or held, outcome unknown, first contact · "
    "2 command line or configuration · 3 a remote side is down or refuses us · 70 the product itself failed."
)


class Exit(IntEnum):
    """Exit codes of ``mlc``."""

    GOOD = 0
    ATTENTION = 1
    CONFIGURATION = 2
    REMOTE_DOWN = 3
    FAILED = 70


class CommandError(Exception):
    """A command cannot do what was asked; the text says why and what to do."""

    def __init__(self, text: str, code: Exit = Exit.CONFIGURATION) -> None:
        self.code = code
        super().__init__(text)


def explain(error: Exception) -> tuple[Exit, list[str]] | None:
    """(exit code, lines to print) of a foreseen error; None for one that is a fault of the product."""
    from mlc_dagster.settings import SettingsError

    if isinstance(error, CommandError):
        return error.code, [str(error)]
    if isinstance(error, SettingsError):
        return Exit.CONFIGURATION, [f"{error.source}: {problem}" for problem in error.problems]
    # Slow to import, and only for a command that ends here.
    from mlc_dagster.assets.failures import FailureKind, kind_of, said
    from mlc_dagster.exports.calendar import CalendarError
    from mlc_dagster.exports.layouts.errors import LayoutError
    from mlc_dagster.ledger.approval import NotApproved
    from mlc_dagster.ledger.exported import LaterVersionWaits, WrongFileState
    from mlc_dagster.stampli.intake.feed import BeforeGoLive, FirstContact
    from mlc_dagster.stampli.validation.accounts import TemplateFault

    if isinstance(error, LayoutError):
        return Exit.CONFIGURATION, [f"{error.source_file}: {problem}" for problem in error.problems]
    if isinstance(error, CalendarError):
        return Exit.CONFIGURATION, [f"calendar {error.source_file}: {problem}" for problem in error.problems]
    if isinstance(error, FirstContact):
        return Exit.ATTENTION, [str(error)]
    if isinstance(error, BeforeGoLive | TemplateFault | WrongFileState | NotApproved | LaterVersionWaits):
        return Exit.CONFIGURATION, [str(error)]
    codes = {
        FailureKind.CONFIGURATION: Exit.CONFIGURATION,
        FailureKind.REMOTE: Exit.REMOTE_DOWN,
        FailureKind.BUSY: Exit.ATTENTION,
    }
    code = codes.get(kind_of(error))
    return None if code is None else (code, [said(error)])


class MlcGroup(TyperGroup):
    """The root command: prints foreseen errors as lines on standard error and ends with their code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; see ``explain``."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            explained = explain(error)
            if explained is None:
                raise
            code, lines = explained
            for line in lines:
                typer.echo(f"mlc: {visible(mask(' '.join(line.split())))}", err=True)
            raise typer.Exit(code) from None
