"""Erasing by the retention rules: what is due goes, what is needed stays, and the audit trail holds."""

import datetime as dt
import hashlib
import os
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import audit, retention, schema
from mlc_dagster.ledger.archive import LocalArchive, PayloadErased
from mlc_dagster.ledger.database import Ledger
from mlc_dagster.ledger.retention import Rules
from mlc_dagster.ledger.retention_items import Kind
from mlc_dagster.ledger.schema_outbound import exported_file, exported_record
from mlc_dagster.ledger.states import InvoiceState, OccurrenceOutcome
from mlc_dagster.settings import RetentionSettings
from mlc_dagster_tests.ledger.attempts import end
from mlc_dagster_tests.ledger.exporting import FEED, commit, held_version, new_file, new_version, open_feed
from mlc_dagster_tests.ledger.population import (
    WINDOW,
    HandClock,
    add_file,
    add_occurrence,
    add_window,
    events,
    sent_invoice,
)
from mlc_dagster_tests.ledger.retaining import (
    ALL,
    YEARS,
    deliver,
    extract_of,
    gone,
    kept,
    occurrence_of,
    read_file,
    stored,
)


@pytest.fixture
def archive(archive_root: Path) -> LocalArchive:
    return LocalArchive(archive_root)


def test_nothing_goes_by_default(ledger: Ledger, archive: LocalArchive, clock: HandClock) -> None:
    """Whoever says nothing keeps everything."""
    row, _ = read_file(ledger, archive, InvoiceState.CONFIRMED)
    clock.advance(YEARS)
    assert gone(ledger, archive, Rules(RetentionSettings())) == {}
    assert archive.path(row["sha256"]).exists()


def test_what_is_due_goes_and_the_row_says_so(ledger: Ledger, archive: LocalArchive, clock: HandClock) -> None:
    """The auditor still sees which file it was, how large, with which hash, and why it is not there."""
    row, key = read_file(ledger, archive, InvoiceState.CONFIRMED, mapping='{"InvoiceNumber":"1"}')
    clock.advance(YEARS)
    assert gone(ledger, archive) == {"source_files": 1, "invoices": 1}
    with pytest.raises(PayloadErased, match=r"retention.source_files: 1y"):
        archive.path(row["sha256"])
    with ledger.reading() as reading:
        said = retention.erasures(reading, Kind.SOURCE_FILE, [row["id"]])[str(row["id"])]
        mapping = reading.value(sa.select(schema.invoice.c.mapping).where(schema.invoice.c.id == key))
    assert (said["sha256"], said["bytes"], said["name"]) == (row["sha256"], 100, row["path"])
    assert (said["rule"], said["erased_at"]) == ("retention.source_files: 1y", clock.now)
    occurrence = occurrence_of(ledger, key)
    assert (occurrence["content"], mapping) == (b"", None)
    assert occurrence["digest"]
    subjects = {event["subject"] for event in events(ledger, "payload.erased")}
    assert subjects == {f"file:stampli:{row['path']}", f"invoice:{key}"}
    assert (
        events(ledger, "payload.erased", f"invoice:{key}")[0]["detail"]["sha256"] == hashlib.sha256(b"{}").hexdigest()
    )


def test_the_audit_trail_holds_afterwards(ledger: Ledger, archive: LocalArchive, clock: HandClock) -> None:
    """Erasing must never look like tampering."""
    read_file(ledger, archive, InvoiceState.CONFIRMED)
    audit.seal(ledger)
    clock.advance(YEARS)
    gone(ledger, archive)
    audit.seal(ledger)
    found = audit.verify(ledger)
    assert (found.fault, found.unsealed) == (None, 0)


def test_what_is_younger_stays(ledger: Ledger, archive: LocalArchive, clock: HandClock) -> None:
    """The period counts from when work on it ended."""
    read_file(ledger, archive, InvoiceState.CONFIRMED)
    clock.advance(364 * 86400)
    assert gone(ledger, archive) == {}


@pytest.mark.parametrize(
    "state", [InvoiceState.PARKED, InvoiceState.UNKNOWN, InvoiceState.CREATED, InvoiceState.MISSING_IN_FUSION]
)
def test_an_invoice_that_is_not_settled_keeps_its_content(
    ledger: Ledger, archive: LocalArchive, clock: HandClock, state: InvoiceState
) -> None:
    """Whatever its age: it may still be posted, looked for or read back."""
    read_file(ledger, archive, state)
    clock.advance(YEARS)
    assert gone(ledger, archive) == {}
    assert kept(ledger, Kind.INVOICE) == {f"its invoice is {state}": 1}
    assert kept(ledger, Kind.SOURCE_FILE) == {"invoices of it are not settled": 1}


def test_an_appearance_that_a_person_decides_about_stays(
    ledger: Ledger, archive: LocalArchive, clock: HandClock
) -> None:
    """A revision of a posted invoice waits for somebody to look at it."""
    _, key = read_file(ledger, archive, InvoiceState.CONFIRMED)
    row, _ = read_file(ledger, archive, InvoiceState.CONFIRMED)
    with ledger.transaction() as transaction:
        add_occurrence(transaction, row, key, OccurrenceOutcome.PARKED)
    clock.advance(YEARS)
    assert gone(ledger, archive) == {"source_files": 1, "invoices": 2}
    assert kept(ledger, Kind.INVOICE) == {"a person decides about this appearance of it": 1}


