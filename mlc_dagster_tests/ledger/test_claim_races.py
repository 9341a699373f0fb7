"""Real races for a supplier's number and for an invoice: threads on connections of their own, on both databases."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from mlc_dagster.ledger import recovery, schema, submissions
from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.ledger.submissions import Intent, Phase, TakenBy
from mlc_dagster_tests.ledger.population import (
    LEASE,
    WINDOW,
    HandClock,
    add_file,
    add_invoice,
    claim,
    claims,
    intend,
    race,
    sent_invoice,
    state_of,
    submission_row,
)

RACERS = 8


def claim_now(ledger: Ledger, key: int, number: str = "A-1") -> Intent | TakenBy | None:
    with ledger.transaction() as transaction:
        return claim(transaction, key, number_key=number)


@pytest.mark.parametrize("attempt", range(3))
def test_of_many_invoices_one_gets_the_number(ledger: Ledger, attempt: int) -> None:
    """The heart of "nothing twice": the database decides, not a look before."""
    with ledger.transaction() as transaction:
        file = add_file(transaction)
        keys = [add_invoice(transaction, file=file) for _ in range(RACERS)]
    results = race([lambda key=key: claim_now(ledger, key) for key in keys])
    [winner] = [result for result in results if isinstance(result, Intent)]
    assert [r for r in results if not isinstance(r, Intent)] == [TakenBy(winner.invoice_pk)] * (RACERS - 1)
    assert [row["invoice_pk"] for row in claims(ledger)] == [winner.invoice_pk]
    assert sorted(state_of(ledger, key) for key in keys) == ["SENDING"] + ["VALIDATED"] * (RACERS - 1)


@pytest.mark.parametrize("attempt", range(3))
def test_of_many_workers_one_gets_the_invoice(ledger: Ledger, attempt: int) -> None:
    """Daemon, workers and command may all come to the same invoice."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction)
    results = race([lambda: claim_now(ledger, key)] * RACERS)
    assert sum(isinstance(result, Intent) for result in results) == 1
    assert results.count(None) == RACERS - 1


def test_processes_with_ledgers_of_their_own_race_alike(ledger: Ledger, prepared_url: str, clock: HandClock) -> None:
    """Nothing of the decision lives in memory: each racer opens the ledger by its address."""
    with ledger.transaction() as transaction:
        file = add_file(transaction)
        keys = [add_invoice(transaction, file=file) for _ in range(4)]
    ledgers = [open_ledger(prepared_url, clock=clock) for _ in keys]
    results = race([lambda own=own, key=key: claim_now(own, key) for own, key in zip(ledgers, keys, strict=True)])
    for own in ledgers:
        own.close()
    assert sum(isinstance(result, Intent) for result in results) == 1
    assert len(claims(ledger)) == 1


def test_a_claim_that_waits_gets_the_number_when_the_first_gives_up(ledger: Ledger) -> None:
    """A transaction that is rolled back held nothing."""
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite's writers wait at their beginning; none can be in the middle of a claim")
    with ledger.transaction() as transaction:
        file = add_file(transaction)
        first, second = add_invoice(transaction, file=file), add_invoice(transaction, file=file)
    with ThreadPoolExecutor(1) as pool:
        with ledger.engine.connect() as connection, connection.begin() as begun:
            row = {"pod": "https://pod.example", "supplier_id": 7, "number_key": "A-1", "invoice_pk": first}
            connection.execute(sa.insert(schema.fusion_claim).values(row))
            waiting = pool.submit(claim_now, ledger, second)
            wait_until_blocked(ledger)
            begun.rollback()
        assert isinstance(waiting.result(timeout=30), Intent)


def test_a_claim_that_waits_is_told_whose_the_number_is(ledger: Ledger) -> None:
    """Once the first has committed."""
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite's writers wait at their beginning; none can be in the middle of a claim")
    with ledger.transaction() as transaction:
        file = add_file(transaction)
        first, second = add_invoice(transaction, file=file), add_invoice(transaction, file=file)
    with ThreadPoolExecutor(1) as pool:
        with ledger.transaction() as transaction:
            intend(transaction, first, number_key="A-1")
            waiting = pool.submit(claim_now, ledger, second)
            wait_until_blocked(ledger)
        assert waiting.result(timeout=30) == TakenBy(first)


def wait_until_blocked(ledger: Ledger) -> None:
    """Until a session of this database waits for a lock (PostgreSQL)."""
    blocked = sa.text(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type='Lock'"
    )
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.execute(blocked).scalar():
            connection.execute(sa.text("select pg_sleep(0.005)"))


