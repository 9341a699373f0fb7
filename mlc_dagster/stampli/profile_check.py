"""What a profile makes of a file, told to the person who writes the one or the other.

Belongs here: reading a file to the end without any ledger, and every deviation with its place: of the shape, of single
values, and of invoices in themselves (``any_company``). Does not: what crosswalks and Fusion decide (``mapping``).
Memory: the parser's, what is told, and some hundred bytes per invoice to find a number used twice.
"""

import datetime as dt
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from mlc_dagster.money import minor_units
from mlc_dagster.settings import CompanySettings
from mlc_dagster.stampli.any_company import problems_of, problems_under
from mlc_dagster.stampli.checks import MEMOS, VOID, warn_about
from mlc_dagster.stampli.identity import number_key
from mlc_dagster.stampli.model import Invoice
from mlc_dagster.stampli.parsing.columns import read_header
from mlc_dagster.stampli.parsing.line_places import MOST_ROWS, line_numbers
from mlc_dagster.stampli.parsing.parse import InvoiceStream, parse_file
from mlc_dagster.stampli.parsing.parsed import FileRejected, ParsedInvoice, QuarantinedRow
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster.stampli.parsing.row_sources import row_source
from mlc_dagster.stampli.reasons import Problem, problem

SAMPLES = 5
"""Invoices that are shown as they were read."""
_MOST_NAMES = 20
"""Different companies, types, statuses that are counted one by one."""

_OF_LINE = re.compile(r"(.+) of line ([0-9]+)")
_FIELDS = {"invoice_amount": "amount", "invoice_number": "number"}
"""Where ``checks`` calls a column otherwise than its canonical field."""


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
    """Where a file is not as its profile says, or an invoice in it not as any company could take it."""

    reason: str
    place: str
    text: str
    row: int | None = None
    column: str | None = None
    """Its name in the file."""


@dataclass
class Values:
    """What the profile makes of the values, over all invoices that can be read."""

    totals: dict[str, Decimal] = field(default_factory=lambda: defaultdict[str, Decimal](Decimal))
    """Of invoice amounts, by currency."""
    first_date: dt.date | None = None
    last_date: dt.date | None = None
    """Of the invoices, as read: days and months that were swapped show here."""
    counted: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict[str, Counter[str]](Counter))
    """Invoices by company, type and status."""
    samples: list[Invoice] = field(default_factory=list[Invoice])
    """The first ones."""

    def add(self, invoice: Invoice) -> None:
        if minor_units(invoice.currency) is not None:
            # Amounts of what is no currency add up to nothing; a file of garbage has thousands of them.
            self.totals[invoice.currency] += invoice.amount
        day = invoice.invoice_date
        self.first_date = min(self.first_date or day, day)
        self.last_date = max(self.last_date or day, day)
        for name, value in (
            ("company_id", invoice.company_id), ("invoice_type", invoice.invoice_type), ("status", invoice.status),
        ):  # fmt: skip
            counts = self.counted[name]
            counts[value if value in counts or len(counts) < _MOST_NAMES else "others"] += 1
        if len(self.samples) < SAMPLES:
            self.samples.append(invoice)


@dataclass
class Examined:
    """A file as its profile reads it."""

    rows: int = 0
    invoices: int = 0
    """With all rows, built or not."""
    unbuilt: int = 0
    """Invoices of which a value cannot be read."""
    deviating: int = 0
    """Invoices that can be read and that their company, or no company, could take as they are."""
    lines: int = 0
    """Rows that belong to invoices."""
    set_aside: int = 0
    values: Values = field(default_factory=Values)
    warnings: tuple[str, ...] = ()
    remarks: list[Deviation] = field(default_factory=list[Deviation])
    """The first of those that park nothing."""
    remarked: int = 0
    deviations: list[Deviation] = field(default_factory=list[Deviation])
    """The first ones, in the order of the file."""
    reasons: Counter[str] = field(default_factory=Counter[str])
    """All deviations by reason."""

    @property
    def not_told(self) -> int:
        """Deviations beyond the limit."""
        return self.reasons.total() - len(self.deviations)


def fits(path: Path, profiles: Iterable[Profile]) -> list[Fit]:
    """The profiles, the one that fits best first.

    Raises:
        OSError: the file cannot be read.
    """
    found: list[Fit] = []
    for profile in profiles:
        matches = profile.matches(path.name)
        if not matches and profile.part_of(path.name) is not None:
            text = f"{path.name}: is one file of a delivery; name its manifest, with its files beside it"
            found.append(Fit(profile, matches, text, 0))
            continue
        try:
            header = read_header(row_source(path, profile, path.name).header(), profile, path.name)
        except FileRejected as refusal:
            found.append(Fit(profile, matches, refusal.text, 0))
        else:
            found.append(Fit(profile, matches, None, len(header.warnings)))
    return sorted(found, key=lambda fit: (fit.refusal is not None, not fit.name_matches, fit.warnings))


def examine(
    path: Path, profile: Profile, *, limit: int, companies: Mapping[str, CompanySettings] | None = None
) -> Examined:
    """Read the whole file.

    Args:
        path: the file, or the manifest of a delivery whose files stand beside it.
        profile: what it should be.
        limit: deviations that are told one by one; the others are counted.
        companies: settings by Stampli's id, where there are any; else what no company's settings would accept is told.

    Raises:
        OSError: it cannot be read.
    """
    return _Examination(path, profile, limit, companies).go()


@dataclass(frozen=True)
class _Pending:
    """A deviation of a line whose row is not known yet."""

    at: int
    """Its position among those told."""
    rows: tuple[int, ...]
    number: int
    column: str


