"""Files of a delivery: their counts stand with the file they are of, and in the trail."""

import sqlalchemy as sa

from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.parts import PartRead, parts_of, parts_read
from mlc_dagster.ledger.schema import source_file
from mlc_dagster_tests.ledger.population import add_file, events, file_row

LINES = PartRead("lines.csv", 7, "ab" * 32, 3, 2, 1)


def test_counts_stand_with_the_newest_version_of_the_size_that_was_read(ledger: Ledger) -> None:
    """A part may be replaced between two deliveries; counts of the one say nothing of the other."""
    with ledger.transaction() as transaction:
        manifest = add_file(transaction, path="/outbound/m.json")
        old = add_file(transaction, path="/outbound/lines.csv")
        transaction.execute(sa.update(source_file).where(source_file.c.id == old["id"]).values(state="PART", size=7))
        new = transaction.insert(
            source_file, feed=old["feed"], path=old["path"], version=2, size=8, state="PART", young=False
        )
        parts_read(transaction, manifest, [LINES])
        counts = [file_row(transaction, key)["rows_total"] for key in (old["id"], new)]
        found = parts_of(transaction, [manifest["id"]])
    assert counts == [3, None]
    assert [row["id"] for row in found[manifest["id"]]] == [old["id"]]
    [event] = events(ledger, "file.parts_read")
    assert event["detail"]["parts"] == [LINES._asdict()]
