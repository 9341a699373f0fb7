"""The catalogue of reasons: complete for the code that uses it, and fit for people."""

import re
from pathlib import Path

import pytest

import mlc_dagster
from mlc_dagster.stampli.reasons import UnknownReason, problem, reason, reasons


def test_every_code_that_is_raised_is_in_the_catalogue() -> None:
    """A code without owner and remedy would reach the exception queue as a word."""
    package = Path(mlc_dagster.__file__).parent
    used: set[str] = set()
    for path in package.rglob("*.py"):
        used |= set(re.findall(r'\bproblem\(\s*"([A-Z_]+)"', path.read_text(encoding="utf-8")))
    assert used <= set(reasons())
    assert len(used) > 20


def test_every_code_has_a_remedy_in_a_sentence() -> None:
    """Title and remedy are read by people who did not build this."""
    for entry in reasons().values():
        assert entry.remedy.endswith("."), entry.code
        assert not entry.title.endswith("."), entry.code


def test_a_misspelt_code_raises() -> None:
    """Rather than parking an invoice for a reason nobody finds."""
    with pytest.raises(UnknownReason):
        problem("VENDOR_UNKOWN")


def test_a_code_may_carry_a_suffix() -> None:
    """FUSION_REJECTED(AP-810776) belongs to FUSION_REJECTED."""
    assert reason("FUSION_REJECTED(AP-810776)").code == "FUSION_REJECTED"


def test_a_problem_is_one_sentence_with_place_value_and_remedy() -> None:
    """What, where, which value, what to do."""
    text = problem("FIELD_INVALID", field="line_amount", value="1e3", remedy="Write digits.", row=4).text
    assert text == "A value is not of its declared form (line_amount: 1e3, row 4): Write digits."


def test_values_are_shown_without_invisible_characters_and_not_endlessly() -> None:
    """Log lines and terminals must not be steered by a cell."""
    shown = problem("FIELD_INVALID", value="a\x1b[31m\u202e" + "x" * 500).value
    assert shown is not None
    assert shown.isprintable()
    assert len(shown) < 250
