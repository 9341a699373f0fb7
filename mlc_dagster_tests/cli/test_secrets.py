"""``mlc secrets``: values never come from or go to where others can read them, and every change is on record."""

import os
import pty
import sqlite3
import sys
from pathlib import Path

import pytest

from mlc_dagster_tests.cli.conftest import json_of, run_mlc
from mlc_dagster_tests.cli.test_config import SECRETS, written

SECRET = "hunter2-canary"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """mlc.yaml whose Fusion secret is in the store."""
    return written(tmp_path, ("client_secret: env:FUSION_CLIENT_SECRET", "client_secret: store:fusion/client_secret"))


@pytest.fixture
def ready(config: Path) -> Path:
    """The same, with a key and the secret."""
    assert run_mlc("--config", config, "secrets", "init").exit_code == 0
    assert run_mlc("--config", config, "secrets", "set", "fusion/client_secret", input=f"{SECRET}\n").exit_code == 0
    return config


def events(config: Path) -> list[tuple[str, str]]:
    """Kind and subject of every event of secrets in the audit trail."""
    connection = sqlite3.connect(config.parent / ".mlc" / "ledger.sqlite")
    found = connection.execute(
        "select kind, subject from audit_event where kind like 'secret.%' order by id"
    ).fetchall()
    connection.close()
    return found


def test_piped_secret_is_what_mlc_yaml_gets(ready: Path) -> None:
    """One trailing newline is the shell's; everything else belongs to the secret."""
    result = run_mlc("--config", ready, "config", "check", env=SECRETS)
    assert (result.exit_code, result.stderr) == (0, "")
    assert SECRET not in result.output


def test_init_says_where_the_key_is_and_never_makes_a_second(ready: Path) -> None:
    """The key is the one thing that no backup of the data folder holds."""
    again = run_mlc("--config", ready, "secrets", "init")
    assert again.exit_code == 2
    assert f"{ready.parent}/mlc.keys exists; it is kept" in again.stderr


def test_init_does_not_orphan_what_is_there(ready: Path) -> None:
    """A lost key file is brought back, not replaced: the new key could not open a single secret."""
    (ready.parent / "mlc.keys").unlink()
    refused = run_mlc("--config", ready, "secrets", "init")
    assert refused.exit_code == 2
    assert "bring the lost" in refused.stderr
    assert run_mlc("--config", ready, "secrets", "init", "--start-over").exit_code == 0
    listed = run_mlc("--config", ready, "secrets", "list")
    assert listed.exit_code == 1
    assert "needs re-entry" in listed.stdout


def test_key_for_the_environment_is_printed_only_when_asked(config: Path) -> None:
    """Containers take keys from their platform; nothing is written then."""
    key = run_mlc("--config", config, "secrets", "init", "--stdout").stdout.strip()
    assert not (config.parent / "mlc.keys").exists()
    put = run_mlc("--config", config, "secrets", "set", "x", input="hunter2", env={"MLC_SECRET_KEYS": key})
    assert put.exit_code == 0
    assert run_mlc("--config", config, "secrets", "list", env={"MLC_SECRET_KEYS": key}).exit_code == 0


def test_no_key_refuses_before_anybody_types(config: Path) -> None:
    """Every command says the same: how to make a key. None makes one."""
    for arguments in (("set", "x"), ("list",), ("rotate",)):
        result = run_mlc("--config", config, "secrets", *arguments, input="hunter2")
        assert result.exit_code == 2
        assert "mlc secrets init" in result.stderr
    assert not (config.parent / "mlc.keys").exists()


def test_value_as_an_argument_is_refused_and_not_repeated(ready: Path) -> None:
    """The command line is in the shell's history and in every process list; the value is spoilt."""
    result = run_mlc("--config", ready, "secrets", "set", "x", "hunter2-spoilt")
    assert result.exit_code == 2
    assert "never given as an argument" in result.stderr
    assert "hunter2-spoilt" not in result.output + result.stderr


def test_short_value_is_refused(ready: Path) -> None:
    """It could not be masked in logs."""
    result = run_mlc("--config", ready, "secrets", "set", "x", input="abc\n")
    assert result.exit_code == 2
    assert "fewer than 4 characters" in result.stderr


