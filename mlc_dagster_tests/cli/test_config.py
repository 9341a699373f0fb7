"""``mlc init`` and ``mlc config``: every fault is told, with its key and what to do, and no secret is ever shown."""

import datetime as dt
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


def test_check_reads_the_files_and_keys_of_fusion(tmp_path: Path) -> None:
    """A bundle that is missing would fail every request of the first run."""
    path = written(tmp_path, ("  # ca_bundle: company-ca.pem", "  ca_bundle: company-ca.pem"))
    result = run_mlc("--config", path, "config", "check", env=SECRETS)
    assert result.exit_code == 2
    assert f"fusion.ca_bundle: {tmp_path / 'company-ca.pem'} cannot be read" in result.stderr


def test_check_shows_no_secret(tmp_path: Path) -> None:
    """The output of a check is what people paste into a ticket."""
    path = written(tmp_path, ("example.fa.us2", "example.fa.us6"))
    for form in ([], ["--json"]):
        result = run_mlc("--config", path, "config", "check", *form, env=SECRETS)
        assert result.exit_code == 0
        assert "env:FUSION_CLIENT_SECRET" in result.output
        assert not any(secret in result.output for secret in SECRETS.values())


def test_check_shows_no_password_of_the_ledger(tmp_path: Path) -> None:
    """As a parameter the driver takes it, and no rendering of the address would mask it."""
    wrong = '  url: "postgresql+psycopg://mlc@db/mlc?password=hunter2-ledger"'
    path = written(tmp_path, ("# ledger:\n#   url_secret: env:LEDGER_URL ", f"ledger:\n{wrong} "))
    for form in ([], ["--json"]):
        result = run_mlc("--config", path, "config", "check", *form, env=SECRETS)
        assert result.exit_code == 2
        assert "ledger.url: has a password in it" in result.stderr
        assert "hunter2" not in result.output


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


CALENDAR = """
time_zone: Europe/Berlin
periods: [{{name: Nov-26, start: {start}, end: {end}}}]
around_close: {{from_working_day: -2, to_working_day: 5, cron: "0 * * * *"}}
otherwise: {{cron: "0 6 * * *"}}
"""


def with_feed(folder: Path, schedule: str) -> Path:
    """The starter file with one feed; its secret is in the environment."""
    path = written(folder)
    feed = f"""
exports:
  - name: gl
    source: journals
    ledgers: [US Primary Ledger]
    layout: journals_csv
    schedule: {schedule}
    sftp: {{host: h.example, username: u, password: "env:STAMPLI_PASSWORD", host_key: "{PIN}", directory: /in}}
"""
    text = path.read_text(encoding="utf-8")
    assert "\nexports:" not in text
    path.write_text(text + feed, encoding="utf-8")
    return path


def test_check_says_when_a_feed_comes_next(tmp_path: Path) -> None:
    """`0 6 1 * *` is easily written where `0 6 * * 1` was meant."""
    result = run_mlc("--config", with_feed(tmp_path, "'0 6 * * *'"), "config", "check", "--json", env=SECRETS)
    assert result.exit_code == 0
    assert json_of(result)["feed gl"].endswith(" 06:00 UTC")


@pytest.mark.parametrize(("days", "told"), [(20, "ends in 20 days"), (-3, "has ended"), (90, None)])
def test_check_warns_of_a_calendar_that_ends(tmp_path: Path, days: int, told: str | None) -> None:
    """Nobody notices otherwise that the next close has no hourly files. It can still be used."""
    last = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=days)
    calendar = CALENDAR.format(start=last - dt.timedelta(days=29), end=last)
    (tmp_path / "close.yaml").write_text(calendar, encoding="utf-8")
    result = run_mlc("--config", with_feed(tmp_path, "{calendar: close.yaml}"), "config", "check", env=SECRETS)
    assert result.exit_code == 0, result.stderr
    assert ("warning" in result.stderr) is (told is not None)
    assert told is None or f"calendar close.yaml {told}" in result.stderr
