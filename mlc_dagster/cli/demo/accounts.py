"""The demonstration's bookkeeping: what the ledger says of every file, and whether Fusion's own books agree.

What belongs here: reading and comparing. Three sides are compared: what the files must lead to, what our ledger says
was created, and what Fusion's books hold, in count and to the smallest unit of every currency.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from mlc_dagster.cli.output import file_name
from mlc_dagster.ledger import files as ledger_files
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.equation import equation
from mlc_dagster.ledger.schema import invoice, invoice_occurrence, quarantined_row
from mlc_dagster.ledger.states import CREATED_STATES, InvoiceState
from mlc_dagster.stampli.inbound import FEED
from mlc_dagster.stampli.reasons import reason
from mlc_dagster.stampli.steps import amounts

_CREATED = frozenset(str(state) for state in CREATED_STATES)


@dataclass
class FileAccount:
    """What became of one file; counts are invoices (rows where a row could not be given to an invoice)."""

    name: str
    title: str
    state: str
    posted: int = 0
    duplicate: int = 0
    parked: int = 0
    why: list[str] = field(default_factory=list[str])
    invoices: int = 0
    totals: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    """Posted, per currency."""

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def file_accounts(reading: Transaction, titles: dict[str, str]) -> list[FileAccount]:
    """Every file that was seen, by its name; ``titles`` says what is special about each."""
    found = [_account(reading, row, titles) for row in ledger_files.list_files(reading)]
    for row in ledger_files.list_sightings(reading, FEED):
        name = file_name(row["path"])
        note = row["note"] or "still changing: it waits until two looks agree"
        found.append(FileAccount(name, titles.get(name, ""), "WAITING", why=[note]))
    return sorted(found, key=lambda account: account.name[-10:])


def _account(reading: Transaction, row: Row, titles: dict[str, str]) -> FileAccount:
    name = file_name(row["path"])
    account = FileAccount(name, titles.get(name, ""), row["state"], invoices=row["invoices"] or 0)
    if row["state"] != "READ":
        account.why = [short_names(row["reason"])] if row["reason"] else []
        return account
    statement = (
        sa.select(invoice_occurrence.c.outcome, invoice)
        .join(invoice, invoice.c.id == invoice_occurrence.c.invoice_pk)
        .where(invoice_occurrence.c.file_id == row["id"])
        .order_by(invoice.c.id)
    )
    minor: Counter[str] = Counter()
    told: set[str] = set()
    for seen in reading.rows(statement):
        told.add(seen["source_key"])
        if seen["outcome"] == "DUPLICATE":
            account.duplicate += 1
            account.why.append(f"{seen['number']} was in an earlier file")
        elif seen["state"] in _CREATED:
            account.posted += 1
            minor[seen["currency"]] += seen["amount_minor"]
        elif seen["state"] == InvoiceState.PARKED:
            account.parked += 1
            account.why.append(f"{seen['number']} {seen['reason']}: {_short(seen)}")
        else:
            account.why.append(f"{seen['number']} {seen['state']}")
    account.totals = amounts(minor)
    for aside in reading.rows(sa.select(quarantined_row).where(quarantined_row.c.file_id == row["id"])):
        # A row that could be given to an invoice is among the invoice's problems already.
        if aside["source_id"] not in told:
            account.why.append(f"{aside['reason']}: {aside['text']}")
    return account


def _short(row: Row) -> str:
    """Place and value of the first problem; title and remedy are in ``mlc exceptions``."""
    problems = row["problems"] or []
    if not problems:
        return reason(row["reason"]).title
    first = problems[0]
    return ": ".join(part for part in (first["field"], first["value"]) if part) or reason(row["reason"]).title


def short_names(text: str) -> str:
    """``text`` with the sequence of a file's name instead of the whole path."""
    return re.sub(r"\S*stampli_invoices_\S*_(\d{6}\.csv)", r"…\1", text)


@dataclass(frozen=True)
class Side:
    """One side's invoices: how many, and the total of each currency in units of it."""

    count: int
    totals: dict[str, Decimal]

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"invoices": self.count, "totals": dict(sorted(self.totals.items()))}


def ledger_side(reading: Transaction) -> Side:
    """What our ledger says is in Fusion by us, over all windows."""
    created = equation(reading, FEED).buckets["created"]
    return Side(created.count, amounts(created.minor))


def books_side(books: dict[str, Any]) -> Side:
    """What Fusion's own books hold."""
    return Side(books["invoices"], {currency: Decimal(total) for currency, total in books["totals"].items()})


def faults_of(sides: dict[str, Side], books: dict[str, Any], reading: Transaction) -> list[str]:
    """Where the sides differ, in words; empty when all agree, nothing is there twice and the equation holds."""
    found: list[str] = list(equation(reading, FEED).faults)
    names = list(sides)
    first = sides[names[0]]
    for name in names[1:]:
        other = sides[name]
        if other.count != first.count:
            found.append(f"{names[0]}: {first.count} invoices, {name}: {other.count}")
        for currency in sorted(first.totals.keys() | other.totals.keys()):
            one, two = (side.totals.get(currency, Decimal(0)) for side in (first, other))
            if one != two:
                found.append(f"{currency}: {names[0]} {one}, {name} {two}")
    if books["duplicates"]:
        found.append(f"in Fusion twice: {books['duplicates']}")
    return found


def states_by_number(reading: Transaction) -> dict[str, str]:
    """State of every invoice by its number."""
    return {row["number"]: row["state"] for row in reading.rows(sa.select(invoice.c.number, invoice.c.state))}
