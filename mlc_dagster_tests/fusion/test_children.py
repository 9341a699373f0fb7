"""Nested collections are read to their end, and their end is proven: the first 25 lines are not the journal."""

from typing import Any

import pytest

from mlc_dagster.fusion import documents
from mlc_dagster.fusion.errors import ResponseInvalid
from mlc_dagster.fusion.journals import JOURNALS
from mlc_dagster.fusion.records import Journal, Read
from mlc_dagster_tests.fusion.document_reading import by_id, journal_batch, line, lines, serving, totals
from mlc_dagster_tests.fusion.raw_server import Connection, RawServer, Received, Script, collection, in_loop


async def numbers(script: Script, **settings: Any) -> list[int]:
    """Line numbers of the one journal served."""
    async with RawServer(script) as server, server.client(**settings) as client:
        return _numbers(await by_id(client, JOURNALS, 7))


def _numbers(reads: list[Read]) -> list[int]:
    (read,) = reads
    assert isinstance(read.content, Journal)
    return [row.line_number for row in read.content.lines]


@pytest.mark.parametrize("count", [1, 24, 25, 26, 60, 1000])
@in_loop
async def test_lines_beyond_the_nested_page_are_read(count: int) -> None:
    """A client that trusts the 25 rows that come with their parent exports half a journal, balanced or not."""
    rows = lines(count)
    assert await numbers(serving(journal_batch(rows), rows), page_size=100) == list(range(1, count + 1))


@pytest.mark.parametrize(
    "lies",
    [
        {"hasMore": False},
        {"hasMore": True},
        {"totalResults": 50},
        {"totalResults": 50, "hasMore": False},
        {"totalResults": None},
        {"limit": 500},
    ],
)
@pytest.mark.parametrize("proven", [False, True], ids=["no totals", "totals"])
@in_loop
async def test_all_lines_are_read_whatever_the_hints_say(lies: dict[str, Any], proven: bool) -> None:
    """Each sign of the end has been seen wrong: hasMore both ways, totalResults capped."""
    rows = lines(120)
    batch = journal_batch(rows, **(totals(rows) if proven else {}))
    assert await numbers(serving(batch, rows, **lies), page_size=50) == list(range(1, 121))


@in_loop
async def test_capped_page_leaves_no_gap_between_offsets() -> None:
    """The server gives fewer rows than asked for; offsets by our own page size would skip the rest."""
    rows = lines(200)
    assert await numbers(serving(journal_batch(rows), rows, cap=30), page_size=100) == list(range(1, 201))


@pytest.mark.parametrize("lies", [{}, {"hasMore": False}, {"totalResults": 30}])
@in_loop
async def test_short_page_alone_is_not_the_last(lies: dict[str, Any]) -> None:
    """The server caps the page and does not say so: neither its shortness nor one hint beside it ends the journal."""
    rows = lines(200)
    script = serving(journal_batch(rows), rows, cap=30, limit=100, **lies)
    assert await numbers(script, page_size=100) == list(range(1, 201))


@pytest.mark.parametrize("nested", [None, [], {"count": 0, "hasMore": False}], ids=["absent", "array", "no items"])
@in_loop
async def test_children_that_did_not_come_are_none_only_if_fusion_says_so(nested: Any) -> None:
    """An absent collection proves nothing; an empty one does."""
    rows = lines(3)
    batch = journal_batch(rows, nested=nested)
    if nested is None:
        del batch["journalHeaders"]["items"][0]["journalLines"]
    assert await numbers(serving(batch, rows)) == ([1, 2, 3] if nested is None else [])


@pytest.mark.parametrize("count", [3, 24, 25, 40])
@in_loop
async def test_array_of_exactly_a_nested_page_is_read_again(count: int) -> None:
    """Framework versions before 3 send arrays, which cannot say whether they are all."""
    rows = lines(40)
    batch = journal_batch(rows, nested=rows[:count])
    expected = 40 if count == 25 else count
    assert await numbers(serving(batch, rows)) == list(range(1, expected + 1))


@in_loop
async def test_running_totals_uncover_lines_left_out() -> None:
    """The nested page claims to be all, and is not; the header's own sum is what tells."""
    rows = lines(12)
    short = {"items": rows[:10], "count": 10, "hasMore": False, "limit": 25, "offset": 0}
    batch = journal_batch(rows, nested=short, **totals(rows))
    assert await numbers(serving(batch, rows)) == list(range(1, 13))


@in_loop
async def test_lines_that_contradict_their_header_are_no_journal() -> None:
    """Read again and still not the header's sum: better an error with the journal's name than a wrong file."""
    rows = lines(40)
    batch = journal_batch(rows, RunningTotalDr="1.00", RunningTotalCr="1.00")
    async with RawServer(serving(batch, rows)) as server, server.client() as client:
        with pytest.raises(ResponseInvalid, match=r"journal 'J' of ledger 'L': its 40 lines .* RunningTotalDr 1\.00"):
            await by_id(client, JOURNALS, 7)
        readings = [
            request
            for request in server.received
            if request.path == "journalBatches" and "JeBatchId >" not in request.params["q"]
        ]
    assert len(readings) == 2


@in_loop
async def test_journal_that_changes_while_it_is_read_is_read_again() -> None:
    """An unposted journal is edited between header and lines: both are read anew, and then they agree."""
    before, after = lines(40), [*lines(40), line(41)]
    seen = 0

    async def script(received: Received, connection: Connection) -> None:
        nonlocal seen
        if received.path == "journalBatches":
            rows = before if seen == 0 else after
            seen += 1
            await connection.answer(200, collection([journal_batch(rows, **totals(rows))], received, totalResults=1))
        else:
            await connection.answer(200, collection(after, received, totalResults=len(after)))

    assert await numbers(script) == list(range(1, 42))


