"""From received to validated: every check, reference data in bulk, the mapping, and what parks.

A failed invoice is PARKED with its reason, the offending value and what to do; everything else goes on. Cached
reference data is enough to pass, never to fail: an invoice that would be parked for it is judged again on fresh data.
"""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.ledger import references as reference_cache
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.invoice_chunks import window_invoices
from mlc_dagster.ledger.prepared import Prepared
from mlc_dagster.ledger.releases import AFTER_ABANDON, held_after_abandon
from mlc_dagster.ledger.schema import invoice as invoice_table
from mlc_dagster.ledger.schema import submission
from mlc_dagster.ledger.states import InvoiceState, move, park
from mlc_dagster.settings import CompanySettings
from mlc_dagster.stampli.checks import MEMOS, VOID, check_invoice, warn_about
from mlc_dagster.stampli.identity import normalised_key, number_key
from mlc_dagster.stampli.inbound import Inbound, silent
from mlc_dagster.stampli.model import Invoice, invoice_from_json
from mlc_dagster.stampli.reasons import Problem, problem, problem_rows, reason
from mlc_dagster.stampli.validation.body import GROUP_SLOT, render_body
from mlc_dagster.stampli.validation.mapping import Mapping, Needed, map_invoice, needed
from mlc_dagster.stampli.validation.match_trail import MatchTrail
from mlc_dagster.stampli.validation.references import ReferenceReader

_CHUNK = 500


@dataclass
class ValidationSummary:
    """What one validation pass did."""

    validated: int = 0
    parked: Counter[str] = field(default_factory=Counter[str])
    """Invoices parked now, by reason."""
    still_parked: int = 0
    voided: int = 0
    warnings: Counter[str] = field(default_factory=Counter[str])


@dataclass(frozen=True)
class _Candidate:
    row: Row
    invoice: Invoice
    company: CompanySettings


@dataclass(frozen=True)
class Verdict:
    """What was found of one invoice: problems, or a mapping, or that it is void."""

    row: Row
    problems: tuple[Problem, ...] = ()
    mapping: Mapping | None = None
    void: bool = False
    invoice: Invoice | None = None
    """As it was read; where there is a mapping."""


async def validate_window(
    inbound: Inbound,
    client: FusionClient,
    window_start: dt.datetime,
    *,
    all_parked: bool = False,
    progress: Callable[[int], None] = silent,
) -> ValidationSummary:
    """Judge the window's invoices that are RECEIVED, VALIDATED without an attempt, or PARKED and cured.

    Args:
        all_parked: judge every parked invoice whose cause can vanish by itself, cured or not (reconcile).
        progress: called with the number of invoices judged, per chunk.

    Raises:
        FusionError, UnknownLedger: reference data cannot be read; invoices judged so far keep their verdicts.
    """
    summary = ValidationSummary()
    reader = ReferenceReader(inbound.ledger, client, inbound.settings.fusion)
    _keep_versions(inbound)
    after = 0
    while True:
        with inbound.ledger.reading() as reading:
            rows = _to_judge(reading, window_start, after, all_parked=all_parked)
        if not rows:
            return summary
        verdicts = await judge(inbound, reader, [row for row in rows if not row["attempted"]])
        with inbound.ledger.transaction() as transaction:
            # In one order everywhere, since each holds the name of its number until the commit.
            trail = MatchTrail(transaction, reader)
            for verdict in sorted(verdicts, key=lambda each: _likeness(each.mapping) if each.mapping else ""):
                _record(transaction, inbound, trail, verdict, summary)
        progress(len(rows))
        after = rows[-1]["id"]


def _keep_versions(inbound: Inbound) -> None:
    crosswalks = inbound.stampli.crosswalks
    paths = {"vendors": crosswalks.vendors, "accounts": crosswalks.accounts, "cost_centers": crosswalks.cost_centers}
    contents = {kind: inbound.settings.path(path).read_bytes() for kind, path in paths.items() if path is not None}
    with inbound.ledger.transaction() as transaction:
        reference_cache.keep_crosswalk_version(transaction, inbound.crosswalks.version, contents)


def _to_judge(
    transaction: Transaction, window_start: dt.datetime, after: int, *, all_parked: bool
) -> list[dict[str, Any]]:
    states = [InvoiceState.RECEIVED, InvoiceState.VALIDATED, InvoiceState.PARKED]
    rows = window_invoices(transaction, window_start, states, after=after, limit=_CHUNK)
    attempted = {
        row["invoice_pk"]
        for row in transaction.rows(
            sa.select(submission.c.invoice_pk)
            .where(submission.c.invoice_pk.in_([row["id"] for row in rows if row["state"] == InvoiceState.VALIDATED]))
            .distinct()
        )
    }
    chosen: list[dict[str, Any]] = []
    for row in rows:
        skip = row["id"] in attempted
        if row["state"] == InvoiceState.PARKED and row["cured_at"] is None:
            skip = not (all_parked and reason(row["reason"]).cures_itself)
        # Skipped rows stay in the chunk so that the walk goes on behind them.
        chosen.append({**row, "attempted": skip})
    return chosen


