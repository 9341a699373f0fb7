"""Erasing content that was kept as long as ``retention:`` in mlc.yaml says; the audit trail stays whole.

First the ledger says that an item is ERASED, in one transaction with its audit event; then archive entries that nothing
refers to any longer are removed. Whoever dies in between leaves files that the next run removes. What may go is in
``retention_items``, legal holds are in ``holds``.
"""

import datetime as dt
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger import acknowledgements
from mlc_dagster.ledger.archive import Archive
from mlc_dagster.ledger.database import Ledger, Row, Transaction
from mlc_dagster.ledger.holds import RETENTION_LOCK, standing_holds
from mlc_dagster.ledger.retention_items import ARCHIVED, Kind, Needs, candidates
from mlc_dagster.ledger.schema import invoice, invoice_occurrence, ledger_setting, quarantined_row, source_file
from mlc_dagster.ledger.schema import submission as submission_table
from mlc_dagster.ledger.schema_outbound import export_feed, exported_file, exported_record, extract
from mlc_dagster.ledger.schema_retention import erased_payload
from mlc_dagster.settings import AcknowledgementSettings, Settings
from mlc_dagster.settings.retention import RetentionSettings, cutoff

_UNUSED = dt.timedelta(days=1)
"""An entry used since is not removed: its bytes came again, and who brought them may not have committed yet."""
_AT_ONCE = 500


def _silent(count: int) -> None:
    """No progress display."""


@dataclass(frozen=True)
class Rules:
    """What mlc.yaml says: the periods, its feeds (source by name), and where a partner's answers are expected."""

    settings: RetentionSettings
    feeds: Mapping[str, str] = field(default_factory=dict[str, str])
    answers_within: Mapping[str, dt.timedelta] = field(default_factory=dict[str, dt.timedelta])

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        """Those of a configuration."""
        within = {
            export.name: dt.timedelta(seconds=export.acknowledgement.expected_within)
            for export in settings.exports
            if isinstance(export.acknowledgement, AcknowledgementSettings)
        }
        return cls(settings.retention, {export.name: str(export.source) for export in settings.exports}, within)

    def period(self, kind: Kind) -> str:
        return str(getattr(self.settings, kind))

    def name(self, kind: Kind) -> str:
        """The rule as it is told and recorded."""
        return f"retention.{kind}: {self.period(kind)}"


@dataclass
class Amount:
    """How many, and their bytes."""

    count: int = 0
    bytes: int = 0


@dataclass
class KindPlan:
    """What a rule comes to now."""

    kind: Kind
    period: str
    goes: Amount = field(default_factory=Amount)
    kept: dict[str, Amount] = field(default_factory=dict[str, Amount])
    """By reason; only what is older than the period."""
    erased_before: Amount = field(default_factory=Amount)


@dataclass
class Erased:
    """What a run did."""

    items: dict[Kind, Amount] = field(default_factory=dict[Kind, Amount])
    files_removed: int = 0
    files_in_use: int = 0
    """Stored or used within the last day; a later run removes them."""


def plan(ledger: Ledger, rules: Rules) -> list[KindPlan]:
    """What a run would erase now, and what it would keep though its period is over. Writes nothing."""
    found: list[KindPlan] = []
    with ledger.reading() as reading:
        for kind in Kind:
            each = KindPlan(kind, rules.period(kind))
            each.erased_before = Amount(*reading.connection.execute(_ERASED_SUMS, {"kind": str(kind)}).one())
            before = cutoff(each.period, reading.now)
            if before is not None:
                due = candidates(kind, _needs(reading, rules, kind), before).subquery()
                sums = sa.select(due.c.kept, sa.func.count(), sa.func.sum(due.c.bytes)).group_by(due.c.kept)
                for reason, count, size in reading.connection.execute(sums.order_by(due.c.kept)):
                    amount = Amount(int(count), int(size or 0))
                    if reason is None:
                        each.goes = amount
                    else:
                        each.kept[reason] = amount
            found.append(each)
    return found


_ERASED_SUMS = sa.select(
    sa.func.count(), sa.cast(sa.func.coalesce(sa.func.sum(erased_payload.c.bytes), 0), sa.BigInteger)
).where(erased_payload.c.kind == sa.bindparam("kind"))


