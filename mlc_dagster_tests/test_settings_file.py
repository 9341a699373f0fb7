"""Reading mlc.yaml: keys, variables and YAML's traps; what is wrong is named by its key, before anything runs."""

from pathlib import Path

import pytest

from mlc_dagster.settings import SettingsError
from mlc_dagster.settings_file import find_settings_file, load_settings, parse_settings
from mlc_dagster_tests.settings.configuration import MINIMAL, problems, settings


@pytest.mark.parametrize(
    ("key", "valid"),
    [
        ("stamply", "stampli"),
        ("fusion.base_ulr", "base_url"),
        ("fusion.charts.US1.natural_acount", "natural_account"),
        ("stampli.sftp.pasword", "password"),
        ("stampli.companies.C100.busines_unit", "business_unit"),
        ("stampli.crosswalks.vendor", "vendors"),
        ("poll.corn", "cron"),
        ("ledger.ulr", "url"),
    ],
)
def test_unknown_key_names_the_nearest_valid_one(key: str, valid: str) -> None:
    """A misspelt key that is silently ignored leaves the default in force, and nobody knows."""
    assert problems({key: "x"}) == [f"{key}: unknown key; did you mean {valid!r}?"]


def test_unknown_key_like_nothing_lists_the_valid_ones() -> None:
    """With no near name, the list is what the person would look up next."""
    [problem] = problems({"poll.zzz": 1})
    assert problem == "poll.zzz: unknown key; valid here: cron, start"


@pytest.mark.parametrize("key", ["root", "sandbox"])
def test_fields_that_the_program_fills_cannot_be_set_in_the_file(key: str) -> None:
    """`sandbox: true` in a production file would switch the sensors off."""
    assert problems({key: True}) == [f"{key}: unknown key; it cannot be set in the file"]


def test_key_written_twice_is_an_error() -> None:
    """YAML drops the first silently: of two companies with one id, one would be booked by the other's rules."""
    with pytest.raises(SettingsError, match=r"line 3, column 1: is not YAML: the key 'poll' is there twice"):
        parse_settings("poll: {}\nfusion: {}\npoll: {}\n", source="mlc.yaml", root=Path())


def test_anchors_and_merge_keys_work() -> None:
    """Ten companies that differ in one line are written with a YAML anchor."""
    text = MINIMAL.replace("    C100:", "    C100: &base").replace(
        "poll:", "    C200: {<<: *base, business_unit: US2 Business Unit}\npoll:"
    )
    read = parse_settings(text, source="mlc.yaml", root=Path(), environ={})
    assert read.stampli is not None
    assert read.stampli.companies["C200"].business_unit == "US2 Business Unit"
    assert read.stampli.companies["C200"].chart == "US1"


def test_environment_variables_are_filled_in_everywhere() -> None:
    """One image serves several stages; hosts and names come from the environment."""
    read = settings(
        {"fusion.base_url": "https://${POD}.example.com", "stampli.sftp.host_key": ["SHA256:${PIN}"]},
        {"POD": "test-pod", "PIN": "abc"},
    )
    assert read.fusion.base_url == "https://test-pod.example.com"
    assert read.stampli is not None
    assert read.stampli.sftp.host_keys == ["SHA256:abc"]


def test_unset_environment_variable_is_named_with_its_key() -> None:
    """An empty host name would fail much later, somewhere else."""
    assert problems({"stampli.sftp.host_key": ["${PIN}"]}) == [
        "stampli.sftp.host_key[0]: environment variable PIN is not set; set it or write the value"
    ]


def test_line_of_broken_yaml_is_not_quoted() -> None:
    """YAML's own message shows the line, which may be the one with a password."""
    with pytest.raises(SettingsError) as caught:
        parse_settings("fusion:\n  client_secret: hunter2: 3\n", source="mlc.yaml", root=Path())
    assert "line 2" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "5", "[1, 2]", "a: ["])
def test_what_is_not_a_mapping_is_refused(text: str) -> None:
    """An empty file is what a failed template leaves behind."""
    with pytest.raises(SettingsError, match=r"mlc\.yaml: "):
        parse_settings(text, source="mlc.yaml", root=Path())


def test_yaml_cannot_run_code() -> None:
    """Configuration is data; Python's YAML can construct objects unless told otherwise."""
    with pytest.raises(SettingsError, match="could not determine a constructor"):
        parse_settings("fusion: !!python/object/apply:os.getcwd []", source="mlc.yaml", root=Path())


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    """Daemon, UI and command are started in different folders and must find one ledger."""
    path = tmp_path / "mlc.yaml"
    path.write_text(MINIMAL)
    read = load_settings(path, environ={})
    assert read.data_path == tmp_path / ".mlc"
    assert read.path(Path("/absolute")) == Path("/absolute")


def test_missing_file_is_named(tmp_path: Path) -> None:
    """MLC_CONFIG that points nowhere must not fall back to anything."""
    with pytest.raises(SettingsError, match=r"absent\.yaml: no such file"):
        load_settings(tmp_path / "absent.yaml")


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    """A folder or a file in another encoding is told as what it is."""
    path = tmp_path / "mlc.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path)


def test_file_is_found_by_variable_then_by_folder(tmp_path: Path) -> None:
    """MLC_CONFIG wins even when its file is missing: that is an error to show, not to hide."""
    assert find_settings_file({}, tmp_path) is None
    (tmp_path / "mlc.yaml").touch()
    assert find_settings_file({}, tmp_path) == tmp_path / "mlc.yaml"
    assert find_settings_file({"MLC_CONFIG": "/nowhere.yaml"}, tmp_path) == Path("/nowhere.yaml")
