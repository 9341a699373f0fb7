"""Which records are a feed's, and what a reading is to it; decided without a database."""

import datetime as dt
from typing import Any

import msgspec
import pytest

from mlc_dagster.exports.extract_file import StoredRead
from mlc_dagster.exports.recognition import Decision, Origin, Outcome, Selection, recognise, standing_of
from mlc_dagster.fusion.records import Read, SupplierRecord, canonical, digest
from mlc_dagster.ledger.exported import RecordState
from mlc_dagster.ledger.extracts import Reading
from mlc_dagster.ledger.known_versions import Known, Latest
from mlc_dagster_tests.exports.workshop import START, invoice, journal, order, settings_of

DAY = dt.timedelta(days=1)
ORIGIN = Origin(10, START)


def stored_read(read: Read) -> StoredRead:
    """The record as its extract has it."""
    content = canonical(read.content)
    return StoredRead(
        record_id=read.record_id,
        fusion_id=read.fusion_id,
        sha256=digest(content),
        last_update_date=read.last_update_date,
        creation_date=read.creation_date,
        content=msgspec.Raw(content),
    )


def selection(root: Any, source: str = "invoices", **feed: Any) -> Selection:
    settings = settings_of(root, source, **feed)
    return Selection.of(settings.exports[0], settings.poll.start)


def known(read: Read, state: RecordState, version: int = 1, **changes: Any) -> Known:
    fields: dict[str, Any] = {
        "id": version,
        "version": version,
        "change": "NEW",
        "state": state,
        "content_sha256": stored_read(read).sha256,
        "standing": standing_of(read.content),
        "extract_id": 5,
        "read_at": START - DAY,
        "reason": None,
        "text": None,
    }
    return Known(**(fields | changes))


def decide(read: Read, selected: Selection, latest: Latest | None = None, newest: Reading | None = None) -> Decision:
    return recognise(stored_read(read), ORIGIN, latest, selected, newest)


def sent(read: Read) -> Latest:
    version = known(read, RecordState.SENT)
    return Latest(version, version)


@pytest.mark.parametrize(
    "changes",
    [
        {"ledger": "EU Ledger"},
        {"status": "U"},
        {"status": None},
        {"balance_type": "Budget"},
        {"balance_type": None},
        {"source": "Spreadsheet"},
    ],
)
def test_a_journal_of_another_kind_is_not_the_feeds(tmp_path: Any, changes: dict[str, Any]) -> None:
    """Budget, unposted and foreign journals in a consolidation feed would be wrong money, in silence."""
    selected = selection(tmp_path, "journals", journal_sources=["Payables"])
    assert decide(journal(1, "5"), selected).outcome is Outcome.SEND
    assert decide(journal(1, "5", **changes), selected).outcome is Outcome.FILTERED


def test_unposted_journals_go_when_asked_for(tmp_path: Any) -> None:
    """Some partners want a preview."""
    selected = selection(tmp_path, "journals", include_unposted=True)
    assert decide(journal(1, "5", status="U"), selected).outcome is Outcome.SEND


def test_the_code_of_a_balance_type_will_do(tmp_path: Any) -> None:
    """Pods answer with the meaning or with the code, in either case."""
    assert decide(journal(1, "5", balance_type="a"), selection(tmp_path, "journals")).outcome is Outcome.SEND


def test_business_units_choose_invoices_and_orders(tmp_path: Any) -> None:
    """All when none is named; suppliers belong to everybody."""
    assert decide(invoice(1, "5", unit="US1"), selection(tmp_path)).outcome is Outcome.SEND
    assert decide(invoice(1, "5", unit="US1"), selection(tmp_path, business_units=["EU1"])).outcome is Outcome.FILTERED
    orders = selection(tmp_path, "purchase_orders", business_units=["EU1"])
    assert decide(order(1, "5"), orders).outcome is Outcome.FILTERED
    supplier = Read(source="suppliers", record_id="1", fusion_id=1, content=SupplierRecord(supplier_id=1, name="Acme"))
    assert decide(supplier, selection(tmp_path, "suppliers", business_units=["EU1"])).outcome is Outcome.SEND


