"""The conditions of ``q`` that the benchmark asks for, as tests of one batch; every other one is refused."""

import datetime as dt
import re
from collections.abc import Callable, Iterator
from functools import cache

from bench import journal_books as books_of
from bench.journal_books import changed_at

_CONDITION = re.compile(r"([A-Za-z.]+)\s*(>=|<=|!=|=|>|<)\s*('[^']*'|\d+)")
_ANY_OF = re.compile(r"([A-Za-z.]+)\s+in\s*\(([^)]*)\)", re.IGNORECASE)
_COMPARISONS: dict[str, Callable[[str | int, str | int], bool]] = {
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    ">": lambda left, right: left > right,  # type: ignore[operator]
    ">=": lambda left, right: left >= right,  # type: ignore[operator]
    "<": lambda left, right: left < right,  # type: ignore[operator]
    "<=": lambda left, right: left <= right,  # type: ignore[operator]
}


class NotServed(Exception):
    """A question this server does not know how to answer."""


def matches(batch_id: int, q: str) -> bool:
    """True when the batch is one that ``q`` asks for; raises NotServed."""
    return all(condition(batch_id) for condition in _conditions(q))


@cache
def _conditions(q: str) -> tuple[Callable[[int], bool], ...]:
    """The expression as tests of one batch; headers and lines have their batch's dates."""
    return tuple(_parsed(q))


def _parsed(q: str) -> Iterator[Callable[[int], bool]]:
    rest = q.strip()
    while rest:
        # Groups only ever join with "and" here: brackets change nothing.
        rest = rest.lstrip("( ")
        if found := _ANY_OF.match(rest):
            wanted = frozenset(_value(text) for text in found[2].split(","))
            yield lambda batch_id, name=found[1], wanted=wanted: _attribute(batch_id, name) in wanted
        elif found := _CONDITION.match(rest):
            compare = _COMPARISONS[found[2]]
            bound = _value(found[3])
            yield lambda batch_id, name=found[1], bound=bound, compare=compare: compare(
                _attribute(batch_id, name), bound
            )
        else:
            raise NotServed(f"q: {rest}")
        rest = rest[found.end() :].lstrip(") ")
        if rest:
            joint, _, rest = rest.partition(" ")
            if joint.lower() != "and":
                raise NotServed(f"q: {q}")
            rest = rest.strip()


def _value(text: str) -> str | int:
    text = text.strip().strip("'")
    if text.isdigit():
        return int(text)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC).astimezone(dt.UTC).isoformat(timespec="microseconds")


def _attribute(batch_id: int, name: str) -> str | int:
    match name.rsplit(".", 1)[-1]:
        case "JeBatchId":
            return batch_id
        case "LastUpdateDate" | "CreationDate":
            return changed_at(batch_id).isoformat(timespec="microseconds")
        case "Status":
            return "P"
        case "LedgerName":
            return books_of.LEDGER
        case "ActualFlagMeaning":
            return "Actual"
        case other:
            raise NotServed(f"attribute {other}")
