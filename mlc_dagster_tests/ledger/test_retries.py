"""Which windows are taken up again, from the ledger's rows alone: what is due, cured, or left half way."""

import datetime as dt
from collections.abc import Callable
from itertools import chain

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import files, invoices, schema, submissions
from mlc_dagster.ledger.database import Ledger, Row, Transaction
from mlc_dagster.ledger.files import Seen
from mlc_dagster.ledger.retries import left_files, plan_retries, stranded_files
from mlc_dagster.ledger.states import InvoiceState, OccurrenceOutcome, move
from mlc_dagster.ledger.submissions import Phase
from mlc_dagster.ledger.window_ends import finish_generation
from mlc_dagster.ledger.windows import runs_wanted, take_window
from mlc_dagster_tests.ledger.population import (
    FEED,
    LEASE,
    WINDOW,
    HandClock,
    add_file,
    add_invoice,
    add_occurrence,
    add_read_file,
    add_window,
    file_row,
    intend,
    race,
    sent_invoice,
)

WAIT = dt.timedelta(seconds=360)
LATER = WINDOW + dt.timedelta(hours=1)


@pytest.fixture(autouse=True)
def done_window(ledger: Ledger) -> None:
    """The window whose first generation has done its work."""
    with ledger.transaction() as transaction:
        add_window(transaction)
        finish_generation(transaction, FEED, WINDOW, 1, {}, fence=0)


def plan(ledger: Ledger) -> list[int]:
    with ledger.transaction() as transaction:
        return plan_retries(transaction, FEED)


def assign_file(transaction: Transaction) -> Row:
    """A file that was given to the window and not fetched."""
    [key] = files.assign(transaction, FEED, [Seen("/outbound/unread.csv", 100, 1_700_000_000)], WINDOW, 1)
    return file_row(transaction, key)


def test_nothing_to_do_opens_nothing(ledger: Ledger) -> None:
    """A quiet system stays quiet: no run without a reason."""
    with ledger.transaction() as transaction:
        for state in InvoiceState:
            if state in (
                "CONFIRMED",
                "PARKED",
                "REJECTED",
                "ALREADY_IN_FUSION",
                "MISSING_IN_FUSION",
                "VOIDED_IN_FUSION",
            ):
                add_invoice(transaction, state)
    assert plan(ledger) == []


@pytest.mark.parametrize("mark", [submissions.mark_refused, submissions.mark_unknown])
def test_a_waiting_attempt_is_taken_up_when_it_is_due(
    ledger: Ledger, clock: HandClock, mark: Callable[..., None]
) -> None:
    """Not a second earlier: the wait is what makes a look-up proof."""
    _, intent = sent_invoice(ledger)
    with ledger.transaction() as transaction:
        mark(transaction, intent.submission_id, wait=WAIT, http_status=None, why="why")
    clock.advance(359)
    assert plan(ledger) == []
    clock.advance(1)
    assert plan(ledger) == [2]


def test_an_intent_is_taken_up_when_its_lease_is_over(ledger: Ledger, clock: HandClock) -> None:
    """Its sender died between the commit and the answer; until the lease ends it may be alive."""
    sent_invoice(ledger)
    clock.advance(89)
    assert plan(ledger) == []
    clock.advance(1)
    assert plan(ledger) == [2]


def test_an_attempt_that_is_over_is_not_taken_up(ledger: Ledger, clock: HandClock) -> None:
    """A person has it now."""
    _, intent = sent_invoice(ledger)
    with ledger.transaction() as transaction:
        submissions.park_submission(
            transaction, intent.submission_id, phase=Phase.UNKNOWN, reason="SUBMIT_UNKNOWN", problem={},
            http_status=None, answer="",
        )  # fmt: skip
    clock.advance(86_400)
    assert plan(ledger) == []


