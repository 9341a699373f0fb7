"""Invoices and their appearances: registered once, found by their source, superseded with all that belongs to it."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import invoice_chunks, invoice_views, invoices, schema
from mlc_dagster.ledger.database import Ledger, Row
from mlc_dagster.ledger.states import InvoiceState, OccurrenceOutcome
from mlc_dagster.stampli.intake.occurrences import register
from mlc_dagster.stampli.parsing.profile import load_profile
from mlc_dagster_tests.ledger.population import (
    WINDOW,
    add_file,
    add_invoice,
    add_occurrence,
    appearance,
    events,
    intend,
    invoice_row,
    race,
)
from mlc_dagster_tests.ledger.test_claim_races import wait_until_blocked

LATER = WINDOW + dt.timedelta(minutes=15)


def outcomes(ledger: Ledger, key: int) -> list[str]:
    with ledger.reading() as reading:
        return [row["outcome"] for row in invoice_views.history(reading, key)["occurrences"]]


def test_a_first_appearance_makes_invoice_occurrence_and_event(ledger: Ledger) -> None:
    """All in one transaction: an invoice without its origin could not be explained."""
    a = appearance("S-1", approved_at=WINDOW, problems=({"reason": "X"},))
    with ledger.transaction() as transaction:
        file = add_file(transaction)
        invoices.insert_new(transaction, file, [a])
    with ledger.reading() as reading:
        found = reading.row(sa.select(schema.invoice))
        occurrence = reading.row(sa.select(schema.invoice_occurrence))
    assert found is not None
    assert occurrence is not None
    assert (found["state"], found["occurrence_id"], found["window_start"]) == ("RECEIVED", occurrence["id"], WINDOW)
    assert (occurrence["outcome"], occurrence["file_id"], occurrence["rows"]) == ("CURRENT", file["id"], [2, 3])
    [event] = events(ledger, "invoice.received")
    assert event["subject"] == f"invoice:{found['id']}"


def test_many_first_appearances_keep_their_own(ledger: Ledger) -> None:
    """They are inserted together; each invoice must get its own occurrence whatever order the database answers in."""
    with ledger.transaction() as transaction:
        file = add_file(transaction)
        invoices.insert_new(
            transaction, file, [appearance(f"S-{n}", digest=f"digest {n}", rows=(n,)) for n in range(1500)]
        )
    i, o = schema.invoice, schema.invoice_occurrence
    with ledger.reading() as reading:
        rows = reading.rows(
            sa.select(i.c.source_key, o.c.digest, o.c.rows).join(o, o.c.id == i.c.occurrence_id).order_by(i.c.id)
        )
    assert len(rows) == 1500
    assert all(row["digest"] == f"digest {row['source_key'][2:]}" for row in rows)
    assert len(events(ledger, "invoice.received")) == 1500


def test_by_source_finds_by_company_and_source_alone(ledger: Ledger) -> None:
    """Stampli's id is the identity; the same id of another company is another invoice."""
    with ledger.transaction() as transaction:
        file = add_file(transaction)
        invoices.insert_new(
            transaction, file, [appearance("S-1", company_id="A"), appearance("S-1", company_id="B", revision=7)]
        )
        found = invoices.by_source(transaction, [("B", "S-1"), ("C", "S-1"), ("B", "S-1")])
    assert list(found) == [("B", "S-1")]
    row = found[("B", "S-1")]
    assert (row["current_revision"], row["current_file_id"], row["current_path"]) == (7, file["id"], file["path"])


def test_by_source_finds_more_than_one_statement_can_hold(ledger: Ledger) -> None:
    """Databases limit the number of parameters; a large file must not meet that limit."""
    keys = [("C100", f"S-{n}") for n in range(1201)]
    with ledger.transaction() as transaction:
        invoices.insert_new(transaction, add_file(transaction), [appearance(source) for _, source in keys])
        assert set(invoices.by_source(transaction, keys)) == set(keys)


