"""A feed that is pointed elsewhere sends nothing before a person has said what that means."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlc_dagster.exports.places import place_of
from mlc_dagster.exports.relocating import FilesWait, NotTheSamePartner, moved, restart
from mlc_dagster.exports.wiring import check_feed
from mlc_dagster.ledger.approval import Approval
from mlc_dagster.ledger.places import PlaceChanged
from mlc_dagster.ledger.schema import audit_event, ledger_setting
from mlc_dagster.ledger.schema_outbound import exported_file
from mlc_dagster.settings import SettingsError
from mlc_dagster_tests.automation.purchase_orders import FEED, order_paper, purchase_order_feed, transaction_sets
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_account, partner_rehearsal

WHY = Approval(by="Ann Lee", approved_by="Bo Ek", reason="the partner's production system goes live")
IDS = {"sender": "ZZ:MLC", "receiver": "01:123456789"}


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[PartnerRehearsal]:
    """One order was sent as a test."""
    with partner_rehearsal(tmp_path) as running:
        running.stand_still()
        purchase_order_feed(running)
        order_paper(running, "PO-1")
        running.poll(FEED)
        yield running


def elsewhere(remote: PartnerRehearsal) -> None:
    (remote.inbox.parent / "other").mkdir()
    remote.change_feed(FEED, sftp=partner_account(remote.sftp) | {"directory": "/other"})


def poll(remote: PartnerRehearsal) -> None:
    remote.poll(FEED)


def usage_p(remote: PartnerRehearsal) -> None:
    remote.change_feed(FEED, partner=IDS | {"usage": "P"})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"partner": IDS | {"usage": "P"}}, "usage T → P"),
        ({"partner": IDS | {"sender": "ZZ:NEW"}}, "sender ZZ:MLC → ZZ:NEW"),
        ({"partner": IDS | {"receiver": "ZZ:OTHER"}}, "receiver 01:123456789 → ZZ:OTHER"),
        ({"sftp": {"directory": "/other"}}, "directory /inbound → /other"),
        ({"sftp": {"host": "localhost"}}, "host 127.0.0.1 → localhost"),
    ],
    ids=["usage", "sender", "receiver", "directory", "host"],
)
def test_a_change_stops_the_feed(remote: PartnerRehearsal, change: dict[str, Any], named: str) -> None:
    """What the first partner got would count as delivered to the second, in silence."""
    if "sftp" in change:
        change = {"sftp": partner_account(remote.sftp) | change["sftp"]}
    remote.change_feed(FEED, **change)
    with pytest.raises(PlaceChanged, match=named):
        poll(remote)
    assert len(remote.delivered()) == 1


def test_the_command_ends_as_configuration(remote: PartnerRehearsal) -> None:
    """Exit code 2, with both commands."""
    usage_p(remote)
    remote.later()
    outcome = remote.run()
    assert outcome.exit_code == 2
    assert "mlc exports restart orders" in outcome.failures[0].text
    assert "mlc exports moved orders" in outcome.failures[0].text


def test_restart_sends_everything_again_as_new(remote: PartnerRehearsal) -> None:
    """Production after test: the partner's books are empty; file numbers go on."""
    order = order_paper(remote, "PO-2")
    remote.poll(FEED)
    remote.world.change_purchase_order(order, 1, quantity="12")
    remote.poll(FEED)
    usage_p(remote)
    assert restart(remote.outbound, remote.outbound.feeds[FEED], WHY) == 2
    before = len(transaction_sets(remote))
    poll(remote)
    assert sorted(transaction_sets(remote)[before:]) == [("850", "PO-1"), ("850", "PO-2")]
    with remote.ledger.reading() as reading:
        rows = reading.rows(sa.select(exported_file).order_by(exported_file.c.sequence))
        (event,) = reading.rows(sa.select(audit_event).where(audit_event.c.kind == "export.restarted"))
    # One file or two: an order that the overlap brings along goes before what was given up.
    assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[3]["controls"]["interchange"] == [1]
    assert (event["detail"]["by"], event["detail"]["records"]) == (WHY.by, 2)
    # And once only.
    poll(remote)
    assert len(transaction_sets(remote)) == before + 2


