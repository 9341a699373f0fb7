"""``mlc init`` and ``mlc config``: every fault is told, with its key and what to do, and no secret is ever shown."""

from pathlib import Path

import pytest

from mlc_dagster.cli.config import DURATION, starter
from mlc_dagster.settings_file import parse_settings
from mlc_dagster_tests.cli.conftest import Polled, json_of, run_mlc

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {"FUSION_CLIENT_SECRET": "hunter2-fusion", "STAMPLI_PASSWORD": "hunter2-stampli"}
PIN = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def written(folder: Path, *changes: tuple[str, str]) -> Path:
    """The starter file with these changes."""
    text = starter()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path = folder / "mlc.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_starter_is_a_configuration_that_parses(tmp_path: Path) -> None:
    """The first thing a user gets must not be refused by the second thing they run."""
    settings = parse_settings(starter(), source="starter", root=tmp_path, environ={})
    assert settings.stampli is not None
    assert set(settings.stampli.companies) == {"C100"}


def test_the_example_is_the_starter() -> None:
    """Two versions of the same comments would drift apart."""
    assert (ROOT / "examples" / "mlc.yaml").read_text(encoding="utf-8") == starter()


def test_the_example_crosswalks_can_be_used(tmp_path: Path) -> None:
    """What people copy must load."""
    lines = ("crosswalks", "vendors", "accounts", "cost_centers")
    path = written(
        tmp_path,
        *(
            (f"  # {'  ' * (name != 'crosswalks')}{name}:", f"  {'  ' * (name != 'crosswalks')}{name}:")
            for name in lines
        ),
    )
    (tmp_path / "crosswalks").symlink_to(ROOT / "examples" / "crosswalks")
    result = run_mlc("--config", path, "config", "check", env=SECRETS)
    assert (result.exit_code, result.stderr) == (0, "")


def test_init_refuses_to_overwrite(tmp_path: Path) -> None:
    """A second `mlc init` in the wrong folder must not cost anybody their configuration."""
    path = tmp_path / "mlc.yaml"
    assert run_mlc("init", path).exit_code == 0
    path.write_text("mine", encoding="utf-8")
    again = run_mlc("init", path)
    assert again.exit_code == 2
    assert again.stderr == f"mlc: {path}: exists already and is not overwritten; name another file or move it away\n"
    assert path.read_text(encoding="utf-8") == "mine"


def test_check_lists_every_fault(tmp_path: Path) -> None:
    """A person who fixes one fault per run gives up; all of them are told at once, each with its key."""
    path = written(
        tmp_path,
        (PIN, "SHA256:nonsense"),
        ("profile: stampli_lines_v1", "profile: no_such_profile"),
        ("101-{cost_center:0000}-{account}", "{cost_center:0000}-{account}"),
        ("# crosswalks:", "crosswalks: {vendors: missing.csv}"),
    )
    result = run_mlc("--config", path, "config", "check", env={"FUSION_CLIENT_SECRET": "hunter2-fusion"})
    faults = [line.removeprefix(f"mlc: {path}: ").partition(": ")[0] for line in result.stderr.splitlines()]
    assert result.exit_code == 2
    assert faults == [
        "stampli.sftp.password",
        "stampli.profile",
        "stampli.crosswalks",
        "stampli.sftp.host_key",
        "stampli.companies.C100",
    ]


def test_check_shows_no_secret(tmp_path: Path) -> None:
    """The output of a check is what people paste into a ticket."""
    path = written(tmp_path, ("example.fa.us2", "example.fa.us6"))
    for form in ([], ["--json"]):
        result = run_mlc("--config", path, "config", "check", *form, env=SECRETS)
        assert result.exit_code == 0
        assert "env:FUSION_CLIENT_SECRET" in result.output
        assert not any(secret in result.output for secret in SECRETS.values())


def test_check_names_the_nearest_key(tmp_path: Path) -> None:
    """A misspelt key that is ignored silently is a setting somebody believes to be on."""
    path = written(tmp_path, ("settle_seconds:", "settle_second:"))
    result = run_mlc("--config", path, "config", "check", env=SECRETS)
    assert result.exit_code == 2
    assert "stampli.settle_second: unknown key; did you mean 'settle_seconds'?" in result.stderr


def test_check_of_the_sandbox_configuration(polled: Polled) -> None:
    """What `mlc sandbox` writes passes the product's own check."""
    result = run_mlc("--config", polled.config, "config", "check", "--json")
    assert result.exit_code == 0
    assert json_of(result)["faults"] == []


def test_no_configuration_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run of a newcomer ends in a sentence, not in a traceback."""
    monkeypatch.chdir(tmp_path)
    result = run_mlc("files", "list")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"mlc: no mlc.yaml in {tmp_path} and MLC_CONFIG is not set; ")
    assert "mlc init" in result.stderr
    assert "mlc demo" in result.stderr


def test_a_configuration_that_is_named_and_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLC_CONFIG that points nowhere must not fall back to another tenant's file in the working directory."""
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = run_mlc("config", "check", env=SECRETS | {"MLC_CONFIG": "elsewhere.yaml"})
    assert result.exit_code == 2
    assert result.stderr == "mlc: elsewhere.yaml: no such file; write one with `mlc init`\n"


def test_the_nearest_config_option_counts(tmp_path: Path) -> None:
    """`mlc --config A … --config B` means B, and both beat MLC_CONFIG."""
    path = written(tmp_path)
    environment = SECRETS | {"MLC_CONFIG": str(tmp_path / "none.yaml")}
    nearest = run_mlc("--config", tmp_path / "neither.yaml", "config", "check", "--config", path, env=environment)
    before = run_mlc("--config", path, "config", "check", env=environment)
    assert (nearest.exit_code, before.exit_code) == (0, 0)


def test_the_schema_allows_what_people_write() -> None:
    """An editor that marks `60s` and `2026-12-01` as wrong would teach people to switch the schema off."""
    schema = json_of(run_mlc("config", "schema"))
    timeout = schema["$defs"]["FusionSettings"]["properties"]["request_timeout"]
    assert {"type": "string", "pattern": DURATION} in timeout["anyOf"]
    assert {"type": "string", "format": "date"} in schema["$defs"]["PollSettings"]["properties"]["start"]["anyOf"]
    assert schema["additionalProperties"] is False
