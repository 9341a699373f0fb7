"""Elements: types, lengths, and how a value becomes their text. Nothing is rounded and no key is ever shortened.

Belongs here: one element at a time. Does not: segments and the rules between their elements, nor mapping.
Types as in the standard: AN, ID, N0 and N2 (implied decimals, no point), R (point, no exponent), DT, TM.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import lru_cache
from typing import Any, Literal

from mlc_dagster.exports.writing import DocumentHeld
from mlc_dagster.exports.x12.characters import Characters, Tally

Type = Literal["AN", "ID", "N0", "N2", "R", "DT", "TM"]
TextTooLong = Literal["hold", "split", "cut"]
KeyTooLong = Literal["hold", "ref"]
AmountScale = Literal["hold", "amt"]
Format = Callable[[Any], str]

EXACT = Context(prec=80, traps=[Inexact, InvalidOperation])
"""Arithmetic that raises where it would round."""


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a segment; ``longest`` counts digits without sign and point in numbers."""

    name: str
    type: Type
    shortest: int
    longest: int
    mandatory: bool = False
    text: bool = False
    """Free text, which may be repaired and cut; other AN elements are keys and never changed."""
    movable: bool = False
    """A key that may go into a REF when it is too long."""

    @property
    def form(self) -> str:
        """Type and lengths, such as ``AN 1/22``."""
        return f"{self.type} {self.shortest}/{self.longest}"


@dataclass(frozen=True)
class Style:
    """How one layout writes values."""

    characters: Characters
    text_too_long: TextTooLong = "cut"
    key_too_long: KeyTooLong = "hold"
    amount_scale: AmountScale = "hold"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value comes from and goes to, for the words of errors."""

    target: str
    """Such as ``BIG02 number``."""
    field: str
    """Source field, such as ``invoice.number``."""

    def held(self, reason: str, text: str) -> DocumentHeld:
        return DocumentHeld(reason, f"{self.field} → {self.target}: {text}", field=self.field, target=self.target)


def plain_number(value: Decimal) -> str:
    """Digits, sign and point: no exponent, no zeros behind the last decimal, no negative zero."""
    text = str(value)
    if "E" in text:
        text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def is_scale_two(amount: Decimal) -> bool:
    """Whether N2 can carry the amount exactly."""
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent >= -2:
        return True
    scaled = EXACT.scaleb(amount, 2)
    return scaled == scaled.to_integral_value()


def shown(value: str) -> str:
    """A value as errors quote it: whole, unless it would fill the page."""
    return repr(value) if len(value) <= 100 else f"{value[:100]!r}… ({len(value)} characters)"


def stand_in(key: str, longest: int) -> str:
    """A short key in place of one that does not fit: its beginning and eight digits of its SHA-256."""
    return f"{key[: longest - 9].rstrip()}-{hashlib.sha256(key.encode()).hexdigest()[:8].upper()}"


def element_text(element: Element, style: Style) -> str:
    """Pattern of ``str`` of a value that can be sent as it is; dates as their digits.

    What does not match may be good all the same, or become so: 10.00, N2, a text with a line break.
    """
    if element.type in ("AN", "ID"):
        return style.characters.pattern(element.shortest, element.longest)
    if element.type == "N0":
        return f"(?:0|[1-9][0-9]{{0,{element.longest - 1}}})"
    if element.type == "R" and element.shortest == 1:
        return f"(?!-0(?![.]))(?![-.0-9]{{{element.longest + 1}}})-?(?:0|[1-9][0-9]*)(?:[.][0-9]*[1-9])?"
    return f"[0-9]{{{element.longest}}}" if element.type == "DT" else "(?!)"


def formatting(element: Element, place: Place, style: Style, tally: Tally) -> Format:
    """The function that writes this element's values; it raises DocumentHeld and counts in ``tally``."""
    if element.type == "AN":
        return _text(element, place, style, tally) if element.text else _key(element, place, style, tally)
    if element.type == "ID":
        return _code(element, place, style)
    if element.type in ("N0", "N2"):
        return _implied(element, place)
    if element.type == "R":
        return _real(element, place)
    return _day(element) if element.type == "DT" else _clock


