"""Servers for the SFTP connector: what it must do is asked of OpenSSH and of the embedded server alike."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlc_dagster.sandbox.sftp import SandboxSftp
from mlc_dagster.settings import SftpSettings
from mlc_dagster.sftp import SftpCredentials, SftpSession, open_session
from mlc_dagster_tests.servers.faulty_sftp import FaultySftp
from mlc_dagster_tests.servers.sshd import RealSshd


@dataclass
class Served:
    """A running server seen from both sides: ``root`` on our disk is ``directory`` over the wire."""

    settings: SftpSettings
    credentials: SftpCredentials
    root: Path
    directory: str

    def path(self, name: str) -> str:
        return f"{self.directory.rstrip('/')}/{name}"

    @contextmanager
    def session(self, **changes: Any) -> Generator[SftpSession]:
        with open_session(self.settings.model_copy(update=changes), self.credentials) as session:
            yield session


def settings_for(host: str, port: int, username: str, host_key: str | list[str]) -> SftpSettings:
    """Settings with time-outs short enough for a test that waits for them to be unnecessary elsewhere."""
    return SftpSettings(
        host=host,
        port=port,
        username=username,
        password="env:UNUSED",
        host_key=host_key,
        connect_timeout=10,
        channel_timeout=10,
        poll_deadline=60,
    )


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSshd]:
    """One OpenSSH server for this folder's tests; each test gets a directory of its own on it."""
    with RealSshd(tmp_path_factory.mktemp("sshd"), host_keys=("ed25519", "ecdsa", "rsa")) as server:
        yield server


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxSftp]:
    with SandboxSftp(
        tmp_path / "served", username="stampli", password="let me in", host_key_file=tmp_path / "host_key"
    ) as server:
        yield server


@pytest.fixture(params=["openssh", "embedded"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Served:
    """The same test, once on OpenSSH by private key and once on the embedded server by password."""
    if request.param == "openssh":
        server: RealSshd = request.getfixturevalue("sshd")
        root = tmp_path / "served"
        root.mkdir()
        return Served(
            settings_for(server.host, server.port, server.username, server.fingerprint),
            SftpCredentials(private_key=server.private_key),
            root,
            str(root),
        )
    embedded: SandboxSftp = request.getfixturevalue("sandbox")
    return Served(
        settings_for(embedded.host, embedded.port, embedded.username, embedded.fingerprint),
        SftpCredentials(password="let me in"),
        embedded.root,
        "/",
    )


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[FaultySftp]:
    with FaultySftp(tmp_path / "served") as server:
        yield server


@pytest.fixture
def faulty_served(faulty: FaultySftp) -> Served:
    """The connector's view of the server whose faults the test sets."""
    return Served(
        settings_for(faulty.host, faulty.port, faulty.username, faulty.fingerprint),
        SftpCredentials(password=faulty.password),
        faulty.root,
        "/",
    )
