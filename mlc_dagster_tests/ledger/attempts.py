"""What the tests do to an attempt: give it an end, or a further attempt."""

import datetime as dt
from typing import Any

from mlc_dagster.ledger import recovery, submissions
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.submissions import Intent, Phase
from mlc_dagster_tests.ledger.population import LEASE

WAIT = dt.timedelta(seconds=360)
HALF = dt.timedelta(seconds=180)


def end(ledger: Ledger, how: str, intent: Intent, **given: Any) -> Any:
    """Give the attempt the end that ``how`` names, in a transaction of its own."""
    usual: dict[str, dict[str, Any]] = {
        "mark_created": {"fusion_invoice_id": 300_001, "http_status": 201, "evidence": "answer"},
        "mark_refused": {"wait": dt.timedelta(seconds=5), "http_status": 503, "why": "busy"},
        "mark_unknown": {"wait": WAIT, "http_status": None, "why": "time-out"},
        "mark_absent_once": {"next_look": HALF},
        "release": {"why": "lease lost"},
        "mark_foreign": {"fusion_invoice_id": 99, "differences": {"amount": ["1.00", "2.00"]}},
        "park_submission": {
            "phase": Phase.REJECTED, "reason": "FUSION_REJECTED", "problem": {"reason": "FUSION_REJECTED"},
            "http_status": 400, "answer": "no",
        },
    }  # fmt: skip
    with ledger.transaction() as transaction:
        return getattr(submissions, how)(transaction, intent.submission_id, **(usual[how] | given))


def again(ledger: Ledger, intent: Intent, ended_as: Phase, body: bytes | None = None) -> Intent | None:
    with ledger.transaction() as transaction:
        before = recovery.get_submission(transaction, intent.submission_id)
        return submissions.claim_again(
            transaction, before, owner="two", fence=2, lease=LEASE, ended_as=ended_as, body=body
        )
