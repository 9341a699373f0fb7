"""The two steps of the outbound flow for one feed, as assets and commands call them: read the source, deliver the feed.

Each can be repeated: what is read is not read again, what is delivered is recognised, what is pending is finished.
"""

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mlc_dagster.alerts import messages
from mlc_dagster.exports.acknowledging import AckResult, read_acknowledgements
from mlc_dagster.exports.building import Built, build_files
from mlc_dagster.exports.delivery import Delivered, DeliveryStopped, deliver_pending
from mlc_dagster.exports.holding import hold_feed
from mlc_dagster.exports.outbound import Outbound
from mlc_dagster.ledger import exported, extracts
from mlc_dagster.ledger.database import Row
from mlc_dagster.settings import AcknowledgementSettings
from mlc_dagster.sftp.errors import SftpError


@dataclass
class FeedReport:
    """What one feed's step built, delivered and left."""

    feed: str
    built: Built
    delivered: list[Delivered] = field(default_factory=list[Delivered])
    rows: list[Row] = field(default_factory=list[Row])
    """The files that ``delivered`` speaks of, as the ledger has them."""
    acknowledgements: AckResult | None = None
    acknowledgement_fault: str | None = None
    alerts_failed: list[str] = field(default_factory=list[str])
    seconds: float = 0.0
    stopped: DeliveryStopped | None = None
    """Why a file is still waiting; None when everything is delivered."""


def deliver_feed(
    outbound: Outbound,
    name: str,
    *,
    until: dt.datetime,
    owner: str,
    replay: Sequence[int] = (),
    sleep: Callable[[float], None] = time.sleep,
) -> FeedReport:
    """Build files from what was read up to ``until``, deliver everything that is pending, read acknowledgements.

    Pending files of earlier runs go first, before anything new is built.

    Args:
        outbound: the wiring.
        name: the feed.
        until: end of the last window, UTC.
        owner: this process and the run.
        replay: ids of extracts that are looked through again, for a window that was started by hand.
        sleep: waits between attempts.

    Raises:
        FeedBusy: another run holds the feed.
        ProjectionChanged: the records' projection is not the one the ledger was filled with.
    """
    began = time.monotonic()
    feed = outbound.feeds[name]
    with hold_feed(outbound.ledger, name, feed.source, owner=owner) as held:
        earlier = deliver_pending(outbound, feed, still_ours=held.still_ours, sleep=sleep)
        built = build_files(outbound, feed, held, until=until, now=outbound.ledger.now(), replay=replay)
        report = FeedReport(name, built, earlier)
        if not _stopped(earlier):
            report.delivered += deliver_pending(outbound, feed, still_ours=held.still_ours, sleep=sleep)
        report.stopped = _stopped(report.delivered)
        with outbound.ledger.reading() as reading:
            found = [exported.file_row(reading, file.file_id) for file in report.delivered]
        report.rows = [row for row in found if row is not None]
        if isinstance(feed.settings.acknowledgement, AcknowledgementSettings) and report.stopped is None:
            try:
                report.acknowledgements = read_acknowledgements(outbound, feed)
            except SftpError as error:
                # The files are there; the answers are read at the next poll, and the check says when they are late.
                report.acknowledgement_fault = str(error)
    report.alerts_failed = [
        failure for title, body in messages.feed_messages(report) for failure in outbound.alerts.send(title, body)
    ]
    report.seconds = time.monotonic() - began
    return report


@dataclass(frozen=True)
class FeedSummary:
    """One feed's files of some windows, and what waits whatever window it is of."""

    feed: str
    files: int
    documents: int
    waiting: int
    held: int


def extracts_to_replay(outbound: Outbound, source: str, start: dt.datetime, end: dt.datetime) -> list[int]:
    """Ids of the extracts that cover windows, in the order in which they were read."""
    with outbound.ledger.reading() as reading:
        return [row["id"] for row in extracts.extracts_covering(reading, source, start, end)]


def delivery_summary(
    outbound: Outbound, names: Sequence[str], start: dt.datetime, end: dt.datetime
) -> list[FeedSummary]:
    """Each feed's files whose windows lie in ``[start, end)``, with what waits."""
    rows: list[FeedSummary] = []
    with outbound.ledger.reading() as reading:
        for name in names:
            files = exported.files_of_windows(reading, name, start, end)
            rows.append(
                FeedSummary(
                    name,
                    files=len(files),
                    documents=sum(row["documents"] for row in files),
                    waiting=len(exported.pending_files(reading, name)),
                    held=len(exported.held_records(reading, name)),
                )
            )
    return rows


def _stopped(delivered: Sequence[Delivered]) -> DeliveryStopped | None:
    return next((file.stopped for file in delivered if file.stopped is not None), None)