def test_files_with_the_same_invoices_in_another_order_do_not_lock_each_other_out(ledger: Ledger) -> None:
    """Two windows may read revisions of the same invoices at the same time."""
    keys = [("C100", f"S-{n}") for n in range(500)]
    with ledger.transaction() as transaction:
        invoices.insert_new(transaction, add_file(transaction), [appearance(source) for _, source in keys])

    def look(order: list[tuple[str, str]]) -> int:
        found = 0
        for _ in range(3):
            with ledger.transaction() as transaction:
                found += len(invoices.by_source(transaction, order))
        return found

    assert race([lambda: look(keys), lambda: look(keys[::-1])] * 2) == [1500] * 4


def test_an_invoice_superseded_while_it_is_waited_for_is_still_found(ledger: Ledger) -> None:
    """Two windows read revisions of one invoice: the second must see the first's, or it would enter a new invoice."""
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite's writers wait at their beginning; none can be in the middle")
    with ledger.transaction() as transaction:
        key = add_invoice(transaction)
        row = current(transaction.row(sa.select(schema.invoice).where(schema.invoice.c.id == key)))
    source = (row["company_id"], row["source_key"])

    def look() -> int:
        with ledger.transaction() as transaction:
            return int(invoices.by_source(transaction, [source])[source]["occurrence_id"])

    with ThreadPoolExecutor(1) as pool:
        with ledger.transaction() as transaction:
            before = invoices.by_source(transaction, [source])[source]
            waiting = pool.submit(look)
            wait_until_blocked(ledger)
            newer = add_occurrence(transaction, add_file(transaction), key, OccurrenceOutcome.STALE)
            invoices.make_current(transaction, before, newer, appearance(row["source_key"], revision=2))
        assert waiting.result(timeout=30) == newer


def test_two_files_bringing_the_same_new_invoice_at_once_enter_it_once(ledger: Ledger) -> None:
    """The second waits for the first, then knows the invoice; what only it has is entered beside."""
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite's writers wait at their beginning; none can be in the middle")
    profile = load_profile("stampli_lines_v1")
    with ledger.transaction() as transaction:
        first, second = add_file(transaction), add_file(transaction)
    unreadable = {"readable": False}

    def enter() -> dict[OccurrenceOutcome, int]:
        with ledger.transaction() as transaction:
            both = [appearance("S-2", **unreadable), appearance("S-1", **unreadable)]
            return register(transaction, second, both, profile)

    with ThreadPoolExecutor(1) as pool:
        with ledger.transaction() as transaction:
            register(transaction, first, [appearance("S-1", **unreadable)], profile)
            waiting = pool.submit(enter)
            wait_until_blocked(ledger)
        assert waiting.result(timeout=30) == {OccurrenceOutcome.CURRENT: 1, OccurrenceOutcome.DUPLICATE: 1}
    with ledger.reading() as reading:
        rows = reading.rows(sa.select(schema.invoice).order_by(schema.invoice.c.source_key))
    assert [outcomes(ledger, row["id"]) for row in rows] == [["CURRENT", "DUPLICATE"], ["CURRENT"]]


def test_a_further_appearance_is_registered_once_per_file(ledger: Ledger) -> None:
    """A file that is read again after a crash enters nothing twice."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction)
        file = add_file(transaction)
        add_occurrence(transaction, file, key, OccurrenceOutcome.DUPLICATE)
        again = invoices.add_occurrence(transaction, file, key, appearance(), OccurrenceOutcome.DUPLICATE, None)
    assert again is None
    assert outcomes(ledger, key) == ["CURRENT", "DUPLICATE"]
    assert len(events(ledger, "invoice.seen_again")) == 1


def supersede(ledger: Ledger, key: int, **changes: Any) -> int:
    with ledger.transaction() as transaction:
        row = current(transaction.row(sa.select(schema.invoice).where(schema.invoice.c.id == key)))
        file = add_file(transaction, start=LATER)
        newer = appearance(row["source_key"], **changes)
        occurrence = add_occurrence(transaction, file, key, OccurrenceOutcome.STALE)
        invoices.make_current(transaction, row, occurrence, newer)
        return occurrence


def current(row: Row | None) -> Row:
    assert row is not None
    return row


def test_a_newer_appearance_takes_the_place_of_the_one_before(ledger: Ledger) -> None:
    """With its number, its money and its window; the mapping of the old content is gone."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.VALIDATED, mapping="{}", released_reasons=["DUP_NORMALISED"])
    occurrence = supersede(ledger, key, number="NEW", amount_minor=2**60, revision=2)
    row = invoice_row(ledger, key)
    assert (row["state"], row["occurrence_id"], row["window_start"]) == ("RECEIVED", occurrence, LATER)
    assert (row["number"], row["amount_minor"]) == ("NEW", 2**60)
    assert (row["mapping"], row["released_reasons"]) == (None, None)
    assert outcomes(ledger, key) == ["SUPERSEDED", "CURRENT"]


