"""The segments that this product writes: elements by name, position, type and length, and the rules between them.

Belongs here: what partners' guides say of the segments below, for 004010 and 005010. Not here, nor anywhere in the
product: the standard's own tables and code lists, which are licensed material.

Notation: ``name TYPE min/max`` in order of position; ``a/b|c/d`` is 004010 and 005010; M mandatory, text free text,
move a key that may go to a REF, ``-`` a position that is never written. Rules: P all or none, R at least one,
C if the first then all others, L if the first then at least one other, E at most one; positions in two digits.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from mlc_dagster.exports.x12.elements import Element

Standard = Literal["004010", "005010"]
STANDARDS: tuple[Standard, ...] = ("004010", "005010")


@dataclass(frozen=True, slots=True)
class Rule:
    """A relational condition between positions of one segment."""

    kind: str
    positions: tuple[int, ...]

    def broken_by(self, present: frozenset[int]) -> bool:
        here = [position in present for position in self.positions]
        if self.kind == "P":
            return any(here) and not all(here)
        if self.kind == "R":
            return not any(here)
        if self.kind == "E":
            return sum(here) > 1
        if self.kind == "C":
            return here[0] and not all(here[1:])
        return here[0] and not any(here[1:])

    def said(self, segment: "Segment") -> str:
        """In words, with the elements' names."""
        first, *others = (segment.element(position).name for position in self.positions)
        rest = ", ".join(others)
        return {
            "P": f"{first}, {rest} together or not at all",
            "R": f"at least one of {first}, {rest}",
            "E": f"at most one of {first}, {rest}",
            "C": f"{first} only with {rest}",
            "L": f"{first} only with one of {rest}",
        }[self.kind]

    def __str__(self) -> str:
        return self.kind + "".join(f"{position:02d}" for position in self.positions)


@dataclass(frozen=True)
class Segment:
    """A segment in one version of the standard; positions count from 1."""

    name: str
    elements: tuple[Element | None, ...]
    rules: tuple[Rule, ...]

    def position(self, name: str) -> int:
        """Raises KeyError."""
        for position, element in enumerate(self.elements, 1):
            if element is not None and element.name == name:
                return position
        raise KeyError(name)

    def element(self, position: int) -> Element:
        """Raises KeyError where nothing is ever written."""
        found = self.elements[position - 1]
        if found is None:
            raise KeyError(position)
        return found

    @property
    def names(self) -> list[str]:
        return [element.name for element in self.elements if element is not None]


PAIRS = 10
"""Product ids of a line: qualifier_1 and id_1 to qualifier_10 and id_10."""

_PAIRS = "; ".join(f"qualifier_{number} ID 2/2; id_{number} AN 1/48 move" for number in range(1, PAIRS + 1))


def _pair_rules(first: int) -> str:
    return " ".join(f"P{first + 2 * pair:02d}{first + 2 * pair + 1:02d}" for pair in range(PAIRS))


