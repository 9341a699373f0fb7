"""The life of a partner's file: which steps it may take, what each leaves behind, and who may give it up."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from mlc_dagster.ledger import control_numbers, exported
from mlc_dagster.ledger.approval import NotApproved
from mlc_dagster.ledger.database import Ledger, LedgerError, Transaction
from mlc_dagster.ledger.exported import FileState, LaterVersionWaits, WrongFileState
from mlc_dagster.ledger.feeds import FeedBusy, FeedLost, feed_row, release_feed
from mlc_dagster.ledger.known_versions import latest_versions, leftovers
from mlc_dagster.ledger.schema import audit_event
from mlc_dagster.ledger.schema_outbound import exported_file, exported_record
from mlc_dagster.ledger.versions import Flag, SequenceMoved
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.ledger.exporting import FEED, commit, file_of, held_version, new_file, new_version, open_feed
from mlc_dagster_tests.ledger.population import WINDOW, HandClock

Step = Callable[[Transaction, int], None]


def sent(transaction: Transaction, file_id: int) -> None:
    exported.mark_sent(
        transaction, file_id, server_size=10, server_mtime=5, verified_by="sha256", server_key="SHA256:k"
    )


def given_up(transaction: Transaction, file_id: int) -> None:
    exported.abandon(
        transaction, file_id, by="ann", approved_by="bob", reason="wrong layout", owner="otherhost|boot/ns|4242|99"
    )


STEPS: dict[str, Step] = {
    "begin_upload": lambda transaction, key: exported.begin_upload(transaction, key, "temp"),
    "begin_rename": exported.begin_rename,
    "mark_sent": sent,
    "mark_inferred": lambda transaction, key: exported.mark_inferred(transaction, key, "gone"),
    "mark_unknown": lambda transaction, key: exported.mark_unknown(transaction, key, "broke off"),
    "arrived": lambda transaction, key: exported.settle_unknown(transaction, key, arrived=True, **BOTH.said),
    "not_arrived": lambda transaction, key: exported.settle_unknown(transaction, key, arrived=False, **BOTH.said),
    "note_failure": lambda transaction, key: exported.note_failure(transaction, key, "refused"),
    "rename_refused": lambda transaction, key: exported.rename_refused(transaction, key, "unsupported"),
    "abandon": given_up,
}
S = FileState
LEADS: dict[FileState, dict[str, FileState]] = {
    S.PENDING: {
        "begin_upload": S.UPLOADING,
        "mark_unknown": S.UNKNOWN,
        "note_failure": S.PENDING,
        "abandon": S.ABANDONED,
    },
    S.UPLOADING: {
        "begin_upload": S.UPLOADING,
        "begin_rename": S.RENAMING,
        "mark_sent": S.SENT,
        "mark_unknown": S.UNKNOWN,
        "note_failure": S.PENDING,
        "abandon": S.ABANDONED,
    },
    S.RENAMING: {
        "begin_rename": S.RENAMING,
        "mark_sent": S.SENT,
        "mark_inferred": S.INFERRED,
        "note_failure": S.RENAMING,
        "rename_refused": S.PENDING,
    },
    S.UNKNOWN: {"arrived": S.SENT, "not_arrived": S.PENDING, "abandon": S.ABANDONED},
    S.SENT: {},
    S.INFERRED: {},
    S.ABANDONED: {},
}


@pytest.fixture
def fence(ledger: Ledger) -> int:
    return open_feed(ledger)


@pytest.fixture
def file_id(ledger: Ledger, fence: int) -> int:
    """A file of two records."""
    [key] = commit(ledger, fence, new_file(1, [new_version("1"), new_version("2", position=2)]))
    return key


def take(ledger: Ledger, file_id: int, *names: str) -> None:
    for name in names:
        with ledger.transaction() as transaction:
            STEPS[name](transaction, file_id)


def record_states(ledger: Ledger) -> list[str]:
    with ledger.reading() as reading:
        return [row["state"] for row in reading.rows(sa.select(exported_record).order_by(exported_record.c.id))]


def events(ledger: Ledger, kind: str) -> list[dict[str, object]]:
    with ledger.reading() as reading:
        rows = reading.rows(sa.select(audit_event).where(audit_event.c.kind == kind).order_by(audit_event.c.id))
    return [row["detail"] for row in rows]


@pytest.mark.parametrize("state", list(FileState))
@pytest.mark.parametrize("step", list(STEPS))
def test_each_step_starts_from_its_own_states_only(shared_ledger: Ledger, state: FileState, step: str) -> None:
    """Every pair of state and step: the allowed ones end where they should, the others change nothing."""
    feed = f"feed_{state}_{step}"
    fence = open_feed(shared_ledger, name=feed)
    del fence
    with shared_ledger.transaction() as transaction:
        key = transaction.insert(
            exported_file, feed=feed, sequence=1, name="f", directory="/", state=str(state), sha256="0" * 64, bytes=1,
            documents=1, rows=1, totals={}, counts={}, layout="l", layout_version="1", layout_sha256="0" * 64,
            controls={}, companions=[], window_start=WINDOW, window_end=WINDOW, created_at=WINDOW,
        )  # fmt: skip
    allowed = LEADS[state].get(step)
    if allowed is not None:
        take(shared_ledger, key, step)
        assert file_of(shared_ledger, key)["state"] == allowed
        return
    with pytest.raises(WrongFileState) as refused:
        take(shared_ledger, key, step)
    assert (refused.value.state, refused.value.file_id) == (state, key)
    assert file_of(shared_ledger, key)["state"] == state


def test_records_count_as_sent_when_their_file_is(ledger: Ledger, file_id: int) -> None:
    """And with them the proof: what the server says of the file, and which server it was."""
    take(ledger, file_id, "begin_upload", "begin_rename")
    assert record_states(ledger) == ["PENDING", "PENDING"]
    take(ledger, file_id, "mark_sent")
    assert record_states(ledger) == ["SENT", "SENT"]
    [said] = events(ledger, "export.sent")
    assert (said["size"], said["mtime"], said["verified_by"], said["server_key"]) == (10, 5, "sha256", "SHA256:k")


def test_an_inferred_delivery_counts_for_its_records(ledger: Ledger, file_id: int) -> None:
    """Verified and then gone: the partner has it; sending the records again would double them."""
    take(ledger, file_id, "begin_upload", "begin_rename", "mark_inferred")
    assert record_states(ledger) == ["SENT", "SENT"]


def test_files_go_first_in_first_out(ledger: Ledger, fence: int) -> None:
    """A later version must never reach the partner before an earlier one."""
    keys = commit(ledger, fence, new_file(1), new_file(2), new_file(3))
    take(ledger, keys[0], "begin_upload", "begin_rename")
    take(ledger, keys[1], "begin_upload")
    with ledger.reading() as reading:
        assert [row["id"] for row in exported.pending_files(reading, FEED)] == keys


def test_every_record_and_every_file_has_its_event(ledger: Ledger, file_id: int) -> None:
    """The auditor asks which version went in which file, with which bytes."""
    records = events(ledger, "export.record")
    assert [(said["version"], said["file"], said["change"]) for said in records] == [(1, file_id, "NEW")] * 2
    [built] = events(ledger, "export.built")
    assert (built["sequence"], built["name"], built["documents"]) == (1, "file-1.txt", 2)


def test_totals_are_exact_text(ledger: Ledger, file_id: int) -> None:
    """12.30 stays 12.30."""
    assert file_of(ledger, file_id)["totals"] == {"amount USD": "12.30"}


def test_giving_up_takes_two_people(ledger: Ledger, file_id: int) -> None:
    """One person alone could make a payment file vanish."""
    with ledger.transaction() as transaction, pytest.raises(NotApproved):
        exported.abandon(transaction, file_id, by="Ann", approved_by=" ann@corp", reason="wrong layout")
    assert file_of(ledger, file_id)["state"] == "PENDING"


def test_giving_up_takes_a_reason(ledger: Ledger, file_id: int) -> None:
    """It explains a void number to an auditor."""
    with ledger.transaction() as transaction, pytest.raises(NotApproved):
        exported.abandon(transaction, file_id, by="ann", approved_by="bob", reason=" ")
    assert file_of(ledger, file_id)["state"] == "PENDING"


@pytest.mark.parametrize("arrived", [True, False])
def test_a_word_about_an_unknown_outcome_takes_two_people(ledger: Ledger, file_id: int, arrived: bool) -> None:
    """One person alone could make a file that never came count as sent, or send one twice."""
    take(ledger, file_id, "begin_upload", "mark_unknown")
    with ledger.transaction() as transaction, pytest.raises(NotApproved):
        exported.settle_unknown(
            transaction, file_id, arrived=arrived, by="ann", approved_by="Ann@corp", reason="the partner said so"
        )
    assert file_of(ledger, file_id)["state"] == "UNKNOWN"
    take(ledger, file_id, "arrived" if arrived else "not_arrived")
    [settled] = events(ledger, "export.settled")
    assert {name: settled[name] for name in BOTH.said} == BOTH.said
    assert (settled["before"], settled["after"]) == (
        {"state": "UNKNOWN"},
        {"state": "SENT" if arrived else "PENDING"},
    )


def test_giving_up_while_a_run_is_at_it_is_refused(ledger: Ledger, file_id: int) -> None:
    """Its bytes may be on the way this very second."""
    with ledger.transaction() as transaction, pytest.raises(FeedBusy):
        exported.abandon(transaction, file_id, **BOTH.said)
    with ledger.transaction() as transaction:
        release_feed(transaction, FEED, 1)
        exported.abandon(transaction, file_id, **BOTH.said)
    assert file_of(ledger, file_id)["state"] == "ABANDONED"


def test_giving_up_what_has_arrived_is_refused(ledger: Ledger, file_id: int) -> None:
    """It only waits for its manifest; the partner has its records."""
    take(ledger, file_id, "begin_upload")
    with ledger.transaction() as transaction:
        transaction.execute(sa.update(exported_file).values(verified_by="size"))
    with pytest.raises(WrongFileState):
        take(ledger, file_id, "abandon")
    assert record_states(ledger) == ["PENDING", "PENDING"]


def test_what_has_arrived_is_not_taken_back_from_its_renaming(ledger: Ledger, file_id: int) -> None:
    """Only its trigger was refused its name; the file itself must never be written a second time."""
    take(ledger, file_id, "begin_upload", "begin_rename")
    with ledger.transaction() as transaction:
        transaction.execute(sa.update(exported_file).values(verified_by="size"))
    with pytest.raises(WrongFileState):
        take(ledger, file_id, "rename_refused")
    assert file_of(ledger, file_id)["state"] == "RENAMING"


def test_giving_up_voids_the_numbers_and_releases_the_records(ledger: Ledger, fence: int) -> None:
    """The records are tried again; the numbers never come back, and are no gap."""
    controls = {"interchange": [1], "group": [1, 2]}
    [key] = commit(ledger, fence, new_file(1, [new_version("1")], partner="p", controls=controls))
    take(ledger, key, "abandon")
    with ledger.reading() as reading:
        assert [row["record_id"] for row in leftovers(reading, FEED)] == ["1"]
        assert {row["state"] for row in control_numbers.numbers_of(reading, key)} == {"VOID"}
        assert control_numbers.gaps(reading) == []
        assert exported.sequence_gaps(reading, FEED) == []


def test_what_later_files_build_on_is_given_up_last(ledger: Ledger, fence: int) -> None:
    """A change cannot stay in the queue when what it changes is taken out."""
    first, second = commit(
        ledger, fence, new_file(1, [new_version("1")]), new_file(2, [new_version("1", 2, change="CHANGE")])
    )
    with pytest.raises(LaterVersionWaits) as refused:
        take(ledger, first, "abandon")
    assert refused.value.later_file == second
    take(ledger, second, "abandon")
    take(ledger, first, "abandon")
    assert record_states(ledger) == ["ABANDONED", "ABANDONED"]


def test_a_missing_file_number_is_a_gap(ledger: Ledger, fence: int) -> None:
    """Somebody deleted a row: the partner's sequence would show a hole."""
    first, _ = commit(ledger, fence, new_file(1), new_file(2))
    with ledger.transaction() as transaction:
        transaction.execute(sa.delete(exported_file).where(exported_file.c.id == first))
    with ledger.reading() as reading:
        assert exported.sequence_gaps(reading, FEED) == ["feed partner: there is no file number 1, and the last is 2"]