def test_a_parked_invoice_is_taken_up_when_it_is_cured(ledger: Ledger) -> None:
    """The supplier exists now: nobody has to press a button."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.PARKED, reason="VENDOR_UNKNOWN")
    assert plan(ledger) == []
    with ledger.transaction() as transaction:
        invoices.mark_cured(transaction, key, {"by": "probe"})
    assert plan(ledger) == [2]


@pytest.mark.parametrize("state", [InvoiceState.RECEIVED, InvoiceState.VALIDATED, InvoiceState.CREATED])
def test_an_invoice_left_half_way_is_taken_up(ledger: Ledger, state: InvoiceState) -> None:
    """A run that ended early leaves no invoice behind in a state that nobody looks at."""
    with ledger.transaction() as transaction:
        add_invoice(transaction, state)
    assert plan(ledger) == [2]


def test_a_created_invoice_with_differences_is_not_taken_up(ledger: Ledger) -> None:
    """It was read back; reading it again every few seconds changes nothing."""
    with ledger.transaction() as transaction:
        add_invoice(transaction, InvoiceState.CREATED, differences={"amount": ["1", "2"]})
    assert plan(ledger) == []


def test_one_generation_is_enough(ledger: Ledger) -> None:
    """While one is open, further ticks add nothing to it."""
    with ledger.transaction() as transaction:
        add_invoice(transaction)
    assert plan(ledger) == [2]
    assert plan(ledger) == []


def test_the_next_retry_comes_when_the_last_is_done(ledger: Ledger) -> None:
    """Many generations per window are normal."""
    with ledger.transaction() as transaction:
        add_invoice(transaction)
    plan(ledger)
    with ledger.transaction() as transaction:
        finish_generation(transaction, FEED, WINDOW, 2, {}, fence=0)
    assert plan(ledger) == [3]


def test_each_window_gets_its_own_retry(ledger: Ledger) -> None:
    """A retry goes to the invoice's home window, whose partition shows it."""
    with ledger.transaction() as transaction:
        add_window(transaction, LATER)
        finish_generation(transaction, FEED, LATER, 1, {}, fence=0)
        add_invoice(transaction, start=LATER)
        add_invoice(transaction)
        add_invoice(transaction)
    assert plan(ledger) == [2, 2]
    with ledger.transaction() as transaction:
        runs = runs_wanted(transaction, FEED)
    assert [(run.window_start, run.kind) for run in runs] == [(WINDOW, "RETRY"), (LATER, "RETRY")]


def test_plans_made_at_once_do_not_fail(ledger: Ledger) -> None:
    """Sensor and command plan in the same second; the number of a generation is given once."""
    with ledger.transaction() as transaction:
        add_invoice(transaction)
    opened = list(chain.from_iterable(race([lambda: plan(ledger)] * 4)))
    assert len(opened) == len(set(opened)) >= 1


def test_an_attempt_of_another_windows_generation_counts_for_the_home_window(ledger: Ledger, clock: HandClock) -> None:
    """The invoice's own window decides, whatever window its attempt was made in."""

    def home(transaction: Transaction) -> int:
        key = add_invoice(transaction)
        intent = intend(transaction, key, start=LATER)
        submissions.mark_unknown(transaction, intent.submission_id, wait=WAIT, http_status=None, why="")
        return key

    with ledger.transaction() as transaction:
        key = home(transaction)
    clock.advance(360)
    plan(ledger)
    with ledger.reading() as reading:
        starts = {row["window_start"] for row in reading.rows(sa.select(schema.window_run)) if row["kind"] == "RETRY"}
        assert (
            starts
            == {WINDOW}
            == {reading.value(sa.select(schema.invoice.c.window_start).where(schema.invoice.c.id == key))}
        )


def test_when_nothing_new_may_be_sent_only_the_rest_is_taken_up(ledger: Ledger, clock: HandClock) -> None:
    """While too many outcomes are unknown: a run for invoices that may not be sent would end as it began."""
    with ledger.transaction() as transaction:
        add_invoice(transaction, InvoiceState.VALIDATED)
        assert plan_retries(transaction, FEED, begin_new=False) == []
        add_invoice(transaction, InvoiceState.RECEIVED)
        assert plan_retries(transaction, FEED, begin_new=False) == [2]


def test_an_appearance_that_waited_is_decided_in_its_own_window(ledger: Ledger) -> None:
    """A revision that came while the outcome was unknown must not wait for another file to come."""
    with ledger.transaction() as transaction:
        add_window(transaction, LATER)
        finish_generation(transaction, FEED, LATER, 1, {}, fence=0)
        key = add_invoice(transaction, InvoiceState.UNKNOWN)
        add_occurrence(transaction, add_read_file(transaction, start=LATER), key, OccurrenceOutcome.WAITING)
        assert plan_retries(transaction, FEED) == []
        transaction.execute(sa.update(schema.invoice).values(state="CONFIRMED"))
        assert plan_retries(transaction, FEED) == [2]
        [run] = runs_wanted(transaction, FEED)
    assert run.window_start == LATER


