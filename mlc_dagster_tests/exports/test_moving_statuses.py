"""Statuses that Fusion moves by itself: shown beside a record, never a reason to send it again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_dagster.exports.rebasing import projection
from mlc_dagster.exports.steps import FeedReport
from mlc_dagster_tests.servers.partner_rehearsal import PartnerRehearsal, partner_rehearsal

PENS = {"quantity": 10, "price": "2.50", "description": "Pens"}
PAPER = {"quantity": 4, "price": "5.00", "description": "Paper"}


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[PartnerRehearsal]:
    """Two feeds of purchase orders: CSV with statuses, and X12."""
    with partner_rehearsal(tmp_path) as running:
        partner = {"sender": "ZZ:US", "receiver": "ZZ:THEM"}
        running.change_feed("x12", source="purchase_orders", layout="x12_orders_850", partner=partner)
        running.change_feed("csv", source="purchase_orders", layout="purchase_orders_csv")
        yield running


def poll(remote: PartnerRehearsal) -> tuple[FeedReport, FeedReport]:
    return remote.poll("x12"), remote.deliver("csv")


def move(remote: PartnerRehearsal, order: int, status: str, *, line: int | None = None, header: bool = True) -> None:
    """Fusion moves the order's statuses, as a receipt does; of one line, or of all."""
    with remote.world.lock:
        row = remote.world.purchase_order(order)
        row.values |= {"LastUpdateDate": remote.world.now()} | ({"StatusCode": status} if header else {})
        for index, each in enumerate(row.children["lines"], 1):
            if line in (None, index):
                each.values |= {"StatusCode": status, "LastUpdateDate": remote.world.now()}
                for schedule in each.children["schedules"]:
                    schedule.values["StatusCode"] = status


def last_file(remote: PartnerRehearsal, feed: str) -> str:
    name = [name for name in remote.delivered() if name.startswith(f"{feed}_")][-1]
    return (remote.inbox / name).read_text()


def test_a_status_that_moves_alone_is_no_new_version(remote: PartnerRehearsal) -> None:
    """Received, billed, closed: the partner would get a change order that changes nothing."""
    order = remote.world.create_purchase_order(lines=[PENS])
    assert [report.built.new for report in poll(remote)] == [1, 1]
    for status in ("CLOSED FOR RECEIVING", "CLOSED"):
        move(remote, order, status)
        for report in poll(remote):
            assert (report.built.unchanged, report.built.files) == (1, 0)


def test_the_status_of_order_and_lines_may_be_shown(remote: PartnerRehearsal) -> None:
    """Layouts have columns for them; what they show is as of the version that went."""
    order = remote.world.create_purchase_order(lines=[PENS, PAPER])
    poll(remote)
    assert last_file(remote, "csv").count(",OPEN,") == 4
    move(remote, order, "CLOSED FOR RECEIVING", line=2, header=False)
    remote.world.change_purchase_order(order, 1, quantity=12)
    poll(remote)
    rows = last_file(remote, "csv").splitlines()[1:3]
    assert [row.count(",OPEN,") for row in rows] == [2, 1]
    assert [row.count(",CLOSED FOR RECEIVING,") for row in rows] == [0, 1]


def test_the_status_of_a_schedule_may_be_shown(remote: PartnerRehearsal) -> None:
    """By schedule as by line."""
    path = remote.folder / "schedules.yaml"
    columns = "[{name: N, field: schedule.number}, {name: S, field: schedule.status}, {name: C, field: line.canceled}]"
    path.write_text(
        "format: csv\nname: schedules\nversion: '1'\nsource: purchase_orders\nrow: schedule\nchildless: row\n"
        f'file_name: "{{feed}}_{{sequence:06d}}{{extension}}"\ncolumns: {columns}\n'
    )
    remote.change_feed("csv", layout=str(path))
    order = remote.world.create_purchase_order(lines=[PENS])
    move(remote, order, "CLOSED")
    poll(remote)
    assert last_file(remote, "csv").splitlines()[1] == "1,CLOSED,N"


def test_a_canceled_line_is_a_change(remote: PartnerRehearsal) -> None:
    """Of all statuses this one the partner must know: the goods must not come."""
    order = remote.world.create_purchase_order(lines=[PENS, PAPER])
    poll(remote)
    move(remote, order, "CANCELED", line=2, header=False)
    with remote.world.lock:
        row = remote.world.purchase_order(order)
        row.values["Ordered"] = row.children["lines"][0].values["Ordered"]
    assert [report.built.change for report in poll(remote)] == [1, 1]
    assert "POC*2*DI*0" in last_file(remote, "x12")


def test_a_canceled_order_is_a_cancellation(remote: PartnerRehearsal) -> None:
    """Told as one, and once, however its statuses move on."""
    order = remote.world.create_purchase_order(lines=[PENS])
    poll(remote)
    remote.world.cancel_purchase_order(order)
    assert [report.built.cancel for report in poll(remote)] == [1, 1]
    assert "BCH*01" in last_file(remote, "x12")


def test_how_far_posting_has_come_is_no_change_of_a_journal(remote: PartnerRehearsal) -> None:
    """Selected, under way, failed: only posted or not is part of what is sent."""
    remote.change_feed("journals", include_unposted=True)
    lines: list[Any] = [
        ("101-4410-61200-000-000-000", "100.00", None),
        ("101-0000-22100-000-000-000", None, "100.00"),
    ]
    batch = remote.world.add_journal_batch("A", lines=lines, status="U")
    assert remote.poll("journals").built.new == 1
    with remote.world.lock:
        remote.world.journal_batch(batch).values |= {"Status": "I", "LastUpdateDate": remote.world.now()}
    assert remote.poll("journals").built.unchanged == 1
    remote.world.post_journal_batch(batch)
    assert remote.poll("journals").built.change == 1


def test_statuses_are_no_part_of_what_hashes_are_taken_over() -> None:
    """A feed whose hashes were taken with them is stopped by this, and rebased; it must not send every order again."""
    assert not [name for name in projection("purchase_orders") if name.endswith("StatusCode")]
    assert {"Canceled", "lines.Canceled", "lines.schedules.Canceled"} <= projection("purchase_orders")
