"""A Fusion that has been taken over, or stands behind a talkative gateway: it repeats whatever it was sent.

It passes requests on to the embedded Fusion until a reply is set for some of them. Replies quote headers and body of
the request, credentials also decoded and encoded again. It remembers the tokens and assertions that went through.
"""

import base64
import html
import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, urlsplit


class Reply(NamedTuple):
    """An answer: status, content type, body, Location."""

    status: int
    kind: str
    body: str
    location: str = ""


Answering = Callable[[str], Reply]
"""Makes an answer of what was sent."""


def as_text(status: int) -> Answering:
    return lambda sent: Reply(status, "text/plain", sent)


def as_page(status: int) -> Answering:
    return lambda sent: Reply(status, "text/html", f"<html><body><h1>Error</h1>{html.escape(sent)}</body></html>")


def as_error(status: int) -> Answering:
    """In the shape of Fusion's own errors and of OAuth's."""

    def answer(sent: str) -> Reply:
        details = [{"detail": sent, "o:errorCode": sent[:80], "o:errorPath": sent[-200:]}]
        document = {"title": sent, "error": "invalid", "error_description": sent, "o:errorDetails": details}
        return Reply(status, "application/vnd.oracle.adf.error+json", json.dumps(document))

    return answer


def as_redirect(sent: str) -> Reply:
    return Reply(302, "text/plain", sent, f"https://elsewhere.example.com/?{quote(sent)}")


def as_rows(sent: str) -> Reply:
    """A page whose rows have texts where there should be numbers and dates."""
    row = {"InvoiceId": sent, "JeBatchId": sent, "SupplierId": sent, "LastUpdateDate": sent, sent: sent}
    return Reply(200, "application/json", json.dumps({"items": [row], "hasMore": False, "count": sent}))


def as_nonsense(sent: str) -> Reply:
    return Reply(200, "application/json", '{"items": [' + sent)


@dataclass
class Echoing:
    """The server; ``rules`` are (method, part of the path as a regular expression, answer)."""

    url: str
    behind: str
    rules: list[tuple[str, str, Answering]] = field(default_factory=list[tuple[str, str, Answering]])
    tokens: list[str] = field(default_factory=list[str])
    echoed: int = 0

    @contextmanager
    def answers(self, method: str, path: str, answer: Answering) -> Iterator[None]:
        """For as long as the block runs."""
        self.rules.append((method, path, answer))
        before = self.echoed
        try:
            yield
        finally:
            self.rules.pop()
        assert self.echoed > before, f"nothing was asked of {path}"

    def reply(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.tokens += parse_qs(body.decode("utf-8", "replace")).get("assertion", [])
        for wanted, pattern, answer in self.rules:
            if wanted == method and re.search(pattern, path):
                self.echoed += 1
                made = answer(_sent(headers, body))
                extra = {"Location": made.location} if made.location else {}
                return made.status, {"Content-Type": made.kind, **extra}, made.body.encode()
        return self._passed_on(method, path, headers, body)

    def _passed_on(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.behind).netloc, timeout=30)
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if "/oauth2/" in path and answer.status == 200:
            self.tokens.append(json.loads(content)["access_token"])
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _OF_THE_CONNECTION}
        return answer.status, kept, content


_OF_THE_CONNECTION = {"transfer-encoding", "connection", "keep-alive", "content-length"}


def _sent(headers: dict[str, str], body: bytes) -> str:
    """Header, form and body as they came; what is encoded also in plain, what is plain also encoded."""
    sent = {name.lower(): value for name, value in headers.items()}
    kind, _, credential = sent.get("authorization", "").partition(" ")
    plain = base64.b64decode(credential).decode() if kind == "Basic" else credential
    text = body.decode("utf-8", "replace")
    again = base64.b64encode(f"You sent {plain}".encode()).decode()
    return f"{kind} {credential} | {plain} | {quote(plain)} | {plain!r} | {again} | {text[:4000]}"


@contextmanager
def echoing(behind: str) -> Iterator[Echoing]:
    """A server on a loopback port in front of the Fusion at ``behind``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def do_PATCH(self) -> None:
            self._serve()

        def do_DELETE(self) -> None:
            self._serve()

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, content = server.reply(self.command, self.path, dict(self.headers.items()), body)
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Not on the terminal of the tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        server = Echoing(f"http://127.0.0.1:{listening.server_port}", behind)
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
