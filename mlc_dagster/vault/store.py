"""The encrypted store: one SQLite file of its own, apart from the ledger, whose rows only the keys can open.

What belongs here: rows, who changed them and when, and moving them to a new key while others read and write. What does
not: the keys themselves (``keys``). A row that cannot be opened needs re-entry and stops nothing else.
"""

import datetime as dt
import os
import re
import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from mlc_dagster.vault.errors import SecretError
from mlc_dagster.vault.keys import KeySource, Unreadable
from mlc_dagster.vault.redaction import SHORTEST_MASKED
from mlc_dagster.vault.secret_file import LARGEST_SECRET, refuse_open_permissions

FILE_NAME: Final = "secrets.sqlite"
SET, REMOVED, ROTATED = "secret.set", "secret.removed", "secret.keys_rotated"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,199}")
_BATCH = 100
"""Rows moved to the new key per transaction: others wait for a few milliseconds only."""
_LOOKS = 20
"""How often a row is read again that moved to another key meanwhile; each look needs another rotation to fail."""
_SCHEMA = """
create table secret (
    name text primary key, key_id text not null, sealed blob not null,
    changed_at text not null, changed_by text not null
) without rowid, strict;
create table change (
    id integer primary key, at text not null, by text not null, kind text not null, name text not null,
    key_id text not null, told integer not null default 0
) strict;
"""


_ROW = (
    "name, key_id, sealed, (select c.id || '/' || c.at from change c where c.name = secret.name order by c.id desc "
    "limit 1)"
)
"""With number and time of the secret's last change, which a value must be sealed with: an older one is refused."""


class _Row(NamedTuple):
    name: str
    key_id: str
    sealed: bytes
    version: str | None


@dataclass(frozen=True)
class StoredSecret:
    """What may be told of a secret: everything but its value."""

    name: str
    key_id: str
    changed_at: dt.datetime
    changed_by: str
    fault: str | None = None
    """Why it needs re-entry; None for one that can be read."""


@dataclass(frozen=True)
class Change:
    """Who changed what, and when; never a value."""

    id: int
    at: dt.datetime
    by: str
    kind: str
    name: str
    """The secret's name; empty where the keys changed."""
    key_id: str


@dataclass(frozen=True)
class Rotation:
    """What a change of keys did."""

    added: str | None
    """Id of the new key; None where the keys are in the environment, which only people change."""
    newest: str
    moved: int
    """How many secrets are sealed with the newest key that were not before."""
    unreadable: tuple[StoredSecret, ...]
    dropped: tuple[str, ...]
    not_needed: tuple[str, ...]
    """Ids of keys that no secret needs any more and that are still there."""


