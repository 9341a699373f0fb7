"""Files, invoices and extracts of which the bytes are really in an archive, and the rules run over them."""

import datetime as dt
import hashlib
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger import exported, retention, schema
from mlc_dagster.ledger.archive import LocalArchive
from mlc_dagster.ledger.database import Ledger, Row
from mlc_dagster.ledger.extracts import record_extract
from mlc_dagster.ledger.retention import Rules
from mlc_dagster.ledger.retention_items import Kind
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.settings import RetentionSettings
from mlc_dagster_tests.ledger.exporting import FEED
from mlc_dagster_tests.ledger.population import WINDOW, add_file, add_invoice

ALL = Rules(RetentionSettings.model_validate({str(kind): "1y" for kind in Kind}), {FEED: "invoices"})
YEARS = 20 * 365 * 86400
"""Seconds until everything is older than a year, the files of the archive included."""


def stored(archive: LocalArchive, content: bytes) -> str:
    """The content in the archive; its hash."""
    sha256 = hashlib.sha256(content).hexdigest()
    path = archive.root.parent / sha256
    path.write_bytes(content)
    archive.put(path, sha256)
    return sha256


def read_file(ledger: Ledger, archive: LocalArchive, state: InvoiceState, **columns: Any) -> tuple[Row, int]:
    """A READ file with one invoice in this state: (its row, the invoice's key)."""
    with ledger.transaction() as transaction:
        row = add_file(transaction)
        sha256 = stored(archive, row["path"].encode())
        assert sha256 == row["sha256"]
        key = add_invoice(transaction, state, file=row, **columns)
        transaction.execute(
            sa.update(schema.source_file)
            .where(schema.source_file.c.id == row["id"])
            .values(state="READ", read_at=transaction.now)
        )
    return row, key


def gone(ledger: Ledger, archive: LocalArchive, rules: Rules = ALL) -> dict[str, int]:
    """Run the rules; how many went, of each kind of which any went."""
    done = retention.run(ledger, archive, rules)
    return {str(kind): amount.count for kind, amount in done.items.items() if amount.count}


def kept(ledger: Ledger, kind: Kind, rules: Rules = ALL) -> dict[str, int]:
    """Why content older than the period stays."""
    [found] = [each for each in retention.plan(ledger, rules) if each.kind is kind]
    return {reason: amount.count for reason, amount in found.kept.items()}


def occurrence_of(ledger: Ledger, invoice_pk: int) -> Row:
    with ledger.reading() as reading:
        statement = sa.select(schema.invoice_occurrence).where(schema.invoice_occurrence.c.invoice_pk == invoice_pk)
        return reading.rows(statement)[0]


def extract_of(ledger: Ledger, archive: LocalArchive, text: str) -> int:
    sha256 = stored(archive, text.encode())
    with ledger.transaction() as transaction:
        return record_extract(
            transaction, source="invoices", kind="WINDOWS", window_start=WINDOW,
            window_end=WINDOW + dt.timedelta(minutes=15), read_from=WINDOW, read_at=WINDOW, sha256=sha256, bytes_=4,
            records=1, lines=1, requests=1, run_id=None,
        )  # fmt: skip


def deliver(ledger: Ledger, key: int) -> None:
    with ledger.transaction() as transaction:
        exported.begin_upload(transaction, key, "x.tmp")
        exported.begin_rename(transaction, key)
        exported.mark_sent(transaction, key, server_size=4, server_mtime=1, verified_by="sha256", server_key=None)
