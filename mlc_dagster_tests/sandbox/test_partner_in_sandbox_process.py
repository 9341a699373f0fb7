"""The partner's side of a running sandbox process: an account of their own, a server that goes down for one upload."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import paramiko
import pytest


@pytest.fixture
def served(tmp_path: Path) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "mlc_dagster.sandbox.run", str(tmp_path / "box"), "--until-stdin-closes"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(20)


def put(addresses: dict[str, Any], path: str, content: bytes) -> list[str]:
    """Logs in as the partner's counterpart, puts a file there and gives what is in ``inbound`` then."""
    password = (Path(addresses["config"]).parent / "secrets" / "partner_password").read_text("utf-8").strip()
    transport = paramiko.Transport(
        socket.create_connection((addresses["sftp_host"], addresses["sftp_port"]), timeout=10)
    )
    try:
        transport.connect(username=addresses["partner_username"], password=password)
        client = transport.open_sftp_client()
        assert client is not None
        with client.open(path, "wx") as remote:
            remote.write(content)
        return client.listdir("/inbound")
    finally:
        transport.close()


def test_a_file_arrives_once_although_the_server_went_down(served: dict[str, Any]) -> None:
    """What a demonstration shows, driven from outside of the process."""
    root = Path(served["partner_root"])
    assert sorted(path.name for path in root.iterdir()) == ["acks", "inbound"]
    faults = f"{served['admin_url']}/sftp/faults"
    assert httpx.post(faults, json={"kind": "down", "count": 1, "username": "partner"}).status_code == 200
    with pytest.raises((OSError, EOFError, paramiko.SSHException)):
        put(served, "/inbound/journals.csv", b"a;b\n")
    assert list((root / "inbound").iterdir()) == []
    assert put(served, "/inbound/journals.csv", b"a;b\n") == ["journals.csv"]
    assert (root / "inbound" / "journals.csv").read_bytes() == b"a;b\n"
    assert [fault["fired"] for fault in httpx.get(faults).json()["faults"]] == [1]
