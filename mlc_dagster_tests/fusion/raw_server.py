"""A Fusion of a few lines that can misbehave at the level of bytes: cut off, reset, lie, wait.

It runs in the test's own event loop, keeps what it received, and answers by a script that the test hands over.
"""

import asyncio
import functools
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple, ParamSpec, Self
from urllib.parse import parse_qsl, urlsplit

import pytest

from mlc_dagster.fusion import invoices
from mlc_dagster.fusion.client import FusionClient, Seams
from mlc_dagster.fusion.errors import FusionError
from mlc_dagster.fusion.login import FusionCredentials
from mlc_dagster.fusion.transport import Exchange
from mlc_dagster.settings import FusionSettings

SECRET = "s3cret-of-the-client"
CREDENTIALS = FusionCredentials(client_secret=SECRET)
ROOT = "/fscmRestApi/resources/11.13.18.05/"

BODY = b'{"InvoiceNumber":"NW-1","InvoiceAmount":1180.50}'
CREATED = {"InvoiceId": 300000912345671, "InvoiceNumber": "NW-1", "InvoiceAmount": 1180.5, "CanceledFlag": None}

Parameters = ParamSpec("Parameters")


class Received(NamedTuple):
    """A request as it arrived; ``path`` is below the version root, ``params`` are decoded."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: bytes
    target: str


class Connection:
    """The server's end of one connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer

    async def answer(
        self,
        status: int = 200,
        document: object = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        claimed_length: int | None = None,
    ) -> None:
        body = raw if raw is not None else json.dumps(document).encode()
        fields = {"Content-Type": "application/json", "Content-Length": str(claimed_length or len(body))}
        fields.update(headers or {})
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body)
        await self.writer.drain()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Ends the connection with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Received, Connection], Awaitable[None]]


class RawServer:
    """Answers every request by ``script``, and ``/token`` by itself unless ``token_script`` is given."""

    def __init__(
        self, script: Script, *, token_script: Script | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._script = script
        self._tls = tls
        self._token_script = token_script or grant_token
        self.received: list[Received] = []
        self.token_requests: list[Received] = []
        self.bytes_in = 0
        """Bytes that arrived outside the token endpoint, complete requests or not."""
        self.connections = 0
        self.url = ""
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"https://localhost:{port}" if self._tls else f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for writer in self._open:
            writer.close()
        await self._server.wait_closed()

    def settings(self, **changes: Any) -> FusionSettings:
        given = {
            "base_url": self.url,
            "token_url": f"{self.url}/token",
            "client_id": "mlc-client",
            "client_secret": "env:FUSION_SECRET",
            "scope": "urn:opc:resource:fa:instanceid=1urn:opc:resource:consumer::all",
            "charts": {},
            "request_timeout": 5,
        }
        return FusionSettings.model_validate({**given, **changes})

    def client(
        self,
        *,
        report: Callable[[Exchange], None] | None = None,
        seams: Seams | None = None,
        credentials: FusionCredentials | None = None,
        **changes: Any,
    ) -> FusionClient:
        settings = self.settings(**changes)
        return FusionClient(settings, credentials or CREDENTIALS, report=report, seams=seams or Seams(sleep=no_wait))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        connection = Connection(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"POST /token"):
                    self.bytes_in += len(head)
                request_line, *lines = head.decode().strip().split("\r\n")
                method, target, _ = request_line.split(" ")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                parts = urlsplit(target)
                path = parts.path.removeprefix(ROOT)
                received = Received(method, path, dict(parse_qsl(parts.query)), headers, body, target)
                if parts.path == "/token":
                    self.token_requests.append(received)
                    await self._token_script(received, connection)
                else:
                    self.received.append(received)
                    await self._script(received, connection)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()


async def grant_token(received: Received, connection: Connection) -> None:
    await connection.answer(200, {"access_token": "token-1", "token_type": "Bearer", "expires_in": 3600})


async def no_wait(seconds: float) -> None:
    """A sleep that is over at once."""


def collection(rows: list[Any], received: Received, *, cap: int | None = None, **lies: Any) -> dict[str, Any]:
    """The page of ``rows`` that the request asks for, as Fusion would send it; ``lies`` overwrite fields."""
    offset, limit = int(received.params.get("offset", 0)), int(received.params.get("limit", 25))
    limit = min(limit, cap or limit)
    page = rows[offset : offset + limit]
    more = offset + len(page) < len(rows)
    return {"items": page, "count": len(page), "hasMore": more, "limit": limit, "offset": offset, **lies}


def in_loop(
    test: Callable[Parameters, Coroutine[Any, Any, None]],
) -> Callable[Parameters, None]:
    """Runs an async test in a loop of its own."""

    @functools.wraps(test)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def answering(status: int, document: object = None, **how: Any) -> Script:
    """A script that gives every request the same answer."""

    async def script(received: Received, connection: Connection) -> None:
        await connection.answer(status, document, **how)

    return script


async def closes(received: Received, connection: Connection) -> None:
    """A script that hangs up without an answer."""
    connection.close()


async def failure_of_create(script: Script, **settings: Any) -> FusionError:
    """What creating an invoice on such a server ends in."""
    async with RawServer(script) as server, server.client(**settings) as client:
        with pytest.raises(FusionError) as caught:
            await invoices.create(client, BODY, before_first_byte=lambda: None)
    return caught.value


def not_called() -> None:
    """A before_first_byte that must not be reached."""
    raise AssertionError