def run(ledger: Ledger, archive: Archive, rules: Rules, *, progress: Callable[[int], None] = _silent) -> Erased:
    """Erase what may go, each item in a transaction of its own, then remove the archive's files of it.

    May be stopped anywhere and run again; two at once do not disturb each other.

    Args:
        ledger: the ledger; its actor is on record.
        archive: where the bytes of files are.
        rules: what mlc.yaml says.
        progress: called with 1 per item.
    """
    done = Erased()
    for kind in Kind:
        with ledger.reading() as reading:
            before = cutoff(rules.period(kind), reading.now)
            if before is None:
                continue
            due = candidates(kind, _needs(reading, rules, kind), before).subquery()
            items = list(reading.connection.execute(sa.select(due.c.item).where(due.c.kept.is_(None))).scalars())
        amount = done.items.setdefault(kind, Amount())
        for item in items:
            with ledger.transaction() as transaction:
                size = _erase(transaction, kind, item, rules, before)
            if size is not None:
                amount.count += 1
                amount.bytes += size
                progress(1)
    done.files_removed, done.files_in_use = sweep(ledger, archive)
    return done


def erasures(transaction: Transaction, kind: Kind, items: Collection[int | str]) -> dict[str, Row]:
    """What is ERASED of these, by item: when (``erased_at``) and by which ``rule``."""
    found: dict[str, Row] = {}
    names = [str(item) for item in items]
    for start in range(0, len(names), _AT_ONCE):
        rows = transaction.rows(
            sa.select(erased_payload).where(
                erased_payload.c.kind == str(kind), erased_payload.c.item.in_(names[start : start + _AT_ONCE])
            )
        )
        found.update({row["item"]: row for row in rows})
    return found


def told(row: Row) -> str:
    """``erased on 2033-01-02 by the rule retention.invoices: 7y``."""
    return f"erased on {row['erased_at']:%Y-%m-%d} by the rule {row['rule']}"


def _needs(transaction: Transaction, rules: Rules, kind: Kind) -> Needs:
    answers: dict[str, dt.datetime | None] = {}
    refused: set[int] = set()
    # Asked for every item: what only files decide by is looked for with files alone.
    for feed, within in rules.answers_within.items() if kind is Kind.EXPORTED_FILE else ():
        since: str | None = transaction.value(
            sa.select(ledger_setting.c.value).where(ledger_setting.c.name == f"acknowledgements/{feed}")
        )
        answers[feed] = None if since is None else dt.datetime.fromisoformat(since) - within
        refused |= {int(row["file_id"]) for row in acknowledgements.rejected(transaction, feed) if row["file_id"]}
    return Needs(standing_holds(transaction), rules.feeds, answers, frozenset(refused))


def _erase(transaction: Transaction, kind: Kind, item: str, rules: Rules, before: dt.datetime) -> int | None:
    """Erase one item, unless it is needed by now; its bytes, or None."""
    # Holds are placed under the same name: one that is on record is seen.
    transaction.lock_name(RETENTION_LOCK)
    _lock(transaction, kind, item)
    row = transaction.row(candidates(kind, _needs(transaction, rules, kind), before, item))
    if row is None or row["kept"] is not None:
        return None
    sha256 = row["sha256"] or hashlib.sha256(_content(transaction, kind, item)).hexdigest()
    _blank(transaction, kind, item)
    said = {"name": row["name"], "sha256": sha256, "bytes": int(row["bytes"]), "rule": rules.name(kind)}
    transaction.execute(
        sa.insert(erased_payload), {"kind": str(kind), "item": item, "erased_at": transaction.now, **said}
    )
    transaction.audit("payload.erased", row["subject"], payload=str(kind), item=item, **said)
    return int(row["bytes"])


_COLUMNS: Mapping[Kind, tuple[sa.Table, str, bytes | None]] = {
    Kind.INVOICE: (invoice_occurrence, "content", b""),
    Kind.REQUEST: (submission_table, "body", b""),
    Kind.QUARANTINED_ROW: (quarantined_row, "raw", b""),
    Kind.RECORD_CONTENT: (exported_record, "content", None),
}
"""Where contents are that the ledger holds itself, and what stands there once they are erased."""


def _where(kind: Kind, item: str) -> sa.ColumnElement[bool]:
    table = _COLUMNS[kind][0]
    if kind is Kind.QUARANTINED_ROW:
        file_id, line = item.split(":")
        return sa.and_(table.c.file_id == int(file_id), table.c.line == int(line))
    return table.c.id == int(item)


