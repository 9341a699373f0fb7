"""The audit trail's seal: one hash chain over all events, written by one sealer apart from the writers.

Events are written unsealed in the transaction of the change they report. The sealer appends (seq, event, previous
hash, hash) under a lock it does not wait for. Whether the chain holds is ``audit_verify``'s question, signed
checkpoints of it are ``checkpoints``', and both together for a configuration are ``audit_sealing``'s.
"""

import sqlalchemy as sa

from mlc_dagster.ledger.audit_rows import GENESIS, Link, append_links, last_link, link_hash, sealable
from mlc_dagster.ledger.audit_verify import Verification, verify
from mlc_dagster.ledger.database import Ledger, LedgerError, Transaction

__all__ = ["GENESIS", "Verification", "seal", "sealer_alone", "verify"]

_LOCK = 0x6D6C6373  # "mlcs"
_CHUNK = 5_000
"""Events of one transaction on SQLite, whose writers wait for it."""
_MOST_LINKS = 2**62
"""No ledger comes near; behind it there would soon be no number left."""


def sealer_alone(transaction: Transaction) -> bool:
    """True when this transaction is the only one that seals or makes checkpoints; it does not wait for another.

    SQLite's transactions follow each other in any case.
    """
    if transaction.connection.dialect.name != "postgresql":
        return True
    return bool(transaction.value(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))))


def seal(ledger: Ledger) -> int:
    """Append all sealable events to the chain; returns how many. Another sealer at work: 0, without waiting.

    Raises:
        LedgerError: links with numbers that no ledger reaches were put in.
    """
    sealed = 0
    while True:
        with ledger.transaction() as transaction:
            if not sealer_alone(transaction):
                return sealed
            seq, event, _, previous = last_link(transaction) or (0, 0, GENESIS, GENESIS)
            if seq >= _MOST_LINKS:
                msg = f"nothing is sealed: link {seq} was put in far behind the chain's end; run `mlc audit verify`"
                raise LedgerError(msg)
            count = 0
            for batch in sealable(transaction, event, _CHUNK):
                links: list[Link] = []
                for row in batch:
                    seq += 1
                    link = link_hash(previous, row)
                    links.append((seq, row[0], previous, link))
                    previous = link
                append_links(transaction, links)
                count += len(links)
        sealed += count
        if count < _CHUNK or ledger.engine.dialect.name == "postgresql":
            return sealed
