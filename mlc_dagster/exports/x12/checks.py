"""Whether a finished interchange holds together: lengths, counts and control numbers, read from its bytes alone."""

from mlc_dagster.exports.x12.reading import Found, NotX12, read_segments


def check_interchange(data: bytes) -> list[str]:
    """One line per fault, each with its place; none when all is well."""
    checking = _Checking()
    try:
        for segment in read_segments(data):
            checking.take(segment)
    except NotX12 as error:
        return [*checking.problems, str(error)]
    return [*checking.problems, *(f"{opening.place} is never closed" for opening in checking.open)]


_CLOSES = {"IEA": "ISA", "GE": "GS", "SE": "ST"}
_WITHIN = {"ISA": None, "GS": "ISA", "ST": "GS"}
_NUMBERS = {"ISA": 13, "GS": 6, "ST": 2}


class _Checking:
    def __init__(self) -> None:
        self.problems: list[str] = []
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
        elif not self.open or (self.open[-1].name != "ST" and name != "TA1"):
            self.problems.append(f"{segment.place} stands outside of a transaction set")
        elif name != "TA1":
            self._inside[-1] += 1
        if segment.elements[-1] == "" or len(segment.elements) == 1:
            self.problems.append(f"{segment.place} ends in an empty element")

    def _open(self, segment: Found) -> None:
        name = segment.name
        above = self.open[-1].name if self.open else None
        if above != _WITHIN[name]:
            self.problems.append(
                f"{segment.place} stands in {above or 'nothing'} instead of {_WITHIN[name] or 'nothing'}"
            )
        if self._inside:
            self._inside[-1] += 1
        number = segment[_NUMBERS[name]]
        key = (name, ">".join(found[_NUMBERS[found.name]] for found in self.open), number)
        if key in self._seen:
            self.problems.append(f"{segment.place}: control number {number} is there twice")
        self._seen.add(key)
        if name == "GS" and number.startswith("0"):
            self.problems.append(f"{segment.place}: control number {number} has leading zeros")
        self.open.append(segment)
        self._inside.append(0)

    def _close(self, segment: Found) -> None:
        opening = _CLOSES[segment.name]
        if not self.open or self.open[-1].name != opening:
            self.problems.append(f"{segment.place} closes nothing")
            return
        opened, inside = self.open.pop(), self._inside.pop()
        count = inside + 2 if opening == "ST" else inside
        if segment[1] != str(count):
            self.problems.append(f"{segment.place} counts {segment[1]!r}, there are {count}")
        if segment[2] != opened[_NUMBERS[opening]]:
            self.problems.append(f"{segment.place} has the number {segment[2]!r}, not {opened[_NUMBERS[opening]]!r}")
