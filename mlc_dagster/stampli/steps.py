"""The three steps of the inbound flow over one window, as assets and commands call them.

Each takes the wiring and a held window and returns plain numbers and bounded tables. The order is fixed: receive and
read files, validate, post and confirm. Every step can be repeated: what is done is found done.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.equation import Equation, equation
from mlc_dagster.ledger.files import FileState
from mlc_dagster.ledger.retries import left_files
from mlc_dagster.ledger.windows import pin_pod
from mlc_dagster.ledger.writer import LedgerWriter
from mlc_dagster.money import amount_of
from mlc_dagster.stampli.inbound import FEED, Inbound, RequestCount
from mlc_dagster.stampli.intake.disposing import dispose_processed
from mlc_dagster.stampli.intake.occurrences import decide_waiting
from mlc_dagster.stampli.intake.reading import FileReading, Rereading, read_files, reread_files
from mlc_dagster.stampli.intake.receiving import Receipt, files_of, receive_files
from mlc_dagster.stampli.observing import ObservationSummary, observe_invoices, probe_cures
from mlc_dagster.stampli.posting.absence import DataAccessLost
from mlc_dagster.stampli.posting.confirmation import ConfirmationSummary, Confirming
from mlc_dagster.stampli.posting.refusals import UnitsStopped
from mlc_dagster.stampli.posting.sending import PostingSummary
from mlc_dagster.stampli.posting.window_posting import post_window
from mlc_dagster.stampli.validation.window_validation import ValidationSummary, validate_window
from mlc_dagster.stampli.window import HeldWindow

T = TypeVar("T")
Progress = Callable[[str, int], None]
"""Called with the name of a stage and how many invoices (or files) of it were done since the last call."""


def _silent(stage: str, count: int) -> None:
    """No progress display."""


@dataclass
class ReceiveReport:
    """What the first step found: files, whole or waiting, and what was read from them."""

    receipts: list[Receipt] = field(default_factory=list[Receipt])
    readings: list[FileReading] = field(default_factory=list[FileReading])
    rereadings: list[Rereading] = field(default_factory=list[Rereading])
    """Reconcile: files read again from the archive, with what differs from the ledger."""
    files: list[Row] = field(default_factory=list[Row])
    seconds: float = 0.0


@dataclass
class ValidateReport:
    summary: ValidationSummary
    requests: RequestCount
    decided_waiting: int = 0
    seconds: float = 0.0


@dataclass
class PostReport:
    posting: PostingSummary
    confirmation: ConfirmationSummary
    requests: RequestCount
    equation: Equation
    disposal_problems: list[str] = field(default_factory=list[str])
    seconds: float = 0.0


def receive_step(inbound: Inbound, held: HeldWindow, progress: Progress = _silent) -> ReceiveReport:
    """Fetch the generation's files whole, archive them, and enter their invoices into the ledger.

    With them the window's files whose own generation ended without reading them. Reconciling, the window's files are
    read again from the archive as well and compared with the ledger.
    """
    began = time.monotonic()
    report = ReceiveReport()
    generation = None if held.reconciling else held.work.generation
    rows = files_of(inbound.ledger, held.work.start, generation)
    with inbound.ledger.reading() as reading:
        left = left_files(reading, FEED, held.work.start)
    if not held.reconciling:
        rows += [row for row in left if row["generation"] != generation]
    report.receipts = receive_files(
        inbound.ledger,
        inbound.open_session,
        inbound.archive,
        inbound.stampli,
        inbound.profile,
        rows,
        journal=inbound.received_journal,
        scratch=inbound.scratch,
        progress=lambda count: progress("files", count),
    )
    if held.reconciling:
        report.rereadings = reread_files(inbound.ledger, inbound.archive, inbound.profile, rows)
    # All unread files of the window, whatever their generation: an earlier attempt may have died in between.
    unread = files_of(inbound.ledger, held.work.start, None)
    report.readings = read_files(
        inbound.ledger, inbound.archive, inbound.profile, unread, progress=lambda count: progress("read", count)
    )
    taken = {row["id"] for row in left}
    report.files = [
        row
        for row in files_of(inbound.ledger, held.work.start, None)
        if generation in (None, row["generation"]) or row["id"] in taken
    ]
    report.seconds = time.monotonic() - began
    return report


def validate_step(inbound: Inbound, held: HeldWindow, progress: Progress = _silent) -> ValidateReport:
    """Judge the window's invoices: VALIDATED with a mapping, or PARKED with a reason."""
    began = time.monotonic()
    requests = RequestCount()
    with inbound.ledger.transaction() as transaction:
        decided = decide_waiting(transaction, inbound.profile)

    async def work(client: FusionClient) -> ValidationSummary:
        return await validate_window(
            inbound,
            client,
            held.work.start,
            all_parked=held.reconciling,
            progress=lambda count: progress("validate", count),
        )

    summary = with_client(inbound, requests, work)
    return ValidateReport(summary, requests, decided, time.monotonic() - began)


