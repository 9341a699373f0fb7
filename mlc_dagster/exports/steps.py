"""The two steps of the outbound flow for one feed, as assets and commands call them: read the source, deliver the feed.

Each can be repeated: what is read is not read again, what is delivered is recognised, what is pending is finished.
"""

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mlc_dagster.alerts import messages
from mlc_dagster.alerts.telling import Trouble, is_news, send
from mlc_dagster.exports.acknowledging import AckResult, read_acknowledgements
from mlc_dagster.exports.building import Built, build_files
from mlc_dagster.exports.delivery import Delivered, DeliveryStopped, Outcome, deliver_pending
from mlc_dagster.exports.guarding import guard_feed
from mlc_dagster.exports.holding import hold_feed
from mlc_dagster.exports.outbound import Outbound
from mlc_dagster.ledger import exported, extracts, feeds
from mlc_dagster.ledger.database import LedgerError, Row
from mlc_dagster.ledger.exported import OPEN_STATES
from mlc_dagster.ledger.tellings import Tellings, cause_of
from mlc_dagster.settings import AcknowledgementSettings
from mlc_dagster.sftp.errors import SftpError


class FeedBehind(LedgerError):
    """A feed did not get to the end of what was read for it; silence would let it stand still for good."""

    def __init__(self, feed: str, until: dt.datetime, reached: dt.datetime | None) -> None:
        self.feed = feed
        stands = "has nothing yet" if reached is None else f"stands at {reached:%Y-%m-%d %H:%M} UTC"
        super().__init__(
            f"feed {feed} {stands}, and the windows up to {until:%Y-%m-%d %H:%M} UTC were asked for; "
            f"read them with: mlc run outbound --feed {feed}, and report this if it stays"
        )


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
    beyond: bool = True,
    replay: Sequence[int] = (),
    sleep: Callable[[float], None] = time.sleep,
) -> FeedReport:
    """Build files from what was read, deliver everything that is pending, read acknowledgements.

    Pending files of earlier runs go first, before anything new is built.

    Args:
        outbound: the wiring.
        name: the feed.
        until: end of the last window that was asked for, UTC.
        owner: this process and the run.
        beyond: take whatever was read, also what another feed's run read of later windows, or of earlier ones just
            now. A feed takes the extracts of its source one after the other; one that reaches beyond ``until`` must
            not keep it from those behind.
        replay: ids of extracts that are looked through again, for a window that was started by hand.
        sleep: waits between attempts.

    Raises:
        FeedBusy: another run holds the feed.
        PlaceChanged, JournalAhead: a person says first what was sent, and to whom; nothing was sent.
        FeedBehind: windows up to ``until`` were read, and the feed has not got there.
        ProjectionChanged: the records' projection is not the one the ledger was filled with.
    """
    began = time.monotonic()
    feed = outbound.feeds[name]
    with hold_feed(outbound.ledger, name, feed.source, owner=owner) as held:
        guard_feed(outbound, feed)
        earlier = deliver_pending(outbound, feed, still_ours=held.still_ours, sleep=sleep)
        limit = None if beyond else until
        built = build_files(outbound, feed, held, until=limit, now=outbound.ledger.now(), replay=replay)
        report = FeedReport(name, built, earlier)
        if not _stopped(earlier):
            later = deliver_pending(outbound, feed, still_ours=held.still_ours, sleep=sleep)
            again = {file.file_id for file in later}
            report.delivered = [file for file in earlier if file.file_id not in again] + later
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
    report.alerts_failed = _tell(outbound, report)
    if beyond:
        _refuse_behind(outbound, name, until)
    report.seconds = time.monotonic() - began
    return report


def _refuse_behind(outbound: Outbound, name: str, until: dt.datetime) -> None:
    with outbound.ledger.reading() as reading:
        reached = feeds.feed_row(reading, name)["delivered_until"]
    if reached is None or reached < until:
        raise FeedBehind(name, until, reached)


def _tell(outbound: Outbound, report: FeedReport) -> list[str]:
    """Everything that a person should hear of; what could not be sent. A file that waits is told once per cause."""
    failures: list[str] = []
    told = Tellings(outbound.ledger)
    for file in report.delivered:
        if file.alert:
            trouble = Trouble(f"export:{file.file_id}", f"{file.outcome} {_cause(file)}")
            if is_news(told, outbound.alerts, trouble):
                failures += send(told, outbound.alerts, [trouble], messages.file_message(report.feed, file))
    # The rest is about what is new in this run, and new but once.
    for title, body in messages.feed_messages(replace(report, delivered=[])):
        failures += outbound.alerts.send(title, body)
    return failures


def _cause(file: Delivered) -> str:
    if file.outcome is Outcome.UNKNOWN:
        # In the same words whether others wait behind it or not.
        return f"OutcomeUnknown: {cause_of(file.text)}"
    if file.stopped is None:
        return cause_of(file.text)
    cause = file.stopped.cause
    # A server that is away is found in another way each time.
    return type(cause).__name__ if file.stopped.transient else f"{type(cause).__name__}: {cause_of(str(cause))}"


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
                    waiting=len(exported.list_files(reading, name, OPEN_STATES, limit=1_000_000)),
                    held=len(exported.held_records(reading, name)),
                )
            )
    return rows


def _stopped(delivered: Sequence[Delivered]) -> DeliveryStopped | None:
    return next((file.stopped for file in delivered if file.stopped is not None), None)
