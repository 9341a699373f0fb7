"""The one equation, over populations made at random: it holds, and it stops holding when anything is missing."""

from collections import Counter
from dataclasses import dataclass
from itertools import count

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_dagster.ledger import invoices, schema
from mlc_dagster.ledger.database import Ledger, Row, Transaction
from mlc_dagster.ledger.equation import BUCKETS, Equation, equation
from mlc_dagster.ledger.states import InvoiceState, OccurrenceOutcome
from mlc_dagster_tests.ledger.population import FEED, WINDOW, add_file, appearance

FURTHER = [outcome for outcome in OccurrenceOutcome if outcome is not OccurrenceOutcome.CURRENT]
_sources = count(1)


@dataclass(frozen=True)
class Made:
    """An invoice of a population: its state, its price and what became of its further appearances."""

    state: InvoiceState
    currency: str | None
    minor: int | None
    further: tuple[OccurrenceOutcome, ...]


made = st.builds(
    Made,
    state=st.sampled_from(list(InvoiceState)),
    currency=st.sampled_from(["USD", "JPY", "KWD", None]),
    minor=st.integers(min_value=-(2**55), max_value=2**55) | st.none(),
    further=st.lists(st.sampled_from(FURTHER), max_size=3).map(tuple),
)


def enter(transaction: Transaction, population: list[Made]) -> Row:
    """Two files: the first shows every invoice, the others all further appearances; the first file's row."""
    files = [add_file(transaction) for _ in range(1 + max((len(each.further) for each in population), default=0))]
    counts: list[Counter[str]] = [Counter() for _ in files]
    shown = [0] * len(files)

    def show(n: int, each: Made) -> None:
        shown[n] += 1
        if each.currency is not None and each.minor is not None:
            counts[n][each.currency] += each.minor

    for each in population:
        a = appearance(f"eq-{next(_sources)}", currency=each.currency, amount_minor=each.minor)
        invoices.insert_new(transaction, files[0], [a])
        key = transaction.value(sa.select(schema.invoice.c.id).where(schema.invoice.c.source_key == a.source_key))
        transaction.execute(sa.update(schema.invoice).where(schema.invoice.c.id == key).values(state=str(each.state)))
        show(0, each)
        for n, outcome in enumerate(each.further, start=1):
            invoices.add_occurrence(transaction, files[n], key, a, outcome, None)
            show(n, each)
    for n, file in enumerate(files):
        invoices.file_was_read(
            transaction, file, rows_total=shown[n], rows_in_invoices=shown[n], rows_quarantined=0,
            invoices=shown[n], amounts_minor=counts[n],
        )  # fmt: skip
    return files[0]


def empty(transaction: Transaction) -> None:
    """A shared ledger without the examples before."""
    transaction.execute(sa.update(schema.invoice).values(occurrence_id=None))
    for table in (schema.invoice_occurrence, schema.invoice, schema.source_file):
        transaction.execute(sa.delete(table))


def take(ledger: Ledger, population: list[Made]) -> Equation:
    with ledger.transaction() as transaction:
        empty(transaction)
        enter(transaction, population)
    with ledger.reading() as reading:
        return equation(reading, FEED)


once = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@once
@given(population=st.lists(made, max_size=12))
def test_everything_received_is_accounted_for(shared_ledger: Ledger, population: list[Made]) -> None:
    """Whatever the states, outcomes, currencies and amounts: both sides agree, in count and per currency."""
    found = take(shared_ledger, population)
    assert found.faults == []
    assert found.received.count == sum(1 + len(each.further) for each in population)
    assert sum(found.count(bucket) for bucket in BUCKETS) == found.received.count


@once
@given(population=st.lists(made, min_size=1, max_size=8), position=st.integers(min_value=0))
def test_a_missing_occurrence_is_a_fault(shared_ledger: Ledger, population: list[Made], position: int) -> None:
    """The reader counted it; if the ledger lost it, the two sides must say so, whichever it is."""
    with shared_ledger.transaction() as transaction:
        empty(transaction)
        enter(transaction, population)
        keys = [row["id"] for row in transaction.rows(sa.select(schema.invoice_occurrence.c.id))]
        lost = keys[position % len(keys)]
        transaction.execute(sa.delete(schema.invoice_occurrence).where(schema.invoice_occurrence.c.id == lost))
    with shared_ledger.reading() as reading:
        faults = equation(reading, FEED).faults
    assert f"{len(keys)} invoices were read from files, {len(keys) - 1} are accounted for" in faults


