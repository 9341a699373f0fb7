"""What a person says when mlc.yaml points a feed elsewhere: another partner, or the same one at another address.

Nothing is sent here; the next run does, from what is recorded here. Until one of both is said, ``guarding`` lets the
feed send nothing.
"""

import logging
import os
from contextlib import AbstractContextManager
from dataclasses import asdict

import sqlalchemy as sa

from mlc_dagster.exports.guarding import refuse_older_ledger
from mlc_dagster.exports.holding import HeldFeed, hold_feed
from mlc_dagster.exports.outbound import Feed, Outbound
from mlc_dagster.exports.places import place_of
from mlc_dagster.exports.restart_journal import RestartJournal
from mlc_dagster.ledger import exported
from mlc_dagster.ledger.approval import Approval, Decision
from mlc_dagster.ledger.beginning import begin_anew
from mlc_dagster.ledger.database import LedgerError, Row
from mlc_dagster.ledger.exported import OPEN_STATES, FileState
from mlc_dagster.ledger.feeds import feed_row
from mlc_dagster.ledger.places import Place, pin_place, pinned_place
from mlc_dagster.ledger.process import process_name
from mlc_dagster.ledger.restarts import Restart, enter_restart, restarts_of
from mlc_dagster.ledger.schema_outbound import exported_file
from mlc_dagster.ledger.types import utc_text

_log = logging.getLogger(__name__)


class FilesWait(LedgerError):
    """Files made for the old place are not settled; nothing was changed."""

    def __init__(self, feed: str, files: list[Row], what: str) -> None:
        self.feed = feed
        self.files = [str(file["name"]) for file in files]
        super().__init__(
            f"feed {feed}: {what} while {self.files[0]} is {files[0]['state']}"
            + (f" and {len(files) - 1} more wait" if len(files) > 1 else "")
            + "; put mlc.yaml back and let them be delivered, or settle them first: mlc exports abandon, confirm"
        )


class NotTheSamePartner(LedgerError):
    """Test and production, or the same place as before: nothing was changed."""

    def __init__(self, feed: str, text: str) -> None:
        self.feed = feed
        super().__init__(f"feed {feed}: {text}")


def restart(outbound: Outbound, feed: Feed, approval: Approval) -> int:
    """The feed's files go to another partner now, or to the same one that is to have everything again.

    Returns:
        How many records the next run sends as new. File numbers go on, control numbers by partner.

    Raises:
        FilesWait: files that were made for the old one are not settled.
        FeedBusy: a run is delivering the feed.
        LedgerIsOlder, OtherLedger: the ledger was restored, and does not know all that the feed has sent.
        OSError: the delivery journal cannot be read.
    """
    now = place_of(feed.settings)
    with _held(outbound, feed):
        # What it does not know of would be sent a second time, or would never be.
        refuse_older_ledger(outbound, feed)
        with outbound.ledger.transaction() as transaction:
            before = pinned_place(transaction, feed.name, now) or now
            waiting = exported.list_files(transaction, feed.name, OPEN_STATES, limit=1000)
            if waiting:
                raise FilesWait(feed.name, waiting, "it cannot begin anew")
            count = begin_anew(
                transaction, feed.name, feed.source, approval, before=asdict(before), after=asdict(now)
            )  # fmt: skip
            pin_place(transaction, feed.name, now)
            begun = Restart(
                number=len(restarts_of(transaction, feed.name)) + 1,
                sequence=int(feed_row(transaction, feed.name)["sequence"]),
                at=utc_text(transaction.now),
                before=asdict(before),
                after=asdict(now),
                records=count,
                **approval.said,
            )
            enter_restart(transaction, feed.name, begun)
        try:
            RestartJournal(outbound, feed.name).catch_up()
        except OSError as error:
            # It stands. The next run enters it first, and sends nothing before.
            _log.warning("feed %s begins anew, and the delivery journal cannot be written: %s", feed.name, error)
    return count


def moved(outbound: Outbound, feed: Feed, decision: Decision) -> Place:
    """The same partner is reached elsewhere: what it has stays delivered, and what waits untried goes to the new place.

    Returns:
        Where the files went before.

    Raises:
        NotTheSamePartner: it went from test to production or back, or nowhere.
        FilesWait: of a file that waits something may lie at the old place, or it has the old ids in it.
        FeedBusy: a run is delivering the feed.
        LedgerIsOlder, OtherLedger: the ledger was restored; where its files go now may have been told since.
    """
    now = place_of(feed.settings)
    with _held(outbound, feed):
        refuse_older_ledger(outbound, feed)
        return _moved(outbound, feed, decision, now)


def _moved(outbound: Outbound, feed: Feed, decision: Decision, now: Place) -> Place:
    with outbound.ledger.transaction() as transaction:
        before = pinned_place(transaction, feed.name, now) or now
        if before == now:
            raise NotTheSamePartner(feed.name, "mlc.yaml names the place to which its files went so far")
        if before.usage != now.usage:
            text = (
                f"usage went from {before.usage} to {now.usage}, and what was sent as a test is in nobody's books; "
                f"send it: mlc exports restart {feed.name} --by NAME --approved-by NAME --reason TEXT"
            )
            raise NotTheSamePartner(feed.name, text)
        waiting = exported.list_files(transaction, feed.name, OPEN_STATES, limit=1_000_000)
        stuck = [file for file in waiting if file["state"] != FileState.PENDING or before.partner != now.partner]
        if stuck:
            raise FilesWait(feed.name, stuck, "it cannot be moved")
        transaction.execute(
            sa.update(exported_file)
            .where(exported_file.c.feed == feed.name, exported_file.c.state == str(FileState.PENDING))
            # What lies at the old place under a temporary name is the partner's to clear away.
            .values(directory=feed.settings.sftp.directory, temp_name=None)
        )
        pin_place(transaction, feed.name, now)
        decision.record(
            transaction, "export.moved", f"feed:{feed.name}", before=asdict(before), after=asdict(now),
            waiting=[file["id"] for file in waiting],
        )  # fmt: skip
    return before


def _held(outbound: Outbound, feed: Feed) -> AbstractContextManager[HeldFeed]:
    return hold_feed(outbound.ledger, feed.name, feed.source, owner=f"{process_name(os.getpid())}|mlc")
