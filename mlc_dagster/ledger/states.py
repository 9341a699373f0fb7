"""The life of an invoice and of its appearances: states, the steps allowed between them, and the one way to take one.

``move`` is the only place that changes ``invoice.state``; it checks the step and writes the audit event in the same
transaction. Fusion's own statuses are observations, not states.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import Transaction
from mlc_dagster.ledger.prepared import Prepared
from mlc_dagster.ledger.schema import invoice


class InvoiceState(StrEnum):
    RECEIVED = "RECEIVED"
    """Read from a file; not checked yet."""
    VALIDATED = "VALIDATED"
    """Checked and mapped; nothing sent."""
    SENDING = "SENDING"
    """An intent is committed; the request may be under way, or was refused and waits for its turn."""
    UNKNOWN = "UNKNOWN"
    """Sent, and nobody knows with what outcome: looked up before anything else happens."""
    CREATED = "CREATED"
    """Fusion gave it an InvoiceId; not read back yet, or read back with differences."""
    CONFIRMED = "CONFIRMED"
    """Read back from Fusion and equal to the cent."""
    PARKED = "PARKED"
    """Needs a cure or a person; ``reason`` says which."""
    REJECTED = "REJECTED"
    """Will never be posted: voided in Stampli before it was sent, or refused by a person."""
    ALREADY_IN_FUSION = "ALREADY_IN_FUSION"
    """The supplier's number is in Fusion and not by us."""
    MISSING_IN_FUSION = "MISSING_IN_FUSION"
    """We created it and Fusion no longer shows it."""
    VOIDED_IN_FUSION = "VOIDED_IN_FUSION"
    """We created it and it was cancelled in Fusion."""


class OccurrenceOutcome(StrEnum):
    CURRENT = "CURRENT"
    """This appearance is what the invoice stands for."""
    DUPLICATE = "DUPLICATE"
    SUPERSEDED = "SUPERSEDED"
    STALE = "STALE"
    WAITING = "WAITING"
    """Arrived while the outcome of an earlier appearance was unknown; decided when that is known."""
    PARKED = "PARKED"
    """A revision or void of an invoice that is in Fusion already; for a person."""


S = InvoiceState

CREATED_STATES = frozenset({S.CREATED, S.CONFIRMED, S.MISSING_IN_FUSION, S.VOIDED_IN_FUSION})
"""States after evidence of creation: never back to a sending state; see also ``BY_TWO_PEOPLE``."""
IN_FLIGHT_STATES = frozenset({S.SENDING, S.UNKNOWN})
OPEN_STATES = frozenset({S.RECEIVED, S.VALIDATED, S.SENDING, S.UNKNOWN})
"""States from which a run still has something to do by itself."""

STEPS: Mapping[InvoiceState, frozenset[InvoiceState]] = {
    # CREATED follows every state: late evidence of creation counts, whatever was believed meanwhile.
    S.RECEIVED: frozenset({S.RECEIVED, S.VALIDATED, S.PARKED, S.REJECTED, S.ALREADY_IN_FUSION, S.CREATED}),
    S.VALIDATED: frozenset({S.RECEIVED, S.VALIDATED, S.SENDING, S.PARKED, S.REJECTED, S.ALREADY_IN_FUSION, S.CREATED}),
    # Back to VALIDATED only when it is certain that nothing was created: see submissions.release.
    S.SENDING: frozenset({S.SENDING, S.UNKNOWN, S.CREATED, S.VALIDATED, S.PARKED, S.ALREADY_IN_FUSION}),
    S.UNKNOWN: frozenset({S.UNKNOWN, S.SENDING, S.CREATED, S.PARKED, S.ALREADY_IN_FUSION}),
    S.CREATED: frozenset({S.CREATED, S.CONFIRMED, S.MISSING_IN_FUSION, S.VOIDED_IN_FUSION}),
    S.CONFIRMED: frozenset({S.CREATED, S.CONFIRMED, S.MISSING_IN_FUSION, S.VOIDED_IN_FUSION}),
    # To UNKNOWN when a person has an invoice looked for again whose outcome was given up.
    S.PARKED: frozenset({S.PARKED, S.RECEIVED, S.VALIDATED, S.UNKNOWN, S.REJECTED, S.ALREADY_IN_FUSION, S.CREATED}),
    S.REJECTED: frozenset({S.RECEIVED, S.CREATED}),
    S.ALREADY_IN_FUSION: frozenset({S.ALREADY_IN_FUSION, S.CREATED}),
    S.MISSING_IN_FUSION: frozenset({S.CREATED, S.CONFIRMED, S.VOIDED_IN_FUSION}),
    S.VOIDED_IN_FUSION: frozenset({S.VOIDED_IN_FUSION, S.MISSING_IN_FUSION}),
}

