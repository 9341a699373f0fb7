"""General-ledger journals over HTTP: batches, journals, lines, their keys and pages, and how they come to be."""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlc_dagster.sandbox import seed_documents
from mlc_dagster.sandbox.fusion.world import Policies
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.sandbox.conftest import TODAY, midday
from mlc_dagster_tests.sandbox.fusion_caller import Caller, exact, invoice, line

EXPENSE, PAYABLE = "101-4410-61200-000-000-000", "101-0000-22100-000-000-000"


@pytest.fixture
def admin(fusion: FusionSandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{fusion.base_url}/sandbox", timeout=15) as client:
        yield client


def below(row: dict[str, Any], child: str) -> str:
    """Path of a row's child collection, taken from its links as a client must."""
    (href,) = [link["href"] for link in row["links"] if link["rel"] == "child" and link["name"] == child]
    return href.partition("/11.13.18.05/")[2]


def batch_named(caller: Caller, name: str) -> dict[str, Any]:
    (batch,) = caller.items("journalBatches", q=f"BatchName='{name}'")
    return batch


def all_lines(caller: Caller, batch: dict[str, Any]) -> list[dict[str, Any]]:
    headers = caller.items(below(batch, "journalHeaders"))
    return [row for header in headers for row in caller.items(below(header, "journalLines"), limit=500)]


def test_a_go_live_finds_every_kind_of_journal(caller: Caller) -> None:
    """Two journals in a batch, foreign currency, statistics, no decimals, unposted: formats stumble on each."""
    batches = {row["BatchName"]: row for row in caller.items("journalBatches", expand="journalHeaders")}
    currencies = {name: [h["CurrencyCode"] for h in row["journalHeaders"]["items"]] for name, row in batches.items()}
    assert currencies[seed_documents.PAYABLES_BATCH] == ["USD", "USD"]
    assert currencies[seed_documents.FOREIGN_BATCH] == ["EUR"]
    assert currencies[seed_documents.STAT_BATCH] == ["STAT"]
    assert currencies[seed_documents.JPY_BATCH] == ["JPY"]
    assert batches[seed_documents.UNPOSTED_BATCH]["Status"] == "U"
    assert batches[seed_documents.UNPOSTED_BATCH]["PostedDate"] is None
    assert all(row["LastUpdateDate"] < f"{TODAY}" for row in batches.values())


def test_foreign_amounts_are_accounted_by_the_rate_and_balance(caller: Caller) -> None:
    """A third of 1,000 rounds three times; Fusion puts the rest on one line, so that both sides agree."""
    lines = all_lines(caller, batch_named(caller, seed_documents.FOREIGN_BATCH))
    for kind in ("Entered", "Accounted"):
        assert sum(row[f"{kind}Dr"] or 0 for row in lines) == sum(row[f"{kind}Cr"] or 0 for row in lines)
    # 361.763, 361.763 and 361.774 before rounding, which leaves a cent.
    assert [row["AccountedDr"] for row in lines[:3]] == [Decimal("361.76"), Decimal("361.76"), Decimal("361.78")]


def test_only_links_lead_to_journals_and_lines(caller: Caller) -> None:
    """Neither shows an id, and a number is no key of theirs."""
    batch = batch_named(caller, seed_documents.PAYABLES_BATCH)
    path = below(batch, "journalHeaders")
    (first, second) = caller.items(path)
    assert "JeHeaderId" not in first
    assert below(first, "journalLines") != below(second, "journalLines")
    assert caller.get(f"{path}/{batch['JeBatchId'] + 1}").status_code == 404
    (row, *_) = caller.items(below(first, "journalLines"))
    self_link = next(link["href"] for link in row["links"] if link["rel"] == "self")
    assert exact(caller.get(self_link.partition("/11.13.18.05/")[2]))["JeLineNumber"] == 1


def test_nested_lines_end_after_25_and_say_so(caller: Caller) -> None:
    """A client that trusts the first nested page loses 35 lines of this journal."""
    (batch,) = caller.items(
        "journalBatches", q=f"BatchName='{seed_documents.LONG_BATCH}'", expand="journalHeaders.journalLines"
    )
    (header,) = batch["journalHeaders"]["items"]
    nested = header["journalLines"]
    assert (nested["count"], nested["hasMore"], nested["limit"]) == (25, True, 25)
    assert len(all_lines(caller, batch)) == 60


def test_child_collections_page_count_filter_and_sort(caller: Caller) -> None:
    """As the top level does."""
    batch = batch_named(caller, seed_documents.LONG_BATCH)
    (header,) = caller.items(below(batch, "journalHeaders"))
    path = below(header, "journalLines")
    page = exact(caller.get(path, limit=40, offset=40, totalResults="true"))
    assert (page["count"], page["hasMore"], page["totalResults"]) == (20, False, 60)
    (credit,) = caller.items(path, q="EnteredCr > 0", orderBy="JeLineNumber:desc")
    assert credit["EnteredCr"] == Decimal("7687.7")
    assert [row["JeLineNumber"] for row in caller.items(path, orderBy="JeLineNumber:desc", limit=2)] == [60, 59]


@pytest.mark.parametrize("child", ["", "/child/journalHeaders"])
def test_journals_cannot_be_written_over_rest(caller: Caller, child: str) -> None:
    """They come in by import only."""
    refused = caller.post(
        {"BatchName": "x"}, f"journalBatches{'/' + str(seed_documents.FIRST_BATCH) + child if child else ''}"
    )
    assert refused.status_code == 405


def test_a_batch_of_several_journals_is_entered(fusion: FusionSandbox, caller: Caller) -> None:
    """Ledgers, currencies and descriptions of their own; totals by Fusion."""
    batch_id = fusion.world.add_journal_batch(
        "Both ledgers",
        journals=[
            {"name": "A", "lines": [(EXPENSE, "10.10", None, "Tea"), (PAYABLE, None, "10.10")]},
            {"name": "B", "ledger": "UK Primary Ledger", "lines": [{"account": "201-4410-61200-000-000-000", "dr": 5}]},
        ],
        source="Spreadsheet",
    )
    batch = exact(caller.get(f"journalBatches/{batch_id}", expand="journalHeaders"))
    assert (batch["UserJeSourceName"], batch["RunningTotalDr"], batch["RunningTotalCr"]) == (
        "Spreadsheet",
        Decimal("15.1"),
        Decimal("10.1"),
    )
    ledgers = [(row["LedgerName"], row["CurrencyCode"]) for row in batch["journalHeaders"]["items"]]
    assert ledgers == [("US Primary Ledger", "USD"), ("UK Primary Ledger", "GBP")]


def test_a_float_is_refused(fusion: FusionSandbox) -> None:
    """Money that was a float once is not what it says."""
    with pytest.raises(TypeError, match="no exact amount"):
        fusion.world.add_journal_batch("Floating", [(EXPENSE, 0.1, None)])


def test_journals_are_entered_changed_and_posted_over_http(caller: Caller, admin: httpx.Client) -> None:
    """For a demonstration in another process."""
    body = {"name": "By hand", "status": "U", "lines": [[EXPENSE, "7.00", None], [PAYABLE, None, "7.00"]]}
    batch_id = admin.post("/journals", json=body).json()["batch_id"]
    assert exact(caller.get(f"journalBatches/{batch_id}"))["StatusMeaning"] == "Unposted"
    values = {"values": {"EnteredDr": "8.00"}, "touch_parent": False}
    assert admin.patch(f"/journals/{batch_id}/lines/1", json=values).status_code == 200
    assert admin.post(f"/journals/{batch_id}/post").status_code == 200
    posted = exact(caller.get(f"journalBatches/{batch_id}"))
    assert (posted["Status"], posted["PostedDate"], posted["RunningTotalAccountedDr"]) == ("P", str(TODAY), 8)
    assert admin.post("/journals/1/post").status_code == 404
    assert admin.post("/journals", json={"name": "x", "lines": [], "ledger": "None"}).status_code == 400


def test_two_hundred_thousand_lines_are_loaded_and_looked_up(fusion: FusionSandbox, caller: Caller) -> None:
    """Enough for a benchmark; dates spread over the window."""
    ids = fusion.world.load_journals(2000, 100, spread=dt.timedelta(days=2))
    assert len(ids) == 2000
    (row,) = caller.items("journalBatches", q=f"JeBatchId={ids[-1]}")
    lines = all_lines(caller, row)
    assert len(lines) == 100
    assert sum(entry["EnteredDr"] or 0 for entry in lines) == lines[-1]["EnteredCr"] == row["RunningTotalCr"]
    first = exact(caller.get(f"journalBatches/{ids[0]}"))
    span = dt.datetime.fromisoformat(row["LastUpdateDate"]) - dt.datetime.fromisoformat(first["LastUpdateDate"])
    assert span == dt.timedelta(days=2)


def test_journals_survive_a_restart(tmp_path: Path) -> None:
    """Entered, loaded and seeded ones, with what became of each."""
    books = tmp_path / "books.sqlite"
    with FusionSandbox(Seed(today=TODAY), books=books, clock=midday) as first:
        ids = first.world.load_journals(3, 4)
        entered = first.world.add_journal_batch("Kept", [(EXPENSE, "1.25", None)])
        first.world.change_journal_line(ids[1], 1, {"Description": "changed"})
        first.world.post_journal_batch(seed_documents.FIRST_BATCH + 5000)
        with Caller(first) as caller:
            before = caller.items("journalBatches", expand="journalHeaders.journalLines", onlyData="true")
    with FusionSandbox(Seed(today=TODAY), books=books, clock=midday) as second, Caller(second) as caller:
        after = caller.items("journalBatches", expand="journalHeaders.journalLines", onlyData="true")
        assert second.world.add_journal_batch("Next", [(EXPENSE, "1", None)]) > entered
    assert after == before


def test_seeded_journals_stay_as_they_are_when_a_server_starts_on_another_day(tmp_path: Path) -> None:
    """Otherwise every restart would look like a change of each of them."""
    books = tmp_path / "books.sqlite"
    found: list[list[dict[str, Any]]] = []
    for day in (TODAY, TODAY + dt.timedelta(days=40)):
        with FusionSandbox(Seed(today=day), books=books, clock=midday) as fusion, Caller(fusion) as caller:
            found.append(caller.items("journalBatches", expand="journalHeaders.journalLines", onlyData="true"))
            found[-1] += caller.items("purchaseOrders", expand="lines.schedules.distributions", onlyData="true")
    assert found[0] == found[1]


def test_accounting_reaches_the_ledger_where_it_is_set_up(fusion: FusionSandbox, caller: Caller) -> None:
    """Two invoices become one summarised Payables journal that says neither number nor supplier."""
    fusion.world.policies = Policies(journals_from_accounting=True)
    lines = [line(1, "20.00"), line(2, "10.00", DistributionCombination="101-4420-61300-000-000-000")]
    for number, body in (("A", invoice("A", "30.00", invoiceLines=lines)), ("B", invoice("B", "12.50"))):
        assert caller.post(body).status_code == 201
        caller.act("validateInvoice", InvoiceNumber=number)
    assert fusion.create_accounting() == 2
    (batch,) = caller.items("journalBatches", q="UserJeSourceName='Payables'", orderBy="JeBatchId:desc", limit=1)
    assert (batch["Status"], batch["RunningTotalDr"], batch["RunningTotalCr"]) == (
        "P",
        Decimal("42.5"),
        Decimal("42.5"),
    )
    sums = {row["AccountCombination"]: (row["EnteredDr"], row["EnteredCr"]) for row in all_lines(caller, batch)}
    assert sums == {
        EXPENSE: (Decimal("32.5"), None),
        "101-4420-61300-000-000-000": (10, None),
        PAYABLE: (None, Decimal("42.5")),
    }


def test_accounting_leaves_the_ledger_alone_otherwise(fusion: FusionSandbox, caller: Caller) -> None:
    """Most customers run the transfer on a schedule of their own."""
    before = len(caller.items("journalBatches"))
    caller.post(invoice())
    caller.act("validateInvoice", InvoiceNumber="INV-1")
    assert fusion.create_accounting() == 1
    assert len(caller.items("journalBatches")) == before


def test_nothing_is_transferred_of_an_invoice_over_nothing(fusion: FusionSandbox, caller: Caller) -> None:
    """A journal without lines would be no journal."""
    fusion.world.policies = Policies(journals_from_accounting=True)
    before = len(caller.items("journalBatches"))
    caller.post(invoice(amount="0.00"))
    caller.act("validateInvoice", InvoiceNumber="INV-1")
    assert fusion.create_accounting() == 1
    assert len(caller.items("journalBatches")) == before


def test_a_foreign_invoice_is_transferred_at_its_rate(fusion: FusionSandbox, caller: Caller) -> None:
    """Entered in EUR, accounted in the ledger's USD."""
    fusion.world.policies = Policies(journals_from_accounting=True)
    caller.post(
        invoice(InvoiceCurrency="EUR", ConversionRateType="User", ConversionRate="1.1", ConversionDate="2026-11-10")
    )
    caller.act("validateInvoice", InvoiceNumber="INV-1")
    assert fusion.create_accounting() == 1
    (batch,) = caller.items("journalBatches", orderBy="JeBatchId:desc", limit=1)
    assert (batch["RunningTotalDr"], batch["RunningTotalAccountedCr"]) == (30, 33)
