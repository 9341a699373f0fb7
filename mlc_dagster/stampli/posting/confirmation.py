"""After creation: read back and compare, then what the company wants done, then the attachment. Each step is durable.

What was created stays created: an invoice that Fusion no longer shows is MISSING_IN_FUSION, a cancelled one
VOIDED_IN_FUSION, and neither is posted again.
"""

import asyncio
import datetime as dt
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.errors import BusinessRefusal, FusionError, NotAuthorised, NotSent, OutcomeUnknown, Refused
from mlc_dagster.fusion.invoice_rows import InvoiceRecord
from mlc_dagster.fusion.invoices import add_attachment, calculate_tax, list_attachments, read_back, validate
from mlc_dagster.fusion.lookup import together
from mlc_dagster.ledger.database import Row, Transaction
from mlc_dagster.ledger.invoice_chunks import window_invoices, window_rows
from mlc_dagster.ledger.schema import invoice as invoice_table
from mlc_dagster.ledger.schema import submission
from mlc_dagster.ledger.states import CREATED_STATES, InvoiceState, move
from mlc_dagster.ledger.writer import LedgerWriter
from mlc_dagster.sftp.errors import SftpError
from mlc_dagster.stampli.inbound import Inbound, silent
from mlc_dagster.stampli.model import invoice_from_json
from mlc_dagster.stampli.posting.absence import DataAccessLost, require_visible
from mlc_dagster.stampli.posting.comparison import body_fields, compare
from mlc_dagster.stampli.posting.entered_again import EnteredAgain, find_entered_again, note_entered_again
from mlc_dagster.stampli.transit import transit_folder

_CHUNK = 400
_TOGETHER = 50
"""Read back behind the posting: what one question names."""
_NEARBY = 32
"""Later invoices that must be created too, before those are read back."""
_WRITTEN = 10
"""Steps per change of the ledger's writer: outcomes of requests that wait for its commit must not wait long."""
_COMPARED = ("id", "number", "business_unit", "state", "fusion_invoice_id", "differences")
_ACTION_TRIES = 3
_AGAIN = "tried again at the next reconcile of its window"


@dataclass
class ConfirmationSummary:
    """What reading back found, in invoices."""

    confirmed: int = 0
    unchanged: int = 0
    """Confirmed before, and still equal."""
    differing: list[str] = field(default_factory=list[str])
    missing: list[str] = field(default_factory=list[str])
    voided: list[str] = field(default_factory=list[str])
    after_create: int = 0
    attached: int = 0
    problems: list[str] = field(default_factory=list[str])


