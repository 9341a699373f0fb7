"""A partner whose folder lies behind a real sshd. Tests that need other ledgers have fixtures of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_dagster.sftp import SftpCredentials
from mlc_dagster_tests.servers.partner import Partner, partner
from mlc_dagster_tests.servers.sshd import RealSshd
from mlc_dagster_tests.sftp.conftest import settings_for


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSshd]:
    with RealSshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def acme(sshd: RealSshd, tmp_path: Path) -> Iterator[Partner]:
    root = tmp_path / "inbound"
    sftp = settings_for(sshd.host, sshd.port, sshd.username, sshd.fingerprint)
    sftp = sftp.model_copy(update={"directory": str(root)})
    with partner(tmp_path, root, sftp, SftpCredentials(private_key=sshd.private_key)) as found:
        yield found
