"""Looks for planted secrets in whatever the product leaves behind, in every form in which a secret travels.

What belongs here: forms of a value, and reading folders, archives and databases down to their texts. It shares nothing
with the product's own masking, so that a form which that one forgets is found here. What does not: which secrets.
"""

import base64
import gzip
import html
import io
import json
import re
import secrets
import sqlite3
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

import psycopg
from psycopg import sql

SHORTEST_LINE = 24
"""Characters of a key's line that is looked for; a shorter one could stand elsewhere by chance."""
_LINES_OF_A_KEY = 3
_PIECE = 20


def canary(*, ascii_only: bool = False) -> str:
    """A new secret: two distinctive halves, with characters between them that each encoding writes in its own way."""
    return secrets.token_hex(8) + ("_+/" if ascii_only else "_\"ü'+/ &%\\") + secrets.token_hex(8)


class Scanner:
    """Knows the planted secrets by name."""

    def __init__(self, planted: Mapping[str, str]) -> None:
        self._names: dict[bytes, str] = {}
        for name, value in planted.items():
            for part in _parts(value):
                self._names |= dict.fromkeys(_forms(part), name)

    def found_in(self, content: bytes) -> set[str]:
        """Names of the secrets that stand in these bytes, whole or in part."""
        return {name for form, name in self._names.items() if form in content}

    def leaks(self, places: Iterable[tuple[str, bytes]]) -> list[str]:
        """``place: name of the secret``, sorted; ``places`` are names and contents."""
        return sorted({f"{place}: {name}" for place, content in places for name in self.found_in(content)})


def _parts(value: str) -> Iterator[str]:
    """What is distinctive of a value. A text that was cut shows half a secret, which is one too many."""
    lines = [line for line in value.splitlines() if len(line) >= SHORTEST_LINE and "-----" not in line]
    if len(value.splitlines()) > 1:
        # The first lines of keys of one kind are alike.
        yield from lines[-_LINES_OF_A_KEY - 1 : -1]
        return
    halves = re.findall(r"[0-9a-f]{16}", value)
    # Of other values too, but not their beginning: assertions all begin alike.
    middle = len(value) // 2
    yield from halves or [value[middle : middle + _PIECE], value[-_PIECE:]]


def _forms(part: str) -> set[bytes]:
    """As it is, URL-encoded, escaped for JSON, Python and HTML, hexadecimal, and in base64 wherever it may begin."""
    texts = {part, quote(part), quote(part, safe=""), quote_plus(part), repr(part)[1:-1]}
    texts |= {json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1], json.dumps(json.dumps(part))[3:-3]}
    texts |= {html.escape(part), html.escape(part, quote=False)}
    texts |= {re.sub("%..", lambda code: code[0].lower(), text) for text in texts}
    forms = {text.encode() for text in texts} | {part.encode("utf-16-le"), part.encode().hex().encode()}
    for before in range(3):
        # Characters at both ends depend on what stands beside the value.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(b"\0" * before + part.encode()).rstrip(b"=")
            forms.add(encoded[4 if before else 0 : -1])
    return forms


def files_below(*folders: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of all files, of what is inside archives, and of the rows of SQLite databases."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            yield f"name of {path}", str(path).encode()
            if path.is_file():
                content = path.read_bytes()
                yield from _unpacked(str(path), content)
                if content.startswith(b"SQLite format 3"):
                    yield from _sqlite(path)


def _unpacked(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    yield name, content
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from _unpacked(f"{name}!{member}", archive.read(member))
    elif content.startswith(b"\x1f\x8b"):
        yield from _unpacked(f"{name}!", gzip.decompress(content))


def _sqlite(path: Path) -> Iterator[tuple[str, bytes]]:
    """Rows as well as pages: a long value is spread over several pages, and Dagster keeps snapshots compressed."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            for row in connection.execute(f'select * from "{table}"'):
                for value in row:
                    yield f"{path}, table {table}", _as_bytes(value)


def postgres_rows(url: str) -> Iterator[tuple[str, bytes]]:
    """All values of all tables of a PostgreSQL database; ``url`` as SQLAlchemy writes it."""
    with psycopg.connect(re.sub(r"^postgresql\+\w+", "postgresql", url)) as connection:
        query = (
            "select schemaname, tablename from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
        )
        for schema, table in connection.execute(query).fetchall():
            rows = connection.execute(sql.SQL("select * from {}").format(sql.Identifier(schema, table)))
            for row in rows:
                for value in row:
                    yield f"PostgreSQL, table {table}", _as_bytes(value)


def _as_bytes(value: object) -> bytes:
    content = value if isinstance(value, bytes) else str(value).encode()
    with suppress(zlib.error):
        content += zlib.decompress(content)
    return content
