"""What comes out of reading one file: invoices, rows set aside, or the refusal of the whole file.

Belongs here: the three results and the canonical form of raw cells. Does not: how they are found (``parse``).
"""

import datetime as dt

import msgspec

from mlc_dagster.stampli.model import Invoice
from mlc_dagster.stampli.reasons import Problem


class FileRejected(Exception):
    """No row of the file can be trusted. ``reason`` is FILE_SCHEMA or FILE_COMPRESSION; ``text`` says why."""

    def __init__(self, reason: str, text: str) -> None:
        self.reason = reason
        self.text = text
        super().__init__(f"{reason}: {text}")


class ParsedInvoice(msgspec.Struct, frozen=True, gc=False):
    """All rows of one invoice in one file. What could be read is there even when the invoice could not be built."""

    company_id: str
    source_id: str
    rows: tuple[int, ...]
    """Line numbers in the file, ascending; a row that spans lines counts as its first."""
    number: str
    vendor_id: str
    currency: str | None
    amount_text: str | None
    revision: int
    approved_at: dt.datetime | None
    invoice: Invoice | None
    """None exactly when there are problems: a value is missing or wrong, rows disagree, a row was set aside."""
    content: bytes
    """Canonical JSON of the invoice; of its raw cells where there is none."""
    digest: str
    """SHA-256 of ``content``, in hex."""
    problems: tuple[Problem, ...]


class QuarantinedRow(msgspec.Struct, frozen=True, gc=False):
    """A row set aside: wrong number of cells, broken quotes, bytes that are not text, no key."""

    line: int
    """Line number of its first line in the file."""
    raw: bytes
    """Its bytes without the last line end; the first 64 KiB of a longer one."""
    reason: str
    text: str
    company_id: str | None
    source_id: str | None
    """The invoice it plausibly belongs to; that invoice carries a ROW_MALFORMED problem."""
