"""The HTTP side: who may ask, what strikes the request on its way, and how the answer leaves.

A plain ASGI application. Requests are answered one at a time under the world's lock; only latency, gates and lost
answers wait, and they never block the others.
"""

import asyncio
import contextlib
import datetime as dt
import json
import logging
import os
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, unquote_plus

from mlc_dagster.sandbox.books import Books, RequestEntry
from mlc_dagster.sandbox.faults import AFTER, TOKEN_PATH, Fault, Faults
from mlc_dagster.sandbox.fusion.answer import Answer
from mlc_dagster.sandbox.fusion.errors import Detail, Refusal
from mlc_dagster.sandbox.fusion.payload import read_object
from mlc_dagster.sandbox.fusion.reading import read
from mlc_dagster.sandbox.fusion.request import Request
from mlc_dagster.sandbox.fusion.tokens import Tokens
from mlc_dagster.sandbox.fusion.world import World
from mlc_dagster.sandbox.fusion.writing import write

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

RESOURCES = "/fscmRestApi/resources/"
VERSIONS = ("11.13.18.05", "latest")
_KEY = re.compile(r"/(?:\d{4,}|0002[0-9A-F]{12,}|[^/]*(?=/child/))(?=/|$)")
_INVOICE_NUMBER = re.compile(rb'"InvoiceNumber"\s*:\s*("(?:[^"\\]|\\.)*")')
_PAUSE = 0.02
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Target:
    method: str
    path: str | None
    """Below the version segment; None for an address that is not Fusion's."""
    root: str
    number: str = ""
    """Of an invoice that is sent, once all of it has arrived."""


class Cut(Exception):
    """The connection ends without an answer."""


