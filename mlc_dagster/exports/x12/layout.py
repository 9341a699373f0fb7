"""X12 layouts made ready: the fields, crosswalks and elements that the YAML names are looked up.

Belongs here: from checked keys to a layout. Does not: the keys (``rules``), reading files and crosswalks
(``layouts.loading``), the segments.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pydantic
from pydantic import BaseModel

from mlc_dagster.exports.layouts.crosswalk import Crosswalk
from mlc_dagster.exports.layouts.errors import LayoutError
from mlc_dagster.exports.writing import Change
from mlc_dagster.exports.x12 import sources
from mlc_dagster.exports.x12.characters import Characters, Delimiters
from mlc_dagster.exports.x12.elements import Style
from mlc_dagster.exports.x12.rules import (
    DEFAULTS,
    DelimiterRules,
    ElementRules,
    FieldRules,
    PartyRules,
    ReferenceRules,
    SetRules,
    X12Rules,
)
from mlc_dagster.exports.x12.segments import segments
from mlc_dagster.exports.x12.sources import Origin

GROUPS = {"810": "IN", "850": "PO", "860": "PC", "821": "FR"}
"""Functional group code (GS01) by transaction set."""

SETS: dict[str, dict[str, str]] = {
    "invoices": {"new": "810", "change": "810", "cancel": "810"},
    "purchase_orders": {"new": "850", "change": "860", "cancel": "860"},
    "journals": {"new": "821", "change": "821", "cancel": "821"},
}
"""Sets by source and change, unless the layout says otherwise."""

OVERRIDABLE: dict[str, dict[str, int]] = {
    "810": {"BIG": 0, "CUR": 0, "ITD": 0, "TDS": 0, "IT1": 1},
    "850": {"BEG": 0, "CUR": 0, "PER": 0, "ITD": 0, "PO1": 1},
    "860": {"BCH": 0, "CUR": 0, "PER": 0, "ITD": 0, "POC": 1},
    "821": {"B2A": 0, "TRN": 0, "CUR": 0, "ENT": 1, "ACT": 1, "FIR": 1},
}
"""Segments whose elements a layout may fill from other fields, with the level of the fields that exist there."""

CHANGE_CODES = {
    "added": "AI",
    "removed": "DI",
    "quantity_up": "QI",
    "quantity_down": "QD",
    "price": "PC",
    "other": "CA",
    "unknown": "RZ",
}
"""POC02 by what happened to the line; ``other``: several things; ``unknown``: the partner's copy is not known."""

CROSSWALKS = ("units", "terms", "tax", "charges", "invoice_types")
"""Crosswalks that are used by their name: units of measure; payment terms to ITD01/ITD02/ITD07, such as 05/3/30; tax
classifications to TXI01; line types to SAC02; invoice types to BIG07."""


@dataclass(frozen=True)
class Party:
    entity: str
    name: Origin | None
    qualifier: str
    number: Origin | None


@dataclass(frozen=True)
class Reference:
    qualifier: str
    number: Origin
    description: Origin | None


@dataclass(frozen=True)
class Dated:
    qualifier: str
    field: Origin


@dataclass(frozen=True)
class X12Layout:
    """A checked layout, with its fields and crosswalks looked up."""

    rules: X12Rules
    sets: Mapping[Change, str]
    crosswalks: Mapping[str, Crosswalk]
    overrides: Mapping[str, Mapping[str, Origin]]
    parties: tuple[Party, ...]
    references: tuple[Reference, ...]
    line_references: tuple[Reference, ...]
    dates: tuple[Dated, ...]
    line_ids: tuple[Dated, ...]

    @property
    def name(self) -> str:
        return self.rules.name

    @property
    def delimiters(self) -> Delimiters:
        marks = self.rules.delimiters
        line_break = {"none": "", "lf": "\n", "crlf": "\r\n"}[self.rules.line_break]
        return Delimiters(marks.element, marks.component, marks.repetition, marks.segment, line_break)

    @property
    def style(self) -> Style:
        reserved = self.delimiters.reserved(self.rules.standard)
        characters = Characters(self.rules.character_set, reserved)
        return Style(characters, self.rules.text_too_long, self.rules.key_too_long, self.rules.amount_scale)

    @property
    def change_codes(self) -> dict[str, str]:
        return CHANGE_CODES | self.rules.change_codes


