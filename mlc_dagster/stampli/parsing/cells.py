"""Text of one cell to a value: the pattern is checked before any cast, nothing is rounded, nothing is guessed.

Belongs here: what a number, a date, a code looks like in a file. Does not: which column is which (``columns``) and
what the values of an invoice mean together (``checks``). Python's own casts are not asked: they accept 1e3, NaN, blanks
around digits and digits of other scripts.
"""

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from mlc_dagster.stampli.parsing.profile import Column, ValueRules

Convert = Callable[[str], object]
"""From a cell that is not null; raises CellFault."""

INTEGER_DIGITS = 24
"""Whole digits of a number: more than any money has, few enough that sums stay within ``amounts``' exact context."""
SCALE = 12
"""Decimals of a quantity, price or rate."""

_REMEMBERED = 4096
"""Values kept converted, for a kind of value or a column; dates, numbers of lines and words repeat in files."""

# Line ends and tabs are text; other control characters, surrogates and the like are not.
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_INTEGER = re.compile(r"[0-9]{1,9}")


class CellFault(Exception):
    """A cell that cannot be used: reason code and what to do."""

    def __init__(self, reason: Literal["FIELD_INVALID", "LENGTH"], remedy: str) -> None:
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{reason}: {remedy}")


class _Remembered(dict[str, object]):
    """Cells already converted; asking is one look-up, a cell not seen before is converted once. Bounded."""

    def __init__(self, convert: Convert) -> None:
        super().__init__()
        self._convert = convert

    def __missing__(self, cell: str) -> object:
        value = self._convert(cell)
        if len(self) >= _REMEMBERED:
            self.clear()
        self[cell] = value
        return value


def _remembering(convert: Convert) -> Convert:
    """``convert`` with a memory; faults are not remembered."""
    return _Remembered(convert).__getitem__


def converter(column: Column, rules: ValueRules, *, printable: bool) -> Convert | None:
    """How cells of this column become values; None: they stay as they are.

    Args:
        column: its declaration.
        rules: the profile's ways to write values.
        printable: the cells are known to hold no control or invisible character.
    """
    match column.type:
        case "text":
            return None if printable else _refuse_no_text
        case "code":
            return code_converter(printable=printable)
        case "integer":
            return _INTEGERS
        case "decimal":
            return _numbers(rules.decimal_mark)
        case "date":
            return _dates(rules.date)
        case "timestamp":
            return _TIMESTAMPS
        case "enum":
            return _remembering(_enum(column.values or {}, keep=column.other == "keep"))


def code_converter(*, printable: bool) -> Convert | None:
    """For codes, and for columns known by their prefix only."""
    return None if printable else _refuse_invisible


def _refuse_no_text(cell: str) -> str:
    if match := _NO_TEXT.search(cell):
        raise CellFault("FIELD_INVALID", f"take out the control character {match[0]!a}")
    return cell


def _refuse_invisible(cell: str) -> str:
    if not cell.isprintable():
        character = next(character for character in cell if not character.isprintable())
        raise CellFault("FIELD_INVALID", f"take out the invisible or control character {character!a}")
    return cell


def _integer(cell: str) -> int:
    if _INTEGER.fullmatch(cell) is None:
        raise CellFault("FIELD_INVALID", "write a whole number of at most nine digits, without sign or blanks")
    return int(cell)


def _enum(words: dict[str, str], *, keep: bool) -> Convert:
    def convert(cell: str) -> str:
        word = words.get(cell)
        if word is not None:
            return word
        if keep:
            return _refuse_invisible(cell)
        raise CellFault("FIELD_INVALID", f"write one of {', '.join(words)}")

    return convert


@lru_cache(maxsize=16)
def _dates(layout: str) -> Convert:
    """One memory for all columns and files: the dates of a day's invoices are few."""
    return _remembering(_date_converter(layout))


@lru_cache(maxsize=2)
def _numbers(mark: Literal[".", ","]) -> Convert:
    return _remembering(decimal_converter(ValueRules(decimal_mark=mark)))


