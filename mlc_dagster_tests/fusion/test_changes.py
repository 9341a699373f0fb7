"""What changed is read whole: no row is skipped or doubled by what happens meanwhile, none is lost at the edges."""

import asyncio
import datetime as dt
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from mlc_dagster.fusion import documents
from mlc_dagster.fusion.changes import ChildDatesRefused, between, fusion_now, keyset_pages
from mlc_dagster.fusion.client import Exchange, FusionClient
from mlc_dagster.fusion.errors import ResponseInvalid
from mlc_dagster.fusion.journals import JOURNALS
from mlc_dagster.sandbox.seed import Seed
from mlc_dagster.sandbox.server import FusionSandbox
from mlc_dagster_tests.fusion.document_reading import EVER, TODAY, above, changed, connect, journal_batch, line
from mlc_dagster_tests.fusion.raw_server import Connection, RawServer, Received, Script, collection, in_loop

PATH = "journalBatches"


class Row(msgspec.Struct):
    batch_id: int = msgspec.field(name="JeBatchId")


class Dated(Row):
    last_update_date: str | None = msgspec.field(name="LastUpdateDate", default=None)


def batches(ids: Any) -> list[dict[str, Any]]:
    return [{"JeBatchId": number} for number in ids]


def serving(rows: list[dict[str, Any]], *, cap: int | None = None, **lies: Any) -> Script:
    async def script(received: Received, connection: Connection) -> None:
        found = above(rows, "JeBatchId", received)
        total = {"totalResults": len(found)} if "totalResults" in received.params else {}
        await connection.answer(200, collection(found, received, cap=cap, **{**total, **lies}))

    return script


@in_loop
async def test_rows_that_are_none_are_told_and_passed() -> None:
    """Also a whole page of them in the middle: what comes behind it is still read."""
    rows = batches(range(1, 31))
    odd = {3, *range(6, 11), 30}
    for row in rows:
        if row["JeBatchId"] in odd:
            row["LastUpdateDate"] = {"not": "a date"}
    told: dict[int, str] = {}
    async with RawServer(serving(rows)) as server, server.client() as client:
        found = await read(client, Dated, limit=5, unreadable=lambda key, text: told.update({key: text}))
    assert found == [number for number in range(1, 31) if number not in odd]
    assert told.keys() == odd
    assert "$.LastUpdateDate" in told[3]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"BatchName": ["no", "text"]}, "$.BatchName"),
        ({"BatchName": "N\0L"}, "NUL"),
        ({"BatchName": "half \ud800"}, "half of a surrogate pair"),
        ({"BatchName": "the other half \udfff and more"}, "half of a surrogate pair"),
        ({"Undeclared": {"\udc00": 1}}, "half of a surrogate pair"),
        ({"BatchName": {}, "Undeclared": 10**400}, "$.BatchName"),
        ({"LastUpdateDate": {}}, "$.LastUpdateDate"),
    ],
)
@in_loop
async def test_a_document_of_another_shape_does_not_keep_its_page(fault: dict[str, Any], told: str) -> None:
    """A release that makes a list of a name: one batch waits until somebody has looked, the page's others go."""
    odd = {**journal_batch([line(1)]), "JeBatchId": 8, **fault}
    asides: list[documents.Unreadable] = []
    async with RawServer(serving([journal_batch([line(1)]), odd])) as server, server.client() as client:
        below = "LastUpdateDate" in fault  # The list of ids must not stumble over it either.
        pages = documents.changed(client, JOURNALS, *EVER, child_dates=below, set_aside=asides.append)
        assert [read.fusion_id async for page in pages for read in page] == [7]
    assert [aside.fusion_id for aside in asides] == [8]
    assert told in asides[0].text


@in_loop
async def test_half_a_character_beside_the_rows_sets_none_aside() -> None:
    """The page is unreadable for it; its rows are not."""
    rows = batches(range(1, 8))
    rows[3]["BatchName"] = "a whole pair \U0001f600"
    told: dict[int, str] = {}
    async with RawServer(serving(rows, title="\ud800")) as server, server.client() as client:
        assert await read(client, limit=5, unreadable=lambda key, text: told.update({key: text})) == [*range(1, 8)]
    assert told == {}


@in_loop
async def test_a_row_without_an_id_is_an_error_all_the_same() -> None:
    """Nobody could say what was passed over."""
    rows = [*batches([1, 2]), {"JeBatchId": None}]
    async with RawServer(serving(rows[:2])) as server, server.client() as client:
        assert await read(client, limit=5) == [1, 2]

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(200, {"items": rows, "count": 3, "hasMore": False})

    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(ResponseInvalid):
            await read(client, limit=5, unreadable=lambda key, text: None)


async def read(client: FusionClient, row_type: type[Row] = Row, **how: Any) -> list[int]:
    pages = keyset_pages(client, PATH, row_type, key="JeBatchId", **how)
    return [row.batch_id async for page in pages for row in page]


