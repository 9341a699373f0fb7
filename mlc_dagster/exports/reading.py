"""Reading a source: one read closes all windows since the last one, and is kept as an immutable extract.

A window is over when Fusion's own clock says so, plus a lag. Each read begins an overlap earlier, since rows become
visible some time after their LastUpdateDate; once a day it looks further back, and compares ids with Fusion's.
Whatever is read twice is recognised as the same later on; nothing is ever skipped: a document that cannot be read is
remembered, told, and read again with every window until it can be.
"""

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from mlc_dagster.alerts import messages
from mlc_dagster.alerts.telling import Trouble, is_news, send
from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.exports.extract_file import ExtractWriter
from mlc_dagster.exports.extraction import Extraction
from mlc_dagster.exports.holding import hold_feed
from mlc_dagster.exports.outbound import Outbound
from mlc_dagster.exports.rest import rest_extraction
from mlc_dagster.fusion.client import Exchange, FusionClient
from mlc_dagster.fusion.documents import Unreadable
from mlc_dagster.fusion.records import Read, canonical, digest
from mlc_dagster.ledger import extracts, unreadable
from mlc_dagster.ledger.feeds import FeedBusy
from mlc_dagster.ledger.tellings import Tellings, cause_of
from mlc_dagster.ledger.windows import pin_pod, window_key

T = TypeVar("T")
_BUSY_PAUSE = 1.0
_BUSY_PATIENCE = 600.0
_KNOWN_CHUNK = 500


class ExtractKind(StrEnum):
    WINDOWS = "WINDOWS"
    LOOK_BACK = "LOOK_BACK"
    SWEEP = "SWEEP"


class WindowNotOver(Expected):
    """The window is not over by Fusion's clock; nothing was read."""

    kind = FailureKind.BUSY

    def __init__(self, source: str, until: dt.datetime, fusion_now: dt.datetime, lag: float) -> None:
        self.source = source
        self.until = until
        self.fusion_now = fusion_now
        super().__init__(
            f"{source}: the window that ends at {until:%Y-%m-%d %H:%M} UTC is not over; Fusion's clock says "
            f"{fusion_now:%Y-%m-%d %H:%M:%S} UTC, and a window is read {lag:g} s after its end (outbound.lag)"
        )


@dataclass(frozen=True)
class ExtractMade:
    """One extract that this call made."""

    kind: ExtractKind
    window_start: dt.datetime
    window_end: dt.datetime
    records: int
    lines: int
    sha256: str


@dataclass
class ReadReport:
    """What reading a source did. Without extracts, everything asked for had been read before."""

    source: str
    fusion_now: dt.datetime | None = None
    extracts: list[ExtractMade] = field(default_factory=list[ExtractMade])
    missed: int = 0
    """Records that only the sweep found."""
    unreadable: dict[int, str] = field(default_factory=dict[int, str])
    """Documents that could not be read, by Fusion's id, with what is wrong; the next window's read tries again."""
    alerts_failed: list[str] = field(default_factory=list[str])
    requests: int = 0
    seconds: float = 0.0

    @property
    def records(self) -> int:
        return sum(made.records for made in self.extracts)

    @property
    def lines(self) -> int:
        return sum(made.lines for made in self.extracts)


