"""The outbound half's bookkeeping: every feed as Fusion, the partner's folder and our ledger have it.

What belongs here: asking the three sides. Fusion is asked for its own tables, not through what the product reads; the
folder is looked at on the partner's side of the server.
"""

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mlc_dagster.cli.demo.books import Book, FeedBooks, Figures, added
from mlc_dagster.cli.demo.partner_files import read_csv, read_fixed, read_invoices, read_orders
from mlc_dagster.cli.sandbox_process import SandboxProcess
from mlc_dagster.fusion.records import PurchaseOrder, content_of
from mlc_dagster.ledger import exported
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.exported import DELIVERED_STATES, RecordState
from mlc_dagster.ledger.schema_outbound import exported_record
from mlc_dagster.settings import ExportSettings

FEEDS: dict[str, tuple[str, Callable[[Iterable[bytes]], Book]]] = {
    "journals_to_consolidation": ("journals as CSV", read_csv),
    "journals_to_mainframe": ("journals, fixed width in cp1252", read_fixed),
    "invoices_to_partner": ("invoices as X12 810", read_invoices),
    "orders_to_supplier": ("purchase orders as X12 850 and 860", read_orders),
}
"""The feeds of the sandbox's mlc.yaml: what each carries, and who reads it on the other side."""
_SIDES = {"entered_dr": "entered debit", "entered_cr": "entered credit"} | {
    "accounted_dr": "accounted debit",
    "accounted_cr": "accounted credit",
}


def feed_books(sandbox: SandboxProcess, reading: Transaction, feed: ExportSettings) -> FeedBooks:
    """The sides of one feed.

    Args:
        sandbox: plays Fusion and keeps the partner's folder.
        reading: our ledger.
        feed: one of those in ``FEEDS``, with the time from which on it sends what changes.
    """
    title, reader = FEEDS[feed.name]
    fusion, names = _fusion(sandbox, feed)
    sent = [row for row in exported.list_files(reading, feed.name) if row["state"] in DELIVERED_STATES]
    files = [inbox(sandbox) / row["name"] for row in sorted(sent, key=lambda row: row["sequence"])]
    held = [_name(row, names) for row in exported.held_records(reading, feed.name)]
    return FeedBooks(
        feed=feed.name,
        title=title,
        fusion=fusion,
        files=reader([path.read_bytes() for path in files if path.exists()]),
        ledger=_ledger(reading, feed, sent, names),
        held=fusion.only(held),
    )


def inbox(sandbox: SandboxProcess) -> Path:
    """The folder that the partner looks into."""
    return Path(sandbox.addresses["partner_root"]) / "inbound"


def folder_faults(sandbox: SandboxProcess, reading: Transaction) -> list[str]:
    """Where the partner's folder and the ledger's list of delivered files differ, byte for byte."""
    expected: dict[str, str] = {}
    for row in exported.list_files(reading, limit=1000):
        if row["state"] in DELIVERED_STATES:
            expected[row["name"]] = row["sha256"]
            expected |= {each["name"]: each["sha256"] for each in row["companions"]}
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in inbox(sandbox).iterdir()}
    found = [f"{name} counts as delivered and is not there" for name in sorted(expected.keys() - there.keys())]
    found += [f"{name} is there and counts as nothing" for name in sorted(there.keys() - expected.keys())]
    both = sorted(expected.keys() & there.keys())
    return found + [f"{name} has other bytes than ours" for name in both if expected[name] != there[name]]


