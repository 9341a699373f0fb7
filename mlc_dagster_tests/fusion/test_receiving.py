"""How much of an answer is read, and in which packing."""

import gzip
import tracemalloc
from typing import Any

import pytest

from mlc_dagster.fusion import invoices
from mlc_dagster.fusion.errors import OutcomeUnknown, RemoteDown, ResponseInvalid
from mlc_dagster_tests.fusion.raw_server import (
    BODY,
    Connection,
    RawServer,
    Received,
    answering,
    collection,
    in_loop,
)


async def empty(received: Received, connection: Connection) -> None:
    await connection.answer(200, collection([], received))


LIMIT = 64 * 1024
BOMB = gzip.compress(bytes(200 * 1024 * 1024), 9)
GZIP = {"Content-Encoding": "gzip"}


async def chunked(connection: Connection, body: bytes, headers: str = "") -> None:
    connection.writer.write(
        f"HTTP/1.1 200 X\r\nContent-Type: application/json\r\n{headers}Transfer-Encoding: chunked\r\n\r\n".encode()
    )
    connection.writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))


async def endless(received: Received, connection: Connection) -> None:
    """A body without an announced length."""
    await chunked(connection, b" " * (LIMIT + 1))


async def bomb(received: Received, connection: Connection) -> None:
    await connection.answer(200, raw=BOMB, headers=GZIP)


@pytest.mark.parametrize(
    "script", [answering(200, raw=b"{}", claimed_length=LIMIT + 1), endless, bomb], ids=["announced", "endless", "bomb"]
)
@in_loop
async def test_an_answer_over_the_limit_is_refused_at_once(script: Any) -> None:
    """Asked again it would come again; the error names the setting."""
    async with RawServer(script) as server, server.client(max_response_bytes=LIMIT) as client:
        with pytest.raises(ResponseInvalid, match=rf"larger than {LIMIT} bytes.*fusion\.max_response_bytes"):
            await client.read("ledgersLOV")
    assert len(server.received) == 1


@in_loop
async def test_a_bomb_is_not_unpacked() -> None:
    """200 KB that unpack to 200 MB: memory stays near the limit, whatever is announced."""
    limit = 1024 * 1024
    async with RawServer(bomb) as server, server.client(max_response_bytes=limit) as client:
        tracemalloc.start()
        try:
            with pytest.raises(ResponseInvalid):
                await client.read("ledgersLOV")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 10 * limit


@in_loop
async def test_an_answer_up_to_the_limit_is_read() -> None:
    """Whole, packed or not."""
    body = b"[" + b" " * (LIMIT - 2) + b"]"

    async def script(received: Received, connection: Connection) -> None:
        packed = received.path == "packed"
        await connection.answer(200, raw=gzip.compress(body) if packed else body, headers=GZIP if packed else {})

    async with RawServer(script) as server, server.client(max_response_bytes=LIMIT) as client:
        plain = await client.read("plain")
        packed = await client.read("packed")
    assert plain.content == packed.content == body
    assert server.received[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("body", "encoding", "words"),
    [
        (gzip.compress(b"[]" * 999, mtime=0)[:-9], "gzip", "cut off"),
        (gzip.compress(b"[]", mtime=0) + gzip.compress(b"[]", mtime=0), "gzip", "goes on after"),
        (b"[]", "gzip", "damaged"),
        (gzip.compress(gzip.compress(b"[]", mtime=0), mtime=0), "gzip, gzip", "not asked for"),
        (b"[]", "br", "not asked for"),
    ],
    ids=["cut", "two-members", "not-gzip", "twice", "brotli"],
)
@in_loop
async def test_a_body_that_is_packed_wrongly_is_no_answer(body: bytes, encoding: str, words: str) -> None:
    """Half of a page must never pass for a page; read again, since a line may have dropped."""
    script = answering(200, raw=body, headers={"Content-Encoding": encoding})
    async with RawServer(script) as server, server.client() as client:
        with pytest.raises(RemoteDown, match=words):
            await client.read("ledgersLOV")
    assert len(server.received) == 6


@in_loop
async def test_a_write_with_too_large_an_answer_has_an_unknown_outcome() -> None:
    """Fusion may have stored the invoice; only a look-up tells."""
    async with RawServer(bomb) as server, server.client(max_response_bytes=LIMIT) as client:
        with pytest.raises(OutcomeUnknown, match="larger than"):
            await invoices.create(client, BODY, before_first_byte=lambda: None)
    assert len(server.received) == 1


@in_loop
async def test_the_token_endpoint_has_a_smaller_limit() -> None:
    """A token is a few kilobytes; whoever sends megabytes there is no token endpoint."""
    huge = answering(200, raw=b" " * (300 * 1024))
    async with RawServer(empty, token_script=huge) as server, server.client() as client:
        with pytest.raises(RemoteDown, match="larger than 262144 bytes"):
            await client.read("ledgersLOV")
    assert len(server.token_requests) == 1
