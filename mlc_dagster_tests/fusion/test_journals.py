"""Journals as records: what is read of them, and that a change anywhere in one is found."""

import datetime as dt
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from mlc_dagster.fusion.client import Exchange
from mlc_dagster.fusion.errors import ResponseInvalid
from mlc_dagster.fusion.journals import JOURNALS
from mlc_dagster.fusion.records import Journal, Read, canonical
from mlc_dagster.sandbox import seed_documents
from mlc_dagster.sandbox.fusion.journals import JournalEntry
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.fusion.document_reading import TODAY, by_id, changed, connect, journal_batch, line, serving
from mlc_dagster_tests.fusion.raw_server import RawServer, in_loop

DEBIT = ("101-4410-61200-000-000-000", "100.10", None)
CREDIT = ("101-0000-22100-000-000-000", None, "100.10")
AT = dt.datetime(2026, 11, 20, 10, 0, tzinfo=dt.UTC)
QUARTER = dt.timedelta(minutes=15)


@pytest.fixture
def sandbox() -> Iterator[FusionSandbox]:
    with FusionSandbox(Seed(20, TODAY)) as running:
        yield running


def journal(read: Read) -> Journal:
    assert isinstance(read.content, Journal)
    return read.content


async def one_line(**attributes: Any) -> Journal:
    """A journal whose only line is as given."""
    rows = [line(1, **attributes)]
    async with RawServer(serving(journal_batch(rows), rows)) as server, server.client() as client:
        return journal((await by_id(client, JOURNALS, 7))[0])


@in_loop
async def test_journals_read_the_same_in_every_framework_version(sandbox: FusionSandbox) -> None:
    """Arrays or collections, numbers or text: the same journal, the same hash, or every journal is sent again."""
    read_in: list[list[bytes]] = []
    for version in (2, 3, 4, 9):
        async with connect(sandbox, framework_version=version) as client:
            reads = await changed(client, JOURNALS)
        assert len({read.record_id for read in reads}) == len(reads) > 5
        read_in.append(sorted(canonical(read.content) for read in reads))
    assert read_in[0] == read_in[1] == read_in[2] == read_in[3]


@in_loop
async def test_journal_has_its_batch_header_and_lines(sandbox: FusionSandbox) -> None:
    """Ledger, period, batch, source, accounts and both amounts are what a partner books by."""
    batch = sandbox.world.add_journal_batch(
        "Accruals 11", [DEBIT, CREDIT], currency="EUR", rate="1.085", rate_type="User", effective_date="2026-11-20"
    )
    async with connect(sandbox) as client:
        (read,) = await by_id(client, JOURNALS, batch)
    found = journal(read)
    assert (read.source, read.fusion_id, read.record_id) == ("journals", batch, f"{batch}/{found.ledger}/{found.name}")
    assert (found.batch_name, found.status, found.ledger, found.period) == (
        "Accruals 11",
        "P",
        "US Primary Ledger",
        "Nov-26",
    )
    assert (found.currency, found.effective_date) == ("EUR", dt.date(2026, 11, 20))
    assert isinstance(found.posted_date, dt.date)
    debit, credit = found.lines
    assert (debit.line_number, debit.account_combination, debit.entered_dr) == (1, DEBIT[0], Decimal("100.1"))
    assert (credit.entered_dr, credit.entered_cr, credit.accounted_cr) == (None, Decimal("100.1"), Decimal("108.61"))


@in_loop
async def test_each_journal_of_a_batch_is_a_record(sandbox: FusionSandbox) -> None:
    """More journals than a nested page holds, each with its own name; a partner's journal is not our batch."""
    entries = [JournalEntry(lines=[DEBIT, CREDIT], name=f"J{number:02d}") for number in range(30)]
    batch = sandbox.world.add_journal_batch("Many", journals=entries)
    async with connect(sandbox) as client:
        reads = await by_id(client, JOURNALS, batch)
    assert [journal(read).name for read in reads] == [entry.name for entry in entries]
    assert {len(journal(read).lines) for read in reads} == {2}
    assert {read.fusion_id for read in reads} == {batch}


@in_loop
async def test_every_line_of_a_large_journal_is_read(sandbox: FusionSandbox) -> None:
    """Opaque keys, several pages side by side: each line once, in its order."""
    (batch,) = sandbox.world.load_journals(1, 1203)
    async with connect(sandbox, page_size=100) as client:
        (read,) = await by_id(client, JOURNALS, batch)
    assert [row.line_number for row in journal(read).lines] == list(range(1, 1204))


