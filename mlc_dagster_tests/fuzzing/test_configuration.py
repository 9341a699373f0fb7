"""Configuration of any text: mlc.yaml, profiles, layouts, calendars and crosswalks are usable or refused in words."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.bounded_yaml import DEEPEST, MOST_CHARACTERS, read_yaml, yaml_fault
from mlc_dagster.exports.calendar import CalendarError, load_calendar
from mlc_dagster.exports.layouts.crosswalk import read_codes
from mlc_dagster.exports.layouts.errors import LayoutError
from mlc_dagster.exports.layouts.loading import load_layout
from mlc_dagster.settings import SettingsError
from mlc_dagster.settings_file import parse_settings
from mlc_dagster.stampli.crosswalks import CrosswalkError, parse_crosswalk
from mlc_dagster.stampli.parsing.profile import ProfileError, parse_profile
from mlc_dagster_tests.exports.test_calendar import TEXT as CALENDAR
from mlc_dagster_tests.fuzzing.effort import fuzzed
from mlc_dagster_tests.settings.configuration import MINIMAL

PROFILE = files("mlc_dagster.stampli") / "profiles" / "stampli_lines_v1.yaml"
LAYOUT = files("mlc_dagster.exports.layouts") / "shipped" / "journals_csv.yaml"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "alias bomb": BOMB,
    "a cycle": "a: &a [*a]",
    "a long chain": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 500)),
    "deep": "a: " + "[" * 5000,
    "deep blocks": "".join(" " * n + "a:\n" for n in range(200)),
    "a python object": "a: !!python/object/apply:os.system ['touch /tmp/x']",
    "a python name": "a: !!python/name:os.system ''",
    "a day that is none": "start: 2026-13-45",
    "a zone that is none": "a: 2001-12-14t21:59:43.10-99:99",
    "no int": "a: !!int abc",
    "no bool": "a: !!bool x",
    "no float": "a: !!float x",
    "no timestamp": "a: !!timestamp foo",
    "a number without end": "a: " + "9" * 5000,
    "a key twice": "a: 1\na: 2",
    "a key that is a list": "? [a]\n: 1",
    "a key of keys": "? {a: b}\n: 1",
    "a merge with nothing": "<<: 3",
    "two documents": "a: 1\n---\nb: 2",
    "a control character": "a: \x07",
    "a lone quote": "a: '",
    "a tab": "a:\n\t- b",
    "an unknown alias": "a: *b",
    "too long": "a: " + "x" * MOST_CHARACTERS,
}
_WRONG: dict[str, Any] = {
    "a list": "[1, 2]",
    "a text": "just text",
    "nothing": "",
    "a number": "7",
    "null": "null",
    "keys of numbers": "1: {2: 3}",
    "lists for tables": "fusion: []\nstampli: []\npoll: []\nfile: []\nperiods: {}\ncolumns: 3\nformat: csv",
    "nulls": "fusion:\nstampli:\npoll:\nfile:\ncolumns:\nformat:\n",
    "infinities": "poll: {cron: .inf}\nversion: .nan\nformat: .inf",
}


def _settings(text: str, folder: Path) -> None:
    parse_settings(text, source="mlc.yaml", root=folder, environ={})


def _profile(text: str, folder: Path) -> None:
    parse_profile.__wrapped__(text, source="p.yaml")


def _layout(text: str, folder: Path) -> None:
    path = folder / "layout.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    load_layout("layout.yaml", root=folder)


def _calendar(text: str, folder: Path) -> None:
    path = folder / "calendar.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    load_calendar(path)


READERS = {"settings": _settings, "profile": _profile, "layout": _layout, "calendar": _calendar}
VALID = {
    "settings": MINIMAL,
    "profile": PROFILE.read_text("utf-8"),
    "layout": LAYOUT.read_text("utf-8"),
    "calendar": CALENDAR,
}
REFUSALS = (SettingsError, ProfileError, LayoutError, CalendarError)


@pytest.mark.parametrize("kind", READERS)
def test_the_valid_documents_are_read(tmp_path: Path, kind: str) -> None:
    """The starting points of the fuzzing are themselves in order."""
    READERS[kind](VALID[kind], tmp_path)
    assert VALID[kind]


@pytest.mark.parametrize("text", [*HOSTILE.values(), *_WRONG.values()], ids=[*HOSTILE, *_WRONG])
@pytest.mark.parametrize("kind", READERS)
def test_a_hostile_document_is_refused_in_words(tmp_path: Path, kind: str, text: str) -> None:
    """Whoever edits the file gets the line and the reason, not a traceback; and nothing takes minutes or gigabytes."""
    with pytest.raises(REFUSALS) as caught:
        READERS[kind](text, tmp_path)
    assert len(str(caught.value)) < 5000


_BITS = st.one_of(
    st.sampled_from(
        [
            "&a ",
            "*a",
            "!!int ",
            "!!python/name:os.system",
            "- ",
            "? ",
            ": ",
            "{",
            "}",
            "[",
            "]",
            "|\n",
            ">\n",
            "'",
            '"',
            "\t",
            "\n",
            "#",
            "<<: ",
            "2026-13-45",
            ".inf",
            "0x",
            "1e999",
            "${X}",
            "${",
            "%",
            "@",
            "`",
            "\x00",
            "\x85",
            "\u2028",
            "\ufeff",
            "---\n",
            "...\n",
            "null",
            "~",
            "yes",
            "190:20:30",
        ]
    ),
    st.text(max_size=4),
)


@fuzzed(120)
@given(
    kind=st.sampled_from(list(READERS)),
    edits=st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 12), _BITS), min_size=1, max_size=3),
)
def test_an_edit_gone_wrong_is_refused_in_words(tmp_path: Path, kind: str, edits: list[tuple[int, int, str]]) -> None:
    """Most hostile documents are made by tired people."""
    text = VALID[kind]
    for place, cut, put in edits:
        at = place % len(text)
        text = text[:at] + put + text[at + cut :]
    try:
        READERS[kind](text, tmp_path)
    except REFUSALS as refusal:
        assert str(refusal)  # noqa: PT017 - some edits do no harm


@fuzzed(200)
@given(text=st.lists(_BITS, max_size=12).map("".join))
def test_yaml_of_any_text_is_values_or_a_fault_with_a_text(text: str) -> None:
    """The one place through which all of them go."""
    try:
        read_yaml(text)
    except yaml.YAMLError as error:
        assert yaml_fault(error)  # noqa: PT017 - some are values


def test_aliases_that_people_use_are_read() -> None:
    """One company like the other is what anchors are for."""
    text = "a: &a {x: 1, y: [2]}\nb: {<<: *a, x: 3}\nc: *a"
    assert read_yaml(text) == {"a": {"x": 1, "y": [2]}, "b": {"x": 3, "y": [2]}, "c": {"x": 1, "y": [2]}}


def test_the_levels_that_are_allowed_are_read() -> None:
    """The bound lies far above what any file of ours has."""
    assert read_yaml("[" * (DEEPEST - 1) + "x" + "]" * (DEEPEST - 1)) is not None


def test_a_value_that_is_refused_is_not_told() -> None:
    """A password under a wrong tag must not stand in a log."""
    with pytest.raises(SettingsError) as caught:
        parse_settings("a: !!int hunter2", source="mlc.yaml", root=Path(), environ={})
    assert "hunter2" not in str(caught.value)
    assert "line 1, column 4" in str(caught.value)


_CSV = st.lists(
    st.sampled_from(
        [
            "stampli",
            "fusion",
            "partner",
            "site",
            "valid_from",
            "valid_to",
            ",",
            "\n",
            "\r",
            '"',
            "'",
            "2026-01-01",
            "2026-13-01",
            "\u0662\u0660\u0662\u0666-01-01",
            "a",
            "b",
            "=1+1",
            "\0",
            "\x1b",
            "\u202e",
            "\ufeff",
            "x" * 200_000,
        ]
    ),
    max_size=30,
).map("".join)


@fuzzed(300)
@given(rest=_CSV, header=st.sampled_from(["", "stampli,fusion\n", "stampli,fusion,site,valid_from,valid_to\n"]))
def test_a_crosswalk_of_any_text_is_a_table_or_refused(header: str, rest: str) -> None:
    """It decides which account is booked; half a table must not be used."""
    content = (header + rest).encode()
    try:
        table = parse_crosswalk(content, source="vendors.csv", sites=True)
    except CrosswalkError as error:
        assert error.problems  # noqa: PT017 - some are tables
    else:
        assert len(table) <= content.count(b"\n") + content.count(b"\r") + 1


@fuzzed(200)
@given(content=st.binary(max_size=80))
def test_a_crosswalk_of_any_bytes_is_a_table_or_refused(content: bytes) -> None:
    """Somebody will save it as a spreadsheet."""
    try:
        table = parse_crosswalk(content, source="vendors.csv", sites=False)
    except CrosswalkError as error:
        assert error.problems  # noqa: PT017 - some are tables
    else:
        assert len(table) >= 0


@fuzzed(300)
@given(rest=_CSV, header=st.sampled_from(["", "fusion,partner\n", "fusion,partner,note\n"]))
def test_codes_of_any_text_are_a_table_or_refused(header: str, rest: str) -> None:
    """A code that is lost is a document that says something else to the partner."""
    try:
        codes = read_codes(header + rest, source_file="codes.csv")
    except LayoutError as error:
        assert error.problems  # noqa: PT017 - some are tables
    else:
        assert all(fusion and partner for fusion, partner in codes.items())