def test_moved_sends_nothing_again(remote: PartnerRehearsal) -> None:
    """The same partner on another server has everything; what is new goes there."""
    elsewhere(remote)
    before = moved(remote.outbound, remote.outbound.feeds[FEED], WHY)
    assert before.directory == "/inbound"
    poll(remote)
    order_paper(remote, "PO-2")
    poll(remote)
    assert len(remote.delivered()) == 1
    assert len(list((remote.inbox.parent / "other").iterdir())) == 1


def test_production_is_not_where_test_has_moved_to(remote: PartnerRehearsal) -> None:
    """The one mistake that loses everything: said to be moved, nothing would ever be sent."""
    usage_p(remote)
    with pytest.raises(NotTheSamePartner, match="restart orders"):
        moved(remote.outbound, remote.outbound.feeds[FEED], WHY)


def test_a_file_that_waits_untried_moves_along(remote: PartnerRehearsal) -> None:
    """The server was down before it moved: the file goes to the new place, once."""
    remote.sftp.faults.add("down", count=1, username="partner")
    order_paper(remote, "PO-2")
    poll(remote)
    assert len(remote.delivered()) == 1
    elsewhere(remote)
    moved(remote.outbound, remote.outbound.feeds[FEED], WHY)
    poll(remote)
    assert len(remote.delivered()) == 1
    assert len(list((remote.inbox.parent / "other").iterdir())) == 1


def test_nothing_begins_anew_while_a_file_waits(remote: PartnerRehearsal) -> None:
    """It was made for the old partner, with its ids and numbers in it."""
    remote.sftp.faults.add("down", count=1, username="partner")
    order_paper(remote, "PO-2")
    poll(remote)
    usage_p(remote)
    with pytest.raises(FilesWait, match="PENDING"):
        restart(remote.outbound, remote.outbound.feeds[FEED], WHY)


def test_a_feed_of_an_earlier_version_is_known_by_its_files(remote: PartnerRehearsal) -> None:
    """Nobody pinned its place; the last file has the partner and the folder it was made for."""
    with remote.ledger.transaction() as transaction:
        transaction.execute(sa.delete(ledger_setting).where(ledger_setting.c.name == f"place/{FEED}"))
    usage_p(remote)
    with pytest.raises(PlaceChanged, match="usage T → P"):
        poll(remote)


def test_a_feed_without_files_goes_wherever_mlc_yaml_says(tmp_path: Path) -> None:
    """Nobody has anything yet: setting up is trying out."""
    with partner_rehearsal(tmp_path) as fresh:
        fresh.stand_still()
        purchase_order_feed(fresh)
        fresh.poll(FEED)
        usage_p(fresh)
        order_paper(fresh, "PO-1")
        fresh.poll(FEED)
        assert len(fresh.delivered()) == 1


def test_a_trailing_slash_is_no_other_place(remote: PartnerRehearsal) -> None:
    """The same folder in other writing."""
    before = place_of(remote.settings.exports[0])
    remote.change_feed(FEED, sftp=partner_account(remote.sftp) | {"directory": "/inbound/"})
    assert place_of(remote.settings.exports[0]) == before


def test_two_feeds_that_can_write_one_path_are_refused(remote: PartnerRehearsal) -> None:
    """The second would take the first's file for its own."""
    for name in ("one", "two"):
        remote.change_feed(
            name,
            source="journals",
            layout="journals_csv",
            ledgers=["US Primary Ledger"],
            file_name="gl_{sequence:06d}{extension}",
        )
    settings = remote.settings
    with pytest.raises(SettingsError, match=r"exports\.one and exports\.two can both write 'gl_000001\.csv'"):
        check_feed(settings, settings.exports[1])
    remote.change_feed("two", file_name="{feed}_{sequence:06d}{extension}")
    settings = remote.settings
    check_feed(settings, settings.exports[1])
    assert settings.exports[2].file_name == "{feed}_{sequence:06d}{extension}"
