"""Crosswalks of a layout: Fusion's codes to the partner's (units, terms, tax, accounts).

Belongs here: the table and how it is read from a layout or from a CSV file. Does not: which column uses it.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlc_dagster.exports.layouts.errors import LayoutError

OnMiss = Literal["hold", "keep", "default"]


class CodeUnknown(Exception):
    """The crosswalk has no row for the value, and says that such a document waits."""

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self.value = value
        super().__init__(f"crosswalk {name} has no row for {value!r}; add one, or set its on_miss to keep or default")


@dataclass(frozen=True, slots=True)
class Crosswalk:
    """One table of codes; keys are compared exactly, case and blanks included."""

    name: str
    codes: Mapping[str, str]
    on_miss: OnMiss = "hold"
    """hold: the document waits. keep: the value goes as it is. default: ``default`` goes instead."""
    default: str | None = None

    def translate(self, value: str) -> str:
        """The partner's code; raises CodeUnknown where there is none and ``on_miss`` is hold."""
        code = self.codes.get(value)
        if code is not None:
            return code
        if self.on_miss == "keep":
            return value
        if self.on_miss == "default" and self.default is not None:
            return self.default
        raise CodeUnknown(self.name, value)


def read_codes(text: str, *, source_file: str) -> dict[str, str]:
    """Rows of a crosswalk file: CSV with the columns ``fusion`` and ``partner``, others are for people.

    Raises:
        LayoutError: no such columns, an empty code, or one Fusion code with two rows.
    """
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    codes: dict[str, str] = {}
    problems: list[str] = []
    try:
        names = rows.fieldnames or []
        twice = [name for name in ("fusion", "partner") if list(names).count(name) > 1]
        if twice:
            raise LayoutError(source_file, [f"line 1: the column {', '.join(twice)} is there twice; leave one"])
        if "fusion" not in names or "partner" not in names:
            raise LayoutError(source_file, [f"line 1: has the columns {list(names)}; it needs fusion and partner"])
        for row in rows:
            fusion, partner = row["fusion"], row["partner"]
            if not fusion or not partner:
                problems.append(f"line {rows.line_num}: fusion {fusion!r}, partner {partner!r}: fill in both")
            elif fusion in codes:
                problems.append(f"line {rows.line_num}: {fusion!r} is there twice; leave one row")
            else:
                codes[fusion] = partner
    except csv.Error as error:
        raise LayoutError(source_file, [f"line {rows.line_num}: is not CSV: {error}"]) from None
    if problems:
        raise LayoutError(source_file, problems)
    return codes
