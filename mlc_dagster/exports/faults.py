"""Why a delivery stops: the causes that the SFTP connector does not know, and what a caller is told.

``transient`` tells whether the same delivery may succeed later without anybody doing anything.
"""

from typing import ClassVar

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.sftp import SftpError


class LeaseLost(Expected):
    """This run no longer holds the feed, so it neither sends nor records anything more."""

    kind = FailureKind.BUSY

    transient: ClassVar[bool] = True

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"{name}: another run has taken the feed over; it delivers the file")


class NameTaken(SftpError):
    """Other bytes lie under the file's name, or such as cannot be read. They are never overwritten."""

    def __init__(self, path: str, sha256: str) -> None:
        self.path = path
        self.sha256 = sha256
        super().__init__(
            f"{path!r} is there already, and its bytes are not known to be ours (SHA-256 {sha256[:12]}…); ask the "
            "partner what it is, and have it moved away"
        )


class BytesDiffer(SftpError):
    """What the server stored is not what was sent."""

    transient: ClassVar[bool] = True

    def __init__(self, path: str, expected: str, found: str) -> None:
        self.path = path
        self.expected = expected
        self.found = found
        super().__init__(f"{path!r}: sent {expected}, but the server holds {found}")


class TemporaryDamaged(SftpError):
    """A verified temporary file, about to get its name, has other bytes now."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path!r} was verified and has other bytes now; it is not renamed. Ask the partner who wrote")


class RenameRefused(SftpError):
    """The server does not rename for this account."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        super().__init__(
            f"{path!r}: the server does not rename ({text}). Ask its owner for the right, or rename it by hand to the "
            "file's own name; or agree on upload.mode direct, by which this file then goes as well"
        )


class OutcomeUnknown(Expected):
    """A file that may be with the partner, whole or in part. Its feed waits until a person has settled it."""

    kind = FailureKind.REMOTE

    transient: ClassVar[bool] = False


class DeliveryStopped(Exception):
    """A file did not get through; it keeps its bytes and waits, and so do the feed's later files."""

    def __init__(self, feed: str, file: str, cause: Exception, *, transient: bool) -> None:
        self.feed = feed
        self.file = file
        self.cause = cause
        self.transient = transient
        super().__init__(f"feed {feed}, file {file}: {cause}")


class ResendRefused(Expected):
    """The file cannot be sent again; nothing was sent."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, file_id: int, name: str, text: str) -> None:
        self.file_id = file_id
        self.name = name
        super().__init__(f"file {name} (number {file_id}): {text}")