class _Examination:
    """One reading of one file."""

    def __init__(
        self, path: Path, profile: Profile, limit: int, companies: Mapping[str, CompanySettings] | None
    ) -> None:
        self._path = path
        self._profile = profile
        self._limit = limit
        self._companies = companies
        self._examined = Examined()
        self._numbers: dict[bytes, tuple[int, bool]] = {}
        """Invoice numbers, by company and vendor: first row, and whether it is a memo."""
        self._pending: list[_Pending] = []

    def go(self) -> Examined:
        examined, path = self._examined, self._path
        self._look_around()
        try:
            stream = parse_file(path, self._profile)
            examined.warnings = stream.warnings
            for found in stream:
                if isinstance(found, QuarantinedRow):
                    examined.set_aside += 1
                    self._tell(found.reason, found.text, stream, row=found.line)
                else:
                    self._take(found, stream)
            examined.rows = stream.rows
            self._find_lines(stream)
        except FileRejected as refusal:
            self._add(Deviation(refusal.reason, "the whole file", refusal.text))
        return examined

    def _look_around(self) -> None:
        """The name, what stands beside the file, and its end."""
        path, profile = self._path, self._profile
        if not profile.matches(path.name):
            text = f"the name does not match {profile.file.name}; in the folder it would not be taken"
            self._add(Deviation("FILE_NAME", path.name, text))
        marker_of = profile.marker_of
        if marker_of is not None and not path.with_name(marker_of(path.name)).exists():
            self._add(Deviation("FILE_PARTIAL", path.name, f"its marker {marker_of(path.name)} is not there"))
        if (fault := profile.end_fault(path)) is not None:
            self._add(Deviation("FILE_PARTIAL", "end of the file", fault))

    def _take(self, parsed: ParsedInvoice, stream: InvoiceStream) -> None:
        examined = self._examined
        examined.invoices += 1
        examined.lines += len(parsed.rows)
        for found in parsed.problems:
            self._tell(found.reason, found.text, stream, row=found.row, column=found.field)
        used_twice = self._used_before(parsed, stream)
        if parsed.invoice is None:
            examined.unbuilt += 1
        else:
            examined.values.add(parsed.invoice)
            wrong = self._wrong(parsed.invoice) + used_twice
            examined.deviating += bool(wrong)
            for found in wrong:
                self._tell_of(found, parsed, stream)
            for found in warn_about(parsed.invoice):
                examined.remarked += 1
                if len(examined.remarks) < min(self._limit, SAMPLES):
                    row = parsed.rows[0]
                    examined.remarks.append(Deviation(found.reason, f"invoice of {stream.place(row)}", found.text))
            return
        for found in used_twice:
            self._tell_of(found, parsed, stream)

    def _wrong(self, invoice: Invoice) -> list[Problem]:
        return problems_of(invoice) if self._companies is None else problems_under(invoice, self._companies)

    def _used_before(self, parsed: ParsedInvoice, stream: InvoiceStream) -> list[Problem]:
        """Whether another invoice of the file has this vendor and number: one of them at most is posted."""
        invoice = parsed.invoice
        if not parsed.number or not parsed.vendor_id or (invoice is not None and invoice.status == VOID):
            return []
        memo = invoice is not None and invoice.invoice_type in MEMOS
        named = "\0".join((parsed.company_id, parsed.vendor_id, number_key(parsed.number)))
        key = hashlib.blake2b(named.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        first, was_memo = self._numbers.setdefault(key, (parsed.rows[0], memo))
        if first == parsed.rows[0]:
            return []
        company = (self._companies or {}).get(parsed.company_id)
        if memo != was_memo and company is not None and company.memo_suffix is not None:
            # The memo gets a number of its own.
            return []
        value = f"{parsed.number}, also at {stream.place(first, stream.column_of('number'))}"
        code = "DUP_EXACT" if memo == was_memo else "MEMO_NUMBER_REUSED"
        return [problem(code, field="invoice_number", value=value)]

    def _tell_of(self, found: Problem, parsed: ParsedInvoice, stream: InvoiceStream) -> None:
        """A finding about the invoice, which names a column and perhaps a line."""
        named = found.field or ""
        line = _OF_LINE.fullmatch(named)
        name = line[1] if line is not None else named
        column = stream.column_of(_FIELDS.get(name, name))
        told = self._tell(found.reason, found.text, stream, row=parsed.rows[0], column=column)
        if told and line is not None and column is not None:
            at = len(self._examined.deviations) - 1
            self._pending.append(_Pending(at, parsed.rows, int(line[2]), column))

    def _tell(
        self, reason: str, text: str, stream: InvoiceStream, *, row: int | None, column: str | None = None
    ) -> bool:
        """Whether it was told, and not only counted: where it stands is looked up for those that are."""
        if len(self._examined.deviations) >= self._limit:
            self._examined.reasons[reason] += 1
            return False
        place = "the invoice" if row is None else stream.place(row, column)
        if row is not None and column is not None:
            row = stream.row_of(row, column)
        self._add(Deviation(reason, place, text, row, column))
        return True

    def _add(self, deviation: Deviation) -> None:
        self._examined.reasons[deviation.reason] += 1
        if len(self._examined.deviations) < self._limit:
            self._examined.deviations.append(deviation)

    def _find_lines(self, stream: InvoiceStream) -> None:
        """Give deviations of lines the rows of those lines."""
        wanted: set[int] = set()
        for each in self._pending:
            if len(wanted) + len(each.rows) <= MOST_ROWS:
                wanted.update(each.rows)
        if not wanted:
            return
        numbers = line_numbers(self._path, self._profile, wanted)
        told = self._examined.deviations
        for each in self._pending:
            row = next((row for row in each.rows if numbers.get(row) == each.number), None)
            if row is not None:
                told[each.at] = replace(told[each.at], place=stream.place(row, each.column), row=row)