def read_source(
    outbound: Outbound,
    source: str,
    *,
    until: dt.datetime,
    owner: str,
    run_id: str,
    look_back: bool = False,
    sweep: bool = False,
    progress: Callable[[int], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> ReadReport:
    """Read everything since the last read, up to the end of a window.

    Args:
        outbound: the wiring.
        source: journals, invoices, purchase_orders or suppliers.
        until: end of the last window wanted, UTC.
        owner: this process, as ``ledger.process.process_name`` names it, and the run.
        run_id: kept with the extract.
        look_back: look back now, whenever it was done last.
        sweep: compare ids with Fusion's now.
        progress: called with the number of records read since its last call.
        sleep: waits while another run reads the same source.

    Raises:
        WindowNotOver: ``until`` is not over by Fusion's clock.
        FeedBusy: another run has been reading the source for ten minutes.
        FusionError: Fusion does not answer, or refuses us; nothing is kept of what was read.
    """
    began = time.monotonic()
    report = ReadReport(source)
    with outbound.ledger.transaction() as transaction:
        pin_pod(transaction, outbound.settings.fusion.base_url)
    waited = 0.0
    while True:
        try:
            with hold_feed(outbound.ledger, f"source:{source}", source, owner=owner):
                _Reading(outbound, source, report, run_id, progress).run(until, look_back=look_back, sweep=sweep)
            break
        except FeedBusy:
            # Two feeds of one source come due together: the second finds the first one's extract.
            if waited >= _BUSY_PATIENCE:
                raise
            waited += _BUSY_PAUSE
            sleep(_BUSY_PAUSE)
    report.alerts_failed = _tell(outbound, source, report.unreadable)
    report.seconds = time.monotonic() - began
    return report


def _tell(outbound: Outbound, source: str, found: Mapping[int, str]) -> list[str]:
    """One alert for all documents that nobody knows of; what could not be sent."""
    troubles = {key: Trouble(f"document:{source}/{key}", cause_of(text)) for key, text in sorted(found.items())}
    told = Tellings(outbound.ledger)
    news = {key: each for key, each in troubles.items() if is_news(told, outbound.alerts, each)}
    if not news:
        return []
    message = messages.documents_unreadable(source, [(key, found[key]) for key in news])
    return send(told, outbound.alerts, list(news.values()), message)


def fusion_now(outbound: Outbound) -> dt.datetime:
    """Fusion's own time, UTC; raises FusionError."""
    from mlc_dagster.fusion.changes import fusion_now as ask  # noqa: PLC0415

    async def work() -> dt.datetime:
        async with outbound.open_client(_unheard) as client:
            return await ask(client)

    return asyncio.run(work())


def closed_until(outbound: Outbound, now: dt.datetime) -> dt.datetime:
    """End of the last window that is over at Fusion's ``now``."""
    return outbound.settings.poll.window_start(now - dt.timedelta(seconds=outbound.settings.outbound.lag))


def _unheard(exchange: Exchange) -> None:
    """Nobody counts these."""


class _Reading:
    """One call, while it holds the source."""

    def __init__(
        self,
        outbound: Outbound,
        source: str,
        report: ReadReport,
        run_id: str,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._outbound = outbound
        self._source = source
        self._report = report
        self._run_id = run_id
        self._progress = progress
        self._aside: dict[int, str] = {}
        """What could not be read for the extract that is being made."""

    def run(self, until: dt.datetime, *, look_back: bool, sweep: bool) -> None:
        async def work(client: FusionClient) -> None:
            extraction = rest_extraction(client, self._source, self._outbound.settings, self._set_aside)
            now = await extraction.now()
            self._report.fusion_now = now
            if until > closed_until(self._outbound, now):
                raise WindowNotOver(self._source, until, now, self._outbound.settings.outbound.lag)
            await self._windows(extraction, until, now)
            # From where the source has been read to, whatever window this call is for: one that goes through an old
            # window again must not use up the day's look back at what is new.
            with self._outbound.ledger.reading() as reading:
                end = max(extracts.read_until(reading, self._source) or until, until)
            if look_back or self._due(ExtractKind.LOOK_BACK, now):
                await self._look_back(extraction, end, now)
            if sweep or (self._outbound.settings.outbound.sweep and self._due(ExtractKind.SWEEP, now)):
                await self._sweep(extraction, end, now)

        asyncio.run(self._with_client(work))

    async def _with_client(self, work: Callable[[FusionClient], Awaitable[T]]) -> T:
        async with self._outbound.open_client(self._count) as client:
            return await work(client)

    def _set_aside(self, found: Unreadable) -> None:
        self._aside[found.fusion_id] = found.text

    def _count(self, exchange: Exchange) -> None:
        del exchange
        self._report.requests += 1

    def _due(self, kind: ExtractKind, now: dt.datetime) -> bool:
        with self._outbound.ledger.reading() as reading:
            # The first read of all is no reason to read the same again; a day later it is.
            last = extracts.last_of_kind(reading, self._source, str(kind)) or extracts.first_extract(
                reading, self._source
            )
        every = dt.timedelta(seconds=self._outbound.settings.outbound.look_back_every)
        return last is not None and last["read_at"] + every <= now

    async def _windows(self, extraction: Extraction, until: dt.datetime, now: dt.datetime) -> None:
        with self._outbound.ledger.reading() as reading:
            since = extracts.read_since(reading, self._source)
            start = extracts.read_until(reading, self._source)
        beginning = self._outbound.source_start(self._source)
        if since is not None and beginning < since:
            # A feed that begins earlier than the source's first read was added, or its start was moved back.
            await self._window(extraction, beginning, since, now)
        start = start or beginning
        if start < until:
            await self._window(extraction, start, until, now)

    async def _window(self, extraction: Extraction, start: dt.datetime, end: dt.datetime, now: dt.datetime) -> None:
        read_from = start - dt.timedelta(seconds=self._outbound.settings.outbound.overlap)
        with self._outbound.ledger.reading() as reading:
            rows = unreadable.unreadable_documents(reading, self._source)
        again = {int(row["fusion_id"]) for row in rows}
        pages = self._with_those(extraction, extraction.changed(read_from, end), set(again))
        await self._keep(ExtractKind.WINDOWS, start, end, read_from, now, pages, again=again)

    async def _with_those(
        self, extraction: Extraction, pages: AsyncIterator[list[Read]], again: set[int]
    ) -> AsyncIterator[list[Read]]:
        """The pages, then those documents that did not come with them and could not be read before."""
        async for reads in pages:
            again.difference_update(read.fusion_id for read in reads)
            yield reads
        async for reads in extraction.by_id(again.difference(self._aside)):
            yield reads

    async def _look_back(self, extraction: Extraction, until: dt.datetime, now: dt.datetime) -> None:
        start = self._back(until, self._outbound.settings.outbound.look_back)
        found = self._unknown(extraction.changed(start, until))
        await self._keep(ExtractKind.LOOK_BACK, start, until, start, now, found)

    async def _sweep(self, extraction: Extraction, until: dt.datetime, now: dt.datetime) -> None:
        start = self._back(until, self._outbound.settings.outbound.sweep)
        missed: list[int] = []
        listed = await extraction.listed(start, until)
        for first in range(0, len(listed), _KNOWN_CHUNK):
            chunk = listed[first : first + _KNOWN_CHUNK]
            with self._outbound.ledger.reading() as reading:
                known = extracts.known_since(reading, self._source, [row.fusion_id for row in chunk])
            for row in chunk:
                seen = known.get(row.fusion_id)
                current = seen is not None and (row.last_update_date is None or seen >= row.last_update_date)
                if not current:
                    missed.append(row.fusion_id)
        self._report.missed = len(missed)
        await self._keep(ExtractKind.SWEEP, start, until, start, now, extraction.by_id(missed))

    def _back(self, until: dt.datetime, seconds: float) -> dt.datetime:
        """So far back, but not to before the source's beginning: what is older is not ours to send."""
        return max(until - dt.timedelta(seconds=seconds), self._outbound.source_start(self._source))

    async def _unknown(self, pages: AsyncIterator[list[Read]]) -> AsyncIterator[list[Read]]:
        """Only what differs from its latest reading: looking back mostly finds what is known."""
        async for reads in pages:
            with self._outbound.ledger.reading() as reading:
                known = extracts.known_digests(reading, self._source, [read.record_id for read in reads])
            yield [read for read in reads if known.get(read.record_id) != digest(canonical(read.content))]

    async def _keep(
        self,
        kind: ExtractKind,
        start: dt.datetime,
        end: dt.datetime,
        read_from: dt.datetime,
        now: dt.datetime,
        pages: AsyncIterator[list[Read]],
        *,
        again: Collection[int] = (),
    ) -> None:
        """Write the pages to an extract, then enter it into the ledger in one transaction.

        ``again``: documents that could not be read before, and were asked for; gone are those of which nothing came.
        """
        self._aside.clear()
        outbound = self._outbound
        outbound.scratch.mkdir(parents=True, exist_ok=True)
        path = outbound.scratch / f"extract-{self._source}-{kind}-{window_key(start)}-{self._run_id}.ndjson"
        remembered: list[tuple[str, int, str, dt.datetime | None]] = []
        requests = self._report.requests
        try:
            with ExtractWriter(path) as writer:
                async for reads in pages:
                    for read in reads:
                        sha256 = writer.add(read)
                        remembered.append((read.record_id, read.fusion_id, sha256, read.last_update_date))
                    if self._progress is not None:
                        self._progress(len(reads))
            sha256 = writer.sha256
            stored = outbound.archive.take(path, sha256)
        finally:
            path.unlink(missing_ok=True)
        with outbound.ledger.transaction() as transaction:
            extract_id = extracts.record_extract(
                transaction,
                source=self._source,
                kind=str(kind),
                window_start=start,
                window_end=end,
                read_from=read_from,
                read_at=now,
                sha256=sha256,
                bytes_=stored.size,
                records=writer.records,
                lines=writer.lines,
                requests=self._report.requests - requests,
                run_id=self._run_id,
            )
            extracts.remember_records(transaction, self._source, extract_id, remembered)
            aside = dict(self._aside)
            came = {fusion_id for _, fusion_id, _, _ in remembered}.difference(aside)
            unreadable.note_unreadable(transaction, self._source, aside)
            unreadable.settle(transaction, self._source, came, unreadable.Ending.READ)
            gone = set(again).difference(came, aside)
            unreadable.settle(transaction, self._source, gone, unreadable.Ending.GONE)
        self._report.unreadable |= aside
        self._report.extracts.append(ExtractMade(kind, start, end, writer.records, writer.lines, sha256))
