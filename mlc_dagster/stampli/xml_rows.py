"""An XML document to flat rows: an element per invoice, an element per line, cells by the paths of the profile.

Belongs here: which element fills which column of which row. Does not: parsing (``xml_stream``) and what cells mean
(``columns``, ``assembly``). One invoice is in memory at a time. A row's number is that of its line element in the
document; ``place`` tells its path.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO

import msgspec

from mlc_dagster.stampli.naming import key_named
from mlc_dagster.stampli.parsed import FileRejected
from mlc_dagster.stampli.physical_lines import RAW_KEPT
from mlc_dagster.stampli.profile import Profile, column_name
from mlc_dagster.stampli.profile_rows import Xml
from mlc_dagster.stampli.reasons import shown
from mlc_dagster.stampli.rows import Block, Fault
from mlc_dagster.stampli.xml_stream import Begin, End, read_events

_BLOCK_ROWS = 500
_LARGEST_INVOICE = 64
"""Times ``max_row_bytes`` that the texts of one invoice may have together."""

_Path = tuple[str, ...]


class _Element(msgspec.Struct):
    """The cells of an invoice or a line, and what is wrong with them."""

    cells: dict[str, str] = {}
    faults: list[str] = []


class _Plan:
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


class XmlRows:
    """The rows of one document; see ``row_sources.RowSource``."""

    def __init__(
        self, opened: Callable[[], AbstractContextManager[BinaryIO]], file_name: str, profile: Profile, rules: Xml
    ) -> None:
        self._opened = opened
        self._file_name = file_name
        self._profile = profile
        self._rules = rules
        self._plan = _Plan(rules)
        self._names: list[str] = list(self._plan.columns.values())
        self._firsts = array("Q")
        """Number of the first row of each invoice."""

    def header(self) -> list[str] | Fault | None:
        """Declared columns, and one for each element that nobody declared: none is left out silently."""
        walk = self._new_walk()
        for _ in self._invoices(walk):
            pass
        self._names = [*self._plan.columns.values(), *walk.unknown]
        return list(self._names)

    def place(self, line: int, column: str | None) -> str:
        invoice = bisect_right(self._firsts, line)
        if not invoice:
            return f"line element {line}"
        rules = self._rules
        path = f"/{rules.document}/{rules.invoice}[{invoice}]"
        inner = f"{path}/{rules.line}[{line - self._firsts[invoice - 1] + 1}]"
        if column is None:
            return inner
        if column in rules.cells.document:
            return f"/{rules.document}/{rules.cells.document[column]}"
        if column in rules.cells.invoice:
            return f"{path}/{rules.cells.invoice[column]}"
        return f"{inner}/{rules.cells.line.get(column, column)}"

    def blocks(
        self, width: int, plausible: Callable[[Sequence[str]], bool], *, leading: int | None = None
    ) -> Iterator[Block]:
        del width, plausible, leading  # Elements say themselves where they begin and end.
        number = 1
        self._firsts = array("Q")
        numbers: list[int] = []
        rows: list[list[str]] = []
        faults: list[tuple[int, Fault]] = []
        walk = self._new_walk()
        for _ in self._invoices(walk):
            self._firsts.append(number)
            number = self._flatten(walk, number, numbers, rows, faults)
            if len(rows) + len(faults) >= _BLOCK_ROWS:
                yield _block(numbers, rows, faults)
                numbers, rows, faults = [], [], []
        yield _block(numbers, rows, faults)

    def _flatten(
        self, walk: "_Walk", number: int, numbers: list[int], rows: list[list[str]], faults: list[tuple[int, Fault]]
    ) -> int:
        """Adds an invoice's rows; returns the number of the next row."""
        head = {**walk.document, **walk.invoice.cells}
        key = key_named(self._profile, head)
        place = f"({self._rules.invoice}[{len(self._firsts)}])"
        if not walk.lines:
            found = walk.invoice.faults or [f"has no {self._rules.line}"]
            faults.append((number, self._fault(head, f"{place} {'; '.join(found)}", key)))
            return number + 1
        for line in walk.lines:
            cells = {**head, **line.cells}
            wrong = walk.invoice.faults + line.faults
            if wrong:
                faults.append((number, self._fault(cells, f"{place} {'; '.join(wrong)}", key)))
            else:
                numbers.append(number)
                rows.append([cells.get(name, "") for name in self._names])
            number += 1
        return number

    def _fault(self, cells: dict[str, str], text: str, key: tuple[tuple[str, ...], ...]) -> Fault:
        kept = [f"{name}={cell}" for name, cell in cells.items() if not self._profile.forbidden.matches(name)]
        return Fault("\n".join(kept).encode("utf-8", "replace")[:RAW_KEPT], text, key)

    def _new_walk(self) -> "_Walk":
        return _Walk(self._plan, self._profile, self._rules, self._refused)

    def _invoices(self, walk: "_Walk") -> Iterator[None]:
        """Takes the walk through the document, with a stop at the end of each invoice."""
        with self._opened() as stream:
            events = read_events(
                stream,
                encoding=self._profile.text.encoding,
                max_depth=self._rules.max_depth,
                max_text=self._profile.text.max_row_bytes,
                max_names=self._profile.text.max_columns,
                refused=self._refused,
            )
            for event in events:
                if walk.take(event):
                    yield
                    walk.next_invoice()

    def _refused(self, text: str) -> FileRejected:
        return FileRejected("FILE_SCHEMA", f"{self._file_name}: {text}")


