"""A document that Fusion shows inconsistently: set aside and told; the others go, and it follows once it is cured."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from mlc_dagster.exports import controls
from mlc_dagster.fusion.errors import ResponseInvalid
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.unreadable import unreadable_documents
from mlc_dagster_tests.alerts.receiver import Receiver, receiving
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal

LINES = [("101-4410-61200-000-000-000", "100.00", None), ("101-0000-22100-000-000-000", None, "100.00")]


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[PartnerRehearsal]:
    with partner_rehearsal(tmp_path) as running:
        yield running


@pytest.fixture
def receiver(remote: PartnerRehearsal) -> Iterator[Receiver]:
    with receiving() as server:
        remote.change_config(alerts={"to": [f"json://127.0.0.1:{server.port}"]})
        yield server


def post(remote: PartnerRehearsal, name: str) -> int:
    """A journal batch; its JeBatchId."""
    return remote.world.add_journal_batch(name, lines=LINES)


def spoil(remote: PartnerRehearsal, batch: int, **values: Any) -> None:
    """Change the journal's header without anything noticing; without values, its total."""
    with remote.world.lock:
        header = remote.world.journal_batch(batch).children["journalHeaders"][0]
        header.values.update(values or {"RunningTotalDr": Decimal(101)})


def cure(remote: PartnerRehearsal, batch: int) -> None:
    """Without a new LastUpdateDate: no window will show it again by itself."""
    spoil(remote, batch, RunningTotalDr=Decimal(100), DefaultEffectiveDate="2026-11-20")


def aside(remote: PartnerRehearsal) -> list[Row]:
    with remote.ledger.reading() as reading:
        return unreadable_documents(reading)


def test_a_document_that_contradicts_itself_does_not_keep_the_others(remote: PartnerRehearsal) -> None:
    """One batch that is being edited, or broken, must not stop every partner of the source."""
    bad = post(remote, "BAD")
    post(remote, "GOOD")
    spoil(remote, bad)
    report = remote.poll("journals")
    assert (report.built.new, report.built.files) == (1, 1)
    [row] = aside(remote)
    assert (row["source"], row["fusion_id"], row["attempts"]) == ("journals", bad, 1)
    assert "do not add up to its RunningTotalDr 101" in row["text"]


def test_a_value_that_is_none_sets_its_document_aside(remote: PartnerRehearsal) -> None:
    """A date that is no date is one document's fault, not the page's."""
    bad = post(remote, "BAD")
    post(remote, "GOOD")
    spoil(remote, bad, DefaultEffectiveDate="soon")
    assert remote.poll("journals").built.new == 1
    assert [row["fusion_id"] for row in aside(remote)] == [bad]


def test_a_page_that_cannot_be_decoded_ends_the_read(remote: PartnerRehearsal) -> None:
    """Nobody can say which documents it had; none of them may be passed over."""
    post(remote, "A")
    remote.later()
    # The clock is read first, from the same collection.
    remote.fusion.faults.add("status", path="*journalBatches", status=200, body='{"items": [{}]}', skip=1)
    with pytest.raises(ResponseInvalid):
        remote.read("journals")
    assert aside(remote) == []


def test_it_goes_its_normal_way_as_soon_as_it_can_be_read(remote: PartnerRehearsal) -> None:
    """It is read again by id with every window: its cure need not show in any date."""
    bad = post(remote, "BAD")
    spoil(remote, bad)
    assert remote.poll("journals").built.new == 0
    assert remote.poll("journals").built.new == 0
    assert [row["attempts"] for row in aside(remote)] == [2]
    cure(remote, bad)
    assert remote.poll("journals").built.new == 1
    assert aside(remote) == []
    assert remote.poll("journals").built.new == 0


def test_one_that_is_gone_from_fusion_is_done_with(remote: PartnerRehearsal) -> None:
    """Deleted while it was broken: nothing is left to be sent, and nobody is to be told for ever."""
    bad = post(remote, "BAD")
    spoil(remote, bad)
    remote.poll("journals")
    with remote.world.lock:
        remote.world.tables["journalBatches"].remove(remote.world.journal_batch(bad))
    remote.poll("journals")
    assert aside(remote) == []


def test_it_is_told_once(remote: PartnerRehearsal, receiver: Receiver) -> None:
    """An alert at every poll is one that nobody reads."""
    bad = post(remote, "BAD")
    spoil(remote, bad)
    for _ in range(3):
        remote.later()
        assert remote.run().exit_code == 1
    [sent] = receiver.received
    assert sent["title"].endswith("journals: 1 document cannot be read from Fusion")
    assert str(bad) in sent["message"]


def test_the_control_names_it_until_it_can_be_read(remote: PartnerRehearsal) -> None:
    """Never silently skipped: every run of the source's feeds ends with attention until it is cured."""
    bad = post(remote, "BAD")
    spoil(remote, bad)
    remote.later()
    assert remote.run().exit_code == 1
    outbound = remote.outbound
    [fault] = controls.exported_equals_fusion(outbound, outbound.feeds["journals"], None).faults
    assert f"journals {bad}: cannot be read since" in fault
    cure(remote, bad)
    remote.later()
    outcome = remote.run()
    assert (outcome.exit_code, len(outcome.sent)) == (0, 1)