async def judge(inbound: Inbound, reader: ReferenceReader, rows: Sequence[Row]) -> list[Verdict]:
    """Check and map invoices; those that cached reference data would park are mapped again on fresh data."""
    verdicts: dict[int, Verdict] = {}
    candidates: list[_Candidate] = []
    with inbound.ledger.reading() as reading:
        held = held_after_abandon(reading, rows)
    for row in rows:
        found = _check(inbound, row, held)
        if isinstance(found, Verdict):
            verdicts[row["id"]] = found
        else:
            candidates.append(found)
    await reader.load(_needed(inbound, candidates))
    now = inbound.ledger.now()
    again: list[_Candidate] = []
    reused = _reused_numbers(inbound, candidates)
    for candidate in candidates:
        verdict = _map(inbound, reader, candidate, now, number_reused=candidate.row["id"] in reused)
        verdicts[candidate.row["id"]] = verdict
        if any(reason(found.reason).cured_by_fusion for found in verdict.problems):
            again.append(candidate)
    if again and await reader.load(_needed(inbound, again), fresh=True):
        for candidate in again:
            verdicts[candidate.row["id"]] = _map(
                inbound, reader, candidate, now, number_reused=candidate.row["id"] in reused
            )
    return [verdicts[row["id"]] for row in rows]


def _check(inbound: Inbound, row: Row, held: set[int]) -> _Candidate | Verdict:
    """Everything that needs no reference data."""
    if not row["readable"]:
        return Verdict(row, tuple(Problem(**found) for found in row["reading_problems"]))
    invoice = invoice_from_json(row["content"])
    if invoice.status == VOID:
        return Verdict(row, void=True)
    if row["id"] in held:
        return Verdict(row, (problem(AFTER_ABANDON, field="invoice_number", value=row["number"]),))
    company = inbound.stampli.companies.get(invoice.company_id)
    if company is None:
        remedy = f"Add {invoice.company_id} under stampli.companies in mlc.yaml."
        return Verdict(row, (problem("BU_UNMAPPED", field="company_id", value=invoice.company_id, remedy=remedy),))
    problems = check_invoice(invoice, company)
    start = inbound.settings.poll.start
    released: list[str] = row["released_reasons"] or []
    if invoice.approved_at is not None and invoice.approved_at < start and "BEFORE_GO_LIVE" not in released:
        shown = invoice.approved_at.isoformat()
        remedy = f"It was approved before go-live (poll.start {start:%Y-%m-%d}); post it by hand if it is missing."
        problems.append(problem("BEFORE_GO_LIVE", field="approved_at", value=shown, remedy=remedy))
    if problems:
        return Verdict(row, tuple(problems))
    return _Candidate(row, invoice, company)


def _needed(inbound: Inbound, candidates: Iterable[_Candidate]) -> dict[tuple[str, str], Needed]:
    wanted: dict[tuple[str, str], Needed] = {}
    for candidate in candidates:
        company = candidate.company
        key = (company.chart, company.ledger)
        chart = inbound.settings.fusion.charts[company.chart]
        wanted[key] = wanted.get(key, Needed()) | needed(candidate.invoice, company, chart, inbound.crosswalks)
    return wanted


def _map(
    inbound: Inbound, reader: ReferenceReader, candidate: _Candidate, now: dt.datetime, *, number_reused: bool
) -> Verdict:
    company, invoice = candidate.company, candidate.invoice
    mapped = map_invoice(
        invoice,
        company=company,
        chart=inbound.settings.fusion.charts[company.chart],
        ledger_currency=reader.data.ledgers[company.ledger].currency,
        references=reader.data,
        crosswalks=inbound.crosswalks,
        today=now.astimezone(ZoneInfo(company.time_zone)).date(),
        number_reused=number_reused,
    )
    if isinstance(mapped, Mapping):
        return Verdict(candidate.row, mapping=mapped, invoice=invoice)
    return Verdict(candidate.row, tuple(mapped))


def _reused_numbers(inbound: Inbound, candidates: Sequence[_Candidate]) -> set[int]:
    """Memos whose number another invoice of the same vendor has in the ledger."""
    memos = [c for c in candidates if c.invoice.invoice_type in MEMOS]
    found: set[int] = set()
    with inbound.ledger.reading() as reading:
        for memo in memos:
            other = reading.value(
                sa.select(invoice_table.c.id)
                .where(
                    invoice_table.c.number == memo.invoice.number,
                    invoice_table.c.company_id == memo.invoice.company_id,
                    invoice_table.c.vendor_id == memo.invoice.vendor_id,
                    invoice_table.c.id != memo.row["id"],
                )
                .limit(1)
            )
            if other is not None:
                found.add(memo.row["id"])
    return found


