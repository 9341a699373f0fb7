"""Invoices of ours that are gone from Fusion: has somebody entered them again by hand?

Belongs here: looking for them by supplier and number, once, and what people are told of it. The state stays as it was:
what we created is missing, and what others entered is never acted on (``overriding`` refuses a repost beside it).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.fusion.invoices import read_back
from mlc_dagster.ledger import observations
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.stampli.inbound import Inbound
from mlc_dagster.stampli.posting.absence import AbsenceProver, Presence
from mlc_dagster.stampli.posting.comparison import body_fields, compare
from mlc_dagster.stampli.posting.sought import sought_for_attempt
from mlc_dagster.stampli.reasons import problem, problem_rows


@dataclass(frozen=True)
class EnteredAgain:
    """What stands in Fusion under the supplier and number of an invoice that is gone."""

    record: InvoiceRecord
    differences: dict[str, list[str | None]]
    """From what we sent: field to [sent, found]; empty where it is the same."""

    @property
    def who(self) -> str:
        return f"InvoiceId {self.record.invoice_id} by {self.record.created_by or 'somebody'}"

    @property
    def text(self) -> str:
        """For lists of what is missing."""
        told = [f"{name}: sent {sent}, Fusion has {seen}" for name, (sent, seen) in self.differences.items()]
        return f"entered again as {self.who} ({', '.join(told) or 'equal to what was sent'})"


async def find_entered_again(
    inbound: Inbound, client: FusionClient, gone: Sequence[Row], bodies: Mapping[int, bytes]
) -> dict[int, EnteredAgain]:
    """Those of the invoices, by key, that Fusion shows under their supplier and number as another than ours.

    Args:
        inbound: the wiring.
        client: asked once for all of them.
        gone: with ``id`` and ``fusion_invoice_id``, which Fusion no longer shows.
        bodies: what was sent of each; nothing can be compared where it was erased.

    Raises:
        FusionError: Fusion cannot be read.
    """
    sent = {row["id"]: body for row in gone if (body := bodies.get(row["id"]))}
    if not sent:
        return {}
    prover = AbsenceProver(inbound.ledger, client, inbound.pod)
    findings = await prover.look_up([sought_for_attempt({"id": key, "body": body}) for key, body in sent.items()])
    ours = {row["id"]: row["fusion_invoice_id"] for row in gone}
    shown = {
        key: [each.invoice_id for each in finding.records if each.invoice_id != ours[key] and not each.canceled]
        for key, finding in findings.items()
        if finding.presence is Presence.PRESENT
    }
    # Without their lines a changed account would pass for what was sent.
    wanted = {invoice_id for ids in shown.values() for invoice_id in ids}
    complete = await read_back(client, wanted) if wanted else {}
    found: dict[int, EnteredAgain] = {}
    for key, ids in shown.items():
        records = [complete[invoice_id] for invoice_id in ids if invoice_id in complete]
        if records:
            found[key] = EnteredAgain(records[0], compare(body_fields(sent[key]), records[0]).differences)
    return found


def note_entered_again(transaction: Transaction, invoice_pk: int, found: EnteredAgain) -> None:
    """Leave it on the invoice and in its trail; once, however often it is found."""
    told = problem("ENTERED_AGAIN", value=found.who)
    observations.keep_entered_again(
        transaction,
        invoice_pk,
        reason=told.reason,
        problems=list(problem_rows([told])),
        differences=found.differences,
        detail={"invoice_id": found.record.invoice_id, "created_by": found.record.created_by},
    )
