"""What becomes of an invoice's POST, told apart by what each failure proves: exactly-once posting rests on it."""

import asyncio
import datetime as dt
import socket
import ssl
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractStreamWriter
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mlc_dagster.fusion import invoices
from mlc_dagster.fusion.errors import (
    NotAuthorised,
    NotSent,
    OutcomeUnknown,
)
from mlc_dagster.fusion.transport import Body, Exchange
from mlc_dagster_tests.fusion.raw_server import (
    BODY,
    CREATED,
    Connection,
    RawServer,
    Received,
    Script,
    answering,
    closes,
    failure_of_create,
    in_loop,
    not_called,
)


@in_loop
async def test_created_invoice_comes_back_with_its_body_sent_as_it_was() -> None:
    """The frozen body is the evidence of what was asked for; the transport must not touch it."""
    async with RawServer(answering(201, CREATED)) as server, server.client() as client:
        record = await invoices.create(client, BODY, before_first_byte=lambda: None)
    sent = server.received[0]
    assert (record.invoice_id, record.number, record.amount) == (300000912345671, "NW-1", Decimal("1180.5"))
    assert (sent.method, sent.path, sent.body) == ("POST", "invoices", BODY)
    assert sent.headers["content-length"] == str(len(BODY))
    assert "transfer-encoding" not in sent.headers
    assert sent.headers["rest-framework-version"] == "4"
    assert sent.headers["authorization"] == "Bearer token-1"


@in_loop
async def test_callback_runs_with_token_and_connection_in_hand_and_nothing_sent() -> None:
    """The lease is checked there: any wait between the check and the first byte would make the check worthless."""
    seen: list[tuple[int, int, int]] = []

    async with RawServer(answering(201, CREATED)) as server, server.client() as client:

        def look() -> None:
            seen.append((len(server.token_requests), server.connections, server.bytes_in))

        await invoices.create(client, BODY, before_first_byte=look)
    tokens, connections, bytes_in = seen[0]
    assert (len(seen), tokens, bytes_in) == (1, 1, 0)
    assert connections >= 1


class LeaseGone(Exception):
    pass


@in_loop
async def test_exception_of_the_callback_arrives_unchanged_and_nothing_is_sent() -> None:
    """A sender that woke up late must stop itself; not even headers may reach Fusion."""
    lease_gone = LeaseGone("lease 7 expired")
    reports: list[Exchange] = []

    def lose() -> None:
        raise lease_gone

    async with RawServer(answering(201, CREATED)) as server, server.client(report=reports.append) as client:
        with pytest.raises(LeaseGone) as caught:
            await invoices.create(client, BODY, before_first_byte=lose)
        await asyncio.sleep(0)
        assert server.bytes_in == 0
        assert server.received == []
        # The client still works afterwards.
        await invoices.create(client, BODY, before_first_byte=lambda: None)
    assert caught.value is lease_gone
    assert [report.request_bytes for report in reports if report.path.endswith("/invoices")] == [0, len(BODY)]


@in_loop
async def test_nobody_listening_is_not_sent() -> None:
    """A refused connection proves that Fusion saw nothing; waiting six minutes for it would be waste."""
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{placeholder.getsockname()[1]}"
    async with RawServer(answering(201, CREATED)) as server, server.client(base_url=dead) as client:
        with pytest.raises(NotSent):
            await invoices.create(client, BODY, before_first_byte=not_called)


