"""The edit of mlc.yaml: the pin changes and nothing else, or nothing at all."""

import difflib
from pathlib import Path

import pytest
import yaml

from mlc_dagster.cli.config import starter
from mlc_dagster.doctor.pinning import NO_PIN, NotWritten, replace_file, settings_without_pins, with_pins
from mlc_dagster.settings import SettingsError

OLD = "SHA256:" + "B" * 42 + "A"
NEW = "SHA256:" + "C" * 42 + "A"
STAMPLI = ("stampli", "sftp")
FEED = ("exports", 0, "sftp")


def changed(before: str, after: str) -> list[str]:
    """Lines that are other than before, as a diff has them."""
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if line.startswith(("+ ", "- "))]


def test_the_starters_placeholder_is_replaced_in_its_line() -> None:
    """Three hundred lines of comments stay as they are: people read the diff."""
    text = starter()
    edited = with_pins(text, STAMPLI, [NEW])
    [before, after] = changed(text, edited)
    assert before.startswith(f'-     host_key: "{NO_PIN}"')
    assert after == before.replace("- ", "+ ", 1).replace(NO_PIN, NEW)
    assert after.rstrip().endswith("# yours")


def test_two_pins_stand_in_one_line() -> None:
    """The old and the new one, while a server's key is being changed."""
    edited = with_pins(starter(), STAMPLI, [NEW, OLD])
    assert yaml.safe_load(edited)["stampli"]["sftp"]["host_key"] == [NEW, OLD]
    assert f'host_key: ["{NEW}", "{OLD}"]' in edited


@pytest.mark.parametrize(
    "written",
    [
        f'host_key: "{OLD}"  # theirs',
        f"host_key: {OLD}",
        f"host_key: ['{OLD}', {NO_PIN}] # two",
        f"host_key:\n      - {OLD}   # old\n      # and\n      - {NO_PIN}",
        f"host_key:\n    - {OLD}",
        f"host_key: >-\n      {OLD}",
    ],
    ids=["quoted", "plain", "flow list", "list in lines", "list at its key", "folded"],
)
def test_every_way_to_write_a_pin_is_replaced(written: str) -> None:
    """Comments after and around it stay; so does what follows."""
    text = (
        f"# head\nstampli:\n  sftp:\n    host: h # here\n    {written}\n    # below\n    port: 22\n\ndata_dir: x # e\n"
    )
    edited = with_pins(text, STAMPLI, [NEW])
    document = yaml.safe_load(edited)
    assert document == {"stampli": {"sftp": {"host": "h", "host_key": NEW, "port": 22}}, "data_dir": "x"}
    assert "\n    # below\n    port: 22\n\ndata_dir: x # e\n" in edited
    assert edited.startswith("# head\nstampli:\n  sftp:\n    host: h # here\n    host_key:")


@pytest.mark.parametrize(
    "text",
    [
        "stampli:\n  sftp:\n    host: h  # the host\n    port: 22\n    directory: /o\n",
        "stampli:\n  sftp:\n    port: 22\n    host: h  # the host\n",
        "stampli:\n  sftp: {host: h, port: 22}  # in one line\n",
        "stampli: {sftp: {host: h}}\n",
        "stampli:\r\n  sftp:\r\n    host: h\r\n    port: 22\r\n",
    ],
    ids=["lines", "host last", "one line", "host alone", "windows"],
)
def test_a_pin_that_is_absent_is_put_in(text: str) -> None:
    """A new account has none: nobody knows the key before the first look."""
    edited = with_pins(text, STAMPLI, [NEW])
    document = yaml.safe_load(edited)["stampli"]["sftp"]
    assert document.pop("host_key") == NEW
    assert document == yaml.safe_load(text)["stampli"]["sftp"]
    assert edited.count("# the host") == text.count("# the host")


def test_an_account_that_several_feeds_share_is_changed_for_all() -> None:
    """It stands in the file once; the copy must not be split."""
    text = (
        "exports:\n  - name: a\n    sftp: &partner   # shared\n      host: h\n"
        f"      host_key: {OLD}\n  - name: b\n    sftp: *partner\n"
    )
    edited = with_pins(text, ("exports", 1, "sftp"), [NEW])
    assert [feed["sftp"]["host_key"] for feed in yaml.safe_load(edited)["exports"]] == [NEW, NEW]
    assert len(changed(text, edited)) == 2


def test_a_pin_that_comes_with_a_merged_part_is_set_beside_it() -> None:
    """Another account merges the same part and may be on another server."""
    text = (
        f"exports:\n  - sftp: &base\n      host: h\n      host_key: {OLD}\n"
        "  - sftp:\n      <<: *base\n      host: other\n"
    )
    edited = with_pins(text, ("exports", 1, "sftp"), [NEW])
    assert [feed["sftp"]["host_key"] for feed in yaml.safe_load(edited)["exports"]] == [OLD, NEW]


def test_an_anchored_pin_keeps_its_anchor() -> None:
    """An alias elsewhere in the file would else point nowhere."""
    text = f"exports:\n  - sftp: {{host: h, host_key: &key {OLD}}}\n  - sftp: {{host: h, host_key: *key}}\n"
    edited = with_pins(text, FEED, [NEW])
    assert [feed["sftp"]["host_key"] for feed in yaml.safe_load(edited)["exports"]] == [NEW, NEW]


def test_a_pin_from_the_environment_is_not_overwritten() -> None:
    """The file is shared by several hosts, each with its own variable."""
    with pytest.raises(NotWritten, match="environment variable") as caught:
        with_pins("stampli:\n  sftp:\n    host: h\n    host_key: ${PIN}\n", STAMPLI, [NEW])
    assert f'host_key: "{NEW}"' in str(caught.value)


def test_a_file_that_cannot_be_edited_safely_is_left() -> None:
    """A wrong edit of the file that says where money goes is worse than none."""
    with pytest.raises(NotWritten):
        with_pins("stampli:\n  sftp:\n    ? host\n    : h\n    ? port\n    : 22\n", STAMPLI, [NEW])


def test_a_configuration_without_pins_can_be_read_for_pinning(tmp_path: Path) -> None:
    """Everywhere else its absence is an error: no run trusts at first sight."""
    text = "\n".join(line for line in starter().splitlines() if not line.strip().startswith("host_key:"))
    settings = settings_without_pins(text, tmp_path / "mlc.yaml")
    assert settings.stampli is not None
    assert settings.stampli.sftp.host_keys == [NO_PIN]


def test_other_faults_of_the_configuration_are_told(tmp_path: Path) -> None:
    """Pinning into a file that nothing can read helps nobody."""
    with pytest.raises(SettingsError, match="username"):
        settings_without_pins(starter().replace("    username: contoso", "    usrname: contoso"), tmp_path / "mlc.yaml")


def test_the_file_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    """It may be readable for one group alone, and be a link into a checkout."""
    real, link = tmp_path / "real.yaml", tmp_path / "mlc.yaml"
    real.write_text("a: 1\n")
    real.chmod(0o640)
    link.symlink_to(real)
    replace_file(link, "a: 2\r\n")
    assert link.is_symlink()
    assert real.read_bytes() == b"a: 2\r\n"
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlc.yaml", "real.yaml"]
