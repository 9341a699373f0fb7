"""Profiles: what they accept as a declaration, and what they answer about names and ends of files."""

from pathlib import Path

import pytest
import yaml

from mlc_dagster.stampli.parsing.profile import Profile, ProfileError, load_profile, parse_profile
from mlc_dagster_tests.stampli.builders import file_name


@pytest.fixture(scope="module")
def profile() -> Profile:
    return load_profile("stampli_lines_v1")


def document(profile: Profile) -> dict[str, object]:
    return profile.model_dump(mode="json", exclude_none=True)


def test_names_of_the_profile_are_taken(profile: Profile) -> None:
    """Company, time and sequence, as agreed with the sender."""
    assert profile.matches(file_name(12))
    assert profile.sequence(file_name(12)) == "000012"


@pytest.mark.parametrize(
    "name",
    ["stampli_invoices_C100_20261030T170000Z_000001.csv.bak", "notes.csv", "stampli_invoices_C100_20261030_000001.csv"],
)
def test_other_names_are_not_taken(profile: Profile, name: str) -> None:
    """A folder holds other people's files too."""
    assert not profile.matches(name)
    assert profile.sequence(name) is None


@pytest.mark.parametrize("suffix", [".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~", ".TMP"])
def test_files_being_written_are_in_flight(profile: Profile, suffix: str) -> None:
    """A half-written file must not be read because its name looks right."""
    assert profile.in_flight(file_name() + suffix)
    assert not profile.matches(file_name() + suffix)


def test_dot_files_are_in_flight(profile: Profile) -> None:
    """Rsync and many servers write under a dot name and rename."""
    assert profile.in_flight("." + file_name())


@pytest.mark.parametrize(
    ("content", "word"), [(b"", "empty"), (b"a,b\n1,2", "no line end"), (b"a,b\n1,2\n", None), (b"a,b\r1,2\r", None)]
)
def test_a_whole_file_ends_with_a_line_end(profile: Profile, tmp_path: Path, content: bytes, word: str | None) -> None:
    """The last line of a file that was cut off is a plausible row with a wrong amount."""
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    fault = profile.end_fault(path)
    assert (fault is None) if word is None else (fault is not None and word in fault)


def test_the_digest_ignores_layout_and_follows_content(profile: Profile) -> None:
    """It is stored with every posting: a comment is no change, a column is."""
    same = parse_profile("# comment\n" + yaml.safe_dump(document(profile)), source="copy")
    other = parse_profile(yaml.safe_dump({**document(profile), "version": 2}), source="copy")
    assert same.digest == profile.digest
    assert other.digest != profile.digest


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"colums": {}}, "colums"),
        ({"text": {"encoding": "utf-16"}}, "utf-16"),
        ({"text": {"delimiter": '"'}}, "delimiter"),
        ({"values": {"date": "DD.MM.YY"}}, "YYYY"),
        ({"rows": {"model": "repeated_header", "key": ["invoice_id", "company_id"]}}, "company_id"),
        ({"columns": {}}, "required: value"),
        ({"file": {"name": "(", "end": {"rule": "none"}}}, "regular expression"),
    ],
)
def test_a_wrong_profile_is_refused_with_its_key(profile: Profile, change: dict[str, object], word: str) -> None:
    """People write profiles; the error has to say what to change."""
    with pytest.raises(ProfileError) as refused:
        parse_profile(yaml.safe_dump({**document(profile), **change}), source="mine.yaml")
    assert word in str(refused.value)
    assert "mine.yaml" in str(refused.value)


def test_a_profile_is_loaded_by_path(profile: Profile, tmp_path: Path) -> None:
    """Customers keep their profiles beside mlc.yaml."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document(profile)))
    assert load_profile(path).digest == profile.digest


def test_a_profile_that_is_not_there_is_named() -> None:
    """The default is one spelling mistake away."""
    with pytest.raises(ProfileError, match="stampli_lines_v9"):
        load_profile("stampli_lines_v9")
