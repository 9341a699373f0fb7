"""Files that were sent and that a restored ledger does not know: entered again from what was kept outside of it.

What belongs here: the entering, one transaction per file, with everything that a later run decides by. What does not:
where they are kept and what lies on the partner's server, which ``exports.restoring`` finds out.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger import control_numbers, extracts
from mlc_dagster.ledger.approval import Decision
from mlc_dagster.ledger.database import LedgerError, Row, Transaction
from mlc_dagster.ledger.exported import DELIVERED_STATES, OPEN_STATES, FileState, RecordState
from mlc_dagster.ledger.feeds import ensure_feed
from mlc_dagster.ledger.schema_outbound import export_feed, exported_file, exported_record, extract
from mlc_dagster.ledger.sent_files import RECORD_FIELDS, file_at

ADOPTED = "ADOPTED"
"""Kind of an extract that was read before the ledger was restored. It closes no window: these are read again."""

_AT_ONCE = 1000
_TIMES = ("window_start", "window_end", "created_at")


@dataclass(frozen=True)
class Adoption:
    """One file to enter."""

    feed: str
    source: str
    file: Mapping[str, Any]
    """``sent_files.FROZEN``; times as text."""
    serials: Mapping[str, Sequence[int]]
    extracts: Mapping[str, Mapping[str, Any]]
    state: FileState
    """SENT, INFERRED, UNKNOWN or ABANDONED."""
    columns: Mapping[str, Any]
    """What else is known of its end: ``server_size``, ``verified_by``, ``reason`` …"""
    seen: str
    """What lies on the server now, for the audit trail."""
    evidence: Mapping[str, Any]
    """What the state rests on, for the audit trail."""
    attempts: int = 1
    """As many as are known of outside the ledger."""


Contents = Callable[[Sequence[tuple[str, str]], str], Mapping[str, bytes]]
"""Of (record id, hash) and an extract's hash: the contents that the extract has, by record id."""


def adopt_file(
    transaction: Transaction,
    adoption: Adoption,
    records: Iterable[Sequence[Any]],
    decision: Decision,
    *,
    archived: Callable[[str], bool],
    contents: Contents | None,
) -> int:
    """Enter a file with its record versions, control numbers and the extracts it was made of; its id.

    Args:
        transaction: everything is part of it.
        adoption: the file, and what became of it.
        records: ``sent_files.RECORD_FIELDS`` each; taken some at a time.
        decision: who restored the ledger, and why.
        archived: whether the archive has these bytes.
        contents: where the source keeps the contents of what was sent; None where it does not.

    Raises:
        LedgerError: the ledger has gone on since it was restored, and has another file, or other records, in the place.
    """
    ensure_feed(transaction, adoption.feed, adoption.source)
    file_id = _file(transaction, adoption)
    known = {int(key): _extract(transaction, adoption, each, archived) for key, each in adoption.extracts.items()}
    hashes = {int(key): str(each["sha256"]) for key, each in adoption.extracts.items()}
    count = 0
    for chunk in extracts.chunks(records, _AT_ONCE):
        rows: list[dict[str, Any]] = [dict(zip(RECORD_FIELDS, record, strict=True)) for record in chunk]
        kept = _contents(rows, hashes, contents)
        _records(transaction, adoption, file_id, rows, known, kept)
        count += len(rows)
    void_for = str(adoption.columns.get("reason")) if adoption.state is FileState.ABANDONED else None
    for level, serials in sorted(adoption.serials.items()):
        control_numbers.take_again(
            transaction, str(adoption.file["partner"]), level, serials, file_id, void_for=void_for
        )
    transaction.execute(
        sa.update(export_feed)
        .where(export_feed.c.name == adoption.feed, export_feed.c.sequence < adoption.file["sequence"])
        .values(sequence=adoption.file["sequence"])
    )
    transaction.audit(
        "export.adopted", f"export:{file_id}", feed=adoption.feed, sequence=adoption.file["sequence"],
        name=adoption.file["name"], sha256=adoption.file["sha256"], state=str(adoption.state), records=count,
        controls=adoption.file["controls"], seen=adoption.seen, rests_on=dict(adoption.evidence), **decision.said,
    )  # fmt: skip
    return file_id


def _file(transaction: Transaction, adoption: Adoption) -> int:
    frozen = dict(adoption.file)
    frozen.update({name: _moment(frozen[name]) for name in _TIMES})
    ended = None if adoption.state is FileState.UNKNOWN else adoption.columns.get("ended_at") or transaction.now
    values: dict[str, Any] = {**adoption.columns, "state": str(adoption.state), "ended_at": _moment(ended)}
    there = file_at(transaction, adoption.feed, int(frozen["sequence"]))
    if there is None:
        return transaction.insert(exported_file, feed=adoption.feed, attempts=adoption.attempts, **frozen, **values)
    if there["sha256"] != frozen["sha256"] or there["state"] not in OPEN_STATES:
        raise LedgerError(
            f"feed {adoption.feed}: file number {frozen['sequence']} is {there['name']}, {there['state']} in the "
            f"ledger, and {frozen['name']} was sent under that number; the ledger has gone on since it was restored. "
            "Restore it once more"
        )
    transaction.execute(
        sa.update(exported_file)
        .where(exported_file.c.id == there["id"])
        .values(attempts=max(adoption.attempts, there["attempts"]), **{"last_error": None, **values})
    )
    return int(there["id"])


