"""Debits equal credits: per journal and currency, entered and accounted, before anything of it is written.

Statistical amounts (STAT) are quantities and have no other side; they are left out.
"""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, Inexact
from itertools import compress

from mlc_dagster.exports.writing import DocumentHeld
from mlc_dagster.fusion.journal_lines import sum_of
from mlc_dagster.fusion.records import Journal
from mlc_dagster.money import difference, shown

STATISTICAL = "STAT"
NO_CURRENCY = "XXX"
"""ISO 4217's code for it; in names of totals."""

_SIDES = ("entered_dr", "entered_cr", "accounted_dr", "accounted_cr")


def journal_totals(journal: Journal) -> dict[str, Decimal]:
    """Exact sums of the four amounts: ``entered_dr USD`` by line currency, ``accounted_dr USD`` in the ledger's.

    Those of statistical lines are named ``entered_dr STAT`` and ``accounted_dr STAT``.
    """
    totals: dict[str, Decimal] = {}
    for currency, total_of in _by_currency(journal):
        ledger = STATISTICAL if currency == STATISTICAL else journal.ledger_currency or NO_CURRENCY
        for side in _SIDES:
            name = f"{side} {currency if side.startswith('entered') else ledger}"
            totals[name] = sum_of((totals.get(name), total_of(side)))
    return totals


def _by_currency(journal: Journal) -> Iterator[tuple[str, Callable[[str], Decimal]]]:
    """Each currency of the lines, with what sums a column over its lines; those that name none have the journal's."""
    own, lines = journal.currency or NO_CURRENCY, journal.lines
    if lines.distinct("currency") <= {None, own}:
        yield own, lines.total
        return
    currencies: Sequence[str | None] = lines.column("currency")
    of_lines = [currency or own for currency in currencies]
    for wanted in dict.fromkeys(of_lines):
        chosen = [currency == wanted for currency in of_lines]
        yield wanted, lambda name, chosen=chosen: sum_of(compress(lines.column(name), chosen))


def check_balance(journal: Journal) -> dict[str, Decimal]:
    """The journal's totals, as ``journal_totals``.

    Raises:
        DocumentHeld: UNBALANCED; debits and credits differ in a currency, entered or accounted. AMOUNT_SCALE; its
            amounts cannot be added without rounding.
    """
    try:
        totals = journal_totals(journal)
    except Inexact:
        text = f"amounts of journal {journal.name!r} have more digits than can be added exactly; correct it in Fusion"
        raise DocumentHeld("AMOUNT_SCALE", text, field="line.entered_dr") from None
    faults: list[str] = []
    for name, debits in totals.items():
        side, currency = name.split(" ", 1)
        if not side.endswith("_dr") or currency == STATISTICAL:
            continue
        credits_ = totals[f"{side[:-3]}_cr {currency}"]
        if debits != credits_:
            finite = debits.is_finite() and credits_.is_finite()
            gap = shown(difference(debits, credits_), currency) if finite else "not a number"
            faults.append(
                f"{side[:-3]} debits {shown(debits, currency)} and credits {shown(credits_, currency)} {currency} "
                f"differ by {gap}"
            )
    if faults:
        raise DocumentHeld(
            "UNBALANCED",
            f"journal {journal.name!r} of {journal.ledger!r} (batch {journal.batch_id}) is out of balance: "
            f"{'; '.join(faults)}; correct it in Fusion, or look for lines that were not read",
            field="line.entered_dr",
        )
    return totals