def test_typed_value_is_asked_for_twice_and_not_shown(ready: Path) -> None:
    """A real terminal: what is typed does not appear on it."""
    program = [sys.executable, "-m", "mlc_dagster.cli", "--config", str(ready), "secrets", "set", "typed"]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, program)  # noqa: S606
    shown = b""
    for question in (1, 2):
        # The terminal forgets what was typed before the question.
        while shown.count(b": ") < question:
            shown += os.read(terminal, 1024)
        os.write(terminal, b"hunter2-typed\n")
    try:
        while block := os.read(terminal, 1024):
            shown += block
    except OSError:  # Linux's way to say that the other side has ended.
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    text = shown.decode()
    assert "store:typed is set" in text
    assert "hunter2" not in text
    assert [entry["name"] for entry in json_list(ready)] == ["fusion/client_secret", "typed"]


def json_list(config: Path) -> list[dict[str, object]]:
    """What `mlc secrets list --json` prints."""
    return list(json_of(run_mlc("--config", config, "secrets", "list", "--json")))  # type: ignore[arg-type]


def test_list_shows_who_and_when_and_no_value(ready: Path) -> None:
    """What an auditor asks for, and nothing that an attacker does."""
    result = run_mlc("--config", ready, "secrets", "list")
    assert result.exit_code == 0
    assert "fusion/client_secret" in result.stdout
    assert "(mlc)" in result.stdout
    assert SECRET not in result.stdout
    [entry] = json_list(ready)
    assert set(entry) == {"name", "key_id", "changed_at", "changed_by", "fault"}


def test_check_tells_every_reference(ready: Path) -> None:
    """Before the first run of the night, not in it; all faults at once, no value."""
    result = run_mlc("--config", ready, "secrets", "check", env={"STAMPLI_PASSWORD": None})
    assert result.exit_code == 2
    assert "store:fusion/client_secret" in result.stdout
    assert "environment variable STAMPLI_PASSWORD is not set" in result.stdout
    good = run_mlc("--config", ready, "secrets", "check", "--json", env=SECRETS)
    assert good.exit_code == 0
    assert [one["fault"] for one in list(json_of(good))] == [None, None]  # type: ignore[call-overload]
    assert SECRET not in good.stdout + result.stdout


def test_remove_asks_and_says_who_needs_it(ready: Path) -> None:
    """A secret that a feed still uses is not forgotten by a slip."""
    kept = run_mlc("--config", ready, "secrets", "remove", "fusion/client_secret", input="n\n")
    assert kept.exit_code == 1
    assert "It is used by fusion.client_secret." in kept.output
    assert run_mlc("--config", ready, "secrets", "remove", "fusion/client_secret", "--yes").exit_code == 0
    assert run_mlc("--config", ready, "secrets", "check", env=SECRETS).exit_code == 2
    assert run_mlc("--config", ready, "secrets", "remove", "fusion/client_secret", "--yes").exit_code == 2


def test_every_change_is_in_the_audit_trail_without_a_value(ready: Path) -> None:
    """Names, keys, who and when; the trail is shown to more people than the secrets."""
    assert run_mlc("--config", ready, "secrets", "rotate", "--drop-old").exit_code == 0
    assert run_mlc("--config", ready, "secrets", "remove", "fusion/client_secret", "--yes").exit_code == 0
    assert events(ready) == [
        ("secret.set", "store:fusion/client_secret"),
        ("secret.keys_rotated", "keys"),
        ("secret.removed", "store:fusion/client_secret"),
    ]
    for path in (ready.parent / ".mlc").iterdir():
        assert SECRET.encode() not in path.read_bytes()


def test_change_is_kept_for_an_audit_trail_that_cannot_be_reached(tmp_path: Path) -> None:
    """The ledger's own address may be the secret that is being set."""
    config = written(tmp_path, ("# ledger:", "ledger: {url_secret: store:ledger}\n# ledger:"))
    run_mlc("--config", config, "secrets", "init")
    first = run_mlc("--config", config, "secrets", "set", "other", input="hunter2")
    assert first.exit_code == 0
    assert "audit trail could not be told yet" in first.stderr
    address = f"sqlite:///{tmp_path / '.mlc' / 'ledger.sqlite'}"
    second = run_mlc("--config", config, "secrets", "set", "ledger", input=address)
    assert (second.exit_code, second.stderr) == (0, "")
    assert events(config) == [("secret.set", "store:other"), ("secret.set", "store:ledger")]


def test_rotate_tells_what_needs_re_entry(ready: Path) -> None:
    """The rest is moved; the exit code makes a scheduled rotation notice."""
    connection = sqlite3.connect(ready.parent / ".mlc" / "secrets.sqlite")
    with connection:
        connection.execute("update secret set sealed = x'00'")
    connection.close()
    result = run_mlc("--config", ready, "secrets", "rotate", "--json")
    assert result.exit_code == 1
    assert "store:fusion/client_secret: needs re-entry" in result.stderr
    assert json_of(result)["moved"] == 0