BY_TWO_PEOPLE: Mapping[InvoiceState, frozenset[InvoiceState]] = {S.MISSING_IN_FUSION: frozenset({S.UNKNOWN})}
"""What no run does: two people have an invoice posted again that is gone from Fusion (``unsettled.allow_repost``)."""


class IllegalStep(Exception):
    """A state change that the life cycle does not allow; nothing was written."""

    def __init__(self, invoice_pk: int, current: str, target: str) -> None:
        self.invoice_pk = invoice_pk
        self.current = current
        self.target = target
        super().__init__(f"invoice {invoice_pk}: {current} does not lead to {target}")


@lru_cache(maxsize=256)
def _step(expected: tuple[InvoiceState, ...], columns: tuple[str, ...]) -> Prepared:
    """Made once for each kind of step: building the statement would cost more than running it."""
    states: list[sa.ColumnElement[str]] = [sa.literal_column(f"'{state}'", sa.Text()) for state in expected]
    return Prepared(
        sa.update(invoice)
        .where(invoice.c.id == sa.bindparam("key"), invoice.c.state.in_(states))
        .values({name: sa.bindparam(f"new_{name}") for name in columns})
    )


def move(
    transaction: Transaction,
    invoice_pk: int,
    target: InvoiceState,
    *,
    expected: Iterable[InvoiceState],
    reason: str | None = None,
    event: str,
    detail: Mapping[str, Any] | None = None,
    approval: Approval | None = None,
    **columns: Any,
) -> bool:
    """Take one invoice to ``target`` when it is in one of ``expected``, and write the audit event.

    Args:
        transaction: the change and its event are part of it.
        invoice_pk: key of the invoice.
        target: the new state; every pair (expected, target) must be an allowed step.
        expected: the states in which the caller believes it to be; another process may have been quicker.
        reason: reason code, for PARKED and REJECTED.
        event: kind of the audit event.
        detail: what the event says besides the states.
        approval: of two people, who may take the steps of ``BY_TWO_PEOPLE`` as well.
        **columns: further columns of the invoice set in the same statement.

    Returns:
        False when the invoice was in none of the expected states; then nothing is written.

    Raises:
        IllegalStep: the life cycle has no such step.
    """
    allowed = tuple(expected)
    for state in allowed:
        if target not in STEPS[state] and (approval is None or target not in BY_TWO_PEOPLE.get(state, ())):
            raise IllegalStep(invoice_pk, state, target)
    # Parked again: whatever was cured before, this cause is not.
    parked = {"parked_at": transaction.now if target is S.PARKED else None, "cured_at": None}
    problems = {} if target is S.PARKED or "problems" in columns else {"problems": None}
    values = {"reason": reason, **parked, **problems, **columns, "state": str(target), "changed_at": transaction.now}
    given = {f"new_{name}": value for name, value in values.items()}
    if _step(allowed, tuple(values)).run(transaction, {"key": invoice_pk, **given}) != 1:
        return False
    said = {"state": str(target), **({"reason": reason} if reason else {}), **(detail or {})}
    transaction.audit(event, f"invoice:{invoice_pk}", **said)
    return True


def park(
    transaction: Transaction,
    invoice_pk: int,
    problems: Sequence[Mapping[str, Any]],
    *,
    expected: Iterable[InvoiceState],
    reason: str | None = None,
    detail: Mapping[str, Any] | None = None,
    **columns: Any,
) -> bool:
    """Set an invoice aside for a person, with what was found; arguments and result otherwise as ``move``.

    ``problems`` are as ``stampli.reasons.problem_rows`` makes them; ``reason`` is that of the first unless another is
    named.
    """
    return move(
        transaction,
        invoice_pk,
        InvoiceState.PARKED,
        expected=expected,
        reason=reason or problems[0]["reason"],
        event="invoice.parked",
        detail={"problems": list(problems), **(detail or {})},
        problems=list(problems),
        **columns,
    )
