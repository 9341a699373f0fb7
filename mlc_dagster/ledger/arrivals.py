"""What of a file has arrived while the whole has not: the file itself, its manifest, its trigger.

A file counts as sent when all that belongs to it is there. Until then this says how far it came; the file's state is
``exported``'s business and does not change here. Companions stand in ``exported_file.companions`` in the order in which
they are written; beside name and hash each has a ``step`` and, while it is under way, a ``temp_name``.
"""

from enum import StrEnum
from typing import Any, cast

import sqlalchemy as sa

from mlc_dagster.ledger.database import LedgerError, Row, Transaction
from mlc_dagster.ledger.exported import WAITING_STATES, FileState
from mlc_dagster.ledger.schema_outbound import exported_file


class CompanionStep(StrEnum):
    PENDING = "PENDING"
    UPLOADING = "UPLOADING"
    RENAMING = "RENAMING"
    SENT = "SENT"
    INFERRED = "INFERRED"
    UNKNOWN = "UNKNOWN"
    """Direct mode: it may be with the partner, whole or in part; it is not written a second time."""


INFERRED = "inferred"
"""``verified_by`` of a file that was concluded to have arrived."""

ENDED_STEPS = (CompanionStep.SENT, CompanionStep.INFERRED, CompanionStep.UNKNOWN)


def has_arrived(file: Row) -> bool:
    """True when the file itself is known to have its name on the server."""
    return file["verified_by"] is not None


def note_arrival(
    transaction: Transaction,
    file_id: int,
    *,
    server_size: int | None,
    server_mtime: int | None,
    verified_by: str,
    server_key: str | None,
    reason: str | None = None,
) -> None:
    """The file itself has its name on the server; its companions follow. Columns as ``exported.mark_sent``.

    ``verified_by`` INFERRED with a ``reason``: it is under no name, and the partner has taken it, as it seems.
    """
    file = _waiting(transaction, file_id)
    said: dict[str, Any] = {
        "server_size": server_size,
        "server_mtime": server_mtime,
        "verified_by": verified_by,
        "server_key": server_key,
    }
    if reason is not None:
        said["reason"] = reason
    transaction.execute(sa.update(exported_file).where(exported_file.c.id == file_id).values(**said))
    transaction.audit("export.arrived", f"export:{file_id}", feed=file["feed"], name=file["name"], **said)


def note_companion(
    transaction: Transaction, file_id: int, name: str, step: CompanionStep, *, temp_name: str | None
) -> None:
    """One companion took a step."""
    file = _waiting(transaction, file_id)
    companions = cast("list[dict[str, Any]]", file["companions"])
    for companion in companions:
        if companion["name"] == name:
            companion.update(step=str(step), temp_name=temp_name)
            break
    else:
        msg = f"file {file['name']} (number {file_id}) of feed {file['feed']} has no companion {name}"
        raise LedgerError(msg)
    transaction.execute(sa.update(exported_file).where(exported_file.c.id == file_id).values(companions=companions))
    transaction.audit(
        "export.companion",
        f"export:{file_id}",
        feed=file["feed"],
        name=name,
        sha256=companion["sha256"],
        step=str(step),
        temp_name=temp_name,
    )


def note_open_end(transaction: Transaction, file_id: int, text: str) -> None:
    """Direct mode: the upload broke off and the server cannot be asked. The state stays; the next run looks first."""
    file = _waiting(transaction, file_id)
    transaction.execute(sa.update(exported_file).where(exported_file.c.id == file_id).values(last_error=text[:2000]))
    transaction.audit("export.open_end", f"export:{file_id}", feed=file["feed"], name=file["name"], text=text)


def _waiting(transaction: Transaction, file_id: int) -> Row:
    file = transaction.row(sa.select(exported_file).where(exported_file.c.id == file_id).with_for_update())
    if file is None or FileState(file["state"]) not in WAITING_STATES:
        state = "not there" if file is None else file["state"]
        msg = f"file number {file_id} is {state}; only what waits for delivery can arrive"
        raise LedgerError(msg)
    return file