def test_an_appearance_waits_on_while_a_person_has_the_invoice(ledger: Ledger) -> None:
    """Parked with its outcome unknown: a run could decide nothing, again and again."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction, InvoiceState.PARKED, reason="SUBMIT_UNKNOWN")
        add_occurrence(transaction, add_read_file(transaction), key, OccurrenceOutcome.WAITING)
        assert plan_retries(transaction, FEED) == []


def give_up(ledger: Ledger, key: int, intent: submissions.Intent) -> None:
    """Nobody found out whether Fusion created it."""
    with ledger.transaction() as transaction:
        submissions.mark_unknown(transaction, intent.submission_id, wait=WAIT, http_status=None, why="")
        submissions.park_submission(
            transaction, intent.submission_id, phase=Phase.UNKNOWN, reason="SUBMIT_UNKNOWN", problem={},
            http_status=None, answer="",
        )  # fmt: skip
        add_occurrence(transaction, add_read_file(transaction), key, OccurrenceOutcome.WAITING, revision=2)


def test_a_revision_of_what_two_people_abandoned_is_taken_up(ledger: Ledger) -> None:
    """They decided; the attempt's outcome stays unknown for ever and must not keep the revision waiting for ever."""
    key, intent = sent_invoice(ledger)
    give_up(ledger, key, intent)
    assert plan(ledger) == []
    with ledger.transaction() as transaction:
        move(
            transaction, key, InvoiceState.REJECTED, expected=(InvoiceState.PARKED,), reason="ABANDONED",
            event="invoice.rejected",
        )  # fmt: skip
    assert plan(ledger) == [2]


def test_a_revision_is_taken_up_when_fusion_turns_out_to_have_the_invoice(ledger: Ledger) -> None:
    """An attempt given up as unknown says nothing any more once there is evidence of creation."""
    key, intent = sent_invoice(ledger)
    give_up(ledger, key, intent)
    with ledger.transaction() as transaction:
        transaction.execute(sa.update(schema.invoice).values(state="CONFIRMED", reason=None, fusion_invoice_id=5))
    assert plan(ledger) == [2]


@pytest.mark.parametrize("add", [assign_file, add_file])
def test_a_file_that_nobody_read_is_taken_up(ledger: Ledger, add: Callable[[Transaction], Row]) -> None:
    """Its generation ended without reading it: nobody else would ever look at it again."""
    with ledger.transaction() as transaction:
        row = add(transaction)
    with ledger.reading() as reading:
        assert [file["path"] for file in stranded_files(reading, FEED)] == [row["path"]]
        assert [file["path"] for file in stranded_files(reading, FEED, WINDOW)] == [row["path"]]
        assert stranded_files(reading, FEED, LATER) == []
    assert plan(ledger) == [2]
    with ledger.reading() as reading:
        assert stranded_files(reading, FEED) == []
        assert [file["path"] for file in left_files(reading, FEED, WINDOW)] == [row["path"]]


def test_a_file_of_an_open_generation_is_left_to_it(ledger: Ledger) -> None:
    """What a run works on was frozen: another run of the window takes nothing of it."""
    with ledger.transaction() as transaction:
        add_window(transaction)
        files.assign(transaction, FEED, [Seen("/outbound/late.csv", 100, 1_700_000_000)], WINDOW, 2)
    assert plan(ledger) == []
    with ledger.reading() as reading:
        assert left_files(reading, FEED, WINDOW) == []
        assert stranded_files(reading, FEED) == []


def test_a_reconciliation_whose_run_is_gone_blocks_nothing(ledger: Ledger, dead_process: str) -> None:
    """A person asked for it: nobody repeats it, and what is due in its window does not wait for it."""
    with ledger.transaction() as transaction:
        take_window(transaction, FEED, WINDOW, None, owner=dead_process, run_id="run", lease=LEASE)
        add_invoice(transaction)
    assert plan(ledger) == [3]
    with ledger.transaction() as transaction:
        assert [run.generation for run in runs_wanted(transaction, FEED)] == [3]
        states = transaction.rows(sa.select(schema.window_run.c.state).order_by(schema.window_run.c.generation))
    assert [row["state"] for row in states] == ["DONE", "FAILED", "OPEN"]


def test_a_reconciliation_at_work_is_left_alone(ledger: Ledger) -> None:
    """Its lease says that it lives; what is due waits for its end."""
    with ledger.transaction() as transaction:
        take_window(transaction, FEED, WINDOW, None, owner="elsewhere|boot|1|2", run_id="run", lease=LEASE)
        add_invoice(transaction)
    assert plan(ledger) == []
    with ledger.transaction() as transaction:
        assert runs_wanted(transaction, FEED) == []