class SecretStore:
    """The store at ``path``. Every call opens and closes the file: nothing is held between two uses."""

    def __init__(self, path: Path, keys: KeySource) -> None:
        self.path = path
        self.keys = keys

    def __repr__(self) -> str:
        """The file."""
        return f"SecretStore({self.path})"

    def get(self, name: str) -> str:
        """The value of a secret.

        Raises:
            SecretError: there is none of that name, no key, or it needs re-entry.
        """
        reference, before = f"store:{name}", None
        for _ in range(_LOOKS):
            row = self._row(name)
            # After the row: the key that sealed it was among the keys then, and is still unless the row moved on.
            ring = self.keys.read(reference)
            if row is None:
                raise SecretError(reference, "is not in the encrypted store", f"run: mlc secrets set {name}")
            if row.key_id not in ring.ids and row != before:
                before = row
                continue
            try:
                return ring.open(*row)
            except Unreadable as fault:
                raise SecretError(
                    reference, f"needs re-entry: {fault.reason}", f"run: mlc secrets set {name}"
                ) from None
        raise SecretError(reference, "moves from key to key without end", "see which process runs `mlc secrets rotate`")

    def put(self, name: str, value: str, *, by: str, at: dt.datetime) -> str:
        """Keep ``value`` under ``name``, in place of an earlier one; the id of the key that seals it.

        Raises:
            SecretError: the name or the value cannot be one, or there is no key.
        """
        refuse_name(name)
        reference = f"store:{name}"
        if len(value) < SHORTEST_MASKED:
            fault = f"the value has fewer than {SHORTEST_MASKED} characters and could not be kept out of logs"
            raise SecretError(reference, fault, "use a longer one; nothing was changed")
        if len(value.encode()) > LARGEST_SECRET:
            raise SecretError(reference, f"is over {LARGEST_SECRET} bytes", "that is no password or key")
        self.keys.read(reference)  # Before the file is made: without a key there is nothing to keep in it.
        with self._writing() as connection:
            # Inside the transaction: a rotation that ends meanwhile must not take away the key used here.
            ring = self.keys.read(reference)
            version = _record(connection, SET, name, ring.newest, by, at)
            connection.execute(
                "insert or replace into secret values (?, ?, ?, ?, ?)",
                (name, ring.newest, ring.seal(name, value, version), at.isoformat(), by),
            )
        return ring.newest

    def remove(self, name: str, *, by: str, at: dt.datetime) -> None:
        """Forget a secret; raises SecretError when there is none of that name."""
        if self._row(name) is None:
            raise SecretError(f"store:{name}", "is not in the encrypted store", "see `mlc secrets list`")
        with self._writing() as connection:
            found = connection.execute("delete from secret where name = ? returning key_id", (name,)).fetchone()
            if found is not None:
                _record(connection, REMOVED, name, found[0], by, at)
        self._forget_old_pages()

    def entries(self) -> list[StoredSecret]:
        """All secrets by name, each with what is wrong with it; raises SecretError when there is no key."""
        rows = self._all_rows()
        ring = self.keys.read()
        entries: list[StoredSecret] = []
        for row, at, by in rows:
            fault: str | None = None
            try:
                # A row that moved to a newer key since is looked up again.
                _ = ring.open(*row) if row.key_id in ring.ids else self.get(row.name)
            except Unreadable as unreadable:
                fault = f"needs re-entry: {unreadable.reason}"
            except SecretError as error:
                fault = error.fault
            entries.append(StoredSecret(row.name, row.key_id, dt.datetime.fromisoformat(at), by, fault))
        return entries

    def key_ids(self) -> list[str]:
        """Ids of the keys that rows name, whether or not those keys are here."""
        return sorted({row.key_id for row, _, _ in self._all_rows()})

    def rotate(self, *, by: str, at: dt.datetime, drop_old: bool = False) -> Rotation:
        """Put a new key in front and seal every secret with it; readers and writers go on meanwhile.

        Args:
            by: who asks.
            at: when (UTC).
            drop_old: take keys out of the file that no secret needs any more; backups of the store need them still.

        Raises:
            SecretError: there is no key, or the key file cannot be written.
        """
        before = self.keys.read()
        with self._writing() as connection:
            added = None if self.keys.in_environment else self.keys.add(note=f"{at:%Y-%m-%d} {by}")
            _record(connection, ROTATED, "", added or before.newest, by, at)
        moved, last = 0, ""
        while batch := self._move_some(last):
            moved, last = moved + batch[0], batch[1]
        self._forget_old_pages()
        dropped: list[str] = []
        with self._writing() as connection:
            # Writers seal inside their transaction, so that no row can come to need another key before this one ends.
            ring = self.keys.read()
            needed = {ring.newest, *(found[0] for found in connection.execute("select distinct key_id from secret"))}
            spare = [key for key in ring.ids if key not in needed]
            if drop_old and not self.keys.in_environment:
                dropped, spare = self.keys.keep(needed), []
        unreadable = tuple(entry for entry in self.entries() if entry.fault)
        return Rotation(added, ring.newest, moved, unreadable, tuple(dropped), tuple(spare))

    def changes(self, *, untold_only: bool = False) -> list[Change]:
        """Who changed what, oldest first; ``untold_only``: what the audit trail does not have yet."""
        if not self.path.exists():
            return []
        condition = "where not told" if untold_only else ""
        with self._connected() as connection:
            rows = connection.execute(
                f"select id, at, by, kind, name, key_id from change {condition} order by id"  # noqa: S608 - constants
            ).fetchall()
        return [Change(number, dt.datetime.fromisoformat(at), *rest) for number, at, *rest in rows]

    def told(self, change: Change) -> None:
        """The audit trail has it."""
        with self._writing() as connection:
            connection.execute("update change set told = 1 where id = ?", (change.id,))

    def _move_some(self, after: str) -> tuple[int, str] | None:
        """Seal the next rows after a name anew: how many changed, and the last name; None after the last row."""
        moved = 0
        with self._writing() as connection:
            ring = self.keys.read()
            statement = f"select {_ROW} from secret where name > ? order by name limit ?"  # noqa: S608 - constants
            rows = [_Row(*found) for found in connection.execute(statement, (after, _BATCH)).fetchall()]
            for row in rows:
                if row.key_id == ring.newest and ring.is_current(row.sealed):
                    continue
                with suppress(Unreadable):
                    sealed = ring.seal(row.name, ring.open(*row), row.version or "")
                    connection.execute(
                        "update secret set key_id = ?, sealed = ? where name = ?", (ring.newest, sealed, row.name)
                    )
                    moved += 1
        return (moved, rows[-1].name) if rows else None

    def _row(self, name: str) -> _Row | None:
        if not self.path.exists():
            return None
        with self._connected() as connection:
            statement = f"select {_ROW} from secret where name = ?"  # noqa: S608 - constants
            found = connection.execute(statement, (name,)).fetchone()
        return None if found is None else _Row(*found)

    def _all_rows(self) -> list[tuple[_Row, str, str]]:
        if not self.path.exists():
            return []
        with self._connected() as connection:
            statement = f"select {_ROW}, changed_at, changed_by from secret order by name"  # noqa: S608 - constants
            return [(_Row(*found[:4]), found[4], found[5]) for found in connection.execute(statement).fetchall()]

    def _forget_old_pages(self) -> None:
        # What was sealed with an old key, or removed, is not left behind in the write-ahead log.
        with self._connected() as connection:
            connection.execute("pragma wal_checkpoint(truncate)").fetchall()

    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        if not self.path.exists():
            self._create()
        with self._connected() as connection:
            connection.execute("begin immediate")
            try:
                yield connection
            except BaseException:
                connection.execute("rollback")
                raise
            connection.execute("commit")

    @contextmanager
    def _connected(self) -> Generator[sqlite3.Connection]:
        reference = f"encrypted store {self.path}"
        try:
            refuse_open_permissions(reference, self.path, self.path.stat().st_mode)
            with closing(sqlite3.connect(self.path, timeout=60, isolation_level=None)) as connection:
                connection.execute("pragma synchronous = full")
                connection.execute("pragma secure_delete = on")
                yield connection
        except (sqlite3.Error, OSError) as error:
            fault = f"cannot be used: {error.strerror if isinstance(error, OSError) else error}"
            raise SecretError(
                reference, fault, "check the file and its folder, or restore them from a backup"
            ) from None

    def _create(self) -> None:
        """Made whole beside its place and then given its name: nobody ever sees half of it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=f".{FILE_NAME}.", dir=self.path.parent)  # Mode 0600.
        except OSError as error:
            raise self._not_made(error) from None
        os.close(descriptor)
        try:
            with closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
                connection.execute("pragma journal_mode = wal")
                connection.executescript(_SCHEMA)
            with suppress(FileExistsError):  # Another process was quicker; its file is as good.
                os.link(temporary, self.path)
        except (sqlite3.Error, OSError) as error:
            raise self._not_made(error) from None
        finally:
            Path(temporary).unlink()

    def _not_made(self, error: Exception) -> SecretError:
        why = error.strerror if isinstance(error, OSError) else error
        return SecretError(f"encrypted store {self.path}", f"cannot be made ({why})", "check data_dir in mlc.yaml")


def refuse_name(name: str) -> None:
    """Raise SecretError when ``name`` cannot be a secret's name; it is not repeated, as it may be the secret itself."""
    if not _NAME.fullmatch(name):
        raise SecretError(
            "name of the secret",
            "may have letters, digits and _ . / - only, at most 200, a letter or digit first",
            "write it as after store: in mlc.yaml, such as fusion/client_secret",
        )


def _record(connection: sqlite3.Connection, kind: str, name: str, key: str, by: str, at: dt.datetime) -> str:
    """Enter a change; its number and time, as ``_ROW`` gives them."""
    statement = "insert into change (at, by, kind, name, key_id) values (?, ?, ?, ?, ?)"
    made = connection.execute(statement, (at.isoformat(), by, kind, name, key))
    return f"{made.lastrowid}/{at.isoformat()}"
