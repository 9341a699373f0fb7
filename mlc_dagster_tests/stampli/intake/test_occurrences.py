"""Which of two appearances is newer, where only the files' names tell; and which of those that waited are decided."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.ledger.states import InvoiceState, OccurrenceOutcome
from mlc_dagster.stampli.intake.occurrences import Version, decide_waiting, is_newer, sequence_order
from mlc_dagster.stampli.parsing.profile import load_profile
from mlc_dagster_tests.ledger.population import add_file, add_invoice, add_occurrence, sent_invoice
from mlc_dagster_tests.servers.ledgers import new_file


def version(sequence: str | None, path: str) -> Version:
    return Version(f"digest of {path}", 1, None, path, 1, sequence)


@pytest.mark.parametrize(
    ("sequence", "other", "expected"),
    [
        ("10", "9", True),
        ("9", "10", False),
        ("0010", "9", True),
        ("b", "a", True),
        ("b", "aa", True),
        ("a1", "10", True),
        ("09", "9", None),
        ("0", "00", None),
        (None, "9", None),
    ],
)
def test_sequences_are_ordered_as_numbers_where_they_are_numbers(
    sequence: str | None, other: str | None, expected: bool | None
) -> None:
    """The tenth file of a day comes after the ninth, padded or not; one number written in two ways says nothing."""
    assert is_newer(version(sequence, "a"), version(other, "b")) is expected


def test_one_order_holds_for_numbers_and_other_text_together() -> None:
    """Compared by pairs, 9 before 10, 10 before 1a and 1a before 9 would have no first one."""
    assert sorted(["1a", "10", None, "9", "009b"], key=sequence_order) == [None, "9", "10", "009b", "1a"]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger of one poll window."""
    opened = open_ledger(new_file(tmp_path / "ledger.sqlite"), actor="test")
    yield opened
    opened.close()


def decide(ledger: Ledger) -> int:
    with ledger.transaction() as transaction:
        return decide_waiting(transaction, load_profile("stampli_lines_v1"))


def test_what_cannot_be_decided_is_not_counted(ledger: Ledger) -> None:
    """A run that says that it decided on something, again and again, sends people looking for nothing."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.PARKED, reason="SUBMIT_UNKNOWN")
        add_occurrence(transaction, add_file(transaction), key, OccurrenceOutcome.WAITING, revision=2)
    assert decide(ledger) == 0


def test_of_what_was_abandoned_as_unknown_one_revision_is_decided_at_a_time(ledger: Ledger) -> None:
    """The first takes its place, and is held for two people; until they decide, the next one waits uncounted."""
    key, intent = sent_invoice(ledger)
    with ledger.transaction() as transaction:
        attempt = schema.submission.c.id == intent.submission_id
        given_up = {"phase": "UNKNOWN", "ended_at": transaction.now}
        transaction.execute(sa.update(schema.submission).where(attempt).values(**given_up))
        transaction.execute(sa.update(schema.invoice).values(state="REJECTED", reason="ABANDONED"))
        for revision in (2, 3):
            file = add_file(transaction)
            add_occurrence(transaction, file, key, OccurrenceOutcome.WAITING, revision=revision, readable=False)
    assert [decide(ledger), decide(ledger)] == [1, 0]
    with ledger.reading() as reading:
        found = reading.rows(sa.select(schema.invoice_occurrence.c.outcome).order_by(schema.invoice_occurrence.c.id))
    assert [row["outcome"] for row in found] == ["SUPERSEDED", "CURRENT", "WAITING"]
