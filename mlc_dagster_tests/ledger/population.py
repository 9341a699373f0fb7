"""Rows for the ledger's tests: a window, its files, invoices in any state, and attempts to send them.

Invoices are registered through the ledger's own functions and then placed in the state that a test needs.
"""

import datetime as dt
import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, TypeVar

import sqlalchemy as sa

from mlc_dagster.ledger import files, invoices, recovery, schema, submissions
from mlc_dagster.ledger.database import Ledger, Row, Transaction
from mlc_dagster.ledger.files import FileState, Seen
from mlc_dagster.ledger.invoices import Appearance
from mlc_dagster.ledger.states import InvoiceState, OccurrenceOutcome
from mlc_dagster.ledger.windows import GenerationKind, ensure_window, open_generation

FEED = "stampli"
POD = "https://pod.example"
WINDOW = dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.UTC)
MINUTES = 15
LEASE = dt.timedelta(seconds=90)
_numbers = count(1)
T = TypeVar("T")


class HandClock:
    """A clock that a test moves by hand; UTC."""

    def __init__(self, now: dt.datetime = WINDOW) -> None:
        self.now = now

    def __call__(self) -> dt.datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)


def unique(prefix: str) -> str:
    return f"{prefix}-{next(_numbers)}"


def add_window(transaction: Transaction, start: dt.datetime = WINDOW, *, kind: str = "FILES") -> int:
    """The window with one more generation; the generation's number."""
    ensure_window(transaction, FEED, start, MINUTES)
    return open_generation(transaction, FEED, start, GenerationKind(kind))


def add_file(transaction: Transaction, path: str | None = None, *, start: dt.datetime = WINDOW) -> Row:
    """A received file of a window's first generation."""
    ensure_window(transaction, FEED, start, MINUTES)
    path = path or unique("/outbound/invoices")
    [key] = files.assign(transaction, FEED, [Seen(path, 100, 1_700_000_000)], start, 1)
    row = file_row(transaction, key)
    files.received(transaction, row, sha256=hashlib.sha256(path.encode()).hexdigest(), size=100, profile="p@1")
    return file_row(transaction, key)


def add_read_file(transaction: Transaction, *, start: dt.datetime = WINDOW) -> Row:
    """A file that no run has anything to do with any more."""
    row = add_file(transaction, start=start)
    transaction.execute(
        sa.update(schema.source_file).where(schema.source_file.c.id == row["id"]).values(state=str(FileState.READ))
    )
    return file_row(transaction, row["id"])


def file_row(transaction: Transaction, key: int) -> Row:
    row = transaction.row(sa.select(schema.source_file).where(schema.source_file.c.id == key))
    assert row is not None
    return row


def appearance(source_key: str | None = None, **changes: Any) -> Appearance:
    source_key = source_key or unique("src")
    values: dict[str, Any] = {
        "company_id": "C100",
        "source_key": source_key,
        "rows": (2, 3),
        "number": f"INV {source_key}",
        "vendor_id": "V1",
        "currency": "USD",
        "amount_minor": 12345,
        "amount_text": "123.45",
        "revision": 1,
        "approved_at": None,
        "digest": hashlib.sha256(source_key.encode()).hexdigest(),
        "content": b"{}",
        "readable": True,
        "problems": (),
    }
    return Appearance(**(values | changes))


def add_invoice(
    transaction: Transaction,
    state: InvoiceState = InvoiceState.VALIDATED,
    *,
    start: dt.datetime = WINDOW,
    file: Row | None = None,
    **columns: Any,
) -> int:
    """An invoice in ``state``, with a current occurrence in a file of the window; its key."""
    a = appearance()
    invoices.insert_new(transaction, file or add_read_file(transaction, start=start), [a])
    key = transaction.value(sa.select(schema.invoice.c.id).where(schema.invoice.c.source_key == a.source_key))
    transaction.execute(sa.update(schema.invoice).where(schema.invoice.c.id == key).values(state=str(state), **columns))
    return int(key)


def add_occurrence(
    transaction: Transaction, file: Row, invoice_pk: int, outcome: OccurrenceOutcome, **changes: Any
) -> int:
    key = invoices.add_occurrence(transaction, file, invoice_pk, appearance(**changes), outcome, None)
    assert key is not None
    return key


def invoice_row(ledger: Ledger, key: int) -> Row:
    with ledger.reading() as reading:
        row = reading.row(sa.select(schema.invoice).where(schema.invoice.c.id == key))
    assert row is not None
    return row


def state_of(ledger: Ledger, key: int) -> str:
    return str(invoice_row(ledger, key)["state"])


def claim(
    transaction: Transaction,
    invoice_pk: int,
    *,
    number_key: str | None = None,
    supplier_id: int = 7,
    owner: str = "one",
    lease: dt.timedelta = LEASE,
    start: dt.datetime = WINDOW,
) -> submissions.Intent | submissions.TakenBy | None:
    return submissions.claim(
        transaction,
        invoice_pk,
        pod=POD,
        supplier_id=supplier_id,
        number_key=number_key or f"number of {invoice_pk}",
        body=b'{"InvoiceNumber":"1"}',
        invoice_group="MLC 2026-03-02-09:00 g1",
        mapped_with={"profile": "p@1"},
        window_start=start,
        generation=1,
        owner=owner,
        fence=1,
        lease=lease,
    )


def intend(transaction: Transaction, invoice_pk: int, **how: Any) -> submissions.Intent:
    """Claim and intent that are known to be granted."""
    intent = claim(transaction, invoice_pk, **how)
    assert isinstance(intent, submissions.Intent)
    return intent


def sent_invoice(ledger: Ledger, **how: Any) -> tuple[int, submissions.Intent]:
    """An invoice in SENDING with its committed intent: (invoice, intent)."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction)
        return key, intend(transaction, key, **how)


def submission_row(ledger: Ledger, key: int) -> Row:
    with ledger.reading() as reading:
        return recovery.get_submission(reading, key)


def claims(ledger: Ledger) -> list[Row]:
    with ledger.reading() as reading:
        return reading.rows(sa.select(schema.fusion_claim))


def events(ledger: Ledger, kind: str | None = None, subject: str | None = None) -> list[Row]:
    statement = sa.select(schema.audit_event).order_by(schema.audit_event.c.id)
    if kind is not None:
        statement = statement.where(schema.audit_event.c.kind == kind)
    if subject is not None:
        statement = statement.where(schema.audit_event.c.subject == subject)
    with ledger.reading() as reading:
        return reading.rows(statement)


def drop_guards(ledger: Ledger) -> None:
    """Take the append-only triggers away, as somebody with the database's password can."""
    with ledger.engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            for table in ("audit_event", "audit_chain", "audit_checkpoint"):
                connection.execute(sa.text(f"drop trigger {table}_append_only on {table}"))
            return
        for table in ("audit_event", "audit_chain", "audit_checkpoint"):
            for verb in ("update", "delete"):
                connection.execute(sa.text(f"drop trigger {table}_no_{verb}"))


def race(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Run the tasks at once, each in a thread of its own that waits for all others at the start."""
    gate = threading.Barrier(len(tasks))

    def run(task: Callable[[], T]) -> T:
        gate.wait(timeout=30)
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(run, tasks))
