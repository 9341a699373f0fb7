"""Text from outside on screens: terminals obey nothing, Dagster's pages show it, JSON keeps its value."""

import io
import json
import re
from decimal import Decimal

import click
import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mlc_dagster.assets import metadata
from mlc_dagster.cli.errors import MlcGroup
from mlc_dagster.cli.output import add_rows, print_json, state_text, table
from mlc_dagster.settings import SettingsError
from mlc_dagster.visible import markdown, visible, visible_json
from mlc_dagster_tests.fuzzing.effort import fuzzed

_ANY = st.text(st.characters(), max_size=30) | st.lists(
    st.sampled_from(
        [
            "\x1b[2J",
            "\x1b]8;;http://x\x1b\\",
            "\x9b31m",
            "\u202e",
            "\u2066",
            "\u200b",
            "\ufeff",
            "\r",
            "\x08",
            "\udcff",
            "\U000e0041",
            "<img src=x onerror=alert(1)>",
            "![x](http://evil/p.png)",
            "[click](javascript:alert(1))",
            "```\n",
            "# ",
            "[red]",
            "&lt;",
        ]
    ),
    max_size=4,
).map("".join)
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


@fuzzed(300)
@given(text=_ANY)
def test_a_table_shows_what_a_terminal_would_obey(text: str) -> None:
    """A vendor's name must not clear the screen, change its title or turn the amount beside it around."""
    page = io.StringIO()
    made = add_rows(table("Vendor", "Amount"), [(text, Decimal("10.50")), (state_text(text), 1)])
    Console(file=page, width=400, highlight=False).print(made)
    assert _OBEYED.search(page.getvalue()) is None
    assert "10.50" in page.getvalue()


@fuzzed(300)
@given(text=_ANY)
def test_visible_text_is_one_line_and_harmless_text_is_unchanged(text: str) -> None:
    """What was escaped can still be told apart; what was not is what stands in the file."""
    shown = visible(text)
    assert _OBEYED.search(shown) is None
    assert "\n" not in shown
    assert visible(shown) == shown
    assert shown == text or not text.isprintable() or _OBEYED.search(text) is None


@pytest.mark.parametrize(
    "text", ["Müller & Söhne GmbH", "北京公司", "شركة النور", "1\u00a0000,00", "naïve – “quoted”", "Ромашка"]
)
def test_names_of_all_scripts_are_shown_as_they_are(text: str) -> None:
    """Escaping them would make the product useless outside of English."""
    assert visible(text) == text


@fuzzed(300)
@given(document=st.dictionaries(_ANY, _ANY | st.lists(_ANY, max_size=2), max_size=3))
def test_json_keeps_its_values_and_hides_nothing(document: dict[str, object]) -> None:
    """Programs read the same value; a person who looks at it sees every character."""
    text = visible_json(json.dumps(document, ensure_ascii=False, indent=2))
    assert json.loads(text) == document
    assert _OBEYED.search(text) is None
    text.encode()


def test_the_json_of_a_command_goes_through_it(capsys: pytest.CaptureFixture[str]) -> None:
    """A lone surrogate would end the command with a traceback instead of its answer."""
    print_json({"name": "a\udcff\x7f\u202eb"})
    said = capsys.readouterr().out
    assert json.loads(said) == {"name": "a\udcff\x7f\u202eb"}
    assert _OBEYED.search(said) is None


def test_an_error_line_goes_through_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Errors name values of files, and errors are what people look at."""
    group = MlcGroup(name="mlc")
    group.add_command(_failing())  # pyright: ignore[reportArgumentType]
    with pytest.raises(SystemExit):
        group.main(["fail"], prog_name="mlc")
    said = capsys.readouterr().err
    assert "\\x1b[2J" in said
    assert _OBEYED.search(said) is None


def _failing() -> click.Command:
    @click.command("fail")
    def fail() -> None:
        raise SettingsError("mlc.yaml", ["key: \x1b[2J\u202e is wrong"])

    return fail


@fuzzed(300)
@given(text=_ANY)
def test_a_summary_in_dagster_shows_markup_and_follows_none(text: str) -> None:
    """Dagster renders Markdown: a link, an image that tells its server who looked, a heading that forges a result."""
    shown = markdown(text)
    assert "\n" not in shown
    assert "<" not in shown
    assert not re.search(r"(?<!\\)[\[\]]", shown)
    assert not re.match(r"[#>+=-]|```", shown)
    assert _OBEYED.search(shown) is None


def test_a_summary_keeps_what_our_own_texts_say() -> None:
    """The commands in backticks are ours, and so are counts and reason codes."""
    value = metadata.summary("Files of 2026-11-21 12:00", ["parked: 2 VENDOR_NOT_FOUND", "see `mlc invoices list`"])
    assert value.md_str == "**Files of 2026-11-21 12:00**\n\n- parked: 2 VENDOR_NOT_FOUND\n- see `mlc invoices list`"


def test_cells_of_a_table_in_dagster_are_escaped() -> None:
    """File names and vendor names stand in them."""
    columns = [dg.TableColumn("name"), dg.TableColumn("count", "int")]
    (record,) = metadata.table(columns, [("a\x1b[2Jb", 3)]).records
    assert record.data == {"name": "a\\x1b[2Jb", "count": 3}
