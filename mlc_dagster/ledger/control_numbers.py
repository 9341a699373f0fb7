"""Control numbers of X12 envelopes: counted per partner and level, without gaps, never used twice.

A number is looked at first and taken in the transaction that commits its file: whoever comes second finds the numbers
moved and assembles again. Serials count for ever; what stands in the file starts over at 1 after 999,999,999.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import LedgerError, Row, Transaction
from mlc_dagster.ledger.schema_outbound import control_number

LARGEST = 999_999_999
"""ISA13 has nine digits."""


class NumbersMoved(Expected):
    """Another run took numbers of this partner since they were looked at; assemble again. Nothing was written."""

    kind = FailureKind.BUSY

    def __init__(self, partner: str, level: str, expected: Sequence[int], found: Sequence[int]) -> None:
        self.partner = partner
        self.level = level
        self.expected = tuple(expected)
        self.found = tuple(found)
        super().__init__(
            f"control numbers of {partner} ({level}) moved: {list(self.expected)} expected, {list(self.found)} are next"
        )


def number_of(serial: int) -> int:
    """What stands in the file for a serial."""
    return (serial - 1) % LARGEST + 1


def peek(transaction: Transaction, partner: str, level: str, count: int) -> list[int]:
    """The numbers that come next; they are nobody's until they are taken."""
    last = _last_serial(transaction, partner, level)
    return [number_of(last + step) for step in range(1, count + 1)]


def take(transaction: Transaction, partner: str, level: str, expected: Sequence[int], file_id: int) -> None:
    """Take exactly these numbers for a file.

    Raises:
        NumbersMoved: they are not the next ones; the transaction must be left.
    """
    if not expected:
        return
    # One at a time per counter: two that count from the same last serial would collide at the commit.
    transaction.lock_name(f"control/{partner}/{level}")
    last = _last_serial(transaction, partner, level)
    following = [number_of(last + step) for step in range(1, len(expected) + 1)]
    if following != list(expected):
        raise NumbersMoved(partner, level, expected, following)
    rows: list[dict[str, Any]] = [
        {
            "partner": partner,
            "level": level,
            "serial": last + step,
            "number": number,
            "file_id": file_id,
            "state": "USED",
            "taken_at": transaction.now,
        }
        for step, number in enumerate(expected, 1)
    ]
    transaction.execute(sa.insert(control_number), rows)


def void(transaction: Transaction, file_id: int, reason: str) -> None:
    """The file's numbers were given up with it; they are not used again, and the gap check knows why."""
    numbers = transaction.rows(
        sa.select(control_number)
        .where(control_number.c.file_id == file_id, control_number.c.state == "USED")
        .order_by(control_number.c.partner, control_number.c.level, control_number.c.serial)
    )
    if not numbers:
        return
    transaction.execute(
        sa.update(control_number)
        .where(control_number.c.file_id == file_id, control_number.c.state == "USED")
        .values(state="VOID", reason=reason)
    )
    for row in numbers:
        said = {"level": row["level"], "number": row["number"], "file": file_id, "reason": reason}
        transaction.audit("control_number.void", f"partner:{row['partner']}", **said)


def jump(transaction: Transaction, partner: str, level: str, count: int, approval: Approval) -> None:
    """Leave out the next ``count`` numbers: after the ledger was restored, those that were used since its backup.

    Raises:
        LedgerError: ``count`` is no positive number.
    """
    if count < 1:
        msg = f"control numbers of {partner} ({level}) jump by at least 1; got {count}"
        raise LedgerError(msg)
    transaction.lock_name(f"control/{partner}/{level}")
    last = _last_serial(transaction, partner, level)
    transaction.execute(
        sa.insert(control_number).values(
            partner=partner,
            level=level,
            serial=last + count,
            number=number_of(last + count),
            file_id=None,
            state="JUMPED",
            reason=approval.told,
            taken_at=transaction.now,
        )
    )
    approval.record(
        transaction,
        "control_number.jumped",
        f"partner:{partner}",
        before={"last": number_of(last) if last else None},
        after={"last": number_of(last + count)},
        level=level,
        left_out=count,
    )


