"""Control numbers that a restored ledger learns of again: each in its own file, none used twice, holes explained."""

import pytest

from mlc_dagster.ledger import control_numbers
from mlc_dagster.ledger.database import Ledger, LedgerError
from mlc_dagster_tests.ledger.exporting import commit, new_file, open_feed

PARTNER = "ZZ:US>ZZ:THEM/P"


@pytest.fixture
def keys(ledger: Ledger) -> list[int]:
    """Three files, whose numbers are not known yet."""
    return commit(ledger, open_feed(ledger), *(new_file(number) for number in (1, 2, 3)))


def take(ledger: Ledger, serials: list[int], file_id: int, *, void_for: str | None = None) -> None:
    with ledger.transaction() as transaction:
        control_numbers.take_again(transaction, PARTNER, "group", serials, file_id, void_for=void_for)


def following(ledger: Ledger) -> list[int]:
    with ledger.reading() as reading:
        return control_numbers.peek(reading, PARTNER, "group", 1)


def test_the_next_number_comes_after_them(ledger: Ledger, keys: list[int]) -> None:
    """A partner refuses a number that it has seen."""
    take(ledger, [1, 2], keys[0])
    take(ledger, [3], keys[1])
    assert following(ledger) == [4]


def test_entered_twice_they_are_the_same(ledger: Ledger, keys: list[int]) -> None:
    """After a fault it is done again from the start."""
    take(ledger, [1], keys[0])
    take(ledger, [1], keys[0])
    assert following(ledger) == [2]


def test_one_that_was_used_since_is_refused(ledger: Ledger, keys: list[int]) -> None:
    """Two files with one number: only the partner knows which it has."""
    take(ledger, [1], keys[0])
    with pytest.raises(LedgerError, match="ask the partner"):
        take(ledger, [1], keys[1])


def test_holes_are_explained(ledger: Ledger, keys: list[int]) -> None:
    """Files that were lost unsent had numbers too; an auditor asks for every one."""
    take(ledger, [2], keys[0])
    take(ledger, [5], keys[1])
    with ledger.transaction() as transaction:
        assert control_numbers.leave_out_missing(transaction, PARTNER, "lost unsent") == 3
    with ledger.reading() as reading:
        assert control_numbers.gaps(reading, PARTNER) == []
    assert following(ledger) == [6]


def test_a_hole_may_turn_out_to_be_a_file(ledger: Ledger, keys: list[int]) -> None:
    """Another feed of the partner is told of its own files later."""
    take(ledger, [2], keys[0])
    with ledger.transaction() as transaction:
        control_numbers.leave_out_missing(transaction, PARTNER, "lost unsent")
    take(ledger, [1], keys[1])
    with ledger.reading() as reading:
        assert control_numbers.gaps(reading, PARTNER) == []
        assert [row["state"] for row in control_numbers.numbers_of(reading, keys[1])] == ["USED"]


def test_those_of_an_abandoned_file_are_void(ledger: Ledger, keys: list[int]) -> None:
    """They stand in a file that nobody got."""
    take(ledger, [1], keys[2], void_for="wrong layout")
    with ledger.reading() as reading:
        (row,) = control_numbers.numbers_of(reading, keys[2])
    assert (row["state"], row["reason"]) == ("VOID", "wrong layout")
