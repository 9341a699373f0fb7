"""Which characters X12 data may have, and what becomes of others: delimiters, character sets, repair of free text.

Belongs here: single characters and what was replaced. Does not: lengths and types of elements.
"""

import re
import string
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

CharacterSet = Literal["basic", "extended"]

_BASIC = string.ascii_uppercase + string.digits + " !\"&'()*+,-./:;?="
_EXTENDED = _BASIC + string.ascii_lowercase + "%@[]_{}\\|<>~#$"

_SPELLED = {
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
    "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "\u0131": "i", "€": "EUR", "£": "GBP", "¥": "JPY",
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"', "«": '"', "»": '"',
    "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-", "\u2026": "...",
    "×": "x", "·": ".", "•": "-", "©": "(c)", "®": "(R)", "°": " deg", "`": "'", "\u00b4": "'",
}  # fmt: skip
"""Letters, quotes and signs that Unicode's own decomposition leaves as they are."""

_NEW_LINES = re.compile("\r\n|[\n\r\v\f\u0085\u2028\u2029]")


@dataclass(frozen=True)
class Delimiters:
    """The interchange's separators. There is no escape character before release 007040: data must not have them."""

    element: str = "*"
    component: str = ">"
    repetition: str = "^"
    segment: str = "~"
    line_break: str = ""
    """Written after each segment terminator; not part of the standard."""

    @property
    def ending(self) -> str:
        return self.segment + self.line_break

    def reserved(self, standard: str) -> str:
        """Characters that data may not have; the repetition separator came with 00402."""
        return self.element + self.component + self.segment + ("" if standard == "004010" else self.repetition)


class Tally:
    """What was replaced, cut and moved while one document was written."""

    __slots__ = ("counts", "moved")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.moved: list[tuple[str, str]] = []
        """(target, key) of keys that are too long for their element and go into a REF instead."""

    def add(self, what: str, count: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + count

    @property
    def total(self) -> int:
        """Of all counts; it only grows while a document is written."""
        return sum(self.counts.values())

    def clear(self) -> None:
        if self.counts:
            self.counts = {}
        if self.moved:
            self.moved = []


@dataclass(frozen=True)
class Characters:
    """The characters of one layout's data."""

    character_set: CharacterSet
    reserved: str

    @cached_property
    def allowed(self) -> frozenset[str]:
        return frozenset(_EXTENDED if self.character_set == "extended" else _BASIC) - frozenset(self.reserved)

    def pattern(self, shortest: int, longest: int) -> str:
        """Of data of these lengths that needs no repair and does not end in a space."""
        inner = "".join(re.escape(character) for character in sorted(self.allowed))
        last = "".join(re.escape(character) for character in sorted(self.allowed - {" "}))
        return f"[{inner}]{{{max(shortest, 1) - 1},{longest - 1}}}[{last}]"

    def stranger(self, value: str) -> str | None:
        """The first character that may not be sent."""
        return next((character for character in value if character not in self.allowed), None)

    def repaired(self, value: str, tally: Tally) -> str:
        """Free text that can be sent: spelled in other letters or with spaces instead; all of it counted."""
        value, new_lines = _NEW_LINES.subn(" ", value)
        if new_lines:
            tally.add("newlines", new_lines)
        if self.character_set == "basic" and value != value.upper():
            value = value.upper()
            tally.add("uppercased")
        result: list[str] = []
        replaced = 0
        for character in value:
            if character in self.allowed:
                result.append(character)
            else:
                replaced += 1
                result.append(self._instead(character))
        if replaced:
            tally.add("characters", replaced)
        return "".join(result).rstrip()

    def _instead(self, character: str) -> str:
        spelled = _SPELLED.get(character)
        if spelled is None:
            decomposed = unicodedata.normalize("NFKD", character)
            spelled = "".join(part for part in decomposed if not unicodedata.combining(part))
            if not spelled and unicodedata.combining(character):
                return ""
        if self.character_set == "basic":
            spelled = spelled.upper()
        return spelled if spelled and all(part in self.allowed for part in spelled) else " "
