"""Partners' answers: 997 and 999 (groups and transaction sets), TA1 (whole interchanges).

Belongs here: what the answer says. Does not: which file it answers, and what follows (``acknowledging``).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice

from mlc_dagster.exports.x12.reading import Found, NotX12, broken, read_segments, shown
from mlc_dagster.visible import visible

__all__ = ["Answer997", "NotX12", "read_997"]


@dataclass(frozen=True, slots=True)
class Answer997:
    """One verdict: on a transaction set, on a group (``set_control`` is None), or on an interchange (TA1)."""

    group_code: str | None
    """Of the group that is answered: IN, PO … None in a TA1."""
    group_control: int
    """GS06 of the group that is answered; ISA13 of the interchange in a TA1."""
    set_id: str | None
    set_control: str | None
    code: str
    """A accepted, E accepted with errors, P partly accepted, R rejected (M, W and X: rejected for security)."""
    errors: tuple[str, ...]
    """As the answer has them: codes, and the segment and element they are about."""
    sender: str
    """Who answers: the id in the answer's ISA06."""
    receiver: str
    """ISA08."""
    interchange_control: int
    """ISA13 of the answer itself."""
    kind: str
    """``set``, ``group`` or ``interchange``."""


MOST_ANSWERS = 100_000
"""Verdicts in one file; a day's documents are some thousand."""
_MOST_ERRORS = 100
"""Errors kept of one verdict; partners list a few."""
_ERROR_LENGTH = 100
_CODE = re.compile(r"[A-Z0-9]{1,10}")
_SET_CONTROL = re.compile(r"[A-Za-z0-9._-]{1,20}")
_ENDS = ("AK5", "IK5")
_SEGMENT_ERRORS = ("AK3", "IK3")
_ELEMENT_ERRORS = ("AK4", "IK4")


def read_997(data: bytes) -> list[Answer997]:
    """All verdicts in a file of one or several interchanges, in order; other transaction sets in it are passed over.

    Raises:
        NotX12: no interchange, cut off, or an answer whose segments do not belong together.
    """
    return list(_Reader().read(data))


class _Reader:
    def __init__(self) -> None:
        self._about: Answer997 | None = None
        """The interchange that is being read, as an answer without content."""
        self._group: Answer997 | None = None
        self._set: Answer997 | None = None
        self._errors: list[str] = []
        self._answers: list[Answer997] = []
        self._is_answer = False

    def read(self, data: bytes) -> list[Answer997]:
        last = None
        for segment in read_segments(data):
            last = segment
            self._take(segment)
        if self._about is not None and last is not None:
            raise broken(last.place, "the interchange has no IEA; the file is cut off")
        return self._answers

    def _take(self, segment: Found) -> None:
        name = segment.name
        if name == "ISA":
            self._open(segment)
        elif name == "IEA":
            self._close(segment)
        elif name == "TA1":
            self._interchange(segment)
        elif name == "ST":
            self._is_answer = segment[1] in ("997", "999")
        elif name == "SE":
            if self._is_answer and (self._set is not None or self._group is not None):
                raise broken(segment.place, "the answer ends without AK9")
            self._is_answer = False
        elif self._is_answer:
            self._verdict(segment)

    def _open(self, segment: Found) -> None:
        if self._about is not None:
            raise broken(segment.place, "a new interchange begins before the last one has its IEA")
        self._about = Answer997(
            group_code=None,
            group_control=0,
            set_id=None,
            set_control=None,
            code="",
            errors=(),
            sender=segment[6].strip(),
            receiver=segment[8].strip(),
            interchange_control=segment.number_at(13),
            kind="interchange",
        )

    def _close(self, segment: Found) -> None:
        if self._about is None or segment.number_at(2) != self._about.interchange_control:
            raise broken(segment.place, f"IEA02 {shown(segment[2])} is not the interchange's number")
        if self._is_answer:
            raise broken(segment.place, "the answer has no SE; the file is cut off")
        self._about = None

    def _current(self, segment: Found) -> Answer997:
        if self._about is None:
            raise broken(segment.place, "stands outside of an interchange")
        return self._about

    def _note(self, error: str) -> None:
        if len(self._errors) < _MOST_ERRORS:
            self._errors.append(error)

    def _interchange(self, segment: Found) -> None:
        note = segment[5]
        answer = replace(
            self._current(segment),
            group_control=segment.number_at(1),
            code=_code(segment, 4),
            errors=_errors([note]) if note.strip("0") else (),
        )
        self._answer(answer, segment)

    def _answer(self, answer: Answer997, segment: Found) -> None:
        if len(self._answers) == MOST_ANSWERS:
            raise broken(segment.place, f"the file has more than {MOST_ANSWERS} verdicts")
        self._answers.append(answer)

    def _verdict(self, segment: Found) -> None:
        name = segment.name
        if name == "AK1":
            self._group = replace(
                self._current(segment),
                group_code=_matching(segment, 1, _CODE, "code of a group"),
                group_control=segment.number_at(2),
                kind="group",
            )
        elif name in ("AK2", *_SEGMENT_ERRORS, *_ELEMENT_ERRORS, *_ENDS, "AK9"):
            if self._group is None:
                raise broken(segment.place, "comes before AK1")
            self._detail(segment, self._group)

    def _detail(self, segment: Found, group: Answer997) -> None:
        name = segment.name
        if name == "AK2":
            self._set = replace(
                group,
                set_id=_matching(segment, 1, _CODE, "kind of a transaction set"),
                set_control=_matching(segment, 2, _SET_CONTROL, "control number"),
                kind="set",
            )
            self._errors = []
        elif name == "AK9":
            self._answer(replace(group, code=_code(segment, 1), errors=_errors(segment.elements[5:])), segment)
            self._group = self._set = None
        elif self._set is None:
            raise broken(segment.place, "comes before AK2")
        elif name in _SEGMENT_ERRORS:
            codes = " ".join(_errors(segment.elements[4:]))
            self._note(f"{segment[1]} at {segment[2]}: {codes}".rstrip(": "))
        elif name in _ELEMENT_ERRORS:
            value = f" ({segment[4]})" if segment[4] else ""
            self._note(f"element {segment[1].split(segment.component)[0]}: {segment[3]}{value}")
        else:
            codes = [code for code in segment.elements[2:] if code]
            errors = _errors([*self._errors, *codes])
            self._answer(replace(self._set, code=_code(segment, 1), errors=errors), segment)
            self._set = None


def _errors(texts: Iterable[str]) -> tuple[str, ...]:
    """What a partner says, fit for people and databases: a few texts of bounded length, nothing unseen."""
    return tuple(visible(text[:_ERROR_LENGTH]) for text in islice((text for text in texts if text), _MOST_ERRORS))


def _matching(segment: Found, position: int, pattern: re.Pattern[str], what: str) -> str:
    value = segment[position].strip()
    if pattern.fullmatch(value) is None:
        raise broken(segment.place, f"element {position} is {shown(value)}, which is no {what}")
    return value


def _code(segment: Found, position: int) -> str:
    code = segment[position].strip().upper()
    if code not in ("A", "E", "P", "R", "M", "W", "X"):
        raise broken(
            segment.place, f"element {position} is {shown(segment[position])}, which is no verdict (A, E, P, R)"
        )
    return code