def _date_converter(layout: str) -> Convert:
    pattern = re.escape(layout)
    for part, digits, name in (("YYYY", 4, "year"), ("MM", 2, "month"), ("DD", 2, "day")):
        pattern = pattern.replace(part, f"(?P<{name}>[0-9]{{{digits}}})")
    compiled = re.compile(pattern)

    def convert(cell: str) -> dt.date:
        match = compiled.fullmatch(cell)
        if match is None:
            raise CellFault("FIELD_INVALID", f"write the date as {layout}")
        try:
            return dt.date(int(match["year"]), int(match["month"]), int(match["day"]))
        except ValueError:
            raise CellFault("FIELD_INVALID", f"there is no such day; write the date as {layout}") from None

    return convert


def _timestamp(cell: str) -> dt.datetime:
    remedy = "write date, time and zone, such as 2026-10-30T16:02:11Z"
    if _TIMESTAMP.fullmatch(cell) is None:
        raise CellFault("FIELD_INVALID", remedy)
    try:
        return dt.datetime.fromisoformat(cell).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise CellFault("FIELD_INVALID", f"there is no such instant; {remedy}") from None


_INTEGERS = _remembering(_integer)
_TIMESTAMPS = _remembering(_timestamp)


def number_pattern(rules: ValueRules) -> str:
    """What a number looks like."""
    return rf"-?[0-9]{{1,{INTEGER_DIGITS}}}(?:{re.escape(rules.decimal_mark)}[0-9]{{1,{SCALE}}})?"


def amount_pattern(rules: ValueRules, minor_units: int) -> str:
    """What an amount with exactly the decimals of its currency looks like."""
    fraction = rf"{re.escape(rules.decimal_mark)}[0-9]{{{minor_units}}}" if minor_units else ""
    return rf"-?[0-9]{{1,{INTEGER_DIGITS}}}{fraction}"


def decimal_converter(rules: ValueRules) -> Convert:
    """For quantities, prices and rates; trailing zeros are dropped, so that 5.50 and 5.5 are the same content."""
    mark = rules.decimal_mark
    pattern = re.compile(number_pattern(rules))

    def convert(cell: str) -> Decimal:
        if pattern.fullmatch(cell) is None:
            raise CellFault("FIELD_INVALID", _number_remedy(mark))
        text = cell.replace(mark, ".")
        value = Decimal(text.rstrip("0").rstrip(".") if "." in text else text)
        return value or Decimal(0)

    return convert


def money_converter(rules: ValueRules, minor_units: int, currency: str) -> Convert:
    """For amounts of a currency with ``minor_units`` decimals; the value always carries exactly that many.

    Excess decimals are refused, never rounded: 1.005 USD is a fault of the sender.
    """
    mark = rules.decimal_mark
    number = re.compile(number_pattern(rules))
    dot, accept_zeros = mark == ".", rules.excess_zeros == "accept"

    is_exact = re.compile(amount_pattern(rules, minor_units)).fullmatch

    def convert(cell: str) -> Decimal:
        if is_exact(cell) is not None:
            value = Decimal(cell) if dot else Decimal(cell.replace(mark, "."))
            return value or abs(value)
        if number.fullmatch(cell) is None:
            raise CellFault("FIELD_INVALID", _number_remedy(mark))
        whole, _, fraction = cell.partition(mark)
        if len(fraction) > minor_units:
            if not accept_zeros or fraction[minor_units:].strip("0"):
                raise CellFault(
                    "FIELD_INVALID",
                    f"it has {len(fraction)} decimals, {currency} has {minor_units}; amounts are never rounded",
                )
            fraction = fraction[:minor_units]
        value = Decimal(f"{whole}.{fraction.ljust(minor_units, '0')}" if minor_units else whole)
        return value or abs(value)

    return convert


def _number_remedy(mark: str) -> str:
    return f"write digits with {mark!r} as decimal mark; no blanks, thousands marks, exponents or plus sign"
