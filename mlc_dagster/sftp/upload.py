"""Our bytes on a server: written once, every answer checked.

What belongs here: creating one remote file and knowing that the server took all of it. What does not: names, renaming,
trying again. paramiko's own ``put`` reads the answers to its last hundred writes inside CLOSE and drops them, and drops
the status of CLOSE itself, which is where an object store says that it could not commit; nothing of it is used here.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import paramiko
from paramiko.sftp import CMD_CLOSE

from .channel import SftpChannel
from .errors import LocalFileError
from .listing import wire_path

# A WRITE of 32 KiB is what every server takes.
_BLOCK = 32 * 1024


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What the server acknowledged, CLOSE included: ``bytes`` and their ``sha256`` in lower-case hex."""

    path: str
    bytes: int
    sha256: str


@dataclass(slots=True)
class Progress:
    """How far an upload came, for whoever must judge a broken one.

    ``asked`` is set before the server is asked to create the file, ``created`` once it said that it did. Between the
    two a lost answer leaves open whether the file exists.
    """

    asked: bool = False
    created: bool = False


def store(channel: SftpChannel, source: Path, path: str, *, exclusive: bool, progress: Progress) -> Uploaded:
    """Writes ``source`` to ``path`` and closes it; neither attributes nor folders are touched.

    With ``exclusive`` an existing file is refused, which most servers report as a failure without a cause.

    Raises:
        LocalFileError: ``source`` cannot be read.
        SftpError: any other fault; how much of the file exists is unknown unless ``progress`` tells.
    """
    wire = wire_path(path)
    with _open_local(source) as local:
        try:
            with channel.use("upload", path) as client:
                return _write(client, wire, path, local, exclusive=exclusive, progress=progress)
        except BaseException:
            if progress.created:
                # Whatever the fault was: answers to further writes may be under way, and the handle is still open.
                # The server closes it with the channel; a CLOSE of our own could wait for its answer in vain.
                channel.close()
            raise


def _write(
    client: paramiko.SFTPClient, wire: bytes, path: str, local: BinaryIO, *, exclusive: bool, progress: Progress
) -> Uploaded:
    digest = hashlib.sha256()
    count = 0
    progress.asked = True
    remote = client.open(wire, "wx" if exclusive else "w")
    progress.created = True
    try:
        # Many writes in flight, or each would cost a round trip.
        remote.set_pipelined(True)
        block = _read(local)
        while block:
            following = _read(local)
            if not following:
                # Not pipelined, a write waits for its answer and for all answers that are still out.
                remote.set_pipelined(False)
            remote.write(block)
            digest.update(block)
            count += len(block)
            block = following
        remote.flush()
    finally:
        # SFTPFile would send a CLOSE of its own, also when it is collected, and swallow what the server says to it.
        cast("Any", remote)._closed = True  # noqa: SLF001
    cast("Any", client)._request(CMD_CLOSE, remote.handle)  # noqa: SLF001
    return Uploaded(path, count, digest.hexdigest())


def _open_local(source: Path) -> BinaryIO:
    try:
        return source.open("rb")
    except OSError as error:
        raise LocalFileError(source, error.strerror or str(error), doing="read") from error


def _read(local: BinaryIO) -> bytes:
    # Told apart right here: further out a fault of our disk would look like one of the connection.
    try:
        return local.read(_BLOCK)
    except OSError as error:
        raise LocalFileError(Path(local.name), error.strerror or str(error), doing="read") from error