def test_a_run_that_lost_the_feed_commits_nothing(ledger: Ledger, fence: int, clock: HandClock) -> None:
    """It was stopped for longer than its lease; another run built meanwhile."""
    clock.advance(61)
    open_feed(ledger, "otherhost|boot/ns|1|1")
    with pytest.raises(FeedLost):
        commit(ledger, fence, new_file(1, [new_version("1")]))
    assert record_states(ledger) == []


def test_a_number_that_is_not_the_next_is_refused(ledger: Ledger, fence: int, file_id: int) -> None:
    """The bytes carry the number: it cannot be changed any more."""
    with pytest.raises(SequenceMoved):
        commit(ledger, fence, new_file(1))
    assert len(record_states(ledger)) == 2


def test_a_commit_that_fails_leaves_nothing(ledger: Ledger, fence: int) -> None:
    """Sequence, versions, numbers, held ones and position are one transaction."""
    files = [new_file(1, [new_version("1")], partner="p", controls={"group": [1]}), new_file(7)]
    with pytest.raises(SequenceMoved):
        commit(ledger, fence, *files, held=[held_version("2")], extract_id=9)
    with ledger.reading() as reading:
        assert (feed_row(reading, FEED)["sequence"], feed_row(reading, FEED)["extract_id"]) == (0, 0)
        assert control_numbers.peek(reading, "p", "group", 1) == [1]
    assert record_states(ledger) == []