@in_loop
async def test_line_that_comes_twice_is_not_exported_twice() -> None:
    """Without a stable order pages overlap: one line double, one missing, the count right. Read again, in order."""
    rows = lines(100)
    pages: list[int] = []

    async def script(received: Received, connection: Connection) -> None:
        if received.path == "journalBatches":
            await connection.answer(200, collection([journal_batch(rows)], received, totalResults=1))
            return
        offset = int(received.params["offset"])
        # The second page, when first asked for, begins with the last row of the page before.
        shifted = [rows[0], *rows[:99]] if offset == 50 and offset not in pages else rows
        pages.append(offset)
        await connection.answer(200, collection(shifted, received, totalResults=100))

    assert await numbers(script, page_size=50) == list(range(1, 101))


@in_loop
async def test_collection_that_never_holds_still_is_an_error() -> None:
    """Tries are bounded; what was read in between is not a journal anybody booked."""
    count = 60

    async def script(received: Received, connection: Connection) -> None:
        nonlocal count
        count += 1
        rows = lines(60)
        if received.path == "journalBatches":
            await connection.answer(200, collection([journal_batch(rows)], received, totalResults=1))
        else:
            doubled = [rows[0], *rows]
            await connection.answer(200, collection(doubled, received, totalResults=count))

    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(ResponseInvalid, match="journalLines did not hold still over 3 readings"):
            await by_id(client, JOURNALS, 7)


@in_loop
async def test_row_without_its_link_says_what_is_missing() -> None:
    """The key of a journal is opaque; guessing an address could read another journal's lines."""
    rows = lines(40)
    batch = journal_batch(rows)
    del batch["journalHeaders"]["items"][0]["links"]
    async with RawServer(serving(batch, rows)) as server, server.client() as client:
        with pytest.raises(ResponseInvalid, match="without its self link"):
            await by_id(client, JOURNALS, 7)


@in_loop
async def test_links_of_later_framework_versions_are_found() -> None:
    """From some version on links are in @context; the lines hang on them."""
    rows = lines(40)
    batch = journal_batch(rows)
    header = batch["journalHeaders"]["items"][0]
    header["@context"] = {"links": header.pop("links")}
    assert await numbers(serving(batch, rows)) == list(range(1, 41))


@in_loop
async def test_a_count_that_is_missing_takes_a_second_reading() -> None:
    """Without a count a row that moved between two pages would not be missed: two readings must be alike."""
    rows = lines(60)
    asked: list[str] = []

    async def script(received: Received, connection: Connection) -> None:
        if received.path.endswith("/child/journalLines"):
            asked.append(received.params["offset"])
        await serving(journal_batch(rows), rows, totalResults=None)(received, connection)

    assert await numbers(script, page_size=50) == list(range(1, 61))
    assert asked.count("0") == 2


@in_loop
async def test_lines_that_come_twice_with_their_parent_are_read_from_their_own_address() -> None:
    """A nested page that shows a line twice has left out another."""
    rows = lines(3)
    twice = {"items": [rows[0], rows[0], rows[2]], "count": 3, "hasMore": False, "limit": 25, "offset": 0}
    assert await numbers(serving(journal_batch(rows, nested=twice), rows)) == [1, 2, 3]


@in_loop
async def test_amounts_that_cannot_be_added_set_their_document_aside() -> None:
    """Nothing is rounded, and one absurd journal does not end the read of all."""
    most, least = "9" * 30, f"0.{'0' * 47}1"
    rows = [line(1, EnteredDr=least), *(line(number, EnteredDr=most) for number in range(3, 259, 2))]
    asides: list[documents.Unreadable] = []
    batch = journal_batch(rows, RunningTotalDr=1, RunningTotalCr=0)
    async with RawServer(serving(batch, rows)) as server, server.client() as client:
        pages = documents.by_id(client, JOURNALS, [7], set_aside=asides.append)
        assert [read async for page in pages for read in page] == []
    assert "cannot be added without rounding" in asides[0].text


@in_loop
async def test_only_attributes_that_are_kept_are_asked_for() -> None:
    """Hundreds of thousands of lines: what nobody reads need not be sent."""
    rows = lines(60)
    asked: list[str | None] = []

    async def script(received: Received, connection: Connection) -> None:
        if received.path.endswith("/child/journalLines"):
            asked.append(received.params.get("fields"))
        await serving(journal_batch(rows), rows)(received, connection)

    assert await numbers(script, page_size=50) == list(range(1, 61))
    names = {name for text in asked for name in (text or "").split(",")}
    assert {"JeLineNumber", "EnteredDr", "Reference5", "LastUpdateDate"} <= names
    assert "CreatedBy" not in names


@in_loop
async def test_a_release_without_some_attribute_is_read_with_whole_rows() -> None:
    """Named in fields it is refused; left to Fusion it is absent. Found out once, not for every journal."""
    rows = lines(60)
    asked: list[str | None] = []

    async def script(received: Received, connection: Connection) -> None:
        if received.path.endswith("/child/journalLines"):
            asked.append(received.params.get("fields"))
            if asked[-1] is not None:
                await connection.answer(400, {"title": "Bad Request", "detail": "fields is not valid: Reference5"})
                return
        await serving(journal_batch(rows), rows)(received, connection)

    async with RawServer(script) as server, server.client(page_size=100) as client:
        for _ in range(2):
            assert _numbers(await by_id(client, JOURNALS, 7)) == list(range(1, 61))
    assert [text is None for text in asked].count(False) == 1