class Confirming:
    """Reads a window's created invoices back: most of them while others are still posted, the rest at the end.

    An invoice is read back only once its creation is in the ledger.
    """

    def __init__(
        self,
        inbound: Inbound,
        client: FusionClient,
        writer: LedgerWriter,
        window_start: dt.datetime,
        *,
        progress: Callable[[int], None] = silent,
    ) -> None:
        """``progress`` is called with the number of invoices read back, per chunk."""
        self._inbound = inbound
        self._client = client
        self._writer = writer
        self._window = window_start
        self._progress = progress
        self._summary = ConfirmationSummary()
        self._ended = 0
        self._after = 0
        self._behind: asyncio.Task[None] | None = None
        self._failed = False

    def more_created(self, count: int) -> None:
        """So many attempts ended: when there is enough to read back, that begins now and runs by itself."""
        self._ended += count
        if self._ended >= _TOGETHER and not self._failed and (self._behind is None or self._behind.done()):
            self._ended = 0
            self._behind = asyncio.create_task(self._read_behind())

    async def _read_behind(self) -> None:
        try:
            rows = await asyncio.to_thread(self._rows, (InvoiceState.CREATED,), self._after, _TOGETHER + _NEARBY)
            if len(rows) < _TOGETHER + _NEARBY:
                return
            # Not the last ones: between them there are others whose answer is still to come.
            self._after = rows[_TOGETHER - 1]["id"]
            await self._confirm(rows[:_TOGETHER])
        except (FusionError, DataAccessLost):
            # Met again at the end of the run, when nothing is posted any more, and told there.
            self._failed = True

    async def stop(self) -> None:
        """The run ends with an error: what is not read back now is read back by the next one."""
        if self._behind is not None:
            self._behind.cancel()
            await asyncio.gather(self._behind, return_exceptions=True)

    async def finish(self, *, again: bool) -> ConfirmationSummary:
        """Read back what is left and finish the steps of the window's invoices.

        Args:
            again: also those confirmed before this run (reconcile).

        Raises:
            DataAccessLost: Fusion shows none of the invoices that it showed before.
            FusionError: Fusion cannot be read.
        """
        if self._behind is not None:
            await self._behind
        states = tuple(sorted(CREATED_STATES)) if again else (InvoiceState.CREATED,)
        after = 0
        while rows := await asyncio.to_thread(self._rows, states, after, _CHUNK):
            after = rows[-1]["id"]
            await self._confirm([row for row in rows if again or row["differences"] is None])
        await _finish_steps(self._inbound, self._client, self._window, self._summary)
        return self._summary

    def _rows(self, states: Sequence[InvoiceState], after: int, limit: int) -> list[Row]:
        with self._inbound.ledger.reading() as reading:
            return window_rows(reading, self._window, states, _COMPARED, after=after, limit=limit)

    async def _confirm(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        records = await read_back(self._client, {row["fusion_invoice_id"] for row in rows})
        await require_visible(self._inbound.ledger, self._client, self._inbound.pod, rows, records)
        bodies = await asyncio.to_thread(self._bodies, rows)
        gone = [row for row in rows if row["fusion_invoice_id"] not in records]
        again = await find_entered_again(self._inbound, self._client, gone, bodies) if gone else {}
        found = await asyncio.to_thread(_judge_all, rows, records, bodies, again)
        for start in range(0, len(found), _WRITTEN):
            part = found[start : start + _WRITTEN]
            await self._writer.submit(lambda transaction, part=part: _record(transaction, part))
        for each in found:
            each.tell(self._summary)
        self._progress(len(rows))

    def _bodies(self, rows: Sequence[Row]) -> dict[int, bytes]:
        with self._inbound.ledger.reading() as reading:
            return sent_bodies(reading, [row["id"] for row in rows])


def sent_bodies(transaction: Transaction, invoice_keys: Sequence[int]) -> dict[int, bytes]:
    """The bytes that created each invoice; empty where the retention rules have erased them."""
    rows = transaction.rows(
        sa.select(submission.c.invoice_pk, submission.c.body)
        .where(submission.c.invoice_pk.in_(list(invoice_keys)), submission.c.fusion_invoice_id.is_not(None))
        .order_by(submission.c.attempt)
    )
    return {row["invoice_pk"]: row["body"] for row in rows}


@dataclass(frozen=True)
class _Found:
    """What reading one invoice back found: the step it takes in the ledger, if any, and what people are told."""

    row: Row
    tell: Callable[[ConfirmationSummary], None]
    target: InvoiceState | None = None
    event: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])
    again: EnteredAgain | None = None
    """Gone, and entered again by somebody."""


def _judge_all(
    rows: Sequence[Row],
    records: Mapping[int, InvoiceRecord],
    bodies: Mapping[int, bytes],
    again: Mapping[int, EnteredAgain],
) -> list[_Found]:
    return [
        _judge(row, records.get(row["fusion_invoice_id"]), bodies.get(row["id"]), again.get(row["id"])) for row in rows
    ]


