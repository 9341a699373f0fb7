"""What the audit trail says of files that a person sends once more; nothing here sends, and no state changes.

The beginning is on record before the first byte, so that a resend that breaks off leaves its trace as well.
"""

import datetime as dt
from collections.abc import Sequence

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.schema_outbound import exported_file


def note_resend_begun(
    transaction: Transaction, file: Row, *, by: str, approved_by: str | None, reason: str, name: str
) -> None:
    """From now on something of the file, or beside it, may be removed or written anew; ``name`` is the first."""
    state = {"state": str(file["state"]), "resent_at": _time(file["resent_at"])}
    transaction.audit_action(
        "export.resend_begun", f"export:{file['id']}", by=by, approved_by=approved_by, reason=reason,
        before=state, after=state, feed=file["feed"], name=file["name"], sha256=file["sha256"], first=name,
    )  # fmt: skip


def note_resend_ended(
    transaction: Transaction,
    file: Row,
    *,
    by: str,
    approved_by: str | None,
    reason: str,
    sent: Sequence[str],
    fault: str | None,
    server_key: str | None,
) -> None:
    """How it ended.

    Args:
        transaction: the event is part of it.
        file: the file, as ``exported.file_row`` gives it.
        by: who asked for it.
        approved_by: who agreed, where it takes two people.
        reason: why.
        sent: names under which identical bytes were sent, the file's companions' too.
        fault: what broke it off; None when everything went.
        server_key: fingerprint of the server's host key.
    """
    if sent:
        statement = sa.update(exported_file).where(exported_file.c.id == file["id"])
        transaction.execute(statement.values(resent_at=transaction.now))
    before = {"state": str(file["state"]), "resent_at": _time(file["resent_at"])}
    transaction.audit_action(
        "export.resent", f"export:{file['id']}", by=by, approved_by=approved_by, reason=reason, before=before,
        after=before | ({"resent_at": _time(transaction.now)} if sent else {}), feed=file["feed"], name=file["name"],
        sha256=file["sha256"], state=str(file["state"]), sent=list(sent), fault=fault, server_key=server_key,
    )  # fmt: skip


def _time(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(dt.UTC).isoformat()
