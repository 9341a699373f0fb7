"""Halves of surrogate pairs in an answer: got out of the way without touching anything beside them."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_dagster.fusion.halves import blotted, may_be, shown

TEXT = st.text(st.characters(categories=["Cs", "L", "P", "Cc"]), max_size=12)
JSON = st.recursive(
    TEXT | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)


def known(value: Any) -> Any:
    """The value as ``shown`` should have it."""
    if isinstance(value, str):
        return "".join(f"\\u{ord(c):04x}" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in value)
    if isinstance(value, list):
        return [known(item) for item in value]
    return {known(name): known(item) for name, item in value.items()} if isinstance(value, dict) else value


@given(JSON)
def test_what_is_shown_can_be_read_and_is_else_the_same(value: Any) -> None:
    """Backslashes before a letter u, whole pairs and controls are somebody's text and stay."""
    # Two halves that meet are a whole character in JSON.
    content = json.dumps(value).encode()
    assert msgspec.json.decode(shown(content)) == known(json.loads(content))


@given(JSON)
def test_what_is_blotted_can_be_read(value: Any) -> None:
    """Else the page of one bad row would have no rows at all."""
    content = json.dumps({"items": [{"text": value}, 2]}).encode()
    assert msgspec.json.decode(blotted(content))["items"][1] == 2


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'"a\xffb"', "a\\udcffb"),
        (b'"\xed\xa0\x80"', "\\udced\\udca0\\udc80"),
        (rb'"\\ud800"', "\\ud800"),
        (rb'"\\\ud800"', "\\\\ud800"),
        (rb'"\uD83D\uDE00\uDE00"', "\U0001f600\\ude00"),
        (rb'"\ud83dA"', "\\ud83dA"),
    ],
)
def test_characters_are_shown_by_their_escapes(content: bytes, text: str) -> None:
    """As a person can read them, and a rule can tell that something is not known."""
    assert msgspec.json.decode(shown(content)) == text


@pytest.mark.parametrize(
    ("text", "sought", "may"),
    [
        ("INV-1", "INV-1", True),
        ("INV-1", "INV-12", False),
        ("INV-1\\ud800", "INV-1", True),
        ("INV\\ud800-1", "INV\U0001f600-1", True),
        ("INV-1\\ud800", "INV-2", False),
        ("INV-1\\ud800", "INV-1\U0001f600", True),
        # Any number at all would be held for an invoice whose own is a single half: one character is one at most.
        ("\\u0000", "whatever\n", False),
        ("\\u0000", "\n", True),
        ("\\ud800\\udc00", "ab", True),
        ("\\ud800\\udc00", "abc", False),
        ("\\ud800a\\ud800a\\ud800b", "aaab", True),
        ("\\ud800a\\ud800a\\ud800b", "aaaaaab", False),
        ("INV.1\\udc00", "INV-1", False),
        ("INV-1\\u00e4", "INV-1", False),
    ],
)
def test_a_text_with_what_cannot_be_read_may_be_any_that_fits(text: str, sought: str, may: bool) -> None:
    """Too wide goes to a person; too narrow would be taken for absence."""
    assert may_be(text, sought) is may


def test_a_text_of_nothing_but_what_cannot_be_read_is_compared_at_once() -> None:
    """A clerk's number stopped every run of its business unit: each half doubled the time, and twelve took hours."""
    sought = "RECHNUNG #2026-11-" + "1" * 30
    assert not may_be("\\ud800" * 400 + "x", sought)
    assert may_be("\\ud8001" * 60, "1" * 60)
    assert not may_be("\\ud8001" * 60 + "x", "1" * 60)
