"""Expressions for the ``q`` parameter (framework version 2 and later) and for ``InvoiceId in (…)`` chunks.

Fusion documents no escape inside a quoted value, so values are held to a list of harmless characters; whatever is
outside it cannot be asked for and has to be compared by the caller.
"""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from mlc_dagster.fusion.errors import NotPlain

MAX_URL = 2000
"""Characters of an encoded URL that every gateway on the way is known to let through."""

MAX_VALUES = 50
"""Values of one ``in (…)`` list; no limit is documented, this many are in use."""

_PLAIN = re.compile(r"[A-Za-z0-9 ._/\-]+")


def is_plain(value: str) -> bool:
    """True when ``value`` may stand in a ``q`` expression. Blanks at the ends are not plain: they are not compared."""
    return _PLAIN.fullmatch(value) is not None and value == value.strip()


def quoted(value: str) -> str:
    """``value`` in single quotes; raises NotPlain when it could change the meaning of the expression."""
    if not is_plain(value):
        raise NotPlain(value)
    return f"'{value}'"


def equals(attribute: str, value: str | int) -> str:
    """``attribute='value'``; whole numbers are written bare."""
    return f"{attribute}={value if isinstance(value, int) else quoted(value)}"


def any_of(attribute: str, values: Iterable[str | int]) -> str:
    """``attribute in ('a','b')``; raises NotPlain for the first value that cannot be written, ValueError for none."""
    written = [str(value) if isinstance(value, int) else quoted(value) for value in values]
    if not written:
        msg = f"{attribute} in (): an empty list would match nothing; do not ask"
        raise ValueError(msg)
    return f"{attribute} in ({','.join(written)})"


def all_of(*conditions: str) -> str:
    """``a and b``; empty conditions are left out."""
    return " and ".join(condition for condition in conditions if condition)


def encoded_length(text: str) -> int:
    """Characters ``text`` takes in a percent-encoded URL."""
    return len(quote(text, safe=""))


def chunked(values: Iterable[str], room: int, *, at_most: int = MAX_VALUES) -> Iterator[list[str]]:
    """Distinct ``values`` in their order, in groups whose encoded list takes no more than ``room`` characters.

    ``room`` counts what is left of MAX_URL beside everything else in the address. A single value always gets through,
    be it too long: better one long address than an invoice that is never looked up.
    """
    group: list[str] = []
    used = 0
    for value in dict.fromkeys(values):
        size = encoded_length(f"'{value}',")
        if group and (used + size > room or len(group) == at_most):
            yield group
            group, used = [], 0
        group.append(value)
        used += size
    if group:
        yield group