@pytest.mark.parametrize("change", [1, -1])
def test_a_changed_amount_is_a_fault(shared_ledger: Ledger, change: int) -> None:
    """By the smallest unit, at a size where floats no longer see it; the other currency is not accused."""
    huge = 2**53
    with shared_ledger.transaction() as transaction:
        empty(transaction)
        enter(transaction, [Made(InvoiceState.CREATED, c, huge, ()) for c in ("USD", "KWD")])
        o = schema.invoice_occurrence
        transaction.execute(sa.update(o).where(o.c.currency == "KWD").values(amount_minor=huge + change))
    with shared_ledger.reading() as reading:
        faults = equation(reading, FEED).faults
    assert faults == [f"KWD: {huge} minor units were read from files, {huge + change} are accounted for"]


BUCKET_OF_STATE = {
    "created": {"CREATED", "CONFIRMED", "MISSING_IN_FUSION", "VOIDED_IN_FUSION"},
    "already_in_fusion": {"ALREADY_IN_FUSION"},
    "parked": {"PARKED"},
    "rejected": {"REJECTED"},
    "unknown": {"RECEIVED", "VALIDATED", "SENDING", "UNKNOWN"},
}


@pytest.mark.parametrize("state", list(InvoiceState))
def test_a_current_appearance_counts_by_its_invoices_state(shared_ledger: Ledger, state: InvoiceState) -> None:
    """Every state has one place on the right side; unfinished work counts as unknown, never as created."""
    found = take(shared_ledger, [Made(state, "USD", 100, ())])
    [bucket] = [bucket for bucket in BUCKETS if found.count(bucket)]
    assert state in BUCKET_OF_STATE[bucket]
    assert found.buckets[bucket].minor == {"USD": 100}


@pytest.mark.parametrize("outcome", FURTHER)
def test_a_further_appearance_counts_under_its_own_outcome(shared_ledger: Ledger, outcome: OccurrenceOutcome) -> None:
    """A duplicate of a created invoice is a duplicate, not a second creation."""
    found = take(shared_ledger, [Made(InvoiceState.CONFIRMED, "USD", 100, (outcome,))])
    assert found.count("created") == 1
    bucket = "unknown" if outcome is OccurrenceOutcome.WAITING else outcome.lower()
    assert found.count(bucket) == 1
    assert found.buckets[bucket].minor == {"USD": 100}


def test_an_appearance_without_a_price_is_counted_as_that(shared_ledger: Ledger) -> None:
    """It is in the count, and nobody can take it for zero dollars."""
    found = take(shared_ledger, [Made(InvoiceState.PARKED, "USD", None, ())])
    assert (found.faults, found.buckets["parked"].unpriced, found.buckets["parked"].minor) == ([], 1, {})


def test_a_window_has_an_equation_of_its_own(ledger: Ledger) -> None:
    """What came in this quarter of an hour, whatever else the ledger holds."""
    with ledger.transaction() as transaction:
        file = enter(transaction, [Made(InvoiceState.CREATED, "USD", 100, (OccurrenceOutcome.DUPLICATE,))])
        other = add_file(transaction, start=WINDOW.replace(hour=10))
        a = appearance(currency="USD", amount_minor=7)
        invoices.insert_new(transaction, other, [a])
        invoices.file_was_read(
            transaction, other, rows_total=1, rows_in_invoices=1, rows_quarantined=0, invoices=1,
            amounts_minor={"USD": 7},
        )  # fmt: skip
    with ledger.reading() as reading:
        one = equation(reading, FEED, file["window_start"])
        all_of_it = equation(reading, FEED)
    assert (one.received.count, one.faults) == (2, [])
    assert (all_of_it.received.count, all_of_it.received.minor, all_of_it.faults) == (3, {"USD": 207}, [])


def test_another_feed_is_left_out(ledger: Ledger) -> None:
    """Each source accounts for itself."""
    with ledger.transaction() as transaction:
        enter(transaction, [Made(InvoiceState.CREATED, "USD", 100, ())])
    with ledger.reading() as reading:
        assert equation(reading, "other").received.count == 0
