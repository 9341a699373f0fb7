"""Whether a finished interchange holds together, read from its bytes alone: envelopes, counts, elements, rules.

Belongs here: what any receiver can check without knowing the documents. Does not: arithmetic of amounts, which the
sets check before they write.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from mlc_dagster.exports.x12.elements import Element
from mlc_dagster.exports.x12.reading import Found, NotX12, read_segments
from mlc_dagster.exports.x12.segments import Segment, Standard, segments


@dataclass
class Inspection:
    """What was looked at, and what was found."""

    problems: list[str] = field(default_factory=list[str])
    """One line per fault, each with its place."""
    looked_at: Counter[str] = field(default_factory=Counter[str])
    """By check, how often it was made; ``failed`` are in it too."""
    failed: set[str] = field(default_factory=set[str])

    @property
    def passed(self) -> list[str]:
        """One line per check that found nothing, with how often it was made, in the order of their first time."""
        return [f"{check}: {count}" for check, count in self.looked_at.items() if check not in self.failed]

    def look(self, check: str, problem: str | None) -> None:
        """Note one check and, where there is one, the fault that it found."""
        self.looked_at[check] += 1
        if problem is not None:
            self.failed.add(check)
            self.problems.append(problem)


def check_interchange(data: bytes) -> Inspection:
    """Envelopes: lengths, nesting, counts and control numbers."""
    checking = _Envelopes()
    try:
        for segment in read_segments(data):
            checking.take(segment)
    except NotX12 as error:
        checking.found.look("interchanges can be read to their end", str(error))
    else:
        for opening in checking.open:
            checking.found.look(f"every {opening.name} is closed", f"{opening.place} is never closed")
    return checking.found


_CLOSES = {"IEA": "ISA", "GE": "GS", "SE": "ST"}
_WITHIN = {"ISA": None, "GS": "ISA", "ST": "GS"}
_NUMBERS = {"ISA": 13, "GS": 6, "ST": 2}
_COUNTED = {"IEA": "groups", "GE": "sets", "SE": "segments"}
_NO_EMPTY_END = "segments end in a value"


class _Envelopes:
    def __init__(self) -> None:
        self.found = Inspection()
        self.open: list[Found] = []
        self._inside: list[int] = []
        """How many parts, or segments, each open envelope has so far."""
        self._seen: set[tuple[str, str, str]] = set()

    def take(self, segment: Found) -> None:
        name = segment.name
        if name in _CLOSES:
            self._close(segment)
            return
        if name in _NUMBERS:
            self._open(segment)
        else:
            outside = not self.open or (self.open[-1].name != "ST" and name != "TA1")
            self.found.look(
                "segments stand in a transaction set",
                f"{segment.place} stands outside of a transaction set" if outside else None,
            )
            if not outside and name != "TA1":
                self._inside[-1] += 1
        is_bare = segment.elements[-1] == "" or len(segment.elements) == 1
        self.found.look(_NO_EMPTY_END, f"{segment.place} ends in an empty element" if is_bare else None)

    def _open(self, segment: Found) -> None:
        name = segment.name
        if name == "ISA":
            # The reader takes no other length: positions tell it the delimiters.
            self.found.look("ISA has 106 bytes", None)
        above = self.open[-1].name if self.open else None
        within = _WITHIN[name]
        self.found.look(
            f"{name} stands in {within}" if within else f"{name} comes first",
            None if above == within else f"{segment.place} stands in {above or 'nothing'} instead of {within}",
        )
        if self._inside:
            self._inside[-1] += 1
        number = segment[_NUMBERS[name]]
        key = (name, ">".join(found[_NUMBERS[found.name]] for found in self.open), number)
        self.found.look(
            f"{_element(name)} is there once",
            f"{segment.place}: control number {number} is there twice" if key in self._seen else None,
        )
        self._seen.add(key)
        if name == "GS":
            padded = number.startswith("0")
            self.found.look(
                "GS06 has no leading zeros",
                f"{segment.place}: control number {number} has leading zeros" if padded else None,
            )
        self.open.append(segment)
        self._inside.append(0)

    def _close(self, segment: Found) -> None:
        name = segment.name
        opening = _CLOSES[name]
        if not self.open or self.open[-1].name != opening:
            self.found.look(f"{name} closes {opening}", f"{segment.place} closes nothing")
            return
        opened, inside = self.open.pop(), self._inside.pop()
        count = inside + 2 if opening == "ST" else inside
        self.found.look(
            f"{name}01 counts the {_COUNTED[name]}",
            None if segment[1] == str(count) else f"{segment.place} counts {segment[1]!r}, there are {count}",
        )
        number = opened[_NUMBERS[opening]]
        self.found.look(
            f"{name}02 is {_element(opening)}",
            None if segment[2] == number else f"{segment.place} has the number {segment[2]!r}, not {number!r}",
        )


def _element(name: str) -> str:
    return f"{name}{_NUMBERS[name]:02d}"


_NUMBER = {"N0": re.compile(r"-?[0-9]+"), "N2": re.compile(r"-?[0-9]+"), "R": re.compile(r"-?[0-9]*\.?[0-9]+")}
_DIGITS = re.compile(r"[0-9]+")
_LINES = ("IT1", "PO1", "POC")


def check_segments(data: bytes, standard: Standard, allowed: frozenset[str]) -> Inspection:
    """Between ST and SE: characters, mandatory elements, types and lengths, relational rules, CTT's count of lines.

    Args:
        standard: whose lengths count.
        allowed: characters that data may have.

    Raises:
        NotX12: the bytes cannot be read.
    """
    found = Inspection()
    table = segments(standard)
    lines = 0
    for segment in read_segments(data):
        if segment.name == "ST":
            lines = 0
        elif segment.name in _LINES:
            lines += 1
        if segment.name in table:
            _check_segment(segment, table[segment.name], allowed, found)
        if segment.name == "CTT":
            is_right = segment[1] == str(lines)
            found.look(
                "CTT01 counts the lines",
                None if is_right else f"{segment.place} counts {segment[1]!r} lines, there are {lines}",
            )
    return found


def _check_segment(segment: Found, known: Segment, allowed: frozenset[str], found: Inspection) -> None:
    name, values = segment.name, segment.elements[1:]
    strange = [character for value in values for character in value if character not in allowed]
    found.look(
        "characters are of the set and no delimiters", f"{segment.place} has {strange[0]!r}" if strange else None
    )
    faults = [
        f"{name}{position:02d} {fault}"
        for position in range(1, max(len(values), len(known.elements)) + 1)
        if (fault := _fault(known, position, segment[position]))
    ]
    found.look(
        f"{name}: mandatory elements are there, types and lengths are right",
        f"{segment.place}: {', '.join(faults)}" if faults else None,
    )
    present = frozenset(position for position, value in enumerate(values, 1) if value)
    for rule in known.rules:
        # Rules about elements that nobody writes would only be noise.
        if rule.kind == "R" or present.intersection(rule.positions):
            broken = rule.broken_by(present)
            found.look(
                f"{name} {rule}: {rule.said(known)}",
                f"{segment.place} breaks {rule}: {rule.said(known)}" if broken else None,
            )


def _fault(known: Segment, position: int, value: str) -> str | None:
    element = known.elements[position - 1] if position <= len(known.elements) else None
    if element is None:
        return f"{value!r} is where nothing may be" if value else None
    if not value:
        return f"{element.name} is empty" if element.mandatory else None
    return None if _fits(element, value) else f"{element.name} {value!r} is not {element.form}"


def _fits(element: Element, value: str) -> bool:
    if element.type in _NUMBER:
        digits = value.lstrip("-").replace(".", "")
        return bool(_NUMBER[element.type].fullmatch(value)) and element.shortest <= len(digits) <= element.longest
    if element.type in ("DT", "TM") and not _DIGITS.fullmatch(value):
        return False
    return element.shortest <= len(value) <= element.longest
