"""One poll's connection to an SFTP server and what can be done with it.

What belongs here: opening, closing, and the operations as callers name them. What does not: how they work (``listing``,
``download``, ``connection``). Secrets come in as values and go nowhere else.
"""

import queue
import socket
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import paramiko

from mlc_dagster.settings import SftpSettings

from .channel import SftpChannel
from .connection import connect
from .deadline import Deadline
from .download import Download, DownloadRequest, fetch, hash_remote
from .errors import NoSuchPath, ServerRefused, SftpError, SftpTimeout, TargetExists
from .keys import fingerprint, load_private_key, parse_pins
from .listing import Attributes, Listing, RemoteFile, remote_file, sort_entries, wire_path
from .readdir import MOST_IN_FLIGHT, DirectoryReader
from .translation import Endpoint
from .upload import Progress, Uploaded, store

# OpenSSH and AWS Transfer end at 10 sessions per connection; below 20 files one channel is as quick.
_MOST_CHANNELS = 8
_SPREAD_FROM = 20


@dataclass(frozen=True, slots=True)
class SftpCredentials:
    """What to log in with: a password, or a private key's text with its passphrase. Never shown by ``repr``."""

    password: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)


# Inside the class, "list" is the method.
Downloads: TypeAlias = list[Download | SftpError]


class SftpSession:
    """An open connection. Use it from one thread at a time; ``download_many`` spreads by itself."""

    def __init__(self, transport: paramiko.Transport, settings: SftpSettings, endpoint: Endpoint) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._timeout = settings.channel_timeout
        self._prefetch = settings.prefetch == "auto"
        # A server that chokes on many READs in flight does so on many READDIRs.
        self._most_in_flight = MOST_IN_FLIGHT if self._prefetch else 1
        self._channel = SftpChannel(transport, endpoint, self._timeout)

    @property
    def server_key(self) -> str:
        """``SHA256:…`` fingerprint of the key the server proved; for the audit trail."""
        return fingerprint(self._transport.get_remote_server_key())

    def list(self, directory: str) -> Listing:
        """All entries of a directory, read in one go, sorted by name.

        Many requests are in flight at once. A server that does not bear that is asked again, one at a time, and so for
        the rest of the session.

        Raises:
            NoSuchPath, PermissionRefused: the directory is not there or not ours to read.
            SftpError: any other fault.
        """
        reader: DirectoryReader | None = None
        try:
            with self._channel.use("listing", directory) as client:
                reader = self._reader(client)
                return sort_entries(directory, reader.entries(_wire_directory(directory)))
        except (ServerRefused, SftpTimeout):
            # Silence from the start is a dead server, silence after some answers one that was asked too much.
            if self._most_in_flight == 1 or reader is None or not reader.answers:
                raise
        self._most_in_flight = 1
        with self._channel.use("listing, one request at a time", directory) as client:
            return sort_entries(directory, self._reader(client).entries(_wire_directory(directory)))

    def _reader(self, client: paramiko.SFTPClient) -> DirectoryReader:
        channel = client.get_channel()
        if channel is None:
            raise EOFError("the channel is closed")
        return DirectoryReader(channel, most_in_flight=self._most_in_flight)

    def stat(self, path: str) -> RemoteFile | None:
        """The entry itself (a link is not followed), or None when there is none.

        Raises:
            UnsafeName, PermissionRefused, SftpError.
        """
        wire = wire_path(path)
        try:
            with self._channel.use("stat", path) as client:
                found = client.lstat(wire)
        except NoSuchPath:
            return None
        return remote_file(path, Attributes(found.st_size, found.st_mode, found.st_mtime))

    def download(
        self, path: str, target: Path, *, expected_size: int | None, max_bytes: int, expected_mtime: int | None = None
    ) -> Download:
        """Fetches one file to ``target`` or raises; see ``download.fetch``."""
        request = DownloadRequest(path, target, expected_size, max_bytes, expected_mtime)
        return fetch(self._channel, request, prefetch=self._prefetch)

    def download_many(self, requests: Sequence[DownloadRequest]) -> Downloads:
        """Fetches many files, each on its own terms; the answers are in the order of the requests.

        From 20 files on, up to 8 channels of this connection share the work, fewer when the server allows fewer.
        """
        answers: dict[int, Download | SftpError] = {}
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(len(requests)):
            waiting.put(index)

        def work(channel: SftpChannel, *, last: bool) -> None:
            while True:
                try:
                    channel.open()
                except SftpError:
                    # No more sessions allowed, or no more connection. What waits is left to the others; the last one
                    # there writes the fault into each answer.
                    if not last:
                        return
                try:
                    index = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    answers[index] = fetch(channel, requests[index], prefetch=self._prefetch)
                except SftpError as error:
                    answers[index] = error

        def work_on_another_channel() -> None:
            with SftpChannel(self._transport, self._endpoint, self._timeout) as channel:
                work(channel, last=False)

        if len(requests) >= _SPREAD_FROM:
            with ThreadPoolExecutor(_MOST_CHANNELS - 1, thread_name_prefix="sftp-download") as pool:
                others = [pool.submit(work_on_another_channel) for _ in range(_MOST_CHANNELS - 1)]
                work(self._channel, last=False)
            for other in others:
                other.result()
        work(self._channel, last=True)
        return [answers[index] for index in range(len(requests))]

    def upload(self, source: Path, path: str, *, exclusive: bool = True, progress: Progress | None = None) -> Uploaded:
        """Writes a local file to ``path``, every answer checked; see ``upload.store``.

        Raises:
            TargetExists: ``path`` is there and ``exclusive`` was asked for; nothing was written.
            LocalFileError: ``source`` cannot be read.
            SftpError: any other fault; ``progress``, when given, tells how far it came.
        """
        progress = progress or Progress()
        try:
            return store(self._channel, source, path, exclusive=exclusive, progress=progress)
        except ServerRefused:
            # "Failure" is all that most servers say when the name is taken.
            if exclusive and not progress.created and self.stat(path) is not None:
                raise TargetExists(path) from None
            raise

    def rename(self, old: str, new: str, *, look: bool = True) -> None:
        """Renames without ever overwriting.

        Plain RENAME, which refuses an existing target on OpenSSH; for servers that do not, the target is looked for
        first, unless ``look`` is False because the account may not. The overwriting ``posix-rename`` extension is not
        used.

        Raises:
            TargetExists: ``new`` is there; nothing changed.
            NoSuchPath: ``old``, or the directory of ``new``, is not there.
        """
        wire_old, wire_new = wire_path(old), wire_path(new)
        if look and self.stat(new) is not None:
            raise TargetExists(new)
        try:
            with self._channel.use(f"rename to {new!r}", old) as client:
                client.rename(wire_old, wire_new)
        except ServerRefused:
            # "Failure" is all that OpenSSH says when somebody else made the target meanwhile.
            if look and self.stat(new) is not None and self.stat(old) is not None:
                raise TargetExists(new) from None
            raise

    def remove(self, path: str) -> None:
        """Deletes one file.

        Raises:
            NoSuchPath, PermissionRefused, UnsafeName, SftpError.
        """
        wire = wire_path(path)
        with self._channel.use("remove", path) as client:
            client.remove(wire)

    def sha256(self, path: str) -> str:
        """SHA-256 (hex) of the file's bytes, read back over the wire."""
        return hash_remote(self._channel, path, prefetch=self._prefetch)


