"""From archived bytes to invoices in the ledger, a chunk at a time, with the reader's own counts beside them.

Rows in the file = rows in invoices + rows quarantined, always. A file that cannot be read at all is REJECTED; a row
that cannot be read is quarantined; neither stops the others. Reading the same file twice enters nothing twice.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from mlc_dagster.ledger import files as ledger_files
from mlc_dagster.ledger import invoices as ledger_invoices
from mlc_dagster.ledger.archive import Archive, ArchiveDamaged, PayloadErased
from mlc_dagster.ledger.database import Ledger, Row
from mlc_dagster.ledger.files import FileState
from mlc_dagster.ledger.invoices import Appearance
from mlc_dagster.ledger.parts import parts_read
from mlc_dagster.ledger.states import OccurrenceOutcome
from mlc_dagster.money import decimals, minor_units, to_minor
from mlc_dagster.stampli.intake.occurrences import register, sequence_order
from mlc_dagster.stampli.parsing.parse import parse_file
from mlc_dagster.stampli.parsing.parsed import FileRejected, ParsedInvoice, QuarantinedRow
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster.stampli.reasons import problem_rows

_CHUNK = 500
_LARGEST = 10**18


def _silent(count: int) -> None:
    """No progress display."""


@dataclass
class FileReading:
    """The reader's counts of one file."""

    path: str
    rows_total: int = 0
    rows_in_invoices: int = 0
    rows_quarantined: int = 0
    invoices: int = 0
    amounts_minor: Counter[str] = field(default_factory=Counter[str])
    outcomes: Counter[OccurrenceOutcome] = field(default_factory=Counter[OccurrenceOutcome])
    quarantined: list[str] = field(default_factory=list[str])
    """Texts of the first quarantined rows."""
    warnings: tuple[str, ...] = ()
    rejected: str | None = None
    released: str | None = None
    """The archive no longer has its bytes: it is fetched again, and nothing of it was read now."""

    def count(self, parsed: ParsedInvoice | QuarantinedRow) -> None:
        if isinstance(parsed, QuarantinedRow):
            self.rows_quarantined += 1
            if len(self.quarantined) < 50:
                self.quarantined.append(parsed.text)
            return
        self.invoices += 1
        self.rows_in_invoices += len(parsed.rows)
        currency, minor = priced(parsed)
        if currency is not None and minor is not None:
            self.amounts_minor[currency] += minor


def priced(parsed: ParsedInvoice) -> tuple[str | None, int | None]:
    """(currency, minor units) of an invoice as far as they can be read; an unreadable amount has no minor units."""
    if parsed.invoice is not None:
        exponent = minor_units(parsed.invoice.currency)
        # An amount with more decimals than its currency, or beyond 64 bits, is nobody's total: the checks park it.
        if exponent is not None and decimals(parsed.invoice.amount) <= exponent:
            minor = to_minor(parsed.invoice.amount, exponent)
            return parsed.invoice.currency, minor if abs(minor) < _LARGEST else None
    return parsed.currency, None


def appearance_of(parsed: ParsedInvoice) -> Appearance:
    """A parsed invoice in the ledger's terms."""
    currency, minor = priced(parsed)
    return Appearance(
        company_id=parsed.company_id,
        source_key=parsed.source_id,
        rows=parsed.rows,
        number=parsed.number,
        vendor_id=parsed.vendor_id,
        currency=currency,
        amount_minor=minor,
        amount_text=parsed.amount_text,
        revision=parsed.revision,
        approved_at=parsed.approved_at,
        digest=parsed.digest,
        content=parsed.content,
        readable=parsed.invoice is not None,
        problems=problem_rows(parsed.problems),
    )


def read_files(
    ledger: Ledger,
    archive: Archive,
    profile: Profile,
    rows: Sequence[Row],
    *,
    progress: Callable[[int], None] = _silent,
) -> list[FileReading]:
    """Read the RECEIVED files among ``rows``, by the sequence in their names; ``progress`` gets invoices per chunk.

    One whose bytes the archive has lost goes back to waiting on the server; the others are read.
    """
    received = [row for row in rows if row["state"] == str(FileState.RECEIVED)]

    def order(row: Row) -> tuple[tuple[int, int, str], str, int]:
        return sequence_order(profile.sequence(row["path"].rpartition("/")[2])), row["path"], row["version"]

    return [_read_file(ledger, archive, profile, row, progress) for row in sorted(received, key=order)]


