"""In which row a line of an invoice stands, for findings that know its number only.

Belongs here: looking the rows up again, in one more pass over the file. Does not: reading values (``parse``).
"""

from collections.abc import Collection
from pathlib import Path

from mlc_dagster.stampli.parsing.cells import CellFault
from mlc_dagster.stampli.parsing.columns import read_header
from mlc_dagster.stampli.parsing.naming import KeyReader
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster.stampli.parsing.row_sources import row_source

MOST_ROWS = 100_000
"""Rows that are looked up together; an invoice that has more is told without them."""


def line_numbers(path: Path, profile: Profile, rows: Collection[int]) -> dict[int, int]:
    """The line number that stands in each of these rows, where one does.

    Raises:
        FileRejected, OSError: the file is another one than it was.
    """
    source = row_source(path, profile, path.name)
    header = read_header(source.header(), profile, path.name)
    slot = next(slot for slot in header.line if slot.field == "line_number")
    keys = KeyReader(header, profile)
    found: dict[int, int] = {}
    for block in source.blocks(header.width, keys.plausible):
        for line, cells in zip(block.lines, block.rows, strict=True):
            if line not in rows or slot.careful is None:
                continue
            try:
                number = slot.careful(cells[slot.position])
            except CellFault:
                continue
            if isinstance(number, int):
                found[line] = number
    return found
