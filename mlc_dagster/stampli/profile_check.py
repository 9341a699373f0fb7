"""What a profile makes of a file, told to the person who writes the one or the other.

Belongs here: reading a file to the end without any ledger, and every deviation with its place. Does not: rules of
companies and of Fusion (``checks``, ``mapping``): those need mlc.yaml.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from mlc_dagster.stampli.columns import read_header
from mlc_dagster.stampli.parsed import FileRejected, ParsedInvoice, QuarantinedRow
from mlc_dagster.stampli.parsing import parse_file
from mlc_dagster.stampli.profile import Profile
from mlc_dagster.stampli.row_sources import row_source


@dataclass(frozen=True)
class Fit:
    """Whether a file is of a profile's shape."""

    profile: Profile
    name_matches: bool
    refusal: str | None
    """Why its columns are not those of the profile; None when they are."""
    warnings: int
    """Columns that the profile does not know."""


@dataclass(frozen=True)
class Deviation:
    """Where a file is not as its profile says."""

    reason: str
    place: str
    text: str


@dataclass
class Examined:
    """A file as its profile reads it."""

    rows: int = 0
    invoices: int = 0
    """With all rows, built or not."""
    unbuilt: int = 0
    """Invoices with a deviation: they would be parked."""
    lines: int = 0
    """Rows that belong to invoices."""
    set_aside: int = 0
    totals: dict[str, Decimal] = field(default_factory=lambda: defaultdict[str, Decimal](Decimal))
    """Of the invoices that were built, by currency."""
    warnings: tuple[str, ...] = ()
    deviations: list[Deviation] = field(default_factory=list[Deviation])
    not_told: int = 0
    """Deviations beyond the limit."""

    def add(self, deviation: Deviation, limit: int) -> None:
        if len(self.deviations) < limit:
            self.deviations.append(deviation)
        else:
            self.not_told += 1


def fits(path: Path, profiles: Iterable[Profile]) -> list[Fit]:
    """The profiles, the one that fits best first.

    Raises:
        OSError: the file cannot be read.
    """
    found: list[Fit] = []
    for profile in profiles:
        matches = profile.matches(path.name)
        try:
            header = read_header(row_source(path, profile).header(), profile, path.name)
        except FileRejected as refusal:
            found.append(Fit(profile, matches, refusal.text, 0))
        else:
            found.append(Fit(profile, matches, None, len(header.warnings)))
    return sorted(found, key=lambda fit: (fit.refusal is not None, not fit.name_matches, fit.warnings))


def examine(path: Path, profile: Profile, *, limit: int) -> Examined:
    """Read the whole file.

    Args:
        path: the file, or the manifest of a delivery whose files stand beside it.
        profile: what it should be.
        limit: deviations that are told one by one; the others are counted.

    Raises:
        OSError: it cannot be read.
    """
    examined = Examined()
    if not profile.matches(path.name):
        text = f"the name does not match {profile.file.name}; in the folder it would not be taken"
        examined.add(Deviation("FILE_NAME", path.name, text), limit)
    marker_of = profile.marker_of
    if marker_of is not None and not path.with_name(marker_of(path.name)).exists():
        examined.add(Deviation("FILE_PARTIAL", path.name, f"its marker {marker_of(path.name)} is not there"), limit)
    if (fault := profile.end_fault(path)) is not None:
        examined.add(Deviation("FILE_PARTIAL", "end of the file", fault), limit)
    try:
        stream = parse_file(path, profile)
        examined.warnings = stream.warnings
        for found in stream:
            if isinstance(found, QuarantinedRow):
                examined.set_aside += 1
                examined.add(Deviation(found.reason, stream.place(found.line), found.text), limit)
            else:
                _count(examined, found)
                for problem in found.problems:
                    place = stream.place(problem.row, problem.field) if problem.row is not None else "the invoice"
                    examined.add(Deviation(problem.reason, place, problem.text), limit)
        examined.rows = stream.rows
    except FileRejected as refusal:
        examined.add(Deviation(refusal.reason, "the whole file", refusal.text), limit)
    return examined


def _count(examined: Examined, parsed: ParsedInvoice) -> None:
    examined.invoices += 1
    examined.lines += len(parsed.rows)
    if parsed.invoice is None:
        examined.unbuilt += 1
    else:
        examined.totals[parsed.invoice.currency] += parsed.invoice.amount
