"""Two people decide about an invoice whose outcome nobody found out, or that is gone; Fusion is asked first.

What belongs here: what must be read in Fusion before each decision, and what makes it impossible. The decision itself
is ``ledger.unsettled``'s. Nothing is sent: a further attempt is made by the window's next run, after proofs of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.fusion.invoices import observe, read_back
from mlc_dagster.ledger import recovery, unsettled
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.states import InvoiceState
from mlc_dagster.stampli.inbound import Inbound, RequestCount
from mlc_dagster.stampli.posting.absence import AbsenceProver, Finding, Presence
from mlc_dagster.stampli.posting.comparison import body_fields, compare, origin
from mlc_dagster.stampli.posting.forgotten import names_of
from mlc_dagster.stampli.posting.other_names import OtherNames, Traces
from mlc_dagster.stampli.posting.sought import sought_for_attempt
from mlc_dagster.stampli.steps import with_client

DECIDING = ("InvoiceNumber", "SupplierNumber", "BusinessUnit", "InvoiceCurrency", "InvoiceAmount", "CanceledFlag")
"""A difference in one of these and Fusion's invoice is not the one that was sent, whoever says so."""


class OverrideRefused(Exception):
    """What Fusion shows, or does not show, forbids the decision; nothing was changed."""

    def __init__(self, invoice_pk: int, step: str, why: str) -> None:
        self.invoice_pk = invoice_pk
        self.step = step
        super().__init__(f"invoice {invoice_pk}: {step} is refused: {why}. Nothing was changed")


@dataclass(frozen=True)
class Marked:
    """An invoice that was marked as posted."""

    state: InvoiceState
    """CREATED, or ALREADY_IN_FUSION when somebody else entered it."""
    foreign: dict[str, list[str | None]]
    """What shows that somebody else did: field to [ours, found]."""


def mark_posted(inbound: Inbound, invoice_pk: int, fusion_invoice_id: int, approval: Approval) -> Marked:
    """Adopt Fusion's invoice of this id, when its number, supplier, business unit and amount are what was sent.

    Where it bears our marks, and is no other invoice of ours, people in Fusion have changed it since: then two people's
    word is enough, and the next run tells every difference.

    Raises:
        NotUnsettled, HeldByAnother: see ``ledger.unsettled``.
        OverrideRefused: Fusion does not show it, or shows something else.
        FusionError: Fusion cannot be read.
    """
    step = "marking it as posted"
    with inbound.ledger.reading() as reading:
        attempts = unsettled.attempts_to_compare(reading, invoice_pk)

    async def read(client: FusionClient) -> dict[int, InvoiceRecord]:
        return await read_back(client, [fusion_invoice_id])

    record = with_client(inbound, RequestCount(), read).get(fusion_invoice_id)
    if record is None:
        why = f"Fusion shows no invoice with InvoiceId {fusion_invoice_id} to {inbound.settings.fusion.posting_user}"
        raise OverrideRefused(invoice_pk, step, why)
    attempt = _attempt_of(attempts, record) or _made_by(inbound, invoice_pk, attempts, record)
    if attempt is None:
        told = "; ".join(
            f"{name}: sent {sent}, Fusion has {seen}" for name, (sent, seen) in _deciding(attempts[0], record).items()
        )
        raise OverrideRefused(invoice_pk, step, f"InvoiceId {fusion_invoice_id} is not what was sent ({told})")
    fields = body_fields(attempt["body"])
    foreign = origin(fields, record, posting_user=inbound.settings.fusion.posting_user)
    differing = _deciding(attempt, record)
    compared = {name: format(value, "f") if name == "InvoiceAmount" else str(value)
                for name in DECIDING if (value := fields.get(name)) is not None and name not in differing}  # fmt: skip
    with inbound.ledger.transaction() as transaction:
        state = unsettled.mark_posted(
            transaction,
            invoice_pk,
            attempt,
            fusion_invoice_id=fusion_invoice_id,
            foreign=foreign,
            compared=compared,
            changed=differing,
            approval=approval,
        )
    return Marked(state, foreign)


def allow_repost(inbound: Inbound, invoice_pk: int, approval: Approval) -> None:
    """Let the next run send the invoice once more, when Fusion provably does not have it now, or not any more.

    The run proves it twice again, half a wait apart, directly before it sends.

    Raises:
        NotUnsettled: see ``ledger.unsettled``.
        OverrideRefused: Fusion shows it, or what may be it under other names; or absence cannot be proven.
        FusionError: Fusion cannot be read.
    """
    step = "posting it once more"
    with inbound.ledger.reading() as reading:
        attempts = unsettled.attempts_to_repeat(reading, invoice_pk)
    looked = _look_up(inbound, attempts)
    _refuse_when_there(invoice_pk, step, looked)
    _refuse_unproven(inbound, invoice_pk, step, attempts, looked)
    for traces in looked.traces.values():
        if traces.told:
            raise OverrideRefused(invoice_pk, step, traces.told)
    with inbound.ledger.transaction() as transaction:
        unsettled.allow_repost(transaction, invoice_pk, looked_up=_told(attempts, looked), approval=approval)


