"""What the embedded Fusion itself saw: was any invoice sent again before its absence was looked up often enough?

Told from Fusion's own list of requests, without a word of the product's ledger, which may be wrong about itself.
"""

import datetime as dt
import itertools
from collections.abc import Iterable
from urllib.parse import unquote_plus

from mlc_dagster.sandbox.books import RequestEntry
from mlc_dagster.sandbox.faults import AFTER
from mlc_dagster.sandbox.server import FusionSandbox

_PROOFS_AFTER_ANSWER = {401: 0, 302: 1, 403: 1, 404: 1, 405: 1, 406: 1, 415: 1, 429: 1, 503: 1}
"""Look-ups that must come before the next copy, after a complete answer which says that nothing was stored. A request
whose token was refused is sent again with another one."""
_PROOFS_AFTER_ANYTHING_ELSE = 2
_BLINDED = {"zero_rows", "wrong_dialect", *AFTER}
"""Faults that make an answer show less than there is, or that let nothing of it be read."""
_STORED_UNHEARD = {*AFTER, "commit_late"}
_ANSWERED_FOR_FUSION = "status"
"""A fault that answers, whatever it says, before Fusion has seen the request."""


def assert_sent_with_proof(fusion: FusionSandbox) -> None:
    """Every further copy of an invoice came after enough look-ups, none of which could have seen the one before."""
    seen = sorted(fusion.books.requests(route="invoices"), key=lambda entry: entry.started)
    for number in sorted({entry.number for entry in seen if entry.number}):
        copies = [entry for entry in seen if entry.number == number]
        for before, after in itertools.pairwise(copies):
            between = [e for e in _look_ups(seen, number) if before.started < e.started < after.started]
            needed = _PROOFS_AFTER_ANSWER.get(before.status, _PROOFS_AFTER_ANYTHING_ELSE)
            assert len(between) >= needed, (
                f"{number} was sent again after {len(between)} look-ups, {needed} are needed; before it: {before}"
            )
            if stored := _stored_at(before):
                assert all(each.started < stored for each in between), (
                    f"{number} was sent again although a look-up came after it was stored: {before}"
                )


def _look_ups(seen: Iterable[RequestEntry], number: str) -> list[RequestEntry]:
    """First pages that were asked for by the number and answered in full."""
    return [
        entry
        for entry in seen
        if (entry.method, entry.status) == ("GET", 200)
        and not _BLINDED & set(entry.faults)
        and "offset=0" in entry.query
        and f"'{number}'" in unquote_plus(entry.query)
    ]


def _stored_at(post: RequestEntry) -> dt.datetime | None:
    """When a POST had stored its invoice, at the latest; None where it stored nothing."""
    created = post.status == 201 and _ANSWERED_FOR_FUSION not in post.faults
    if created or _STORED_UNHEARD & set(post.faults):
        return post.started + dt.timedelta(seconds=post.seconds)
    return None