def _record(
    transaction: Transaction, inbound: Inbound, trail: MatchTrail, verdict: Verdict, summary: ValidationSummary
) -> None:
    row = verdict.row
    if verdict.void:
        if move(
            transaction, row["id"], InvoiceState.REJECTED, reason="VOIDED_IN_STAMPLI", event="invoice.rejected",
            expected=(InvoiceState.RECEIVED, InvoiceState.VALIDATED, InvoiceState.PARKED),
        ):  # fmt: skip
            summary.voided += 1
        return
    mapping, invoice, problems = verdict.mapping, verdict.invoice, list(verdict.problems)
    if mapping is not None:
        transaction.lock_name(_likeness(mapping))
        held = _duplicate(transaction, row, mapping)
        problems += [held] if held else []
    if problems or mapping is None or invoice is None:
        _park(transaction, row, problems, mapping, summary)
        return
    company = inbound.stampli.companies[row["company_id"]]
    trail.write(row["id"], mapping, company)
    for warning in (*mapping.warnings, *warn_about(invoice)):
        summary.warnings[warning.reason] += 1
        transaction.audit("invoice.warning", f"invoice:{row['id']}", reason=warning.reason, text=warning.text)
    moved = move(
        transaction,
        row["id"],
        InvoiceState.VALIDATED,
        expected=(InvoiceState.RECEIVED, InvoiceState.VALIDATED, InvoiceState.PARKED),
        event="invoice.validated",
        detail={"supplier_id": mapping.supplier_id, "accounting_date": mapping.accounting_date.isoformat()},
        mapping=render_body(mapping, GROUP_SLOT).decode(),
        mapped_with=inbound.versions,
        **_identity(mapping),
    )
    summary.validated += moved


def _likeness(mapping: Mapping) -> str:
    """What an invoice and its near-duplicates have in common."""
    return f"number:{mapping.supplier_id}:{normalised_key(mapping.fusion_number)}"


def _identity(mapping: Mapping) -> dict[str, Any]:
    return {
        "business_unit": mapping.business_unit,
        "supplier_id": mapping.supplier_id,
        "supplier_number": mapping.supplier_number,
        "fusion_number": mapping.fusion_number,
        "number_key": number_key(mapping.fusion_number),
        "normalised_key": normalised_key(mapping.fusion_number),
    }


def _park(
    transaction: Transaction, row: Row, problems: list[Problem], mapping: Mapping | None, summary: ValidationSummary
) -> None:
    reason = problems[0].reason
    stored = list(problem_rows(problems))
    if row["state"] == InvoiceState.PARKED:
        summary.still_parked += 1
        if row["reason"] == reason and row["problems"] == stored:
            # Nothing new to tell; only the mark that it was thought cured is taken away.
            transaction.execute(sa.update(invoice_table).where(invoice_table.c.id == row["id"]).values(cured_at=None))
            return
    moved = park(
        transaction,
        row["id"],
        stored,
        expected=(InvoiceState.RECEIVED, InvoiceState.VALIDATED, InvoiceState.PARKED),
        cured_at=None,
        **(_identity(mapping) if mapping else {}),
    )
    if moved and row["state"] != InvoiceState.PARKED:
        summary.parked[reason] += 1


_ALIKE = Prepared(
    sa.select(
        invoice_table.c.id,
        invoice_table.c.source_key,
        invoice_table.c.number_key,
        invoice_table.c.fusion_number,
        invoice_table.c.business_unit,
        invoice_table.c.state,
    )
    .where(
        invoice_table.c.supplier_id == sa.bindparam("supplier"),
        invoice_table.c.normalised_key == sa.bindparam("number"),
        invoice_table.c.id != sa.bindparam("key"),
        sa.or_(
            sa.and_(
                invoice_table.c.state != str(InvoiceState.REJECTED), invoice_table.c.state != str(InvoiceState.PARKED)
            ),
            # Parked, and perhaps in Fusion: nobody knows.
            invoice_table.c.reason == "SUBMIT_UNKNOWN",
        ),
    )
    .order_by(invoice_table.c.id)
)
"""Made once: one is asked for each invoice, and building it would cost more than its answer."""


def _duplicate(transaction: Transaction, row: Row, mapping: Mapping) -> Problem | None:
    """Another invoice of ours under the same number, or one that a person would take for the same."""
    released: list[str] = row["released_reasons"] or []
    key = number_key(mapping.fusion_number)
    likeness = {"supplier": mapping.supplier_id, "number": normalised_key(mapping.fusion_number), "key": row["id"]}
    others = _ALIKE.rows(transaction, likeness)
    for other in others:
        same_number = other["number_key"] == key
        other_unit = other["business_unit"] != mapping.business_unit
        reason = "DUP_OTHER_BU" if same_number and other_unit else "DUP_EXACT" if same_number else "DUP_NORMALISED"
        if reason not in released:
            value = f"{other['fusion_number']} (Stampli {other['source_key']}, {other['state']})"
            return problem(reason, field="invoice_number", value=value)
    return None
