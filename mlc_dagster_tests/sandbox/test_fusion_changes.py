"""What makes incremental reading hard: late rows, changes of children alone, changes between two pages, the clock."""

import datetime as dt
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlc_dagster.sandbox.fusion.world import World
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.sandbox.conftest import TODAY, midday
from mlc_dagster_tests.sandbox.fusion_caller import Caller, exact, invoice

EXPENSE, PAYABLE = "101-4410-61200-000-000-000", "101-0000-22100-000-000-000"
START, END = "2026-11-19T00:00:00.000Z", "2026-11-20T00:00:00.000Z"
WINDOW = f"LastUpdateDate >= '{START}' and LastUpdateDate < '{END}'"


@pytest.fixture
def admin(fusion: FusionSandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{fusion.base_url}/sandbox", timeout=15) as client:
        yield client


def old_batches(world: World, count: int) -> list[int]:
    """Batches inside the window."""
    lines = [(EXPENSE, "1", None), (PAYABLE, None, "1")]
    moment = "2026-11-19T12:00:00.500Z"
    return [world.add_journal_batch(f"Old {n}", lines, last_update_date=moment) for n in range(count)]


def ids(caller: Caller, **params: Any) -> list[int]:
    return [row["JeBatchId"] for row in caller.items("journalBatches", fields="JeBatchId", **params)]


def test_offsets_skip_a_row_when_one_moves_away_between_pages(fusion: FusionSandbox, caller: Caller) -> None:
    """The reason for paging by key."""
    batches = old_batches(fusion.world, 6)
    fusion.world.after_page("journalBatches", 1, lambda world: world.touch("journalBatches", [batches[0]]))
    read = ids(caller, q=WINDOW, orderBy="JeBatchId:asc", limit=3)
    read += ids(caller, q=WINDOW, orderBy="JeBatchId:asc", limit=3, offset=3)
    assert set(batches) - set(read) == {batches[3]}


def test_keys_skip_nothing_when_one_moves_away_between_pages(fusion: FusionSandbox, caller: Caller) -> None:
    """The same change, the other way of paging."""
    batches = old_batches(fusion.world, 6)
    fusion.world.after_page("journalBatches", 1, lambda world: world.touch("journalBatches", [batches[0]]))
    read: list[int] = []
    while page := ids(
        caller, q=f"{WINDOW} and JeBatchId > {read[-1] if read else 0}", orderBy="JeBatchId:asc", limit=3
    ):
        read += page
    assert read == batches


def test_a_page_hook_is_placed_over_http_and_strikes_once(caller: Caller, admin: httpx.Client) -> None:
    """After the second page and never again."""
    lines = [[EXPENSE, "1", None], [PAYABLE, None, "1"]]
    body = {"name": "Old", "lines": lines, "last_update_date": "2026-11-19T12:00:00Z"}
    batch_id = admin.post("/journals", json=body).json()["batch_id"]
    assert (
        admin.post("/page_hooks", json={"resource": "journalBatches", "n": 2, "touch": [batch_id]}).status_code == 200
    )
    assert [ids(caller, q=WINDOW) for _ in range(3)] == [[batch_id], [batch_id], []]


def test_hooks_wait_for_pages_of_their_own_collection(fusion: FusionSandbox, caller: Caller) -> None:
    """Child collections are named with a pattern."""
    (batch_id,) = old_batches(fusion.world, 1)
    struck: list[str] = []
    fusion.world.after_page("journalBatches/*/child/journalHeaders", 1, lambda _world: struck.append("headers"))
    caller.items("journalBatches")
    caller.items("suppliers")
    assert struck == []
    caller.items(f"journalBatches/{batch_id}/child/journalHeaders")
    assert struck == ["headers"]


def test_a_batch_becomes_visible_late(fusion: FusionSandbox, caller: Caller) -> None:
    """A long transaction's rows carry the time at which it began; a closed window has one row more."""
    before = ids(caller, q=WINDOW)
    (late,) = old_batches(fusion.world, 1)
    assert ids(caller, q=WINDOW) == [*before, late]
    row = exact(caller.get(f"journalBatches/{late}", expand="journalHeaders.journalLines"))
    header = row["journalHeaders"]["items"][0]
    dates = {row["LastUpdateDate"], header["LastUpdateDate"], header["journalLines"]["items"][0]["LastUpdateDate"]}
    assert dates == {"2026-11-19T12:00:00.500+00:00"}


def test_rows_may_share_one_timestamp(fusion: FusionSandbox, caller: Caller) -> None:
    """Whoever pages by time alone loses some of them."""
    batches = old_batches(fusion.world, 30)
    rows = caller.items("journalBatches", q=WINDOW, limit=100)
    assert [row["JeBatchId"] for row in rows] == batches
    assert len({row["LastUpdateDate"] for row in rows}) == 1


def test_a_line_changes_without_journal_and_batch(fusion: FusionSandbox, caller: Caller) -> None:
    """Only a question about the lines' own dates finds it."""
    (batch_id,) = old_batches(fusion.world, 1)
    fusion.world.change_journal_line(batch_id, 1, {"Description": "corrected"}, touch_parent=False)
    since = "2026-11-20T12:00:00Z"
    assert batch_id not in ids(caller, q=f"LastUpdateDate >= '{since}'")
    assert batch_id not in ids(caller, q=f"journalHeaders.LastUpdateDate >= '{since}'")
    assert ids(caller, q=f"journalHeaders.journalLines.LastUpdateDate >= '{since}'") == [batch_id]


def test_a_line_changes_with_journal_and_batch(fusion: FusionSandbox, caller: Caller) -> None:
    """The ordinary case; amounts follow to the totals."""
    (batch_id,) = old_batches(fusion.world, 1)
    fusion.world.change_journal_line(batch_id, 1, {"EnteredDr": "3"})
    assert batch_id in ids(caller, q="LastUpdateDate >= '2026-11-20T12:00:00Z'")
    row = exact(caller.get(f"journalBatches/{batch_id}", expand="journalHeaders"))
    assert row["RunningTotalAccountedDr"] == row["journalHeaders"]["items"][0]["RunningTotalDr"] == 3


def test_questions_about_children_need_framework_2(caller: Caller) -> None:
    """Version 1 knows no such attribute."""
    question = "journalHeaders.LastUpdateDate >= '2026-01-01'"
    assert caller.get("journalBatches", q=question, version=1).status_code == 400
    assert caller.get("journalBatches", q=question, version=2).status_code == 200


def test_an_installment_changes_without_its_invoice(fusion: FusionSandbox, caller: Caller) -> None:
    """Due thirty days after the terms date until somebody moves it."""
    invoice_id = caller.post(invoice()).json()["InvoiceId"]
    path = f"invoices/{invoice_id}/child/invoiceInstallments"
    (before,) = caller.items(path)
    assert (before["DueDate"], before["GrossAmount"]) == ("2026-12-10", 30)
    tag = caller.get(f"invoices/{invoice_id}").headers["ETag"]
    fusion.world.change_installment(invoice_id, due_date="2026-12-24")
    (after,) = caller.items(path)
    assert (after["DueDate"], after["LastUpdateDate"] >= before["LastUpdateDate"]) == ("2026-12-24", True)
    assert caller.get(f"invoices/{invoice_id}").headers["ETag"] == tag


def test_invoices_and_their_lines_are_described_anew(caller: Caller, admin: httpx.Client) -> None:
    """By a clerk, over HTTP."""
    invoice_id = caller.post(invoice()).json()["InvoiceId"]
    assert admin.patch(f"/invoices/{invoice_id}", json={"description": "Header"}).status_code == 200
    body = {"description": "Line", "line": 1, "touch_parent": False}
    assert admin.patch(f"/invoices/{invoice_id}", json=body).status_code == 200
    row = exact(caller.get(f"invoices/{invoice_id}", expand="invoiceLines"))
    assert (row["Description"], row["invoiceLines"]["items"][0]["Description"]) == ("Header", "Line")
    assert admin.patch(f"/invoices/{invoice_id}", json=body | {"line": 5}).status_code == 404
    assert admin.patch(f"/invoices/{invoice_id}/installments/1", json={"due_date": "2027-01-01"}).status_code == 200


def test_installments_are_not_posted(caller: Caller) -> None:
    """They follow from the terms; a body that brings its own is told."""
    refused = caller.post(invoice(invoiceInstallments=[{"InstallmentNumber": 1}]))
    assert refused.status_code == 400


@pytest.mark.parametrize("path", ["invoices", "nowhere", "../../../sandbox/clock"])
def test_every_answer_says_what_time_it_is_in_fusion(fusion: FusionSandbox, caller: Caller, path: str) -> None:
    """A window closes by this clock and by no other."""
    fusion.world.set_clock(lambda: dt.datetime(2026, 11, 21, 9, 30, 15, tzinfo=dt.UTC))
    try:
        fusion.world.move_clock(dt.timedelta(hours=2))
        answer = caller.get(path)
        assert answer.headers.get_list("date") == ["Sat, 21 Nov 2026 11:30:15 GMT"]
        fusion.world.move_clock(dt.timedelta(hours=-3))
        assert parsedate_to_datetime(caller.get(path).headers["date"]).hour == 8
        batch_id = fusion.world.add_journal_batch("Now", [(EXPENSE, "1", None)])
        created = exact(caller.get(f"journalBatches/{batch_id}"))["CreationDate"]
        assert created == "2026-11-21T08:30:15.000+00:00"
    finally:
        fusion.world.set_clock(midday)


def test_a_moved_clock_stays_moved_after_a_restart(tmp_path: Path) -> None:
    """Time in Fusion does not run backwards because its process ended."""
    books = tmp_path / "books.sqlite"
    with FusionSandbox(Seed(today=TODAY), books=books, clock=midday) as first:
        answer = httpx.post(f"{first.base_url}/sandbox/clock", json={"seconds": 86400})
        assert answer.json()["now"].startswith("2026-11-22")
    with FusionSandbox(Seed(today=TODAY), books=books, clock=midday) as second:
        assert second.world.clock().date() == TODAY + dt.timedelta(days=1)


def test_suppliers_sites_carry_their_dates(caller: Caller) -> None:
    """A reader asks sites by their own dates."""
    (supplier,) = caller.items("suppliers", q="SupplierNumber='30012'")
    (site, *_) = caller.items(f"suppliers/{supplier['SupplierId']}/child/sites")
    assert site["CreationDate"] == site["LastUpdateDate"] == "2025-06-01T09:00:00.000+00:00"
