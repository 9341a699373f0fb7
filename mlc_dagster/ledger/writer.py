"""One writer per process: changes from many tasks, committed together.

A durable commit costs far more than the rows in it, so changes that wait at the same time share one. One that fails
does not take its neighbours with it: they are run again, each in a savepoint. ``submit`` returns after the commit.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from mlc_dagster.ledger.database import Ledger, Transaction

T = TypeVar("T")
Change = Callable[[Transaction], Any]

_LARGEST_GROUP = 256
_IDLE = 2.0
"""Seconds."""
_TRIES = 5
_TRY_AGAIN = ("40001", "40P01")
"""PostgreSQL's serialization failure and deadlock: nothing was written, and the same changes will pass."""

_Waiting = tuple[Change, asyncio.Future[Any], asyncio.AbstractEventLoop]
_Ended = tuple[Any, BaseException | None]


class LedgerWriter:
    """Runs changes in a thread of its own, as many as are waiting in each commit.

    A change works through its transaction alone: after a deadlock with another process, or a neighbour's failure, it
    is run again.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._changes: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closed = False
        self._connection: sa.Connection | None = None
        """Kept from commit to commit: fetching one and giving it back costs as much as a change."""
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self.commits = 0

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        self._changes.put(None)
        await asyncio.to_thread(self._thread.join)

    async def submit(self, change: Callable[[Transaction], T]) -> T:
        """Run ``change`` in the next commit; its result, once that is durable, or its exception.

        Raises:
            RuntimeError: the writer was closed; nothing was written.
        """
        if self._closed:
            msg = "the ledger's writer is closed; nothing more is written through it"
            raise RuntimeError(msg)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._changes.put((change, future, loop))
        return await future

    def _run(self) -> None:
        try:
            self._commit_all()
        finally:
            self._disconnect()

    def _commit_all(self) -> None:
        while True:
            first = self._next()
            if first is None:
                return
            group = [first]
            stop = False
            while len(group) < _LARGEST_GROUP:
                try:
                    following = self._changes.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    stop = True
                    break
                group.append(following)
            self._commit(group)
            if stop:
                return

    def _next(self) -> _Waiting | None:
        """The next change; after a while without one the connection goes back, to be tried before it is used again."""
        if self._connection is not None:
            with suppress(queue.Empty):
                return self._changes.get(timeout=_IDLE)
            self._disconnect()
        return self._changes.get()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _commit(self, group: list[_Waiting]) -> None:
        ended = self._write(group)
        # One call into the loop for all of them: each wakes it.
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], _Ended]]] = {}
        for (_, future, loop), outcome in zip(group, ended, strict=True):
            by_loop.setdefault(loop, []).append((future, outcome))
        for loop, outcomes in by_loop.items():
            # A loop that was closed has nobody waiting in it; the others must still hear.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_end, outcomes)

    def _write(self, group: list[_Waiting]) -> list[_Ended]:
        for attempt in range(1, _TRIES + 1):
            try:
                ended = self._together(group) or self._apart(group)
            except Exception as error:  # noqa: BLE001 - handed to the tasks
                # Nobody's change is durable, unless the connection was lost during COMMIT itself: then all of them
                # may be. Whoever asked ends with the error, and the next run goes by what the ledger says.
                # Whatever it was, the next commit begins on a connection that is known to be good.
                self._disconnect()
                if attempt == _TRIES or getattr(getattr(error, "orig", None), "sqlstate", None) not in _TRY_AGAIN:
                    return [(None, error)] * len(group)
            else:
                self.commits += 1
                return ended
        raise AssertionError("unreachable")

    @contextmanager
    def _transaction(self) -> Generator[Transaction]:
        with ExitStack() as stack:
            kept = self._connection
            try:
                transaction = stack.enter_context(self._ledger.transaction_on(kept or self._connect()))
            except DBAPIError as error:
                if kept is None or not error.connection_invalidated:
                    raise
                # Lost since the last commit: nothing of this one was written yet.
                self._disconnect()
                transaction = stack.enter_context(self._ledger.transaction_on(self._connect()))
            yield transaction

    def _connect(self) -> sa.Connection:
        self._connection = self._ledger.engine.connect()
        return self._connection

    def _together(self, group: list[_Waiting]) -> list[_Ended] | None:
        """All of them without savepoints, which cost as much as a change; None, and nothing written, when one fails."""
        try:
            with self._transaction() as transaction:
                ended: list[_Ended] = [(_run_bare(transaction, change), None) for change, _, _ in group]
                _run_bare(transaction, Transaction.flush_audit)
                return ended
        except _ChangeFailed:
            return None

    def _apart(self, group: list[_Waiting]) -> list[_Ended]:
        with self._transaction() as transaction:
            return [_run_one(transaction, change) for change, _, _ in group]


class _ChangeFailed(Exception):
    """A change raised: which one, and with what, is found out when they are run apart."""


def _run_bare(transaction: Transaction, change: Change) -> Any:
    try:
        result = change(transaction)
        # An error that the change kept to itself.
        transaction.require_open()
    except OperationalError:
        raise
    except Exception as error:
        raise _ChangeFailed from error
    return result


def _run_one(transaction: Transaction, change: Change) -> _Ended:
    try:
        with transaction.savepoint():
            result = change(transaction)
            transaction.require_open()
            # Its events with it: one that cannot be written is this change's fault.
            transaction.flush_audit()
    except OperationalError:
        # Deadlock, full disk, lost server: the database may have ended the whole transaction, neighbours included.
        raise
    except Exception as error:  # noqa: BLE001 - handed to the task that asked for the change
        # Where the savepoint was not enough, the neighbours' changes are gone too.
        transaction.require_open()
        return None, error
    return result, None


def _end(outcomes: "list[tuple[asyncio.Future[Any], _Ended]]") -> None:
    for future, (result, error) in outcomes:
        if future.cancelled():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