@in_loop
async def test_line_changed_without_its_batch_is_found(sandbox: FusionSandbox) -> None:
    """A line's change need not move the batch's date; asked by the batch's alone it would never be sent."""
    batch = sandbox.world.add_journal_batch("Old", [DEBIT, CREDIT], last_update_date=AT - QUARTER)
    sandbox.world.set_clock(lambda: AT)
    sandbox.world.change_journal_line(batch, 1, {"Description": "corrected"}, touch_parent=False)
    async with connect(sandbox) as client:
        (read,) = await changed(client, JOURNALS, AT, AT + QUARTER)
        without = await changed(client, JOURNALS, AT, AT + QUARTER, child_dates=False)
    assert journal(read).lines.column("description")[0] == "corrected"
    assert read.last_update_date == AT
    assert without == []


@in_loop
async def test_document_changed_at_several_levels_comes_once(sandbox: FusionSandbox) -> None:
    """Batch, header and line are asked for one by one; the same journal twice would be two versions."""
    batch = sandbox.world.add_journal_batch("Twice", [DEBIT, CREDIT], last_update_date=AT)
    async with connect(sandbox) as client:
        reads = await changed(client, JOURNALS, AT, AT + dt.timedelta(seconds=1))
    assert [read.fusion_id for read in reads] == [batch]


@in_loop
async def test_ids_that_are_gone_are_absent(sandbox: FusionSandbox) -> None:
    """An unposted batch may be deleted; that is for the caller to judge."""
    ids = [*sandbox.world.load_journals(120, 2)]
    async with connect(sandbox) as client:
        reads = await by_id(client, JOURNALS, *ids, 1, 2)
    assert sorted(read.fusion_id for read in reads) == ids


@in_loop
async def test_small_journals_take_few_requests(sandbox: FusionSandbox) -> None:
    """Children come along with their parents; one request per journal would take hours at month end."""
    requests: list[Exchange] = []
    sandbox.world.load_journals(1000, 10, last_update_date=AT)
    async with connect(sandbox, report=requests.append) as client:
        reads = await changed(client, JOURNALS, AT, AT + QUARTER)
    assert sum(len(journal(read).lines) for read in reads) == 10_000
    assert len(requests) < 40


@in_loop
async def test_statistical_amounts_are_carried(sandbox: FusionSandbox) -> None:
    """Headcount is booked in STAT; it has no other column to be in."""
    async with connect(sandbox) as client:
        reads = [journal(read) for read in await changed(client, JOURNALS)]
    found = next(read for read in reads if read.batch_name == seed_documents.STAT_BATCH)
    assert found.currency == "STAT"
    assert any(row.stat_amount or row.entered_dr for row in found.lines)
    assert (await one_line(StatAmount="12.50")).lines.column("stat_amount")[0] == Decimal("12.5")


@pytest.mark.parametrize(
    ("wire", "spelling"),
    [
        (100, "100"),
        ("100.00", "100"),
        ("1E+2", "100"),
        ("-0.00", "0"),
        ("0.10", "0.1"),
        ("1180.55", "1180.55"),
        ("12345678901234567890.12", "12345678901234567890.12"),
    ],
)
@in_loop
async def test_amount_has_one_spelling_whatever_the_wire_writes(wire: Any, spelling: str) -> None:
    """100, 100.00 and 1E+2 are one amount; two spellings would be two hashes, and the journal sent twice."""
    document = json.loads(canonical(await one_line(EnteredDr=wire)))
    assert document["journalLines"]["EnteredDr"] == spelling


@in_loop
async def test_amount_that_is_none_is_refused() -> None:
    """Decimal lets NaN through, and every comparison with it is false."""
    with pytest.raises(ResponseInvalid, match="NaN is not an amount"):
        await one_line(EnteredDr="NaN")


@in_loop
async def test_unknown_attributes_are_passed_over() -> None:
    """Every quarterly release adds some; they must not change a hash either."""
    assert canonical(await one_line(NewInRelease27A={"a": [1]})) == canonical(await one_line())


@in_loop
async def test_order_in_which_lines_come_does_not_show() -> None:
    """Nested rows come in Fusion's order, paged ones in ours; the hash must not know the difference."""
    rows = [line(3), line(1), line(2)]
    async with RawServer(serving(journal_batch(rows), rows)) as server, server.client() as client:
        (read,) = await by_id(client, JOURNALS, 7)
    assert [row.line_number for row in journal(read).lines] == [1, 2, 3]
