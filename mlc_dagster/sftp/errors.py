"""What can go wrong between us and an SFTP server, as types with fields.

What belongs here: one class per outcome a caller treats differently. What does not: deciding which class a paramiko or
socket exception becomes (``translation``). ``transient`` tells whether the same request may succeed later unchanged.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from mlc_dagster.expected import Expected, FailureKind


class SftpError(Expected):
    """Base of every error this package raises; ``transient`` is True when trying again later makes sense."""

    kind = FailureKind.REMOTE

    transient: ClassVar[bool] = False


class HostKeyRejected(SftpError):
    """The server proved a key that is not pinned. Nothing secret was sent to it."""

    def __init__(self, host: str, offered_fingerprint: str, expected: Sequence[str]) -> None:
        self.host = host
        self.offered_fingerprint = offered_fingerprint
        self.expected = tuple(expected)
        super().__init__(
            f"{host} offered host key {offered_fingerprint}, but host_key pins {', '.join(self.expected)}."
            " No password or key was sent. Ask the server's owner for the fingerprint over another channel;"
            " pin the new key only if they confirm it"
        )


class PinUnreadable(SftpError):
    """A ``host_key`` setting is neither a fingerprint nor a known_hosts line."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, pin: str, reason: str) -> None:
        self.pin = pin
        self.reason = reason
        super().__init__(
            f"host_key {pin!r}: {reason}. Write the SHA256:… fingerprint that `ssh-keygen -lf` prints, or a whole"
            " known_hosts line"
        )


class KeyUnreadable(SftpError):
    """The private key's text cannot be used. The text itself is never part of the error."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"private_key: {reason}")


class LoginRefused(SftpError):
    """The server answered the login with no. Never repeated by itself: repeated bad logins lock accounts."""

    def __init__(self, host: str, username: str, method: str, accepted_methods: Sequence[str] = ()) -> None:
        self.host = host
        self.username = username
        self.method = method
        self.accepted_methods = tuple(accepted_methods)
        hint = f"; it accepts {', '.join(self.accepted_methods)}" if self.accepted_methods else ""
        super().__init__(
            f"{host} refused {username!r} by {method}{hint}. Check username, {method} and whether the account is locked"
        )


class QuestionAsked(LoginRefused):
    """The server asks for something else than the password. Nothing was answered."""

    def __init__(self, host: str, username: str, question: str) -> None:
        super().__init__(host, username, "keyboard-interactive")
        # Only the answer is a secret; the question is the server's text and may have any length.
        self.question = question[:200]
        text = (
            f"{host} asks {username!r} the question {self.question!r}, and only a password is ever answered."
            " Ask the server's owner for an account that logs in by private key or by password alone"
        )
        self.args = (text,)


class NoCommonAlgorithm(SftpError):
    """Client and server share no acceptable key exchange, host key type, cipher or MAC.

    ``offered`` holds the server's names by kind; ``allowable`` those of them that the entry may allow.
    """

    def __init__(
        self,
        host: str,
        detail: str,
        offered: Mapping[str, Sequence[str]] | None = None,
        allowable: Sequence[str] = (),
    ) -> None:
        self.host = host
        self.detail = detail
        self.offered = {kind: tuple(names) for kind, names in (offered or {}).items()}
        self.allowable = tuple(allowable)
        said = "; ".join(f"its only {kind} algorithms are {', '.join(names)}" for kind, names in self.offered.items())
        remedy = "Ask the server's owner to enable rsa-sha2 or ed25519 host keys, AES-CTR or AES-GCM and SHA-2"
        if self.allowable:
            names = ", ".join(self.allowable)
            remedy += f". Until then this one server may be trusted with less: allow_algorithms: [{names}]"
        super().__init__(f"{host}: {said or detail}. Weak algorithms are not spoken unless they are allowed. {remedy}")


class Unreachable(SftpError):
    """No connection, or the connection broke."""

    transient: ClassVar[bool] = True

    def __init__(self, host: str, operation: str, reason: str) -> None:
        self.host = host
        self.operation = operation
        self.reason = reason
        super().__init__(f"{host}: connection failed during {operation}: {reason}")


class SftpTimeout(SftpError):
    """The server did not answer in time (``connect_timeout`` or ``channel_timeout``)."""

    transient: ClassVar[bool] = True

    def __init__(self, host: str, operation: str) -> None:
        self.host = host
        self.operation = operation
        super().__init__(f"{host}: no answer in time during {operation}; see connect_timeout and channel_timeout")


class PollDeadlineExceeded(SftpError):
    """The whole session took longer than ``poll_deadline``; its connection was closed."""

    transient: ClassVar[bool] = True

    def __init__(self, host: str, operation: str, seconds: float) -> None:
        self.host = host
        self.operation = operation
        self.seconds = seconds
        super().__init__(
            f"{host}: poll_deadline of {seconds:g} s was over during {operation}; the connection was closed"
        )


class NoSuchPath(SftpError):
    """The server has no such file or directory."""

    def __init__(self, path: str, operation: str) -> None:
        self.path = path
        self.operation = operation
        super().__init__(f"{path!r}: no such file or directory ({operation})")


class PermissionRefused(SftpError):
    """The account may not do this."""

    def __init__(self, path: str, operation: str) -> None:
        self.path = path
        self.operation = operation
        super().__init__(f"{path!r}: the server refuses permission ({operation}); ask its owner for the right")


class TargetExists(SftpError):
    """A rename or an upload would have overwritten ``path``; nothing was changed."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path!r} exists already and is never overwritten; use a name that is free")


class ServerRefused(SftpError):
    """The server answered with a failure that names no cause (SFTP status 4 and the like)."""

    transient: ClassVar[bool] = True

    def __init__(self, path: str, operation: str, text: str) -> None:
        self.path = path
        self.operation = operation
        self.text = text
        super().__init__(f"{path!r}: the server answered {text!r} ({operation})")


class FileVanished(SftpError):
    """The file was listed but is gone now: somebody took it. Not a fault of ours or theirs."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path!r} was listed but is gone")


class FileChanged(SftpError):
    """The file is not the one that was listed; None is a size the server did not tell. Look again at the next poll."""

    transient: ClassVar[bool] = True

    def __init__(self, path: str, expected_size: int | None, actual_size: int | None, *, detail: str = "") -> None:
        self.path = path
        self.expected_size = expected_size
        self.actual_size = actual_size
        self.detail = detail or f"expected {expected_size} bytes, found {actual_size}"
        super().__init__(f"{path!r} changed while it was read: {self.detail}; it is read again at the next poll")


class FileTooLarge(SftpError):
    """The file is larger than the limit. ``size`` is None when reading stopped before its end was seen."""

    def __init__(self, path: str, size: int | None, max_bytes: int) -> None:
        self.path = path
        self.size = size
        self.max_bytes = max_bytes
        super().__init__(
            f"{path!r} has {'more' if size is None else f'{size} bytes, more'} than max_file_bytes ({max_bytes});"
            " raise the limit and have it sent again, or ask for smaller files"
        )


class LocalFileError(SftpError):
    """Our own disk refused: to take the downloaded bytes, or to give those to upload."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, target: Path, reason: str, *, doing: Literal["written", "read"] = "written") -> None:
        self.target = target
        self.reason = reason
        super().__init__(f"{str(target)!r} cannot be {doing}: {reason}")


class UnsafeName(SftpError):
    """A name that could point outside the directory (``..``, a slash, NUL); never opened, renamed or removed."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path!r} is refused: a file name must not be empty, '.', '..' or hold a slash or NUL")
