"""Counts the rows of each file of a delivery while its invoices are read: rows in the file = in invoices + set aside.

Belongs here: what became of every row of the invoices' file, which has no rows in the ledger of its own. Does not:
joining the two files (``split_rows``), keeping the counts (``ledger.parts``).
"""

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field

from mlc_dagster.ledger.parts import PartRead
from mlc_dagster.stampli.parsing.deliveries import Member
from mlc_dagster.stampli.parsing.parsed import ParsedInvoice, QuarantinedRow


@dataclass
class Joined:
    """Which line belongs to which row of the invoices, as far as the files were read."""

    firsts: "array[int]" = field(default_factory=lambda: array("Q"))
    """Lines from which on a row of the invoices is the one that they belong to."""
    invoice_rows: "array[int]" = field(default_factory=lambda: array("Q"))
    """That row."""
    last_line: int | None = None
    """After it come rows of the invoices that are set aside; None while lines are read."""
    counted: dict[str, int] = field(default_factory=dict[str, int])
    """Rows by name of the file, as its reader counted them."""

    def invoice_row(self, line: int) -> int | None:
        """The row of the invoices to which a line belongs."""
        at = bisect_right(self.firsts, line) - 1
        return self.invoice_rows[at] if at >= 0 else None


class PartTally:
    """What becomes of the rows of both files; fed with everything that is read."""

    def __init__(self, invoices: Member, lines: Member) -> None:
        self._invoices = invoices
        self._lines = lines
        self._used: set[int] = set()
        """Rows of the invoices of which a line is in an invoice."""
        self._in_invoices = 0
        self._lines_aside = 0
        self._own_aside = 0

    def add(self, found: ParsedInvoice | QuarantinedRow, joined: Joined) -> None:
        """One result of the reading; ``joined`` as it is now."""
        if isinstance(found, QuarantinedRow):
            if joined.last_line is not None and found.line > joined.last_line:
                self._own_aside += 1
            else:
                self._lines_aside += 1
            return
        self._in_invoices += len(found.rows)
        self._used.update(row for line in found.rows if (row := joined.invoice_row(line)) is not None)

    def counts(self, joined: Joined) -> tuple[PartRead, PartRead]:
        """Of the invoices' file and of the file of lines, when all is read.

        A row of the invoices of which no line could be read into an invoice counts as set aside: it was, with them.
        """
        with_lines = len(set(joined.invoice_rows) - self._used)
        return (
            self._part(self._invoices, joined, len(self._used), self._own_aside + with_lines),
            self._part(self._lines, joined, self._in_invoices, self._lines_aside),
        )

    @staticmethod
    def _part(member: Member, joined: Joined, in_invoices: int, aside: int) -> PartRead:
        return PartRead(member.name, member.size, member.sha256, joined.counted[member.name], in_invoices, aside)