def test_what_changed_before_the_feed_began_is_not_sent(tmp_path: Any) -> None:
    """A go-live must not flood the partner with history; what is known already goes on."""
    selected = selection(tmp_path, start=START + DAY)
    read = invoice(1, "5")
    assert decide(read, selected).outcome is Outcome.FILTERED
    assert decide(read, selected, sent(invoice(1, "4"))).outcome is Outcome.SEND
    assert decide(msgspec.structs.replace(read, last_update_date=START + DAY), selected).outcome is Outcome.SEND


def test_a_feed_by_creation_sends_each_record_once(tmp_path: Any) -> None:
    """And an old one that changed is not new."""
    selected = selection(tmp_path, date="creation", start=START)
    read = invoice(1, "5")
    assert decide(read, selected).outcome is Outcome.SEND
    assert decide(read, selected, sent(invoice(1, "4"))).outcome is Outcome.FILTERED
    old = msgspec.structs.replace(read, creation_date=START - DAY, last_update_date=START + DAY)
    assert decide(old, selected).outcome is Outcome.FILTERED


def test_the_same_content_is_not_decoded(tmp_path: Any) -> None:
    """Overlaps read most records again: recognising them must cost a comparison only."""

    class Unreadable:
        record_id = "1"
        sha256 = stored_read(invoice(1, "5")).sha256

        def read(self, source: str) -> Read:
            raise AssertionError("decoded")

    decision = recognise(Unreadable(), ORIGIN, sent(invoice(1, "5")), selection(tmp_path))
    assert decision.outcome is Outcome.UNCHANGED


def test_an_older_reading_is_stale_even_against_a_held_one(tmp_path: Any) -> None:
    """Sent as a new version, it would hide the newer one for ever."""
    delivered = known(invoice(1, "1"), RecordState.SENT)
    held = known(invoice(1, "3"), RecordState.HELD, 2, read_at=START + DAY)
    assert decide(invoice(1, "2"), selection(tmp_path), Latest(held, delivered)).outcome is Outcome.STALE


def test_of_two_reads_at_the_same_instant_the_higher_number_is_newer(tmp_path: Any) -> None:
    """Fusion's clock comes in whole seconds."""
    delivered = known(invoice(1, "1"), RecordState.SENT, read_at=START, extract_id=11)
    assert decide(invoice(1, "2"), selection(tmp_path), Latest(delivered, delivered)).outcome is Outcome.STALE
    earlier = known(invoice(1, "1"), RecordState.SENT, read_at=START, extract_id=9)
    assert decide(invoice(1, "2"), selection(tmp_path), Latest(earlier, earlier)).outcome is Outcome.SEND


def test_a_replay_knows_that_the_record_was_read_since(tmp_path: Any) -> None:
    """The partner has 100; 200 was held and then taken back: a replay of the 200 must not send it."""
    newest = Reading("f" * 64, 12)
    assert decide(invoice(1, "2"), selection(tmp_path), sent(invoice(1, "1")), newest).outcome is Outcome.STALE
    same = Reading(stored_read(invoice(1, "2")).sha256, 12)
    assert decide(invoice(1, "2"), selection(tmp_path), sent(invoice(1, "1")), same).outcome is Outcome.SEND


def test_a_held_one_keeps_its_number_and_a_given_up_one_does_not(tmp_path: Any) -> None:
    """The held never left; the given-up stands in the story of its file."""
    read = invoice(1, "5")
    held = decide(read, selection(tmp_path), Latest(known(read, RecordState.HELD, 3), None))
    assert (held.number, held.row_id, held.superseded) == (3, 3, ())
    given_up = decide(read, selection(tmp_path), Latest(known(read, RecordState.ABANDONED, 3), None))
    assert (given_up.number, given_up.row_id, given_up.superseded) == (4, None, ())


def test_what_left_the_feed_is_no_longer_held(tmp_path: Any) -> None:
    """A held invoice moved to a business unit of another partner."""
    held = Latest(known(invoice(1, "5"), RecordState.HELD), None)
    decision = decide(invoice(1, "5", unit="US1"), selection(tmp_path, business_units=["EU1"]), held)
    assert (decision.outcome, decision.superseded) == (Outcome.FILTERED, (1,))
