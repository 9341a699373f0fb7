"""Shapes: a segment with a fixed choice of its elements, made ready once and then filled in for every document.

Belongs here: from values to one segment's text, mandatory elements, relational rules, trailing empty elements. Does
not: which values. Speed matters here: a file has hundreds of thousands of segments.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlc_dagster.exports.writing import DocumentHeld
from mlc_dagster.exports.x12.characters import Delimiters, Tally
from mlc_dagster.exports.x12.elements import Element, Format, Place, Style, element_text, formatting
from mlc_dagster.exports.x12.segments import Segment
from mlc_dagster.exports.x12.sources import Origin, Scope, into

REMEMBERED = 4096
"""Texts kept for each segment that many documents share."""


def _literal(text: str) -> str:
    """Text that Python's % formatting leaves as it is."""
    return text.replace("%", "%%")


@dataclass(frozen=True, slots=True)
class Filled:
    """One element of a segment as it is filled in, for people."""

    source: str
    """A source field, or a constant in quotes."""
    target: str
    """Such as ``N102 name``."""
    of: str
    """The segment with its constants, such as ``N1*SE``."""
    element: Element


class Shape:
    """A segment writer; call it with the scope (for overrides) and one value per field, in the order of ``fields``."""

    __slots__ = (
        "_dates",
        "_delimiter",
        "_ending",
        "_extra",
        "_fixed",
        "_formats",
        "_is_complete",
        "_is_unsound",
        "_needed",
        "_places",
        "_positions",
        "_remembered",
        "_segment",
        "_sound",
        "_tally",
        "_template",
    )

    def __init__(
        self,
        segment: Segment,
        fields: Mapping[str, str],
        *,
        style: Style,
        delimiters: Delimiters,
        tally: Tally,
        constants: Mapping[str, str] | None = None,
        overrides: Mapping[str, Origin] | None = None,
        only_with: str | None = None,
    ) -> None:
        """Make ready.

        Args:
            fields: element name to the source field that errors name, in the segment's order.
            constants: element name to its fixed text.
            overrides: element name to where the layout wants its value from, instead of the value given or besides.
            only_with: the element without which there is no segment (and the call gives "").

        Raises:
            KeyError: the segment has no such element.
            ValueError: ``fields`` is not in the segment's order.
        """
        overrides = overrides or {}
        given = [segment.position(name) for name in fields]
        if given != sorted(given):
            raise ValueError(f"{segment.name}: {list(fields)} is not in the segment's order")
        origins = {segment.position(name): origin for name, origin in overrides.items()}
        fixed = {
            segment.position(name): text
            for name, text in (constants or {}).items()
            if segment.position(name) not in origins
        }
        self._segment = segment
        self._tally = tally
        self._positions = tuple(sorted({*given, *origins}))
        self._extra = tuple(
            (index, origins[position], position in given)
            for index, position in enumerate(self._positions)
            if position in origins
        )
        sources = dict(zip(given, fields.values(), strict=True)) | {at: origin.name for at, origin in origins.items()}
        self._places = tuple(
            Place(f"{segment.name}{position:02d} {segment.element(position).name}", sources[position])
            for position in self._positions
        )
        self._formats: tuple[Format, ...] = tuple(
            formatting(segment.element(position), place, style, tally)
            for position, place in zip(self._positions, self._places, strict=True)
        )
        self._delimiter = delimiters.element
        self._ending = delimiters.ending
        last = max([*self._positions, *fixed])
        cells = ["%s" if at in self._positions else _literal(fixed.get(at, "")) for at in range(1, last + 1)]
        self._template = _literal(delimiters.element).join([segment.name, *cells]) + _literal(delimiters.ending)
        self._sound: set[tuple[bool, ...]] = set()
        self._remembered: dict[tuple[Any, ...], str] = {}
        self._fixed = fixed
        # Only a layout's own elements can do this: one of a pair, say.
        self._is_unsound = any(rule.broken_by(frozenset((*self._positions, *fixed))) for rule in segment.rules)
        for position, element in enumerate(segment.elements, 1):
            if element is not None and element.mandatory and position not in {*self._positions, *fixed}:
                raise ValueError(f"{segment.name}{position:02d} {element.name} is mandatory")
        self._needed = self._positions.index(segment.position(only_with)) if only_with is not None else None
        elements = [segment.element(position) for position in self._positions]
        self._dates = tuple(
            (index, write)
            for index, (element, write) in enumerate(zip(elements, self._formats, strict=True))
            if element.type == "DT"
        )
        sound = [
            element_text(segment.element(at), style) if at in self._positions else re.escape(fixed.get(at, ""))
            for at in range(1, last + 1)
        ]
        pattern = re.escape(delimiters.element).join([segment.name, *sound]) + re.escape(delimiters.ending)
        self._is_complete = re.compile("(?!)" if self._is_unsound else pattern).fullmatch

    @property
    def name(self) -> str:
        return self._segment.name

    def filled(self) -> list[Filled]:
        """Its elements, in the segment's order."""
        of = "*".join([self.name, *(self._fixed[position] for position in sorted(self._fixed))])
        sources = {position: place.field for position, place in zip(self._positions, self._places, strict=True)}
        sources |= {position: repr(text) for position, text in self._fixed.items()}
        elements = [(position, self._segment.element(position)) for position in sorted(sources)]
        return [
            Filled(sources[position], f"{self.name}{position:02d} {element.name}", of, element)
            for position, element in elements
        ]

    def __call__(self, scope: Scope, *values: Any) -> str:
        """The segment's text with its terminator, "" where it would have no element; raises DocumentHeld.

        Most segments have all their values, and those need no repair: one pattern of the whole segment tells. No value
        can pose as two, for none may have a delimiter in it.
        """
        if self._extra:
            values = self._overridden(scope, values)
        text = self._template % (self._with_dates(values) if self._dates else values)
        # An absent value reads None here, as a text may: both are looked at one by one.
        if "None" not in text and self._is_complete(text):
            return text
        return self._one_by_one(values)

    def _with_dates(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        full = list(values)
        for index, write in self._dates:
            if full[index] is not None:
                full[index] = write(full[index])
        return tuple(full)

    def _one_by_one(self, values: tuple[Any, ...]) -> str:
        texts = tuple(
            ["" if value is None else write(value) for write, value in zip(self._formats, values, strict=True)]
        )
        if self._is_unsound or "" in texts:
            if self._needed is not None and not texts[self._needed]:
                return ""
            present = tuple([text != "" for text in texts])
            if present not in self._sound:
                self._check(present)
            text = (self._template % texts).removesuffix(self._ending).rstrip(self._delimiter)
            # Nothing is left of terms such as "中": a name alone is no segment.
            return text + self._ending if text != self._segment.name else ""
        return self._template % texts

    def again(self, scope: Scope, *values: Any) -> str:
        """As a call, remembering the text: for segments that many documents share (parties, currencies, terms)."""
        if self._extra:
            return self(scope, *values)
        text = self._remembered.get(values)
        if text is None:
            before = self._tally.total
            text = self(scope, *values)
            if before == self._tally.total:
                if len(self._remembered) >= REMEMBERED:
                    self._remembered.clear()
                self._remembered[values] = text
        return text

    def _overridden(self, scope: Scope, values: tuple[Any, ...]) -> tuple[Any, ...]:
        full = list(values)
        for index, origin, replaces in self._extra:
            place = self._places[index]
            value = into(origin.value(scope), self._segment.element(self._positions[index]).type, place)
            if replaces:
                full[index] = value
            else:
                full.insert(index, value)
        return tuple(full)

    def _check(self, present: tuple[bool, ...]) -> None:
        """Mandatory elements and rules, once per combination of absent values. Raises DocumentHeld."""
        here = frozenset(self._fixed).union(at for at, is_here in zip(self._positions, present, strict=True) if is_here)
        for place, position in zip(self._places, self._positions, strict=True):
            if position not in here and self._segment.element(position).mandatory:
                raise place.held("FIELD_MISSING", "is empty, and the element is mandatory; fill it in in Fusion")
        for rule in self._segment.rules:
            if rule.broken_by(here):
                names = [
                    f"{self._segment.name}{position:02d} {self._segment.element(position).name}"
                    f" ({'present' if position in here else 'absent'})"
                    for position in rule.positions
                ]
                # A qualifier is absent because its value is; people fill in the value.
                absent = [
                    place.field
                    for place, is_here in zip(self._places, present, strict=True)
                    if not is_here and not place.field.startswith("'")
                ]
                raise DocumentHeld(
                    "ELEMENTS_DISAGREE",
                    f"{self._segment.name} breaks its rule {rule}: {', '.join(names)}",
                    field=", ".join(absent) or None,
                    target=self._segment.name,
                )
        self._sound.add(present)
