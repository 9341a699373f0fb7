"""An SFTP server of one directory per account, to try, demonstrate and test against.

What belongs here: a small but honest server (paramiko's): password and key login, a host key that stays the same, true
sizes and times, exclusive create, a rename that refuses to overwrite. What does not: which faults there are
(``sftp_faults``; here they strike), and anything shared with the product's own connector, which this server has to be
able to contradict.
"""

import errno
import logging
import os
import posixpath
import socket
import stat
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import paramiko
from paramiko.sftp import SFTP_FAILURE, SFTP_OK, SFTP_PERMISSION_DENIED
from typing_extensions import Buffer

from mlc_dagster.sandbox.sftp_accounts import Login, SftpAccount, host_key
from mlc_dagster.sandbox.sftp_faults import SftpFaults

_WAKE_SECONDS = 0.2
_LOG = "mlc_dagster.sandbox.sftp.wire"


def _status(error: OSError) -> int:
    return paramiko.SFTPServer.convert_errno(error.errno or errno.EIO)


class _OpenFile(paramiko.SFTPHandle):
    def __init__(
        self, descriptor: int, flags: int, strikes: Callable[[str, int], bool], hang_up: Callable[[], None]
    ) -> None:
        super().__init__(flags)
        self._descriptor = descriptor
        self._append = bool(flags & os.O_APPEND)
        self._written = 0
        self._strikes = strikes
        self._hang_up = hang_up

    def read(self, offset: int, length: int) -> bytes | int:
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as error:
            return _status(error)

    def write(self, offset: int, data: Buffer) -> int:
        rest = memoryview(data)
        self._written += len(rest)
        try:
            while rest:
                written = (
                    os.write(self._descriptor, rest) if self._append else os.pwrite(self._descriptor, rest, offset)
                )
                rest, offset = rest[written:], offset + written
        except OSError as error:
            return _status(error)
        if self._strikes("drop_upload", self._written):
            self._hang_up()
        return SFTP_OK

    def stat(self) -> paramiko.SFTPAttributes | int:
        try:
            return paramiko.SFTPAttributes.from_stat(os.fstat(self._descriptor))
        except OSError as error:
            return _status(error)

    def chattr(self, attr: paramiko.SFTPAttributes) -> int:
        return _change(self._descriptor, attr)

    def close(self) -> None:
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)
        if self._written and self._strikes("fail_close", self._written):
            # paramiko answers CLOSE with success whatever is returned here, and with FAILURE to an exception.
            raise OSError(errno.EIO, "the file could not be closed")


def _change(target: int | Path, attr: paramiko.SFTPAttributes) -> int:
    """Sets mode, times and size; the owner is left alone, as for any account that is not root."""
    try:
        if attr.st_mode is not None:
            os.chmod(target, stat.S_IMODE(attr.st_mode))  # noqa: PTH101 - may be a descriptor
        if attr.st_size is not None:
            os.truncate(target, attr.st_size)
        if attr.st_mtime is not None:
            os.utime(target, (attr.st_atime if attr.st_atime is not None else attr.st_mtime, attr.st_mtime))
    except OSError as error:
        return _status(error)
    return SFTP_OK


