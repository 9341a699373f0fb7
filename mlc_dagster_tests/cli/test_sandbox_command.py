"""``mlc sandbox`` and ``mlc dev`` as processes: what they write, that they stop, and that the books outlive them."""

import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from mlc_dagster.settings_file import load_settings
from mlc_dagster_tests.cli.conftest import run_mlc

MLC = [sys.executable, "-m", "mlc_dagster.cli"]


def posted(url: str, body: bytes) -> int:
    """Status of the answer to a POST."""
    return httpx.post(url, content=body, timeout=10).status_code


@contextmanager
def sandbox(folder: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """`mlc sandbox` until the block ends; the process and the addresses it wrote."""
    command = [*MLC, "sandbox", "--dir", str(folder), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 60)
        assert ready, "the sandbox said nothing within a minute"
        assert process.stdout.readline().startswith("Sandbox ready")
        yield process, json.loads((folder / "addresses.json").read_text(encoding="utf-8"))
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


def test_a_sandbox_writes_what_its_user_needs(tmp_path: Path) -> None:
    """The configuration parses, pins the host key, and keeps the secrets in files of their owner alone."""
    with sandbox(tmp_path / "box") as (_, addresses):
        settings = load_settings(tmp_path / "box" / "mlc.yaml")
        assert settings.fusion.base_url == addresses["base_url"]
        assert settings.stampli is not None
        assert settings.stampli.sftp.host_keys == [addresses["sftp_host_key"]]
        assert run_mlc("--config", tmp_path / "box" / "mlc.yaml", "config", "check").exit_code == 0
    for secret in (tmp_path / "box" / "secrets").iterdir():
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert secret.read_text(encoding="utf-8").strip() not in json.dumps(addresses)


def test_a_sandbox_comes_back_as_it_was(tmp_path: Path) -> None:
    """Ports, keys, secrets, edits of mlc.yaml and Fusion's books stay: a rehearsal goes on the next day."""
    folder = tmp_path / "box"
    with sandbox(folder, "--suppliers", "30") as (_, first):
        body = json.dumps({"number": "40000", "name": "Later Ltd"}).encode()
        assert posted(f"{first['admin_url']}/suppliers", body) == 200
    config = folder / "mlc.yaml"
    config.write_text(
        config.read_text(encoding="utf-8").replace("settle_seconds: 2", "settle_seconds: 3"), encoding="utf-8"
    )
    with sandbox(folder) as (_, second):
        assert posted(f"{second['admin_url']}/suppliers", body) == 400
    kept = ("base_url", "sftp_port", "sftp_host_key")
    assert [second[name] for name in kept] == [first[name] for name in kept]
    settings = load_settings(config)
    assert settings.stampli is not None
    assert settings.stampli.settle_seconds == 3


def test_new_ports_reach_the_configuration(tmp_path: Path) -> None:
    """A configuration that points at yesterday's port would look like a server that is down."""
    folder = tmp_path / "box"
    with sandbox(folder):
        pass
    with sandbox(folder, "--fusion-port", "0", "--sftp-port", "0") as (_, addresses):
        settings = load_settings(folder / "mlc.yaml")
    assert settings.fusion.base_url == addresses["base_url"]
    assert settings.fusion.token_url.startswith(addresses["base_url"])
    assert settings.stampli is not None
    assert settings.stampli.sftp.port == addresses["sftp_port"]


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    """The usual cause is a second start of the same sandbox; the line says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_mlc("sandbox", "--dir", tmp_path / "box", "--fusion-port", port)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "is this sandbox running already?" in result.stderr


def test_a_fault_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    """A rehearsal of a fault that never strikes proves nothing."""
    faults = tmp_path / "faults.yaml"
    faults.write_text("faults: [{kind: earthquake}]\n", encoding="utf-8")
    result = run_mlc("sandbox", "--dir", tmp_path / "box", "--faults", faults)
    assert result.exit_code == 2
    assert "'earthquake' is not one of" in result.stderr


def test_faults_strike_from_the_start(tmp_path: Path) -> None:
    """The file is what a user rehearses a bad day with."""
    faults = tmp_path / "faults.yaml"
    faults.write_text("faults: [{kind: token_down, status: 503}]\n", encoding="utf-8")
    with sandbox(tmp_path / "box", "--faults", str(faults)) as (_, addresses):
        assert posted(addresses["token_url"], b"grant_type=client_credentials") == 503


def test_drop_needs_a_sandbox(tmp_path: Path) -> None:
    """A file in a folder that nobody serves is a file nobody reads."""
    result = run_mlc("sandbox", "drop", "--dir", tmp_path / "none")
    assert result.exit_code == 2
    assert "mlc sandbox --dir" in result.stderr


def test_ctrl_c_ends_a_sandbox_with_code_0(tmp_path: Path) -> None:
    """Ctrl-C is how it is meant to end."""
    with sandbox(tmp_path / "box") as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_a_killed_command_leaves_no_sandbox_behind(tmp_path: Path) -> None:
    """`kill -9` of a demonstration runs no clean-up; the sandbox must notice by itself that nobody needs it."""
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from mlc_dagster.cli.sandbox_process import running_sandbox\n"
        "with running_sandbox(Path(sys.argv[1])) as sandbox:\n"
        "    print(sandbox.addresses['pid'], flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = os.pidfd_open(int(process.stdout.readline()))
    process.kill()
    process.wait(10)
    process.stdout.close()
    # A pidfd becomes readable when its process ends.
    ended, _, _ = select.select([child], [], [], 30)
    os.close(child)
    assert ended


def answers(url: str) -> bool:
    """Whether a server is there."""
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def test_dev_serves_the_ui_and_stops_everything(tmp_path: Path) -> None:
    """One Ctrl-C and nothing is left that holds a port or polls on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [*MLC, "dev", "--dir", str(tmp_path / "box"), "--port", str(port)]
    with (tmp_path / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 90
        while not answers(f"http://127.0.0.1:{port}/server_info") and time.monotonic() < deadline:
            assert process.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")
        assert answers(f"http://127.0.0.1:{port}/server_info")
        assert len(list((tmp_path / "box" / "stampli" / "outbound").iterdir())) == 9
        assert (tmp_path / "box" / "dagster" / "dagster.yaml").read_text("utf-8").count("run_monitoring") == 1
        addresses = json.loads((tmp_path / "box" / "addresses.json").read_text(encoding="utf-8"))
    finally:
        process.send_signal(signal.SIGINT)
        ended = process.wait(60)
    assert ended == 0, (tmp_path / "log").read_text(encoding="utf-8")
    assert not answers(f"{addresses['admin_url']}/books")
    assert not answers(f"http://127.0.0.1:{port}/server_info")
    left = [
        command
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and str(tmp_path / "box") in (command := command_of(entry))
    ]
    assert left == []


def command_of(process: Path) -> str:
    """Command line of a process and its environment, as far as they can be read."""
    text = b""
    for name in ("cmdline", "environ"):
        try:
            text += (process / name).read_bytes()
        except OSError:
            continue
    return os.fsdecode(text)
