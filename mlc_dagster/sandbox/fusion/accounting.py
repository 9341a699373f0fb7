"""From the subledger to the general ledger: accounted invoices become posted Payables batches.

As in Fusion the journals are summarised by account: a journal line says neither which invoice nor which supplier it
came from.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from mlc_dagster.sandbox.fusion.journals import JournalEntry, Line
from mlc_dagster.sandbox.fusion.resources import Row
from mlc_dagster.sandbox.fusion.world import World
from mlc_dagster.sandbox.seed import period_name

CATEGORY = "Purchase Invoices"
CORPORATE_RATES = {
    "USD": Decimal(1),
    "EUR": Decimal("1.0853"),
    "GBP": Decimal("1.2671"),
    "JPY": Decimal("0.0067"),
    "KWD": Decimal("3.2520"),
    "CAD": Decimal("0.7162"),
    "CHF": Decimal("1.1290"),
}
"""One unit in US dollars, the same every day; taken for invoices that name no rate of their own."""


@dataclass
class _Transfer:
    """What goes into one batch: per currency and rate the sums by account, debits positive."""

    last_day: str
    journals: dict[tuple[str, Decimal], dict[str, Decimal]] = field(
        default_factory=dict[tuple[str, Decimal], dict[str, Decimal]]
    )


def transfer(world: World, invoices: Iterable[Row]) -> list[int]:
    """Adds a batch per ledger and period, one journal per currency and rate; gives the batches' ids."""
    transfers: dict[tuple[str, str], _Transfer] = {}
    for invoice in invoices:
        values = invoice.values
        unit = world.units[values["BusinessUnit"]]
        day = values["AccountingDate"]
        period = period_name(dt.date.fromisoformat(day))
        batch = transfers.setdefault((unit.ledger, period), _Transfer(day))
        batch.last_day = max(batch.last_day, day)
        journal = values["InvoiceCurrency"], _rate(invoice, unit.currency)
        _add(batch.journals.setdefault(journal, {}), invoice)
    posted = (_post(world, ledger, period, batch) for (ledger, period), batch in transfers.items())
    return [batch_id for batch_id in posted if batch_id is not None]


def _add(sums: dict[str, Decimal], invoice: Row) -> None:
    for line in invoice.children.get("invoiceLines", []):
        for part in line.children.get("invoiceDistributions", []):
            amount = part.values["DistributionAmount"]
            for account, signed in (
                (part.values["DistributionCombination"], amount),
                # The liability takes what the distributions give, which is the invoice's amount once it is validated.
                (invoice.values["LiabilityDistribution"], -amount),
            ):
                sums[account] = sums.get(account, Decimal(0)) + signed


def _post(world: World, ledger: str, period: str, batch: _Transfer) -> int | None:
    entries: list[JournalEntry] = []
    for place, ((currency, rate), sums) in enumerate(batch.journals.items(), start=1):
        alone = sum(other == currency for other, _ in batch.journals) == 1
        lines = _lines(sums)
        if not lines:
            continue
        name = f"{period} {CATEGORY} {currency}" + ("" if alone else f" {place}")
        entries.append(JournalEntry(name=name, currency=currency, rate=rate, rate_type="Corporate", lines=lines))
    if not entries:
        return None
    run = world.next_number() % 10_000_000
    return world.add_journal_batch(
        f"Payables A {run} {run + 1} N",
        journals=entries,
        ledger=ledger,
        period=period,
        source="Payables",
        category=CATEGORY,
        effective_date=batch.last_day,
        created_by="SYSTEM",
        from_subledger=True,
    )


def _lines(sums: dict[str, Decimal]) -> list[Line]:
    text = "Journal Import Created"
    return [
        (account, amount, None, text) if amount > 0 else (account, None, -amount, text)
        for account, amount in sorted(sums.items(), key=lambda pair: (pair[1] < 0, pair[0]))
        if amount
    ]


def _rate(invoice: Row, ledger_currency: str) -> Decimal:
    currency = invoice.values["InvoiceCurrency"]
    if currency == ledger_currency:
        return Decimal(1)
    given: Decimal | None = invoice.get("ConversionRate")
    if given is not None:
        return given
    return round(CORPORATE_RATES[currency] / CORPORATE_RATES[ledger_currency], 6)