def test_a_parked_invoice_is_cured_by_a_newer_appearance(ledger: Ledger) -> None:
    """Stampli sent it corrected: its old problem is no longer shown to anybody."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.PARKED, reason="TOTAL", problems=[{"reason": "TOTAL"}])
    supersede(ledger, key)
    row = invoice_row(ledger, key)
    assert (row["state"], row["reason"], row["problems"]) == ("RECEIVED", None, None)


def test_quarantined_rows_are_kept_once(ledger: Ledger) -> None:
    """Byte for byte, with their line; reading the file again adds nothing."""
    row: dict[str, Any] = {
        "line": 7,
        "raw": b"\xff,broken",
        "reason": "ROW_MALFORMED",
        "text": "line 7",
        "company_id": None,
        "source_id": None,
    }
    with ledger.transaction() as transaction:
        file = add_file(transaction)
        for _ in range(2):
            invoices.quarantine(transaction, file, [row])
    with ledger.reading() as reading:
        [kept] = reading.rows(sa.select(schema.quarantined_row))
    assert (kept["file_id"], kept["raw"]) == (file["id"], b"\xff,broken")
    assert len(events(ledger, "row.quarantined")) == 1


def test_window_invoices_come_in_portions_by_key(ledger: Ledger) -> None:
    """A window of any size is walked with bounded memory; nothing is skipped or seen twice."""
    with ledger.transaction() as transaction:
        file = add_file(transaction)
        keys = [add_invoice(transaction, file=file) for _ in range(7)]
        add_invoice(transaction, InvoiceState.CONFIRMED, file=file)
        add_invoice(transaction, start=LATER)
    found: list[int] = []
    with ledger.reading() as reading:
        while rows := invoice_chunks.window_invoices(
            reading, WINDOW, [InvoiceState.VALIDATED], after=found[-1] if found else 0, limit=3
        ):
            found += [row["id"] for row in rows]
    assert found == keys


def test_bare_rows_of_a_window_are_those_of_its_invoices(ledger: Ledger) -> None:
    """Whoever walks a window with a few columns must meet the same invoices in the same order."""
    with ledger.transaction() as transaction:
        keys = [add_invoice(transaction) for _ in range(5)]
        add_invoice(transaction, InvoiceState.CONFIRMED)
        add_invoice(transaction, start=LATER)
    states, columns = (InvoiceState.VALIDATED, InvoiceState.PARKED), ("id", "window_start", "problems", "created_at")
    with ledger.reading() as reading:
        whole = invoice_chunks.window_invoices(reading, WINDOW, states, after=keys[0], limit=3)
        bare = invoice_chunks.window_rows(reading, WINDOW, states, columns, after=keys[0], limit=3)
    assert [row["id"] for row in bare] == keys[1:4]
    assert bare == [{name: row[name] for name in columns} for row in whole]


def test_parked_invoices_are_found_by_their_reason(ledger: Ledger) -> None:
    """The probe for cures asks only for what it can cure, and not again for what is cured."""
    with ledger.transaction() as transaction:
        wanted = add_invoice(transaction, InvoiceState.PARKED, reason="VENDOR_UNKNOWN")
        add_invoice(transaction, InvoiceState.PARKED, reason="TOTAL")
        add_invoice(transaction, InvoiceState.PARKED, reason="VENDOR_UNKNOWN", cured_at=WINDOW)
    with ledger.reading() as reading:
        assert [row["id"] for row in invoices.parked_invoices(reading, ["VENDOR_UNKNOWN"])] == [wanted]


@pytest.mark.parametrize("state", [state for state in InvoiceState if state is not InvoiceState.PARKED])
def test_only_a_parked_invoice_can_be_cured(shared_ledger: Ledger, state: InvoiceState) -> None:
    """Another process was quicker: no mark, and no event of a cure that did not happen."""
    with shared_ledger.transaction() as transaction:
        key = add_invoice(transaction, state)
        invoices.mark_cured(transaction, key, {"by": "probe"})
    assert invoice_row(shared_ledger, key)["cured_at"] is None
    assert events(shared_ledger, "invoice.cured", f"invoice:{key}") == []


def test_waiting_appearances_are_given_when_the_outcome_is_known(ledger: Ledger) -> None:
    """Not before: what a revision means depends on whether the earlier one was created."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.UNKNOWN)
        occurrence = add_occurrence(transaction, add_file(transaction), key, OccurrenceOutcome.WAITING)
    with ledger.reading() as reading:
        assert invoices.waiting_occurrences(reading) == []
    with ledger.transaction() as transaction:
        transaction.execute(sa.update(schema.invoice).values(state="CREATED"))
    with ledger.reading() as reading:
        assert [row["id"] for row in invoices.waiting_occurrences(reading)] == [occurrence]