def test_the_position_never_goes_back(ledger: Ledger, fence: int) -> None:
    """A replayed extract is behind it."""
    commit(ledger, fence, extract_id=5, delivered_until=WINDOW)
    commit(ledger, fence, extract_id=3)
    with ledger.reading() as reading:
        row = feed_row(reading, FEED)
    assert (row["extract_id"], row["delivered_until"]) == (5, WINDOW)


def test_a_held_version_takes_its_place_in_a_file(ledger: Ledger, fence: int) -> None:
    """Under the number it was held with; what was wrong with it is over."""
    commit(ledger, fence, held=[held_version("1", reading={"status": {"PaidStatus": "Unpaid"}})])
    with ledger.reading() as reading:
        [held] = leftovers(reading, FEED)
        assert exported.held_records(reading)[0]["reason"] == "OVERFLOW"
    commit(ledger, fence, new_file(1, [new_version("1", row_id=held["id"])]))
    with ledger.reading() as reading:
        latest = latest_versions(reading, FEED, ["1"])["1"]
        assert exported.held_records(reading, FEED) == []
    assert (latest.newest.version, latest.newest.state, latest.newest.reason) == (1, "PENDING", None)
    assert latest.delivered == latest.newest


def test_of_many_versions_the_last_on_its_way_is_what_the_partner_has(ledger: Ledger, fence: int) -> None:
    """A held third version does not hide the second, nor does the first."""
    commit(ledger, fence, new_file(1, [new_version("1")]), new_file(2, [new_version("1", 2)]))
    commit(ledger, fence, held=[held_version("1", 3)])
    with ledger.reading() as reading:
        latest = latest_versions(reading, FEED, ["1", "unknown"])
    assert set(latest) == {"1"}
    assert (latest["1"].newest.version, latest["1"].delivered and latest["1"].delivered.version) == (3, 2)


def test_flags_are_events_of_the_same_commit(ledger: Ledger, fence: int) -> None:
    """What is strange about a record stands beside its version."""
    commit(ledger, fence, flags=[Flag("export.posted_journal_changed", "1", {"version": 2})])
    assert events(ledger, "export.posted_journal_changed") == [{"version": 2}]


def test_an_unknown_file_is_named(ledger: Ledger) -> None:
    """Somebody mistyped the number."""
    with ledger.transaction() as transaction, pytest.raises(LedgerError, match="no exported file number 77"):
        exported.begin_rename(transaction, 77)
    assert record_states(ledger) == []


def test_ten_thousand_versions_are_committed_in_lists(ledger: Ledger, fence: int) -> None:
    """A go-live sends everything: versions are taken from an iterator, a thousand at a time."""
    records = [new_version(str(n), position=n) for n in range(1, 2501)]
    [key] = commit(ledger, fence, new_file(1, records))
    with ledger.reading() as reading:
        assert len(latest_versions(reading, FEED, [str(n) for n in range(1, 2501)])) == 2500
        assert len(exported.file_records(reading, key)) == 2500
    assert len(events(ledger, "export.record")) == 2500
