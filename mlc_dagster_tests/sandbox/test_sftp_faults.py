"""The embedded SFTP server's second account and what goes wrong on purpose, seen by paramiko's own client."""

import contextlib
import socket
from collections.abc import Generator, Iterator
from pathlib import Path

import httpx
import paramiko
import pytest
from paramiko.sftp import CMD_CLOSE

from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster.sandbox.sftp import SandboxSftp
from mlc_dagster.sandbox.sftp_accounts import SftpAccount
from mlc_dagster.sandbox.sftp_faults import SftpFaults


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SandboxSftp]:
    (tmp_path / "partner" / "inbound").mkdir(parents=True)
    with SandboxSftp(
        tmp_path / "stampli",
        username="stampli",
        password="one",
        host_key_file=tmp_path / "host_key",
        accounts=[SftpAccount("partner", tmp_path / "partner", "two")],
    ) as running:
        yield running


@contextlib.contextmanager
def logged_in(server: SandboxSftp, username: str = "partner", password: str = "two") -> Generator[paramiko.SFTPClient]:
    transport = paramiko.Transport(socket.create_connection((server.host, server.port), timeout=10))
    try:
        transport.connect(username=username, password=password)
        client = transport.open_sftp_client()
        assert client is not None
        yield client
    finally:
        transport.close()


def upload(client: paramiko.SFTPClient, path: str, content: bytes = b"x" * 100_000) -> None:
    """Checked at every step: paramiko's own ``put`` hides failures."""
    remote = client.open(path, "wx")
    try:
        remote.write(content)
    finally:
        remote.close()


def test_accounts_see_their_own_directory_only(server: SandboxSftp, tmp_path: Path) -> None:
    """The partner is not Stampli."""
    with logged_in(server) as client:
        assert client.listdir("/") == ["inbound"]
        upload(client, "/inbound/a.csv")
        client.rename("/inbound/a.csv", "/inbound/b.csv")
        assert client.stat("/inbound/b.csv").st_size == 100_000
    assert (tmp_path / "partner" / "inbound" / "b.csv").exists()
    with logged_in(server, "stampli", "one") as client:
        assert client.listdir("/") == []


@pytest.mark.parametrize(("username", "password"), [("partner", "one"), ("stampli", "two"), ("nobody", "one")])
def test_passwords_are_each_accounts_own(server: SandboxSftp, username: str, password: str) -> None:
    """Otherwise a mixed-up configuration would pass."""
    with pytest.raises(paramiko.AuthenticationException), logged_in(server, username, password):
        pass


def test_an_upload_is_refused_once(server: SandboxSftp) -> None:
    """A full disk, for instance; nothing is left behind."""
    server.faults.add("refuse_upload")
    with logged_in(server) as client:
        with pytest.raises(OSError, match="Failure"):
            upload(client, "/inbound/a.csv")
        assert client.listdir("/inbound") == []
        upload(client, "/inbound/a.csv")
        assert client.stat("/inbound/a.csv").st_size == 100_000


def test_the_connection_drops_during_an_upload(server: SandboxSftp) -> None:
    """Half a file is left under the name it was written to."""
    fault = server.faults.add("drop_upload", after=40_000)
    with logged_in(server) as client, pytest.raises((OSError, EOFError, paramiko.SSHException)):
        upload(client, "/inbound/a.csv")
    assert fault.fired == 1
    with logged_in(server) as client:
        size = client.stat("/inbound/a.csv").st_size or 0
        assert 40_000 <= size < 100_000
        upload(client, "/inbound/b.csv")


def test_a_close_fails_although_the_bytes_are_there(server: SandboxSftp) -> None:
    """Whoever does not look at CLOSE takes this for success."""
    server.faults.add("fail_close")
    with logged_in(server) as client:
        remote = client.open("/inbound/a.csv", "wx")
        remote.write(b"abc")
        # SFTPFile.close keeps the answer to itself, so the request is made one level below it.
        with pytest.raises(OSError, match="Failure"):
            client._request(CMD_CLOSE, remote.handle)  # pyright: ignore[reportAttributeAccessIssue]
        assert client.stat("/inbound/a.csv").st_size == 3
        upload(client, "/inbound/b.csv")


def test_a_rename_fails_once(server: SandboxSftp) -> None:
    """The temporary name is still there."""
    server.faults.add("fail_rename")
    with logged_in(server) as client:
        upload(client, "/inbound/a.part")
        with pytest.raises(OSError, match="Failure"):
            client.rename("/inbound/a.part", "/inbound/a.csv")
        assert client.listdir("/inbound") == ["a.part"]
        client.rename("/inbound/a.part", "/inbound/a.csv")


def test_the_server_goes_down_for_one_upload(server: SandboxSftp) -> None:
    """The next connection puts the file there."""
    server.faults.add("down", count=1, username="partner")
    with logged_in(server) as client, pytest.raises((OSError, EOFError, paramiko.SSHException)):
        upload(client, "/inbound/a.csv")
    with logged_in(server) as client:
        assert client.listdir("/inbound") == []
        upload(client, "/inbound/a.csv")
        assert client.listdir("/inbound") == ["a.csv"]


def test_the_server_stays_down_until_it_is_cleared(server: SandboxSftp) -> None:
    """Nobody gets in at all."""
    server.faults.add("down", count=None)
    with pytest.raises((OSError, EOFError, paramiko.SSHException)), logged_in(server):
        pass
    server.faults.clear()
    with logged_in(server) as client:
        upload(client, "/inbound/a.csv")


def test_faults_of_one_account_leave_the_others_alone(server: SandboxSftp) -> None:
    """Invoices still come in while the partner's side is broken."""
    server.faults.add("refuse_upload", count=None, username="partner")
    with logged_in(server, "stampli", "one") as client:
        upload(client, "/in.csv")
    with logged_in(server) as client, pytest.raises(OSError, match="Failure"):
        upload(client, "/inbound/a.csv")


def test_faults_skip_and_count() -> None:
    """The second and third upload fail, the fourth does not."""
    faults = SftpFaults()
    faults.add("refuse_upload", count=2, skip=1)
    assert [faults.strikes("refuse_upload", "partner") for _ in range(4)] == [False, True, True, False]
    with pytest.raises(ValueError, match="refuse_upload"):
        faults.add("explode")


def test_faults_are_set_over_http(fusion: FusionSandbox) -> None:
    """For a demonstration in another process; an embedded Fusion alone says that there is no server."""
    url = f"{fusion.base_url}/sandbox/sftp/faults"
    assert httpx.get(url).status_code == 404
    fusion.admin.sftp_faults = SftpFaults()
    try:
        set_ = httpx.post(url, json={"kind": "down", "count": 1, "username": "partner"}).json()["faults"]
        assert [(fault["kind"], fault["count"]) for fault in set_] == [("down", 1)]
        assert fusion.admin.sftp_faults.strikes("down", "partner")
        assert httpx.post(url, json={"kind": "explode"}).status_code == 400
        assert httpx.delete(url).status_code == 200
        assert httpx.get(url).json() == {"faults": []}
    finally:
        fusion.admin.sftp_faults = None
