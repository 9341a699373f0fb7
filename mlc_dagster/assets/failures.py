"""Expected errors as Dagster Failures: one sentence with what to do, and a kind that commands turn into exit codes.

An error that is not expected stays as it is, with its traceback.
"""

# ruff: noqa: PLC0415 - the connectors' errors come with the connectors, which only a run imports.

import errno

import dagster as dg

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.vault import mask, scrub
from mlc_dagster.visible import visible

KIND = "kind"
"""Metadata key of a Failure."""
ABOUT_FILE = "about_file"
"""Metadata key of a Failure that is about a file which waits: the feed's step itself has told people of it."""

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""What our own disk answers when it is full, read-only, somebody else's or broken."""


def kind_of(error: BaseException) -> FailureKind:
    """What an error means to whoever is paged for it."""
    from sqlalchemy.exc import InterfaceError, OperationalError

    from mlc_dagster.exports.faults import DeliveryStopped

    match error:
        case Expected():
            return error.kind
        case DeliveryStopped():
            return kind_of(error.cause)
        case OSError() if error.errno in _DISK:
            return FailureKind.CONFIGURATION
        case OperationalError() | InterfaceError():
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
