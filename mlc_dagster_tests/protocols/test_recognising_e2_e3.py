"""Recognising versions: every change is sent once, nothing old overtakes, nothing is lost on the way."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mlc_dagster.fusion.records import InvoiceStatus
from mlc_dagster.ledger import exported
from mlc_dagster.ledger.database import Ledger, open_ledger
from mlc_dagster_tests.exports.workshop import QUARTER, START, Workshop, invoice, journal, order


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    opened = open_ledger(ledger_url, actor="test")
    yield opened
    opened.close()


@pytest.fixture
def bench(ledger: Ledger, tmp_path: Path) -> Workshop:
    """A feed of invoices."""
    return Workshop.open(ledger, tmp_path / "bench")


def deliver(bench: Workshop, file_id: int) -> None:
    """As delivery does it, without a server."""
    with bench.ledger.transaction() as transaction:
        exported.begin_upload(transaction, file_id, "temporary")
        exported.begin_rename(transaction, file_id)
        exported.mark_sent(
            transaction, file_id, server_size=1, server_mtime=1, verified_by="size", server_key="SHA256:x"
        )


def abandon(bench: Workshop, file_id: int) -> None:
    with bench.ledger.transaction() as transaction:
        exported.abandon(transaction, file_id, by="ann", approved_by="bob", reason="wrong layout")


def test_e2_there_and_back_again_is_three_versions(bench: Workshop) -> None:
    """100, 200, 100: the partner has 200 when the third is read, whatever it had before."""
    for amount in ("100", "200", "100"):
        bench.read(invoice(1, amount))
        bench.build()
    assert bench.texts() == ["NEW 1 v1 100 #1\n", "CHANGE 1 v2 200 #1\n", "CHANGE 1 v3 100 #1\n"]


def test_e2_several_extracts_in_one_build_stay_several_versions(bench: Workshop) -> None:
    """After downtime, too, each extract is taken by itself and in order."""
    for amount in ("100", "200", "100"):
        bench.read(invoice(1, amount))
    built = bench.build()
    assert (built.new, built.change, built.files) == (1, 2, 3)
    assert bench.versions() == [
        ("1", 1, "NEW", "PENDING"),
        ("1", 2, "CHANGE", "PENDING"),
        ("1", 3, "CHANGE", "PENDING"),
    ]


@pytest.mark.parametrize("delivered", [False, True])
def test_e2_what_was_read_again_by_the_overlap_is_not_sent_again(bench: Workshop, delivered: bool) -> None:
    """Windows overlap by design; whether the first file has gone by then must not matter."""
    bench.read(invoice(1, "100"))
    bench.build()
    if delivered:
        deliver(bench, bench.files()[0]["id"])
    bench.read(invoice(1, "100"), invoice(2, "5"))
    built = bench.build()
    assert (built.unchanged, built.new) == (1, 1)
    assert bench.texts()[1] == "NEW 2 v1 5 #1\n"


def test_e2_a_second_build_of_the_same_extract_makes_nothing(bench: Workshop) -> None:
    """The position moved with the commit."""
    bench.read(invoice(1, "100"))
    bench.build()
    assert bench.build().files == 0
    assert len(bench.files()) == 1


def test_e3_a_replayed_window_does_not_overtake(bench: Workshop) -> None:
    """Somebody re-materialises last week's window: its 100 is older than the 200 that the partner has."""
    old = bench.read(invoice(1, "100"))
    bench.build()
    bench.read(invoice(1, "200"))
    bench.build()
    built = bench.build(replay=[old])
    assert (built.stale, built.files) == (1, 0)


def test_e3_a_read_that_began_earlier_is_older_whatever_its_number(bench: Workshop) -> None:
    """A slow read ends after a quick one that began later: its records are older."""
    bench.read(invoice(1, "200"), read_at=START + 3 * QUARTER)
    bench.build()
    bench.read(invoice(1, "100"), read_at=START + 2 * QUARTER)
    assert bench.build().stale == 1
    assert bench.texts() == ["NEW 1 v1 200 #1\n"]


