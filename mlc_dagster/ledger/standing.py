"""What is known of an invoice in Fusion, from its state and its attempts.

The one rule by which further appearances are decided, and by which those that waited for an outcome are taken up.
Belongs here: the rule, as columns of a query. Does not: what a further appearance means then (``stampli.occurrences``).
"""

from enum import StrEnum

import sqlalchemy as sa

from mlc_dagster.ledger.schema import invoice, invoice_occurrence, submission
from mlc_dagster.ledger.states import CREATED_STATES, IN_FLIGHT_STATES, InvoiceState, OccurrenceOutcome
from mlc_dagster.ledger.submissions import Phase


class Standing(StrEnum):
    """What is known of an invoice in Fusion."""

    NOT_SENT = "NOT_SENT"
    UNKNOWN = "UNKNOWN"
    """Something of it may be in Fusion: a further appearance waits."""
    IN_FUSION = "IN_FUSION"
    ABANDONED = "ABANDONED"
    """Two people gave it up after Fusion was asked: a newer appearance is held by ``releases.held_after_abandon``."""


_HELD_BY_FUSION = sorted(map(str, (*CREATED_STATES, InvoiceState.ALREADY_IN_FUSION)))
_GIVEN_UP_UNKNOWN = sa.exists().where(
    submission.c.invoice_pk == invoice.c.id,
    submission.c.phase == str(Phase.UNKNOWN),
    submission.c.ended_at.is_not(None),
)

STANDING: sa.ColumnElement[str] = sa.case(
    # Evidence of creation counts, whatever is believed of the invoice otherwise.
    (sa.or_(invoice.c.state.in_(_HELD_BY_FUSION), invoice.c.fusion_invoice_id.is_not(None)), str(Standing.IN_FUSION)),
    (invoice.c.state.in_(sorted(map(str, IN_FLIGHT_STATES))), str(Standing.UNKNOWN)),
    (
        sa.and_(invoice.c.state == str(InvoiceState.PARKED), invoice.c.reason == "SUBMIT_UNKNOWN"),
        str(Standing.UNKNOWN),
    ),
    (
        sa.and_(invoice.c.state == str(InvoiceState.REJECTED), invoice.c.reason == "ABANDONED"),
        str(Standing.ABANDONED),
    ),
    # An attempt was given up without anybody finding out its outcome, whatever the invoice is parked for by now.
    (_GIVEN_UP_UNKNOWN, str(Standing.UNKNOWN)),
    else_=str(Standing.NOT_SENT),
)
"""``Standing`` of a row of ``invoice``."""

DECIDABLE: sa.ColumnElement[bool] = sa.and_(
    invoice_occurrence.c.outcome == str(OccurrenceOutcome.WAITING), STANDING.is_distinct_from(str(Standing.UNKNOWN))
)
"""Whether an appearance waited for an outcome that is now known; of ``invoice_occurrence`` joined to ``invoice``."""
