"""Backups of a rehearsal's ledger, made and restored as an operator does it: a file is copied, a database renamed."""

import shutil
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from psycopg import sql

from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster_tests.servers.partner import Partner
from mlc_dagster_tests.servers.postgres import PostgresServer


class Owner(Protocol):
    """Whatever has a ledger, below ``folder`` where it is a file."""

    folder: Path
    ledger: Ledger


OwnerT = TypeVar("OwnerT", bound=Owner)


class Backups(Generic[OwnerT]):
    """Copies of a ledger, and putting one in its place."""

    def __init__(self, remote: OwnerT, server: PostgresServer | None) -> None:
        self.remote = remote
        self._server = server
        self._numbers = count(1)

    def make(self) -> str:
        """A copy of the ledger as it is: a file, or a database."""
        remote = self.remote
        remote.ledger.close()
        if self._server is not None:
            return self._server.create_database(self._database)
        copy = remote.folder / f"backup-{next(self._numbers)}.sqlite"
        with closing(sqlite3.connect(self._file)) as now, closing(sqlite3.connect(copy)) as kept:
            now.backup(kept)
        return str(copy)

    def restore(self, backup: str) -> None:
        """The ledger is what it was."""
        remote, url = self.remote, self.remote.ledger.engine.url.render_as_string(hide_password=False)
        remote.ledger.close()
        if self._server is not None:
            database = self._database
            self._server.drop_database(database)
            self._server.execute(_rename(backup, database))
        else:
            for path in self._file.parent.glob(f"{self._file.name}*"):
                path.unlink()
            shutil.copyfile(backup, self._file)
        remote.ledger = open_ledger(url)

    @property
    def _database(self) -> str:
        return str(self.remote.ledger.engine.url.database)

    @property
    def _file(self) -> Path:
        return self.remote.folder / "data" / "ledger.sqlite"


def _rename(old: str, new: str) -> sql.Composed:
    return sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))


def backup(acme: Partner) -> Path:
    """A copy of a partner's ledger, which is closed."""
    acme.ledger.close()
    file = Path(str(acme.ledger.engine.url.database))
    return Path(shutil.copyfile(file, file.with_suffix(".backup")))


def restore(acme: Partner, copy: Path) -> None:
    """The partner's ledger is what it was."""
    acme.ledger.close()
    file = Path(str(acme.ledger.engine.url.database))
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink()
    shutil.copyfile(copy, file)
    acme.ledger = open_ledger(acme.place.ledger_url)
