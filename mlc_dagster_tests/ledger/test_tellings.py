"""When people are told: each cause once, again after a day, another one at once."""

import pytest

from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.tellings import AGAIN_AFTER, cause_of, is_news, note_told, notice
from mlc_dagster_tests.ledger.population import HandClock

FILE = "export:7"


def news(ledger: Ledger, subject: str, cause: str) -> bool:
    with ledger.reading() as reading:
        return is_news(reading, subject, cause)


@pytest.fixture
def told(ledger: Ledger) -> Ledger:
    """Somebody heard that file 7 waits because the server is away."""
    with ledger.transaction() as transaction:
        note_told(transaction, FILE, "STOPPED Unreachable", title="A.csv waits")
    return ledger


def test_the_same_is_no_news(told: Ledger) -> None:
    """Every run finds it again; people have heard of it."""
    assert not news(told, FILE, "STOPPED Unreachable")


def test_another_cause_or_another_subject_is(told: Ledger) -> None:
    """What was told of one file says nothing of the next."""
    assert news(told, FILE, "STOPPED LoginRefused")
    assert news(told, "export:8", "STOPPED Unreachable")


def test_after_a_day_it_is_news_again(told: Ledger, clock: HandClock) -> None:
    """And once it was told again, not before the next day."""
    clock.advance(AGAIN_AFTER.total_seconds() - 1)
    assert not news(told, FILE, "STOPPED Unreachable")
    clock.advance(1)
    assert news(told, FILE, "STOPPED Unreachable")
    with told.transaction() as transaction:
        note_told(transaction, FILE, "STOPPED Unreachable", title="A.csv waits")
    assert not news(told, FILE, "STOPPED Unreachable")


def test_two_causes_in_turn_are_two_tellings_a_day(told: Ledger) -> None:
    """A server that is now away and now full would otherwise be told at every run."""
    with told.transaction() as transaction:
        note_told(transaction, FILE, "STOPPED ServerRefused", title="A.csv waits")
    assert not news(told, FILE, "STOPPED Unreachable")


def test_what_differs_between_attempts_is_no_part_of_a_cause() -> None:
    """Temporary names, sizes and times change with every attempt; the trouble does not."""
    first = cause_of("'/in/.A.csv.1f3a99c2.part': sent 128000 bytes, but the server\n holds 65536 bytes")
    assert first == cause_of("'/in/.A.csv.00ab12ff.part': sent 128000 bytes, but the server holds 32768 bytes")
    assert first != cause_of("'/in/.A.csv.00ab12ff.part': the server does not rename")


def test_what_was_noticed_was_told_nobody(ledger: Ledger, clock: HandClock) -> None:
    """A line in a log is no telling: the alert that could not be sent must be sent the next time."""

    def seen() -> bool:
        with ledger.transaction() as transaction:
            return notice(transaction, FILE, "waits for its marker")

    assert [seen(), seen()] == [True, False]
    assert news(ledger, FILE, "waits for its marker")
    clock.advance(AGAIN_AFTER.total_seconds())
    assert seen()
