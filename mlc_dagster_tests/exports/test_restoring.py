"""After a restore of the ledger nothing goes to a partner a second time, and no control number is used again."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlc_dagster.exports.guarding import JournalAhead, OtherLedger
from mlc_dagster.exports.restoring import Restored, after_restore
from mlc_dagster.ledger import control_numbers
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.database import Row, open_ledger
from mlc_dagster.ledger.schema import audit_event
from mlc_dagster.ledger.schema_outbound import control_number, exported_file, exported_record
from mlc_dagster_tests.automation.purchase_orders import FEED as ORDERS
from mlc_dagster_tests.automation.purchase_orders import order_paper, purchase_order_feed, transaction_sets
from mlc_dagster_tests.servers.backups import Backups
from mlc_dagster_tests.servers.ledgers import new_file
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal
from mlc_dagster_tests.servers.postgres import PostgresServer

WHY = Approval(by="Ann Lee", approved_by="Bo Ek", reason="the backup of last night was restored")
DEBIT = "101-4410-61200-000-000-000"
CREDIT = "101-0000-22100-000-000-000"
PARTNER = "ZZ:MLC>01:123456789/T"


@pytest.fixture(params=["sqlite", "postgres"])
def backups(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backups[PartnerRehearsal]]:
    """A feed of journals on either database."""
    server: PostgresServer | None = None
    url: str | None = None
    if request.param == "postgres":
        server = request.getfixturevalue("postgres_server")
        url = request.getfixturevalue("postgres_url")
    with partner_rehearsal(tmp_path, ledger_url=url) as running:
        running.stand_still()
        running.poll("journals")
        yield Backups(running, server)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Backups[PartnerRehearsal]]:
    """The same in a file, for what does not depend on the database."""
    with partner_rehearsal(tmp_path) as running:
        running.stand_still()
        running.poll("journals")
        yield Backups(running, None)


def post(remote: PartnerRehearsal, name: str) -> None:
    remote.world.add_journal_batch(name, lines=[(DEBIT, "100.00", None), (CREDIT, None, "100.00")])


def files(remote: PartnerRehearsal) -> list[Row]:
    with remote.ledger.reading() as reading:
        return reading.rows(sa.select(exported_file).order_by(exported_file.c.sequence))


def versions(remote: PartnerRehearsal) -> list[tuple[str, int, str]]:
    with remote.ledger.reading() as reading:
        rows = reading.rows(sa.select(exported_record).order_by(exported_record.c.record_id, exported_record.c.version))
    return [(row["record_id"], row["version"], row["state"]) for row in rows]


def told(remote: PartnerRehearsal, feed: str | None = None) -> Restored:
    return after_restore(remote.outbound, WHY, feed=feed)


def test_a_restored_ledger_sends_nothing_before_it_is_told(backups: Backups[PartnerRehearsal]) -> None:
    """The same journals under a new name would be booked twice by the partner, and nobody would hear of it."""
    remote = backups.remote
    post(remote, "A")
    remote.poll("journals")
    backup = backups.make()
    post(remote, "B")
    remote.poll("journals")
    there, known = remote.delivered(), versions(remote)
    backups.restore(backup)
    remote.later()
    remote.read("journals")
    with pytest.raises(JournalAhead, match=r"number 2.*after-restore --feed journals"):
        remote.deliver("journals")
    assert remote.delivered() == there
    done = told(remote)
    assert [(file.sequence, file.state) for file in done.files] == [(2, "SENT")]
    assert "by sha256" in done.files[0].seen
    assert versions(remote) == known
    remote.deliver("journals")
    assert remote.delivered() == there
    post(remote, "C")
    remote.poll("journals")
    assert [row["sequence"] for row in files(remote)] == [1, 2, 3]
    assert len(remote.delivered()) == 3


def test_a_file_that_the_partner_took_counts_as_sent(kept: Backups[PartnerRehearsal]) -> None:
    """Most partners take files away: the journal has the end, and an empty folder says nothing against it."""
    remote = kept.remote
    backup = kept.make()
    post(remote, "A")
    remote.poll("journals")
    for path in remote.inbox.iterdir():
        path.unlink()
    kept.restore(backup)
    done = told(remote)
    assert [(file.state, "does not lie there" in file.seen) for file in done.files] == [("SENT", True)]
    remote.poll("journals")
    assert remote.delivered() == []


def test_control_numbers_go_on_and_changes_are_told_as_such(backups: Backups[PartnerRehearsal]) -> None:
    """A partner refuses a control number that it has seen, and an 850 for an order that it has."""
    remote = backups.remote
    purchase_order_feed(remote)
    first = order_paper(remote, "PO-1")
    remote.poll(ORDERS)
    backup = backups.make()
    order_paper(remote, "PO-2")
    remote.poll(ORDERS)
    remote.world.change_purchase_order(first, 1, quantity="12")
    remote.poll(ORDERS)
    numbers = _numbers(remote)
    there = transaction_sets(remote)
    assert there == [("850", "PO-1"), ("850", "PO-2"), ("860", "PO-1")]
    backups.restore(backup)
    assert [file.sequence for file in told(remote).files] == [2, 3]
    assert _numbers(remote) == numbers
    remote.poll(ORDERS)
    assert transaction_sets(remote) == there
    remote.world.change_purchase_order(first, 1, quantity="14")
    remote.poll(ORDERS)
    assert transaction_sets(remote) == [*there, ("860", "PO-1")]
    assert len(_numbers(remote)) == len(set(_numbers(remote))) == 8
    with remote.ledger.reading() as reading:
        assert control_numbers.gaps(reading, PARTNER) == []


def _numbers(remote: PartnerRehearsal) -> list[tuple[str, int]]:
    with remote.ledger.reading() as reading:
        rows = reading.rows(sa.select(control_number).order_by(control_number.c.level, control_number.c.serial))
    return [(row["level"], row["number"]) for row in rows]


def test_another_feed_of_the_partner_stops_as_well(kept: Backups[PartnerRehearsal]) -> None:
    """It counts under the same numbers, and would use those again that the other has used."""
    remote = kept.remote
    purchase_order_feed(remote)
    purchase_order_feed_beside(remote)
    backup = kept.make()
    order_paper(remote, "PO-1")
    remote.poll(ORDERS)
    kept.restore(backup)
    remote.later()
    remote.read("purchase_orders")
    with pytest.raises(JournalAhead, match="feed orders"):
        remote.deliver("second")
    told(remote)
    remote.deliver("second")
    assert len(_numbers(remote)) == len(set(_numbers(remote)))


def purchase_order_feed_beside(remote: PartnerRehearsal) -> None:
    partner = {"sender": "ZZ:MLC", "receiver": "01:123456789"}
    remote.change_feed("second", source="purchase_orders", layout="x12_orders_850", partner=partner)


def test_everything_is_on_record(kept: Backups[PartnerRehearsal]) -> None:
    """An auditor finds who restored, who agreed, and what was entered again."""
    remote = kept.remote
    backup = kept.make()
    post(remote, "A")
    remote.poll("journals")
    kept.restore(backup)
    told(remote)
    with remote.ledger.reading() as reading:
        rows = reading.rows(
            sa.select(audit_event).where(audit_event.c.kind.in_(["export.adopted", "export.restored"]))
            .order_by(audit_event.c.id)
        )  # fmt: skip
    assert [(row["kind"], row["detail"]["by"], row["detail"]["approved_by"]) for row in rows] == [
        ("export.adopted", WHY.by, WHY.approved_by),
        ("export.restored", WHY.by, WHY.approved_by),
    ]


def test_told_twice_changes_nothing(kept: Backups[PartnerRehearsal]) -> None:
    """A person who is not sure whether it was done asks again."""
    remote = kept.remote
    backup = kept.make()
    post(remote, "A")
    remote.poll("journals")
    kept.restore(backup)
    told(remote)
    before = files(remote)
    assert told(remote) == Restored()
    assert files(remote) == before


def test_a_ledger_of_another_installation_is_refused(kept: Backups[PartnerRehearsal]) -> None:
    """A wrong data_dir would enter another company's files; one that was lost and begun anew is told with a flag."""
    remote = kept.remote
    post(remote, "A")
    remote.poll("journals")
    remote.ledger.close()
    for path in (remote.folder / "data").glob("ledger.sqlite*"):
        path.unlink()
    remote.ledger = open_ledger(new_file(remote.folder / "data" / "ledger.sqlite"))
    remote.later()
    remote.read("journals")
    with pytest.raises(OtherLedger, match="--same-installation"):
        remote.deliver("journals")
    with pytest.raises(OtherLedger):
        told(remote)
    done = after_restore(remote.outbound, WHY, same_installation=True)
    assert [(file.sequence, file.state) for file in done.files] == [(1, "SENT")]
    there = remote.delivered()
    remote.deliver("journals")
    assert remote.delivered() == there


def test_a_poll_by_command_ends_as_configuration(kept: Backups[PartnerRehearsal]) -> None:
    """Exit code 2 and the command to type; the daemon's run fails with the same words."""
    remote = kept.remote
    backup = kept.make()
    post(remote, "A")
    remote.poll("journals")
    there = remote.delivered()
    kept.restore(backup)
    remote.later()
    outcome = remote.run()
    assert outcome.exit_code == 2
    assert "mlc exports after-restore --feed journals" in outcome.failures[0].text
    assert remote.delivered() == there


def test_an_older_version_begins_the_journal_from_the_ledger(kept: Backups[PartnerRehearsal]) -> None:
    """The first start after an upgrade: what was sent before it is protected as well."""
    remote = kept.remote
    backup = kept.make()
    post(remote, "A")
    remote.poll("journals")
    shutil.rmtree(remote.folder / "data" / "journal")
    remote.poll("journals")
    there = remote.delivered()
    kept.restore(backup)
    remote.later()
    remote.read("journals")
    with pytest.raises(JournalAhead):
        remote.deliver("journals")
    assert [(file.sequence, file.state) for file in told(remote).files] == [(1, "SENT")]
    remote.deliver("journals")
    assert remote.delivered() == there
