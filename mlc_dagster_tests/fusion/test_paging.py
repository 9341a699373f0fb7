"""Collections are read to their end whatever the server says about ends."""

from typing import Any

import msgspec
import pytest

from mlc_dagster.fusion.client import FusionClient
from mlc_dagster.fusion.errors import ResponseInvalid
from mlc_dagster_tests.fusion.raw_server import Connection, RawServer, Received, Script, collection, in_loop

ROWS = [{"LedgerId": number} for number in range(1, 8)]


class Row(msgspec.Struct, rename="pascal"):
    ledger_id: int


def serving(rows: list[Any], *, cap: int | None = None, **lies: Any) -> Script:
    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(200, collection(rows, received, cap=cap, **lies))

    return script


async def read_all(client: FusionClient, **how: Any) -> list[int]:
    return [row.ledger_id async for page in client.pages("ledgersLOV", Row, **how) for row in page]


@pytest.mark.parametrize("lies", [{}, {"hasMore": False}, {"hasMore": True}, {"limit": 500}, {"count": 99}])
@in_loop
async def test_every_row_is_read_whatever_the_hints_say(lies: dict[str, Any]) -> None:
    """The hint has been seen false too early and true for ever; a row skipped here is an invoice posted twice."""
    async with RawServer(serving(ROWS, **lies)) as server, server.client() as client:
        assert await read_all(client, limit=3, order_by="LedgerId:asc") == [1, 2, 3, 4, 5, 6, 7]


@in_loop
async def test_offset_advances_by_what_came_not_by_what_was_asked() -> None:
    """The server caps the limit silently; counting by our own limit would skip rows."""
    async with RawServer(serving(ROWS, cap=2)) as server, server.client() as client:
        assert await read_all(client, limit=5) == [1, 2, 3, 4, 5, 6, 7]
    assert [request.params["offset"] for request in server.received] == ["0", "2", "4", "6", "7"]


@in_loop
async def test_empty_page_may_lack_its_items() -> None:
    """The documented shape makes items optional; with count 0 that is an empty page."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(200, {"count": 0, "hasMore": False, "limit": 25, "offset": 0})

    async with RawServer(script) as server, server.client() as client:
        assert await read_all(client) == []


@pytest.mark.parametrize(
    "document", [{}, {"count": 3}, {"error": "x"}, [], {"items": {}}, {"items": [{"LedgerId": "x"}]}, None]
)
@in_loop
async def test_answer_that_is_not_a_page_proves_nothing(document: object) -> None:
    """Taking any JSON without items for "no such invoice" would be a proof of absence out of thin air."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(200, document)

    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(ResponseInvalid):
            await read_all(client)


@in_loop
async def test_server_that_ignores_the_offset_is_noticed() -> None:
    """The same page for ever would be read for ever."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(200, {"items": ROWS, "count": 7, "hasMore": True, "limit": 25, "offset": 0})

    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(ResponseInvalid, match="does not page"):
            await read_all(client)
    assert len(server.received) == 2


@in_loop
async def test_question_arrives_as_it_was_asked() -> None:
    """Blanks, quotes, plus and semicolons of a question survive the way through the address."""
    q = "Name in ('A & b','c+d;e%f') and Id>=1"
    async with RawServer(serving([])) as server, server.client(page_size=321) as client:
        await read_all(client, q=q, fields=["LedgerId", "Name"], order_by="LedgerId:asc", finder="F;a=1,b=2")
    assert server.received[0].params == {
        "onlyData": "true",
        "q": q,
        "finder": "F;a=1,b=2",
        "fields": "LedgerId,Name",
        "orderBy": "LedgerId:asc",
        "limit": "321",
        "offset": "0",
    }


@in_loop
async def test_fields_and_expand_together_are_refused() -> None:
    """Fusion would ignore expand and answer with rows that look childless."""
    async with RawServer(serving([])) as server, server.client() as client:
        with pytest.raises(ValueError, match="expand"):
            await read_all(client, fields="LedgerId", expand="x")
