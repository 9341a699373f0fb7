"""Checks of the CSV files: every line once, the four sums to the cent, and the same rows as the naive peer's.

Not measured; it runs after the measured processes have ended.
"""

import csv
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from bench.journal_books import Books, Totals
from bench.measuring import require_equal

AMOUNTS = ("ENTERED_DR", "ENTERED_CR", "ACCOUNTED_DR", "ACCOUNTED_CR")
"""In the order of ``Totals``."""


def check_csv(path: Path, books: Books) -> None:
    """Raises WrongResult unless the file has every line and adds up."""
    sums = dict.fromkeys(AMOUNTS, Decimal(0))
    count = 0
    for row in _rows(path):
        count += 1
        for name in AMOUNTS:
            if text := row[name]:
                sums[name] += Decimal(text)
    require_equal(f"rows of {path.name}", count, books.lines)
    require_equal(f"sums of {path.name}", Totals(*sums.values()), books.totals)


def check_same_rows(ours: Path, peer: Path) -> None:
    """Raises WrongResult unless both files have the same rows; amounts are compared by value, the order is free."""
    for mine, theirs in zip(_ordered(ours), _ordered(peer), strict=True):
        require_equal("row", mine, theirs)


def _ordered(path: Path) -> list[dict[str, object]]:
    def by_line(row: dict[str, object]) -> tuple[str, int]:
        return str(row["RECORD_ID"]), int(str(row["LINE_NUMBER"]))

    return sorted((_by_value(row) for row in _rows(path)), key=by_line)


def _by_value(row: dict[str, str]) -> dict[str, object]:
    return {name: Decimal(text) if name in AMOUNTS and text else text for name, text in row.items()}


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        yield from csv.DictReader(stream)
