"""File names: what the template says, on every server, and never the same twice."""

import datetime as dt
from dataclasses import replace

import pytest

from mlc_dagster.exports.naming import FileNameUnusable, NameParts, check_template, file_name

PARTS = NameParts(
    feed="journals",
    sequence=42,
    created_at=dt.datetime(2026, 3, 2, 9, 15, 7, 123_456, tzinfo=dt.UTC),
    window_start=dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.UTC),
    window_end=dt.datetime(2026, 3, 2, 9, 15, tzinfo=dt.UTC),
    sha256="abcdef0123456789",
    extension=".csv",
)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{feed}_{sequence:06d}{extension}", "journals_000042.csv"),
        ("J{utc:%Y%m%dT%H%M%S}{millis}-{hash}{extension}", "J20260302T091507123-abcdef.csv"),
        ("{feed}.{window_start:%Y%m%d%H%M}-{window_end:%H%M}.{sequence}.txt", "journals.202603020900-0915.42.txt"),
        ("{utc}{extension}", "20260302T091507Z.csv"),
    ],
)
def test_a_template_gives_the_name(template: str, name: str) -> None:
    """As the partner asked for it."""
    assert file_name(template, PARTS) == name


def test_times_are_utc() -> None:
    """Whatever zone they were given in."""
    elsewhere = PARTS.created_at.astimezone(dt.timezone(dt.timedelta(hours=-7)))
    assert file_name("{utc:%H%M}", replace(PARTS, created_at=elsewhere)) == "0915"


def test_a_compressed_file_says_so() -> None:
    """The ending counts towards the length as well."""
    assert file_name("{feed}{extension}", PARTS, ending=".gz") == "journals.csv.gz"
    with pytest.raises(FileNameUnusable):
        file_name("x" * 62, PARTS, ending=".gz")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{batch}.csv", "unknown placeholder {batch}"),
        ("{feed", "cannot be filled in"),
        ("{sequence:Q}", "cannot be filled in"),
        ("{feed.upper}", "unknown placeholder {feed.upper}"),
        ("{}", "unknown placeholder"),
        ("{feed}/{sequence}.csv", "letters, digits, dot, hyphen and underscore"),
        ("{feed} {sequence}.csv", "letters, digits, dot, hyphen and underscore"),
        ("Ü{sequence}", "letters, digits, dot, hyphen and underscore"),
        ("", "(0 characters)"),
        ("y" * 65, "at most 64"),
        (".{feed}", "leading dot"),
    ],
)
def test_what_some_server_would_refuse_is_refused_here(template: str, text: str) -> None:
    """At the configuration check, and not at night in front of a partner's server; the template is named."""
    with pytest.raises(FileNameUnusable) as refused:
        file_name(template, PARTS)
    assert text in str(refused.value)
    assert repr(template) in str(refused.value)


def test_a_template_must_tell_files_apart() -> None:
    """Two files of one build differ in number and content only."""
    with pytest.raises(FileNameUnusable, match=r"add \{sequence:06d\}"):
        check_template("{feed}_{utc:%Y%m%d}{extension}", feed="f", extension=".csv")


@pytest.mark.parametrize("template", ["{feed}_{sequence}{extension}", "{feed}_{utc}_{hash}{extension}"])
def test_a_number_or_the_content_tells_files_apart(template: str) -> None:
    """Either will do."""
    assert check_template(template, feed="f", extension=".csv") is None