def test_e3_an_earlier_update_date_read_later_is_newer(bench: Workshop) -> None:
    """LastUpdateDate says nothing about order: rows become visible late."""
    bench.read(invoice(1, "100"))
    bench.build()
    earlier = START - dt.timedelta(days=3)
    bench.read(msgspec.structs.replace(invoice(1, "200"), last_update_date=earlier))
    assert bench.build().change == 1


def test_e3_a_replay_finds_what_a_setting_kept_out(ledger: Ledger, tmp_path: Path) -> None:
    """A business unit was added to the feed: its old window is started by hand, and the invoice goes."""
    narrow = Workshop.open(ledger, tmp_path / "bench", business_units=["EU1"])
    key = narrow.read(invoice(1, "100"))
    assert narrow.build().filtered == 1
    wide = Workshop.open(ledger, tmp_path / "bench", business_units=["EU1", "US1"])
    assert wide.build(replay=[key]).new == 1
    assert wide.build(replay=[key]).unchanged == 1


def test_e2_a_held_document_is_tried_again_at_every_build(bench: Workshop) -> None:
    """Cured by a person in the layout: nothing is read again, and it goes with what was read then."""
    bench.writer.held.add("1")
    status = InvoiceStatus(validation="Validated")
    bench.read(msgspec.structs.replace(invoice(1, "100"), status=status))
    built = bench.build()
    assert (built.held, built.held_documents) == (1, [("1", "OVERFLOW", "1 does not fit")])
    again = bench.build()
    assert (again.held, again.still_held, again.files) == (0, 1, 0)
    bench.writer.held.clear()
    assert bench.build().new == 1
    assert bench.texts() == ["NEW 1 v1 100 Validated #1\n"]
    assert bench.versions() == [("1", 1, "NEW", "PENDING")]
    assert len(bench.events("export.held")) == 1


def test_e2_a_held_document_does_not_keep_the_others(bench: Workshop) -> None:
    """One long text must not stop the payments file."""
    bench.read(invoice(1, "100", text="HOLD"), invoice(2, "200"))
    built = bench.build()
    assert (built.held, built.new) == (1, 1)
    assert bench.texts() == ["NEW 2 v1 200 #1\n"]


def test_e2_a_newer_reading_replaces_a_held_one(bench: Workshop) -> None:
    """The clerk shortened the text in Fusion: the new content goes, the held one never does."""
    bench.read(invoice(1, "100", text="HOLD"))
    bench.build()
    bench.read(invoice(1, "100", text="short"))
    bench.build()
    assert bench.versions() == [("1", 1, "NEW", "SUPERSEDED"), ("1", 2, "NEW", "PENDING")]
    assert bench.build().still_held == 0


def test_e2_back_to_what_the_partner_has_ends_the_holding(bench: Workshop) -> None:
    """100 sent, 200 held, 100 read again: the held 200 must not go later."""
    bench.read(invoice(1, "100"))
    bench.build()
    bench.writer.held.add("1")
    bench.read(invoice(1, "200"))
    bench.build()
    bench.read(invoice(1, "100"))
    assert bench.build().unchanged == 1
    bench.writer.held.clear()
    assert bench.build().files == 0
    assert bench.versions() == [("1", 1, "NEW", "PENDING"), ("1", 2, "CHANGE", "SUPERSEDED")]


def test_e2_what_was_given_up_is_sent_again(bench: Workshop) -> None:
    """It is in no later extract: the build finds it where it was read."""
    bench.read(invoice(1, "100"), invoice(2, "200"))
    bench.build()
    abandon(bench, bench.files()[0]["id"])
    assert bench.build().new == 2
    assert bench.texts()[1] == "NEW 1 v2 100 #1\nNEW 2 v2 200 #2\n"
    assert [state for *_, state in bench.versions()] == ["ABANDONED", "ABANDONED", "PENDING", "PENDING"]
    assert bench.build().files == 0


