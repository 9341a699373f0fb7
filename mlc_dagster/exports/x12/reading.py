"""Interchanges of any sender taken apart: delimiters from ISA, segments with their place. Knows no writer."""

from collections.abc import Iterator
from dataclasses import dataclass

from mlc_dagster.visible import visible

_ISA_LENGTH = 106
_ISA_SEPARATORS = (3, 6, 17, 20, 31, 34, 50, 53, 69, 76, 81, 83, 89, 99, 101, 103)
"""Offsets of the element separator in ISA."""


_LONGEST_SEGMENT = 1024 * 1024
_NUMBER_LENGTH = 9
"""Digits of counts and control numbers, leading zeros aside."""
_SHOWN = 40


class NotX12(ValueError):
    """The bytes are no interchange, or a broken one."""

    def __init__(self, text: str, *, place: str | None = None) -> None:
        self.place = place
        """Such as ``byte 0`` or ``segment 7 (AK1)``."""
        super().__init__(f"{place}: {text}" if place else text)


def shown(value: str) -> str:
    """A wrong value as an error quotes it."""
    return repr(visible(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"))


def broken(place: str, text: str) -> NotX12:
    """The error that names the place."""
    return NotX12(text, place=place)


@dataclass(frozen=True, slots=True)
class Found:
    """One segment; ``elements[0]`` is its name."""

    number: int
    """From 1 in the whole file."""
    elements: tuple[str, ...]
    component: str

    @property
    def name(self) -> str:
        return self.elements[0]

    @property
    def place(self) -> str:
        return f"segment {self.number} ({visible(self.name[:_SHOWN])})"

    def __getitem__(self, position: int) -> str:
        """The element at a position; "" where it is absent."""
        return self.elements[position] if position < len(self.elements) else ""

    def number_at(self, position: int) -> int:
        """A count or a control number, leading zeros allowed. Raises NotX12."""
        text = self[position].strip()
        if not (text.isascii() and text.isdigit()) or len(text.lstrip("0")) > _NUMBER_LENGTH:
            raise broken(self.place, f"element {position} is {shown(self[position])}, which is no number")
        return int(text)


def read_segments(data: bytes) -> Iterator[Found]:
    """All segments of all interchanges in a file; blanks and line ends between segments are skipped.

    Raises:
        NotX12: no ISA where one must be, an ISA of another length, bytes behind the last terminator.
    """
    # One character per byte, whatever the partner's encoding is: positions in ISA count bytes.
    text = data.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    at, number = _skip(text, 0), 0
    if at == len(text):
        raise broken("byte 0", "the file is empty")
    element = segment = component = ""
    while at < len(text):
        if text.startswith("ISA", at):
            element, component, segment = _delimiters(text, at)
        elif not segment:
            raise broken(f"byte {at}", f"begins with {text[at : at + 3]!r}, an interchange begins with ISA")
        end = text.find(segment, at)
        if end < 0:
            raise broken(f"byte {at}", f"{text[at : at + 20]!r} has no terminator {segment!r}; the file is cut off")
        if end - at > _LONGEST_SEGMENT:
            raise broken(f"byte {at}", f"a segment has {end - at} bytes; the longest allowed has {_LONGEST_SEGMENT}")
        number += 1
        yield Found(number, tuple(text[at:end].split(element)), component)
        is_end = text.startswith("IEA" + element, at)
        at = _skip(text, end + 1)
        if is_end:
            segment = ""


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in "\r\n \t\x00\x1a":
        at += 1
    return at


def _delimiters(text: str, at: int) -> tuple[str, str, str]:
    head = text[at : at + _ISA_LENGTH]
    if len(head) < _ISA_LENGTH:
        raise broken(f"byte {at}", f"ISA has {len(head)} bytes instead of {_ISA_LENGTH}; the file is cut off")
    element, component, segment = head[3], head[104], head[105]
    if head.count(element) < 16 or any(head[offset] != element for offset in _ISA_SEPARATORS):
        raise broken(f"byte {at}", "ISA's elements have other lengths than the standard's")
    if segment.isalnum() or segment == element:
        raise broken(f"byte {at + 105}", f"{segment!r} cannot be a segment terminator; ISA has a wrong length")
    return element, component, segment
