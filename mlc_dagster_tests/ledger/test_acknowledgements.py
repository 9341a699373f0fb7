"""What partners say of our files: each answer belongs to one file, silence is noticed, a refusal stands until cured."""

import datetime as dt

import pytest

from mlc_dagster.ledger import acknowledgements
from mlc_dagster.ledger.acknowledgements import INTERCHANGE, Answer
from mlc_dagster.ledger.control_numbers import LARGEST
from mlc_dagster.ledger.database import Ledger
from mlc_dagster_tests.ledger.answering import (
    DAY,
    PARTNER,
    deliver,
    group,
    one_set,
    overdue,
    rejected,
    say,
    status,
)
from mlc_dagster_tests.ledger.approving import BOTH
from mlc_dagster_tests.ledger.exporting import FEED
from mlc_dagster_tests.ledger.population import HandClock, events


@pytest.fixture
def numbered(ledger: Ledger) -> int:
    """A delivered file of two orders with group number 1."""
    return deliver(ledger, 1, ["301", "302"], group=1)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("A", "accepted"),
        ("E", "accepted with errors"),
        ("P", "partially accepted"),
        ("R", "rejected"),
        ("X", "rejected"),
    ],
)
def test_the_groups_answer_is_the_files(ledger: Ledger, numbered: int, code: str, expected: str) -> None:
    """What AK9 says is what people ask for first."""
    [recorded] = say(ledger, group(code, 1))
    assert recorded.file is not None
    assert recorded.file["id"] == numbered
    assert status(ledger, numbered) == expected


def test_a_file_waits_until_its_time_is_over(ledger: Ledger, clock: HandClock, numbered: int) -> None:
    """Silence is the usual way in which a partner's system fails."""
    assert status(ledger, numbered) == "waiting"
    assert overdue(ledger) == []
    clock.advance(DAY.total_seconds() + 1)
    assert status(ledger, numbered) == "overdue"
    assert overdue(ledger) == ["file-1.txt"]
    say(ledger, group("A", 1))
    assert overdue(ledger) == []
    assert status(ledger, numbered) == "accepted"


def test_a_feed_without_acknowledgements_expects_none(ledger: Ledger, clock: HandClock, numbered: int) -> None:
    """Most receivers of files never answer."""
    clock.advance(10 * DAY.total_seconds())
    assert status(ledger, numbered, within=None) == "none"


def test_an_answer_to_a_set_alone_is_no_answer_to_the_group(ledger: Ledger, clock: HandClock, numbered: int) -> None:
    """A 997 that broke off after its first AK5 must not look like an acceptance."""
    say(ledger, one_set("A", "0001", 1))
    clock.advance(DAY.total_seconds() + 1)
    assert status(ledger, numbered) == "overdue"
    assert overdue(ledger) == ["file-1.txt"]


def test_files_from_before_acknowledgements_were_asked_for_are_not_overdue(ledger: Ledger, clock: HandClock) -> None:
    """Switching acknowledgements on must not raise an alarm for every file of the past."""
    deliver(ledger, 1, ["301"], group=1)
    clock.advance(30 * DAY.total_seconds())
    with ledger.transaction() as transaction:
        acknowledgements.expect_from(transaction, FEED)
    deliver(ledger, 2, ["302"], group=2)
    clock.advance(DAY.total_seconds() + 1)
    with ledger.transaction() as transaction:
        acknowledgements.expect_from(transaction, FEED)
    assert overdue(ledger) == ["file-2.txt"]


def test_an_overdue_file_is_told_once(ledger: Ledger, clock: HandClock, numbered: int) -> None:
    """An alert at each poll is one that nobody reads."""
    clock.advance(DAY.total_seconds() + 1)
    for expected in (1, 0):
        with ledger.transaction() as transaction:
            late = acknowledgements.overdue(transaction, FEED, transaction.now, DAY)
            assert len(late) == 1
            assert len(acknowledgements.note_overdue(transaction, late)) == expected
    assert len(events(ledger, "acknowledgement.overdue", f"export:{numbered}")) == 1


def test_an_answer_finds_the_file_of_its_partner_only(ledger: Ledger, numbered: int) -> None:
    """Every partner counts from 1: another's acceptance must not be taken for this one's."""
    [recorded] = say(ledger, group("A", 1), partner="ZZ:US>ZZ:OTHER/T")
    assert recorded.file is None
    [stranger] = say(ledger, Answer("PO", 1, None, "A", ours=False))
    assert stranger.file is None
    assert status(ledger, numbered) == "waiting"


def test_feeds_that_share_a_partner_find_each_others_files(ledger: Ledger, numbered: int) -> None:
    """One folder of 997s for orders and invoices is the usual arrangement."""
    [recorded] = say(ledger, group("R", 1), feed="invoices_to_them")
    assert recorded.file is not None
    assert recorded.file["id"] == numbered
    assert [row["name"] for row in rejected(ledger)] == ["file-1.txt"]


