"""Opening the ledger, its transactions and its clock.

Every change happens in a ``Transaction``: one database transaction that carries the database's time and the actor,
so that an audit event is written beside what it reports. SQLite: BEGIN IMMEDIATE, WAL, synchronous=FULL.
"""

import datetime as dt
import functools
import getpass
import hashlib
import os
import socket
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from mlc_dagster.ledger import schema
from mlc_dagster.ledger.approval import require_listed
from mlc_dagster.ledger.engines import create_engine
from mlc_dagster.ledger.errors import LedgerError, NotCommitted
from mlc_dagster.ledger.people import same_person
from mlc_dagster.ledger.prepared import Prepared, bound
from mlc_dagster.ledger.types import CanonicalText, canonical_json, storable

Clock = Callable[[], dt.datetime]
Row = Mapping[str, Any]
"""A row by column name."""
Query = sa.Select[*tuple[Any, ...]]


def default_actor() -> str:
    """``user@host pid`` of this process: the actor of everything no person asked for."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # A container may run under a user id without a name.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} pid {os.getpid()}"


class Transaction:
    """One database transaction: ``connection``, ``now`` (UTC, the database's clock when it began), ``actor``."""

    def __init__(
        self,
        connection: sa.Connection,
        now: dt.datetime,
        actor: str,
        *,
        reading: bool = False,
        approvers: Sequence[str] = (),
    ) -> None:
        self.connection = connection
        self.now = now
        self.actor = actor
        self._reading = reading
        self._approvers = approvers
        self._events: list[dict[str, Any]] = []
        self._begun = self._is_open()

    def execute(
        self, statement: sa.Executable, rows: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None
    ) -> sa.CursorResult[Any]:
        """Run a statement; ``rows`` are its parameters, a sequence of them to run it once for each.

        A statement with ``sa.bindparam`` that is made once and kept costs a quarter of one that is made for each run.
        """
        if rows is None:
            return cast("sa.CursorResult[Any]", self.connection.execute(statement))
        return cast("sa.CursorResult[Any]", self.connection.execute(statement, rows))

    def rows(self, statement: Query, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        found = self.connection.execute(statement, parameters)
        names = tuple(found.keys())
        return [dict(zip(names, row, strict=True)) for row in found]

    def row(self, statement: Query, parameters: Mapping[str, Any] | None = None) -> Row | None:
        found = self.connection.execute(statement, parameters)
        row = found.first()
        return None if row is None else dict(zip(found.keys(), row, strict=True))

    def value(self, statement: Query, parameters: Mapping[str, Any] | None = None) -> Any:
        return self.connection.execute(statement, parameters).scalar()

    def insert(self, table: sa.Table, **values: Any) -> int:
        """Insert one row; the number it was given as its key."""
        return int(_insert_returning(table, tuple(values)).value(self, values))

    def insert_ignoring(self, table: sa.Table, row: Mapping[str, Any]) -> bool:
        """Insert unless a row with the same key is there; True when it was inserted."""
        return _insert_ignoring(table, self.connection.dialect.name, tuple(row)).run(self, row) == 1

    def upsert(self, table: sa.Table, rows: Iterable[Mapping[str, Any]], *, keep: Iterable[str] = ()) -> None:
        """Insert rows, or update those whose primary key is there; columns in ``keep`` are left as they were."""
        batch = [dict(row) for row in rows]
        if not batch:
            return
        dialect = postgresql if self.connection.dialect.name == "postgresql" else sqlite
        key = [column.name for column in table.primary_key]
        statement = dialect.insert(table)
        update = {name: statement.excluded[name] for name in batch[0] if name not in key and name not in set(keep)}
        if update:
            statement = statement.on_conflict_do_update(index_elements=key, set_=update)
        else:
            statement = statement.on_conflict_do_nothing()
        self.connection.execute(statement, batch)

    def lock_name(self, name: str) -> None:
        """Hold ``name`` until the transaction ends: what is looked for and then written by it is decided one by one.

        SQLite's transactions follow each other in any case.
        """
        if self.connection.dialect.name == "postgresql":
            key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
            self.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))

    def audit(self, kind: str, subject: str, **detail: Any) -> None:
        """Record an audit event; it is written with this transaction, or not at all.

        Raises:
            TypeError: ``detail`` cannot be written as JSON (floats are refused). Raised here, where one change is at
                fault, and not at the commit, which others share.
            LedgerError: this is a view for reading; the event would be lost.
        """
        self.audit_text(kind, subject, CanonicalText(canonical_json(detail)))

    def audit_text(self, kind: str, subject: str, detail: CanonicalText) -> None:
        """``audit`` with a detail that was written out before, for events of which many say the same.

        Raises:
            LedgerError: this is a view for reading; the event would be lost.
        """
        if self._reading:
            msg = f"event {kind} of {subject} was recorded in a view for reading, which writes nothing"
            raise LedgerError(msg)
        self._events.append(
            {"at": self.now, "actor": self.actor, "kind": kind, "subject": storable(subject), "detail": detail}
        )

    def audit_action(
        self,
        kind: str,
        subject: str,
        *,
        by: str,
        reason: str,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        approved_by: str | None = None,
        **detail: Any,
    ) -> None:
        """Record what a person had done: who, why, what was before and what is after.

        Args:
            kind: of the event.
            subject: what was acted on.
            by: who asked for it.
            reason: why, in words.
            before: what the action changed, as it was; empty for something that was not there.
            after: the same, as it is now.
            approved_by: who else agreed, where it takes two people.
            **detail: what else the event says.

        Raises:
            LedgerError: ``by`` or ``reason`` is empty, or one person alone stands for two.
            NotApproved: mlc.yaml lists who may approve, and one of the two is not on it.
        """
        by, reason = by.strip(), reason.strip()
        if not by or not reason:
            raise LedgerError(f"{kind} of {subject}: goes on record only with a name (by) and a reason")
        people: dict[str, str] = {"by": by}
        if approved_by is not None:
            people["approved_by"] = approved_by.strip()
            if not people["approved_by"] or same_person(by, people["approved_by"]):
                raise LedgerError(f"{kind} of {subject}: takes two different people; {by} cannot approve it alone")
            require_listed(by, people["approved_by"], self._approvers)
        self.audit(kind, subject, **people, reason=reason, before=dict(before), after=dict(after), **detail)

    def require_open(self) -> None:
        """What was written so far can still be committed.

        Of a transaction that was given up, PostgreSQL answers COMMIT with ROLLBACK, and the driver of SQLite sends
        none: neither is an error.

        Raises:
            NotCommitted: it cannot.
        """
        if self._is_open():
            return
        # PostgreSQL's driver begins with the first statement: where there was none, there is nothing to be lost.
        if self._begun or self._driver_status() != _IDLE:
            raise NotCommitted

    def _is_open(self) -> bool:
        return self._driver_status() == _OPEN

    def _driver_status(self) -> str:
        driver = cast("Any", self.connection.connection.driver_connection)
        if self.connection.dialect.name == "postgresql":
            return driver.info.transaction_status.name
        return _OPEN if driver.in_transaction else _IDLE

    def flush_audit(self) -> None:
        """Write the events recorded so far (one insert for all of them)."""
        if self._events:
            events, self._events = self._events, []
            _insert(schema.audit_event, _EVENT).run_many(self, events)

    @contextmanager
    def savepoint(self) -> Generator[None]:
        """A part that is undone alone when it raises, its audit events with it."""
        mark = len(self._events)
        try:
            with self.connection.begin_nested():
                yield
        except BaseException:
            del self._events[mark:]
            raise


