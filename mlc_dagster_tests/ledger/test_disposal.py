"""Files that are done with: which ones still lie on the partner's server, and what is noted when one is gone."""

import datetime as dt
import os

import sqlalchemy as sa

from mlc_dagster.ledger import disposal
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.disposal import DisposalState, Failing
from mlc_dagster.ledger.files import FileState, known_files
from mlc_dagster.ledger.process import process_name
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


LEASE = dt.timedelta(minutes=5)
OURS = f"{process_name(os.getpid())}|ours"
THEIRS = "another-host|boot/ns|1|1|theirs"


def test_one_process_at_a_time_puts_files_away(ledger: Ledger) -> None:
    """Of another host's process nothing is certain: its lease is waited for."""
    with ledger.transaction() as transaction:
        assert disposal.take_turn(transaction, FEED, THEIRS, LEASE) == WINDOW + LEASE
        assert disposal.take_turn(transaction, FEED, OURS, LEASE) is None
        assert disposal.take_turn(transaction, "another", OURS, LEASE) is not None
        disposal.end_turn(transaction, FEED, THEIRS, tried=[], failed={})
        assert disposal.take_turn(transaction, FEED, OURS, LEASE) is not None


def test_a_turn_that_was_taken_over_is_not_ended_by_its_first_owner(ledger: Ledger) -> None:
    """It overslept its lease; whoever has the turn now keeps it. What it found out is noted all the same."""
    with ledger.transaction() as transaction:
        disposal.take_turn(transaction, FEED, THEIRS, dt.timedelta())
        assert disposal.take_turn(transaction, FEED, OURS, LEASE) is not None
        disposal.end_turn(transaction, FEED, THEIRS, tried=[7], failed={7: "no"})
        state = disposal.disposal_state(transaction, FEED)
    assert (state.owner, state.failing) == (OURS, {7: Failing(WINDOW, "no")})


def test_since_when_a_file_fails_is_kept_until_it_is_put_away(ledger: Ledger) -> None:
    """Attempts come every quarter of an hour; the day after which people are told begins with the first."""
    first, later = WINDOW - dt.timedelta(hours=3), WINDOW
    with ledger.transaction() as transaction:
        transaction.insert_ignoring(
            disposal.ledger_setting,
            {
                "name": f"disposal/{FEED}",
                "value": f'{{"failing":{{"1":{{"since":"{first.isoformat()}","text":"a"}}}}}}',
            },
        )
        disposal.end_turn(transaction, FEED, OURS, tried=[1, 2], failed={1: "b", 2: "c"})
        state = disposal.disposal_state(transaction, FEED)
        assert state.failing == {1: Failing(first, "b"), 2: Failing(later, "c")}
        assert state.failed_at == WINDOW
        disposal.end_turn(transaction, FEED, OURS, tried=[3], failed={})
        assert disposal.disposal_state(transaction, FEED) == state
        disposal.end_turn(transaction, FEED, OURS, tried=[1], failed={})
        state = disposal.disposal_state(transaction, FEED)
        assert (state.failed_at, list(state.failing)) == (None, [2])
        disposal.end_turn(transaction, FEED, OURS, tried=[2], failed={})
        assert disposal.disposal_state(transaction, FEED) == DisposalState()


def test_a_file_with_other_bytes_of_the_same_look_is_new_to_the_next_poll(ledger: Ledger) -> None:
    """Only files of that very identity: others are not hashed again for it."""
    with ledger.transaction() as transaction:
        row = add_file(transaction)
        other = add_file(transaction, path="/outbound/other.csv")
        transaction.execute(sa.update(source_file).values(state="READ"))
        disposal.hash_again(transaction, row, "cd" * 32)
        assert known_files(transaction, FEED) == {(other["path"], other["size"], other["mtime"])}
    [event] = events(ledger, "file.other_bytes")
    assert event["detail"]["found"] == "cd" * 32