class _Directory(paramiko.SFTPServerInterface):
    """The file operations; every path is confined to the root, also through symbolic links."""

    def __init__(self, server: paramiko.ServerInterface) -> None:
        super().__init__(server)
        if not isinstance(server, Login) or server.account is None:
            raise TypeError(f"{type(server).__name__} names no root directory")
        self._login = server
        self._username = server.account.username
        self._root = server.account.root

    def _strikes(self, kind: str, written: int = 0) -> bool:
        return self._login.faults.strikes(kind, self._username, written=written)

    def _at(self, path: str, *, follow: bool = True) -> Path:
        """The local path.

        Raises:
            PermissionError: it leads out of the root.
        """
        local = Path(f"{self._root}{self.canonicalize(path)}")
        inside = local.resolve() if follow else local.parent.resolve() / local.name
        if inside != self._root and not inside.is_relative_to(self._root):
            raise PermissionError(errno.EACCES, "outside of the served directory")
        return inside

    def canonicalize(self, path: str) -> str:
        # The leading slash leaves ".." nowhere to go. normpath keeps a double one, which is a root of its own.
        return "/" + posixpath.normpath(f"/{path}").lstrip("/")

    def _answer(self, act: Callable[[], object]) -> int:
        try:
            act()
        except OSError as error:
            return _status(error)
        return SFTP_OK

    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle | int:
        try:
            local = self._at(path)
            if local.exists() and not local.is_file():
                return SFTP_PERMISSION_DENIED
            mode = stat.S_IMODE(attr.st_mode) if attr.st_mode is not None else 0o666
            if flags & (os.O_WRONLY | os.O_RDWR):
                if self._strikes("down"):
                    self._login.hang_up()
                    return SFTP_FAILURE
                if self._strikes("refuse_upload"):
                    return SFTP_FAILURE
            descriptor = os.open(local, flags | os.O_CLOEXEC, mode)
            return _OpenFile(descriptor, flags, self._strikes, self._login.hang_up)
        except OSError as error:
            return _status(error)

    def list_folder(self, path: str) -> list[paramiko.SFTPAttributes] | int:
        found: list[paramiko.SFTPAttributes] = []
        try:
            with os.scandir(self._at(path)) as entries:
                for entry in entries:
                    # Gone since the directory was read: then it is simply not there any more.
                    with suppress(FileNotFoundError):
                        attributes = paramiko.SFTPAttributes.from_stat(entry.stat(follow_symlinks=False), entry.name)
                        found.append(_with_wire_name(attributes, entry.name))
        except OSError as error:
            return _status(error)
        return found

    def stat(self, path: str) -> paramiko.SFTPAttributes | int:
        try:
            return paramiko.SFTPAttributes.from_stat(self._at(path).stat())
        except OSError as error:
            return _status(error)

    def lstat(self, path: str) -> paramiko.SFTPAttributes | int:
        try:
            return paramiko.SFTPAttributes.from_stat(self._at(path, follow=False).lstat())
        except OSError as error:
            return _status(error)

    def remove(self, path: str) -> int:
        return self._answer(lambda: self._at(path, follow=False).unlink())

    def rename(self, oldpath: str, newpath: str) -> int:
        if self._strikes("fail_rename"):
            return SFTP_FAILURE
        return self._answer(
            lambda: _rename_to_free_name(self._at(oldpath, follow=False), self._at(newpath, follow=False))
        )

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        if self._strikes("fail_rename"):
            return SFTP_FAILURE
        return self._answer(lambda: self._at(oldpath, follow=False).replace(self._at(newpath, follow=False)))

    def mkdir(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        mode = stat.S_IMODE(attr.st_mode) if attr.st_mode is not None else 0o777
        return self._answer(lambda: self._at(path, follow=False).mkdir(mode))

    def rmdir(self, path: str) -> int:
        return self._answer(lambda: self._at(path, follow=False).rmdir())

    def chattr(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        try:
            return _change(self._at(path), attr)
        except OSError as error:
            return _status(error)


def _with_wire_name(attributes: paramiko.SFTPAttributes, name: str) -> paramiko.SFTPAttributes:
    try:
        name.encode()
    except UnicodeEncodeError:
        # A name that is no UTF-8 goes out as the bytes it is. paramiko sends bytes unchanged; only its types say str.
        attributes.filename = os.fsencode(name)  # pyright: ignore[reportAttributeAccessIssue]
    return attributes


def _rename_to_free_name(old: Path, new: Path) -> None:
    """RENAME as OpenSSH does it: link and unlink, so that an existing target wins even in a race."""
    if old.is_dir() and not old.is_symlink():
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, "the target exists")
        old.rename(new)
        return
    os.link(old, new, follow_symlinks=False)
    old.unlink()


class SandboxSftp:
    """The server. ``with SandboxSftp(…) as server:`` runs it in threads of this process; ``serve()`` blocks.

    Stopped once, it stays stopped; another one on the same host key file is the same server to its clients.

    Attributes:
        port: The port it listens on, once started (0 asks for a free one).
        fingerprint: ``SHA256:…`` of its host key, ready for ``host_key``.
        faults: What goes wrong on purpose.
    """

    def __init__(
        self,
        root: Path,
        *,
        username: str,
        password: str | None = None,
        authorized_keys: Iterable[str] = (),
        host_key_file: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        accounts: Iterable[SftpAccount] = (),
    ) -> None:
        """Prepares the server.

        Args:
            root: Directory to serve as ``/``; made when absent.
            username: The first account.
            password: Its password; None switches password login off.
            authorized_keys: Public keys as in an authorized_keys file, without options.
            host_key_file: Private host key; made when absent.
            host: Address to listen on.
            port: Port to listen on; 0 takes a free one.
            accounts: Further accounts, each with a directory of its own, made when absent.
        """
        self.faults = SftpFaults()
        self._accounts: dict[str, SftpAccount] = {}
        for account in (SftpAccount(username, root, password, authorized_keys), *accounts):
            account.root.mkdir(parents=True, exist_ok=True)
            lines = tuple(line for line in account.authorized_keys if line.strip())
            self._accounts[account.username] = SftpAccount(
                account.username, account.root.resolve(), account.password, lines
            )
        self.root = root.resolve()
        self.host = host
        self.port = port
        self.username = username
        self._key = host_key(host_key_file)
        self.fingerprint: str = self._key.fingerprint
        self._lock = threading.Lock()
        self._transports: list[paramiko.Transport] = []
        self._listener: socket.socket | None = None
        self._stopped = threading.Event()
        self._accepting: threading.Thread | None = None

    def start(self) -> None:
        """Listens, and answers in threads.

        Raises:
            OSError: the port is taken.
        """
        listener = socket.create_server((self.host, self.port), backlog=64)
        # Closing a listener does not wake its accept everywhere; this does.
        listener.settimeout(_WAKE_SECONDS)
        self._listener = listener
        self.port = listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, args=(listener,), name="sandbox-sftp", daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """Closes every connection and the port."""
        self._stopped.set()
        if self._accepting is not None and self._accepting.is_alive():
            # Wakes the accept, which would else notice at the end of its time.
            with suppress(OSError):
                socket.create_connection((self.host, self.port), timeout=_WAKE_SECONDS).close()
            self._accepting.join()
        if self._listener is not None:
            self._listener.close()
        with self._lock:
            transports, self._transports = self._transports, []
        for transport in transports:
            transport.close()

    def serve(self) -> None:
        """Serves until ``stop`` is called from another thread or the process is interrupted; starts if need be."""
        if self._listener is None:
            self.start()
        try:
            self._stopped.wait()
        finally:
            self.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                # Reset before it was accepted: that client is gone, the next one is not.
                continue
            if self._stopped.is_set() or self.faults.refusing_connections:
                connection.close()
                continue
            try:
                self._greet(connection)
            except (paramiko.SSHException, EOFError, OSError):
                connection.close()

    def _greet(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(connection)
        log = logging.getLogger(_LOG)
        if not log.handlers:
            log.addHandler(logging.NullHandler())
        log.propagate = False
        transport.set_log_channel(_LOG)
        transport.add_server_key(self._key)
        transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Directory)

        def hang_up() -> None:
            # Called in a thread of the transport's: its other one notices by itself, and so does the client at once.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

        login = Login(self._accounts, self.faults, hang_up)
        # With an event the handshake goes on in the transport's own thread: one slow client holds up nobody.
        transport.start_server(event=threading.Event(), server=login)
        with self._lock:
            self._transports = [known for known in self._transports if known.is_active()]
            self._transports.append(transport)