_OPEN, _IDLE = "INTRANS", "IDLE"
"""PostgreSQL's words for a transaction that can be committed, and for none at all."""
_EVENT = ("at", "actor", "kind", "subject", "detail")


@functools.lru_cache(maxsize=128)
def _insert(table: sa.Table, columns: tuple[str, ...]) -> Prepared:
    """Made once per table and columns: making it would cost more than running it."""
    return Prepared(sa.insert(table).values(bound(*columns)))


@functools.lru_cache(maxsize=128)
def _insert_returning(table: sa.Table, columns: tuple[str, ...]) -> Prepared:
    (key,) = table.primary_key
    return Prepared(sa.insert(table).values(bound(*columns)).returning(key))


@functools.lru_cache(maxsize=128)
def _insert_ignoring(table: sa.Table, dialect: str, columns: tuple[str, ...]) -> Prepared:
    insert = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    return Prepared(insert.values(bound(*columns)).on_conflict_do_nothing())


class Ledger:
    """The ledger at one database address; safe to share between threads."""

    def __init__(self, engine: sa.Engine, *, actor: str | None = None, clock: Clock | None = None) -> None:
        self.engine = engine
        self.approvers: tuple[str, ...] = ()
        """Who alone may decide by twos; empty where anybody may."""
        self.actor = storable(actor or default_actor())
        self._clock = clock

    @contextmanager
    def transaction(self) -> Generator[Transaction]:
        """A transaction that commits at the end, with its audit events, or leaves nothing behind.

        Raises:
            NotCommitted: the database gave it up meanwhile.
        """
        with self.engine.connect() as connection, self.transaction_on(connection) as transaction:
            yield transaction

    @contextmanager
    def transaction_on(self, connection: sa.Connection) -> Generator[Transaction]:
        """The same on a connection that its caller keeps for many of them, outside any other transaction."""
        with connection.begin():
            transaction = Transaction(connection, self._now(connection), self.actor, approvers=self.approvers)
            yield transaction
            # First: a statement after the end of a transaction begins another.
            transaction.require_open()
            transaction.flush_audit()

    @contextmanager
    def reading(self) -> Generator[Transaction]:
        """A consistent view for reading; the database refuses to write in it."""
        with self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            else:
                connection.execution_options(mlc_read_only=True)
            with connection.begin():
                yield Transaction(connection, self._now(connection), self.actor, reading=True)

    def now(self) -> dt.datetime:
        """The database's time, UTC."""
        with self.reading() as reading:
            return reading.now

    def _now(self, connection: sa.Connection) -> dt.datetime:
        if self._clock is not None:
            return self._clock()
        if connection.dialect.name == "postgresql":
            # clock_timestamp, not now(): a transaction that waited for a lock must not carry an old time.
            return connection.execute(sa.text("select clock_timestamp()")).scalar_one().astimezone(dt.UTC)
        return dt.datetime.now(dt.UTC)

    def close(self) -> None:
        self.engine.dispose()


def open_ledger(url: str, *, actor: str | None = None, clock: Clock | None = None) -> Ledger:
    """Open the ledger, bringing its tables to this version first.

    Raises:
        LedgerError: the database cannot be reached, or belongs to a newer version of the product.
    """
    from mlc_dagster.ledger.migrate import upgrade  # noqa: PLC0415 - imports this module

    engine = create_engine(url)
    try:
        upgrade(engine)
    except DBAPIError as error:
        place = engine.url.render_as_string(hide_password=True)
        msg = f"ledger {place} cannot be opened: {' '.join(str(error.orig).split())}; check ledger.url in mlc.yaml"
        raise LedgerError(msg) from None
    return Ledger(engine, actor=actor, clock=clock)