def _fusion(sandbox: SandboxProcess, feed: ExportSettings) -> tuple[Book, dict[str, str]]:
    """Fusion's own tables, and what the partner calls each of its ids."""
    since = feed.start or dt.datetime.min.replace(tzinfo=dt.UTC)
    documents: dict[str, Figures] = {}
    names: dict[str, str] = {}
    if feed.source == "journals":
        for journal in sandbox.ask("/journals")["journals"]:
            ours = journal["LedgerName"] in feed.ledgers and journal["Status"] == "P"
            if ours and dt.datetime.fromisoformat(journal["LastUpdateDate"]) >= since:
                key = f"{journal['JeBatchId']}/{journal['LedgerName']}/{journal['JournalName']}"
                documents[key] = added(_line_figures(line, journal) for line in journal["lines"])
    elif feed.source == "invoices":
        for invoice in sandbox.books()["invoices_stored"]:
            names[str(invoice["invoice_id"])] = invoice["number"]
            documents[invoice["number"]] = {f"total {invoice['currency']}": Decimal(invoice["amount"])}
    else:
        for order in sandbox.ask("/orders")["orders"]:
            names[str(order["POHeaderId"])] = order["OrderNumber"]
            if dt.datetime.fromisoformat(order["LastUpdateDate"]) >= since:
                documents[order["OrderNumber"]] = _order_figures(
                    order["CurrencyCode"],
                    [(line["Quantity"], line["Ordered"]) for line in order["lines"]],
                    changes=int(order["Revision"]),
                )
    return Book.of(documents), names


def _line_figures(line: dict[str, Any], journal: dict[str, Any]) -> dict[str, Decimal]:
    money, books = line["CurrencyCode"], journal["LedgerCurrencyCode"]
    amounts = {
        f"entered debit {money}": line["EnteredDr"],
        f"entered credit {money}": line["EnteredCr"],
        f"accounted debit {books}": line["AccountedDr"],
        f"accounted credit {books}": line["AccountedCr"],
    }
    return {"lines": Decimal(1)} | {name: Decimal(value or 0) for name, value in amounts.items()}


def _order_figures(
    currency: str | None, lines: Sequence[tuple[Decimal | str | None, Decimal | str | None]], *, changes: int
) -> dict[str, Decimal]:
    """An order's figures from quantity and amount of its lines; an amount alone is told as one unit at that price."""
    return {
        "lines": Decimal(len(lines)),
        "quantity": sum((Decimal(1 if quantity is None else quantity) for quantity, _ in lines), Decimal(0)),
        f"ordered {currency}": sum((Decimal(amount or 0) for _, amount in lines), Decimal(0)),
        "changes": Decimal(changes),
    }


def _ledger(reading: Transaction, feed: ExportSettings, sent: list[Row], names: dict[str, str]) -> Book:
    """What our ledger counts as delivered: records by their ids, and the control totals of the files."""
    statement = (
        sa.select(exported_record)
        .where(exported_record.c.feed == feed.name, exported_record.c.state == str(RecordState.SENT))
        .order_by(exported_record.c.version)
    )
    records = reading.rows(statement)
    versions = Counter((_name(row, names), row["version"]) for row in records)
    told = Counter({key: 1 for key, _ in versions}) + Counter({key: n - 1 for (key, _), n in versions.items()})
    if feed.source == "purchase_orders":
        return Book.of(_orders_of(records, names), told)
    figures: dict[str, Decimal] = {}
    for row in sent:
        totals = {_figure(name): Decimal(text) for name, text in row["totals"].items() if " " in name}
        lines = {"lines": Decimal(row["rows"])} if feed.source == "journals" else {}
        figures = added([figures, totals, lines])
    return Book(told, figures)


def _orders_of(records: list[Row], names: dict[str, str]) -> dict[str, Figures]:
    """Each order as its latest delivered version has it: the ledger keeps what the partner knows."""
    found: dict[str, Figures] = {}
    for row in records:
        order = content_of("purchase_orders", bytes(row["content"]))
        assert isinstance(order, PurchaseOrder)  # noqa: S101 - of its own source
        changes = sum(each["record_id"] == row["record_id"] and each["change"] == "CHANGE" for each in records)
        lines = [(line.quantity, line.ordered) for line in order.lines]
        found[_name(row, names)] = _order_figures(order.currency, lines, changes=changes)
    return found


def _name(record: Row, names: dict[str, str]) -> str:
    """What the partner calls a record of ours."""
    return names.get(str(record["record_id"]), str(record["record_id"]))


def _figure(name: str) -> str:
    """``entered_dr USD`` as ``entered debit USD``; the total of invoices as the partner calls it."""
    what, _, currency = name.rpartition(" ")
    return f"{_SIDES.get(what, 'total')} {currency}"