def test_e2_what_was_given_up_and_then_canceled_is_not_sent(bench: Workshop) -> None:
    """The partner never heard of it; nobody tells them now, in whatever order things happened."""
    bench.read(invoice(1, "100"))
    bench.build()
    abandon(bench, bench.files()[0]["id"])
    bench.read(invoice(1, "100", canceled=True))
    assert bench.build().never_sent == 1
    assert bench.build().files == 0


def test_e2_a_cancellation_is_told_once(bench: Workshop) -> None:
    """And what changes on the canceled invoice later is a change."""
    bench.read(invoice(1, "100"))
    bench.read(invoice(1, "100", canceled=True))
    bench.read(invoice(1, "100", canceled=True, text="why"))
    bench.read(invoice(1, "100", canceled=True, text="why not"))
    built = bench.build()
    assert (built.new, built.cancel, built.change) == (1, 1, 2)
    assert [change for _, _, change, _ in bench.versions()] == ["NEW", "CANCEL", "CHANGE", "CHANGE"]


def test_e2_what_was_canceled_before_it_was_sent_is_not_sent(bench: Workshop) -> None:
    """A partner that gets a cancellation of something unknown rejects the file."""
    bench.read(invoice(1, "100", canceled=True))
    built = bench.build()
    assert (built.never_sent, built.files) == (1, 0)


def test_e2_a_changed_order_knows_what_the_partner_has(ledger: Ledger, tmp_path: Path) -> None:
    """An 860 tells the difference from what was sent, also when that was never delivered yet."""
    bench = Workshop.open(ledger, tmp_path / "bench", "purchase_orders")
    bench.read(order(7, "100"))
    bench.build()
    bench.read(order(7, "200"))
    bench.build()
    bench.read(order(7, "200", canceled=True))
    bench.build()
    assert bench.texts() == ["NEW 7 v1 100 #1\n", "CHANGE 7 v2 200 was 100 #1\n", "CANCEL 7 v3 200 was 200 #1\n"]


def test_e2_the_content_of_invoices_is_not_kept(bench: Workshop) -> None:
    """The extract has it; the ledger would only grow."""
    bench.read(invoice(1, "100"))
    bench.build()
    assert bench.rows()[0]["content"] is None


def test_h6_a_change_to_a_posted_journal_is_flagged(ledger: Ledger, tmp_path: Path) -> None:
    """Posted journals do not change; when one did, an auditor wants to know."""
    bench = Workshop.open(ledger, tmp_path / "bench", "journals")
    bench.read(journal(1, "100"))
    bench.build()
    bench.read(journal(1, "200"))
    built = bench.build()
    assert (built.change, built.changed_posted) == (1, 1)
    [event] = bench.events("export.posted_journal_changed")
    assert event["subject"] == "record:partner/1/US Primary Ledger/Accrual"


def test_h6_posting_a_journal_that_was_sent_unposted_is_no_alarm(ledger: Ledger, tmp_path: Path) -> None:
    """That is what journals are for."""
    bench = Workshop.open(ledger, tmp_path / "bench", "journals", include_unposted=True)
    bench.read(journal(1, "100", status="U"))
    bench.read(journal(1, "100"))
    built = bench.build()
    assert (built.new, built.change, built.changed_posted) == (1, 1, 0)


def test_e2_two_feeds_of_a_source_do_not_know_of_each_other(ledger: Ledger, tmp_path: Path) -> None:
    """What one partner has says nothing about the other."""
    one = Workshop.open(ledger, tmp_path / "bench")
    one.read(invoice(1, "100"))
    one.build()
    other = Workshop.open(ledger, tmp_path / "bench", name="another")
    assert other.build().new == 1
