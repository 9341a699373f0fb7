"""What Fusion shows of an attempt whose answer is not known: is it ours, and then it is what the attempt created."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum, auto
from functools import partial
from typing import Any

from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.ledger import submissions
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.stampli.identity import number_key
from mlc_dagster.stampli.posting.comparison import body_fields, is_ours

MOST_UNREAD = 5
"""Looks at what Fusion shows and does not let be read whole, before a person is told."""


class Adoption(Enum):
    """What came of an attempt that Fusion shows something of."""

    ADOPTED = auto()
    FOREIGN = auto()
    """All that is shown is somebody else's."""
    UNREAD = auto()
    """Something was gone when it was read whole: nothing can be said of it now."""


def ours_among(
    fields: Mapping[str, Any], records: Iterable[InvoiceRecord], *, posting_user: str
) -> InvoiceRecord | None:
    """The one that has our marks and content. ``records`` come with their lines, else a changed account would pass."""
    return next((record for record in records if is_ours(fields, record, posting_user=posting_user)), None)


def ours_of(
    attempts: Iterable[Row], records: Collection[InvoiceRecord], *, posting_user: str
) -> tuple[Row, InvoiceRecord] | None:
    """The first of the attempts that created one of the records, and which: each run's group is another."""
    for attempt in attempts:
        if not attempt["body"]:
            # Its time to be kept is over.
            continue
        ours = ours_among(body_fields(attempt["body"]), records, posting_user=posting_user)
        if ours is not None:
            return attempt, ours
    return None


def may_be_only(number: str, records: Iterable[InvoiceRecord]) -> bool:
    """Whether none of the records has this number for certain: of theirs not every character can be read."""
    key = number_key(number)
    return all(number_key(record.number) != key for record in records)


def unread_text(records: Sequence[InvoiceRecord]) -> str:
    """What a person is told when Fusion lists something and does not show it whole."""
    return f"Fusion lists it and does not show it whole: {named(records)}"


def named(records: Iterable[InvoiceRecord]) -> str:
    """What was found, as a person finds it in Fusion."""
    return ", ".join(f"InvoiceId {record.invoice_id} ({record.number})" for record in records)


def adopting(submission_id: int, record: InvoiceRecord, evidence: str | None = None) -> Callable[[Transaction], None]:
    """The change that records ``record`` as what the attempt created."""
    return partial(
        submissions.mark_created,
        submission_id=submission_id,
        fusion_invoice_id=record.invoice_id,
        http_status=None,
        evidence=evidence or "found in Fusion with our user, source, group and content",
    )