class FusionApp:
    def __init__(self, world: World, books: Books, faults: Faults, tokens: Tokens, admin: Any) -> None:
        self.world = world
        self.books = books
        self.faults = faults
        self.tokens = tokens
        self.admin = admin
        self.stopping = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        dated = self._dated(send)
        if scope["path"].startswith("/sandbox"):
            await self.admin(scope, receive, dated)
        else:
            await self._answer(scope, receive, dated)

    def _dated(self, send: Send) -> Send:
        """Every answer says what time it is in this Fusion, which is not the machine's when its clock was moved."""

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                moment = self.world.clock().astimezone(dt.UTC)
                date = (b"date", format_datetime(moment, usegmt=True).encode("latin-1"))
                message = {**message, "headers": [*message["headers"], date]}
            await send(message)

        return dated

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, begun = dt.datetime.now(dt.UTC), time.perf_counter()
        in_flight = self.books.enter()
        path, root = _place(scope)
        method = scope["method"]
        strikes = self.faults.matching(method, path) if path is not None else []
        status = 0
        target = Target(method, path, root)
        try:
            answer = await self._through_faults(scope, receive, target, strikes, in_flight)
            status = await self._send(answer, strikes, receive, send)
        except Cut:
            status = 0
        finally:
            entry = RequestEntry(
                started,
                method,
                scope["path"],
                scope["query_string"].decode("latin-1"),
                route(path) if path is not None else "(elsewhere)",
                status,
                time.perf_counter() - begun,
                in_flight,
                tuple(strike.kind for strike in strikes),
                target.number,
            )
            self.books.leave(entry)

    async def _through_faults(
        self, scope: Scope, receive: Receive, target: "Target", strikes: list[Fault], in_flight: int
    ) -> Answer:
        method, path = target.method, target.path
        for strike in strikes:
            if strike.kind == "concurrency_cap" and in_flight > strike.cap:
                strike.fired += 1
                return self._failure(strike)
        delay = sum(self.faults.delay(strike) for strike in strikes if strike.kind == "latency")
        if delay:
            await asyncio.sleep(delay)
        body = await _body(receive)
        target.number = _number(target, body)
        if path is None:
            return Answer(404, b"Not Found", "text/plain")
        for gate in self.faults.gates_for(method, path, "before"):
            if not await gate.hold():
                await _cut(receive, reset=True)
        for strike in strikes:
            if strike.kind == "reset":
                await _cut(receive, reset=True)
            elif strike.kind == "hang":
                await self._hang(strike, receive)
            elif strike.kind == "commit_late":
                await self._look_ups(strike, body)
                self._handled(scope, path, target.root, body=body, strikes=set())
                await _cut(receive, reset=True)
            elif strike.kind in {"status", "token_down"}:
                return self._failure(strike)
        answer = self._handled(scope, path, target.root, body=body, strikes={strike.kind for strike in strikes})
        for gate in self.faults.gates_for(method, path, "after"):
            if not await gate.hold():
                await _cut(receive, reset=True)
        return answer

    def _handled(self, scope: Scope, path: str, root: str, *, body: bytes, strikes: set[str]) -> Answer:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method = scope["method"]
        if path == TOKEN_PATH:
            if method != "POST":
                return Answer(405, b"", headers={"Allow": "POST"})
            return self.tokens.answer(headers, body)
        structured = False
        try:
            user = self.tokens.user_of(headers.get("authorization", ""))
            if "revoked" in strikes:
                raise Refusal(403)
            query = scope["query_string"].decode("latin-1")
            request = Request(method, path, query, headers, body, root, user)
            structured = request.structured_errors
            hidden = "zero_rows" in strikes or ("wrong_dialect" in strikes and "q" in parse_qs(query))
            with self.world.lock:
                if method == "GET":
                    return read(self.world, request, quirks=self.faults.quirks, zero_rows=hidden)
                if method in {"POST", "PATCH"}:
                    return write(self.world, request, zero_rows=hidden)
            raise Refusal(405, headers={"Allow": "GET, POST, PATCH"})
        except Refusal as refusal:
            media, text = refusal.body(structured=structured)
            return Answer(refusal.status, text, media, dict(refusal.headers))
        except Exception:  # noqa: BLE001 - a fault of the sandbox itself must not pass for one of Fusion's
            _log.exception("the sandbox failed on %s %s", method, path)
            detail = Refusal(500, Detail("The sandbox itself failed; see its log."))
            return Answer(500, detail.body(structured=False)[1], "text/plain")

    async def _send(self, answer: Answer, strikes: list[Fault], receive: Receive, send: Send) -> int:
        """Sends the answer, or what a fault leaves of it; gives the status that left."""
        broken: Fault | None = None
        for strike in strikes:
            if strike.kind not in AFTER:
                continue
            if strike.kind == "commit_then_reset":
                await _cut(receive, reset=True)
            elif strike.kind == "commit_then_hang":
                await self._hang(strike, receive)
            elif strike.kind == "commit_then_status":
                answer = self._failure(strike)
            elif strike.kind == "truncated":
                answer = replace(answer, body=answer.body[: len(answer.body) // 2])
            else:
                broken = strike
        headers = {"content-type": answer.content_type, "content-length": str(len(answer.body))} | answer.headers
        if answer.status == 304:
            del headers["content-length"]
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
        if broken is not None:
            await self._send_broken(answer.body, broken, receive, send)
        else:
            await send({"type": "http.response.body", "body": answer.body})
        return answer.status

    async def _send_broken(self, body: bytes, strike: Fault, receive: Receive, send: Send) -> None:
        """A body that ends too early, stops half-way, or comes in eight parts with a pause before each."""
        part = -(-len(body) // 8) or 1
        if strike.kind == "trickle":
            for start in range(0, len(body), part):
                await asyncio.sleep(strike.seconds)
                await send({"type": "http.response.body", "body": body[start : start + part], "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        if strike.kind == "stuck":
            await self._hang(strike, receive)
        await _cut(receive, reset=False)

    def _failure(self, strike: Fault) -> Answer:
        headers = {} if strike.retry_after is None else {"Retry-After": str(strike.retry_after)}
        if strike.retry_at is not None:
            until = self.world.clock().astimezone(dt.UTC) + dt.timedelta(seconds=strike.retry_at)
            headers["Retry-After"] = format_datetime(until, usegmt=True)
        return Answer(strike.status, strike.body.encode(), strike.content_type, headers)

    async def _look_ups(self, strike: Fault, body: bytes) -> None:
        """Waits until so many look-ups by the number in ``body`` were answered, or the server stops."""
        since, number = dt.datetime.now(dt.UTC), str(read_object(body).get("InvoiceNumber"))
        while not self.stopping.is_set():
            asked = [entry for entry in self.books.requests(method="GET", route="invoices") if entry.started >= since]
            if sum(f"'{number}'" in unquote_plus(entry.query) for entry in asked) >= strike.reads:
                return
            await asyncio.sleep(_PAUSE)

    async def _hang(self, strike: Fault, receive: Receive) -> None:
        """Says nothing until the client gives up, ``seconds`` pass (0: for ever) or the server stops."""
        waits = {asyncio.ensure_future(_disconnected(receive)), asyncio.ensure_future(self.stopping.wait())}
        _, pending = await asyncio.wait(waits, timeout=strike.seconds or None, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()
        await _cut(receive, reset=True)


def route(path: str) -> str:
    """The path with its keys replaced, for counting: ``invoices/{id}/child/attachments``."""
    return _KEY.sub("/{id}", path) if "/" in path and path != TOKEN_PATH else path


def _place(scope: Scope) -> tuple[str | None, str]:
    """Path below the version segment (None outside of it) and the absolute address of that segment."""
    path: str = scope["path"]
    if path == f"/{TOKEN_PATH}":
        return TOKEN_PATH, ""
    version, _, rest = path.removeprefix(RESOURCES).partition("/")
    if not path.startswith(RESOURCES) or version not in VERSIONS:
        return None, ""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "localhost")
    # Fusion's links name port 443 in full, whatever address the client used.
    return rest.strip("/"), f"https://{host.rpartition(':')[0] or host}:443{RESOURCES}{version}"


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            # The client went away before its request was complete: Fusion never saw it.
            raise Cut
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _number(target: Target, body: bytes) -> str:
    """The InvoiceNumber in the body of a POST of an invoice; empty when it is another request, or names none."""
    found = _INVOICE_NUMBER.search(body) if (target.method, target.path) == ("POST", "invoices") else None
    with contextlib.suppress(ValueError):
        return str(json.loads(found[1])) if found else ""
    return ""


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cut(receive: Receive, *, reset: bool) -> None:
    """Ends the connection: a TCP reset, or a plain close in the middle of the body. Always raises ``Cut``."""
    # ASGI has no word for this; uvicorn's receive is a method of the object that holds the transport.
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is not None:
        if reset:
            _linger_zero(transport)
            transport.abort()
        else:
            transport.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_disconnected(receive), 5.0)
    raise Cut


def _linger_zero(transport: Any) -> None:
    """Makes closing the socket send a reset instead of an orderly end."""
    plain = transport.get_extra_info("socket")
    if plain is None or transport.is_closing():
        return
    twin = socket.socket(fileno=os.dup(plain.fileno()))
    try:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        twin.close()
