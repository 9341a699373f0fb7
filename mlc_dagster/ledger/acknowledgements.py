"""What partners said of our files: which answer belongs to which file, which are missing, which say no.

What belongs here: rows and their meaning. What does not: where answers come from and how they are parsed. An answer is
found by partner and control number, whichever feed's folder it lay in; one that fits nothing is kept all the same.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.exported import DELIVERED_STATES, RecordState
from mlc_dagster.ledger.extracts import chunks
from mlc_dagster.ledger.schema import audit_event, ledger_setting
from mlc_dagster.ledger.schema_outbound import (
    acknowledgement,
    acknowledgement_file,
    control_number,
    exported_file,
    exported_record,
)

INTERCHANGE = "TA1"
"""Stands as group code of an answer to the whole interchange; its control number is then the interchange's."""
GROUP = "group"
REFUSALS = ("R", "P", "M", "W", "X")
"""Rejected, partly accepted, and failures of authentication or encryption; A is accepted, E with errors noted."""


class AckStatus(StrEnum):
    NONE = "none"
    """Nothing is expected: the feed has no acknowledgements, or the file is not delivered."""
    WAITING = "waiting"
    ACCEPTED = "accepted"
    ACCEPTED_WITH_ERRORS = "accepted with errors"
    PARTIALLY = "partially accepted"
    REJECTED = "rejected"
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of an acknowledgement: of an interchange, a group (no ``set_control``) or a transaction set."""

    group_code: str | None
    group_control: int
    set_control: str | None
    code: str
    text: str | None = None
    ours: bool = True
    """False: it passes between others, whose numbers are not ours; it is kept and matched with nothing."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An answer as it was entered."""

    answer: Answer
    file: Row | None
    """The file that it is about; None when we have sent nothing with this number."""


def expect_from(transaction: Transaction, feed: str) -> None:
    """Acknowledgements of this feed are looked for from now on; only the first call counts.

    Files delivered long before were never going to be answered and are not overdue.
    """
    row = {"name": f"acknowledgements/{feed}", "value": transaction.now.isoformat()}
    transaction.insert_ignoring(ledger_setting, row)


def known_files(transaction: Transaction, feed: str) -> dict[str, Row]:
    """Files of the folder as they were last read, by path."""
    rows = transaction.rows(sa.select(acknowledgement_file).where(acknowledgement_file.c.feed == feed))
    return {row["path"]: row for row in rows}


def is_read(transaction: Transaction, feed: str, sha256: str) -> bool:
    """Whether these bytes were read for the feed, under whatever name."""
    statement = sa.select(acknowledgement_file.c.path).where(
        acknowledgement_file.c.feed == feed, acknowledgement_file.c.sha256 == sha256
    )
    return transaction.value(statement.limit(1)) is not None


def note_file(
    transaction: Transaction,
    feed: str,
    *,
    path: str,
    size: int | None,
    mtime: int | None,
    sha256: str,
    problem: str | None,
    told: bool = False,
) -> None:
    """The file was read.

    Args:
        transaction: the entry is part of it.
        feed: whose folder it lies in.
        path: on the server.
        size: bytes, as listed.
        mtime: as listed; None for a file that has to be fetched again because it may have changed unseen.
        sha256: of its bytes, or a mark of its own where they could not be had.
        problem: why it is no acknowledgement.
        told: the problem is on record already.
    """
    row = {"feed": feed, "path": path, "size": size, "mtime": mtime, "sha256": sha256, "problem": problem}
    transaction.upsert(acknowledgement_file, [row | {"read_at": transaction.now}])
    if problem is not None and not told:
        transaction.audit("acknowledgement.unreadable", f"feed:{feed}", path=path, sha256=sha256, problem=problem)


def record(
    transaction: Transaction, *, feed: str, partner: str | None, path: str, sha256: str, answers: Sequence[Answer]
) -> list[Recorded]:
    """Enter what one file said. Its bytes must be new to the feed.

    Args:
        transaction: rows and events are part of it.
        feed: whose folder it lay in.
        partner: as control numbers are counted by; without one nothing can be matched.
        path: on the server.
        sha256: of the file.
        answers: in its order.
    """
    found: list[Recorded] = []
    for part, answer in enumerate(answers, 1):
        file = None if partner is None or not answer.ours else _file_of(transaction, partner, answer)
        row = {
            "feed": feed,
            "path": path,
            "sha256": sha256,
            "part": part,
            "group_code": answer.group_code,
            "group_control": answer.group_control,
            "set_control": answer.set_control,
            "code": answer.code,
            "text": answer.text,
            "file_id": None if file is None else file["id"],
            "received_at": transaction.now,
        }
        if not transaction.insert_ignoring(acknowledgement, row):
            continue
        transaction.audit(
            "acknowledgement.received" if file is not None else "acknowledgement.unmatched",
            f"feed:{feed}" if file is None else f"export:{file['id']}",
            path=path, sha256=sha256, group_code=answer.group_code, group_control=answer.group_control,
            set_control=answer.set_control, code=answer.code, text=answer.text,
        )  # fmt: skip
        found.append(Recorded(answer, file))
    return found


