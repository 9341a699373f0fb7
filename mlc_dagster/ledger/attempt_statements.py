"""The statements that every attempt at an invoice passes through, made once.

What belongs here: their text alone. When they are run, and what may follow, is in ``submissions``.
"""

import sqlalchemy as sa

from mlc_dagster.ledger.prepared import Prepared, bound
from mlc_dagster.ledger.schema import fusion_claim, submission

_EARLIER = submission.alias("earlier")
_FROZEN = (
    "invoice_pk", "occurrence_id", "pod", "window_start", "generation", "invoice_group", "body", "body_sha256",
    "mapped_with", "phase", "owner", "fence", "lease_until", "created_at",
)  # fmt: skip

INTENT = Prepared(
    sa.insert(submission)
    .values(
        bound(*_FROZEN)
        | {
            "attempt": sa.select(sa.func.coalesce(sa.func.max(_EARLIER.c.attempt), 0) + 1)
            .where(_EARLIER.c.invoice_pk == sa.bindparam("of"))
            .scalar_subquery()
        }
    )
    .returning(submission.c.id, submission.c.attempt)
)
"""The invoice's next attempt; ``of`` is its key once more."""

ATTEMPT = Prepared(
    sa.select(
        submission.c.invoice_pk, submission.c.attempt, submission.c.phase, submission.c.pod, submission.c.occurrence_id
    ).where(submission.c.id == sa.bindparam("key"))
)

CREATED = Prepared(
    sa.update(submission)
    .where(submission.c.id == sa.bindparam("key"))
    .values(
        phase=sa.bindparam("ended_as"), fusion_invoice_id=sa.bindparam("invoice"),
        http_status=sa.bindparam("answered"), ended_at=sa.bindparam("now"),
    )
)  # fmt: skip

THIS_NUMBER = sa.and_(*(fusion_claim.c[name] == sa.bindparam(name) for name in ("pod", "supplier_id", "number_key")))
