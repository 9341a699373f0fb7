"""The walk through an XML document: which element fills which column of which invoice or line.

Belongs here: paths, and what is wrong with where an element stands. Does not: parsing (``xml_stream``), and the rows
that come of it (``xml_rows``). One invoice is in memory at a time.
"""

from collections.abc import Callable

import msgspec

from mlc_dagster.stampli.parsing.parsed import FileRejected
from mlc_dagster.stampli.parsing.profile import Profile, column_name
from mlc_dagster.stampli.parsing.profile_rows import Xml
from mlc_dagster.stampli.parsing.xml_stream import Event
from mlc_dagster.stampli.reasons import shown

Cells = dict[int, str]
"""Text by the position of its column."""

_LARGEST_INVOICE = 64
"""Times ``max_row_bytes`` that the texts of one invoice may have together."""
_MOST_KNOWN = 10_000
"""Places that are remembered; a document of our own senders has some fifty."""

_Path = tuple[str, ...]


class Element(msgspec.Struct):
    """The cells of an invoice or a line, and what is wrong with them."""

    cells: Cells = {}
    faults: list[str] = []


class Plan:
    """Paths of the profile from the document element on."""

    def __init__(self, rules: Xml) -> None:
        self.root: _Path = (rules.document,)
        self.invoice: _Path = (*self.root, *rules.invoice.split("/"))
        self.line: _Path = (*self.invoice, *rules.line.split("/"))
        self.columns: dict[_Path, str] = {}
        for base, cells in (
            (self.root, rules.cells.document), (self.invoice, rules.cells.invoice), (self.line, rules.cells.line),
        ):  # fmt: skip
            for column, path in cells.items():
                self.columns[(*base, *path.split("/"))] = column


class _Place:
    """A place in the document: every element with this path stands there."""

    __slots__ = ("at", "inner", "is_invoice", "is_line", "path")

    def __init__(self, path: _Path, plan: Plan, at: int | None) -> None:
        self.path = path
        self.at = at
        """Position of its column; None where nobody declared it."""
        self.inner: dict[str, _Place] = {}
        self.is_invoice = path == plan.invoice
        self.is_line = path == plan.line


class Walk:
    """Where in the document we are, and the invoice that is being read."""

    def __init__(self, plan: Plan, profile: Profile, rules: Xml, refused: Callable[[str], FileRejected]) -> None:
        self._plan = plan
        self._forbidden = profile.forbidden.matches
        self._rules = rules
        self._refused = refused
        self._limit = profile.text.max_row_bytes * _LARGEST_INVOICE
        self._most_columns = profile.text.max_columns
        self.names: list[str] = list(plan.columns.values())
        """Columns by position: those declared, then one for each element that nobody declared."""
        self._positions = {path: at for at, path in enumerate(plan.columns)}
        self._unknown: dict[str, int] = {}
        self._known = 0
        self._places: list[_Place] = []
        """Of each open element."""
        self._parents: list[bool] = []
        """For each open element, whether it holds elements."""
        self.document: Cells = {}
        self._begun = False
        self._seen = False
        self.invoice = Element({}, [])
        self.lines: list[Element] = []
        self._in_line = False
        self._size = 0

    def next_invoice(self) -> None:
        """Forget the invoice that has ended."""
        self.invoice, self.lines, self._size = Element({}, []), [], 0

    def take(self, event: Event) -> bool:
        """One event; True when it ends an invoice."""
        if not isinstance(event, str):
            self._begin(*event)
            return False
        place = self._places[-1]
        if event:
            self._leaf(place, event, element=True)
        self._places.pop()
        self._parents.pop()
        if place.is_line:
            self._in_line = False
        if place.is_invoice:
            self._begun = False
            return True
        return False

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        if self._places:
            self._parents[-1] = True
            above = self._places[-1]
            place = above.inner.get(name) or self._inner(above, name)
        elif name == self._plan.root[0]:
            place = _Place(self._plan.root, self._plan, self._positions.get(self._plan.root))
        else:
            raise self._refused(f"the document is {shown(name)!r}, the profile expects {self._plan.root[0]!r}")
        self._places.append(place)
        self._parents.append(False)
        if place.is_invoice:
            self._begun = self._seen = True
        elif place.is_line:
            self._in_line = True
            self.lines.append(Element({}, []))
            if len(self.lines) > self._rules.max_per_invoice:
                raise self._refused(f"an invoice has more than {self._rules.max_per_invoice} rows (max_per_invoice)")
        elif not self._begun and name == self._plan.invoice[-1]:
            # Elements that nobody declared are told as unknown columns; an invoice must not be one of them.
            expected = "/".join(self._plan.invoice)
            raise self._refused(f"{'/'.join(map(shown, place.path))}: invoices are expected in {expected}")
        elif self._begun and not self._in_line and name == self._plan.line[-1]:
            self.invoice.faults.append(f"{name} stands in another place than {self._rules.line}")
        for attribute, value in attributes.items():
            if value:
                name = f"@{attribute}"
                self._leaf(place.inner.get(name) or self._inner(place, name), value, element=False)

    def _inner(self, above: _Place, name: str) -> _Place:
        path = (*above.path, name)
        place = _Place(path, self._plan, self._positions.get(path))
        if self._known < _MOST_KNOWN:
            self._known += 1
            above.inner[name] = place
        return place

    def _leaf(self, place: _Place, text: str, *, element: bool) -> None:
        holder = self.lines[-1] if self._in_line else self.invoice
        cells = holder.cells if self._begun else self.document
        self._size += len(text)
        if self._size > self._limit:
            raise self._refused(f"the texts of one invoice have more than {self._limit} characters")
        at = place.at
        if at is None:
            at = self._undeclared(place.path)
            if self._begun or not self._seen:
                # After an invoice it can no longer be in all rows.
                cells.setdefault(at, text)
            return
        if element and self._parents[-1]:
            holder.faults.append(f"{self.names[at]} ({'/'.join(place.path)}) holds elements and text")
        if not self._begun and self._seen:
            where = f"{'/'.join(place.path)} ({self.names[at]})"
            raise self._refused(f"{where} stands after an invoice; it is expected before the first")
        if at in cells:
            fault = f"{self.names[at]} ({'/'.join(place.path)}) is there twice"
            if not self._begun:
                raise self._refused(fault)
            holder.faults.append(fault)
        cells[at] = text

    def _undeclared(self, path: _Path) -> int:
        """Position of the column for an element that is not declared."""
        # Bank data by its forbidden name, others by their path.
        names = [column_name(part.removeprefix("@")) for part in path]
        bank = next((name for name in names if self._forbidden(name)), None)
        name = bank or column_name("/".join(path[1:]))
        at = self._unknown.get(name)
        if at is None:
            at = self._unknown[name] = len(self.names)
            self.names.append(name)
            if len(self._unknown) > self._most_columns:
                raise self._refused(f"has more than {self._most_columns} undeclared elements (max_columns)")
        return at