def _judge(row: Row, record: InvoiceRecord | None, body: bytes | None, again: EnteredAgain | None) -> _Found:
    name = f"{row['number']} (InvoiceId {row['fusion_invoice_id']})"
    state = InvoiceState(row["state"])
    if record is None:
        told = name if again is None else f"{name}: {again.text}"
        missing = InvoiceState.MISSING_IN_FUSION
        return _Found(row, lambda summary: summary.missing.append(told), missing, "invoice.missing", again=again)
    if record.canceled:
        return _Found(row, lambda summary: summary.voided.append(name), InvoiceState.VOIDED_IN_FUSION, "invoice.voided")
    if body == b"" and state is InvoiceState.CONFIRMED:
        # Erased by the retention rules. It was equal when it was read back; the control on amounts still compares.
        return _Found(row, _count_unchanged)
    if not body:
        return _Found(row, lambda summary: summary.problems.append(f"{name}: the ledger has no request for it"))
    comparison = compare(body_fields(body), record)
    if comparison.equal:
        if state is InvoiceState.CONFIRMED:
            return _Found(row, _count_unchanged)
        detail = {"generated_lines": list(comparison.generated)}
        return _Found(row, _count_confirmed, InvoiceState.CONFIRMED, "invoice.confirmed", detail, {"differences": None})
    shown = ", ".join(f"{key}: sent {sent}, Fusion has {seen}" for key, (sent, seen) in comparison.differences.items())
    known = state is InvoiceState.CREATED and row["differences"] == comparison.differences
    return _Found(
        row,
        lambda summary: summary.differing.append(f"{name}: {shown}"),
        None if known else InvoiceState.CREATED,
        "invoice.differs",
        {"differences": comparison.differences},
        {"differences": comparison.differences, "reason": "READ_BACK_DIFFERS"},
    )


def _count_unchanged(summary: ConfirmationSummary) -> None:
    summary.unchanged += 1


def _count_confirmed(summary: ConfirmationSummary) -> None:
    summary.confirmed += 1


def _record(transaction: Transaction, found: Sequence[_Found]) -> None:
    for each in found:
        row, target = each.row, each.target
        if target is not None and (row["state"] != target or each.columns.get("differences") is not None):
            expected = (InvoiceState(row["state"]),)
            move(
                transaction, row["id"], target, expected=expected, event=each.event, detail=each.detail, **each.columns
            )
        if each.again is not None:
            note_entered_again(transaction, row["id"], each.again)


async def _finish_steps(
    inbound: Inbound, client: FusionClient, window_start: dt.datetime, summary: ConfirmationSummary
) -> None:
    """after_create and attachments of the window's confirmed invoices that lack them."""
    companies = inbound.stampli.companies
    acting = {key: company.after_create for key, company in companies.items() if company.after_create != "leave"}
    attaching = inbound.stampli.attachments == "document_file"
    if not acting and not attaching:
        return
    after = 0
    while True:
        with inbound.ledger.reading() as reading:
            rows = window_invoices(reading, window_start, [InvoiceState.CONFIRMED], after=after, limit=_CHUNK)
        if not rows:
            return
        after = rows[-1]["id"]
        todo = [row for row in rows if row["company_id"] in acting and row["after_create_done"] is None]
        slots = asyncio.Semaphore(inbound.settings.fusion.max_in_flight)
        await together(_act(inbound, client, row, acting[row["company_id"]], slots, summary) for row in todo)
        if attaching:
            await _attach_chunk(inbound, client, [row for row in rows if row["attachment_done"] is None], summary)


async def _act(
    inbound: Inbound,
    client: FusionClient,
    row: Row,
    action: str,
    slots: asyncio.Semaphore,
    summary: ConfirmationSummary,
) -> None:
    """Have Fusion calculate tax or validate. Doing it twice is harmless, so an unclear end is simply tried again.

    Raises:
        NotAuthorised: the credentials no longer work, so no other invoice would fare better.
    """
    async with slots:
        try:
            records = await read_back(client, [row["fusion_invoice_id"]])
            record = records.get(row["fusion_invoice_id"])
            if record is None:
                return
            try:
                said = await _insist(inbound, client, action, record)
            except BusinessRefusal as error:
                said = f"refused: {error}"
                summary.problems.append(f"{row['number']}: {action} {said}")
        except NotAuthorised:
            raise
        except FusionError as error:
            # The invoice is in the books: a step that fails, for whatever cause, must not hold its window open.
            summary.problems.append(f"{row['number']}: {action} is tried again when its window is reconciled: {error}")
            return
    await asyncio.to_thread(_note_step, inbound, row, "after_create_done", action, said)
    summary.after_create += 1


