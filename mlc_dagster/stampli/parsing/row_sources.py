"""From a file and its profile to flat rows, whatever the shape of the file.

Belongs here: the choice of a reader by row model, and columns that no file has (``constants``). Every reader gives the
same: a header of column names, and as often as asked all rows as ``rows`` defines them.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from mlc_dagster.stampli.parsing.columns import repeated_columns
from mlc_dagster.stampli.parsing.deliveries import Delivery
from mlc_dagster.stampli.parsing.parsed import FileRejected
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster.stampli.parsing.profile_rows import RepeatedHeader, Split, Typed
from mlc_dagster.stampli.parsing.rows import Block, Fault, RowSplitter
from mlc_dagster.stampli.parsing.split_rows import SplitRows
from mlc_dagster.stampli.parsing.typed_rows import TypedRows
from mlc_dagster.stampli.parsing.unpacking import CompressionFault, open_plain
from mlc_dagster.stampli.parsing.xml_rows import XmlRows


class RowSource(Protocol):
    """The rows of one file or delivery."""

    def header(self) -> list[str] | Fault | None:
        """Names of the columns; None when there is nothing.

        Raises:
            FileRejected: it is no such file.
        """
        ...

    def blocks(
        self, width: int, plausible: Callable[[Sequence[str]], bool], *, leading: int | None = None
    ) -> Iterator[Block]:
        """All rows, read anew at each call; see ``RowSplitter.blocks``.

        Raises:
            FileRejected: while iterating: what the file says about itself is not true. The rows before do not count.
        """
        ...

    def row_of(self, line: int, column: str) -> int:
        """The row that holds ``column`` of row ``line``: another one where an invoice has a record of its own."""
        ...

    def place(self, line: int, column: str | None) -> str:
        """Where row ``line`` stands, for people; asked while its blocks are read or after."""
        ...

    @property
    def delivery(self) -> SplitRows | None:
        """The reader itself where it reads several files, which are counted apart."""
        ...


def row_source(path: Path, profile: Profile, name: str, *, careful: bool = False) -> RowSource:
    """The reader that the profile asks for; nothing is read yet. Messages call the file ``name``."""

    @contextmanager
    def opened() -> Generator[BinaryIO]:
        rules = profile.file
        try:
            with open_plain(
                path, rules.compression, max_bytes=rules.max_unpacked_bytes, max_ratio=rules.max_ratio
            ) as stream:
                yield stream
        except CompressionFault as fault:
            raise FileRejected("FILE_COMPRESSION", f"{name}: {fault.text}") from None

    source: RowSource
    match profile.rows:
        case RepeatedHeader():
            source = _DelimitedRows(opened, profile, careful=careful)
        case Split() as rules:
            source = SplitRows(Delivery(path, profile, name), profile, rules, careful=careful)
        case Typed() as rules:
            source = TypedRows(opened, name, profile, rules)
        case _ as rules:
            source = XmlRows(opened, name, profile, rules)
    return _WithConstants(source, profile.constants) if profile.constants else source


class _DelimitedRows:
    """Rows as they stand in the file."""

    delivery = None

    def __init__(
        self, opened: Callable[[], AbstractContextManager[BinaryIO]], profile: Profile, *, careful: bool
    ) -> None:
        self._opened = opened
        self._profile = profile
        self._rules = profile.text
        self._careful = careful
        self._repeated = 0

    def header(self) -> list[str] | Fault | None:
        with self._opened() as stream:
            names = RowSplitter(stream, self._rules, careful=self._careful).header()
        self._repeated = repeated_columns(names, self._profile) if isinstance(names, list) else 0
        return names

    def blocks(
        self, width: int, plausible: Callable[[Sequence[str]], bool], *, leading: int | None = None
    ) -> Iterator[Block]:
        with self._opened() as stream:
            splitter = RowSplitter(stream, self._rules, careful=self._careful)
            splitter.header()
            yield from splitter.blocks(width, plausible, leading=leading, repeated=self._repeated)

    def row_of(self, line: int, column: str) -> int:
        del column
        return line

    def place(self, line: int, column: str | None) -> str:
        return f"row {line}" if column is None else f"row {line}, column {column}"


class _WithConstants:
    """Another source with columns added that are equal in all rows."""

    def __init__(self, source: RowSource, constants: dict[str, str]) -> None:
        self._source = source
        self._names = list(constants)
        self._cells = list(constants.values())
        self.row_of = source.row_of
        self.place = source.place
        self.delivery = source.delivery

    def header(self) -> list[str] | Fault | None:
        names = self._source.header()
        return [*names, *self._names] if isinstance(names, list) else names

    def blocks(
        self, width: int, plausible: Callable[[Sequence[str]], bool], *, leading: int | None = None
    ) -> Iterator[Block]:
        del leading  # The key may be among the constants, right of all that is read.
        cells = self._cells
        visible = "".join(cells).isprintable()
        for block in self._source.blocks(width - len(cells), lambda row: plausible([*row, *cells])):
            rows = [[*row, *cells] for row in block.rows]
            yield Block(block.lines, rows, block.faults, block.printable and visible, block.size)