def untrusted_certificate(folder: Path) -> ssl.SSLContext:
    """A server's TLS with a certificate for localhost that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@in_loop
async def test_untrusted_certificate_is_not_sent(tmp_path: Path) -> None:
    """Certificates are verified, and the body leaves only inside a connection that passed."""
    arrived: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append(await reader.read())
        writer.close()

    listener = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=untrusted_certificate(tmp_path))
    address = f"https://localhost:{listener.sockets[0].getsockname()[1]}"
    async with RawServer(answering(201, CREATED)) as server, server.client(base_url=address) as client:
        with pytest.raises(NotSent, match="authority that is not trusted"):
            await invoices.create(client, BODY, before_first_byte=not_called)
    listener.close()
    assert b"".join(arrived) == b""


@in_loop
async def test_connect_that_takes_too_long_is_not_sent() -> None:
    """The deadline covers connecting; before the first byte it proves absence, after it nothing."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # The one place in the backlog is taken; further connects hang.
        waiting = [socket.socket() for _ in range(3)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        address = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with (
            RawServer(answering(201, CREATED)) as server,
            server.client(base_url=address, request_timeout=0.3) as client,
        ):
            with pytest.raises(NotSent):
                await invoices.create(client, BODY, before_first_byte=not_called)
        for sock in waiting:
            sock.close()


async def resets(received: Received, connection: Connection) -> None:
    connection.reset()


async def cuts_off(received: Received, connection: Connection) -> None:
    await connection.answer(201, CREATED, claimed_length=5000)
    connection.close()


async def cuts_off_busy(received: Received, connection: Connection) -> None:
    await connection.answer(503, raw=b"busy", claimed_length=5000)
    connection.close()


async def never_answers(received: Received, connection: Connection) -> None:
    await asyncio.Event().wait()


async def stalls_in_the_body(received: Received, connection: Connection) -> None:
    await connection.answer(201, CREATED, claimed_length=5000)
    await asyncio.Event().wait()


async def talks_nonsense(received: Received, connection: Connection) -> None:
    connection.writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    await connection.writer.drain()
    connection.close()


@pytest.mark.parametrize(
    "script", [closes, resets, cuts_off, cuts_off_busy, never_answers, stalls_in_the_body, talks_nonsense]
)
@in_loop
async def test_no_complete_answer_after_the_body_left_is_unknown(script: Script) -> None:
    """Fusion may have committed before the line broke: taking this for a failure posts twice."""
    assert isinstance(await failure_of_create(script, request_timeout=0.5), OutcomeUnknown)


@in_loop
async def test_expired_token_is_renewed_and_the_invoice_sent_again() -> None:
    """401 is a refusal before acting. The lease is checked again, since the renewal took time."""
    calls: list[int] = []

    async def script(received: Received, connection: Connection) -> None:
        if received.headers["authorization"] == "Bearer token-1":
            await connection.answer(401, raw=b"")
        else:
            await connection.answer(201, CREATED)

    async def tokens(received: Received, connection: Connection) -> None:
        await connection.answer(200, {"access_token": f"token-{len(server.token_requests)}", "expires_in": 3600})

    async with RawServer(script, token_script=tokens) as server, server.client() as client:
        record = await invoices.create(client, BODY, before_first_byte=lambda: calls.append(len(server.received)))
    assert record.number == "NW-1"
    assert calls == [0, 1]
    assert len(server.received) == 2


@in_loop
async def test_401_with_a_fresh_token_is_not_authorised() -> None:
    """A valid token for a user whom Fusion does not know also ends in 401; asking on would lock the account."""
    async with RawServer(answering(401, raw=b"")) as server, server.client() as client:
        with pytest.raises(NotAuthorised):
            await invoices.create(client, BODY, before_first_byte=lambda: None)
    assert (len(server.received), len(server.token_requests)) == (2, 2)


@in_loop
async def test_connection_that_the_server_just_closed_is_unknown_and_posted_once() -> None:
    """The transport may not repeat a POST by itself on a stale connection, as it does for a GET."""

    async def script(received: Received, connection: Connection) -> None:
        if len(server.received) == 1:
            await connection.answer(201, CREATED)
        else:
            connection.reset()

    async with RawServer(script) as server, server.client() as client:
        await invoices.create(client, BODY, before_first_byte=lambda: None)
        with pytest.raises(OutcomeUnknown):
            await invoices.create(client, BODY, before_first_byte=lambda: None)
    assert len(server.received) == 2


@in_loop
async def test_body_that_is_asked_for_twice_stays_with_us() -> None:
    """Whatever a transport decides about retries, a second copy must not leave."""
    left: list[bytes] = []

    class Wire(AbstractStreamWriter):
        async def write(self, chunk: bytes | bytearray | memoryview) -> None:
            left.append(bytes(chunk))

        async def write_eof(self, chunk: bytes = b"") -> None: ...
        async def drain(self) -> None: ...
        def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None: ...
        def enable_chunking(self) -> None: ...
        async def write_headers(self, status_line: str, headers: Any) -> None: ...

    body = Body(BODY, None)
    await body.write(Wire())
    with pytest.raises(RuntimeError, match="second time"):
        await body.write(Wire())
    assert left == [BODY]


@in_loop
async def test_reset_while_a_large_body_is_leaving_is_unknown() -> None:
    """Part of the body left; what the server makes of that part is its secret."""

    async def early_reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        Connection(writer).reset()

    listener = await asyncio.start_server(early_reset, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with RawServer(closes) as server, server.client(base_url=address) as client:
        with pytest.raises(OutcomeUnknown, match=r"reset|Reset|disconnect|closing"):
            await invoices.create(client, BODY + b" " * 8_000_000, before_first_byte=lambda: None)
    listener.close()


@in_loop
async def test_waiting_for_a_slot_is_not_charged_to_the_deadline() -> None:
    """The deadline bounds how long Fusion may hold the request; a queue on our side is no reason to fail."""
    gate = asyncio.Event()

    async def script(received: Received, connection: Connection) -> None:
        if len(server.received) == 1:
            gate.set()
            await asyncio.sleep(0.4)
        await connection.answer(201, CREATED)

    async with RawServer(script) as server, server.client(max_in_flight=1, request_timeout=0.6) as client:
        posts = [invoices.create(client, BODY, before_first_byte=lambda: None) for _ in range(3)]
        records = await asyncio.gather(*posts)
    assert gate.is_set()
    assert len(records) == 3
    assert client.limiter.peak == 1