def _extract(
    transaction: Transaction, adoption: Adoption, found: Mapping[str, Any], archived: Callable[[str], bool]
) -> int:
    """The ledger's number of what records were read in; 0 where its bytes are lost."""
    known = transaction.value(
        sa.select(extract.c.id).where(
            extract.c.source == adoption.source,
            extract.c.sha256 == found["sha256"],
            extract.c.read_at == _moment(found["read_at"]),
        )
    )
    if known is not None:
        return int(known)
    if not archived(str(found["sha256"])):
        return 0
    times = {name: dt.datetime.fromisoformat(found[name]) for name in _EXTRACT_TIMES}
    return extracts.record_extract(
        transaction, source=adoption.source, kind=ADOPTED, **times, sha256=found["sha256"], bytes_=found["bytes"],
        records=found["records"], lines=found["lines"], requests=0, run_id=None,
    )  # fmt: skip


_EXTRACT_TIMES = ("window_start", "window_end", "read_from", "read_at")


def _contents(
    rows: Sequence[Mapping[str, Any]], hashes: Mapping[int, str], contents: Contents | None
) -> dict[str, bytes]:
    if contents is None:
        return {}
    wanted: dict[int, list[tuple[str, str]]] = {}
    for row in rows:
        wanted.setdefault(int(row["extract_id"]), []).append((row["record_id"], row["content_sha256"]))
    found: dict[str, bytes] = {}
    for number, of_extract in wanted.items():
        if number in hashes:
            found.update(contents(of_extract, hashes[number]))
    return found


def _records(
    transaction: Transaction,
    adoption: Adoption,
    file_id: int,
    rows: Sequence[Mapping[str, Any]],
    known: Mapping[int, int],
    kept: Mapping[str, bytes],
) -> None:
    state, ended = _ended(adoption.state, transaction.now)
    there = _there(transaction, adoption.feed, rows)
    fresh: list[dict[str, Any]] = []
    for row in rows:
        values: dict[str, Any] = {
            "change": row["change"],
            "state": state,
            "reason": None,
            "text": None,
            "reading": sa.null(),
            "content_sha256": row["content_sha256"],
            "content": kept.get(row["record_id"]),
            "standing": row["standing"],
            "extract_id": known.get(int(row["extract_id"]), 0),
            "read_at": _moment(row["read_at"]),
            "last_update_date": _moment(row["last_update_date"]),
            "file_id": file_id,
            "position": row["position"],
            "set_control": row["set_control"],
            "ended_at": ended,
        }
        before = there.get((row["record_id"], row["version"]))
        if before is None:
            fresh.append(
                {
                    **{name: value for name, value in values.items() if name not in ("reason", "text", "reading")},
                    "feed": adoption.feed,
                    "record_id": row["record_id"],
                    "version": row["version"],
                    "created_at": transaction.now,
                }
            )
        elif before["file_id"] in (None, file_id):
            # Held when the backup was made, and in a file since; or in this file, whose end the ledger did not know.
            if before["content_sha256"] == row["content_sha256"] and values["content"] is None:
                del values["content"]
            transaction.execute(sa.update(exported_record).where(exported_record.c.id == before["id"]).values(**values))
        else:
            raise LedgerError(
                f"feed {adoption.feed}: record {row['record_id']} version {row['version']} is in file number "
                f"{before['file_id']}, and was sent in {adoption.file['name']}; the ledger has gone on since it was "
                "restored. Restore it once more"
            )
    if fresh:
        transaction.execute(sa.insert(exported_record), fresh)


def _there(transaction: Transaction, feed: str, rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], Row]:
    columns = [exported_record.c[name] for name in ("id", "record_id", "version", "content_sha256", "file_id")]
    found: dict[tuple[str, int], Row] = {}
    for ids in extracts.chunks([row["record_id"] for row in rows]):
        statement = sa.select(*columns).where(exported_record.c.feed == feed, exported_record.c.record_id.in_(ids))
        found.update({(row["record_id"], row["version"]): row for row in transaction.rows(statement)})
    return found


def _ended(state: FileState, now: dt.datetime) -> tuple[str, dt.datetime | None]:
    if state in DELIVERED_STATES:
        return str(RecordState.SENT), now
    return (str(RecordState.ABANDONED), now) if state is FileState.ABANDONED else (str(RecordState.PENDING), None)


def _moment(value: Any) -> dt.datetime | None:
    return dt.datetime.fromisoformat(value) if isinstance(value, str) else value
