"""The peer of the fixed-width case: one f-string per line, as careful as it must be.

The same bytes and the same promises as the product's: amounts exact with two implied decimals, a value that is too long
is an error and never cut, an absent amount is zeros, a new line becomes a blank, lengths are bytes of cp1252.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from mlc_dagster.exports.writing import Version
from mlc_dagster.fusion.journal_lines import JournalLine
from mlc_dagster.fusion.records import Journal

_NEWLINE = re.compile(r"\r\n|\r|\n")
_CENT = Decimal("0.01")


class TooLong(Exception):
    """A value that does not fit its column."""


Rows = tuple[Version, Journal, Sequence[JournalLine]]


def rows_of(versions: Iterable[Version]) -> Iterator[Rows]:
    """The journals with their lines as a loop would have them: an object each."""
    for version in versions:
        journal = version.read.content
        if isinstance(journal, Journal):
            yield version, journal, tuple(journal.lines)


def fixed_records(journals: Iterable[Rows]) -> Iterator[bytes]:
    """The records of all journals, a journal at a time."""
    for rows in journals:
        yield b"".join(_records(*rows))


def _records(version: Version, journal: Journal, lines: Sequence[JournalLine]) -> Iterator[bytes]:
    for line in lines:
        segments = (line.account_combination or "").split("-")
        record = (
            f"{_text(journal.ledger, 30)}{_text(journal.period, 15)}{_text(journal.batch_name, 50)}"
            f"{_text(journal.name, 40)}{_text(line.currency, 3)}{_text(segments[2], 8)}{_text(segments[1], 8)}"
            f"{_amount(line.entered_dr, 16)}{_amount(line.entered_cr, 16)}"
            f"{_amount(line.accounted_dr, 16)}{_amount(line.accounted_cr, 16)}"
            f"{journal.effective_date:%Y%m%d}{_number(line.line_number, 7)}{_text(line.description, 40)}"
            f"{_text(version.read.record_id, 60)}{_number(version.number, 3)}\r\n"
        )
        yield record.encode("cp1252")


def _text(value: str | None, length: int) -> str:
    text = _NEWLINE.sub(" ", value or "")
    if len(text) > length:
        raise TooLong(f"{text!r} is longer than {length}")
    return f"{text:<{length}}"


def _number(value: int, length: int) -> str:
    text = f"{value:0{length}d}"
    if len(text) > length:
        raise TooLong(f"{text} is longer than {length}")
    return text


def _amount(value: Decimal | None, length: int) -> str:
    if value is None:
        return "0" * length
    cents = value.quantize(_CENT)
    if cents != value:
        raise TooLong(f"{value} has more than two decimals")
    return _number(int(cents.scaleb(2)), length)
