"""Errors that are expected, and what each means to whoever is paged for it.

Belongs here: the base class that such an error derives from, and the kinds. An error that derives from nothing here is
a fault of the program, unless whoever calls catches it: it keeps its traceback.
"""

from enum import StrEnum
from typing import ClassVar


class FailureKind(StrEnum):
    CONFIGURATION = "configuration"
    """mlc.yaml, a secret, a profile, a layout, a crosswalk or the ledger: a person changes something here."""
    REMOTE = "remote"
    """An SFTP server or Fusion does not answer, or refuses us."""
    BUSY = "busy"
    """Another run works on it, or its time has not come."""
    UNEXPECTED = "unexpected"


class Expected(Exception):
    """An error that a person or time can mend; its text is one sentence with what to do."""

    kind: ClassVar[FailureKind]
