"""A Fusion that costs next to nothing: token endpoint and journalBatches over a raw asyncio protocol.

A fixed delay before each answer stands for the distance. Run it with ``python -m bench.mock_fusion --lines N``; it
prints its port. ``GET /bench`` tells its counters and resets them. The answers themselves are in ``journal_site``.
"""

import argparse
import asyncio
import datetime as dt
import json
import re
import sys
from email.utils import format_datetime
from urllib.parse import unquote

from bench.journal_books import Books
from bench.journal_conditions import NotServed
from bench.journal_site import Site


class Counters:
    """Requests seen since the last look, and how many were under way at once."""

    def __init__(self) -> None:
        self.requests = 0
        self.in_flight = 0
        self.peak = 0
        self.bytes = 0
        self.refused: list[str] = []

    def began(self) -> None:
        self.requests += 1
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)

    def told(self) -> bytes:
        """The counters as JSON, and back to zero."""
        text = json.dumps(
            {"requests": self.requests, "peak": self.peak, "bytes": self.bytes, "refused": self.refused[:20]}
        )
        self.__init__()
        return text.encode()


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection: requests one after the other, without pipelining."""

    def __init__(self, site: Site, counters: Counters, latency: float) -> None:
        self._site = site
        self._counters = counters
        self._latency = latency
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].decode("latin-1")
            length = re.search(r"\r\ncontent-length:\s*(\d+)", head, re.IGNORECASE)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            self._serve(head)

    def _serve(self, head: str) -> None:
        method, target, _ = head.split("\r\n", 1)[0].split(" ")
        if target == "/bench":
            self._send(200, self._counters.told())
            return
        self._counters.began()
        status, body = self._answer(method, target)
        if self._latency:
            asyncio.get_running_loop().call_later(self._latency, self._finish, status, body)
        else:
            self._finish(status, body)

    def _answer(self, method: str, target: str) -> tuple[int, bytes]:
        if method == "POST" and target == "/oauth2/v1/token":
            return 200, b'{"access_token":"bench","token_type":"Bearer","expires_in":3600}'
        try:
            if method != "GET":
                raise NotServed(method)
            return 200, self._site.answer(target)
        except NotServed as refusal:
            self._counters.refused.append(f"{method} {unquote(target)}: {refusal}")
            return 400, json.dumps(
                {"title": "Bad Request", "status": "400", "detail": f"not served: {refusal}"}
            ).encode()

    def _finish(self, status: int, body: bytes) -> None:
        self._counters.in_flight -= 1
        self._counters.bytes += len(body)
        self._send(status, body)

    def _send(self, status: int, body: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        reason = "OK" if status == 200 else "Bad Request"
        head = (
            f"HTTP/1.1 {status} {reason}\r\nDate: {format_datetime(dt.datetime.now(dt.UTC), usegmt=True)}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._transport.writelines([head.encode(), body])


async def serve(books: Books, latency: float) -> None:
    """Serves until cancelled; prints the port when it is ready. ``latency`` in seconds, before each answer."""
    counters = Counters()
    loop = asyncio.get_running_loop()
    site = Site(books, "http://127.0.0.1")
    site.warm()
    server = await loop.create_server(lambda: Connection(site, counters, latency), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


def main() -> None:
    """Command line of the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    chosen = parser.parse_args()
    asyncio.run(serve(Books.of_lines(chosen.lines), chosen.latency))


if __name__ == "__main__":
    main()