class _Looking:
    """Looks names up and gathers what is wrong with them."""

    def __init__(self, source: str, crosswalks: Mapping[str, Crosswalk]) -> None:
        self.paths = sources.paths(source)
        self.crosswalks = crosswalks
        self.problems: list[str] = []

    def origin(
        self, key: str, path: str | None, *, constant: str | None = None, crosswalk: str | None = None, level: int = 1
    ) -> Origin:
        if path is None:
            return Origin(repr(constant), 0, constant=constant)
        if path not in self.paths:
            self.problems.append(f"{key}: there is no field {path!r}; {nearest(path, list(self.paths))}")
        elif self.paths[path] > level:
            self.problems.append(f"{key}: {path!r} is a field of lines, and here is the whole document")
        if crosswalk is not None and crosswalk not in self.crosswalks:
            self.problems.append(
                f"{key}: there is no crosswalk {crosswalk!r}; {nearest(crosswalk, list(self.crosswalks))}"
            )
        return Origin.of_path(path, self.paths.get(path, 0), self.crosswalks.get(crosswalk or ""))


def nearest(name: str, valid: list[str]) -> str:
    """Words that lead from a wrong name to a right one."""
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"valid here: {', '.join(sorted(valid)) or 'none'}"


def parse_x12_layout(
    document: Mapping[str, object], *, source_file: str, crosswalks: Mapping[str, Crosswalk]
) -> X12Layout:
    """A layout from its YAML document.

    Raises:
        LayoutError: with one line per problem: key, value, what to do.
    """
    try:
        rules = X12Rules.model_validate(dict(document))
    except pydantic.ValidationError as error:
        raise LayoutError(source_file, [_explained(fault) for fault in error.errors(include_url=False)]) from None
    defaults = DEFAULTS[rules.source]
    given = {key: value for key, value in defaults.items() if getattr(rules, key) is None}
    rules = X12Rules.model_validate({**dict(document), **given})
    looking = _Looking(rules.source, crosswalks)
    sets = _sets(rules, looking)
    dates = _dated("dates", rules.dates, looking, level=0)
    references = [_reference(index, reference, looking) for index, reference in enumerate(rules.references or [])]
    layout = X12Layout(
        rules=rules,
        sets=sets,
        crosswalks=crosswalks,
        overrides=_overrides(rules, set(sets.values()), looking),
        parties=tuple(_party(index, party, looking) for index, party in enumerate(rules.parties or [])),
        references=tuple(reference for reference in references if reference.number.level == 0),
        line_references=tuple(reference for reference in references if reference.number.level == 1),
        dates=dates,
        line_ids=_dated("line_ids", rules.line_ids or [], looking, level=1),
    )
    looking.problems += [
        f"change_codes.{key}: unknown key; {nearest(key, list(CHANGE_CODES))}"
        for key in rules.change_codes
        if key not in CHANGE_CODES
    ]
    looking.problems += _unused(rules, crosswalks) + _unsendable(layout)
    if looking.problems:
        raise LayoutError(source_file, looking.problems)
    return layout


def _sets(rules: X12Rules, looking: _Looking) -> dict[Change, str]:
    chosen = SETS[rules.source] if rules.sets is None else rules.sets.model_dump()
    valid = sorted(set(SETS[rules.source].values()))
    for change, name in chosen.items():
        if name not in valid:
            looking.problems.append(f"sets.{change}: {name} does not carry {rules.source}; valid here: {valid}")
    if chosen["new"] == "860":
        looking.problems.append("sets.new: 860 changes an order that the partner has; a new one is an 850")
    return {Change(change.upper()): name for change, name in chosen.items()}


def _party(index: int, party: PartyRules, looking: _Looking) -> Party:
    key = f"parties.{index}"
    return Party(
        party.entity,
        looking.origin(f"{key}.name", party.name, level=0) if party.name else None,
        party.qualifier,
        looking.origin(f"{key}.number", party.number, level=0) if party.number else None,
    )