@pytest.fixture
def sandbox() -> Iterator[FusionSandbox]:
    with FusionSandbox(Seed(20, TODAY)) as running:
        yield running


@pytest.mark.parametrize(
    "lies",
    [
        {},
        {"hasMore": False},
        {"hasMore": True},
        {"totalResults": 3},
        {"totalResults": 3, "hasMore": False},
        {"totalResults": 9999},
        {"limit": 500},
        {"count": 1},
    ],
)
@in_loop
async def test_every_row_is_read_once_whatever_the_hints_say(lies: dict[str, Any]) -> None:
    """HasMore has been seen wrong both ways and totalResults capped; a row skipped is a journal never exported."""
    ids = list(range(100, 160, 3))
    async with RawServer(serving(batches(ids), **lies)) as server, server.client() as client:
        assert sorted(await read(client, limit=3)) == ids


@pytest.mark.parametrize(
    "ids",
    [range(1, 400), [*range(1, 50), *range(10**15, 10**15 + 300)], [5, 6, 300000070001000], [*range(1, 300), 10**17]],
    ids=["even", "two clusters", "few", "far outlier"],
)
@in_loop
async def test_ranges_read_side_by_side_leave_no_gap(ids: Any) -> None:
    """Ids come in clusters; however the ranges are cut, each row is in exactly one."""
    async with RawServer(serving(batches(ids), cap=10)) as server, server.client() as client:
        assert sorted(await read(client, limit=20)) == list(ids)


@pytest.mark.parametrize("lies", [{}, {"hasMore": False}, {"totalResults": 7}])
@in_loop
async def test_short_page_alone_is_no_end(lies: dict[str, Any]) -> None:
    """499 rows come where 500 were asked for, and the answer says 500: there are more behind them."""
    ids = list(range(1, 40))
    async with RawServer(serving(batches(ids), cap=7, limit=20, **lies)) as server, server.client() as client:
        assert sorted(await read(client, limit=20)) == ids


@in_loop
async def test_short_last_page_saves_the_request_for_the_empty_one() -> None:
    """Three signs together are enough; at a poll every few minutes that is half of all requests."""
    async with RawServer(serving(batches(range(1, 4)))) as server, server.client() as client:
        assert await read(client, limit=10) == [1, 2, 3]
    assert len(server.received) == 1


@in_loop
async def test_server_that_ignores_the_key_condition_is_noticed() -> None:
    """Rows that were not asked for mean that others may be missing."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(200, collection(batches(range(1, 20)), received, hasMore=True))

    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(ResponseInvalid, match="JeBatchId 1 came after 5"):
            await read(client, limit=5)


@in_loop
async def test_reader_that_stops_early_leaves_nothing_running() -> None:
    """A run that fails at its first page must not go on asking Fusion for the rest."""
    async with RawServer(serving(batches(range(1, 2000)))) as server, server.client() as client:
        pages = keyset_pages(client, PATH, Row, key="JeBatchId", limit=5)
        async for _ in pages:
            break
        await pages.aclose()
        asked = len(server.received)
        assert await read(client, q="JeBatchId > 1998") == [1999]
    assert asked < 100
    assert len(server.received) == asked + 1


def test_range_is_widened_to_whole_seconds_of_utc() -> None:
    """A filter that knows seconds only would lose the last part of a second at either edge."""
    zone = dt.timezone(dt.timedelta(hours=1))
    start = dt.datetime(2026, 11, 20, 11, 0, 0, 700_000, tzinfo=zone)
    end = dt.datetime(2026, 11, 20, 11, 15, 0, 1, tzinfo=zone)
    assert between("LastUpdateDate", start, end) == (
        "LastUpdateDate >= '2026-11-20T10:00:00.000Z' and LastUpdateDate < '2026-11-20T10:15:01.000Z'"
    )


@in_loop
async def test_clock_is_the_date_header(sandbox: FusionSandbox) -> None:
    """Windows close by Fusion's clock; ours may be minutes off."""
    sandbox.world.set_clock(lambda: dt.datetime(2026, 11, 20, 12, 30, 5, tzinfo=dt.UTC))
    async with connect(sandbox) as client:
        assert await fusion_now(client) == dt.datetime(2026, 11, 20, 12, 30, 5, tzinfo=dt.UTC)


