"""Shapes: a segment with a fixed choice of its elements, made ready once and then filled in for every document.

Belongs here: from values to one segment's text, mandatory elements, relational rules, trailing empty elements. Does
not: which values. Speed matters here: a file has hundreds of thousands of segments.
"""

from collections.abc import Mapping
from typing import Any

from mlc_dagster.exports.writing import DocumentHeld
from mlc_dagster.exports.x12.characters import Delimiters, Tally
from mlc_dagster.exports.x12.elements import Format, Place, Style, formatting
from mlc_dagster.exports.x12.segments import Segment
from mlc_dagster.exports.x12.sources import Origin, Scope, into

_REMEMBERED = 4096


class Shape:
    """A segment writer; call it with the scope (for overrides) and one value per field, in the order of ``fields``."""

    __slots__ = (
        "_delimiter",
        "_ending",
        "_extra",
        "_fixed",
        "_formats",
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
        cells = [
            "%s" if position in self._positions else fixed.get(position, "").replace("%", "%%")
            for position in range(1, last + 1)
        ]
        self._template = delimiters.element.replace("%", "%%").join([segment.name, *cells])
        self._sound: set[tuple[bool, ...]] = set()
        self._remembered: dict[tuple[Any, ...], str] = {}
        self._fixed = frozenset(fixed)
        # Only a layout's own elements can do this: one of a pair, say.
        self._is_unsound = any(rule.broken_by(frozenset(self._positions) | self._fixed) for rule in segment.rules)
        for position, element in enumerate(segment.elements, 1):
            if element is not None and element.mandatory and position not in {*self._positions, *fixed}:
                raise ValueError(f"{segment.name}{position:02d} {element.name} is mandatory")
        self._needed = self._positions.index(segment.position(only_with)) if only_with is not None else None

    def __call__(self, scope: Scope, *values: Any) -> str:
        """The segment's text with its terminator; raises DocumentHeld."""
        if self._extra:
            values = self._overridden(scope, values)
        texts = tuple(
            ["" if value is None else write(value) for write, value in zip(self._formats, values, strict=True)]
        )
        if self._is_unsound or "" in texts:
            if self._needed is not None and not texts[self._needed]:
                return ""
            present = tuple([text != "" for text in texts])
            if present not in self._sound:
                self._check(present)
            return (self._template % texts).rstrip(self._delimiter) + self._ending
        return self._template % texts + self._ending

    def again(self, scope: Scope, *values: Any) -> str:
        """As a call, remembering the text: for segments that many documents share (parties, currencies, terms)."""
        if self._extra:
            return self(scope, *values)
        text = self._remembered.get(values)
        if text is None:
            before = (len(self._tally.counts), sum(self._tally.counts.values()))
            text = self(scope, *values)
            if before == (len(self._tally.counts), sum(self._tally.counts.values())):
                if len(self._remembered) >= _REMEMBERED:
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
        here = frozenset(at for at, is_here in zip(self._positions, present, strict=True) if is_here) | self._fixed
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
                absent = [place.field for place, is_here in zip(self._places, present, strict=True) if not is_here]
                raise DocumentHeld(
                    "ELEMENTS_DISAGREE",
                    f"{self._segment.name} breaks its rule {rule}: {', '.join(names)}",
                    field=", ".join(absent) or None,
                    target=self._segment.name,
                )
        self._sound.add(present)
