"""What surrounds the code: the two Dagster instances, the workspace, the commands and the rules of the house."""

import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from mlc_dagster_tests.servers.postgres import PostgresServer

ROOT = Path(__file__).resolve().parent.parent
SQLITE = ROOT / "dagster.yaml"
POSTGRES = ROOT / "deploy" / "postgres" / "dagster.yaml"


def read_yaml(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@contextmanager
def booted(config: Path, home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance that ``config`` describes, with its storage opened, as `dagster dev` would do it."""
    (home / "dagster.yaml").write_text(config.read_text(encoding="utf-8"))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@pytest.fixture
def postgres_environment(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The variables that deploy/postgres/dagster.yaml reads, set to a new database."""
    database = postgres_server.create_database()
    for name, value in {
        "HOST": "127.0.0.1",
        "PORT": str(postgres_server.port),
        "USERNAME": "postgres",
        "PASSWORD": "any",
        "DB": database,
    }.items():
        monkeypatch.setenv(f"DAGSTER_PG_{name}", value)
    yield
    postgres_server.drop_database(database)


def test_the_two_instances_differ_in_storage_alone() -> None:
    """What is rehearsed on SQLite must hold on PostgreSQL: one forgotten line is a run that hangs for ever there."""
    sqlite, postgres = read_yaml(SQLITE), read_yaml(POSTGRES)
    assert set(postgres) - set(sqlite) == {"storage"}
    postgres.pop("storage")
    assert postgres == sqlite


def test_sqlite_instance_boots(tmp_path: Path) -> None:
    """A fresh clone works with no database server; a key that Dagster does not know would stop it here."""
    with booted(SQLITE, tmp_path) as instance:
        assert instance.get_runs_count() == 0
        assert instance.telemetry_enabled is False
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_runtime_seconds > 0
        assert instance.get_settings("run_monitoring")["free_slots_after_run_end_seconds"] == 60
        assert instance.run_retries_enabled
        assert not instance.run_retries_retry_on_asset_or_op_failure
    assert (tmp_path / "history").is_dir()


@pytest.mark.usefixtures("postgres_environment")
def test_postgres_instance_boots(tmp_path: Path) -> None:
    """SQLAlchemy 2.1 looks for another driver than dagster-postgres brings, unless the scheme is spelt out."""
    with booted(POSTGRES, tmp_path) as instance:
        assert instance.get_runs_count() == 0
        assert type(instance.run_storage).__name__ == "PostgresRunStorage"
        assert type(instance.event_log_storage).__name__ == "PostgresEventLogStorage"


@pytest.mark.usefixtures("postgres_environment")
def test_no_password_is_written_in_the_postgres_instance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file is committed; every part of the address comes from the environment."""
    monkeypatch.delenv("DAGSTER_PG_PASSWORD")
    with pytest.raises(Exception, match="DAGSTER_PG_PASSWORD"), booted(POSTGRES, tmp_path):
        pass


def test_workspace_has_the_one_code_location() -> None:
    """The name `mlc` is in bookmarks, alerts and saved filters of the UI."""
    [location] = read_yaml(ROOT / "workspace.yaml")["load_from"]
    assert location == {"python_module": {"module_name": "mlc_dagster.definitions", "location_name": "mlc"}}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["dg"]["project"]
    assert project["code_location_target_module"] == location["python_module"]["module_name"]
    assert project["code_location_name"] == location["python_module"]["location_name"]


def test_ci_calls_make_test_and_nothing_else() -> None:
    """What CI proves is what a developer can prove with the same command."""
    script = ROOT / ".ci" / "run"
    lines = [line for line in script.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert lines == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "make test"]
    assert script.stat().st_mode & stat.S_IXUSR


def test_setup_names_the_package_that_debian_leaves_out(tmp_path: Path) -> None:
    """Debian's Python has no ensurepip; its own message is three screens, ours is the command."""
    bare = tmp_path / "python3"
    bare.write_text(f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    bare.chmod(0o755)
    setup = ["sh", str(ROOT / "scripts" / "setup.sh"), str(bare), str(tmp_path / "venv")]
    result = subprocess.run(setup, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.strip().endswith("run: apt-get install python3-venv")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "venv").exists()


def test_setup_refuses_an_old_python(tmp_path: Path) -> None:
    """An older Python fails in the middle of an import, which tells nobody what to do."""
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    setup = ["sh", str(ROOT / "scripts" / "setup.sh"), str(old), str(tmp_path / "venv")]
    result = subprocess.run(setup, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "is Python 3.9.2, and 3.11 or newer is needed; name another: make PYTHON=" in result.stderr


def test_every_ignored_lint_rule_has_its_reason() -> None:
    """A rule that is switched off without a reason is never switched on again."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("[tool.ruff.lint]\n")[1].split("\nignore = [\n")[1].split("\n]\n")[0]
    lines = [line.strip() for line in block.splitlines()]
    unexplained = [
        line for before, line in zip(["", *lines], lines, strict=False) if line[0] == '"' and before[:1] != "#"
    ]
    assert lines
    assert unexplained == []
