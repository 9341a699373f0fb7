"""Files that are done with, until they have left the partner's server.

What belongs here: which ones still lie there, and the note that one does no more. What does not: archiving or deleting
them, which is ``stampli.disposing``'s.
"""

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.files import FileState
from mlc_dagster.ledger.schema import source_file

DONE_STATES = (FileState.READ, FileState.SAME_BYTES, FileState.REJECTED)
"""Nothing more is done with such a file; it may leave the server."""


def undisposed_files(transaction: Transaction, feed: str, *, limit: int) -> list[Row]:
    """Files that are done with and neither archived nor deleted on the server yet, oldest first."""
    return transaction.rows(sa.select(source_file).where(*_undisposed(feed)).order_by(source_file.c.id).limit(limit))


def count_undisposed(transaction: Transaction, feed: str) -> int:
    """How many there are of them."""
    return int(transaction.value(sa.select(sa.func.count()).select_from(source_file).where(*_undisposed(feed))))


def _undisposed(feed: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        source_file.c.feed == feed, source_file.c.state.in_([str(state) for state in DONE_STATES]),
        source_file.c.sha256.is_not(None), source_file.c.disposed_at.is_(None),
    )  # fmt: skip


def disposed(transaction: Transaction, row: Row, how: str) -> None:
    """The file was archived or deleted on the server; ``how`` says which. What another run noted before stays."""
    ended = transaction.execute(
        sa.update(source_file)
        .where(source_file.c.id == row["id"], source_file.c.disposed_at.is_(None))
        .values(disposed_at=transaction.now)
    )
    if ended.rowcount == 1:
        transaction.audit("file.disposed", f"file:{row['feed']}:{row['path']}", file=row["id"], how=how)
