"""Delivered files with control numbers, and what partners say of them."""

import datetime as dt
from collections.abc import Sequence

from mlc_dagster.ledger import acknowledgements, exported, feeds
from mlc_dagster.ledger.acknowledgements import Answer, Recorded
from mlc_dagster.ledger.database import Ledger, Row
from mlc_dagster_tests.ledger.exporting import FEED, LEASE, commit, new_file, new_version
from mlc_dagster_tests.ledger.population import unique

PARTNER = "ZZ:US>ZZ:THEM/T"
DAY = dt.timedelta(hours=24)


def deliver(ledger: Ledger, sequence: int, records: Sequence[str], *, version: int = 1, group: int = 17) -> int:
    """A file of purchase orders in one group, with the partner; its key."""
    with ledger.transaction() as transaction:
        feeds.ensure_feed(transaction, FEED, "invoices")
        fence = feeds.take_feed(transaction, FEED, "otherhost|boot/ns|4242|99", LEASE)
    rows = [
        new_version(record, version, set_control=f"PO/{number:04d}", position=number)
        for number, record in enumerate(records, 1)
    ]
    controls = {"interchange": [group], "group": [group]}
    [key] = commit(ledger, fence, new_file(sequence, rows, partner=PARTNER, controls=controls))
    with ledger.transaction() as transaction:
        exported.begin_upload(transaction, key, "x.tmp")
        exported.begin_rename(transaction, key)
        exported.mark_sent(
            transaction, key, server_size=10, server_mtime=1, verified_by="sha256", server_key="SHA256:k"
        )
        feeds.release_feed(transaction, FEED, fence)
    return key


def say(ledger: Ledger, *answers: Answer, partner: str | None = PARTNER, feed: str = FEED) -> list[Recorded]:
    """A file of answers, as read by a feed."""
    sha256 = unique("sha")
    with ledger.transaction() as transaction:
        found = acknowledgements.record(
            transaction, feed=feed, partner=partner, path=f"/ack/{sha256}", sha256=sha256, answers=answers
        )
        acknowledgements.note_file(
            transaction, feed, path=f"/ack/{sha256}", size=1, mtime=1, sha256=sha256, problem=None
        )
    return found


def group(code: str, number: int = 17, kind: str = "PO") -> Answer:
    return Answer(kind, number, None, code)


def one_set(code: str, set_control: str, number: int = 17, text: str | None = None) -> Answer:
    return Answer("PO", number, set_control, code, text)


def status(ledger: Ledger, file_id: int, within: dt.timedelta | None = DAY) -> str:
    expected = {} if within is None else {FEED: within}
    with ledger.reading() as reading:
        row = exported.file_row(reading, file_id)
        assert row is not None
        return str(acknowledgements.statuses(reading, [row], reading.now, expected)[file_id])


def rejected(ledger: Ledger) -> list[Row]:
    with ledger.reading() as reading:
        return acknowledgements.rejected(reading, FEED)


def overdue(ledger: Ledger, within: dt.timedelta = DAY) -> list[str]:
    with ledger.reading() as reading:
        return [row["name"] for row in acknowledgements.overdue(reading, FEED, reading.now, within)]
