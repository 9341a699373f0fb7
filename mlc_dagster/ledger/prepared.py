"""Statements that are made once and run by the database's own driver, inside the transaction that is open.

What belongs here: the few statements that every invoice passes through, which SQLAlchemy would run at several times
their cost. They are written with it all the same, so that types, quoting and both databases stay its business.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.dml import UpdateBase

if TYPE_CHECKING:
    from mlc_dagster.ledger.database import Row, Transaction

Statement = sa.Select[*tuple[Any, ...]] | UpdateBase
_Processor = Callable[[Any], Any] | None


def bound(*columns: str) -> dict[str, Any]:
    """For ``values``: each of these columns from the value of the same name."""
    return {name: sa.bindparam(name) for name in columns}


@dataclass(frozen=True)
class _Plan:
    """A statement for one kind of database: its text, and what its values and its answer pass through."""

    text: str
    positional: bool
    values: tuple[tuple[str, _Processor], ...]
    fixed: Mapping[str, Any]
    """Values that stand in the statement itself, as the driver takes them."""
    columns: tuple[tuple[str, _Processor], ...]
    failure: type[Exception]

    def given(self, values: Mapping[str, Any]) -> Any:
        """The driver's parameters; raises KeyError for a value that is missing."""
        fixed = self.fixed
        if self.positional:
            return [
                fixed[name] if name in fixed else values[name] if process is None else process(values[name])
                for name, process in self.values
            ]
        return {
            name: fixed[name] if name in fixed else values[name] if process is None else process(values[name])
            for name, process in self.values
        }

    def read(self, row: Sequence[Any]) -> "Row":
        return {
            name: value if process is None else process(value)
            for (name, process), value in zip(self.columns, row, strict=True)
        }


class Prepared:
    """One statement; its ``sa.bindparam`` names are the names of the values it is run with."""

    def __init__(self, statement: Statement) -> None:
        self._statement = statement
        self._plans: dict[str, _Plan] = {}

    def run(self, transaction: "Transaction", values: Mapping[str, Any]) -> int:
        """Run it; how many rows it touched."""
        return int(self._cursor(transaction, values)[1].rowcount)

    def run_many(self, transaction: "Transaction", rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it once for each of ``rows``."""
        plan, driver = self._place(transaction)
        try:
            driver.cursor().executemany(plan.text, [plan.given(values) for values in rows])
        except plan.failure as error:
            raise _failed(transaction, plan, error) from error

    def row(self, transaction: "Transaction", values: Mapping[str, Any]) -> "Row | None":
        """The first row of its answer, by column name."""
        plan, cursor = self._cursor(transaction, values)
        row = cursor.fetchone()
        return None if row is None else plan.read(row)

    def rows(self, transaction: "Transaction", values: Mapping[str, Any]) -> "list[Row]":
        """All rows of its answer, by column name."""
        plan, cursor = self._cursor(transaction, values)
        return [plan.read(row) for row in cursor.fetchall()]

    def value(self, transaction: "Transaction", values: Mapping[str, Any]) -> Any:
        """The first column of the first row; None when there is no row."""
        plan, cursor = self._cursor(transaction, values)
        row = cursor.fetchone()
        if row is None:
            return None
        process = plan.columns[0][1]
        return row[0] if process is None else process(row[0])

    def _cursor(self, transaction: "Transaction", values: Mapping[str, Any]) -> tuple[_Plan, Any]:
        plan, driver = self._place(transaction)
        try:
            return plan, driver.execute(plan.text, plan.given(values))
        except plan.failure as error:
            raise _failed(transaction, plan, error) from error

    def _place(self, transaction: "Transaction") -> tuple[_Plan, Any]:
        connection = transaction.connection
        dialect = connection.dialect
        plan = self._plans.get(dialect.name)
        if plan is None:
            # Two threads may make it at once: they make the same.
            plan = self._plans[dialect.name] = _plan(self._statement, dialect)
        return plan, cast("Any", connection.connection.driver_connection)


def _plan(statement: Statement, dialect: Dialect) -> _Plan:
    compiled = cast("Any", statement.compile(dialect=dialect))
    binds: dict[str, sa.BindParameter[Any]] = {name: bind for bind, name in compiled.bind_names.items()}
    names: list[str] = compiled.positiontup if compiled.positional else list(binds)
    # What the statement itself says stands under names of its own making; what the caller says is required.
    processors = {name: _bind_processor(binds[name], dialect) for name in dict.fromkeys(names)}
    fixed: dict[str, Any] = {}
    for name, process in processors.items():
        if not binds[name].required:
            value = binds[name].effective_value
            fixed[name] = value if process is None else process(value)
    shown: Sequence[sa.ColumnElement[Any]] = ()
    if isinstance(statement, sa.Select):
        shown = list(cast("Any", statement).selected_columns)
    elif (returning := compiled.effective_returning) is not None:
        shown = list(returning)
    return _Plan(
        text=str(compiled),
        positional=bool(compiled.positional),
        values=tuple((name, processors[name]) for name in names),
        fixed=fixed,
        columns=tuple((str(cast("Any", column).name), _result_processor(column, dialect)) for column in shown),
        failure=cast("Any", dialect).loaded_dbapi.Error,
    )


def _bind_processor(bind: "sa.BindParameter[Any]", dialect: Dialect) -> _Processor:
    return bind.type.dialect_impl(dialect).bind_processor(dialect)


def _result_processor(column: "sa.ColumnElement[Any]", dialect: Dialect) -> _Processor:
    return column.type.dialect_impl(dialect).result_processor(dialect, None)


def _failed(transaction: "Transaction", plan: _Plan, error: Exception) -> BaseException:
    """The error as SQLAlchemy would raise it; without the values, which are invoices."""
    connection = transaction.connection
    lost = connection.dialect.is_disconnect(cast("Any", error), None, None)
    failure = DBAPIError.instance(
        plan.text, None, error, plan.failure, connection_invalidated=lost, dialect=connection.dialect
    )
    if lost:
        connection.invalidate(error)
    return failure
