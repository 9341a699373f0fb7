"""Encodings of files: which have one byte per character, and what stands in for characters that one lacks."""

from collections.abc import Callable

SINGLE_BYTE = frozenset(
    {"ascii", "koi8-r", "mac-roman", *(f"iso8859-{part}" for part in range(1, 17))}
    | {f"cp{page}" for page in (37, 437, 500, 850, 852, 858, 1026, 1140)}
    | {"cp037", "cp273", *(f"cp{page}" for page in range(1250, 1259))}
)
"""Names as ``codecs.lookup`` gives them."""

_STAND_INS = {
    "'": "\u2018\u2019\u201a\u201b",
    '"': "\u201c\u201d\u201e\u00ab\u00bb",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212",
    " ": "\u00a0\u2009\u202f",
    "": "\u200b",
    "...": "\u2026",
    "*": "\u2022",
    "x": "\u00d7",
    "EUR": "\u20ac",
    "GBP": "\u00a3",
    "TM": "\u2122",
}
PLAIN = {ord(character): plain for plain, characters in _STAND_INS.items() for character in characters}
"""Common punctuation in plain characters."""


def encodable(text: str, encoding: str) -> bool:
    """Whether the encoding has every character of the text."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def extends_ascii(encoding: str) -> bool:
    """Whether an encoding of one byte per character gives ASCII characters their ASCII bytes."""
    every = bytes(range(128))
    return encoding in SINGLE_BYTE and every.decode(encoding, "replace") == every.decode("ascii")


def encoder(encoding: str) -> Callable[[str], bytes]:
    """Encodes as ``str.encode``, errors included, but faster where the encoding has one byte per character.

    Code pages go through a table of Python's, character by character; Latin-1 and a table of bytes are three times as
    fast, and nearly all texts of business are within Latin-1.
    """

    def slow(text: str) -> bytes:
        return text.encode(encoding)

    if encoding not in SINGLE_BYTE or encoding == "iso8859-1":
        return slow
    latin = [chr(code) for code in range(256)]
    absent = bytes(ord(character) for character in latin if not encodable(character, encoding))
    table = b"".join(character.encode(encoding, "replace")[:1] for character in latin)
    identical = extends_ascii(encoding)

    def fast(text: str) -> bytes:
        if identical and text.isascii():
            return text.encode("ascii")
        try:
            raw = text.encode("latin-1")
        except UnicodeEncodeError:
            return slow(text)
        encoded = raw.translate(table, absent) if absent else raw.translate(table)
        return encoded if len(encoded) == len(raw) else slow(text)

    return fast


def first_unencodable(text: str, encoding: str) -> str:
    """The first character that the encoding lacks; empty where there is none."""
    return next((character for character in text if not encodable(character, encoding)), "")


def substitute(text: str, encoding: str, replacement: str, count: Callable[[int], None]) -> str:
    """The text in characters of the encoding; ``count`` is told how many were replaced.

    Common punctuation becomes plain characters, any other character ``replacement``.
    """
    if encodable(text, encoding):
        return text
    result: list[str] = []
    replaced = 0
    for character in text:
        if encodable(character, encoding):
            result.append(character)
            continue
        replaced += 1
        plain = character.translate(PLAIN)
        result.append(plain if plain != character and encodable(plain, encoding) else replacement)
    count(replaced)
    return "".join(result)