class _Walk:
    """Where in the document we are, and the invoice that is being read."""

    def __init__(self, plan: _Plan, profile: Profile, rules: Xml, refused: Callable[[str], FileRejected]) -> None:
        self._plan = plan
        self._forbidden = profile.forbidden.matches
        self._rules = rules
        self._refused = refused
        self._limit = profile.text.max_row_bytes * _LARGEST_INVOICE
        self._most_columns = profile.text.max_columns
        self._paths: list[_Path] = []
        """Of each open element."""
        self._parents: list[bool] = []
        """For each open element, whether it holds elements."""
        self.document: dict[str, str] = {}
        self.unknown: dict[str, None] = {}
        """Columns of elements that nobody declared, of the whole document."""
        self._begun = False
        self._seen = False
        self.invoice = _Element({}, [])
        self.lines: list[_Element] = []
        self._in_line = False
        self._size = 0

    def next_invoice(self) -> None:
        """Forget the invoice that has ended."""
        self.invoice, self.lines, self._size = _Element({}, []), [], 0

    def take(self, event: Begin | End) -> bool:
        """One event; True when it ends an invoice."""
        if isinstance(event, Begin):
            self._begin(event.name, event.attributes)
            return False
        path = self._paths[-1]
        if event.text:
            self._leaf(path, event.text)
        self._paths.pop()
        self._parents.pop()
        if path == self._plan.line:
            self._in_line = False
        if path == self._plan.invoice:
            self._begun = False
            return True
        return False

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        if self._paths:
            self._parents[-1] = True
            path = (*self._paths[-1], name)
        elif name == self._plan.root[0]:
            path = self._plan.root
        else:
            raise self._refused(f"the document is {shown(name)!r}, the profile expects {self._plan.root[0]!r}")
        self._paths.append(path)
        self._parents.append(False)
        if path == self._plan.invoice:
            self._begun = self._seen = True
        elif path == self._plan.line:
            self._in_line = True
            self.lines.append(_Element({}, []))
            if len(self.lines) > self._rules.max_per_invoice:
                raise self._refused(f"an invoice has more than {self._rules.max_per_invoice} rows (max_per_invoice)")
        elif not self._begun and name == self._plan.invoice[-1]:
            # Elements that nobody declared are told as unknown columns; an invoice must not be one of them.
            expected = "/".join(self._plan.invoice)
            raise self._refused(f"{'/'.join(map(shown, path))}: invoices are expected in {expected}")
        elif self._begun and not self._in_line and name == self._plan.line[-1]:
            self.invoice.faults.append(f"{name} stands in another place than {self._rules.line}")
        for attribute, value in attributes.items():
            if value:
                self._leaf((*path, f"@{attribute}"), value)

    def _leaf(self, path: _Path, text: str) -> None:
        element = self.lines[-1] if self._in_line else self.invoice
        cells = element.cells if self._begun else self.document
        self._size += len(text)
        if self._size > self._limit:
            raise self._refused(f"the texts of one invoice have more than {self._limit} characters")
        column = self._plan.columns.get(path)
        if column is None:
            name = self._unknown(path)
            self.unknown[name] = None
            if len(self.unknown) > self._most_columns:
                raise self._refused(f"has more than {self._most_columns} undeclared elements (max_columns)")
            if not self._begun and self._seen:
                # After an invoice it can no longer be in all rows.
                return
            cells.setdefault(name, text)
            return
        if path[-1][0] != "@" and self._parents and self._parents[-1]:
            element.faults.append(f"{column} ({'/'.join(path)}) holds elements and text")
        if not self._begun and self._seen:
            raise self._refused(f"{'/'.join(path)} ({column}) stands after an invoice; it is expected before the first")
        if column in cells:
            fault = f"{column} ({'/'.join(path)}) is there twice"
            if not self._begun:
                raise self._refused(fault)
            element.faults.append(fault)
        cells[column] = text

    def _unknown(self, path: _Path) -> str:
        """The column for an element that is not declared: bank data by its forbidden name, others by their path."""
        names = [column_name(part.removeprefix("@")) for part in path]
        bank = next((name for name in names if self._forbidden(name)), None)
        return bank or column_name("/".join(path[1:]))


def _block(numbers: list[int], rows: list[list[str]], faults: list[tuple[int, Fault]]) -> Block:
    printable = "".join(cell for row in rows for cell in row).isprintable()
    return Block(numbers, rows, faults, printable=printable)
