r"""Texts in an answer that no reader of JSON, or no database, takes: halves of surrogate pairs (``"\ud800"``) and NUL.

One of them makes the whole answer unreadable. What belongs here: getting them out of the way, either shown as text, so
that the rows around them can be read, or blotted, so that the row they are in is refused and no other.
"""

import re

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2}|u0000)|.)",
    re.DOTALL,
)
"""An escape of a JSON text; in the group when it stands for nothing that can be kept."""
_NO_UTF8 = re.compile("[\udc80-\udcff]")
_SHOWN = re.compile(r"\\u(?:d[89a-f][0-9a-f]{2}|0000)")


def shown(content: bytes) -> bytes:
    r"""The same JSON with such characters written out: the text then has ``\ud800``, backslash and all.

    Bytes that are no UTF-8 are shown in the same way.
    """
    text = content.decode("utf-8", "surrogateescape")
    known = _NO_UTF8.sub(lambda match: f"\\{ascii(match[0])[1:-1]}", text).encode()
    return _ESCAPE.sub(lambda match: match[0] if match[1] is None else b"\\\\" + match[1].lower(), known)


def blotted(content: bytes) -> bytes:
    """The same JSON with a NUL for each: a reader that takes halves of pairs for broken JSON can find the rows."""
    return _ESCAPE.sub(lambda match: match[0] if match[1] is None else b"\\u0000", content)


def may_be(text: str, sought: str) -> bool:
    """Whether a text is the one that is sought, or, where characters of it are ``shown``, may be it in truth.

    One at most stands for each that is shown, since half a pair may stand for none. Every place that a part may begin
    at is followed at once: a pattern would try them one after the other, which takes for ever with a dozen.
    """
    if text == sought:
        return True
    first, *parts = _SHOWN.split(text)
    ends = {len(first)} if sought.startswith(first) else set[int]()
    for part in parts:
        ends = {place + len(part) for end in ends for place in (end, end + 1) if sought.startswith(part, place)}
    return len(sought) in ends
