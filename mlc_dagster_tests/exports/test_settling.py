"""What two people say of a file counts only where the ledger knows what was sent."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.exports import restoring, settling
from mlc_dagster.exports.guarding import JournalAhead, guard_feed
from mlc_dagster.exports.holding import HeldFeed, hold_feed
from mlc_dagster.exports.restoring import Restored, after_restore
from mlc_dagster.ledger import exported
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import LedgerError, Row
from mlc_dagster.ledger.exported import FileState, WrongFileState
from mlc_dagster.ledger.feeds import FeedBusy
from mlc_dagster.ledger.schema_outbound import exported_file
from mlc_dagster_tests.automation.purchase_orders import FEED, order_paper, purchase_order_feed, transaction_sets
from mlc_dagster_tests.servers.backups import Backups
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal

SAID = Approval(by="Ann Lee", approved_by="Bo Ek", reason="the partner wants it another way")
WHY = Approval(by="Cy Roe", approved_by="Di Fox", reason="the backup of last night was restored")
BOTH = [("850", "PO-1"), ("850", "PO-2")]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Backups[PartnerRehearsal]]:
    """PO-1 was delivered; of PO-2's file the upload was begun."""
    with partner_rehearsal(tmp_path) as running:
        running.stand_still()
        purchase_order_feed(running)
        order_paper(running, "PO-1")
        running.poll(FEED)
        order_paper(running, "PO-2")
        running.sftp.faults.add("refuse_upload", count=None, username="partner")
        running.poll(FEED)
        running.sftp.faults.clear()
        assert latest(running)["state"] in ("UPLOADING", "PENDING")
        yield Backups(running, None)


def latest(remote: PartnerRehearsal) -> Row:
    with remote.ledger.reading() as reading:
        return exported.list_files(reading, FEED, limit=1)[0]


def guard(remote: PartnerRehearsal) -> None:
    guard_feed(remote.outbound, remote.outbound.feeds[FEED])


def test_a_file_that_was_sent_since_the_backup_is_not_given_up(kept: Backups[PartnerRehearsal]) -> None:
    """Its order would go once more, in the next file."""
    remote = kept.remote
    backup = kept.make()
    remote.poll(FEED)
    assert transaction_sets(remote) == BOTH
    kept.restore(backup)
    file = latest(remote)
    with pytest.raises(JournalAhead, match="after-restore"):
        settling.abandon(remote.outbound, file["id"], SAID)
    assert latest(remote)["state"] == file["state"]
    after_restore(remote.outbound, WHY, feed=FEED)
    with pytest.raises(WrongFileState):
        settling.abandon(remote.outbound, file["id"], SAID)
    remote.poll(FEED)
    assert transaction_sets(remote) == BOTH


def test_one_that_was_given_up_all_the_same_stops_the_feed(kept: Backups[PartnerRehearsal]) -> None:
    """The ledger says given up, the journal sent: whatever said so, its records must not go again."""
    remote = kept.remote
    backup = kept.make()
    remote.poll(FEED)
    kept.restore(backup)
    with remote.ledger.transaction() as transaction:
        exported.abandon(transaction, latest(remote)["id"], **SAID.said)
    with pytest.raises(JournalAhead, match="SENT there and ABANDONED in the ledger"):
        guard(remote)
    with pytest.raises(LedgerError, match="Restore it once more"):
        after_restore(remote.outbound, WHY, feed=FEED)
    assert transaction_sets(remote) == BOTH


def test_one_whose_attempt_nobody_remembers_stops_the_feed_too(kept: Backups[PartnerRehearsal]) -> None:
    """Given up as never begun, and the journal has an attempt: the partner may have it."""
    remote = kept.remote
    attempts = latest(remote)["attempts"]
    with remote.ledger.transaction() as transaction:
        exported.abandon(transaction, latest(remote)["id"], **SAID.said)
        _set(transaction, latest_id=latest(remote)["id"], attempts=attempts - 1)
    with pytest.raises(JournalAhead, match=f"with attempt {attempts}"):
        guard(remote)


def test_one_that_counts_as_sent_and_was_given_up_stops_the_feed(kept: Backups[PartnerRehearsal]) -> None:
    """The other way round its order would never come."""
    remote = kept.remote
    settling.abandon(remote.outbound, latest(remote)["id"], SAID)
    guard(remote)
    with remote.ledger.transaction() as transaction:
        _set(transaction, latest_id=latest(remote)["id"], state=str(FileState.SENT))
    with pytest.raises(JournalAhead, match="ABANDONED there and SENT in the ledger"):
        guard(remote)


def _set(transaction: Any, *, latest_id: int, **values: Any) -> None:
    transaction.execute(sa.update(exported_file).where(exported_file.c.id == latest_id).values(**values))


def test_without_a_restore_it_is_given_up_and_goes_once(kept: Backups[PartnerRehearsal]) -> None:
    """The guard is no hindrance where nothing was lost."""
    remote = kept.remote
    settling.abandon(remote.outbound, latest(remote)["id"], SAID)
    remote.poll(FEED)
    guard(remote)
    assert transaction_sets(remote) == BOTH


def test_an_answer_from_before_the_backup_is_not_asked_for_again(kept: Backups[PartnerRehearsal]) -> None:
    """It was settled and sent since: a second word would send it twice, or call it sent for the wrong reason."""
    remote = kept.remote
    file = latest(remote)
    with remote.ledger.transaction() as transaction:
        if file["state"] == FileState.PENDING:
            exported.begin_upload(transaction, file["id"], None)
        exported.mark_unknown(transaction, file["id"], "the connection broke")
    backup = kept.make()
    settling.confirm(remote.outbound, file["id"], SAID, arrived=False)
    remote.poll(FEED)
    assert transaction_sets(remote) == BOTH
    kept.restore(backup)
    with pytest.raises(JournalAhead, match="after-restore"):
        settling.confirm(remote.outbound, file["id"], SAID, arrived=False)
    assert latest(remote)["state"] == "UNKNOWN"


@pytest.mark.parametrize("said", ["abandon", "confirm"])
def test_a_feed_that_a_run_holds_is_let_be(kept: Backups[PartnerRehearsal], said: str) -> None:
    """It may be sending the file at this moment."""
    remote = kept.remote
    file = latest(remote)
    step = settling.abandon if said == "abandon" else partial(settling.confirm, arrived=True)
    with hold_feed(remote.ledger, FEED, "purchase_orders", owner="otherhost|boot/ns|4242|99"), pytest.raises(FeedBusy):
        step(remote.outbound, file["id"], SAID)
    assert latest(remote)["state"] == file["state"]


def test_what_another_has_entered_meanwhile_is_not_entered_again(
    kept: Backups[PartnerRehearsal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two operators say the same of a restore: the second looks once more when it has the feed."""
    remote = kept.remote
    backup = kept.make()
    remote.poll(FEED)
    kept.restore(backup)
    first: list[Restored] = []

    @contextmanager
    def later(*arguments: Any, **named: Any) -> Generator[HeldFeed]:
        monkeypatch.setattr(restoring, "hold_feed", hold_feed)
        first.append(after_restore(remote.outbound, WHY, feed=FEED))
        with hold_feed(*arguments, **named) as held:
            yield held

    monkeypatch.setattr(restoring, "hold_feed", later)
    assert after_restore(remote.outbound, WHY, feed=FEED) == Restored()
    assert [(file.sequence, file.state) for file in first[0].files] == [(2, "SENT")]
