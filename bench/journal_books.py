"""The journals that the benchmark serves, and what they add up to.

Deterministic: the server, the naive peer and the checks of our own result make the same books from two numbers. Every
journal is balanced. Its lines are one of a few variants, so that a million lines need no gigabyte of memory.
"""

import datetime as dt
import random
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property
from typing import NamedTuple

LINES_PER_JOURNAL = 5_000
VARIANTS = 8
FIRST_BATCH_ID = 300_000_000_100_000
LEDGER = "US Primary Ledger"
CHART = "US1 Chart of Accounts"
SEGMENTS = ("entity", "department", "account", "subAccount", "location", "future1")
WINDOW_START = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)
WINDOW_END = dt.datetime(2026, 11, 3, tzinfo=dt.UTC)
"""All batches were last changed in this window, a second apart."""

_WORDS = (
    "Copier paper, A4 80 g",
    "Travel Denver – Chicago",
    'Monitor 27" with stand',
    "Consulting; October instalment",
    "Rent for the warehouse in Zürich",
    "Freight and handling",
    "Licences for 40 users",
    "Cleaning, 3rd floor",
)


class Line(NamedTuple):
    """One journal line: number, accounts, amounts in cents of the journal's and the ledger's currency."""

    number: int
    combination: str
    debit: bool
    entered: int
    accounted: int
    description: str


class Totals(NamedTuple):
    """Exact sums over all lines, in the journals' and in the ledger's currency."""

    entered_dr: Decimal
    entered_cr: Decimal
    accounted_dr: Decimal
    accounted_cr: Decimal


@cache
def variant_lines(variant: int) -> tuple[Line, ...]:
    """The lines of one variant; debits equal credits, pair by pair."""
    draw = random.Random(variant)
    lines: list[Line] = []
    for pair in range(LINES_PER_JOURNAL // 2):
        # One amount in eight is whole, one in eight has one decimal: they are where spellings of decimals differ.
        entered = draw.randrange(1, 9_999_999) * (100 if pair % 8 == 0 else 10 if pair % 8 == 1 else 1)
        accounted = entered if currency(variant) == "USD" else entered * 10842 // 10000
        for debit in (True, False):
            combination = f"101-{draw.randrange(100, 999)}-{draw.randrange(40000, 79999)}-000-{pair % 7:03}-000"
            words = f"{_WORDS[draw.randrange(len(_WORDS))]} {draw.randrange(10**6):06}"
            lines.append(Line(len(lines) + 1, combination, debit, entered, accounted, words))
    return tuple(lines)


def currency(variant: int) -> str:
    """The journal's currency; the ledger's is USD."""
    return "EUR" if variant == VARIANTS - 1 else "USD"


@cache
def _variant_sums(variant: int) -> Counter[str]:
    sums: Counter[str] = Counter()
    for line in variant_lines(variant):
        side = "dr" if line.debit else "cr"
        sums[f"entered_{side}"] += line.entered
        sums[f"accounted_{side}"] += line.accounted
    return sums


@dataclass(frozen=True)
class Books:
    """``journals`` batches of one journal with 5,000 lines each."""

    journals: int

    @classmethod
    def of_lines(cls, lines: int) -> "Books":
        """Books of about ``lines`` lines, in whole journals."""
        return cls(max(1, round(lines / LINES_PER_JOURNAL)))

    @property
    def lines(self) -> int:
        return self.journals * LINES_PER_JOURNAL

    @property
    def batch_ids(self) -> range:
        return range(FIRST_BATCH_ID, FIRST_BATCH_ID + self.journals)

    @cached_property
    def totals(self) -> Totals:
        sums: Counter[str] = Counter()
        for batch_id in self.batch_ids:
            sums.update(_variant_sums(variant_of(batch_id)))
        return Totals(*(Decimal(sums[name]).scaleb(-2) for name in Totals._fields))


def variant_of(batch_id: int) -> int:
    """Which variant the lines of a batch are."""
    return (batch_id - FIRST_BATCH_ID) % VARIANTS


def changed_at(batch_id: int) -> dt.datetime:
    """LastUpdateDate of a batch, its journal and their lines."""
    return WINDOW_START + dt.timedelta(hours=8, seconds=batch_id - FIRST_BATCH_ID)
