"""Files that are done with: which ones still lie on the partner's server, and what is noted when one is gone."""

import sqlalchemy as sa

from mlc_dagster.ledger import disposal
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.files import FileState
from mlc_dagster.ledger.schema import source_file
from mlc_dagster_tests.ledger.population import FEED, WINDOW, add_file, events, file_row


def test_disposal_is_noted_and_audited_once(ledger: Ledger) -> None:
    """Deleting a partner's file is the one thing we do to the folder; two runs may come upon the same one."""
    with ledger.transaction() as transaction:
        row = add_file(transaction)
        disposal.disposed(transaction, row, "deleted")
        disposal.disposed(transaction, row, "gone")
        assert file_row(transaction, row["id"])["disposed_at"] == WINDOW
    [event] = events(ledger, "file.disposed")
    assert event["detail"]["how"] == "deleted"


def test_the_oldest_that_are_done_with_come_first(ledger: Ledger) -> None:
    """Whatever their window; a file that is still to be read, or was never hashed, is not among them."""
    with ledger.transaction() as transaction:
        made = [add_file(transaction, path=f"/outbound/{number}.csv") for number in range(6)]
        states = ["READ", "RECEIVED", "SAME_BYTES", "REJECTED", "READ", "REJECTED"]
        for row, state in zip(made, states, strict=True):
            hashed = None if row is made[5] else "ab" * 32
            statement = sa.update(source_file).where(source_file.c.id == row["id"])
            transaction.execute(statement.values(state=str(FileState(state)), sha256=hashed))
        keys = [row["id"] for row in made]
        found = disposal.undisposed_files(transaction, FEED, limit=3)
        assert [row["id"] for row in found] == [keys[0], keys[2], keys[3]]
        assert disposal.count_undisposed(transaction, FEED) == 4
        disposal.disposed(transaction, made[0], "gone")
        assert disposal.count_undisposed(transaction, FEED) == 3
        assert disposal.undisposed_files(transaction, "another", limit=3) == []
