"""Brings the tables of a ledger to this version (Alembic), at every opening.

Two processes may open a new ledger at once: PostgreSQL is locked by an advisory lock, SQLite by BEGIN IMMEDIATE.
"""

import threading
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from mlc_dagster.ledger import schema_retention
from mlc_dagster.ledger.database import LedgerError

TABLES = schema_retention.metadata.tables
"""Every table by name; importing this module is what makes the list complete."""

_LOCK = 0x6D6C636C  # "mlcl": any constant that all processes share
_ALEMBIC = threading.Lock()
"""Alembic keeps the migration under way in globals of its module: one at a time per process."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def head() -> str:
    """The newest schema revision this version knows."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def current(connection: sa.Connection) -> str | None:
    """The schema revision of the database; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: sa.Engine) -> None:
    """Apply what is missing; raises LedgerError when the database is newer than this version."""
    with _ALEMBIC, engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        found = current(connection)
        if found == head():
            return
        config = _config()
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if found is not None and found not in known:
            msg = f"the ledger's schema is {found!r}, newer than this version knows; install the newer mlc-dagster"
            raise LedgerError(msg)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
