"""An invoice number as Fusion compares it, and as a person would mistake it.

``number_key`` decides who may post a number; ``normalised_key`` only raises a hold that a person can release:
2026-1-11 and 2026-11-1 have the same one and are different invoices.
"""

import functools
import re
import unicodedata

_DIGITS = re.compile(r"\d+")


@functools.lru_cache(maxsize=8192)
def number_key(number: str) -> str:
    """The number trimmed, in Unicode's composed form, without regard to case."""
    return unicodedata.normalize("NFC", number.strip()).casefold()


@functools.lru_cache(maxsize=8192)
def normalised_key(number: str) -> str:
    """Letters and digits only, leading zeros of every run of digits dropped: INV-00417, inv 417 and INV417 agree."""
    text = unicodedata.normalize("NFKC", number).casefold()
    text = _DIGITS.sub(lambda run: run[0].lstrip("0") or "0", text)
    return "".join(character for character in text if character.isalnum())
