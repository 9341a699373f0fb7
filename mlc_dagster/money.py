"""Money exactly: decimals per currency (ISO 4217), minor units, sums.

Belongs here: arithmetic that never rounds and the currency table (``currencies.csv``: money in use, without metals and
test codes). Does not: text of cells, rates, tolerances.
"""

import csv
from collections.abc import Iterable
from decimal import Context, Decimal, Inexact, InvalidOperation, localcontext
from functools import cache, reduce
from importlib.resources import files

# Python's usual 28 digits would round the sum of very large amounts; here anything that would round raises.
_EXACT = Context(prec=80, traps=[Inexact, InvalidOperation])
_ZERO = Decimal(0)
_FEW = 16
"""Amounts from which on it pays to change the context for one sum."""


@cache
def currencies() -> dict[str, int]:
    """Minor units by currency code: USD 2, JPY 0, KWD 3."""
    text = (files("mlc_dagster") / "currencies.csv").read_text(encoding="ascii")
    return {row["currency"]: int(row["minor_units"]) for row in csv.DictReader(text.splitlines())}


def minor_units(currency: str) -> int | None:
    """Decimals of the currency's amounts; None when ISO 4217 has no such code (codes are upper case)."""
    return currencies().get(currency)


def to_minor(amount: Decimal, exponent: int) -> int:
    """An amount in minor units, exactly: 10.50 with exponent 2 is 1050.

    Raises:
        ValueError: the amount has more decimals than the currency.
    """
    scaled = _EXACT.scaleb(amount, exponent)
    whole = int(scaled)
    if whole != scaled:
        msg = f"{amount} has more than {exponent} decimals"
        raise ValueError(msg)
    return whole


def from_minor(minor: int, exponent: int) -> Decimal:
    """Minor units as an amount of the currency, exactly: 108250 with exponent 2 is 1082.50."""
    return _EXACT.scaleb(Decimal(minor), -exponent)


def amount_of(minor: int, currency: str) -> Decimal:
    """Minor units as an amount in units of its currency; one that ISO 4217 does not know has no decimals."""
    return from_minor(minor, minor_units(currency) or 0)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum; 0 of nothing. Raises decimal.Inexact where 80 digits do not hold it."""
    added = amounts if isinstance(amounts, list) else list(amounts)
    if len(added) < _FEW:
        return reduce(_EXACT.add, added, _ZERO)
    with localcontext(_EXACT):
        return sum(added, _ZERO)


def shown(amount: Decimal, currency: str) -> str:
    """An amount for people: in full, with at least the decimals of its currency (10.5 USD is 10.50)."""
    units = minor_units(currency) or 0
    text = f"{amount:f}"
    missing = units - decimals(amount) if amount.is_finite() else 0
    return text if missing <= 0 else f"{text}{'' if '.' in text else '.'}{'0' * missing}"


def difference(amount: Decimal, other: Decimal) -> Decimal:
    """``amount`` minus ``other``, exactly."""
    return _EXACT.subtract(amount, other)


def decimals(amount: Decimal) -> int:
    """Decimals as written: 10.50 has two."""
    text = str(amount)
    if "E" not in text and "N" not in text:
        # Looked at for each amount of each file: its digits as a tuple would cost three times as much.
        return len(text.partition(".")[2])
    exponent = amount.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
