"""The rows of the audit trail as the chain hashes them, streamed by the database's own driver.

What belongs here: the exact text of an event under its hash, and reading and appending rows without SQLAlchemy's
per-row cost. What does not: what a good chain is (``audit_verify``), when links are written (``audit``).
"""

import hashlib
import json.encoder
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import count, islice
from typing import Any, cast

from mlc_dagster.ledger.database import Transaction

GENESIS = "0" * 64
"""What stands for the hash before the first link."""

RawEvent = tuple[int, str, str, str, str, str]
"""id, at, actor, kind, subject, detail; detail is the stored text."""
Link = tuple[int, int, str, str]
"""seq, event_id, previous_hash, hash."""

_AT_ONCE = 5_000
_FETCHED = 1_000
_names = count(1)
"""PostgreSQL's cursors have names; two may be open at once."""
_FAR = 1_000_000
"""Links that are missing in a row before one is taken for put in; what was removed from a chain is seldom as much."""
_AT_LENGTH = len("2026-03-02T09:00:00.000000Z")
_quote_subject: Callable[[str], str] = json.encoder.encode_basestring
_quote = lru_cache(maxsize=4096)(_quote_subject)
"""Actors and kinds come again and again."""

# On SQLite the stored text of a time is already what is hashed.
_AT = {
    "sqlite": "e.at",
    "postgresql": """to_char(e.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""",
}


def event_text(event: RawEvent) -> str:
    """The event in canonical JSON: the same characters as ``canonical_json`` gives, without decoding ``detail``.

    ``detail`` was written by ``canonical_json``; whoever changes as much as a blank in it changes the hash. Everything
    before it has a fixed length or is quoted, so that no value can pass for a part of its neighbour.

    A row whose columns hold what the ledger never writes (SQLite takes anything) gets a text that no other row has.
    """
    event_id, at, actor, kind, subject, detail = event
    try:
        if at.__class__ is str and len(at) == _AT_LENGTH and detail.__class__ is str:
            return (
                f'{{"actor":{_quote(actor)},"at":"{at}","detail":{detail},"id":{event_id},'
                f'"kind":{_quote(kind)},"subject":{_quote_subject(subject)}}}'
            )
    except TypeError:
        pass  # Only text can be quoted.
    return f"not written by the ledger: {event!r}"


def link_hash(previous: str, event: RawEvent) -> str:
    """SHA-256 over the link before and the event, hex."""
    return hashlib.sha256((previous + event_text(event)).encode()).hexdigest()


def _driver(transaction: Transaction) -> Any:
    return cast("Any", transaction.connection.connection.driver_connection)


def stream(transaction: Transaction, statement: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
    """Rows of a statement one by one, with memory for a few thousand of them; ``?`` marks a parameter."""
    driver = _driver(transaction)
    if transaction.connection.dialect.name == "postgresql":
        with driver.cursor(name=f"mlc_audit_{next(_names)}") as cursor:
            cursor.itersize = _FETCHED
            cursor.execute(statement.replace("%", "%%").replace("?", "%s"), parameters)
            yield from cursor
        return
    cursor = driver.cursor()
    try:
        yield from cursor.execute(statement, parameters)
    finally:
        cursor.close()


def _columns(transaction: Transaction) -> str:
    return f"e.id, {_AT[transaction.connection.dialect.name]}, e.actor, e.kind, e.subject, e.detail"


def walk(transaction: Transaction, first: int | None = None, last: int | None = None) -> Iterator[tuple[Any, ...]]:
    """Links with their events by seq: the columns of ``Link``, then those of ``RawEvent`` (None where it is gone).

    All there are, whatever their numbers, or those from ``first`` to ``last``.
    """
    limits = [("c.seq >= ?", first), ("c.seq <= ?", last)]
    where = " and ".join(term for term, limit in limits if limit is not None)
    where = f"where {where} " if where else ""
    statement = (
        f"select c.seq, c.event_id, c.previous_hash, c.hash, {_columns(transaction)} "  # noqa: S608 - our own names
        f"from audit_chain c left join audit_event e on e.id = c.event_id {where}order by c.seq"
    )
    return stream(transaction, statement, [limit for _, limit in limits if limit is not None])


def events_around(transaction: Transaction, event_id: int, distance: int) -> Iterator[RawEvent]:
    """Events whose ids are at most ``distance`` away."""
    statement = f"select {_columns(transaction)} from audit_event e where e.id between ? and ? order by e.id"  # noqa: S608
    return cast("Iterator[RawEvent]", stream(transaction, statement, (event_id - distance, event_id + distance)))


def last_link(transaction: Transaction) -> Link | None:
    """The last link of the chain; one that somebody put in far behind it does not count.

    Each link has an event of its own, so that there are never more links than the newest event's id says; then, or
    where the link before the last is missing, the first wide gap is looked for.
    """
    columns = "select c.seq, c.event_id, c.previous_hash, c.hash from audit_chain c"
    last = next(stream(transaction, f"{columns} order by c.seq desc limit 1"), None)
    if last is None:
        return None
    sound = "select 1 where exists (select 1 from audit_chain where seq = ?) and ? <= (select max(id) from audit_event)"
    if last[0] == 1 or next(stream(transaction, sound, (last[0] - 1, last[0])), None) is not None:
        return cast("Link", last)
    near = "select 1 from audit_chain n where n.seq > c.seq and n.seq - c.seq <= ?"
    gap = f"{columns} where c.seq > 0 and not exists ({near}) order by c.seq limit 1"
    return cast("Link | None", next(stream(transaction, gap, (_FAR,)), None))


def sealable(transaction: Transaction, last_event: int, most: int) -> Iterator[list[RawEvent]]:
    """Events that may be sealed now, in the order of the chain, in batches.

    SQLite: ids commit in order, so those above the last sealed one, at most ``most`` (the writers wait meanwhile); one
    below was put in later and must not become part of the chain. PostgreSQL: ids are given out before the commit, so
    all that are absent from the chain and whose inserting transaction is older than every running one: nothing can
    still commit before them.
    """
    columns = _columns(transaction)
    if transaction.connection.dialect.name == "postgresql":
        statement = (
            f"select {columns} from audit_event e "  # noqa: S608 - our own names
            # Ages, not numbers: transaction ids begin anew after four thousand million.
            "where age(e.xmin) > age(pg_snapshot_xmin(pg_current_snapshot())::xid) "
            "and e.id > 0 and not exists (select 1 from audit_chain c where c.event_id = e.id) order by e.id"
        )
        rows = stream(transaction, statement)
    else:
        statement = f"select {columns} from audit_event e where e.id > ? order by e.id limit ?"  # noqa: S608
        rows = stream(transaction, statement, (last_event, most))
    found = cast("Iterator[RawEvent]", rows)
    while batch := list(islice(found, _AT_ONCE)):
        yield batch


def append_links(transaction: Transaction, links: Sequence[Link]) -> None:
    """Append links to the chain, as part of the transaction."""
    driver = _driver(transaction)
    if transaction.connection.dialect.name == "postgresql":
        statement = "copy audit_chain (seq, event_id, previous_hash, hash) from stdin"
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for link in links:
                copy.write_row(link)
        return
    driver.executemany("insert into audit_chain (seq, event_id, previous_hash, hash) values (?, ?, ?, ?)", links)
