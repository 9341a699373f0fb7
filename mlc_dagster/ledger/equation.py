"""The one equation: what was received is accounted for, in count and per currency.

occurrences received = created + already in Fusion + duplicate + superseded + stale + parked + rejected + unknown

An appearance counts under its own outcome (duplicate, superseded, stale, parked) or, when it is the current one, under
its invoice's state. What a run has not finished counts as unknown: nobody may say more of it.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.schema import invoice, invoice_occurrence, source_file
from mlc_dagster.ledger.states import InvoiceState, OccurrenceOutcome

BUCKETS = (
    "created",
    "already_in_fusion",
    "duplicate",
    "superseded",
    "stale",
    "parked",
    "rejected",
    "unknown",
)

_BY_OUTCOME = {
    OccurrenceOutcome.DUPLICATE: "duplicate",
    OccurrenceOutcome.SUPERSEDED: "superseded",
    OccurrenceOutcome.STALE: "stale",
    OccurrenceOutcome.PARKED: "parked",
    OccurrenceOutcome.WAITING: "unknown",
}
_BY_STATE = {
    InvoiceState.CREATED: "created",
    InvoiceState.CONFIRMED: "created",
    InvoiceState.MISSING_IN_FUSION: "created",
    InvoiceState.VOIDED_IN_FUSION: "created",
    InvoiceState.ALREADY_IN_FUSION: "already_in_fusion",
    InvoiceState.PARKED: "parked",
    InvoiceState.REJECTED: "rejected",
    InvoiceState.RECEIVED: "unknown",
    InvoiceState.VALIDATED: "unknown",
    InvoiceState.SENDING: "unknown",
    InvoiceState.UNKNOWN: "unknown",
}


def bucket_of(outcome: OccurrenceOutcome, state: InvoiceState) -> str:
    """The bucket in which an appearance counts; ``state`` is its invoice's."""
    return _BY_OUTCOME.get(outcome) or _BY_STATE[state]


@dataclass
class Tally:
    """Count, and minor units per currency; ``unpriced`` counts appearances whose amount could not be read."""

    count: int = 0
    minor: dict[str, int] = field(default_factory=dict[str, int])
    unpriced: int = 0

    def add(self, count: int, currency: str | None, minor: int | None, *, unpriced: int = 0) -> None:
        self.count += count
        self.unpriced += unpriced
        if currency is not None and minor is not None:
            self.minor[currency] = self.minor.get(currency, 0) + minor


@dataclass(frozen=True)
class Equation:
    """Both sides: ``received`` as the file reader counted, ``buckets`` as the ledger's rows say."""

    received: Tally
    buckets: Mapping[str, Tally]

    @property
    def faults(self) -> list[str]:
        """Where the two sides differ, in words; empty when the equation holds."""
        found: list[str] = []
        total = sum(tally.count for tally in self.buckets.values())
        if total != self.received.count:
            found.append(f"{self.received.count} invoices were read from files, {total} are accounted for")
        currencies = set(self.received.minor).union(*(tally.minor for tally in self.buckets.values()))
        for currency in sorted(currencies):
            right = sum(tally.minor.get(currency, 0) for tally in self.buckets.values())
            left = self.received.minor.get(currency, 0)
            if left != right:
                found.append(f"{currency}: {left} minor units were read from files, {right} are accounted for")
        return found

    def count(self, bucket: str) -> int:
        return self.buckets[bucket].count


def equation(transaction: Transaction, feed: str, window_start: dt.datetime | None = None) -> Equation:
    """The equation over one window's files, or over everything ever received."""
    received = Tally()
    files = sa.select(source_file.c.invoices, source_file.c.amounts_minor).where(
        source_file.c.feed == feed, source_file.c.invoices.is_not(None)
    )
    if window_start is not None:
        files = files.where(source_file.c.window_start == window_start)
    for row in transaction.rows(files):
        received.add(row["invoices"], None, None)
        amounts: dict[str, int] = row["amounts_minor"] or {}
        for currency, minor in amounts.items():
            received.add(0, currency, minor)
    buckets = {name: Tally() for name in BUCKETS}
    statement = (
        sa.select(
            invoice_occurrence.c.outcome,
            invoice.c.state,
            invoice_occurrence.c.currency,
            sa.func.count().label("count"),
            sa.func.sum(invoice_occurrence.c.amount_minor).label("minor"),
            sa.func.sum(sa.case((invoice_occurrence.c.amount_minor.is_(None), 1), else_=0)).label("unpriced"),
        )
        .join(invoice, invoice.c.id == invoice_occurrence.c.invoice_pk)
        .join(source_file, source_file.c.id == invoice_occurrence.c.file_id)
        .where(source_file.c.feed == feed)
        .group_by(invoice_occurrence.c.outcome, invoice.c.state, invoice_occurrence.c.currency)
    )
    if window_start is not None:
        statement = statement.where(invoice_occurrence.c.window_start == window_start)
    for row in transaction.rows(statement):
        bucket = bucket_of(OccurrenceOutcome(row["outcome"]), InvoiceState(row["state"]))
        minor = None if row["minor"] is None else int(row["minor"])
        buckets[bucket].add(row["count"], row["currency"], minor, unpriced=int(row["unpriced"]))
    return Equation(received, buckets)
