"""The embedded SFTP server, asked by paramiko's own client and never by the product."""

import contextlib
import io
import os
import socket
import stat
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import paramiko
import pytest

from mlc_dagster.sandbox.sftp import SandboxSftp
from mlc_dagster_tests.servers.sshd import new_private_key, public_line

USERNAME, PASSWORD = "stampli", "let me in"
PRIVATE_KEY = new_private_key()


def new_server(directory: Path, port: int = 0) -> SandboxSftp:
    return SandboxSftp(
        directory / "served",
        username=USERNAME,
        password=PASSWORD,
        authorized_keys=[f"{public_line(PRIVATE_KEY)} somebody@example.com", ""],
        host_key_file=directory / "state" / "host_key",
        port=port,
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SandboxSftp]:
    with new_server(tmp_path) as running:
        yield running


@contextlib.contextmanager
def logged_in(server: SandboxSftp) -> Generator[paramiko.Transport]:
    transport = paramiko.Transport(socket.create_connection((server.host, server.port), timeout=10))
    try:
        transport.connect(username=USERNAME, password=PASSWORD)
        yield transport
    finally:
        transport.close()


@pytest.fixture
def client(server: SandboxSftp) -> Iterator[paramiko.SFTPClient]:
    with logged_in(server) as transport, transport.open_sftp_client() as sftp:
        yield sftp


def test_the_host_key_is_the_same_after_a_restart(tmp_path: Path) -> None:
    """A pin written into mlc.yaml once must stay right."""
    with new_server(tmp_path) as first:
        pass
    with new_server(tmp_path) as second:
        pass
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint.startswith("SHA256:")
    assert stat.S_IMODE((tmp_path / "state" / "host_key").stat().st_mode) == 0o600


def test_the_server_proves_the_key_that_it_names(server: SandboxSftp) -> None:
    """``fingerprint`` is what a client sees."""
    with logged_in(server) as transport:
        assert transport.get_remote_server_key().fingerprint == server.fingerprint


def test_a_private_key_logs_in(server: SandboxSftp) -> None:
    """Partners that give no passwords are played as well."""
    transport = paramiko.Transport(socket.create_connection((server.host, server.port), timeout=10))
    try:
        transport.connect(username=USERNAME, pkey=paramiko.Ed25519Key.from_private_key(io.StringIO(PRIVATE_KEY)))
        assert transport.is_authenticated()
    finally:
        transport.close()


@pytest.mark.parametrize(("username", "password"), [(USERNAME, "wrong"), ("root", PASSWORD), (USERNAME, "")])
def test_wrong_credentials_are_refused(server: SandboxSftp, username: str, password: str) -> None:
    """The server would prove nothing if it let everybody in."""
    transport = paramiko.Transport(socket.create_connection((server.host, server.port), timeout=10))
    try:
        with pytest.raises(paramiko.AuthenticationException):
            transport.connect(username=username, password=password)
    finally:
        transport.close()


def test_a_file_keeps_size_and_time(server: SandboxSftp, client: paramiko.SFTPClient) -> None:
    """Settling and identity rest on both."""
    with client.open("/a.csv", "wb") as remote:
        remote.write(b"x" * 100_000)
    client.utime("/a.csv", (1_600_000_000, 1_700_000_000))
    found = client.stat("/a.csv")
    assert (found.st_size, found.st_mtime) == (100_000, 1_700_000_000)
    assert (server.root / "a.csv").stat().st_mtime == 1_700_000_000
    with client.open("/a.csv", "rb") as remote:
        assert remote.read() == b"x" * 100_000


def test_exclusive_create_refuses_an_existing_file(client: paramiko.SFTPClient) -> None:
    """Deliveries rely on it."""
    with client.open("/a.csv", "wx") as remote:
        remote.write(b"first")
    with pytest.raises(OSError, match="Failure"):
        client.open("/a.csv", "wx")
    with client.open("/a.csv") as remote:
        assert remote.read() == b"first"


def test_opening_for_write_truncates_and_appending_does_not(client: paramiko.SFTPClient) -> None:
    """The flags mean what they mean elsewhere."""
    for mode, content in (("wb", b"first"), ("wb", b"2nd"), ("ab", b"+")):
        with client.open("/a.csv", mode) as remote:
            remote.write(content)
    with client.open("/a.csv") as remote:
        assert remote.read() == b"2nd+"


def test_rename_refuses_to_overwrite(server: SandboxSftp, client: paramiko.SFTPClient) -> None:
    """As OpenSSH's does."""
    (server.root / "a").write_bytes(b"a")
    (server.root / "b").write_bytes(b"b")
    with pytest.raises(OSError, match="Failure"):
        client.rename("/a", "/b")
    assert (server.root / "b").read_bytes() == b"b"
    client.rename("/a", "/c")
    assert (server.root / "c").read_bytes() == b"a"
    assert not (server.root / "a").exists()