def test_a_file_of_an_open_window_stays(ledger: Ledger, archive: LocalArchive, clock: HandClock) -> None:
    """A run that goes on with the window reads it again."""
    read_file(ledger, archive, InvoiceState.CONFIRMED)
    with ledger.transaction() as transaction:
        add_window(transaction)
    clock.advance(YEARS)
    assert kept(ledger, Kind.SOURCE_FILE) == {"its window is open": 1}


def test_request_bodies_go_when_the_invoice_is_settled(ledger: Ledger, archive: LocalArchive, clock: HandClock) -> None:
    """The hash of what was sent stays with the attempt."""
    key, intent = sent_invoice(ledger)
    clock.advance(YEARS)
    assert gone(ledger, archive) == {}
    end(ledger, "mark_created", intent)
    clock.advance(YEARS)
    assert kept(ledger, Kind.REQUEST) == {"its invoice is CREATED": 1}
    with ledger.transaction() as transaction:
        transaction.execute(sa.update(schema.invoice).values(state="CONFIRMED"))
    assert gone(ledger, archive) == {"invoices": 1, "requests": 1, "source_files": 1}
    with ledger.reading() as reading:
        row = reading.rows(sa.select(schema.submission).where(schema.submission.c.invoice_pk == key))[0]
    assert (row["body"], row["body_sha256"]) == (b"", hashlib.sha256(intent.body).hexdigest())


def test_attempts_of_a_rejected_invoice_keep_their_bodies(
    ledger: Ledger, archive: LocalArchive, clock: HandClock
) -> None:
    """A newer revision is posted only after what was tried before was looked for, by these bodies."""
    _, intent = sent_invoice(ledger)
    end(ledger, "park_submission", intent)
    with ledger.transaction() as transaction:
        transaction.execute(sa.update(schema.invoice).values(state="REJECTED"))
    clock.advance(YEARS)
    assert gone(ledger, archive) == {"invoices": 1, "source_files": 1}
    assert len(kept(ledger, Kind.REQUEST)) == 1


def test_quarantined_rows_go(ledger: Ledger, archive: LocalArchive, clock: HandClock) -> None:
    """They may hold anything; what was wrong with them stays."""
    row, _ = read_file(ledger, archive, InvoiceState.CONFIRMED)
    with ledger.transaction() as transaction:
        values = {"file_id": row["id"], "line": 3, "raw": b"a,b", "reason": "ROW_MALFORMED", "text": "row 3 is short"}
        transaction.insert_ignoring(schema.quarantined_row, values)
    clock.advance(YEARS)
    assert gone(ledger, archive)["quarantined_rows"] == 1
    with ledger.reading() as reading:
        [aside] = reading.rows(sa.select(schema.quarantined_row))
        said = retention.erasures(reading, Kind.QUARANTINED_ROW, [f"{row['id']}:3"])
    assert (aside["raw"], aside["text"]) == (b"", "row 3 is short")
    assert said[f"{row['id']}:3"]["sha256"] == hashlib.sha256(b"a,b").hexdigest()


def test_a_second_run_does_nothing_and_a_stopped_one_is_ended(
    ledger: Ledger, archive: LocalArchive, clock: HandClock
) -> None:
    """Killed after the ledger said ERASED, the file is still there: the next run removes it and tells nothing twice."""
    row, _ = read_file(ledger, archive, InvoiceState.CONFIRMED)
    clock.advance(YEARS)
    gone(ledger, archive)
    place = archive.root / row["sha256"][:2] / row["sha256"][2:]
    place.write_bytes(row["path"].encode())
    before = len(events(ledger))
    again = retention.run(ledger, archive, ALL)
    assert (again.files_removed, sum(amount.count for amount in again.items.values())) == (1, 0)
    assert not place.exists()
    assert len(events(ledger)) == before


def test_bytes_that_another_row_still_has_stay(ledger: Ledger, archive: LocalArchive, clock: HandClock) -> None:
    """The archive keeps the same bytes once: a trigger's file, or a file that was sent again last week."""
    row, _ = read_file(ledger, archive, InvoiceState.CONFIRMED)
    clock.advance(YEARS)
    with ledger.transaction() as transaction:
        younger = add_file(transaction, start=WINDOW + dt.timedelta(minutes=15))
        transaction.execute(
            sa.update(schema.source_file)
            .where(schema.source_file.c.id == younger["id"])
            .values(sha256=row["sha256"], state="SAME_BYTES", received_at=transaction.now)
        )
    done = retention.run(ledger, archive, ALL)
    assert (done.items[Kind.SOURCE_FILE].count, done.files_removed) == (1, 0)
    assert archive.path(row["sha256"]).exists()