def gaps(transaction: Transaction, partner: str | None = None) -> list[str]:
    """Numbers that nobody can account for, one sentence each; void and jumped ones are accounted for."""
    return [_gap(row) for row in _gap_rows(transaction, partner)]


def _gap_rows(transaction: Transaction, partner: str | None) -> list[Row]:
    """The numbers before which some are missing, with the serial ``before`` these."""
    following = (
        sa.func.lag(control_number.c.serial, 1, 0)
        .over(
            partition_by=(control_number.c.partner, control_number.c.level),
            order_by=control_number.c.serial,
        )
        .label("before")
    )
    numbered = sa.select(control_number, following)
    if partner is not None:
        numbered = numbered.where(control_number.c.partner == partner)
    inner = numbered.subquery()
    return transaction.rows(
        sa.select(inner)
        .where(inner.c.serial != inner.c.before + 1, inner.c.state != "JUMPED")
        .order_by(inner.c.partner, inner.c.level, inner.c.serial)
    )


def _gap(row: Row) -> str:
    first, last = number_of(row["before"] + 1), number_of(row["serial"] - 1)
    missing = f"number {first} is" if first == last else f"numbers {first} to {last} are"
    return f"{row['partner']} ({row['level']}): {missing} not in the ledger, and {row['number']} is"


def numbers_of(transaction: Transaction, file_id: int) -> list[Row]:
    """The numbers that a file carries, or carried, in order."""
    return transaction.rows(
        sa.select(control_number)
        .where(control_number.c.file_id == file_id)
        .order_by(control_number.c.partner, control_number.c.level, control_number.c.serial)
    )


def _last_serial(transaction: Transaction, partner: str, level: str) -> int:
    last = transaction.value(
        sa.select(sa.func.max(control_number.c.serial)).where(
            control_number.c.partner == partner, control_number.c.level == level
        )
    )
    return int(last or 0)


def take_again(
    transaction: Transaction, partner: str, level: str, serials: Sequence[int], file_id: int, *, void_for: str | None
) -> None:
    """Enter numbers that a file took before the ledger was restored; those that are its own already stay.

    Args:
        transaction: the entries are part of it.
        partner: whose.
        level: interchange or group.
        serials: which, as they were counted.
        file_id: the file that carries them.
        void_for: why they are void; None for a file that was sent, or may have been.

    Raises:
        LedgerError: one of them stands in another file by now.
    """
    transaction.lock_name(f"control/{partner}/{level}")
    for serial in serials:
        of_number = sa.and_(
            control_number.c.partner == partner, control_number.c.level == level, control_number.c.serial == serial
        )
        known = transaction.row(sa.select(control_number).where(of_number))
        if known is not None and known["file_id"] not in (None, file_id):
            msg = (
                f"control number {number_of(serial)} of {partner} ({level}) was used by file number {file_id} before "
                f"the ledger was restored, and by file number {known['file_id']} since; ask the partner which it has"
            )
            raise LedgerError(msg)
        row: dict[str, Any] = {
            "partner": partner, "level": level, "serial": serial, "number": number_of(serial), "file_id": file_id,
            "state": "USED" if void_for is None else "VOID", "reason": void_for, "taken_at": transaction.now,
        }  # fmt: skip
        transaction.upsert(control_number, [row])


def leave_out_missing(transaction: Transaction, partner: str, reason: str) -> int:
    """Account for the numbers between others that no file carries: taken by files that were lost unsent; how many."""
    count = 0
    for row in _gap_rows(transaction, partner):
        before, last = int(row["before"]), int(row["serial"]) - 1
        values: dict[str, Any] = {"partner": partner, "level": row["level"], "serial": last, "number": number_of(last)}
        transaction.execute(
            sa.insert(control_number).values(
                **values, file_id=None, state="JUMPED", reason=reason, taken_at=transaction.now
            )
        )
        transaction.audit(
            "control_number.jumped", f"partner:{partner}", level=row["level"], left_out=last - before,
            before={"last": number_of(before) if before else None}, after={"last": number_of(last)}, reason=reason,
        )  # fmt: skip
        count += last - before
    return count