def _file_of(transaction: Transaction, partner: str, answer: Answer) -> Row | None:
    """The latest file that carried the number: after 999,999,999 numbers come again."""
    level = "interchange" if answer.group_code == INTERCHANGE else GROUP
    candidates = transaction.rows(
        sa.select(exported_file)
        .join(control_number, control_number.c.file_id == exported_file.c.id)
        .where(
            control_number.c.partner == partner,
            control_number.c.level == level,
            control_number.c.number == answer.group_control,
        )
        .order_by(control_number.c.serial.desc())
        .limit(1)
    )
    if not candidates or level != GROUP or answer.group_code is None:
        return candidates[0] if candidates else None
    # A number that we sent in a group of another kind is not this answer's.
    kinds = {
        str(row["set_control"]).partition("/")[0]
        for row in transaction.rows(
            sa.select(exported_record.c.set_control)
            .where(exported_record.c.file_id == candidates[0]["id"], exported_record.c.set_control.is_not(None))
            .distinct()
        )
    }
    return candidates[0] if not kinds or answer.group_code in kinds else None


def of_files(transaction: Transaction, file_ids: Collection[int]) -> dict[int, list[Row]]:
    """All answers to these files, in the order in which they came."""
    found: dict[int, list[Row]] = {}
    for chunk in chunks(file_ids):
        statement = sa.select(acknowledgement).where(acknowledgement.c.file_id.in_(chunk))
        for row in transaction.rows(statement.order_by(acknowledgement.c.id)):
            found.setdefault(row["file_id"], []).append(row)
    return found


def statuses(
    transaction: Transaction, files: Collection[Row], now: dt.datetime, within: Mapping[str, dt.timedelta]
) -> dict[int, AckStatus]:
    """What the partner has said of each file, by its id. ``within``: feeds that expect answers, and how soon."""
    answers = of_files(transaction, [file["id"] for file in files])
    return {file["id"]: _status(file, answers.get(file["id"], []), now, within.get(file["feed"])) for file in files}


def _status(file: Row, answers: Sequence[Row], now: dt.datetime, within: dt.timedelta | None) -> AckStatus:
    groups = cast("Mapping[str, list[int]]", file["controls"]).get(GROUP, [])
    # A later answer to the same group replaces the earlier: a resend is answered anew.
    said = {row["group_control"]: row["code"] for row in answers if row["set_control"] is None and not _is_ta1(row)}
    envelope = next((row["code"] for row in reversed(answers) if _is_ta1(row)), "A")
    if envelope in REFUSALS or (groups and all(said.get(group) in ("R", "M", "W", "X") for group in groups)):
        return AckStatus.REJECTED
    if any(code in REFUSALS for code in said.values()):
        return AckStatus.PARTIALLY
    if groups and all(group in said for group in groups):
        return AckStatus.ACCEPTED_WITH_ERRORS if "E" in (*said.values(), envelope) else AckStatus.ACCEPTED
    if within is None or not groups or file["state"] not in DELIVERED_STATES:
        return AckStatus.NONE
    return AckStatus.OVERDUE if file["ended_at"] + within < now else AckStatus.WAITING


def _is_ta1(row: Row) -> bool:
    return row["group_code"] == INTERCHANGE


def overdue(transaction: Transaction, feed: str, now: dt.datetime, within: dt.timedelta) -> list[Row]:
    """Delivered files of the feed with a group that nobody has answered in time, oldest first."""
    numbers = (
        sa.select(control_number.c.file_id, sa.func.count().label("groups"))
        .where(control_number.c.level == GROUP, control_number.c.file_id.is_not(None))
        .group_by(control_number.c.file_id)
        .subquery()
    )
    said = (
        sa.select(acknowledgement.c.file_id, sa.func.count(acknowledgement.c.group_control.distinct()).label("groups"))
        .where(acknowledgement.c.set_control.is_(None), acknowledgement.c.group_code != INTERCHANGE)
        .group_by(acknowledgement.c.file_id)
        .subquery()
    )
    refused = sa.exists().where(
        acknowledgement.c.file_id == exported_file.c.id,
        acknowledgement.c.group_code == INTERCHANGE,
        acknowledgement.c.code.in_(REFUSALS),
    )
    statement = (
        sa.select(exported_file)
        .join(numbers, numbers.c.file_id == exported_file.c.id)
        .join(said, said.c.file_id == exported_file.c.id, isouter=True)
        .where(
            exported_file.c.feed == feed,
            exported_file.c.state.in_([str(state) for state in DELIVERED_STATES]),
            exported_file.c.ended_at < now - within,
            numbers.c.groups > sa.func.coalesce(said.c.groups, 0),
            ~refused,
        )
        .order_by(exported_file.c.sequence)
    )
    since: str | None = transaction.value(
        sa.select(ledger_setting.c.value).where(ledger_setting.c.name == f"acknowledgements/{feed}")
    )
    if since is not None:
        statement = statement.where(exported_file.c.ended_at >= dt.datetime.fromisoformat(since) - within)
    return transaction.rows(statement)


