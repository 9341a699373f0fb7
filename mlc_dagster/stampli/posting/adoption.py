"""What Fusion shows of an attempt whose answer is not known: is it ours, and then it is what the attempt created."""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from functools import partial
from typing import Any

from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.ledger import submissions
from mlc_dagster.ledger.database import Transaction
from mlc_dagster.stampli.posting.comparison import is_ours


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


def adopting(submission_id: int, record: InvoiceRecord, evidence: str | None = None) -> Callable[[Transaction], None]:
    """The change that records ``record`` as what the attempt created."""
    return partial(
        submissions.mark_created,
        submission_id=submission_id,
        fusion_invoice_id=record.invoice_id,
        http_status=None,
        evidence=evidence or "found in Fusion with our user, source, group and content",
    )