async def _insist(inbound: Inbound, client: FusionClient, action: str, record: InvoiceRecord) -> str:
    for _ in range(_ACTION_TRIES - 1):
        try:
            return await (calculate_tax if action == "calculate_tax" else validate)(client, record)
        except (OutcomeUnknown, Refused, NotSent) as error:
            asked = error.retry_after if isinstance(error, Refused) else None
            settings = inbound.settings.fusion
            await asyncio.sleep(max(settings.refused_wait, min(asked or 0.0, settings.wait_in_run)))
    return await (calculate_tax if action == "calculate_tax" else validate)(client, record)


def _note_step(inbound: Inbound, row: Row, column: str, value: str, said: str) -> None:
    with inbound.ledger.transaction() as transaction:
        transaction.execute(sa.update(invoice_table).where(invoice_table.c.id == row["id"]).values({column: value}))
        transaction.audit(f"invoice.{column}", f"invoice:{row['id']}", step=value, said=said[:500])


async def _attach_chunk(
    inbound: Inbound, client: FusionClient, rows: Sequence[Row], summary: ConfirmationSummary
) -> None:
    # Without content: erased by the retention rules, long after its document could have come.
    named = [(row, invoice_from_json(row["content"]).document_file) for row in rows if row["content"]]
    wanted = [(row, name) for row, name in named if name]
    if not wanted:
        return
    with transit_folder(inbound.scratch) as folder:
        fetched = await asyncio.to_thread(_fetch, inbound, wanted, folder)
        for row, name in wanted:
            content = fetched[row["id"]]
            if isinstance(content, str):
                summary.problems.append(f"{row['number']}: attachment {name}: {content}")
                continue
            try:
                said = await _attach(client, row, name, content, summary)
            except NotAuthorised:
                raise
            except FusionError as error:
                # Not noted as done: the next reconcile looks first whether it was attached after all.
                summary.problems.append(f"{row['number']}: attachment {name}: {error}; {_AGAIN}")
                continue
            await asyncio.to_thread(_note_step, inbound, row, "attachment_done", name, said)


async def _attach(client: FusionClient, row: Row, name: str, content: Path, summary: ConfirmationSummary) -> str:
    """Attach one document unless it is there; what was done."""
    # Attaching is not idempotent: a crash between request and record would attach it twice.
    present = await list_attachments(client, row["fusion_invoice_id"])
    if any(attachment.file_name == name for attachment in present):
        return "attached before"
    try:
        await add_attachment(client, row["fusion_invoice_id"], name, await asyncio.to_thread(content.read_bytes))
    except BusinessRefusal as error:
        # Asking again would be refused again, at every poll.
        said = f"refused: {error}"
        summary.problems.append(f"{row['number']}: attachment {name}: {said}")
        return said
    summary.attached += 1
    return "attached"


def _fetch(inbound: Inbound, wanted: Sequence[tuple[Row, str]], folder: Path) -> dict[int, Path | str]:
    """Each document from beside its invoice file, or why not."""
    fetched: dict[int, Path | str] = {}
    try:
        with inbound.open_session() as session:
            for row, name in wanted:
                if name != posixpath.basename(name) or name.startswith("."):
                    fetched[row["id"]] = "not a plain file name; it must lie beside the invoice file"
                    continue
                path = posixpath.join(posixpath.dirname(row["file_path"]), name)
                target = folder / str(row["id"])
                try:
                    session.download(path, target, expected_size=None, max_bytes=inbound.stampli.max_attachment_bytes)
                except SftpError as error:
                    fetched[row["id"]] = f"{error}; {_AGAIN}"
                else:
                    fetched[row["id"]] = target
    except SftpError as error:
        # No session at all: the invoices are in the books, their documents can wait.
        for row, _ in wanted:
            fetched.setdefault(row["id"], f"{error}; {_AGAIN}")
    return fetched
