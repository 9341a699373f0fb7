"""A file that two people gave up, and a ledger that was restored to before they did: given up it stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.exports.guarding import catch_up
from mlc_dagster.exports.restoring import Restored, after_restore
from mlc_dagster.ledger import control_numbers, exported
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import Row
from mlc_dagster.ledger.schema_outbound import control_number, exported_file
from mlc_dagster_tests.automation.purchase_orders import FEED, order_paper, purchase_order_feed, transaction_sets
from mlc_dagster_tests.servers.backups import Backups
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal

GIVEN_UP = Approval(by="Ann Lee", approved_by="Bo Ek", reason="the partner wants it another way")
WHY = Approval(by="Cy Roe", approved_by="Di Fox", reason="the backup of last night was restored")
PARTNER = "ZZ:MLC>01:123456789/T"


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Backups]:
    """A feed of purchase orders, which count under control numbers; PO-1 was delivered."""
    with partner_rehearsal(tmp_path) as running:
        running.stand_still()
        purchase_order_feed(running)
        order_paper(running, "PO-1")
        running.poll(FEED)
        assert transaction_sets(running) == [("850", "PO-1")]
        yield Backups(running, None)


def begun_and_given_up(remote: PartnerRehearsal, fault: str = "refuse_upload") -> None:
    """PO-2 is in file 2, whose upload was begun; two people give it up, and the journal knows."""
    order_paper(remote, "PO-2")
    begun(remote, fault)
    given_up(remote)


def begun(remote: PartnerRehearsal, fault: str) -> None:
    remote.sftp.faults.add(fault, count=None, username="partner")
    remote.poll(FEED)
    remote.sftp.faults.clear()
    assert latest(remote)["state"] in ("UPLOADING", "PENDING", "UNKNOWN")


def given_up(remote: PartnerRehearsal) -> None:
    with remote.ledger.transaction() as transaction:
        exported.abandon(transaction, latest(remote)["id"], **GIVEN_UP.said)
    # What the next run does first.
    catch_up(remote.outbound, FEED)


def files(remote: PartnerRehearsal) -> list[Row]:
    with remote.ledger.reading() as reading:
        return reading.rows(
            sa.select(exported_file).where(exported_file.c.feed == FEED).order_by(exported_file.c.sequence)
        )


def latest(remote: PartnerRehearsal) -> Row:
    return files(remote)[-1]


def told(remote: PartnerRehearsal) -> Restored:
    return after_restore(remote.outbound, WHY, feed=FEED)


def numbers(remote: PartnerRehearsal) -> list[tuple[str, int, str]]:
    with remote.ledger.reading() as reading:
        rows = reading.rows(sa.select(control_number).order_by(control_number.c.level, control_number.c.serial))
    return [(row["level"], row["number"], row["state"]) for row in rows]


def test_its_records_go_once_and_its_numbers_are_void(kept: Backups) -> None:
    """Restored to before it was built: entered as given up, and its order goes in the next file, under new numbers."""
    remote = kept.remote
    backup = kept.make()
    begun_and_given_up(remote)
    before = numbers(remote)
    assert "VOID" in {state for _, _, state in before}
    kept.restore(backup)
    done = told(remote)
    assert [(file.sequence, file.state) for file in done.files] == [(2, "ABANDONED")]
    assert numbers(remote) == before
    assert latest(remote)["reason"] == GIVEN_UP.reason
    remote.poll(FEED)
    assert [(row["sequence"], row["state"]) for row in files(remote)] == [(1, "SENT"), (2, "ABANDONED"), (3, "SENT")]
    assert transaction_sets(remote) == [("850", "PO-1"), ("850", "PO-2")]
    used = [(level, number) for level, number, _ in numbers(remote)]
    assert len(used) == len(set(used))
    with remote.ledger.reading() as reading:
        assert control_numbers.gaps(reading, PARTNER) == []
    remote.poll(FEED)
    assert len(transaction_sets(remote)) == 2


def test_what_went_in_a_later_file_since_is_not_sent_again(kept: Backups) -> None:
    """Given up, and sent in the next file before the restore: both are entered, and nothing is left to send."""
    remote = kept.remote
    backup = kept.make()
    begun_and_given_up(remote)
    remote.poll(FEED)
    there = transaction_sets(remote)
    assert there == [("850", "PO-1"), ("850", "PO-2")]
    before = numbers(remote)
    kept.restore(backup)
    assert [(file.sequence, file.state) for file in told(remote).files] == [(2, "ABANDONED"), (3, "SENT")]
    remote.poll(FEED)
    assert transaction_sets(remote) == there
    assert numbers(remote) == before


def test_given_up_after_the_backup_that_knows_its_upload(kept: Backups) -> None:
    """The ledger has it as begun, the journal as given up, and nothing lies there: given up it is."""
    remote = kept.remote
    order_paper(remote, "PO-2")
    begun(remote, "refuse_upload")
    backup = kept.make()
    given_up(remote)
    kept.restore(backup)
    assert [(file.sequence, file.state) for file in told(remote).files] == [(2, "ABANDONED")]
    remote.poll(FEED)
    assert transaction_sets(remote) == [("850", "PO-1"), ("850", "PO-2")]


def test_one_that_lies_there_all_the_same_is_for_a_person(kept: Backups) -> None:
    """The journal says given up, the ledger begun, and the partner has it whole: sent again it would be there twice."""
    remote = kept.remote
    order_paper(remote, "PO-2")
    begun(remote, "refuse_upload")
    backup = kept.make()
    name = latest(remote)["name"]
    content = remote.outbound.archive.path(latest(remote)["sha256"]).read_bytes()
    given_up(remote)
    (remote.inbox / name).write_bytes(content)
    kept.restore(backup)
    [file] = told(remote).files
    assert (file.sequence, file.state) == (2, "UNKNOWN")
    remote.later()
    remote.read("purchase_orders")
    remote.deliver(FEED)
    assert transaction_sets(remote) == [("850", "PO-1"), ("850", "PO-2")]
    with remote.ledger.transaction() as transaction:
        exported.settle_unknown(transaction, latest(remote)["id"], arrived=True, **WHY.said)
    remote.poll(FEED)
    assert transaction_sets(remote) == [("850", "PO-1"), ("850", "PO-2")]
