"""What two people say of one file: it is given up, or a file of unknown outcome arrived, or did not.

What belongs here: that it is said of what was sent, not of what a restored ledger remembers. What does not: the step
itself, which is the ledger's. Nothing is sent here, and no partner's server is asked.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager

from mlc_dagster.exports.guarding import refuse_older_than
from mlc_dagster.exports.holding import HeldFeed, hold_feed
from mlc_dagster.exports.outbound import Outbound
from mlc_dagster.ledger import exported, sent_files
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.feeds import feed_row
from mlc_dagster.ledger.process import process_name


def abandon(outbound: Outbound, file_id: int, approval: Approval) -> None:
    """Give a file up: its records go into a later file, its control numbers are void.

    Args:
        outbound: the wiring; the file's feed need not be in it.
        file_id: the file.
        approval: who asks for it, who agrees, and why.

    Raises:
        LedgerIsOlder, OtherLedger: the ledger was restored; the file, or one before it, may have been sent since.
        FeedBusy: a run is delivering the feed.
        WrongFileState: it is delivered, being renamed, or given up already.
        LaterVersionWaits: a file that waits has later versions of its records.
        LedgerError: there is no such file.
        OSError: the delivery journal cannot be read.
    """
    with _held(outbound, file_id) as held, outbound.ledger.transaction() as transaction:
        exported.abandon(transaction, file_id, owner=held.owner, **approval.said)


def confirm(outbound: Outbound, file_id: int, approval: Approval, *, arrived: bool) -> None:
    """Say what the partner said of a file of unknown outcome: it counts as sent, or waits for its turn again.

    Raises:
        LedgerIsOlder, OtherLedger: the ledger was restored; what became of the file since may be on record.
        FeedBusy: a run is delivering the feed.
        WrongFileState: its outcome is not unknown.
        LedgerError: there is no such file.
        OSError: the delivery journal cannot be read.
    """
    with _held(outbound, file_id), outbound.ledger.transaction() as transaction:
        exported.settle_unknown(transaction, file_id, arrived=arrived, **approval.said)


@contextmanager
def _held(outbound: Outbound, file_id: int) -> Generator[HeldFeed]:
    with outbound.ledger.reading() as reading:
        file = sent_files.file_of(reading, file_id)
        source = str(feed_row(reading, file["feed"])["source"])
    owner = f"{process_name(os.getpid())}|mlc"
    with hold_feed(outbound.ledger, str(file["feed"]), source, owner=owner) as held:
        refuse_older_than(outbound, file)
        yield held
