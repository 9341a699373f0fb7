"""Connecting to an account of mlc.yaml: refused connections are tried again, refused logins never."""

from pathlib import Path

import pytest

from mlc_dagster.sftp import LoginRefused, Unreachable
from mlc_dagster.sftp.account import open_account
from mlc_dagster.vault import SecretResolver
from mlc_dagster_tests.servers.faulty_sftp import FaultySftp
from mlc_dagster_tests.servers.forwarder import Forwarder
from mlc_dagster_tests.sftp.conftest import settings_for


def test_a_refused_connection_is_tried_again(tmp_path: Path) -> None:
    """A busy OpenSSH drops connections at random; each pause is longer than the one before could be short."""
    slept: list[float] = []
    with FaultySftp(tmp_path / "served") as server, Forwarder(server.port) as line:
        settings = settings_for(server.host, line.port, server.username, server.fingerprint)
        settings = settings.model_copy(update={"password": "env:PASSWORD"})
        line.refuse()

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 2:
                line.accept()

        with open_account(settings, SecretResolver({"PASSWORD": server.password}, tmp_path), sleep=sleep) as session:
            assert session.server_key == server.fingerprint
    assert 0.2 <= slept[0] <= 1.0
    assert 0.4 <= slept[1] <= 2.0


def test_it_gives_up_after_three(tmp_path: Path) -> None:
    """The delivery has patience of its own."""
    slept: list[float] = []
    with FaultySftp(tmp_path / "served") as server, Forwarder(server.port) as line:
        settings = settings_for(server.host, line.port, server.username, server.fingerprint)
        settings = settings.model_copy(update={"password": "env:PASSWORD"})
        line.refuse()
        secrets = SecretResolver({"PASSWORD": server.password}, tmp_path)
        with pytest.raises(Unreachable), open_account(settings, secrets, sleep=slept.append):
            pass
    assert len(slept) == 2


def test_a_refused_login_is_not(tmp_path: Path) -> None:
    """Repeated bad logins lock a bank's account."""
    slept: list[float] = []
    with FaultySftp(tmp_path / "served") as server:
        settings = settings_for(server.host, server.port, server.username, server.fingerprint)
        settings = settings.model_copy(update={"password": "env:PASSWORD"})
        secrets = SecretResolver({"PASSWORD": "wrong"}, tmp_path)
        with pytest.raises(LoginRefused), open_account(settings, secrets, sleep=slept.append):
            pass
        assert len(server.logins) == 1
    assert slept == []