def _text(element: Element, place: Place, style: Style, tally: Tally) -> Format:
    clean = re.compile(element_text(element, style)).fullmatch

    def write(value: str) -> str:
        if clean(value):
            return value
        text = style.characters.repaired(value, tally)
        if len(text) > element.longest:
            if style.text_too_long == "hold":
                raise place.held("TEXT_TOO_LONG", f"{shown(text)} is longer than {element.longest} characters")
            text = text[: element.longest].rstrip()
            tally.add("cut_texts")
        if 0 < len(text) < element.shortest:
            raise place.held("TEXT_TOO_SHORT", f"{shown(text)} is shorter than {element.shortest} characters")
        return text

    return write


def _key(element: Element, place: Place, style: Style, tally: Tally) -> Format:
    clean = re.compile(element_text(element, style)).fullmatch
    moves = element.movable and style.key_too_long == "ref"

    def write(value: str) -> str:
        if clean(value):
            return value
        if not value:
            return ""
        if (character := style.characters.stranger(value)) is not None:
            what = (
                "a delimiter; give the layout other delimiters: that do not occur in it"
                if character in style.characters.reserved
                else f"outside of the {style.characters.character_set} character set; correct it in Fusion"
            )
            raise place.held("CHARACTER", f"{shown(value)} has {character!r}, which is {what}")
        if value.endswith(" "):
            raise place.held("CHARACTER", f"{shown(value)} ends in a space, which receivers drop; correct it in Fusion")
        if len(value) < element.shortest:
            raise place.held("KEY_TOO_SHORT", f"{value!r} is shorter than {element.shortest} characters")
        if not moves:
            raise place.held(
                "KEY_TOO_LONG",
                f"{shown(value)} has {len(value)} characters, the element takes {element.longest}"
                + ("; set key_too_long: ref to send it in a REF segment" if element.movable else ""),
            )
        tally.moved.append((place.target, value))
        tally.add("keys_moved")
        return stand_in(value, element.longest)

    return write


def _code(element: Element, place: Place, style: Style) -> Format:
    clean = re.compile(element_text(element, style)).fullmatch
    known = {""}

    def write(value: str) -> str:
        if value in known:
            return value
        if clean(value):
            if len(known) < 1000:
                known.add(value)
            return value
        length = f"{element.shortest} to {element.longest}" if element.shortest < element.longest else element.longest
        raise place.held("CODE_UNKNOWN", f"{shown(value)} is no code of {length} characters; give it a crosswalk row")

    return write


def _implied(element: Element, place: Place) -> Format:
    """N0 and N2: the places are the element's, whatever the currency: JPY 1000 in N2 is 100000."""
    places = 2 if element.type == "N2" else 0
    limit = 10**element.longest

    def write(value: Decimal | int) -> str:
        if type(value) is int and not places and 0 <= value < limit:
            return str(value)
        scaled = EXACT.scaleb(Decimal(value), places)
        whole = int(scaled)
        if whole != scaled:
            raise place.held(
                "AMOUNT_SCALE",
                f"{plain_number(Decimal(value))} has more than {places} decimals, which {element.type} cannot carry;"
                " amount_scale: amt sends the exact figure in AMT",
            )
        text = str(whole)
        if len(text) - (whole < 0) > element.longest:
            raise place.held("OVERFLOW", f"{text} has more than {element.longest} digits")
        return text

    return write


def _real(element: Element, place: Place) -> Format:
    longest, shortest = element.longest, element.shortest

    def write(value: Decimal | int) -> str:
        text = plain_number(value) if isinstance(value, Decimal) else str(value)
        if len(text) > longest or shortest > 1:
            digits = len(text) - text.count("-") - text.count(".")
            if digits > longest:
                raise place.held("OVERFLOW", f"{text} has {digits} digits, the element takes {longest}")
            if digits < shortest:
                text += ("" if "." in text else ".") + "0" * (shortest - digits)
        return text

    return write


@lru_cache(maxsize=4096)
def _eight_digits(value: dt.date) -> str:
    return f"{value.year:04d}{value.month:02d}{value.day:02d}"


@lru_cache(maxsize=4096)
def _six_digits(value: dt.date) -> str:
    return _eight_digits(value)[2:]


def _day(element: Element) -> Format:
    return _six_digits if element.longest == 6 else _eight_digits


def _clock(value: dt.time | dt.datetime) -> str:
    return value.strftime("%H%M%S")
