"""Files that were received and whose bytes the archive has lost since, before they were read.

Belongs here: which ones nobody has brought again. Does not: fetching them again, as any file that waits is.
"""

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.files import FileState
from mlc_dagster.ledger.schema import source_file

_HERE = [str(state) for state in (FileState.RECEIVED, FileState.READ, FileState.SAME_BYTES, FileState.REJECTED)]


def lost_files(transaction: Transaction, feed: str) -> list[Row]:
    """By path; one whose bytes came again, under whatever name, is none of them."""
    again = source_file.alias("again")
    came_again = sa.exists().where(
        again.c.feed == source_file.c.feed, again.c.sha256 == source_file.c.sha256, again.c.state.in_(_HERE)
    )
    chosen = (
        source_file.c.feed == feed, source_file.c.state == str(FileState.RELEASED),
        source_file.c.sha256.is_not(None), ~came_again,
    )  # fmt: skip
    return transaction.rows(sa.select(source_file).where(*chosen).order_by(source_file.c.path))
