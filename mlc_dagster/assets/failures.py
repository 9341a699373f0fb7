"""Expected errors as Dagster Failures: one sentence with what to do, and a kind that commands turn into exit codes.

An error that is not expected stays as it is, with its traceback.
"""

# ruff: noqa: PLC0415 - the connectors' errors come with the connectors, which only a run imports.

from enum import StrEnum

import dagster as dg

from mlc_dagster.ledger.database import LedgerError
from mlc_dagster.ledger.windows import WindowBusy
from mlc_dagster.resources import SandboxDown
from mlc_dagster.settings import SettingsError
from mlc_dagster.vault import SecretError

KIND = "kind"
"""Metadata key of a Failure."""


class FailureKind(StrEnum):
    CONFIGURATION = "configuration"
    """mlc.yaml, a secret, a profile, a layout, a crosswalk or the ledger: a person changes something here."""
    REMOTE = "remote"
    """An SFTP server or Fusion does not answer, or refuses us."""
    BUSY = "busy"
    """Another run works on it, or its time has not come."""
    UNEXPECTED = "unexpected"


def kind_of(error: BaseException) -> FailureKind:
    """What an error means to whoever is paged for it."""
    from mlc_dagster.exports.calendar import CalendarError
    from mlc_dagster.exports.layouts.errors import LayoutError
    from mlc_dagster.exports.naming import FileNameUnusable
    from mlc_dagster.exports.reading import WindowNotOver
    from mlc_dagster.exports.rebasing import ProjectionChanged
    from mlc_dagster.exports.x12.envelope import EnvelopeUnusable
    from mlc_dagster.fusion.errors import FusionError
    from mlc_dagster.ledger.feeds import FeedBusy
    from mlc_dagster.sftp.errors import KeyUnreadable, LocalFileError, PinUnreadable, SftpError
    from mlc_dagster.stampli.absence import DataAccessLost
    from mlc_dagster.stampli.crosswalks import CrosswalkError
    from mlc_dagster.stampli.profile import ProfileError
    from mlc_dagster.stampli.references import UnknownLedger
    from mlc_dagster.stampli.sending import PostingStopped

    match error:
        case WindowBusy() | FeedBusy() | WindowNotOver():
            return FailureKind.BUSY
        case SandboxDown() | SettingsError() | SecretError() | LedgerError():
            return FailureKind.CONFIGURATION
        case ProfileError() | CrosswalkError() | UnknownLedger():
            return FailureKind.CONFIGURATION
        case LayoutError() | CalendarError() | FileNameUnusable() | ProjectionChanged() | EnvelopeUnusable():
            return FailureKind.CONFIGURATION
        case KeyUnreadable() | PinUnreadable() | LocalFileError():
            return FailureKind.CONFIGURATION
        case FusionError() | SftpError() | DataAccessLost() | PostingStopped():
            return FailureKind.REMOTE
        case BaseExceptionGroup() if error.exceptions:
            # Tasks that ran side by side fail together; the first says as much as any.
            return kind_of(error.exceptions[0])
        case _:
            return FailureKind.UNEXPECTED


def said(error: BaseException) -> str:
    """The sentence of an expected error."""
    if isinstance(error, BaseExceptionGroup):
        return said(error.exceptions[0])
    return str(error) or type(error).__name__


def as_failure(error: Exception) -> dg.Failure | None:
    """The Failure that stands for an expected error; None for any other."""
    if isinstance(error, dg.Failure):
        return None
    kind = kind_of(error)
    if kind is FailureKind.UNEXPECTED:
        return None
    return dg.Failure(
        description=said(error),
        metadata={KIND: str(kind), "error": type(error).__name__},
        # Not by Dagster: the next poll asks for what is still to be done, when it is due.
        allow_retries=False,
    )