def post_step(inbound: Inbound, held: HeldWindow, progress: Progress = _silent) -> PostReport:
    """Post what is validated, read back behind that, settle what is uncertain, finish, and tidy the folder."""
    began = time.monotonic()
    requests = RequestCount()

    async def work(client: FusionClient) -> tuple[PostingSummary, ConfirmationSummary]:
        async with LedgerWriter(inbound.ledger) as writer:
            confirming = Confirming(
                inbound, client, writer, held.work.start, progress=lambda count: progress("confirm", count)
            )

            def ended(count: int) -> None:
                progress("post", count)
                if not held.reconciling:
                    # A reconcile reads everything back at the end, what this run created included.
                    confirming.more_created(count)

            try:
                posted = await post_window(inbound, client, writer, held.work, progress=ended)
            except (DataAccessLost, UnitsStopped):
                # A business unit that we no longer see, or that refuses us, must not keep the others' from being read.
                await confirming.finish(again=held.reconciling)
                raise
            except BaseException:
                await confirming.stop()
                raise
            return posted, await confirming.finish(again=held.reconciling)

    posting, confirmation = with_client(inbound, requests, work)
    posting.confirmed, posting.differing = confirmation.confirmed, len(confirmation.differing)
    problems = dispose_processed(inbound, files_of(inbound.ledger, held.work.start, None))
    with inbound.ledger.reading() as reading:
        tally = equation(reading, FEED, held.work.start)
    return PostReport(posting, confirmation, requests, tally, problems, time.monotonic() - began)


def observe_step(inbound: Inbound, *, statuses: bool = True, cures: bool = True) -> ObservationSummary:
    """Read the statuses of invoices not accounted yet, and probe whether parked ones are cured."""
    requests = RequestCount()

    async def work(client: FusionClient) -> ObservationSummary:
        summary = await observe_invoices(inbound, client) if statuses else ObservationSummary()
        if cures:
            await probe_cures(inbound, client, summary)
        return summary

    return with_client(inbound, requests, work)


def with_client(inbound: Inbound, requests: RequestCount, work: Callable[[FusionClient], Awaitable[T]]) -> T:
    """What ``work`` gives with a connection to Fusion, in the environment that the ledger speaks of.

    Raises:
        LedgerError: the ledger belongs to another environment.
    """
    with inbound.ledger.transaction() as transaction:
        pin_pod(transaction, inbound.pod)

    async def run() -> T:
        async with inbound.open_client(requests.count) as client:
            return await work(client)

    return asyncio.run(run())


def amounts(minor: Mapping[str, int]) -> dict[str, Decimal]:
    """Totals per currency in units of the currency, by currency code."""
    return {currency: amount_of(total, currency) for currency, total in sorted(minor.items())}


def file_states(rows: list[Row]) -> Counter[str]:
    """How many files are in which state."""
    return Counter(str(FileState(row["state"])) for row in rows)