def _content(transaction: Transaction, kind: Kind, item: str) -> bytes:
    table, column, _ = _COLUMNS[kind]
    return bytes(transaction.value(sa.select(table.c[column]).where(_where(kind, item))) or b"")


def _blank(transaction: Transaction, kind: Kind, item: str) -> None:
    if kind in ARCHIVED:
        return
    if transaction.connection.dialect.name == "sqlite":
        # Otherwise the bytes stay in the file until another row takes their place.
        transaction.connection.exec_driver_sql("PRAGMA secure_delete=ON")
    table, column, value = _COLUMNS[kind]
    transaction.execute(sa.update(table).where(_where(kind, item)).values({column: value}))
    if kind is Kind.INVOICE:
        # What was mapped of it says the same.
        transaction.execute(sa.update(invoice).where(invoice.c.occurrence_id == int(item)).values(mapping=None))


def _lock(transaction: Transaction, kind: Kind, item: str) -> None:
    """Hold what decides whether the item is needed, so that nobody changes it before the commit."""
    invoices = {Kind.INVOICE: invoice_occurrence.c.invoice_pk, Kind.REQUEST: submission_table.c.invoice_pk}
    if kind in invoices:
        of_item = sa.select(invoices[kind]).where(_where(kind, item)).scalar_subquery()
        transaction.rows(sa.select(invoice.c.id).where(invoice.c.id == of_item).with_for_update())
    elif kind is Kind.EXTRACT:
        source = sa.select(extract.c.source).where(extract.c.id == int(item)).scalar_subquery()
        transaction.rows(
            sa.select(export_feed.c.name)
            .where(export_feed.c.source == source)
            .order_by(export_feed.c.name)
            .with_for_update()
        )
    elif kind is Kind.RECORD_CONTENT:
        feed = sa.select(exported_record.c.feed).where(_where(kind, item)).scalar_subquery()
        transaction.rows(sa.select(export_feed.c.name).where(export_feed.c.name == feed).with_for_update())


def sweep(ledger: Ledger, archive: Archive) -> tuple[int, int]:
    """Remove entries of the archive that only erased rows refer to: (removed, left because they were used lately).

    Also those that a restored backup, or a run that died, left behind.
    """
    removed = in_use = 0
    with ledger.reading() as reading:
        now = reading.now
        gone = {sha256: told(row) for sha256, row in _erased_entries(reading)}
        for sha256 in _needed_entries(reading):
            gone.pop(sha256, None)
    if not gone:
        return 0, 0
    for stored in archive.entries():
        if stored.sha256 in gone:
            if archive.erase(stored.sha256, gone[stored.sha256], unused_since=now - _UNUSED):
                removed += 1
            else:
                in_use += 1
    return removed, in_use


def _erased_entries(reading: Transaction) -> Iterator[tuple[str, Row]]:
    kinds = [str(kind) for kind in ARCHIVED]
    for row in reading.rows(sa.select(erased_payload).where(erased_payload.c.kind.in_(kinds))):
        yield row["sha256"], row
    statement = (
        sa.select(exported_file.c.companions, erased_payload)
        .join(erased_payload, sa.cast(exported_file.c.id, sa.Text) == erased_payload.c.item)
        .where(erased_payload.c.kind == str(Kind.EXPORTED_FILE))
    )
    for row in reading.rows(statement):
        for companion in row["companions"]:
            yield companion["sha256"], row


def _needed_entries(reading: Transaction) -> Iterator[str]:
    columns: Mapping[Kind, tuple[Any, ...]] = {
        Kind.SOURCE_FILE: (source_file.c.sha256,),
        Kind.EXTRACT: (extract.c.sha256,),
        Kind.EXPORTED_FILE: (exported_file.c.sha256, exported_file.c.companions),
    }
    for kind, wanted in columns.items():
        item = sa.cast(wanted[0].table.c.id, sa.Text)
        erased = sa.exists().where(erased_payload.c.kind == str(kind), erased_payload.c.item == item)
        for row in reading.rows(sa.select(*wanted).where(wanted[0].is_not(None), ~erased)):
            yield row["sha256"]
            for companion in row.get("companions", ()):
                yield companion["sha256"]
