"""Feeds: how far each one has come, and the lease that lets one run at a time build and deliver its files.

A feed's position is the last extract that went into its files. What is in the files is in ``versions``; what becomes of
them on the partner's server is in ``exported``.
"""

import datetime as dt

import sqlalchemy as sa

from mlc_dagster.expected import Expected, FailureKind
from mlc_dagster.ledger.database import LedgerError, Row, Transaction
from mlc_dagster.ledger.process import process_is_gone
from mlc_dagster.ledger.schema import ledger_setting
from mlc_dagster.ledger.schema_outbound import export_feed


class FeedBusy(Expected):
    """Another run is building or delivering the feed's files."""

    kind = FailureKind.BUSY

    def __init__(self, feed: str, owner: str, until: dt.datetime) -> None:
        self.feed = feed
        self.owner = owner
        self.until = until
        host, _, pid = [*owner.split("|"), "", ""][:3]
        super().__init__(
            f"feed {feed} is being worked on by process {pid} on {host} (lease until {until:%H:%M:%S} UTC); "
            "wait for it to end, or for its lease to run out"
        )


class FeedLost(Expected):
    """This run no longer holds the feed: it was stopped for longer than its lease, and another took over."""

    kind = FailureKind.BUSY

    def __init__(self, feed: str) -> None:
        self.feed = feed
        super().__init__(f"feed {feed} was taken over by another run; this one wrote nothing more and may be forgotten")


def ensure_feed(transaction: Transaction, name: str, source: str) -> Row:
    """The feed's row, made unless it is there.

    Raises:
        LedgerError: the feed exists and gets its records from another source.
    """
    transaction.insert_ignoring(export_feed, {"name": name, "source": source, "created_at": transaction.now})
    row = feed_row(transaction, name)
    if row["source"] != source:
        msg = (
            f"feed {name} has source {source} in mlc.yaml, but its files so far were made of {row['source']}; "
            "give a feed of another source another name"
        )
        raise LedgerError(msg)
    return row


def feed_row(transaction: Transaction, name: str, *, lock: bool = False) -> Row:
    """The feed's row, locked until the transaction ends when asked to; raises LedgerError when there is none."""
    statement = sa.select(export_feed).where(export_feed.c.name == name)
    row = transaction.row(statement.with_for_update() if lock else statement)
    if row is None:
        msg = f"feed {name} is not in the ledger; no run has reached it yet"
        raise LedgerError(msg)
    return row


def position_of(transaction: Transaction, name: str) -> int:
    """The last extract that went into the feed's files, by id; 0 for a feed that has not run."""
    return int(transaction.value(sa.select(export_feed.c.extract_id).where(export_feed.c.name == name)) or 0)


def take_feed(transaction: Transaction, name: str, owner: str, lease: dt.timedelta) -> int:
    """Lease the feed to this run; the fence, which is higher at each taking.

    Raises:
        FeedBusy: a live run holds the lease.
        LedgerError: there is no such feed.
    """
    row = feed_row(transaction, name, lock=True)
    refuse_if_leased(transaction, row, owner=owner)
    fence = int(row["fence"]) + 1
    transaction.execute(
        sa.update(export_feed)
        .where(export_feed.c.name == name)
        .values(lease_owner=owner, lease_until=transaction.now + lease, fence=fence)
    )
    return fence


def refuse_if_leased(transaction: Transaction, row: Row, *, owner: str | None) -> None:
    """Raise FeedBusy when a live run other than ``owner`` holds the feed of this row."""
    until: dt.datetime | None = row["lease_until"]
    if until is None or until <= transaction.now or row["lease_owner"] == owner:
        return
    if not process_is_gone(row["lease_owner"]):
        raise FeedBusy(row["name"], row["lease_owner"], until)


def renew_feed(transaction: Transaction, name: str, fence: int, lease: dt.timedelta) -> bool:
    """Lengthen the lease; False when somebody took the feed since this fence was given out."""
    statement = (
        sa.update(export_feed)
        .where(export_feed.c.name == name, export_feed.c.fence == fence, export_feed.c.lease_owner.is_not(None))
        .values(lease_until=transaction.now + lease)
    )
    return transaction.execute(statement).rowcount == 1


def feed_held(transaction: Transaction, name: str, fence: int) -> bool:
    """True while the lease given out with this fence runs and nobody has taken the feed since."""
    row = feed_row(transaction, name)
    return row["fence"] == fence and row["lease_until"] is not None and row["lease_until"] > transaction.now


def release_feed(transaction: Transaction, name: str, fence: int) -> None:
    """Give the lease back, when it is still ours."""
    transaction.execute(
        sa.update(export_feed)
        .where(export_feed.c.name == name, export_feed.c.fence == fence)
        .values(lease_owner=None, lease_until=None)
    )


def pinned_projection(transaction: Transaction, feed: str) -> str | None:
    """The description of records that the feed's content hashes were taken with."""
    found: str | None = transaction.value(
        sa.select(ledger_setting.c.value).where(ledger_setting.c.name == f"projection/{feed}")
    )
    return found


def pin_projection(transaction: Transaction, feed: str, description: str) -> None:
    """Remember the description; replaces an older one. By feed: each is rebased for itself."""
    transaction.upsert(ledger_setting, [{"name": f"projection/{feed}", "value": description}])
