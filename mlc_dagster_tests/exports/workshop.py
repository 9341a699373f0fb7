"""A bench for building files without Fusion, layouts or partners: extracts by hand, and a writer of plain text.

What is judged is the ledger and the bytes in the archive.
"""

import datetime as dt
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa

from mlc_dagster.alerts.sending import Alerts
from mlc_dagster.exports.building import Built, build_files
from mlc_dagster.exports.extract_file import ExtractWriter, iter_stored
from mlc_dagster.exports.holding import HeldFeed, hold_feed
from mlc_dagster.exports.outbound import Feed, Outbound
from mlc_dagster.exports.writing import (
    ByteSink,
    Change,
    DocumentHeld,
    Frame,
    LayoutIdentity,
    Part,
    Rendered,
    Version,
)
from mlc_dagster.fusion.journal_lines import JournalLine, JournalLines
from mlc_dagster.fusion.records import Invoice, InvoiceStatus, Journal, PurchaseOrder, Read, SupplierRecord
from mlc_dagster.ledger import extracts
from mlc_dagster.ledger.archive import LocalArchive, file_sha256
from mlc_dagster.ledger.database import Ledger, Row
from mlc_dagster.ledger.schema import audit_event
from mlc_dagster.ledger.schema_outbound import exported_file, exported_record
from mlc_dagster.settings import Settings

START = dt.datetime(2026, 3, 2, 9, 0, tzinfo=dt.UTC)
QUARTER = dt.timedelta(minutes=15)
FEED = "partner"


def invoice(number: int, amount: str, *, canceled: bool = False, unit: str = "US1", text: str | None = None) -> Read:
    """An invoice of one amount; ``text`` "HOLD" cannot be written by the plain writer."""
    content = Invoice(
        invoice_id=number,
        number=f"INV-{number}",
        business_unit=unit,
        currency="USD",
        amount=Decimal(amount),
        canceled=canceled,
        description=text,
    )
    return _read("invoices", number, content)


def order(number: int, amount: str, *, canceled: bool = False, text: str | None = None) -> Read:
    content = PurchaseOrder(
        header_id=number, number=f"PO-{number}", canceled=canceled, ordered=Decimal(amount), description=text
    )
    return _read("purchase_orders", number, content)


def journal(batch: int, amount: str, **changes: Any) -> Read:
    """A posted, actual journal of two lines."""
    fields: dict[str, Any] = {
        "batch_id": batch,
        "name": "Accrual",
        "ledger": "US Primary Ledger",
        "status": "P",
        "balance_type": "Actual",
        "source": "Payables",
        "currency": "USD",
        "lines": (
            JournalLine(line_number=1, account_combination="101-1", entered_dr=Decimal(amount)),
            JournalLine(line_number=2, account_combination="101-2", entered_cr=Decimal(amount)),
        ),
    } | changes
    fields["lines"] = JournalLines.of(fields["lines"])
    return _read("journals", batch, Journal(**fields))


def _read(source: str, fusion_id: int, content: Invoice | Journal | PurchaseOrder | SupplierRecord) -> Read:
    return Read(
        source=source,
        record_id=content.record_id,
        fusion_id=fusion_id,
        content=content,
        last_update_date=START,
        creation_date=START,
    )


@dataclass
class PlainWriter:
    """One line per document; header and trailer when it writes control numbers."""

    groups: Callable[[Version], str] = lambda version: ""
    numbered: bool = False
    empty_file: bool = False
    file_name: str = "{feed}_{sequence:06d}{extension}"
    identity: LayoutIdentity = field(
        default_factory=lambda: LayoutIdentity("plain", "1", "0" * 64, "csv", ".txt"),
    )
    held: set[str] = field(default_factory=set[str])
    """Record ids that cannot be written, beside those whose text says HOLD."""
    before_assembly: Callable[[], None] = lambda: None

    def group_of(self, version: Version) -> str:
        return self.groups(version)

    def render(self, version: Version, position: int) -> Rendered:
        content = version.read.content
        description = getattr(content, "description", None)
        if description == "HOLD" or version.read.record_id in self.held:
            raise DocumentHeld("OVERFLOW", f"{version.read.record_id} does not fit", field="description")
        amount = _amount(content)
        was = "" if version.previous is None else f" was {_amount(version.previous)}"
        read_status = version.read.status
        status = f" {read_status.validation}" if isinstance(read_status, InvoiceStatus) else ""
        body = f"{version.change} {version.read.record_id} v{version.number} {amount}{was}{status} #{position}\n"
        return Rendered(
            body.encode(),
            rows=1,
            totals={"amount USD": amount},
            counts={"newlines": 1} if description == "two\nlines" else {},
            set_control=f"XX/{position:04d}" if self.numbered else None,
        )

    def levels(self, groups: Sequence[str]) -> Mapping[str, int]:
        return {"interchange": 1, "group": len(groups)} if self.numbered and groups else {}

    def opening(self) -> bytes | None:
        return None if self.numbered else b""

    def close(self, parts: Sequence[Part], frame: Frame, target: ByteSink) -> None:
        self.before_assembly()

    def assemble(self, parts: Sequence[Part], frame: Frame, target: ByteSink) -> None:
        self.before_assembly()
        if self.numbered:
            target.write(f"ISA {frame.controls['interchange'][0]}\n".encode())
        for number, part in enumerate(parts):
            if self.numbered:
                target.write(f"GS {part.group} {frame.controls['group'][number]}\n".encode())
            with part.body.open("rb") as body:
                shutil.copyfileobj(body, target)