def _wire_directory(directory: str) -> bytes:
    return (directory or ".").encode("utf-8", "surrogateescape")


@contextmanager
def open_session(settings: SftpSettings, credentials: SftpCredentials) -> Generator[SftpSession]:
    """Connects, checks the host key, logs in; closes the connection at the end of the block.

    The block has ``poll_deadline`` seconds from now. After that the connection is closed under whatever is waiting, and
    that raises PollDeadlineExceeded.

    Raises:
        PinUnreadable, KeyUnreadable: the configuration cannot be used; nothing was contacted.
        HostKeyRejected, LoginRefused, NoCommonAlgorithm, Unreachable, SftpTimeout, PollDeadlineExceeded.
    """
    pins = parse_pins(settings.host_keys)
    private_key = (
        load_private_key(credentials.private_key, credentials.passphrase)
        if credentials.private_key is not None
        else None
    )
    with Deadline(settings.poll_deadline) as deadline:
        endpoint = Endpoint(f"{settings.host}:{settings.port}", deadline)
        transport = connect(settings, pins, credentials.password, private_key, endpoint)
        try:
            yield SftpSession(transport, settings, endpoint)
        finally:
            # Wakes its reader thread, which would else notice at its next tick of 0.1 s.
            with suppress(OSError):
                transport.sock.shutdown(socket.SHUT_RDWR)
            transport.close()
            # Waiting for that thread leaves none behind a poll.
            transport.join(1.0)
