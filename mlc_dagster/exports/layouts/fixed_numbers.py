"""Numbers in a stretch of fixed length: sign, decimal mark, padding.

Takes texts that are exact and in full (``numbers``); gives texts that may be too long, which the writer refuses.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mlc_dagster.exports.layouts.numbers import overpunched


@dataclass(frozen=True, slots=True)
class NumberShape:
    """How a number column is filled."""

    length: int
    implied: bool
    mark: str
    sign: str
    plus: str
    pad: str
    left: bool

    @property
    def simple(self) -> bool:
        """Numbers that are not negative are digits and padding alone."""
        unsigned = self.sign in ("none", "separate", "parentheses") or (self.sign == "leading" and not self.plus)
        return unsigned and not self.left


class NegativeAmount(Exception):
    """A negative number in a column without a sign."""

    def __init__(self, index: int, text: str) -> None:
        self.index = index
        self.text = text
        super().__init__(text)


def place(text: str, shape: NumberShape) -> str:
    """One number in its stretch; longer than the length where it does not fit. Raises NegativeAmount."""
    return place_all([text], shape, zero="0", blank=None)[0]


def place_all(texts: Sequence[str | None], shape: NumberShape, *, zero: str, blank: str | None) -> list[str]:
    """Numbers in their stretch; absent ones as ``blank``, or as ``zero`` where that is None. Raises NegativeAmount."""
    length, pad = shape.length, shape.pad
    simple = shape.simple and "-" not in "".join(filter(None, texts))
    if simple and shape.implied:
        absent = zero.replace(".", "").rjust(length, pad) if blank is None else blank
        return [text.replace(".", "").rjust(length, pad) if text else absent for text in texts]
    numbers = [text or zero for text in texts]
    if shape.implied:
        numbers = [text.replace(".", "") for text in numbers]
    elif shape.mark != ".":
        numbers = [text.replace(".", shape.mark) for text in numbers]
    if simple:
        placed = [text.rjust(length, pad) for text in numbers]
    else:
        placed = [_signed(index, text, shape) for index, text in enumerate(numbers)]
    if blank is not None:
        placed = [own if text else blank for text, own in zip(texts, placed, strict=True)]
    return placed


def _signed(index: int, text: str, shape: NumberShape) -> str:
    negative = text.startswith("-")
    digits = text.removeprefix("-")
    if negative and not digits.strip("0.,"):
        negative = False  # Minus zero.
    if shape.sign == "none" and negative:
        raise NegativeAmount(index, text)
    before, after = "", ""
    if shape.sign in ("overpunch", "overpunch_ascii"):
        digits = overpunched(("-" if negative else "") + digits, ascii_table=shape.sign == "overpunch_ascii")
    elif shape.sign == "leading":
        before = "-" if negative else shape.plus
    elif shape.sign == "trailing":
        after = "-" if negative else shape.plus or " "
    elif shape.sign == "parentheses" and negative:
        before, after = "(", ")"
    if shape.left:
        return (before + digits + after).ljust(shape.length, " " if shape.pad == "0" else shape.pad)
    if shape.pad == "0":  # Zeros stand between the sign and the digits; other fillings before the sign.
        return before + digits.rjust(shape.length - len(before) - len(after), "0") + after
    return (before + digits + after).rjust(shape.length, shape.pad)