def _read_file(
    ledger: Ledger, archive: Archive, profile: Profile, row: Row, progress: Callable[[int], None]
) -> FileReading:
    reading = FileReading(row["path"])
    chunk: list[ParsedInvoice] = []
    aside: list[QuarantinedRow] = []

    def enter() -> None:
        with ledger.transaction() as transaction:
            reading.outcomes.update(register(transaction, row, [appearance_of(each) for each in chunk], profile))
            ledger_invoices.quarantine(transaction, row, [msgspec.structs.asdict(each) for each in aside])
        progress(len(chunk))
        chunk.clear()
        aside.clear()

    try:
        archived = archive.path(row["sha256"])
    except ArchiveDamaged as damage:
        reading.released = f"{Path(row['path']).name}: {damage}, or leave the file on the server to be fetched again"
        with ledger.transaction() as transaction:
            ledger_files.set_file_state(transaction, row, FileState.RELEASED, reading.released)
        return reading
    try:
        stream = parse_file(archived, profile, name=Path(row["path"]).name)
        delivery = stream.delivery
        for parsed in stream:
            reading.count(parsed)
            if delivery is not None:
                delivery.note(parsed)
            if isinstance(parsed, QuarantinedRow):
                aside.append(parsed)
            else:
                chunk.append(parsed)
            if len(chunk) + len(aside) >= _CHUNK:
                enter()
    except FileRejected as refusal:
        reading.rejected = refusal.text
        with ledger.transaction() as transaction:
            ledger_files.set_file_state(transaction, row, FileState.REJECTED, f"{refusal.reason}: {refusal.text}")
        return reading
    enter()
    reading.rows_total = stream.rows
    reading.warnings = tuple(stream.warnings)
    with ledger.transaction() as transaction:
        ledger_invoices.file_was_read(
            transaction,
            row,
            rows_total=reading.rows_total,
            rows_in_invoices=reading.rows_in_invoices,
            rows_quarantined=reading.rows_quarantined,
            invoices=reading.invoices,
            amounts_minor=reading.amounts_minor,
        )
        if delivery is not None:
            parts_read(transaction, row, delivery.parts())
    return reading


@dataclass(frozen=True)
class Rereading:
    """A file read again from the archive, compared with what the ledger holds."""

    path: str
    invoices: int
    differences: tuple[str, ...]
    erased: str | None = None
    """When and by which rule its bytes were erased; then it was not compared."""
    unreadable: str | None = None
    """Why it could not be read again: a profile of another kind by now, damaged bytes; one of its differences."""


def reread_files(ledger: Ledger, archive: Archive, profile: Profile, rows: Sequence[Row]) -> list[Rereading]:
    """Reconcile: read the archived bytes of READ files again and say where the ledger differs from them.

    A file whose bytes were erased by the retention rules is told as such; one that cannot be read again, because its
    bytes are gone or changed or the profile takes them no longer, differs by that. Neither holds up the others.
    """
    found: list[Rereading] = []
    for row in rows:
        if row["state"] != str(FileState.READ):
            continue
        with ledger.reading() as reading:
            held = ledger_invoices.digests_of_file(reading, row["id"])
        try:
            count, differences = _compare(
                parse_file(archive.path(row["sha256"]), profile, name=Path(row["path"]).name), held
            )
        except PayloadErased as gone:
            found.append(Rereading(row["path"], 0, (), erased=gone.told))
            continue
        except (ArchiveDamaged, FileRejected) as fault:
            why = fault.text if isinstance(fault, FileRejected) else str(fault)
            found.append(Rereading(row["path"], 0, (f"cannot be read again: {why}",), unreadable=why))
            continue
        found.append(Rereading(row["path"], count, tuple(differences)))
    return found


def _compare(
    stream: Iterable[ParsedInvoice | QuarantinedRow], held: dict[tuple[str, str], str]
) -> tuple[int, list[str]]:
    """(invoices read, what differs from the digests that the ledger holds by company and source key)."""
    differences: list[str] = []
    count = 0
    for parsed in stream:
        if isinstance(parsed, QuarantinedRow):
            continue
        count += 1
        digest = held.pop((parsed.company_id, parsed.source_id), None)
        if digest is None:
            differences.append(f"invoice {parsed.number} ({parsed.source_id}) is in the file, not in the ledger")
        elif digest != parsed.digest:
            differences.append(f"invoice {parsed.number} ({parsed.source_id}) reads differently from the ledger")
    differences += [f"invoice {source_id} is in the ledger, not in the file" for _, source_id in sorted(held)]
    return count, differences
