"""Control numbers: no gaps, no reuse, whoever else is counting at the same moment."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import control_numbers
from mlc_dagster.ledger.control_numbers import LARGEST, NumbersMoved, number_of
from mlc_dagster.ledger.database import Ledger, LedgerError
from mlc_dagster.ledger.schema_outbound import control_number
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.ledger.exporting import commit, new_file, open_feed
from mlc_dagster_tests.ledger.population import events, race

PARTNER = "ZZ:US>ZZ:THEM/P"


@pytest.fixture
def file_id(ledger: Ledger) -> int:
    [key] = commit(ledger, open_feed(ledger), new_file(1))
    return key


def take(ledger: Ledger, file_id: int, expected: list[int], level: str = "group", partner: str = PARTNER) -> None:
    with ledger.transaction() as transaction:
        control_numbers.take(transaction, partner, level, expected, file_id)


def peek(ledger: Ledger, count: int = 1, level: str = "group", partner: str = PARTNER) -> list[int]:
    with ledger.reading() as reading:
        return control_numbers.peek(reading, partner, level, count)


def gaps(ledger: Ledger) -> list[str]:
    with ledger.reading() as reading:
        return control_numbers.gaps(reading)


def test_looking_takes_nothing(ledger: Ledger, file_id: int) -> None:
    """A build that fails after looking leaves no hole."""
    assert peek(ledger, 2) == [1, 2]
    assert peek(ledger, 2) == [1, 2]
    take(ledger, file_id, [1, 2])
    assert peek(ledger, 2) == [3, 4]


def test_each_partner_and_level_counts_for_itself(ledger: Ledger, file_id: int) -> None:
    """Test and production, interchanges and groups."""
    take(ledger, file_id, [1, 2, 3])
    assert peek(ledger, level="interchange") == [1]
    assert peek(ledger, partner="ZZ:US>ZZ:THEM/T") == [1]


def test_numbers_that_somebody_took_meanwhile_are_refused(ledger: Ledger, file_id: int) -> None:
    """The bytes carry them already: they must be assembled again, not sent twice."""
    expected = peek(ledger, 2)
    take(ledger, file_id, [1])
    with pytest.raises(NumbersMoved) as moved:
        take(ledger, file_id, expected)
    assert (moved.value.expected, moved.value.found) == ((1, 2), (2, 3))
    assert peek(ledger) == [2]


def test_after_the_largest_number_comes_one(ledger: Ledger, file_id: int) -> None:
    """ISA13 has nine digits; zero is not used."""
    assert [number_of(serial) for serial in (1, LARGEST, LARGEST + 1, 2 * LARGEST + 1)] == [1, LARGEST, 1, 1]
    with ledger.transaction() as transaction:
        control_numbers.jump(transaction, PARTNER, "group", LARGEST - 1, BOTH)
    assert peek(ledger, 3) == [LARGEST, 1, 2]
    take(ledger, file_id, [LARGEST, 1, 2])
    assert peek(ledger) == [3]
    assert gaps(ledger) == []


def test_void_numbers_are_accounted_for_and_not_used_again(ledger: Ledger, file_id: int) -> None:
    """A partner may have seen them."""
    take(ledger, file_id, [1, 2])
    with ledger.transaction() as transaction:
        control_numbers.void(transaction, file_id, "abandoned")
    assert gaps(ledger) == []
    assert peek(ledger) == [3]
    with ledger.reading() as reading:
        assert {row["reason"] for row in control_numbers.numbers_of(reading, file_id)} == {"abandoned"}


def test_jumped_numbers_are_accounted_for(ledger: Ledger, file_id: int) -> None:
    """The ledger was restored from yesterday: what was used since is left out, with a reason."""
    take(ledger, file_id, [1])
    with ledger.transaction() as transaction:
        control_numbers.jump(transaction, PARTNER, "group", 100, BOTH)
    assert peek(ledger) == [102]
    take(ledger, file_id, [102])
    assert gaps(ledger) == []


@pytest.mark.parametrize("count", [0, -3])
def test_a_jump_goes_forward(ledger: Ledger, count: int) -> None:
    """Backwards would use numbers twice."""
    with ledger.transaction() as transaction, pytest.raises(LedgerError):
        control_numbers.jump(transaction, PARTNER, "group", count, BOTH)
    assert peek(ledger) == [1]


def test_a_jump_tells_who_why_before_and_after(ledger: Ledger, file_id: int) -> None:
    """Numbers that no file has are what a partner's auditor asks about."""
    take(ledger, file_id, [1])
    with ledger.transaction() as transaction:
        control_numbers.jump(transaction, PARTNER, "group", 100, BOTH)
    [event] = events(ledger, "control_number.jumped", f"partner:{PARTNER}")
    assert event["detail"] == {
        **BOTH.said,
        "before": {"last": 1},
        "after": {"last": 101},
        "level": "group",
        "left_out": 100,
    }


def test_a_lost_number_is_named(ledger: Ledger, file_id: int) -> None:
    """Rows that somebody deleted: at the beginning, in the middle."""
    take(ledger, file_id, [1, 2, 3, 4, 5])
    with ledger.transaction() as transaction:
        transaction.execute(sa.delete(control_number).where(control_number.c.serial.in_([1, 3, 4])))
    assert gaps(ledger) == [
        f"{PARTNER} (group): number 1 is not in the ledger, and 2 is",
        f"{PARTNER} (group): numbers 3 to 4 are not in the ledger, and 5 is",
    ]
    with ledger.reading() as reading:
        assert control_numbers.gaps(reading, "another") == []


def count_up(ledger: Ledger, file_id: int, times: int) -> int:
    """Take a number ``times`` times, looking again whenever it moved; how often it moved."""
    moved = 0
    for _ in range(times):
        while True:
            expected = peek(ledger, 2)
            try:
                take(ledger, file_id, expected)
                break
            except NumbersMoved:
                moved += 1
    return moved


def test_threads_that_count_at_once_leave_no_hole(ledger: Ledger, file_id: int) -> None:
    """Two feeds of one partner are built in the same second."""
    race([lambda: count_up(ledger, file_id, 10)] * 4)
    assert peek(ledger) == [81]
    assert gaps(ledger) == []


def test_processes_that_count_at_once_leave_no_hole(ledger: Ledger, file_id: int, prepared_url: str) -> None:
    """Nothing of the counting lives in memory: each process opens the ledger by its address."""
    program = dedent("""
        import sys
        from mlc_dagster.ledger.database import open_ledger
        from mlc_dagster_tests.ledger.test_control_numbers import count_up
        ledger = open_ledger(sys.argv[1])
        print("ready", flush=True)
        sys.stdin.readline()
        count_up(ledger, int(sys.argv[2]), 15)
    """)
    counting = [
        subprocess.Popen(
            [sys.executable, "-c", program, prepared_url, str(file_id)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in counting:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    with ThreadPoolExecutor(len(counting)) as pool:
        list(pool.map(lambda process: process.communicate("go\n", timeout=60), counting))
    assert [process.returncode for process in counting] == [0, 0]
    assert peek(ledger) == [61]
    assert gaps(ledger) == []
