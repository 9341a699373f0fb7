"""paramiko's and the socket's exceptions, turned into ours.

What belongs here: the one place that knows what paramiko raises when. What does not: the errors' texts (``errors``).
SFTP status codes arrive from paramiko as OSError: ENOENT and EACCES with their number, all others with text alone.
"""

import errno
import struct
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import paramiko
from paramiko.sftp import SFTPError as MalformedAnswer
from paramiko.ssh_exception import ChannelException, IncompatiblePeer

from .deadline import Deadline
from .errors import (
    LoginRefused,
    NoCommonAlgorithm,
    NoSuchPath,
    PermissionRefused,
    PollDeadlineExceeded,
    ServerRefused,
    SftpError,
    SftpTimeout,
    Unreachable,
)

# What paramiko and the socket raise while a server misbehaves. Nothing else is caught: a fault of ours stays visible.
REMOTE_FAULTS = (paramiko.SSHException, MalformedAnswer, OSError, EOFError, UnicodeDecodeError, struct.error)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Whom we talk to and until when; every error names it."""

    host: str
    deadline: Deadline

    @contextmanager
    def remote(self, operation: str, path: str = "") -> Generator[None]:
        """Turns what the block raises into an ``SftpError``; ours pass, except that an expired deadline wins."""
        try:
            yield
        except SftpError:
            self.check_deadline(operation)
            raise
        except REMOTE_FAULTS as error:
            raise self.translate(error, operation, path) from error

    def check_deadline(self, operation: str) -> None:
        """Raises PollDeadlineExceeded when the session's time is over."""
        if self.deadline.expired:
            raise PollDeadlineExceeded(self.host, operation, self.deadline.seconds)

    def translate(self, error: Exception, operation: str, path: str) -> SftpError:
        """Our error for theirs."""
        if self.deadline.expired:
            return PollDeadlineExceeded(self.host, operation, self.deadline.seconds)
        if isinstance(error, TimeoutError):
            return SftpTimeout(self.host, operation)
        if isinstance(error, paramiko.SSHException | EOFError | ConnectionError):
            return self._connection_fault(error, operation)
        if isinstance(error, OSError):
            return self._status_fault(error, operation, path)
        return ServerRefused(path, operation, f"an answer that is not SFTP: {error}")

    def _connection_fault(self, error: Exception, operation: str) -> SftpError:
        if isinstance(error, IncompatiblePeer):
            return NoCommonAlgorithm(self.host, str(error))
        if isinstance(error, ChannelException):
            return Unreachable(self.host, operation, f"the server opens no further channel ({error.text})")
        # paramiko has no type of its own for its time-outs: "Timeout opening channel.", "Key-exchange timed out …".
        text = str(error)
        if "timeout" in text.lower() or "timed out" in text.lower():
            return SftpTimeout(self.host, operation)
        return Unreachable(self.host, operation, text or "the server closed the connection")

    def _status_fault(self, error: OSError, operation: str, path: str) -> SftpError:
        if error.errno == errno.ENOENT:
            return NoSuchPath(path, operation)
        if error.errno == errno.EACCES:
            return PermissionRefused(path, operation)
        text = str(error)
        if error.errno is not None or text == "Socket is closed":
            return Unreachable(self.host, operation, text)
        return ServerRefused(path, operation, text)

    def login_fault(self, error: Exception, username: str, method: str) -> SftpError:
        """Our error for one raised while logging in: only a clear "no" is permanent."""
        text = str(error)
        if self.deadline.expired or "timeout" in text.lower() or "transport shut down" in text:
            return self.translate(
                EOFError("the server hung up") if "transport shut down" in text else error, "login", ""
            )
        if isinstance(error, paramiko.BadAuthenticationType):
            return LoginRefused(self.host, username, method, error.allowed_types)
        if isinstance(error, paramiko.AuthenticationException):
            return LoginRefused(self.host, username, method)
        return self.translate(error, "login", "")