def abandon(inbound: Inbound, invoice_pk: int, approval: Approval) -> None:
    """Give a parked invoice up for good, when nothing was sent of it or Fusion provably does not have it.

    What may be it under other names, and may be another's as well, is for the two people to judge.

    Raises:
        NotUnsettled: it is not parked.
        OverrideRefused: Fusion shows it: it is posted, whatever anybody decides; or absence cannot be proven.
        FusionError: Fusion cannot be read.
    """
    step = "giving it up"
    with inbound.ledger.reading() as reading:
        attempts = unsettled.attempts_to_abandon(reading, invoice_pk)
    looked = _look_up(inbound, attempts) if attempts else _Looked()
    _refuse_when_there(invoice_pk, step, looked)
    _refuse_unproven(inbound, invoice_pk, step, attempts, looked)
    with inbound.ledger.transaction() as transaction:
        unsettled.abandon(transaction, invoice_pk, looked_up=_told(attempts, looked), approval=approval)


def _attempt_of(attempts: Sequence[Row], record: InvoiceRecord) -> Row | None:
    """The latest attempt that sent this, by what decides."""
    return next((attempt for attempt in attempts if not _deciding(attempt, record)), None)


def _made_by(inbound: Inbound, invoice_pk: int, attempts: Sequence[Row], record: InvoiceRecord) -> Row | None:
    """The attempt whose marks it bears, when it is nothing else that the ledger knows."""
    user = inbound.settings.fusion.posting_user
    with inbound.ledger.reading() as reading:
        if recovery.known_invoices(reading, names_of([record]), but=invoice_pk):
            return None
    if record.canceled:
        return None
    return next((each for each in attempts if not origin(body_fields(each["body"]), record, posting_user=user)), None)


def _deciding(attempt: Row, record: InvoiceRecord) -> dict[str, list[str | None]]:
    differences = compare(body_fields(attempt["body"]), record).differences
    return {name: differences[name] for name in DECIDING if name in differences}


@dataclass(frozen=True)
class _Looked:
    """What Fusion shows of an invoice's attempts, by their keys, and of the InvoiceIds that they had."""

    findings: Mapping[int, Finding] = field(default_factory=dict[int, Finding])
    traces: Mapping[int, Traces] = field(default_factory=dict[int, Traces])
    had: bool = False
    """An attempt of the invoice had an InvoiceId."""
    standing: frozenset[int] = frozenset()


def _look_up(inbound: Inbound, attempts: Sequence[Row]) -> _Looked:
    async def look(client: FusionClient) -> _Looked:
        prover = AbsenceProver(inbound.ledger, client, inbound.pod)
        findings = await prover.look_up([sought_for_attempt(attempt) for attempt in attempts])
        names = OtherNames(prover, client, inbound.ledger, posting_user=inbound.settings.fusion.posting_user)
        traces = {
            attempt["id"]: await names.look(attempt)
            for attempt in attempts
            if findings[attempt["id"]].presence in (Presence.ABSENT, Presence.OTHER_BUSINESS_UNIT)
        }
        had = {attempt["fusion_invoice_id"] for attempt in attempts} - {None}
        return _Looked(findings, traces, bool(had), frozenset(await observe(client, had) if had else ()))

    return with_client(inbound, RequestCount(), look)


def _refuse_when_there(invoice_pk: int, step: str, looked: _Looked) -> None:
    if looked.standing:
        named = ", ".join(map(str, sorted(looked.standing)))
        why = f"Fusion shows InvoiceId {named} again; materialise its window once more, so that it is compared"
        raise OverrideRefused(invoice_pk, step, why)
    there = {
        record.invoice_id: record.created_by or "somebody"
        for finding in looked.findings.values() if finding.presence is Presence.PRESENT
        for record in finding.records
    }  # fmt: skip
    there |= {each.ours.invoice_id: "us" for each in looked.traces.values() if each.ours is not None}
    if there:
        named = ", ".join(f"{invoice_id} (created by {who})" for invoice_id, who in sorted(there.items()))
        to_do = (
            "one of ours is gone and this was entered in its place: it is the one to follow in Fusion"
            if looked.had
            else "of a parked one `mlc invoices retry` has the next poll compare and enter it, or two people say that "
            "this is it: `mlc invoices mark-posted`"
        )
        raise OverrideRefused(
            invoice_pk, step, f"Fusion shows it as InvoiceId {named}, and nothing is posted beside that; {to_do}"
        )


def _refuse_unproven(inbound: Inbound, invoice_pk: int, step: str, attempts: Sequence[Row], looked: _Looked) -> None:
    unproven = (Presence.NOTHING_VISIBLE, Presence.UNPROVEN)
    for attempt in attempts:
        traces = looked.traces.get(attempt["id"])
        if looked.findings[attempt["id"]].presence in unproven or (traces and traces.presence in unproven):
            unit = body_fields(attempt["body"])["BusinessUnit"]
            why = (
                f"no invoice of business unit {unit} is visible to {inbound.settings.fusion.posting_user}, so that it "
                "cannot be proven that this one is not there; check the user's data access"
            )
            raise OverrideRefused(invoice_pk, step, why)


def _told(attempts: Sequence[Row], looked: _Looked) -> dict[str, str]:
    """What Fusion showed of each attempt, by its number."""
    return {str(attempt["attempt"]): looked.findings[attempt["id"]].presence.name for attempt in attempts}