def test_rename_of_a_directory_refuses_to_overwrite(server: SandboxSftp, client: paramiko.SFTPClient) -> None:
    """Directories cannot be linked; the rule holds for them as well."""
    (server.root / "a").mkdir()
    (server.root / "b").mkdir()
    with pytest.raises(OSError, match="Failure"):
        client.rename("/a", "/b")
    client.rename("/a", "/c")
    assert (server.root / "c").is_dir()


def test_posix_rename_overwrites(server: SandboxSftp, client: paramiko.SFTPClient) -> None:
    """The extension exists for that."""
    (server.root / "a").write_bytes(b"a")
    (server.root / "b").write_bytes(b"b")
    client.posix_rename("/a", "/b")
    assert (server.root / "b").read_bytes() == b"a"


def test_directories_are_made_and_removed(server: SandboxSftp, client: paramiko.SFTPClient) -> None:
    """An archive folder is made by whoever sets the feed up."""
    client.mkdir("/archive")
    assert (server.root / "archive").is_dir()
    client.rmdir("/archive")
    assert not (server.root / "archive").exists()


def test_removing_a_missing_file_says_no_such_file(client: paramiko.SFTPClient) -> None:
    """Status 2, not a general failure."""
    with pytest.raises(FileNotFoundError):
        client.remove("/missing")


@pytest.mark.parametrize("path", ["/../secret", "../secret", "/sub/../../secret", "//../secret", "/./../secret"])
def test_dots_do_not_lead_out(server: SandboxSftp, client: paramiko.SFTPClient, path: str) -> None:
    """The root is the top, however it is written."""
    (server.root.parent / "secret").write_text("secret")
    (server.root / "sub").mkdir()
    with pytest.raises(FileNotFoundError):
        client.open(path)


def test_links_do_not_lead_out(server: SandboxSftp, client: paramiko.SFTPClient) -> None:
    """Neither a link to a file nor a path through a linked folder."""
    outside = server.root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (server.root / "file").symlink_to(outside / "secret")
    (server.root / "folder").symlink_to(outside)
    for attempt in (
        lambda: client.open("/file"),
        lambda: client.open("/folder/secret"),
        lambda: client.listdir("/folder"),
        lambda: client.open("/folder/new", "w"),
        lambda: client.remove("/folder/secret"),
        lambda: client.rename("/folder/secret", "/mine"),
    ):
        with pytest.raises(PermissionError):
            attempt()
    assert (outside / "secret").exists()


def test_a_link_is_listed_as_a_link(server: SandboxSftp, client: paramiko.SFTPClient) -> None:
    """A client must be able to tell it from a file."""
    (server.root / "a").touch()
    (server.root / "link").symlink_to("a")
    modes = {entry.filename: stat.S_IFMT(entry.st_mode or 0) for entry in client.listdir_attr("/")}
    assert modes == {"a": stat.S_IFREG, "link": stat.S_IFLNK}


def test_a_pipe_cannot_be_opened(server: SandboxSftp, client: paramiko.SFTPClient) -> None:
    """Opening one would block the channel for ever."""
    os.mkfifo(server.root / "pipe")
    with pytest.raises(PermissionError):
        client.open("/pipe")


def test_a_truncated_size_keeps_the_front(server: SandboxSftp, client: paramiko.SFTPClient) -> None:
    """SETSTAT with a size shortens the file and does not empty it."""
    (server.root / "a").write_bytes(b"12345")
    client.truncate("/a", 2)
    assert (server.root / "a").read_bytes() == b"12"


def test_several_channels_of_one_connection(server: SandboxSftp) -> None:
    """Downloads are spread over channels."""
    (server.root / "a").write_bytes(b"x" * 50_000)
    with logged_in(server) as transport:
        read: list[bytes] = []

        def work() -> None:
            with transport.open_sftp_client() as sftp, sftp.open("/a") as remote:
                read.append(remote.read())

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert read == [b"x" * 50_000] * 8


def test_serve_ends_when_it_is_stopped(tmp_path: Path) -> None:
    """``mlc sandbox`` runs it in the foreground; an interrupt has to end it and free the port."""
    server = new_server(tmp_path)
    server.start()
    serving = threading.Thread(target=server.serve)
    serving.start()
    with logged_in(server) as transport:
        assert transport.is_active()
    server.stop()
    serving.join(10)
    assert not serving.is_alive()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port), timeout=1)


def test_a_stop_before_the_start_holds(tmp_path: Path) -> None:
    """An interrupt that arrives while the server is being set up must not be forgotten."""
    server = new_server(tmp_path)
    server.stop()
    serving = threading.Thread(target=server.serve)
    serving.start()
    serving.join(10)
    assert not serving.is_alive()
