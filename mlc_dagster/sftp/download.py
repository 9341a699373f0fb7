"""Remote bytes, whole or not at all.

What belongs here: reading a file over a channel, proving that it is the file that was listed, and landing it on disk so
that a crash leaves either nothing or everything. What does not: which files to read, and what their content means.
"""

import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import paramiko

from .channel import SftpChannel
from .errors import FileChanged, FileTooLarge, FileVanished, LocalFileError, NoSuchPath
from .listing import wire_path

# A READ of 32 KiB is what every server answers whole. Two of them cost less than paramiko's prefetch thread.
_BLOCK = 32 * 1024
_PREFETCH_FROM = 2 * _BLOCK + 1
_LANDING_BLOCK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Download:
    """What landed: ``size`` in bytes, ``sha256`` in lower-case hex."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DownloadRequest:
    """One file to fetch.

    Attributes:
        path: Remote path, as ``RemoteFile.path``.
        target: Local file; replaced when it exists. Its directory must exist.
        expected_size: Bytes as listed; None when the server did not tell.
        max_bytes: Larger files are refused, in bytes.
        expected_mtime: As listed; when given, a file of the same size but another time counts as changed.
    """

    path: str
    target: Path
    expected_size: int | None
    max_bytes: int
    expected_mtime: int | None = None


def fetch(channel: SftpChannel, request: DownloadRequest, *, prefetch: bool) -> Download:
    """Reads one file to ``target``: size listed = bytes read = size afterwards, or nothing.

    Raises:
        FileVanished: gone before or while it was read.
        FileChanged: grew, shrank or was replaced.
        FileTooLarge: more than ``max_bytes``.
        LocalFileError: our disk refused.
        SftpError: any other fault of connection or server.
    """
    path, expected = request.path, request.expected_size
    wire = wire_path(path)
    if expected is not None and expected > request.max_bytes:
        raise FileTooLarge(path, expected, request.max_bytes)
    with _landing(request.target, expected or 0) as write:
        digest = hashlib.sha256()

        def take(block: bytes) -> None:
            write(block)
            digest.update(block)

        try:
            with channel.use("download", path) as client:
                wanted = _Wanted(path, expected, request.max_bytes, prefetch)
                count = _read(client, wanted, take)
                after = client.lstat(wire)
        except NoSuchPath as error:
            raise FileVanished(path) from error
        if after.st_mode is not None and stat.S_IFMT(after.st_mode) not in (0, stat.S_IFREG):
            raise FileChanged(path, expected, after.st_size, detail="it is no ordinary file any more")
        if after.st_size is not None and after.st_size != count:
            raise FileChanged(path, count, after.st_size)
        if request.expected_mtime is not None and after.st_mtime not in (None, request.expected_mtime):
            moved = f"its time went from {request.expected_mtime} to {after.st_mtime}"
            raise FileChanged(path, expected, after.st_size, detail=moved)
    return Download(count, digest.hexdigest())


def hash_remote(channel: SftpChannel, path: str, *, prefetch: bool) -> str:
    """SHA-256 (hex) of a remote file's bytes, read back over the wire and not stored.

    Raises:
        NoSuchPath: there is no such file.
        FileChanged: its size did not hold while it was read.
    """
    wire = wire_path(path)
    digest = hashlib.sha256()
    with channel.use("reading back", path) as client:
        size = client.stat(wire).st_size
        _read(client, _Wanted(path, size, sys.maxsize, prefetch), digest.update)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Wanted:
    path: str
    size: int | None
    max_bytes: int
    prefetch: bool


def _read(client: paramiko.SFTPClient, wanted: _Wanted, take: Callable[[bytes], object]) -> int:
    """Bytes read: exactly the wanted size, or up to the end of the file when no size is known."""
    with client.open(wire_path(wanted.path), "rb") as remote:
        size = wanted.size
        if size is None:
            size = remote.stat().st_size
        if size is None:
            return _read_to_end(remote, wanted, take)
        if size > wanted.max_bytes:
            raise FileTooLarge(wanted.path, size, wanted.max_bytes)
        if wanted.prefetch and size >= _PREFETCH_FROM:
            # Without a limit: small limits switch the prefetch off half way and leave its thread spinning
            # (paramiko #2418).
            remote.prefetch(size)
        count = 0
        while count < size:
            block = remote.read(min(_BLOCK, size - count))
            if not block:
                raise FileChanged(wanted.path, size, count)
            take(block)
            count += len(block)
        if size == 0 and (extra := remote.read(1)):
            raise FileChanged(wanted.path, 0, len(extra), detail="listed as empty, but it has content")
        return count


def _read_to_end(remote: paramiko.SFTPFile, wanted: _Wanted, take: Callable[[bytes], object]) -> int:
    count = 0
    while block := remote.read(_BLOCK):
        count += len(block)
        if count > wanted.max_bytes:
            raise FileTooLarge(wanted.path, None, wanted.max_bytes)
        take(block)
    return count


@contextmanager
def _landing(target: Path, size: int) -> Generator[Callable[[bytes], object]]:
    """A writer whose bytes become ``target`` when the block ends well, and vanish otherwise.

    Raises:
        LocalFileError: the disk is full, the directory missing or not ours.
    """
    with _local(target):
        if shutil.disk_usage(target.parent).free < size:
            raise LocalFileError(target, f"fewer than {size} bytes are free")
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:60]}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb", buffering=_LANDING_BLOCK) as landed:
            yield _writer(landed, target)
            with _local(target):
                landed.flush()
                os.fsync(landed.fileno())
        with _local(target):
            Path(temporary).replace(target)
            _sync_directory(target.parent)
    finally:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()


def _writer(landed: BinaryIO, target: Path) -> Callable[[bytes], object]:
    def write(block: bytes) -> None:
        with _local(target):
            landed.write(block)

    return write


@contextmanager
def _local(target: Path) -> Generator[None]:
    # Told apart right here: further out a full disk of ours would look like a refusal of theirs.
    try:
        yield
    except OSError as error:
        raise LocalFileError(target, error.strerror or str(error)) from error


def _sync_directory(directory: Path) -> None:
    """Makes the rename itself survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
