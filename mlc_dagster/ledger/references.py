"""Reference data of Fusion as it was read, with the time of reading; and the crosswalk versions that were used."""

import datetime as dt
from collections.abc import Collection, Mapping

import sqlalchemy as sa

from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.schema import crosswalk_version, reference_cache

_LARGEST_IN = 400


def cached(
    transaction: Transaction, pod: str, kind: str, keys: Collection[str], *, max_age: dt.timedelta
) -> dict[str, tuple[str, dt.datetime]]:
    """(payload, read at) of the keys that were found in Fusion within ``max_age``; what was absent is not returned."""
    wanted = sorted(keys)
    found: dict[str, tuple[str, dt.datetime]] = {}
    for start in range(0, len(wanted), _LARGEST_IN):
        rows = transaction.rows(
            sa.select(reference_cache.c.key, reference_cache.c.payload, reference_cache.c.read_at).where(
                reference_cache.c.pod == pod,
                reference_cache.c.kind == kind,
                reference_cache.c.key.in_(wanted[start : start + _LARGEST_IN]),
                reference_cache.c.payload.is_not(None),
                reference_cache.c.read_at >= transaction.now - max_age,
            )
        )
        found |= {row["key"]: (row["payload"], row["read_at"]) for row in rows}
    return found


def keep(transaction: Transaction, pod: str, kind: str, payloads: Mapping[str, str | None]) -> dt.datetime:
    """Store what Fusion said of each key (None: not there); the time under which it is kept."""
    transaction.upsert(
        reference_cache,
        [
            {"pod": pod, "kind": kind, "key": key, "payload": payload, "read_at": transaction.now}
            for key, payload in payloads.items()
        ],
    )
    if payloads:
        missing = sorted(key for key, payload in payloads.items() if payload is None)
        transaction.audit(
            "reference.read", f"reference:{kind}", keys=len(payloads), not_in_fusion=missing[:100], pod=pod
        )
    return transaction.now


def keep_crosswalk_version(transaction: Transaction, digest: str, contents: Mapping[str, bytes]) -> None:
    """Store the files of a crosswalk version at its first use, so that every mapping can be explained later."""
    for kind, content in contents.items():
        transaction.insert_ignoring(
            crosswalk_version,
            {"digest": f"{digest}:{kind}", "kind": kind, "content": content, "first_used_at": transaction.now},
        )
