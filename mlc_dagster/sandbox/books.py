"""The embedded Fusion's own books: every request it saw and every invoice it stored, for tests to judge by.

Kept in memory; with a file they are also written to SQLite, so that a sandbox started again still knows its invoices.
Thread-safe: the server writes from its own thread while a test reads.
"""

import datetime as dt
import json
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

KEPT_REQUESTS = 100_000
_FLUSH_EVERY = 500


@dataclass(frozen=True, slots=True)
class RequestEntry:
    """One answered request. ``status`` 0 means that the connection was cut without an answer."""

    started: dt.datetime
    method: str
    path: str
    query: str
    route: str
    """Resource, with ids left out: ``invoices``, ``invoices/{id}/child/invoiceLines``."""
    status: int
    seconds: float
    in_flight: int
    """Requests in the server when this one arrived, this one included."""
    faults: tuple[str, ...] = ()
    number: str = ""
    """The InvoiceNumber of a POST of an invoice that arrived whole."""


@dataclass(frozen=True, slots=True)
class BookedLine:
    number: int
    amount: Decimal
    line_type: str | None
    account: str | None
    description: str | None


@dataclass(frozen=True, slots=True)
class BookedInvoice:
    """An invoice as it was stored, with what became of it."""

    invoice_id: int
    number: str
    business_unit: str
    supplier: str
    supplier_number: str
    supplier_site: str
    currency: str
    amount: Decimal
    invoice_date: str
    accounting_date: str
    invoice_type: str
    invoice_source: str | None
    invoice_group: str | None
    description: str | None
    created_by: str
    created_at: str
    lines: tuple[BookedLine, ...]
    validation_status: str | None = None
    accounting_status: str | None = None
    canceled: bool = False
    deleted: bool = False
    attachments: int = 0


