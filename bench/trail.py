"""The measured programs of ``bench.audit``: writing, sealing and verifying a trail of events as the product does.

``python -m bench.trail fill|insert|insert-bare|seal|verify --ledger URL --events N``; the last line is JSON.
"""

import argparse
import sqlite3
import sys

import sqlalchemy as sa

from bench.measuring import Stopwatch, WrongResult, require_equal, tell
from mlc_dagster.ledger.audit import seal, verify
from mlc_dagster.ledger.audit_rows import event_text
from mlc_dagster.ledger.database import Ledger, Transaction, open_ledger
from mlc_dagster.ledger.schema import audit_event

_BATCH = 1_000


def record(transaction: Transaction, number: int) -> None:
    """An event of the size that the flow writes most: a match with the age of what it was matched with."""
    transaction.audit(
        "account.matched",
        f"invoice:{number}",
        combination="101-10-60540-000-000-000",
        snapshot="read 2026-11-21T08:50:15Z, 12 s old",
        amount="1082.50",
    )


def fill(ledger: Ledger, events: int) -> None:
    """Events for the others to work on, in groups; a run commits them so."""
    for start in range(0, events, _BATCH):
        with ledger.transaction() as transaction:
            for number in range(start, min(start + _BATCH, events)):
                record(transaction, number)


def insert(ledger: Ledger, events: int) -> None:
    """One durable commit per event, through the ledger."""
    for number in range(events):
        with ledger.transaction() as transaction:
            record(transaction, number)


def insert_bare(path: str, events: int) -> None:
    """One durable commit per event with nothing but the driver: the least that a durable row can cost on SQLite."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma synchronous = full")
    detail = (
        '{"amount":"1082.50","combination":"101-10-60540-000-000-000","snapshot":"read 2026-11-21T08:50:15Z, 12 s old"}'
    )
    for number in range(events):
        connection.execute("begin immediate")
        connection.execute(
            "insert into audit_event (at, actor, kind, subject, detail) values (?, ?, ?, ?, ?)",
            ("2026-11-21T08:50:27.000000Z", "bench", "account.matched", f"invoice:{number}", detail),
        )
        connection.execute("commit")
    connection.close()


def count(ledger: Ledger) -> int:
    """Events in the ledger."""
    with ledger.reading() as reading:
        return int(reading.value(sa.select(sa.func.count()).select_from(audit_event)))


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=("fill", "insert", "insert-bare", "seal", "verify"))
    parser.add_argument("--ledger", required=True)
    parser.add_argument("--events", type=int, required=True)
    chosen = parser.parse_args()
    ledger = open_ledger(chosen.ledger, actor="bench")
    there = count(ledger)
    # The first event through a function pays for what is compiled or cached at its first use.
    event_text((1, "2026-11-21T08:50:27.000000Z", "bench", "account.matched", "invoice:0", "{}"))
    watch = Stopwatch()
    if chosen.work == "fill":
        fill(ledger, chosen.events)
    elif chosen.work == "insert":
        insert(ledger, chosen.events)
    elif chosen.work == "insert-bare":
        insert_bare(str(ledger.engine.url.database), chosen.events)
    elif chosen.work == "seal":
        require_equal("events sealed", seal(ledger), chosen.events)
    else:
        found = verify(ledger)
        require_equal("the trail holds", found.faults, ())
        require_equal("events verified", found.sealed, chosen.events)
    facts = watch.stop()
    if chosen.work.startswith(("fill", "insert")) and count(ledger) != there + chosen.events:
        raise WrongResult(f"{chosen.work}: {count(ledger) - there} events of {chosen.events}")
    tell(**facts)
    ledger.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