def _reference(index: int, reference: ReferenceRules, looking: _Looking) -> Reference:
    key = f"references.{index}"
    if (reference.field is None) == (reference.constant is None):
        looking.problems.append(f"{key}: give field or constant")
    number = looking.origin(key, reference.field, constant=reference.constant, crosswalk=reference.crosswalk)
    described = reference.description_field is not None or reference.description is not None
    description = (
        looking.origin(key, reference.description_field, constant=reference.description, level=number.level)
        if described
        else None
    )
    return Reference(reference.qualifier, number, description)


def _dated(key: str, rules: list[FieldRules], looking: _Looking, *, level: int) -> tuple[Dated, ...]:
    return tuple(
        Dated(rule.qualifier, looking.origin(f"{key}.{index}", rule.field, level=level))
        for index, rule in enumerate(rules)
    )


def _overrides(rules: X12Rules, sets: set[str], looking: _Looking) -> dict[str, dict[str, Origin]]:
    levels = {segment: level for name in sets & set(OVERRIDABLE) for segment, level in OVERRIDABLE[name].items()}
    found: dict[str, dict[str, Origin]] = {}
    for key, rule in rules.elements.items():
        segment, _, element = key.partition(".")
        if segment not in levels:
            looking.problems.append(f"elements.{key}: {segment!r} cannot be set; {nearest(segment, list(levels))}")
            continue
        names = segments(rules.standard)[segment].names
        if element not in names:
            looking.problems.append(f"elements.{key}: {segment} has no {element!r}; {nearest(element, names)}")
            continue
        origin = looking.origin(
            f"elements.{key}", rule.field, constant=rule.constant, crosswalk=rule.crosswalk, level=levels[segment]
        )
        found.setdefault(segment, {})[element] = origin
    return found


def _unused(rules: X12Rules, crosswalks: Mapping[str, Crosswalk]) -> list[str]:
    """A crosswalk under a name that nothing uses is a slip of the pen."""
    named = {rule.crosswalk for rule in (*rules.elements.values(), *(rules.references or []))}
    return [
        f"crosswalks.{name}: nothing uses it; {nearest(name, list(CROSSWALKS))}"
        for name in crosswalks
        if name not in named and name not in CROSSWALKS
    ]


def _unsendable(layout: X12Layout) -> list[str]:
    """Codes that go into segments as they are: a delimiter in one would shift everything behind it."""
    rules = layout.rules
    codes = {
        "currency_entity": rules.currency_entity or "",
        "account_qualifier": rules.account_qualifier,
        "period_end": rules.period_end,
        "transaction_code": rules.transaction_code,
    }
    codes |= {f"parties.{index}": party.entity for index, party in enumerate(rules.parties or [])}
    codes |= {f"references.{index}": reference.qualifier for index, reference in enumerate(rules.references or [])}
    codes |= {f"dates.{index}": dated.qualifier for index, dated in enumerate(rules.dates)}
    characters = layout.style.characters
    return [
        f"{key}: {code!r} has {stranger!r}, which is a delimiter or outside of the character set"
        for key, code in codes.items()
        if (stranger := characters.stranger(code)) is not None
    ]


_NESTED: dict[str, type[BaseModel]] = {
    "delimiters": DelimiterRules,
    "sets": SetRules,
    "parties": PartyRules,
    "references": ReferenceRules,
    "dates": FieldRules,
    "line_ids": FieldRules,
    "elements": ElementRules,
}


def _explained(fault: Any) -> str:
    location = fault["loc"]
    key = ".".join(str(part) for part in location)
    if fault["type"] == "extra_forbidden":
        model = X12Rules if len(location) == 1 else _NESTED.get(str(location[0]), X12Rules)
        return f"{key}: unknown key; {nearest(str(location[-1]), list(model.model_fields))}"
    if fault["type"] == "missing":
        return f"{key}: is required and absent"
    if key == "standard":
        return f"standard: {fault['input']!r} is not '004010' or '005010' (in quotes: YAML reads 004010 as a number)"
    text = fault["msg"].removeprefix("Value error, ")
    return f"{key}: {text} (found {fault['input']!r})"