def note_overdue(transaction: Transaction, files: Collection[Row]) -> list[Row]:
    """Those of the overdue files that nobody was told of yet; from now on they are on record as told."""
    fresh: list[Row] = []
    for file in files:
        subject = f"export:{file['id']}"
        told = sa.select(audit_event.c.id).where(
            audit_event.c.subject == subject, audit_event.c.kind == "acknowledgement.overdue"
        )
        if transaction.value(told.limit(1)) is None:
            transaction.audit("acknowledgement.overdue", subject, feed=file["feed"], name=file["name"])
            fresh.append(file)
    return fresh


def rejected(transaction: Transaction, feed: str) -> list[Row]:
    """Refusals that stand: of this feed's files, and unmatched ones from its folder, oldest first.

    Each row has the answer's columns, the file's ``name`` (None when unmatched) and ``records``, the ids it is about. A
    refusal stands until a later answer accepts the same, or later versions of all its records are on their way.
    """
    mine = sa.or_(
        exported_file.c.feed == feed, sa.and_(acknowledgement.c.file_id.is_(None), acknowledgement.c.feed == feed)
    )
    later = acknowledgement.alias("later")
    answered_again = sa.exists().where(
        later.c.file_id == acknowledgement.c.file_id,
        later.c.group_code.is_not_distinct_from(acknowledgement.c.group_code),
        later.c.group_control == acknowledgement.c.group_control,
        # A group that is accepted as a whole takes its sets with it.
        sa.or_(
            later.c.set_control.is_not_distinct_from(acknowledgement.c.set_control),
            sa.and_(later.c.set_control.is_(None), later.c.code.in_(["A", "E"])),
        ),
        later.c.sha256 != acknowledgement.c.sha256,
        later.c.id > acknowledgement.c.id,
    )
    rows = transaction.rows(
        sa.select(acknowledgement, exported_file.c.name)
        .join(exported_file, exported_file.c.id == acknowledgement.c.file_id, isouter=True)
        .where(mine, acknowledgement.c.code.in_(REFUSALS), ~answered_again)
        .order_by(acknowledgement.c.id)
    )
    sets = {_group(row) for row in rows if row["set_control"] is not None}
    standing: list[Row] = []
    for row in rows:
        if row["set_control"] is None and _group(row) in sets:
            continue  # Its sets say it one by one.
        records = _records_of(transaction, row)
        if records is None or records:
            standing.append({**row, "records": records or []})
    return standing


def _group(row: Row) -> tuple[Any, ...]:
    return row["file_id"], row["sha256"], row["group_code"], row["group_control"]


def _records_of(transaction: Transaction, row: Row) -> list[str] | None:
    """Records that a refusal is about and of which no later version is on its way; None when none can be named."""
    if row["file_id"] is None:
        return None
    about = exported_record.c.file_id == row["file_id"]
    if row["group_code"] not in (None, INTERCHANGE):
        prefix = f"{row['group_code']}/"
        about &= (
            exported_record.c.set_control == prefix + row["set_control"]
            if row["set_control"] is not None
            else exported_record.c.set_control.startswith(prefix, autoescape=True)
        )
    later = exported_record.alias("later")
    newer = (
        sa.exists()
        .where(
            later.c.feed == exported_record.c.feed,
            later.c.record_id == exported_record.c.record_id,
            later.c.version > exported_record.c.version,
            # A rebase enters versions that nobody sends.
            later.c.file_id.is_not(None),
            later.c.state.in_([str(RecordState.PENDING), str(RecordState.SENT)]),
        )
        .label("newer")
    )
    rows = transaction.rows(
        sa.select(exported_record.c.record_id, newer).where(about).order_by(exported_record.c.position)
    )
    return [each["record_id"] for each in rows if not each["newer"]] if rows else None
