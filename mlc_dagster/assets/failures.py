"""Expected errors as Dagster Failures: one sentence with what to do, and a kind that commands turn into exit codes.

An error that is not expected stays as it is, with its traceback.
"""

# ruff: noqa: PLC0415 - the connectors' errors come with the connectors, which only a run imports.

import errno
from enum import StrEnum

import dagster as dg

from mlc_dagster.ledger.database import LedgerError
from mlc_dagster.ledger.windows import WindowBusy
from mlc_dagster.resources import SandboxDown
from mlc_dagster.settings import SettingsError
from mlc_dagster.vault import ProviderDown, SecretError, mask, scrub
from mlc_dagster.visible import visible

KIND = "kind"
"""Metadata key of a Failure."""
ABOUT_FILE = "about_file"
"""Metadata key of a Failure that is about a file which waits: the feed's step itself has told people of it."""

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""What our own disk answers when it is full, read-only, somebody else's or broken."""


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
    from sqlalchemy.exc import InterfaceError, OperationalError

    from mlc_dagster.exports.assembling import PartnerMissing
    from mlc_dagster.exports.calendar import CalendarError
    from mlc_dagster.exports.cron import CronError
    from mlc_dagster.exports.extract_file import ExtractDamaged
    from mlc_dagster.exports.faults import DeliveryStopped, LeaseLost, ResendRefused
    from mlc_dagster.exports.faults import OutcomeUnknown as DeliveryUnknown
    from mlc_dagster.exports.layouts.errors import LayoutError
    from mlc_dagster.exports.naming import FileNameUnusable
    from mlc_dagster.exports.reading import WindowNotOver
    from mlc_dagster.exports.rebasing import ProjectionChanged
    from mlc_dagster.exports.x12.envelope import EnvelopeUnusable
    from mlc_dagster.fusion.errors import FusionError
    from mlc_dagster.ledger.archive import ArchiveDamaged
    from mlc_dagster.ledger.control_numbers import NumbersMoved
    from mlc_dagster.ledger.feeds import FeedBusy, FeedLost
    from mlc_dagster.ledger.versions import SequenceMoved
    from mlc_dagster.sftp.errors import KeyUnreadable, LocalFileError, PinUnreadable, SftpError
    from mlc_dagster.stampli.absence import DataAccessLost
    from mlc_dagster.stampli.crosswalks import CrosswalkError
    from mlc_dagster.stampli.profile import ProfileError
    from mlc_dagster.stampli.references import UnknownLedger
    from mlc_dagster.stampli.sending import PostingStopped

    match error:
        case WindowBusy() | FeedBusy() | WindowNotOver():
            return FailureKind.BUSY
        case FeedLost() | LeaseLost() | NumbersMoved() | SequenceMoved():
            # Another run was quicker; nothing was written, and the next run goes on from there.
            return FailureKind.BUSY
        case ProviderDown():
            return FailureKind.REMOTE
        case SandboxDown() | SettingsError() | SecretError() | LedgerError():
            return FailureKind.CONFIGURATION
        case ProfileError() | CrosswalkError() | UnknownLedger():
            return FailureKind.CONFIGURATION
        case LayoutError() | CalendarError() | FileNameUnusable() | ProjectionChanged() | EnvelopeUnusable():
            return FailureKind.CONFIGURATION
        case CronError() | PartnerMissing() | ResendRefused() | ArchiveDamaged() | ExtractDamaged():
            return FailureKind.CONFIGURATION
        case KeyUnreadable() | PinUnreadable() | LocalFileError():
            return FailureKind.CONFIGURATION
        case OSError() if error.errno in _DISK:
            return FailureKind.CONFIGURATION
        case OperationalError() | InterfaceError():
            return FailureKind.REMOTE
        case DeliveryStopped():
            return kind_of(error.cause)
        case FusionError() | SftpError() | DataAccessLost() | PostingStopped() | DeliveryUnknown():
            return FailureKind.REMOTE
        case BaseExceptionGroup() if error.exceptions:
            # Tasks that ran side by side fail together; the first says as much as any.
            return kind_of(error.exceptions[0])
        case _:
            return FailureKind.UNEXPECTED


def said(error: BaseException) -> str:
    """The sentence of an expected error, secrets masked."""
    return mask(_said(error))


def _said(error: BaseException) -> str:
    from sqlalchemy.exc import DBAPIError

    if isinstance(error, BaseExceptionGroup):
        return _said(error.exceptions[0])
    if isinstance(error, DBAPIError):
        # Its own text shows the statement with its values.
        return f"the ledger's database does not do what it is asked: {' '.join(str(error.orig).split())}"
    if isinstance(error, OSError) and error.errno in _DISK:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}; see that there is room below data_dir, and that it may be written to"
    return str(error) or type(error).__name__


def as_failure(error: Exception) -> dg.Failure | None:
    """The Failure that stands for an expected error; None for any other. Secrets are masked in both."""
    # Dagster keeps the text of an error and of its causes, and shows it to everybody.
    scrub(error)
    if isinstance(error, dg.Failure):
        return None
    kind = kind_of(error)
    if kind is FailureKind.UNEXPECTED:
        return None
    return dg.Failure(
        description=visible(said(error), lines=True),
        metadata={KIND: str(kind), "error": type(error).__name__},
        # Not by Dagster: the next poll asks for what is still to be done, when it is due.
        allow_retries=False,
    )