def test_a_number_given_back_in_a_race_has_one_new_holder(ledger: Ledger) -> None:
    """Release and claim at the same moment: the claim is either refused or granted, never lost in between."""
    for _ in range(5):
        with ledger.transaction() as transaction:
            file = add_file(transaction)
            holder, other = add_invoice(transaction, file=file), add_invoice(transaction, file=file)
            intent = intend(transaction, holder, number_key=f"N-{holder}")

        def give_back(intent: Intent = intent) -> None:
            with ledger.transaction() as transaction:
                submissions.release(transaction, intent.submission_id, why="access refused")

        number = f"N-{holder}"
        _, result = race([give_back, lambda other=other, number=number: claim_now(ledger, other, number)])
        held = [row["invoice_pk"] for row in claims(ledger) if row["number_key"] == number]
        assert (held == [other]) == isinstance(result, Intent)
        assert held == [other] or result == TakenBy(holder)


def test_a_number_given_back_between_refusal_and_look_is_granted(ledger: Ledger) -> None:
    """The narrowest moment: the number was taken when it was asked for, and free when its holder was looked up."""
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite's writers do not run at the same time")
    with ledger.transaction() as transaction:
        file = add_file(transaction)
        holder, other = add_invoice(transaction, file=file), add_invoice(transaction, file=file)
        intent = intend(transaction, holder, number_key="A-1")
    given_back: list[bool] = []

    def give_back(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if given_back or not statement.lstrip().startswith("SELECT fusion_claim"):
            return
        given_back.append(True)
        with ledger.transaction() as elsewhere:
            submissions.release(elsewhere, intent.submission_id, why="access refused")

    event.listen(ledger.engine, "before_cursor_execute", give_back)
    assert isinstance(claim_now(ledger, other), Intent)
    assert given_back == [True]
    assert [row["invoice_pk"] for row in claims(ledger)] == [other]


def test_of_two_that_send_again_one_does(ledger: Ledger) -> None:
    """Both saw absence proven; a second request would be the double."""
    key, intent = sent_invoice(ledger)
    with ledger.transaction() as transaction:
        submissions.mark_unknown(
            transaction, intent.submission_id, wait=dt.timedelta(0), http_status=None, why="time-out"
        )
    before = submission_row(ledger, intent.submission_id)

    def again() -> Intent | None:
        with ledger.transaction() as transaction:
            return submissions.claim_again(
                transaction, before, owner="two", fence=2, lease=LEASE, ended_as=Phase.ABSENT
            )

    results = race([again] * 4)
    assert sum(result is not None for result in results) == 1
    with ledger.reading() as reading:
        assert len(recovery.waiting(reading, WINDOW)) == 1
    assert state_of(ledger, key) == InvoiceState.SENDING


def test_an_answer_and_a_further_attempt_at_once_leave_it_created(ledger: Ledger) -> None:
    """Whichever comes first: after both the invoice is created."""
    for _ in range(5):
        key, intent = sent_invoice(ledger)
        with ledger.transaction() as transaction:
            submissions.mark_unknown(
                transaction, intent.submission_id, wait=dt.timedelta(0), http_status=None, why="time-out"
            )
        before = submission_row(ledger, intent.submission_id)

        def again(before: submissions.Row = before) -> None:
            with ledger.transaction() as transaction:
                submissions.claim_again(transaction, before, owner="two", fence=2, lease=LEASE, ended_as=Phase.ABSENT)

        def answer(intent: Intent = intent) -> None:
            with ledger.transaction() as transaction:
                submissions.mark_created(
                    transaction, intent.submission_id, fusion_invoice_id=5, http_status=201, evidence="answer"
                )

        race([again, answer])
        assert state_of(ledger, key) == InvoiceState.CREATED


def test_an_expiry_and_an_answer_at_once_leave_it_created(ledger: Ledger, clock: HandClock) -> None:
    """The recovery of another process must not overrule the answer that arrives in the same moment."""
    keys: list[int] = []
    for _ in range(5):
        key, intent = sent_invoice(ledger)
        keys.append(key)
        clock.advance(91)

        def expire() -> None:
            with ledger.transaction() as transaction:
                recovery.expire_intents(transaction, WINDOW, wait=dt.timedelta(0))

        def answer(intent: Intent = intent) -> None:
            with ledger.transaction() as transaction:
                submissions.mark_created(
                    transaction, intent.submission_id, fusion_invoice_id=5, http_status=201, evidence="answer"
                )

        race([expire, answer])
    assert {state_of(ledger, key) for key in keys} == {"CREATED"}
