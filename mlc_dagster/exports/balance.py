"""Debits equal credits: per journal and currency, entered and accounted, before anything of it is written.

Statistical amounts (STAT) are quantities and have no other side; they are left out.
"""

from collections.abc import Iterable, Mapping
from decimal import Context, Decimal, Inexact, InvalidOperation, localcontext
from operator import attrgetter

from mlc_dagster.exports.writing import DocumentHeld
from mlc_dagster.fusion.records import Journal, JournalLine
from mlc_dagster.money import difference

STATISTICAL = "STAT"
NO_CURRENCY = "XXX"
"""ISO 4217's code for it; in names of totals."""

# Sums in C, and an error rather than a rounded one.
_EXACT = Context(prec=80, traps=[Inexact, InvalidOperation])

_SIDES = {name: attrgetter(name) for name in ("entered_dr", "entered_cr", "accounted_dr", "accounted_cr")}
_currency_of = attrgetter("currency")


def _by_currency(journal: Journal) -> Mapping[str, Iterable[JournalLine]]:
    own = journal.currency or NO_CURRENCY
    if set(map(_currency_of, journal.lines)) <= {None, own}:
        return {own: journal.lines}
    groups: dict[str, list[JournalLine]] = {}
    for line in journal.lines:
        groups.setdefault(line.currency or own, []).append(line)
    return groups


def journal_totals(journal: Journal) -> dict[str, Decimal]:
    """Exact sums of the four amounts: ``entered_dr USD`` by line currency, ``accounted_dr USD`` in the ledger's.

    Those of statistical lines are named ``entered_dr STAT`` and ``accounted_dr STAT``.
    """
    totals: dict[str, Decimal] = {}
    with localcontext(_EXACT):
        for currency, lines in _by_currency(journal).items():
            ledger = STATISTICAL if currency == STATISTICAL else journal.ledger_currency or NO_CURRENCY
            for side, amount_of in _SIDES.items():
                name = f"{side} {currency if side.startswith('entered') else ledger}"
                amounts = [amount for amount in map(amount_of, lines) if amount is not None]
                totals[name] = totals.get(name, Decimal(0)) + sum(amounts, Decimal(0))
    return totals


def check_balance(journal: Journal) -> dict[str, Decimal]:
    """The journal's totals, as ``journal_totals``.

    Raises:
        DocumentHeld: UNBALANCED; debits and credits differ in a currency, entered or accounted.
    """
    totals = journal_totals(journal)
    faults: list[str] = []
    for name, debits in totals.items():
        side, currency = name.split(" ", 1)
        if not side.endswith("_dr") or currency == STATISTICAL:
            continue
        credits_ = totals[f"{side[:-3]}_cr {currency}"]
        if debits != credits_:
            gap = difference(debits, credits_) if debits.is_finite() and credits_.is_finite() else "not a number"
            faults.append(f"{side[:-3]} debits {debits:f} and credits {credits_:f} {currency} differ by {gap}")
    if faults:
        raise DocumentHeld(
            "UNBALANCED",
            f"journal {journal.name!r} of {journal.ledger!r} (batch {journal.batch_id}) is out of balance: "
            f"{'; '.join(faults)}; correct it in Fusion, or look for lines that were not read",
            field="line.entered_dr",
        )
    return totals