@pytest.mark.parametrize("headers", [{}, {"Date": "yesterday"}])
@in_loop
async def test_answer_without_a_date_closes_no_window(headers: dict[str, str]) -> None:
    """Guessing the time would close windows that Fusion still writes into."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(200, {"items": [], "count": 0}, headers=headers)

    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(ResponseInvalid, match="Fusion's clock"):
            await fusion_now(client)


@in_loop
async def test_row_updated_while_being_paged_costs_no_other_row(sandbox: FusionSandbox) -> None:
    """With offsets, a row that leaves the window shifts the rest by one, and one is never seen."""
    at = dt.datetime(2026, 11, 20, 10, 0, tzinfo=dt.UTC)
    ids = list(sandbox.world.load_journals(40, 2, last_update_date=at))
    window = at, at + dt.timedelta(minutes=15)
    later = at + dt.timedelta(hours=1)
    sandbox.world.after_page("journalBatches", 4, lambda world: world.touch("journalBatches", ids[:3], at=later))
    async with connect(sandbox, page_size=5) as client:
        first = {read.fusion_id for read in await changed(client, JOURNALS, *window)}
        moved = [read.fusion_id for read in await changed(client, JOURNALS, later, later + dt.timedelta(minutes=15))]
    assert first >= set(ids[3:])
    assert first | set(moved) == set(ids)
    assert sorted(moved) == ids[:3]


@in_loop
async def test_rows_of_the_same_timestamp_are_all_read(sandbox: FusionSandbox) -> None:
    """Journal import writes thousands with one date; paging by date would lose those at a page's end."""
    at = dt.datetime(2026, 11, 20, 10, 0, tzinfo=dt.UTC)
    ids = list(sandbox.world.load_journals(64, 2, last_update_date=at))
    async with connect(sandbox, page_size=7) as client:
        found = [read.fusion_id for read in await changed(client, JOURNALS, at, at + dt.timedelta(seconds=1))]
        after = await changed(client, JOURNALS, at + dt.timedelta(seconds=1), at + dt.timedelta(hours=1))
    assert sorted(found) == ids
    assert after == []


@in_loop
async def test_row_that_becomes_visible_late_is_found_by_an_overlapping_range(sandbox: FusionSandbox) -> None:
    """A long transaction commits with the time it began; the window of that time was read before."""
    at = dt.datetime(2026, 11, 20, 10, 0, tzinfo=dt.UTC)
    sandbox.world.load_journals(2, 2, last_update_date=at)
    quarter = dt.timedelta(minutes=15)
    async with connect(sandbox) as client:
        first = {read.fusion_id for read in await changed(client, JOURNALS, at, at + quarter)}
        late = sandbox.world.add_journal_batch(
            "Late",
            [("101-4410-61200-000-000-000", "1.00", None), ("101-0000-22100-000-000-000", None, "1.00")],
            last_update_date=at + dt.timedelta(minutes=14),
        )
        next_alone = {read.fusion_id for read in await changed(client, JOURNALS, at + quarter, at + 2 * quarter)}
        overlapping = {read.fusion_id for read in await changed(client, JOURNALS, at, at + 2 * quarter)}
    assert late not in first | next_alone
    assert overlapping == first | {late}


@in_loop
async def test_listing_reads_ids_and_dates_only(sandbox: FusionSandbox) -> None:
    """The sweep compares a week of ids every day; it must not read the documents for that."""
    at = dt.datetime(2026, 11, 20, 10, 0, tzinfo=dt.UTC)
    ids = list(sandbox.world.load_journals(5, 30, last_update_date=at))
    requests: list[Exchange] = []
    async with connect(sandbox, report=requests.append) as client:
        found = await documents.listed(client, JOURNALS, at, at + dt.timedelta(minutes=1))
    assert [(row.fusion_id, row.last_update_date) for row in found] == [(number, at) for number in ids]
    assert [request.method for request in requests] == ["POST", "GET"]


def refusing_child_dates(status: int) -> Script:
    async def script(received: Received, connection: Connection) -> None:
        if re.search(r"journalHeaders\.", received.params.get("q", "")):
            await connection.answer(
                status, {"title": "Bad Request", "o:errorDetails": [{"detail": "unknown attribute"}]}
            )
        else:
            found = above([journal_batch([line(1)])], "JeBatchId", received)
            await connection.answer(200, collection(found, received))

    return script


@in_loop
async def test_refused_child_dates_name_the_setting() -> None:
    """Some pods do not offer the attribute for queries; whoever runs it needs to know what to switch, and its price."""
    async with RawServer(refusing_child_dates(400)) as server, server.client() as client:
        with pytest.raises(ChildDatesRefused, match=r"outbound\.child_dates: false"):
            await changed(client, JOURNALS)
        assert [read.fusion_id for read in await changed(client, JOURNALS, child_dates=False)] == [7]


@in_loop
async def test_caller_that_stops_leaves_no_request_under_way(sandbox: FusionSandbox) -> None:
    """A full disk ends the reading; tasks that outlive the client would end in noise after the real error."""
    sandbox.world.load_journals(60, 40)
    async with connect(sandbox, page_size=5) as client:
        pages = documents.changed(client, JOURNALS, *EVER, child_dates=True)
        async for _ in pages:
            break
        await pages.aclose()
        assert client.limiter.in_flight == 0
        assert len(asyncio.all_tasks()) == 1
