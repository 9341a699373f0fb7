"""Tables that translate the sender's codes into Fusion's, with dates from which and until which a row holds.

Belongs here: reading and checking the CSV files, and look-ups by code and date. Does not: what a missing supplier or
account means for an invoice (``mapping``). No row for a code means that both sides use the same code.
"""

import csv
import datetime as dt
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.settings import CrosswalkSettings

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_REQUIRED = ("stampli", "fusion")
_OPTIONAL = ("site", "valid_from", "valid_to")


class CrosswalkError(Expected):
    """A crosswalk file that cannot be used: which file, and one line per fault."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, source: str, problems: list[str]) -> None:
        self.source = source
        self.problems = problems
        super().__init__(f"crosswalk {source}: " + "; ".join(problems))


class Target(msgspec.Struct, frozen=True):
    """Where a code leads. Both dates are included; None is open."""

    fusion: str
    site: str | None = None
    valid_from: dt.date | None = None
    valid_to: dt.date | None = None

    def holds(self, on: dt.date) -> bool:
        return (self.valid_from is None or self.valid_from <= on) and (self.valid_to is None or on <= self.valid_to)


class Crosswalk:
    """One table. Look-ups by the sender's code, exactly as written."""

    def __init__(self, rows: Mapping[str, tuple[Target, ...]] | None = None) -> None:
        self._rows = dict(rows or {})

    def lookup(self, code: str, on: dt.date) -> Target | None:
        """The row that holds on this date; None: no row, the code is the same on both sides (but see ``lapsed``)."""
        for target in self._rows.get(code, ()):  # a generator would cost more than what it looks at, for each line
            if target.holds(on):
                return target
        return None

    def lapsed(self, code: str, on: dt.date) -> bool:
        """True when the code has rows and none holds on this date.

        Such a code is not "the same on both sides": somebody gave it another meaning and an end.
        """
        return code in self._rows and self.lookup(code, on) is None

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))


class Crosswalks(msgspec.Struct, frozen=True):
    """The three tables and the version that is stored with each invoice they were used for."""

    vendors: Crosswalk
    accounts: Crosswalk
    cost_centers: Crosswalk
    version: str
    """SHA-256 over the content of the files, in hex."""


def load_crosswalks(settings: CrosswalkSettings, root: Path) -> Crosswalks:
    """The tables named in mlc.yaml; relative paths are resolved against ``root``.

    Raises:
        CrosswalkError: a file cannot be read, lacks a column, has a wrong date or two rows for one code and day.
    """
    content: dict[str, bytes] = {}
    tables: dict[str, Crosswalk] = {}
    for kind, path in (
        ("vendors", settings.vendors),
        ("accounts", settings.accounts),
        ("cost_centers", settings.cost_centers),
    ):
        if path is None:
            content[kind], tables[kind] = b"", Crosswalk()
            continue
        resolved = path if path.is_absolute() else root / path
        try:
            content[kind] = resolved.read_bytes()
        except OSError as error:
            raise CrosswalkError(str(path), [f"cannot be read: {error.strerror}"]) from None
        tables[kind] = parse_crosswalk(content[kind], source=str(path), sites=kind == "vendors")
    return Crosswalks(tables["vendors"], tables["accounts"], tables["cost_centers"], _version(*content.items()))


def _version(*contents: tuple[str, bytes]) -> str:
    # Lengths keep the boundary between two files part of the hash.
    total = hashlib.sha256()
    for kind, content in contents:
        total.update(f"{kind} {len(content)}\n".encode() + content)
    return total.hexdigest()


def parse_crosswalk(content: bytes, *, source: str, sites: bool) -> Crosswalk:
    """A table from the bytes of its CSV file (UTF-8, comma, header row).

    Raises:
        CrosswalkError: see ``load_crosswalks``.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CrosswalkError(source, [f"is not UTF-8 text (byte {error.start}); save it as UTF-8"]) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    nothing: list[str] = []
    try:
        header = [name.strip().lower() for name in next(reader, nothing)]
        _check_header(header, source, sites=sites)
        return Crosswalk(_collect(header, ((reader.line_num, cells) for cells in reader), source))
    except csv.Error as error:
        raise CrosswalkError(source, [f"row {reader.line_num}: {error}"]) from None


def _check_header(header: list[str], source: str, *, sites: bool) -> None:
    known = {*_REQUIRED, *_OPTIONAL} if sites else {*_REQUIRED, "valid_from", "valid_to"}
    problems = [f"column {name!r} is missing" for name in _REQUIRED if name not in header]
    problems += [f"column {name!r} is not known; known are {sorted(known)}" for name in header if name not in known]
    problems += [f"column {name!r} appears twice" for name in sorted({n for n in header if header.count(n) > 1})]
    if problems:
        raise CrosswalkError(source, problems)


def _date(text: str) -> dt.date | None:
    if not text:
        return None
    if not _DATE.fullmatch(text):
        raise ValueError(text)
    return dt.date.fromisoformat(text)


def _collect(
    header: list[str], rows: Iterable[tuple[int, Sequence[str]]], source: str
) -> dict[str, tuple[Target, ...]]:
    found: dict[str, list[tuple[int, Target]]] = {}
    problems: list[str] = []
    for line, row in rows:
        if not any(row):
            continue
        if len(row) != len(header):
            problems.append(f"row {line}: has {len(row)} cells, the header has {len(header)}")
            continue
        cells = {name: value.strip() for name, value in zip(header, row, strict=True)}
        if not cells["stampli"] or not cells["fusion"]:
            problems.append(f"row {line}: stampli and fusion must both be filled")
            continue
        try:
            since, until = _date(cells.get("valid_from", "")), _date(cells.get("valid_to", ""))
        except ValueError as error:
            problems.append(f"row {line}: {error} is not a date; write YYYY-MM-DD")
            continue
        if since and until and since > until:
            problems.append(f"row {line}: valid_from {since} is after valid_to {until}")
            continue
        target = Target(cells["fusion"], cells.get("site") or None, since, until)
        for other_line, other in found.get(cells["stampli"], []):
            if (since or dt.date.min) <= (other.valid_to or dt.date.max) and (other.valid_from or dt.date.min) <= (
                until or dt.date.max
            ):
                problems.append(f"rows {other_line} and {line}: {cells['stampli']!r} has two targets on the same day")
        found.setdefault(cells["stampli"], []).append((line, target))
    if problems:
        raise CrosswalkError(source, problems)
    return {code: tuple(target for _, target in targets) for code, targets in found.items()}
