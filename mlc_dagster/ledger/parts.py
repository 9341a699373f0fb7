"""Files of a delivery: what was counted in each of them when the manifest that names them was read.

What belongs here: keeping those counts with the file they are of. What does not: counting (``stampli.part_rows``).
"""

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.files import FileState
from mlc_dagster.ledger.schema import source_file


class PartRead(NamedTuple):
    """One file of a delivery, read."""

    name: str
    size: int
    """Bytes."""
    sha256: str
    rows: int
    """Under the header."""
    rows_in_invoices: int
    """Rows of lines that are in an invoice; rows of invoices with such a line."""
    rows_quarantined: int
    """All others; a row of an invoice whose lines were all set aside was set aside with them."""


def parts_read(transaction: Transaction, manifest: Row, parts: Sequence[PartRead]) -> None:
    """Keep the counts with the newest version of each file, of this size; and all of them in the audit trail.

    A file that several manifests name has the counts of the delivery that was read last.
    """
    folder, slash, _ = manifest["path"].rpartition("/")
    for part in parts:
        newest = transaction.value(
            sa.select(sa.func.max(source_file.c.id)).where(
                source_file.c.feed == manifest["feed"],
                source_file.c.path == f"{folder}{slash}{part.name}",
                source_file.c.state == str(FileState.PART),
                source_file.c.size == part.size,
            )
        )
        transaction.execute(
            sa.update(source_file)
            .where(source_file.c.id == newest)
            .values(
                # Its bytes are in the archive's entry of that file.
                same_bytes_as=manifest["id"], reason=f"part of {manifest['path']}", rows_total=part.rows,
                rows_in_invoices=part.rows_in_invoices, rows_quarantined=part.rows_quarantined,
            )
        )  # fmt: skip
    transaction.audit(
        "file.parts_read", f"file:{manifest['feed']}:{manifest['path']}", file=manifest["id"],
        parts=[part._asdict() for part in parts],
    )  # fmt: skip


def parts_of(transaction: Transaction, manifests: Sequence[int]) -> dict[int, list[Row]]:
    """Files whose counts are of these manifests' deliveries, by key of the manifest."""
    found: dict[int, list[Row]] = {}
    for start in range(0, len(manifests), 500):
        statement = sa.select(source_file).where(
            source_file.c.state == str(FileState.PART),
            source_file.c.same_bytes_as.in_(manifests[start : start + 500]),
        )
        for row in transaction.rows(statement.order_by(source_file.c.path)):
            found.setdefault(int(row["same_bytes_as"]), []).append(row)
    return found
