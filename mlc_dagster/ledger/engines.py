"""Connections to the ledger's database: what each is told before anything else is done with it.

SQLite: WAL, synchronous=FULL, transactions that we begin ourselves. PostgreSQL: tables of the ledger's schema alone.
"""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from mlc_dagster.ledger.errors import LedgerError

_READ_ONLY = "mlc_read_only"
"""In the notes on a connection of SQLite: whether it was last told to write nothing."""


def _prepare_sqlite(engine: sa.Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # We begin transactions ourselves.
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA busy_timeout=60000")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # IMMEDIATE: a writer takes the lock at its start, so that two never read, decide and then collide.
        read_only = bool(connection.get_execution_options().get("mlc_read_only"))
        if connection.info.get(_READ_ONLY) is not read_only:
            connection.exec_driver_sql(f"PRAGMA query_only={'ON' if read_only else 'OFF'}")
            connection.info[_READ_ONLY] = read_only
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    assert _connect is not None and _begin is not None  # noqa: S101, PT018 - registered by decoration


_LEDGER_SCHEMAS = (
    "select n.nspname, quote_ident(n.nspname) from pg_catalog.pg_class c "
    "join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relname = 'audit_chain' "
    "and n.nspname !~ '^pg_' order by n.nspname"
)


def _pin_schema(engine: sa.Engine) -> None:
    """Look for tables in the ledger's schema alone, whatever the database or the role says about ``search_path``.

    Who may set that for others could lead them to tables of the same names that he made. A url with a search_path of
    its own (``?options=-csearch_path%3Dmlc``) is followed.
    """

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        # Outside a transaction: a SET is undone when the transaction around it is.
        connection.autocommit = True
        with connection.cursor() as cursor:
            # What stands before pg_catalog could answer the question itself.
            cursor.execute("set search_path to pg_catalog, pg_temp")
            found = cursor.execute(_LEDGER_SCHEMAS).fetchall()
            cursor.execute("reset search_path")
            if len(found) > 1:
                msg = (
                    f"the ledger's database has ledger tables in the schemas {', '.join(row[0] for row in found)}: "
                    "drop those that are not the ledger's, or name its schema in ledger.url with "
                    "?options=-csearch_path%3DSCHEMA"
                )
                raise LedgerError(msg)
            if found:
                # pg_temp, when it is not named, would come first.
                cursor.execute(f"set search_path to {found[0][1]}, pg_temp")
        connection.autocommit = False

    assert _connect is not None  # noqa: S101 - registered by decoration


def create_engine(url: str) -> sa.Engine:
    """An engine for ``sqlite:///path`` or ``postgresql+psycopg://…``; makes the folder of a SQLite file.

    Connecting raises LedgerError when tables of a ledger are in more than one schema and the url names none.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(parsed, connect_args={"timeout": 60, "check_same_thread": False})
        _prepare_sqlite(engine)
        return engine
    engine = sa.create_engine(parsed, pool_pre_ping=True, pool_size=5, max_overflow=10)
    if "search_path" not in str(parsed.query.get("options", "")):
        _pin_schema(engine)
    return engine