_TABLE: dict[str, tuple[str, str]] = {
    # Headings.
    "BIG": (
        (
            "issued DT 8/8 M; number AN 1/22 M move; order_date DT 8/8; order_number AN 1/22 move;"
            " release_number AN 1/30; change_number AN 1/8; type ID 2/2; purpose ID 2/2"
        ),
        "",
    ),
    "BEG": (
        (
            "purpose ID 2/2 M; type ID 2/2 M; number AN 1/22 M move; release_number AN 1/30; ordered DT 8/8 M;"
            " contract AN 1/30"
        ),
        "",
    ),
    "BCH": (
        (
            "purpose ID 2/2 M; type ID 2/2 M; number AN 1/22 M move; release_number AN 1/30; change_number AN 1/8;"
            " ordered DT 8/8 M; -; contract AN 1/30; -; -; changed DT 8/8"
        ),
        "",
    ),
    "B2A": ("purpose ID 2/2 M; type ID 2/2", ""),
    "TRN": ("type ID 1/2 M; number AN 1/30|1/50 M move; company AN 10/10; subdivision AN 1/30|1/50", ""),
    "CUR": ("entity ID 2/3 M; currency ID 3/3 M; rate R 4/10", ""),
    "REF": ("qualifier ID 2/3 M; number AN 1/30|1/50; description AN 1/80 text", "R0203"),
    "PER": ("function ID 2/2 M; name AN 1/60 text; qualifier ID 2/2; number AN 1/80", "P0304"),
    "N1": ("entity ID 2/3 M; name AN 1/60 text; qualifier ID 1/2; number AN 2/80", "R0203 P0304"),
    "ITD": (
        (
            "type ID 2/2; basis ID 1/2; discount_percent R 1/6; discount_due DT 8/8; discount_days N0 1/3;"
            " net_due DT 8/8; net_days N0 1/3; discount_amount N2 1/10; -; -; -; description AN 1/80 text"
        ),
        "L030405 L080405",
    ),
    "DTM": ("qualifier ID 3/3 M; date DT 8/8; time TM 4/8", "R0203"),
    "N9": ("qualifier ID 2/3 M; number AN 1/30|1/50; description AN 1/45 text", "R0203"),
    "MSG": ("text AN 1/264 M text", ""),
    # Lines.
    "IT1": (
        "line AN 1/20; quantity R 1/10|1/15; unit ID 2/2; price R 1/17; basis ID 2/2; " + _PAIRS,
        "P020304 " + _pair_rules(6),
    ),
    "PO1": (
        "line AN 1/20; quantity R 1/15; unit ID 2/2; price R 1/17; basis ID 2/2; " + _PAIRS,
        "C0302 C0504 " + _pair_rules(6),
    ),
    "POC": (
        "line AN 1/20; change ID 2/2 M; quantity R 1/15; left R 1/9; unit ID 2/2; price R 1/17;"
        " basis ID 2/2; " + _PAIRS,
        "C030405 C0706 " + _pair_rules(8),
    ),
    "PID": (
        "kind ID 1/1 M; characteristic ID 2/3; agency ID 2/2; code AN 1/12; description AN 1/80 text",
        "C0403 R0405",
    ),
    "SCH": (
        "quantity R 1/15 M; unit ID 2/2 M; entity ID 2/3; name AN 1/60 text; qualifier ID 3/3 M; date DT 8/8 M",
        "C0403",
    ),
    "TXI": (
        (
            "type ID 2/2 M; amount R 1/18; percent R 1/10; jurisdiction_qualifier ID 2/2; jurisdiction AN 1/10;"
            " exempt ID 1/1; relationship ID 1/1; taxable R 1/9; tax_id AN 1/20"
        ),
        "R020306 P0405 C0803",
    ),
    "SAC": (
        (
            "indicator ID 1/1 M; code ID 4/4; agency ID 2/2; agency_code AN 1/10; amount N2 1/15; percent_basis ID 1/1;"
            " percent R 1/6; rate R 1/9; -; -; -; -; reference AN 1/30|1/50; -; description AN 1/80 text"
        ),
        "R0203 P0304 P0607",
    ),
    "FA1": ("agency ID 2/2 M", ""),
    "FA2": ("code ID 2/2 M; value AN 1/80 M", ""),
    # 821's entries.
    "ENT": ("number N0 1/6; entity ID 2/3; qualifier ID 1/2; id AN 2/80", "P0203"),
    "ACT": ("account AN 1/35 M; name AN 1/60 text", ""),
    "FIR": (
        (
            "qualifier ID 1/3 M; code AN 1/30 M; amount R 1/18 M; date DT 8/8; -; -; -; -; side ID 1/1; -;"
            " currency ID 3/3; entered R 1/18"
        ),
        "C1211",
    ),
    # Totals.
    "TDS": ("total N2 1/15 M; discountable N2 1/15; net N2 1/15; discount N2 1/15", ""),
    "AMT": ("qualifier ID 1/3 M; amount R 1/18 M; side ID 1/1", ""),
    "CTT": ("lines N0 1/6 M; hash R 1/10", ""),
}


def _element(words: str, version: int) -> Element | None:
    name, *rest = words.split()
    if name == "-":
        return None
    kind, lengths, *marks = rest
    choices = lengths.split("|")
    shortest, longest = choices[min(version, len(choices) - 1)].split("/")
    return Element(
        name,
        kind,  # pyright: ignore[reportArgumentType]  The table above; a test reads every row.
        int(shortest),
        int(longest),
        mandatory="M" in marks,
        text="text" in marks,
        movable="move" in marks,
    )


def _rule(words: str) -> Rule:
    return Rule(words[0], tuple(int(words[start : start + 2]) for start in range(1, len(words), 2)))


@cache
def segments(standard: Standard) -> dict[str, Segment]:
    """All segments of a version, by name."""
    version = STANDARDS.index(standard)
    return {
        name: Segment(
            name,
            tuple(_element(words.strip(), version) for words in elements.split(";")),
            tuple(_rule(words) for words in rules.split()),
        )
        for name, (elements, rules) in _TABLE.items()
    }