def test_a_group_of_another_kind_does_not_match(ledger: Ledger, numbered: int) -> None:
    """An answer to IN 1 is not about the orders that went as PO 1."""
    [recorded] = say(ledger, group("A", 1, kind="IN"))
    assert recorded.file is None
    assert status(ledger, numbered) == "waiting"


def test_after_the_numbers_began_again_the_latest_file_is_meant(ledger: Ledger) -> None:
    """Number 1 comes again after 999,999,999."""
    first = deliver(ledger, 1, ["301"], group=1)
    from mlc_dagster.ledger import control_numbers

    with ledger.transaction() as transaction:
        for level in ("interchange", "group"):
            control_numbers.jump(transaction, PARTNER, level, LARGEST - 1, BOTH)
    second = deliver(ledger, 2, ["302"], group=1)
    say(ledger, group("A", 1))
    assert (status(ledger, first), status(ledger, second)) == ("waiting", "accepted")


def test_an_answer_that_matches_nothing_is_kept(ledger: Ledger) -> None:
    """It may be the answer to a file that another system sent in our name: an auditor wants to see it."""
    [recorded] = say(ledger, group("R", 99))
    assert recorded.file is None
    [row] = rejected(ledger)
    assert (row["name"], row["group_control"], row["records"]) == (None, 99, [])
    [event] = events(ledger, "acknowledgement.unmatched")
    assert event["detail"]["group_control"] == 99


def test_a_refused_set_names_its_record(ledger: Ledger, numbered: int) -> None:
    """The buyer looks for the order, not for PO/0002."""
    say(ledger, one_set("A", "0001", 1), one_set("R", "0002", 1, "element 4: 7"), group("P", 1))
    assert status(ledger, numbered) == "partially accepted"
    [row] = rejected(ledger)
    assert (row["set_control"], row["code"], row["text"], row["records"]) == ("0002", "R", "element 4: 7", ["302"])


def test_a_refused_interchange_is_a_refused_file(ledger: Ledger, clock: HandClock, numbered: int) -> None:
    """After a TA1 with R no 997 comes; waiting for one would hide the refusal."""
    say(ledger, Answer(INTERCHANGE, 1, None, "R", "006"))
    clock.advance(DAY.total_seconds() + 1)
    assert status(ledger, numbered) == "rejected"
    assert overdue(ledger) == []
    [row] = rejected(ledger)
    assert row["records"] == ["301", "302"]


def test_an_accepted_interchange_is_no_answer_to_its_groups(ledger: Ledger, numbered: int) -> None:
    """TA1 says that the envelope was readable, no more."""
    say(ledger, Answer(INTERCHANGE, 1, None, "A"))
    assert status(ledger, numbered) == "waiting"


def test_a_later_acceptance_ends_a_refusal(ledger: Ledger, numbered: int) -> None:
    """The partner repaired their side and took the resent bytes."""
    say(ledger, one_set("R", "0001", 1), group("P", 1))
    say(ledger, group("A", 1))
    assert status(ledger, numbered) == "accepted"
    assert rejected(ledger) == []


def test_a_refusal_stands_until_every_record_has_a_later_version(ledger: Ledger, numbered: int) -> None:
    """A corrected order goes out anew by itself; the other one of the refused group is still not with the partner."""
    say(ledger, group("R", 1))
    deliver(ledger, 2, ["301"], version=2, group=2)
    [row] = rejected(ledger)
    assert row["records"] == ["302"]
    deliver(ledger, 3, ["302"], version=2, group=3)
    assert rejected(ledger) == []


def test_the_same_bytes_are_read_once(ledger: Ledger) -> None:
    """Whatever their name is the second time."""
    deliver(ledger, 1, ["301"], group=1)
    with ledger.transaction() as transaction:
        assert not acknowledgements.is_read(transaction, FEED, "s1")
        for path in ("/ack/a", "/ack/b"):
            acknowledgements.note_file(transaction, FEED, path=path, size=3, mtime=9, sha256="s1", problem=None)
        assert acknowledgements.is_read(transaction, FEED, "s1")
        assert not acknowledgements.is_read(transaction, "another", "s1")
        assert sorted(acknowledgements.known_files(transaction, FEED)) == ["/ack/a", "/ack/b"]
    for expected in (1, 0):
        with ledger.transaction() as transaction:
            found = acknowledgements.record(
                transaction, feed=FEED, partner=PARTNER, path="/ack/a", sha256="s2", answers=[group("A", 1)]
            )
            assert len(found) == expected


def test_every_answer_is_an_event_of_its_file(ledger: Ledger, numbered: int) -> None:
    """The file's story in ``mlc exports show`` ends with the partner's word."""
    say(ledger, one_set("E", "0001", 1, "4"), group("E", 1))
    found = events(ledger, "acknowledgement.received", f"export:{numbered}")
    assert [(event["detail"]["set_control"], event["detail"]["code"]) for event in found] == [
        ("0001", "E"),
        (None, "E"),
    ]
    assert isinstance(found[0]["at"], dt.datetime)
