"""What the posting tests share: invoices to drop, later polls, and the judgement by the embedded Fusion's own books."""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from typing import Any, TypeVar

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.equation import BUCKETS, equation
from mlc_dagster.ledger.schema import invoice, submission
from mlc_dagster.ledger.windows import RunWanted
from mlc_dagster.money import minor_units
from mlc_dagster.sandbox.books import BookedInvoice
from mlc_dagster.stampli.inbound import FEED
from mlc_dagster.stampli.steps import PostReport
from mlc_dagster_tests.servers.rehearsal import Rehearsal
from mlc_dagster_tests.stampli.builders import file_name, invoice_csv, invoice_rows

T = TypeVar("T")
SUPPLIER = "30012"
UNIT = "US1 Business Unit"
DATES = {"invoice_date": "2026-11-10", "due_date": "2026-12-10", "posting_date": "2026-11-10"}


def one(number: str, *amounts: str, **header: Any) -> list[dict[str, str]]:
    """Rows of an invoice; Stampli's id follows from the number unless given."""
    header = {"invoice_id": f"id-{number}", "invoice_number": number, **DATES, **header}
    return invoice_rows(*(amounts or ("100.00",)), **header)


def many(count: int, prefix: str = "INV") -> list[dict[str, str]]:
    """Rows of invoices INV-1, INV-2, … over 100.00 each."""
    return [row for number in range(1, count + 1) for row in one(f"{prefix}-{number}")]


def numbers(count: int, prefix: str = "INV") -> list[str]:
    return [f"{prefix}-{number}" for number in range(1, count + 1)]


def drop(flow: Rehearsal, rows: list[dict[str, str]], sequence: int = 1) -> None:
    flow.drop(file_name(sequence), invoice_csv(rows))


def clerk(flow: Rehearsal, number: str = "CLERK-1", **fields: Any) -> int:
    """A clerk's invoice in Fusion; with it the business unit has one that can prove absence."""
    document = {
        "InvoiceNumber": number,
        "InvoiceCurrency": "USD",
        "InvoiceAmount": Decimal("12.00"),
        "InvoiceDate": DATES["invoice_date"],
        "BusinessUnit": UNIT,
        "SupplierNumber": SUPPLIER,
        "SupplierSite": "HQ",
        "invoiceLines": [{"LineNumber": 1, "LineAmount": Decimal("12.00")}],
    }
    return flow.fusion.enter_invoice(document | fields)


def later(flow: Rehearsal, seconds: float = 600.0) -> list[PostReport]:
    """A poll after so much time, and the runs it wants."""
    flow.clock.advance(seconds)
    return [flow.run(wanted)[2] for wanted in flow.poll().runs]


def only(wanted: tuple[RunWanted, ...]) -> RunWanted:
    assert len(wanted) == 1
    return wanted[0]


def until(true: Callable[[], T], timeout: float = 20.0) -> T:
    """Polls until ``true`` gives something true; fails after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := true()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)
    return value


@contextlib.contextmanager
def beside(work: Callable[[], T]) -> Iterator[Future[T]]:
    """``work`` in a thread while the block runs; the block must let it end."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work)


def invoices(flow: Rehearsal) -> dict[str, Row]:
    """Our ledger's invoices by number."""
    with flow.ledger.reading() as reading:
        return {row["number"]: row for row in reading.rows(sa.select(invoice))}


def states(flow: Rehearsal) -> dict[str, str]:
    return {number: row["state"] for number, row in invoices(flow).items()}


def attempts(flow: Rehearsal, number: str | None = None) -> list[Row]:
    """Our ledger's attempts in their order, of one invoice or of all."""
    statement = sa.select(submission).join(invoice, invoice.c.id == submission.c.invoice_pk).order_by(submission.c.id)
    if number is not None:
        statement = statement.where(invoice.c.number == number)
    with flow.ledger.reading() as reading:
        return reading.rows(statement)


def phases(flow: Rehearsal, number: str | None = None) -> list[str]:
    return [row["phase"] for row in attempts(flow, number)]


def ours(flow: Rehearsal) -> list[BookedInvoice]:
    """What Fusion's books say that our user created."""
    return flow.fusion.books.invoices(created_by=flow.fusion.client_id)


def posts(flow: Rehearsal, status: int | None = None) -> int:
    """How many POSTs of invoices reached Fusion."""
    return flow.fusion.books.count("POST", "invoices", status)


def assert_books(flow: Rehearsal, *expected: str) -> None:
    """Fusion's books hold exactly these invoices of ours, each once."""
    assert sorted(booked.number for booked in ours(flow)) == sorted(expected)
    assert flow.fusion.books.duplicates() == []


def assert_adds_up(flow: Rehearsal, **buckets: int) -> None:
    """The equation holds in count and in every currency, and what it calls created is what Fusion's books hold.

    ``buckets``: how many appearances each must count; those not named count none.
    """
    with flow.ledger.reading() as reading:
        found = equation(reading, FEED)
    assert found.faults == []
    assert {name: found.count(name) for name in BUCKETS if found.count(name)} == buckets
    booked: dict[str, Decimal] = {}
    for each in ours(flow):
        booked[each.currency] = booked.get(each.currency, Decimal(0)) + each.amount
    created = {
        currency: Decimal(minor).scaleb(-(minor_units(currency) or 0))
        for currency, minor in found.buckets["created"].minor.items()
        if minor
    }
    assert created == {currency: amount for currency, amount in booked.items() if amount}
