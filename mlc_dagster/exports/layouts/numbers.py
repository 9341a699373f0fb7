"""Decimals as text, exactly: never through float, never rounded.

Belongs here: columns of numbers to columns of text, decimal marks, signs and overpunch. Does not: which column has how
many decimals (``cells``) and lengths (``fixed_writer``).
"""

from collections.abc import Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation

# Quantizing in this context cannot round: more decimals than asked for raise Inexact.
_EXACT = Context(prec=400, traps=[Inexact, InvalidOperation])

_UNITS = tuple(Decimal(1).scaleb(-places) for places in range(31))

_POSITIVE = "{ABCDEFGHI"
_NEGATIVE = "}JKLMNOPQR"
_NEGATIVE_ASCII = "pqrstuvwxy"
"""Last digit and sign in one character: the table of US EBCDIC, and the one of ASCII COBOL compilers."""


class ScaleExceeded(Exception):
    """A number with more decimals than the column has, or none at all (NaN, infinity)."""

    def __init__(self, index: int, value: Decimal, places: int | None) -> None:
        self.index = index
        self.value = value
        self.places = places
        super().__init__(f"{value} has more than {places} decimals" if value.is_finite() else f"{value} is no number")


def _checked(values: Sequence[Decimal | None], places: int | None) -> list[str | None]:
    """The same value by value, to find the one at fault and to write out exponents."""
    texts: list[str | None] = []
    for index, value in enumerate(values):
        if value is None:
            texts.append(None)
            continue
        exponent = value.as_tuple().exponent
        if not isinstance(exponent, int):
            raise ScaleExceeded(index, value, places)
        try:
            exact = value if places is None else value.quantize(_UNITS[places], context=_EXACT)
        except (Inexact, InvalidOperation):
            raise ScaleExceeded(index, value, places) from None
        texts.append(format(exact, "f"))
    return texts


def number_texts(values: Sequence[Decimal | None], places: int | None) -> list[str | None]:
    """Numbers in full (no exponent) with ``places`` decimals, or with their own where None.

    Raises:
        ScaleExceeded: a number has more decimals than ``places``; nothing is rounded.
    """
    try:
        if places is None:
            texts = [None if value is None else str(value) for value in values]
        else:
            unit = _UNITS[places]
            quantize = Decimal.quantize
            texts = [None if value is None else str(quantize(value, unit, None, _EXACT)) for value in values]
    except (Inexact, InvalidOperation):
        return _checked(values, places)
    joined = "".join(filter(None, texts))
    if "E" in joined or "N" in joined or "I" in joined:  # 1E-7, NaN, Infinity.
        return _checked(values, places)
    return texts


def quick_texts(values: Sequence[Decimal | None], places: int | None, absent: str) -> list[str] | None:
    """``number_texts`` with ``absent`` for absent ones; None where one of them needs a closer look."""
    try:
        if places is None:
            texts = [absent if value is None else str(value) for value in values]
        else:
            unit, quantize, mark = _UNITS[places], Decimal.quantize, slice(-places - 1, -places or None)
            # Most have their decimals already: a look at where the mark stands is cheaper than making them so.
            texts = [
                absent
                if value is None
                else text
                if (text := str(value))[mark] == "."
                else str(quantize(value, unit, None, _EXACT))
                for value in values
            ]
    except (Inexact, InvalidOperation):
        return None
    joined = "".join(texts)
    return None if "E" in joined or "N" in joined or "I" in joined else texts


def quick_implied(
    values: Sequence[Decimal | None], places: int, length: int, pad: str, absent: str
) -> list[str] | None:
    """Digits without decimal mark, padded to ``length``; None where one is negative, too long or of another form."""
    unit, quantize = _UNITS[places], Decimal.quantize
    try:
        texts = [
            absent if value is None else str(quantize(value, unit, None, _EXACT)).replace(".", "").rjust(length, pad)
            for value in values
        ]
    except (Inexact, InvalidOperation):
        return None
    joined = "".join(texts)
    odd = len(joined) != length * len(texts) or "-" in joined or "E" in joined or "N" in joined or "I" in joined
    return None if odd else texts


def styled(texts: list[str | None], mark: str, negative: str) -> list[str | None]:
    """The numbers with another decimal mark, and negative ones with their sign behind or in parentheses."""
    if mark != ".":
        texts = [None if text is None else text.replace(".", mark) for text in texts]
    if negative == "trailing":
        return [text[1:] + "-" if text is not None and text[0] == "-" else text for text in texts]
    if negative == "parentheses":
        return [f"({text[1:]})" if text is not None and text[0] == "-" else text for text in texts]
    return texts


def overpunched(text: str, *, ascii_table: bool = False) -> str:
    """A number whose last digit carries the sign: 12345 is 1234E, -12345 is 1234N (ASCII: 12345 and 1234u)."""
    negative = text.startswith("-")
    digits = text.removeprefix("-")
    last = int(digits[-1])
    if ascii_table:
        return digits[:-1] + (_NEGATIVE_ASCII[last] if negative else digits[-1])
    return digits[:-1] + (_NEGATIVE if negative else _POSITIVE)[last]


def digits_of(text: str) -> int:
    """The digits of a text as one number, for hash totals; 0 where it has none."""
    return int(text if text.isdecimal() else "".join(filter(str.isdecimal, text)) or "0")
