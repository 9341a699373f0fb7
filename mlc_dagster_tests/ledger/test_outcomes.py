"""What became of files, as people see it, and what is new trouble."""

import datetime as dt

import sqlalchemy as sa

from mlc_dagster.ledger import files, invoices, outcomes, schema
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.files import FileState
from mlc_dagster.ledger.outcomes import NewTrouble
from mlc_dagster.ledger.states import InvoiceState, OccurrenceOutcome
from mlc_dagster_tests.ledger.attempts import end
from mlc_dagster_tests.ledger.population import (
    WINDOW,
    HandClock,
    add_file,
    add_invoice,
    add_occurrence,
    file_row,
    sent_invoice,
)

LATER = WINDOW + dt.timedelta(minutes=1)


def test_a_file_shows_what_became_of_its_invoices(ledger: Ledger) -> None:
    """One line per file: by bucket, with the reasons of what a person must look at."""
    with ledger.transaction() as transaction:
        file, other = add_file(transaction), add_file(transaction)
        created = add_invoice(transaction, InvoiceState.CREATED, file=file)
        add_invoice(transaction, InvoiceState.PARKED, file=file, reason="VENDOR_UNKNOWN")
        add_invoice(transaction, InvoiceState.PARKED, file=file, reason="VENDOR_UNKNOWN")
        add_occurrence(transaction, other, created, OccurrenceOutcome.DUPLICATE)
    with ledger.reading() as reading:
        one, two = outcomes.file_outcomes(reading, [file_row(reading, file["id"]), file_row(reading, other["id"])])
    assert (dict(one.buckets), dict(one.why)) == ({"created": 1, "parked": 2}, {"VENDOR_UNKNOWN": 2})
    assert (dict(two.buckets), dict(two.why)) == ({"duplicate": 1}, {})


def test_posted_since_counts_what_this_run_created(ledger: Ledger, clock: HandClock) -> None:
    """Neither what was created before nor what was only sent."""
    _, before = sent_invoice(ledger)
    end(ledger, "mark_created", before)
    clock.now = LATER
    _, now = sent_invoice(ledger)
    end(ledger, "mark_created", now)
    sent_invoice(ledger)
    with ledger.reading() as reading:
        assert outcomes.posted_since(reading, LATER, [WINDOW]) == (1, {"USD": 12345})
        assert outcomes.posted_since(reading, WINDOW, [WINDOW]) == (2, {"USD": 24690})
        assert outcomes.posted_since(reading, WINDOW, [LATER]) == (0, {})


def test_parked_in_window_says_where_each_stands(ledger: Ledger) -> None:
    """File and rows: the specialist looks there first."""
    with ledger.transaction() as transaction:
        file = add_file(transaction, "/outbound/a.csv")
        key = add_invoice(transaction, InvoiceState.PARKED, file=file, reason="TOTAL")
        add_invoice(transaction, InvoiceState.VALIDATED, file=file)
    with ledger.reading() as reading:
        [row] = outcomes.parked_in_window(reading, WINDOW)
    assert (row["id"], row["reason"], row["file_path"], row["file_rows"]) == (key, "TOTAL", "/outbound/a.csv", [2, 3])


def test_nothing_new_is_no_trouble(ledger: Ledger) -> None:
    """An alert for what was known yesterday teaches people to look away."""
    with ledger.transaction() as transaction:
        add_invoice(transaction, InvoiceState.PARKED, reason="TOTAL", parked_at=WINDOW)
    with ledger.reading() as reading:
        found = outcomes.trouble_since(reading, LATER)
    assert found == NewTrouble()
    assert not found.any


def test_new_trouble_is_counted_by_kind(ledger: Ledger, clock: HandClock) -> None:
    """Parked invoices and revisions, unknown outcomes, rejected files, quarantined rows."""
    clock.now = LATER
    with ledger.transaction() as transaction:
        add_invoice(transaction, InvoiceState.PARKED, reason="TOTAL", parked_at=LATER)
        created = add_invoice(transaction, InvoiceState.CREATED)
        file = add_file(transaction)
        add_occurrence(transaction, file, created, OccurrenceOutcome.PARKED)
        invoices.file_was_read(
            transaction, file, rows_total=5, rows_in_invoices=2, rows_quarantined=3, invoices=1, amounts_minor={}
        )
        add_invoice(transaction, InvoiceState.UNKNOWN)
        files.set_file_state(transaction, add_file(transaction), FileState.REJECTED, "FILE_SCHEMA")
    with ledger.reading() as reading:
        found = outcomes.trouble_since(reading, LATER)
        assert reading.value(sa.select(sa.func.count()).select_from(schema.source_file)) > 1
    assert found == NewTrouble(parked=2, unknown=1, rejected_files=1, quarantined_rows=3)
    assert found.any