class Books:
    """``invoices``, ``totals`` and ``requests`` answer; the ``record_*`` methods are the server's."""

    def __init__(self, path: Path | str | None = None) -> None:
        self._lock = threading.RLock()
        self._invoices: dict[int, BookedInvoice] = {}
        self._requests: deque[RequestEntry] = deque(maxlen=KEPT_REQUESTS)
        self._counts: Counter[tuple[str, str, int]] = Counter()
        self._in_flight = 0
        self._high_water = 0
        self._unwritten: list[RequestEntry] = []
        self._database = _open(path) if path is not None else None

    # What tests ask.

    def invoices(self, *, number: str | None = None, created_by: str | None = None) -> list[BookedInvoice]:
        """Every invoice ever stored, in the order of their ids, deleted and cancelled ones included."""
        with self._lock:
            found = [self._invoices[key] for key in sorted(self._invoices)]
        if number is not None:
            found = [invoice for invoice in found if invoice.number == number]
        return [invoice for invoice in found if created_by is None or invoice.created_by == created_by]

    def invoice(self, invoice_id: int) -> BookedInvoice | None:
        with self._lock:
            return self._invoices.get(invoice_id)

    def totals(self, *, created_by: str | None = None) -> dict[str, Decimal]:
        """Invoice amounts per currency as they were stored, deleted invoices left out."""
        totals: dict[str, Decimal] = {}
        for invoice in self.invoices(created_by=created_by):
            if not invoice.deleted:
                totals[invoice.currency] = totals.get(invoice.currency, Decimal(0)) + invoice.amount
        return totals

    def duplicates(self) -> list[tuple[str, str]]:
        """(supplier number, invoice number folded) stored more than once and not deleted."""
        standing = [invoice for invoice in self.invoices() if not invoice.deleted]
        seen = Counter((invoice.supplier_number, invoice.number.strip().casefold()) for invoice in standing)
        return [key for key, times in seen.items() if times > 1]

    def requests(self, *, method: str | None = None, route: str | None = None) -> list[RequestEntry]:
        """The last requests (at most 100,000), oldest first."""
        with self._lock:
            entries: Iterable[RequestEntry] = list(self._requests)
        return [
            entry
            for entry in entries
            if (method is None or entry.method == method) and (route is None or entry.route == route)
        ]

    def count(self, method: str | None = None, route: str | None = None, status: int | None = None) -> int:
        """How many requests were answered, ever; cheap at any number."""
        with self._lock:
            return sum(
                times
                for (a_method, a_route, a_status), times in self._counts.items()
                if (method is None or a_method == method)
                and (route is None or a_route == route)
                and (status is None or a_status == status)
            )

    def counts(self) -> dict[str, int]:
        """``POST invoices 201`` to how many."""
        with self._lock:
            return {f"{method} {route} {status}": times for (method, route, status), times in self._counts.items()}

    @property
    def high_water(self) -> int:
        """Most requests that were in the server at one time."""
        return self._high_water

    def forget_requests(self) -> None:
        """Starts counting requests anew; invoices stay."""
        with self._lock:
            self._requests.clear()
            self._counts.clear()
            self._unwritten.clear()
            self._high_water = self._in_flight
            if self._database is not None:
                self._database.execute("DELETE FROM requests")

    def summary(self) -> dict[str, Any]:
        """Counts and totals as JSON-ready values, money as text."""
        invoices = self.invoices()
        return {
            "invoices": len(invoices),
            "deleted": sum(invoice.deleted for invoice in invoices),
            "canceled": sum(invoice.canceled for invoice in invoices),
            "totals": {currency: str(total) for currency, total in sorted(self.totals().items())},
            "duplicates": [list(key) for key in self.duplicates()],
            "requests": self.count(),
            "posts": self.count("POST", "invoices"),
            "created": self.count("POST", "invoices", 201),
            "high_water": self.high_water,
            "by_request": self.counts(),
        }

    # What the server writes.

    @property
    def on_disk(self) -> bool:
        """Whether documents are kept at all; making one costs time."""
        return self._database is not None

    def enter(self) -> int:
        with self._lock:
            self._in_flight += 1
            self._high_water = max(self._high_water, self._in_flight)
            return self._in_flight

    def leave(self, entry: RequestEntry) -> None:
        with self._lock:
            self._in_flight -= 1
            self._requests.append(entry)
            self._counts[(entry.method, entry.route, entry.status)] += 1
            if self._database is not None:
                self._unwritten.append(entry)
                if len(self._unwritten) >= _FLUSH_EVERY:
                    self._write_requests()

    def record_invoice(self, invoice: BookedInvoice) -> None:
        with self._lock:
            self._invoices[invoice.invoice_id] = invoice

    def record_document(self, kind: str, key: str, document: dict[str, Any]) -> None:
        """Keeps the state that a restarted server loads; does nothing without a file."""
        if self._database is None:
            return
        with self._lock:
            text = json.dumps(document, ensure_ascii=False, default=str)
            self._database.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (kind, key, text))

    def documents(self, kind: str) -> list[dict[str, Any]]:
        """State written by an earlier server on the same file, in the order it was first written."""
        if self._database is None:
            return []
        with self._lock:
            rows = self._database.execute("SELECT document FROM documents WHERE kind = ? ORDER BY key", (kind,))
            return [json.loads(text) for (text,) in rows]

    def erase(self) -> None:
        """Forgets everything, on disk too."""
        with self._lock:
            self._invoices.clear()
            self.forget_requests()
            if self._database is not None:
                self._database.execute("DELETE FROM documents")

    def flush(self) -> None:
        with self._lock:
            self._write_requests()

    def close(self) -> None:
        with self._lock:
            self._write_requests()
            if self._database is not None:
                self._database.close()
                self._database = None

    def _write_requests(self) -> None:
        if self._database is None or not self._unwritten:
            return
        rows = [(entry.started.isoformat(), *list(asdict(entry).values())[1:8]) for entry in self._unwritten]
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._database.execute("COMMIT")
        self._unwritten.clear()


def _open(path: Path | str) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    # A sandbox that loses its last rows in a power cut harms nobody; waiting for the disk on every POST would.
    database.execute("PRAGMA synchronous=OFF")
    database.execute(
        "CREATE TABLE IF NOT EXISTS documents (kind TEXT, key TEXT, document TEXT NOT NULL, PRIMARY KEY (kind, key))"
    )
    database.execute(
        "CREATE TABLE IF NOT EXISTS requests (started TEXT, method TEXT, path TEXT, query TEXT, route TEXT,"
        " status INTEGER, seconds REAL, in_flight INTEGER)"
    )
    return database
