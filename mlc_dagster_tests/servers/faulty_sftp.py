"""An SFTP server (asyncssh's, in a thread) that misbehaves on demand.

What belongs here: the ways in which a remote side goes wrong, each as one field of ``Faults`` that a test sets before
or while the product talks to it. Passwords only; one account.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh
from asyncssh.constants import FILEXFER_TYPE_UNKNOWN
from asyncssh.stream import SSHServerStreamSession

USERNAME = "partner"
PASSWORD = "correct horse"


@dataclass
class Faults:
    """What goes wrong. Fields may be changed while the server runs.

    Attributes:
        latency: Seconds before each answer.
        frozen: While set, requests are read and never answered.
        freeze_at: So many requests are answered, the next one never is, nor any other on its connection; then no more.
        drop_at: So many requests are answered, the next one cuts its connection; then no more.
        freeze_after_names: READDIR answers nothing more after so many names; None never stops.
        fail_listing_after: The next listing fails after so many names, later ones do not. None never fails.
        no_sizes: Attributes tell no size.
        no_types: Attributes tell no permissions, hence no file type.
        close_fails: CLOSE answers with a failure.
        close_is_forbidden: CLOSE answers "permission denied".
        refuse_sessions_after: Channels per connection; further ones are refused. None refuses none.
        drop_on_read: The connection is cut when a file is read from this offset on. None never cuts.
        fail_write_from: WRITE answers with a failure from this offset on. None never fails.
        drop_on_write: The connection is cut when a file is written from this offset on. None never cuts.
        lose_answer_to: The connection is cut after one request of this kind (``open``, ``close``, ``rename``,
            ``remove``) was carried out and before it is answered; then no more. None never cuts.
        rename_refused: RENAME answers "unsupported", as EDI mailboxes do.
        before_write: Called with a file's path and the offset before each WRITE.
        after_close: Called with the path of each file that was written, once it is closed; picks it up, for example.
        after_rename: Called with the new path after each RENAME.
        before_read: Called with a file's path and the offset before each READ; grows, replaces or removes it.
        before_stat: Called with a path before each LSTAT.
        extra_names: Raw names that a listing shows besides the real ones.
        doubled_names: A listing shows each name twice.
        no_signature_list: The server does not say which signatures of keys it verifies, as those before 2016.
        questions: Asked one after the other at a login, in place of the password method; (text, shown while typed).
    """

    latency: float = 0.0
    frozen: threading.Event = field(default_factory=threading.Event)
    freeze_at: int | None = None
    drop_at: int | None = None
    freeze_after_names: int | None = None
    fail_listing_after: int | None = None
    no_sizes: bool = False
    no_types: bool = False
    close_fails: bool = False
    close_is_forbidden: bool = False
    refuse_sessions_after: int | None = None
    drop_on_read: int | None = None
    fail_write_from: int | None = None
    drop_on_write: int | None = None
    lose_answer_to: str | None = None
    rename_refused: bool = False
    before_write: Callable[[Path, int], object] = lambda path, offset: None
    after_close: Callable[[Path], object] = lambda path: None
    after_rename: Callable[[Path], object] = lambda path: None
    before_read: Callable[[Path, int], object] = lambda path, offset: None
    before_stat: Callable[[Path], object] = lambda path: None
    extra_names: tuple[bytes, ...] = ()
    doubled_names: bool = False
    no_signature_list: bool = False
    questions: tuple[tuple[str, bool], ...] = ()


class _Sftp(asyncssh.SFTPServer):
    def __init__(self, channel: Any, root: Path, faults: Faults, opened: list[str]) -> None:
        super().__init__(channel, chroot=os.fsencode(root))
        self._faults = faults
        self._opened = opened
        self._stuck = False

    async def _misbehave(self) -> None:
        if self._is_turn_of("freeze_at"):
            self._stuck = True
        if self._is_turn_of("drop_at"):
            self.connection.abort()
        if self._stuck or self._faults.frozen.is_set():
            # Nobody ever sets it: the wait ends with the connection.
            await asyncio.Event().wait()
        if self._faults.latency:
            await asyncio.sleep(self._faults.latency)

    def _is_turn_of(self, name: str) -> bool:
        left: int | None = getattr(self._faults, name)
        if left is not None:
            setattr(self._faults, name, None if left == 0 else left - 1)
        return left == 0

    def _attributes(self, found: os.stat_result) -> asyncssh.SFTPAttrs:
        attributes = asyncssh.SFTPAttrs.from_local(found)
        if self._faults.no_sizes:
            attributes.size = None
        if self._faults.no_types:
            attributes.permissions = None
            attributes.type = FILEXFER_TYPE_UNKNOWN
        return attributes

    def _local(self, path: bytes) -> Path:
        return Path(os.fsdecode(self.map_path(path)))

    async def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        await self._misbehave()
        self._opened.append(os.fsdecode(path))
        found = super().open(path, pflags, attrs)
        await self._lose_answer("open")
        return found

    async def read(self, file_obj: Any, offset: int, size: int) -> bytes:
        await self._misbehave()
        self._faults.before_read(Path(os.fsdecode(file_obj.name)), offset)
        if self._faults.drop_on_read is not None and offset >= self._faults.drop_on_read:
            self.connection.abort()
        return os.pread(file_obj.fileno(), size, offset)

    async def write(self, file_obj: Any, offset: int, data: bytes) -> int:
        await self._misbehave()
        path = Path(os.fsdecode(file_obj.name))
        self._faults.before_write(path, offset)
        if self._faults.drop_on_write is not None and offset >= self._faults.drop_on_write:
            self.connection.abort()
            raise asyncssh.SFTPConnectionLost("cut")
        if self._faults.fail_write_from is not None and offset >= self._faults.fail_write_from:
            raise asyncssh.SFTPFailure("no space left on device")
        return os.pwrite(file_obj.fileno(), data, offset)

    async def close(self, file_obj: Any) -> None:
        await self._misbehave()
        writable = file_obj.writable()
        super().close(file_obj)
        if writable:
            self._faults.after_close(Path(os.fsdecode(file_obj.name)))
        await self._lose_answer("close")
        if self._faults.close_fails:
            raise asyncssh.SFTPFailure("the store did not commit")
        if self._faults.close_is_forbidden:
            raise asyncssh.SFTPPermissionDenied("Permission denied")

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        await self._misbehave()
        if self._faults.rename_refused:
            raise asyncssh.SFTPOpUnsupported("Operation unsupported")
        new = self._local(newpath)
        if new.exists():
            raise asyncssh.SFTPFailure("Failure")
        self._local(oldpath).rename(new)
        self._faults.after_rename(new)
        await self._lose_answer("rename")

    async def remove(self, path: bytes) -> None:
        await self._misbehave()
        self._local(path).unlink()
        await self._lose_answer("remove")

    async def _lose_answer(self, kind: str) -> None:
        if self._faults.lose_answer_to == kind:
            self._faults.lose_answer_to = None
            self.connection.abort()

    async def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        await self._misbehave()
        local = self._local(path)
        self._faults.before_stat(local)
        return self._attributes(local.lstat())

    async def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        await self._misbehave()
        return self._attributes(self._local(path).stat())

    async def fstat(self, file_obj: Any) -> asyncssh.SFTPAttrs:
        await self._misbehave()
        return self._attributes(os.fstat(file_obj.fileno()))

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        await self._misbehave()
        directory = self._local(path)
        entries = sorted(directory.iterdir())
        for shown, entry in enumerate(entries * (2 if self._faults.doubled_names else 1)):
            if shown == self._faults.freeze_after_names:
                await asyncio.Event().wait()
            if shown == self._faults.fail_listing_after:
                self._faults.fail_listing_after = None
                raise asyncssh.SFTPFailure("too many requests")
            yield asyncssh.SFTPName(os.fsencode(entry.name), attrs=self._attributes(entry.lstat()))
        for name in self._faults.extra_names:
            yield asyncssh.SFTPName(name, attrs=asyncssh.SFTPAttrs(size=1, permissions=0o100644, atime=0, mtime=0))


class _Ssh(asyncssh.SSHServer):
    def __init__(self, root: Path, faults: Faults, opened: list[str], logins: list[str], answers: list[str]) -> None:
        self._logins = logins
        self._answers = answers
        self._asked = 0
        self._root = root
        self._faults = faults
        self._opened = opened
        self._sessions = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        if self._faults.no_signature_list:
            vars(conn)["_send_ext_info"] = lambda: None

    def begin_auth(self, username: str) -> bool:
        self._logins.append(username)
        return True

    def password_auth_supported(self) -> bool:
        return not self._faults.questions

    def kbdint_auth_supported(self) -> bool:
        return bool(self._faults.questions)

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        self._asked = 0
        return self._next_question()

    def _next_question(self) -> Any:
        question = self._faults.questions[self._asked]
        self._asked += 1
        return ("", "", "", [question])

    def validate_kbdint_response(self, username: str, responses: Any) -> Any:
        self._answers.extend(responses)
        if list(responses) != [PASSWORD]:
            return False
        return self._next_question() if self._asked < len(self._faults.questions) else True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USERNAME, PASSWORD)

    def session_requested(self) -> SSHServerStreamSession[bytes] | bool:
        self._sessions += 1
        limit = self._faults.refuse_sessions_after
        if limit is not None and self._sessions > limit:
            return False
        return SSHServerStreamSession(
            None, lambda channel: _Sftp(channel, self._root, self._faults, self._opened), sftp_version=3
        )


class FaultySftp:
    """``with FaultySftp(root) as server:`` serves ``root`` as ``/`` on ``server.port`` of 127.0.0.1.

    Keyword arguments are asyncssh's own: the algorithms that it offers (``encryption_algs=["aes128-cbc"]``), or
    ``authorized_client_keys=FILE``.

    Attributes:
        faults: What goes wrong; nothing at first.
        fingerprint: ``SHA256:…`` of the host key.
        opened: Paths that were opened so far, in order: a file that is only listed must not be among them.
        answers: What was answered to ``faults.questions``.
        logins: Users that tried to log in; empty means that no credential was sent.
    """

    host = "127.0.0.1"
    username = USERNAME
    password = PASSWORD

    def __init__(self, root: Path, **options: Any) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()
        self.faults = Faults()
        self.opened: list[str] = []
        self.logins: list[str] = []
        self.answers: list[str] = []
        self.port = 0
        self._options = options
        self._key = asyncssh.generate_private_key("ssh-ed25519")
        self.fingerprint: str = self._key.get_fingerprint()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-sftp", daemon=True)
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()

    def change_host_key(self, key: asyncssh.SSHKey | None = None) -> asyncssh.SSHKey:
        """Another host key, a new one unless given, on the same port for whoever connects next; gives the former."""
        return asyncio.run_coroutine_threadsafe(self._change_host_key(key), self._loop).result(10)

    async def _change_host_key(self, key: asyncssh.SSHKey | None) -> asyncssh.SSHKey:
        assert self._acceptor is not None
        self._acceptor.close()
        await self._acceptor.wait_closed()
        former, self._key = self._key, key or asyncssh.generate_private_key("ssh-ed25519")
        self.fingerprint = self._key.get_fingerprint()
        self._acceptor = await self._listen()
        return former

    async def _listen(self) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            self.host,
            self.port,
            server_factory=lambda: _Ssh(self.root, self.faults, self.opened, self.logins, self.answers),
            server_host_keys=[self._key],
            acceptor=self._connections.add,
            encoding=None,
            **self._options,
        )

    async def _close(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.wait_closed()
        for connection in self._connections:
            connection.abort()
        # One turn of the loop lets aborted connections end their tasks.
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    def __enter__(self) -> Self:
        self._thread.start()
        self._acceptor = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        self.port = self._acceptor.get_port()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