def _amount(content: object) -> Decimal:
    match content:
        case Invoice():
            return content.amount or Decimal(0)
        case PurchaseOrder():
            return content.ordered or Decimal(0)
        case Journal():
            return content.lines.column("entered_dr")[0] or Decimal(0)
        case _:
            return Decimal(0)


def settings_of(root: Path, source: str, **feed: Any) -> Settings:
    """mlc.yaml with one feed."""
    entry: dict[str, Any] = {
        "name": FEED,
        "source": source,
        "layout": "plain",
        "sftp": {"host": "localhost", "username": "u", "password": "env:P", "host_key": "SHA256:x", "directory": "/in"},
    }
    if source == "journals":
        entry["ledgers"] = ["US Primary Ledger"]
    fusion = {
        "base_url": "https://pod.example.com",
        "token_url": "https://identity.example.com/oauth2/v1/token",
        "client_id": "id",
        "client_secret": "env:SECRET",
        "scope": "all",
        "charts": {
            "US": {"ledgers": ["US Primary Ledger"], "segments": ["company", "account"], "natural_account": "account"}
        },
    }
    return Settings.model_validate(
        {
            "fusion": fusion,
            "exports": [entry | feed],
            "poll": {"start": "2026-01-01"},
            "data_dir": str(root / "data"),
            "root": root,
        }
    )


def _nowhere(*_: object) -> NoReturn:
    raise AssertionError("building reaches neither Fusion nor a partner")


@dataclass
class Workshop:
    """One feed over one ledger; time stands still unless ``now`` is moved."""

    ledger: Ledger
    root: Path
    source: str
    writer: PlainWriter
    settings: Settings
    now: dt.datetime = START
    windows: int = 0

    @classmethod
    def open(
        cls, ledger: Ledger, root: Path, source: str = "invoices", writer: PlainWriter | None = None, **feed: Any
    ) -> "Workshop":
        return cls(ledger, root, source, writer or PlainWriter(), settings_of(root, source, **feed))

    @property
    def archive(self) -> LocalArchive:
        return LocalArchive(self.root / "archive")

    @property
    def feed(self) -> Feed:
        def session() -> AbstractContextManager[Any]:
            _nowhere()

        return Feed(self.settings.exports[0], self.writer, session)

    @property
    def outbound(self) -> Outbound:
        return Outbound(
            settings=self.settings,
            ledger=self.ledger,
            archive=self.archive,
            feeds={self.feed.name: self.feed},
            open_client=_nowhere,
            alerts=Alerts(self.settings.alerts, _nowhere),
        )

    def read(self, *reads: Read, kind: str = "WINDOWS", read_at: dt.datetime | None = None) -> int:
        """One extract over the next window; its id."""
        start = START + self.windows * QUARTER
        self.windows += 1
        self.root.mkdir(exist_ok=True)
        path = self.root / f"extract-{self.windows}"
        with ExtractWriter(path) as writer:
            for read in reads:
                writer.add(read)
        sha256 = file_sha256(path)
        size = self.archive.put(path, sha256).size
        with self.ledger.transaction() as transaction:
            key = extracts.record_extract(
                transaction,
                source=self.source,
                kind=kind,
                window_start=start,
                window_end=start + QUARTER,
                read_from=start,
                read_at=read_at or start + QUARTER,
                sha256=sha256,
                bytes_=size,
                records=writer.records,
                lines=writer.lines,
                requests=1,
                run_id=None,
            )
            rows = [
                (stored.record_id, stored.fusion_id, stored.sha256, stored.last_update_date)
                for stored in iter_stored(path)
            ]
            extracts.remember_records(transaction, self.source, key, rows)
        return key

    def hold(self) -> AbstractContextManager[HeldFeed]:
        return hold_feed(self.ledger, self.feed.name, self.source, owner="host|boot/ns|1|1|test")

    def build(self, *, replay: Sequence[int] = (), until: dt.datetime | None = None) -> Built:
        with self.hold() as held:
            return build_files(self.outbound, self.feed, held, until=until, now=self.now, replay=replay)

    def files(self) -> list[Row]:
        with self.ledger.reading() as reading:
            return reading.rows(sa.select(exported_file).order_by(exported_file.c.id))

    def texts(self) -> list[str]:
        """What stands in each file, in order."""
        return [self.archive.path(row["sha256"]).read_text() for row in self.files()]

    def versions(self) -> list[tuple[str, int, str, str]]:
        """(record id, version, change, state) of everything, in the order of entry."""
        with self.ledger.reading() as reading:
            rows = reading.rows(sa.select(exported_record).order_by(exported_record.c.id))
        return [(row["record_id"], row["version"], row["change"], row["state"]) for row in rows]

    def rows(self) -> list[Row]:
        with self.ledger.reading() as reading:
            return reading.rows(sa.select(exported_record).order_by(exported_record.c.id))

    def events(self, kind: str) -> list[Row]:
        with self.ledger.reading() as reading:
            statement = sa.select(audit_event).where(audit_event.c.kind == kind).order_by(audit_event.c.id)
            return reading.rows(statement)


NEW, CHANGE, CANCEL = Change.NEW, Change.CHANGE, Change.CANCEL
