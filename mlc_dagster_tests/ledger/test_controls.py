"""The auditor's questions: control totals that notice what is missing, and further attempts that lack their proof."""

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import controls, invoices, schema
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.states import CREATED_STATES, InvoiceState
from mlc_dagster.ledger.submissions import Phase
from mlc_dagster_tests.ledger.attempts import again, end
from mlc_dagster_tests.ledger.population import (
    FEED,
    WINDOW,
    HandClock,
    add_file,
    add_invoice,
    appearance,
    intend,
    sent_invoice,
)

HUGE = 2**53 + 1


@pytest.fixture
def read_file(ledger: Ledger) -> int:
    """A file of two invoices with two rows each and one quarantined row, as the reader counted it."""
    with ledger.transaction() as transaction:
        file = add_file(transaction)
        invoices.insert_new(
            transaction, file, [appearance(amount_minor=HUGE), appearance(currency="JPY", amount_minor=7)]
        )
        row: dict[str, Any] = {"line": 9, "raw": b"x", "reason": "ROW_MALFORMED", "text": "line 9"}
        invoices.quarantine(transaction, file, [row])
        invoices.file_was_read(
            transaction, file, rows_total=5, rows_in_invoices=4, rows_quarantined=1, invoices=2,
            amounts_minor={"USD": HUGE, "JPY": 7},
        )  # fmt: skip
    return int(file["id"])


def faults(ledger: Ledger) -> tuple[str, ...]:
    with ledger.reading() as reading:
        [found] = controls.file_controls(reading, FEED, WINDOW)
    return found.faults


def spoil(ledger: Ledger, statement: sa.Executable) -> None:
    with ledger.transaction() as transaction:
        transaction.execute(statement)


def test_a_file_whose_rows_are_all_there_adds_up(ledger: Ledger, read_file: int) -> None:
    """Rows in the file = rows in invoices + rows quarantined; amounts to the last unit."""
    assert faults(ledger) == ()


def test_a_lost_invoice_shows_in_count_rows_and_money(ledger: Ledger, read_file: int) -> None:
    """Three independent witnesses, in the auditor's words."""
    o = schema.invoice_occurrence
    spoil(ledger, sa.delete(o).where(o.c.currency == "JPY"))
    assert faults(ledger) == (
        "rows in invoices: the reader counted 4, the ledger holds 2",
        "invoices: the reader counted 2, the ledger holds 1",
        "JPY: the reader added up 7 minor units, the ledger holds 0",
    )


def test_a_lost_quarantined_row_shows(ledger: Ledger, read_file: int) -> None:
    """What could not be read is part of what was received."""
    spoil(ledger, sa.delete(schema.quarantined_row))
    assert faults(ledger) == ("rows quarantined: the reader counted 1, the ledger holds 0",)


def test_an_amount_that_changed_by_one_unit_shows(ledger: Ledger, read_file: int) -> None:
    """Where a float would see nothing."""
    o = schema.invoice_occurrence
    spoil(ledger, sa.update(o).where(o.c.currency == "USD").values(amount_minor=HUGE - 1))
    assert faults(ledger) == (f"USD: the reader added up {HUGE} minor units, the ledger holds {HUGE - 1}",)


def test_rows_that_went_nowhere_show(ledger: Ledger, read_file: int) -> None:
    """The reader's own counts must add up too."""
    spoil(ledger, sa.update(schema.source_file).values(rows_total=6))
    assert faults(ledger) == ("6 rows in the file, 4 in invoices and 1 quarantined",)


def test_a_file_not_read_yet_is_no_fault(ledger: Ledger) -> None:
    """It has no counts to compare."""
    with ledger.transaction() as transaction:
        add_file(transaction)
    with ledger.reading() as reading:
        assert controls.file_controls(reading, FEED) == []


def reposts(ledger: Ledger) -> list[controls.Repost]:
    with ledger.reading() as reading:
        return controls.reposts(reading, WINDOW)


def test_a_first_attempt_needs_no_proof_of_an_earlier_one(ledger: Ledger) -> None:
    """Ten thousand ordinary invoices make an empty list."""
    _, intent = sent_invoice(ledger)
    end(ledger, "mark_created", intent)
    assert reposts(ledger) == []


def test_a_further_attempt_after_two_proofs_is_in_order(ledger: Ledger, clock: HandClock) -> None:
    """It is listed, with its proof."""
    _, intent = sent_invoice(ledger)
    end(ledger, "mark_unknown", intent)
    for seconds in (360, 180):
        clock.advance(seconds)
        end(ledger, "mark_absent_once", intent)
    again(ledger, intent, Phase.ABSENT)
    [found] = reposts(ledger)
    assert (found.attempt, found.after, found.absences, found.fault) == (2, "ABSENT", 2, None)


@pytest.mark.parametrize(("proofs", "ended_as"), [(0, Phase.ABSENT), (1, Phase.ABSENT), (0, Phase.REFUSED)])
def test_a_further_attempt_with_too_few_proofs_is_a_fault(
    ledger: Ledger, clock: HandClock, proofs: int, ended_as: Phase
) -> None:
    """A blind re-send is how an invoice is paid twice; it must show even if nothing came of it."""
    _, intent = sent_invoice(ledger)
    end(ledger, "mark_unknown", intent)
    for _ in range(proofs):
        clock.advance(360)
        end(ledger, "mark_absent_once", intent)
    again(ledger, intent, ended_as)
    [found] = reposts(ledger)
    assert found.fault is not None
    assert f"{proofs} of" in found.fault


def test_a_further_attempt_after_a_release_is_in_order(ledger: Ledger) -> None:
    """Nothing of the first was sent."""
    key, intent = sent_invoice(ledger)
    end(ledger, "release", intent)
    with ledger.transaction() as transaction:
        intend(transaction, key)
    assert [found.fault for found in reposts(ledger)] == [None]


def test_two_invoices_in_fusion_are_a_fault(ledger: Ledger) -> None:
    """The worst case is told plainly."""
    _, first = sent_invoice(ledger)
    end(ledger, "mark_unknown", first)
    second = again(ledger, first, Phase.ABSENT)
    assert second is not None
    end(ledger, "mark_created", first, fusion_invoice_id=1)
    end(ledger, "mark_created", second, fusion_invoice_id=2)
    assert "two attempts were stored in Fusion" in [found.fault for found in reposts(ledger)]


def test_created_invoices_are_those_with_evidence(ledger: Ledger) -> None:
    """Fusion's side of a reconciliation; missing and voided ones belong to it."""
    with ledger.transaction() as transaction:
        keys = {state: add_invoice(transaction, state) for state in InvoiceState}
        add_invoice(transaction, InvoiceState.CREATED, start=WINDOW + dt.timedelta(hours=1))
    with ledger.reading() as reading:
        found = [row["id"] for row in controls.created_invoices(reading, WINDOW)]
    assert found == [keys[state] for state in InvoiceState if state in CREATED_STATES]
