"""Which appearance of an invoice counts, when it appears in more than one file.

Before anything is sent the newer one counts: by revision, then approval time, then version of the same path, then the
sequence in the file name; never by order of arrival. While an outcome is unknown a further one waits. Once Fusion
holds the invoice, an equal one is a duplicate and a newer one is for a person. What two people gave up stays so: a
newer one takes its place, and validation holds it until two people release it. Lines of two files are never merged.
"""

import datetime as dt
from dataclasses import dataclass

from mlc_dagster.ledger import invoices as ledger_invoices
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.invoices import Appearance
from mlc_dagster.ledger.standing import Standing
from mlc_dagster.ledger.states import InvoiceState, OccurrenceOutcome, park
from mlc_dagster.stampli.checks import VOID
from mlc_dagster.stampli.model import invoice_from_json
from mlc_dagster.stampli.parsing.profile import Profile
from mlc_dagster.stampli.reasons import problem, problem_rows


@dataclass(frozen=True)
class Version:
    """What orders two appearances of one invoice."""

    digest: str
    revision: int
    approved_at: dt.datetime | None
    path: str
    file_version: int
    sequence: str | None
    void: bool = False


@dataclass(frozen=True)
class Decision:
    """The further appearance's outcome; CURRENT means that it takes the place of the one before."""

    outcome: OccurrenceOutcome
    reason: str | None = None


def is_newer(new: Version, current: Version) -> bool | None:
    """True, False, or None where nothing declared says which one is newer."""
    if new.revision != current.revision:
        return new.revision > current.revision
    if new.approved_at and current.approved_at and new.approved_at != current.approved_at:
        return new.approved_at > current.approved_at
    if new.path == current.path:
        return new.file_version > current.file_version
    if new.sequence is not None and current.sequence is not None:
        ours, theirs = sequence_order(new.sequence), sequence_order(current.sequence)
        return ours > theirs if ours != theirs else None
    return None


def sequence_order(sequence: str | None) -> tuple[int, int, str]:
    """What file names' sequences are ordered by: none first, then numbers as such, padded or not, then other text."""
    if sequence is None:
        return 0, 0, ""
    if sequence.isascii() and sequence.isdecimal():
        number = sequence.lstrip("0")
        return 1, len(number), number
    return 2, 0, sequence


def decide(standing: Standing, current: Version, new: Version) -> Decision:
    """What a further appearance of a known invoice means."""
    if new.digest == current.digest:
        return Decision(OccurrenceOutcome.DUPLICATE)
    if standing is Standing.UNKNOWN:
        return Decision(OccurrenceOutcome.WAITING, "the outcome of what was sent is not known yet")
    newer = is_newer(new, current)
    if newer is False:
        return Decision(OccurrenceOutcome.STALE)
    if standing is Standing.IN_FUSION:
        return Decision(OccurrenceOutcome.PARKED, "VOID_AFTER_POST" if new.void else "REVISION_AFTER_POST")
    if newer is None:
        return Decision(OccurrenceOutcome.PARKED, "REVISION_CONFLICT")
    return Decision(OccurrenceOutcome.CURRENT)


def register(
    transaction: Transaction, file: Row, appearances: list[Appearance], profile: Profile
) -> dict[OccurrenceOutcome, int]:
    """Enter a file's invoices into the ledger; how many had which outcome. Doing it twice changes nothing."""
    known = ledger_invoices.by_source(transaction, [(a.company_id, a.source_key) for a in appearances])
    new = [a for a in appearances if (a.company_id, a.source_key) not in known]
    taken = ledger_invoices.insert_new(transaction, file, new)
    # Another file brought the same invoice at the same moment: to this one it is known, as if read a moment later.
    known |= ledger_invoices.by_source(transaction, [(a.company_id, a.source_key) for a in taken])
    outcomes: dict[OccurrenceOutcome, int] = {OccurrenceOutcome.CURRENT: len(new) - len(taken)}
    for appearance in appearances:
        row = known.get((appearance.company_id, appearance.source_key))
        if row is None or row["current_file_id"] == file["id"]:
            continue
        outcome = _register_again(transaction, file, row, appearance, profile)
        if outcome is not None:
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def _register_again(
    transaction: Transaction, file: Row, row: Row, appearance: Appearance, profile: Profile
) -> OccurrenceOutcome | None:
    decision = decide(Standing(row["standing"]), _current(row, profile), _version(file, appearance, profile))
    # Entered as stale first: it is current only once the one before has been set aside.
    entered = OccurrenceOutcome.STALE if decision.outcome is OccurrenceOutcome.CURRENT else decision.outcome
    key = ledger_invoices.add_occurrence(transaction, file, row["id"], appearance, entered, decision.reason)
    if key is None:
        return None
    _apply(transaction, row, key, appearance, decision)
    return decision.outcome


def _apply(transaction: Transaction, row: Row, key: int, appearance: Appearance, decision: Decision) -> None:
    if decision.outcome is OccurrenceOutcome.CURRENT:
        ledger_invoices.make_current(transaction, row, key, appearance)
    elif decision.reason == "REVISION_CONFLICT":
        found = problem("REVISION_CONFLICT", value=appearance.number)
        park(
            transaction,
            row["id"],
            problem_rows([found]),
            expected=(InvoiceState.RECEIVED, InvoiceState.VALIDATED, InvoiceState.PARKED),
            detail={"occurrence": key},
        )


def decide_waiting(transaction: Transaction, profile: Profile) -> int:
    """Decide on appearances that waited for an outcome which is now known; how many were decided."""
    decided = 0
    for occurrence in ledger_invoices.waiting_occurrences(transaction):
        row, file, appearance = ledger_invoices.reload(transaction, occurrence)
        decision = decide(Standing(row["standing"]), _current(row, profile), _version(file, appearance, profile))
        if decision.outcome is OccurrenceOutcome.WAITING:
            # Another one took the place of the current, of which an attempt was given up as unknown.
            continue
        decided += 1
        if decision.outcome is not OccurrenceOutcome.CURRENT:
            ledger_invoices.set_outcome(transaction, occurrence["id"], decision.outcome, decision.reason)
        _apply(transaction, row, occurrence["id"], appearance, decision)
    return decided


def _current(row: Row, profile: Profile) -> Version:
    return Version(
        digest=row["current_digest"],
        revision=row["current_revision"],
        approved_at=row["current_approved_at"],
        path=row["current_path"],
        file_version=row["current_version"],
        sequence=profile.sequence(row["current_path"].rpartition("/")[2]),
    )


def _version(file: Row, appearance: Appearance, profile: Profile) -> Version:
    void = appearance.readable and invoice_from_json(appearance.content).status == VOID
    return Version(
        digest=appearance.digest,
        revision=appearance.revision,
        approved_at=appearance.approved_at,
        path=file["path"],
        file_version=file["version"],
        sequence=profile.sequence(file["path"].rpartition("/")[2]),
        void=void,
    )
