"""Statements run by the driver itself: same types, same errors, same transaction as through SQLAlchemy."""

import datetime as dt
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.prepared import Prepared, bound
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster_tests.ledger.population import WINDOW, add_invoice, state_of


class Wrong(Exception):
    """What a change may raise."""


SETTING = schema.ledger_setting
ADD = Prepared(sa.insert(SETTING).values(bound("name", "value")))
READ = Prepared(sa.select(SETTING.c.name, SETTING.c.value).order_by(SETTING.c.name))
SECRET = "a value that is nobody's business"


def test_what_it_writes_is_part_of_the_open_transaction(ledger: Ledger) -> None:
    """Undone with it: an intent whose audit event is missing would be worse than none."""
    with suppress(Wrong), ledger.transaction() as transaction:
        assert ADD.run(transaction, {"name": "a", "value": "1"}) == 1
        raise Wrong
    with ledger.transaction() as transaction:
        ADD.run_many(transaction, [{"name": "b", "value": "2"}, {"name": "c", "value": "3"}])
    with ledger.reading() as reading:
        assert READ.rows(reading, {}) == [{"name": "b", "value": "2"}, {"name": "c", "value": "3"}]
        assert READ.row(reading, {}) == {"name": "b", "value": "2"}
        assert READ.value(reading, {}) == "b"


def test_a_savepoint_takes_it_back_alone(ledger: Ledger) -> None:
    """The writer runs changes in savepoints when a neighbour fails."""
    with ledger.transaction() as transaction:
        ADD.run(transaction, {"name": "a", "value": "1"})
        with suppress(Wrong), transaction.savepoint():
            ADD.run(transaction, {"name": "b", "value": "2"})
            raise Wrong
    with ledger.reading() as reading:
        assert [row["name"] for row in READ.rows(reading, {})] == ["a"]


def test_a_refusal_of_the_database_is_sqlalchemys_error_without_the_values(ledger: Ledger) -> None:
    """Callers tell errors by that type; the values are invoices, and errors end in logs."""
    with ledger.transaction() as transaction:
        ADD.run(transaction, {"name": "a", "value": SECRET})
    for write in (
        lambda transaction: ADD.run(transaction, {"name": "a", "value": SECRET}),
        lambda transaction: ADD.run_many(transaction, [{"name": "a", "value": SECRET}]),
    ):
        with pytest.raises(IntegrityError) as caught, ledger.transaction() as transaction:
            write(transaction)
        assert SECRET not in str(caught.value)


def test_a_lost_connection_is_sqlalchemys_error_and_is_not_used_again(ledger: Ledger) -> None:
    """A restarted database must not leave a dead connection in the pool."""
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no connections that others can end")

    def write_on_a_lost_connection() -> None:
        with ledger.transaction() as transaction:
            own = transaction.value(sa.select(sa.func.pg_backend_pid()))
            with ledger.transaction() as other:
                other.value(sa.select(sa.func.pg_terminate_backend(own, 10_000)))
            ADD.run(transaction, {"name": "a", "value": "1"})

    with pytest.raises(OperationalError) as caught:
        write_on_a_lost_connection()
    assert caught.value.connection_invalidated
    with ledger.transaction() as transaction:
        assert ADD.run(transaction, {"name": "a", "value": "1"}) == 1


def test_types_of_the_columns_hold_in_both_directions(shared_ledger: Ledger) -> None:
    """Times in UTC with microseconds, JSON, money as int, flags and bytes: what SQLAlchemy would have given."""
    with shared_ledger.transaction() as transaction:
        key = add_invoice(transaction, amount_minor=2**53 + 1)
    moment = WINDOW + dt.timedelta(microseconds=7)
    values: dict[str, Any] = {"key": key, "at": moment, "said": {"b": ["é"], "a": 1}, "money": -(2**53) - 1}
    invoice = schema.invoice
    update = Prepared(
        sa.update(invoice)
        .where(invoice.c.id == sa.bindparam("key"))
        .values(parked_at=sa.bindparam("at"), problems=sa.bindparam("said"), amount_minor=sa.bindparam("money"))
    )
    columns = (invoice.c.parked_at, invoice.c.problems, invoice.c.amount_minor, invoice.c.cured_at)
    chosen = sa.select(*columns).where(invoice.c.id == sa.bindparam("key"))
    with shared_ledger.transaction() as transaction:
        assert update.run(transaction, values) == 1
        found = Prepared(chosen).row(transaction, {"key": key})
        assert found == transaction.row(chosen, {"key": key})
    assert found == {
        "parked_at": moment, "problems": {"a": 1, "b": ["é"]}, "amount_minor": -(2**53) - 1, "cured_at": None,
    }  # fmt: skip
    for name, wrong in (("at", dt.datetime(2026, 1, 1)), ("money", 1.5), ("said", 1.5)):  # noqa: DTZ001 - without zone
        with pytest.raises((ValueError, TypeError)), shared_ledger.transaction() as transaction:
            update.run(transaction, values | {name: wrong})


def test_a_value_that_is_missing_is_an_error(ledger: Ledger) -> None:
    """Not an empty column."""
    with pytest.raises(KeyError), ledger.transaction() as transaction:
        ADD.run(transaction, {"name": "a"})


def test_values_of_the_statement_itself_need_not_be_given(ledger: Ledger) -> None:
    """A state that stands in the statement is the same for every row."""
    with ledger.transaction() as transaction:
        key = add_invoice(transaction)
        invoice = schema.invoice
        Prepared(
            sa.update(invoice)
            .where(invoice.c.id == sa.bindparam("key"), invoice.c.state == str(InvoiceState.VALIDATED))
            .values(state=str(InvoiceState.PARKED))
        ).run(transaction, {"key": key})
    assert state_of(ledger, key) == InvoiceState.PARKED
