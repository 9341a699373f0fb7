"""Text that came from outside, made fit for a screen: what a terminal or a browser would act upon is escaped.

Belongs here: control characters, escape sequences, characters that turn the direction of writing or are not seen at
all, and Markdown. Does not: what is stored and sent; there the text stays as it is.
"""

import re

_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # Controls; line feed and tab are told apart below.
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff"
)
_IN_LINE = re.compile(f"[\t\n{_UNSEEN}]")
_IN_PAGE = re.compile(f"[{_UNSEEN}]")
_MARKDOWN = re.compile(r"[\\\[\]!*~|]|```+|^[#>+=-]")


def visible(text: str, *, lines: bool = False) -> str:
    r"""``text`` with everything unseen as ``\x1b``, ``\u202e`` …; ``lines`` keeps line feeds and tabs."""
    return (_IN_PAGE if lines else _IN_LINE).sub(lambda match: ascii(match[0])[1:-1], text)


def visible_json(document: str) -> str:
    r"""The same JSON document, what is unseen in its strings written as ``\uXXXX``."""
    return _IN_PAGE.sub(_json_escape, document)


def markdown(text: str) -> str:
    """``text`` as Markdown that shows it: one line, no links, images or HTML; code in backticks stays."""
    escaped = _MARKDOWN.sub(lambda match: "".join(f"\\{mark}" for mark in match[0]), visible(" ".join(text.split())))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