def test_bytes_stored_again_today_are_removed_later(ledger: Ledger, archive: LocalArchive, clock: HandClock) -> None:
    """Whoever stores them again may commit its row only after the look at all rows."""
    row, _ = read_file(ledger, archive, InvoiceState.CONFIRMED)
    clock.advance(YEARS)
    now = clock.now.timestamp()
    os.utime(archive.path(row["sha256"]), (now, now))
    assert retention.run(ledger, archive, ALL).files_in_use == 1
    assert archive.path(row["sha256"]).exists()
    clock.advance(2 * 86400)
    assert retention.run(ledger, archive, ALL).files_removed == 1


def test_an_extract_that_a_feed_has_not_taken_stays(ledger: Ledger, archive: LocalArchive, clock: HandClock) -> None:
    """Also for a feed of mlc.yaml that has never run: it begins at the first extract."""
    key = extract_of(ledger, archive, "read")
    clock.advance(YEARS)
    assert kept(ledger, Kind.EXTRACT) == {"a feed has not taken it yet": 1}
    fence = open_feed(ledger)
    assert kept(ledger, Kind.EXTRACT) == {"a feed has not taken it yet": 1}
    commit(ledger, fence, extract_id=key)
    assert gone(ledger, archive) == {"extracts": 1}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("PENDING", "a file made of it is not settled"),
        ("HELD", "records held or given up are made of it"),
        ("ABANDONED", "records held or given up are made of it"),
    ],
)
def test_an_extract_that_unsettled_records_are_made_of_stays(
    ledger: Ledger, archive: LocalArchive, clock: HandClock, state: str, reason: str
) -> None:
    """What was given up is read from it once more, at every build."""
    key = extract_of(ledger, archive, "read")
    version = new_version("1", extract_id=key)
    commit(ledger, open_feed(ledger), new_file(1, [version]), extract_id=key)
    with ledger.transaction() as transaction:
        transaction.execute(sa.update(exported_record).values(state=state))
    clock.advance(YEARS)
    assert kept(ledger, Kind.EXTRACT) == {reason: 1}
    with ledger.transaction() as transaction:
        transaction.execute(sa.update(exported_record).values(state="SENT"))
    assert kept(ledger, Kind.EXTRACT) == {}


def test_exported_files_go_with_their_companions_once_delivered(
    ledger: Ledger, archive: LocalArchive, clock: HandClock
) -> None:
    """A trigger beside it is content too; one that the next file has as well stays for that."""
    shared, own = stored(archive, b""), stored(archive, b"manifest")
    companions = [
        {"kind": "trigger", "name": "t", "sha256": shared, "bytes": 0},
        {"kind": "manifest", "name": "m", "sha256": own, "bytes": 8},
    ]
    main = stored(archive, b"file")
    fence = open_feed(ledger)
    [first] = commit(ledger, fence, new_file(1, sha256=main, companions=companions))
    commit(ledger, fence, new_file(2, sha256=stored(archive, b"next"), companions=companions[:1]))
    deliver(ledger, first)
    with ledger.transaction() as transaction:
        transaction.execute(sa.update(exported_file).where(exported_file.c.id == first).values(state="SENT"))
    clock.advance(YEARS)
    assert kept(ledger, Kind.EXPORTED_FILE) == {"it is PENDING": 1}
    assert gone(ledger, archive) == {"exported_files": 1}
    assert [archive.stat(sha256) is None for sha256 in (main, own, shared)] == [True, True, False]


def test_a_file_whose_acknowledgement_is_awaited_stays(ledger: Ledger, archive: LocalArchive, clock: HandClock) -> None:
    """The partner may ask for it again."""
    fence = open_feed(ledger)
    controls = {"interchange": [1], "group": [1]}
    [key] = commit(ledger, fence, new_file(1, sha256=stored(archive, b"x"), partner="ZZ", controls=controls))
    deliver(ledger, key)
    clock.advance(YEARS)
    expecting = Rules(ALL.settings, ALL.feeds, {FEED: dt.timedelta(hours=24)})
    assert kept(ledger, Kind.EXPORTED_FILE, expecting) == {"its partner has not acknowledged it": 1}
    assert gone(ledger, archive) == {"exported_files": 1}


def test_the_content_that_the_next_change_is_told_by_stays(
    ledger: Ledger, archive: LocalArchive, clock: HandClock
) -> None:
    """A purchase order's next version says what it was before."""
    fence = open_feed(ledger)
    one = new_version("1", content=b"{1}")
    two = new_version("1", 2, content=b"{2}", change="CHANGE")
    commit(ledger, fence, new_file(1, [one]), new_file(2, [two]), held=[held_version("2")])
    with ledger.transaction() as transaction:
        transaction.execute(sa.update(exported_record).where(exported_record.c.state == "PENDING").values(state="SENT"))
    clock.advance(YEARS)
    assert gone(ledger, archive, ALL) == {"record_contents": 1}
    with ledger.reading() as reading:
        contents = reading.rows(sa.select(exported_record.c.content).order_by(exported_record.c.id))
    assert [row["content"] for row in contents] == [None, b"{2}", b"{}"]
    assert kept(ledger, Kind.RECORD_CONTENT) == {
        "the next change is told by what the partner has": 1,
        "it is held or given up, and tried again": 1,
    }
