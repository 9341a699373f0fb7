"""A folder with an encrypted store and its keys, as `mlc secrets init` leaves them."""

import datetime as dt
import sqlite3
from pathlib import Path

from mlc_dagster.vault import SecretResolver
from mlc_dagster.vault.keys import KeySource
from mlc_dagster.vault.store import SecretStore

AT = dt.datetime(2026, 11, 21, 9, 30, tzinfo=dt.UTC)


def store_in(folder: Path, environ: dict[str, str] | None = None) -> SecretStore:
    """The store of ``folder``; without a key unless one is made."""
    return SecretStore(folder / ".mlc" / "secrets.sqlite", KeySource(environ or {}, folder / "mlc.keys"))


def opened(folder: Path, **secrets: str) -> SecretStore:
    """A store with a key and these secrets."""
    store = store_in(folder)
    store.keys.create(note="test")
    for name, value in secrets.items():
        store.put(name, value, by="anna", at=AT)
    return store


def resolver_in(folder: Path) -> SecretResolver:
    """What a process of the product that starts now would resolve with."""
    return SecretResolver({}, folder)


def change_rows(store: SecretStore, statement: str, *values: object) -> None:
    """What somebody with the file in hand could do to it."""
    connection = sqlite3.connect(store.path)
    with connection:
        connection.execute(statement, values)
    connection.close()
