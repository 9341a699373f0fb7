"""Documents that cannot be read: remembered by source and id until they are read or gone, each step on record."""

from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.database import Ledger, Row
from mlc_dagster.ledger.schema import audit_event
from mlc_dagster.ledger.unreadable import Ending, note_unreadable, settle, unreadable_documents
from mlc_dagster_tests.ledger.population import HandClock


def note(ledger: Ledger, source: str, found: dict[int, str]) -> None:
    with ledger.transaction() as transaction:
        note_unreadable(transaction, source, found)


def end(ledger: Ledger, source: str, ids: list[int], ending: Ending = Ending.READ) -> None:
    with ledger.transaction() as transaction:
        settle(transaction, source, ids, ending)


def still(ledger: Ledger, source: str | None = None) -> list[Row]:
    with ledger.reading() as reading:
        return unreadable_documents(reading, source)


def on_record(ledger: Ledger) -> list[tuple[str, str, dict[str, Any]]]:
    with ledger.reading() as reading:
        rows = reading.rows(
            sa.select(audit_event).where(audit_event.c.kind.like("document.%")).order_by(audit_event.c.id)
        )
    return [(row["kind"], row["subject"], row["detail"]) for row in rows]


def test_attempts_are_counted_from_the_first(ledger: Ledger, clock: HandClock) -> None:
    """Since when, and how often, tells a passing edit from a broken document."""
    note(ledger, "journals", {7: "odd"})
    [first] = still(ledger)
    clock.advance(900)
    note(ledger, "journals", {7: "odd"})
    [again] = still(ledger)
    assert (again["attempts"], again["first_seen"]) == (2, first["first_seen"])
    assert again["last_seen"] > first["last_seen"]


def test_the_audit_trail_says_what_is_new_and_no_more(ledger: Ledger) -> None:
    """One event per poll would bury the others."""
    for text in ("odd", "odd", "even"):
        note(ledger, "journals", {7: text})
    end(ledger, "journals", [7, 8])
    subject = "document:journals/7"
    assert on_record(ledger) == [
        ("document.unreadable", subject, {"text": "odd"}),
        ("document.unreadable", subject, {"text": "even"}),
        ("document.settled", subject, {"ending": "READ"}),
    ]


def test_sources_are_kept_apart(ledger: Ledger) -> None:
    """An invoice may have a batch's number."""
    note(ledger, "journals", {7: "odd"})
    note(ledger, "invoices", {7: "odd"})
    end(ledger, "invoices", [7], Ending.GONE)
    assert [row["source"] for row in still(ledger)] == ["journals"]
    assert still(ledger, "invoices") == []


def test_one_that_breaks_again_begins_anew(ledger: Ledger, clock: HandClock) -> None:
    """What was cured in between is another trouble, and its age its own."""
    note(ledger, "journals", {7: "odd"})
    end(ledger, "journals", [7])
    clock.advance(900)
    note(ledger, "journals", {7: "odd"})
    [row] = still(ledger)
    assert (row["attempts"], row["ending"]) == (1, None)
    assert row["first_seen"] == row["last_seen"]


def test_many_at_once_are_kept(ledger: Ledger) -> None:
    """A release of Fusion's may break a thousand of them in one night."""
    note(ledger, "journals", dict.fromkeys(range(1, 1202), "odd"))
    end(ledger, "journals", list(range(2, 1202)))
    assert [row["fusion_id"] for row in still(ledger)] == [1]