def test_an_appearance_waits_on_while_the_outcome_is_given_up(ledger: Ledger) -> None:
    """Parked as unknown: nobody may decide until people have, whatever runs meanwhile."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.PARKED, reason="SUBMIT_UNKNOWN")
        add_occurrence(transaction, add_file(transaction), key, OccurrenceOutcome.WAITING)
    with ledger.reading() as reading:
        assert invoices.waiting_occurrences(reading) == []


def test_a_stored_appearance_reads_as_it_was(ledger: Ledger) -> None:
    """What waited is decided on later, from the ledger alone."""
    shown = appearance("S-1", number="N-2", amount_minor=2**60, content=b"{}", problems=({"reason": "X"},), revision=2)
    with ledger.transaction() as transaction:
        invoices.insert_new(transaction, add_file(transaction), [appearance("S-1")])
        key = transaction.value(sa.select(schema.invoice.c.id))
        file = add_file(transaction)
        invoices.add_occurrence(transaction, file, key, shown, OccurrenceOutcome.WAITING, None)
        occurrence = transaction.row(
            sa.select(schema.invoice_occurrence).where(schema.invoice_occurrence.c.file_id == file["id"])
        )
        row, of_file, again = invoices.reload(transaction, current(occurrence))
    assert again == shown
    assert (row["id"], row["current_revision"], of_file["id"]) == (key, 1, file["id"])


def test_the_history_of_an_invoice_is_whole(ledger: Ledger) -> None:
    """Whoever must prove it finds it from one place: where it came from, what was sent, what happened."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction)
        intend(transaction, key)
    with ledger.reading() as reading:
        history = invoice_views.history(reading, key)
    assert [row["outcome"] for row in history["occurrences"]] == ["CURRENT"]
    assert [row["phase"] for row in history["submissions"]] == ["INTENT"]
    assert [row["kind"] for row in history["events"]] == ["invoice.received", "submission.intent"]


def test_list_invoices_filters_for_people(ledger: Ledger) -> None:
    """By state, by the number that they have in hand (Stampli's or their own), by window."""
    with ledger.transaction() as transaction:
        file = add_file(transaction)
        invoices.insert_new(transaction, file, [appearance("S-1", number="N-1"), appearance("S-2", number="N-2")])
        add_invoice(transaction, InvoiceState.PARKED, start=LATER)
    with ledger.reading() as reading:
        assert [row["number"] for row in invoice_views.list_invoices(reading, number="N-1")] == ["N-1"]
        assert [row["number"] for row in invoice_views.list_invoices(reading, number="S-2")] == ["N-2"]
        assert [row["number"] for row in invoice_views.list_invoices(reading, window_start=WINDOW)] == ["N-1", "N-2"]
        [parked] = invoice_views.list_invoices(reading, states=[InvoiceState.PARKED])
        assert parked["window_start"] == LATER
